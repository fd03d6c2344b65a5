//! Manifests that no edge takes: refused by the command line with their place, and by the edge when forced upon it.

use serde_json::{Value, json};
use skerry_testkit::eventually;

use crate::peer::Heard;
use crate::site::{At, Site, text};

/// A whole manifest with these routes; the routes begin in line 3, one a line.
fn manifest(routes: &[&str]) -> String {
    let routes: Vec<_> = routes.iter().enumerate().map(|(n, route)| format!("\"r{n}\": {}", json!(route))).collect();
    format!(
        r#"{{"modulesContent": {{"$edgeHub": {{"properties.desired": {{"schemaVersion": "1.1",
"storeAndForwardConfiguration": {{"timeToLiveSecs": 7200}}, "routes": {{
{}
}}}}}}, "$edgeAgent": {{"properties.desired": {{"schemaVersion": "1.1",
"runtime": {{"type": "docker", "settings": {{}}}},
"systemModules": {{"edgeAgent": {{"type": "docker", "settings": {{"image": "a"}}}},
"edgeHub": {{"type": "docker", "status": "running", "restartPolicy": "always", "settings": {{"image": "b"}}}}}},
"modules": {{}}}}}}}}}}"#,
        routes.join(",\n")
    )
}

const GOOD: &str = "FROM /messages/* INTO $upstream";
const UNKNOWN_SINK: &str = "FROM /messages/* INTO $downstream";
const CONDITION_BEHIND: &str = "FROM /messages/* INTO $upstream WHERE temperature > 30";

#[test]
fn a_manifest_with_a_bad_route_is_refused_with_line_and_reason() {
    let mut site = Site::start(At::Edge);
    let before = eventually("the edge reports its manifest", || in_force(&site));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifest.json");
    for (routes, line, reason) in [
        (vec![GOOD, UNKNOWN_SINK], "line 4", "$downstream"),
        (vec![GOOD, GOOD, CONDITION_BEHIND], "line 5", "a condition must stand before INTO"),
        (vec!["FROM /messages/modules/a/outputs/* WHERE INTO $upstream"], "line 3", "r0"),
    ] {
        std::fs::write(&file, manifest(&routes)).unwrap();
        for command in ["check", "apply"] {
            let mut arguments = vec!["deploy", command, "--manifest", text(&file)];
            if command == "apply" {
                arguments.insert(2, "edge-1");
            }
            let output = site.try_cli(&arguments);
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command} {routes:?}: {told}");
            assert!(told.contains(line) && told.contains(reason), "{command} {routes:?}: {told}");
        }
    }
    std::fs::write(&file, &manifest(&[GOOD])[1..]).unwrap();
    let output = site.try_cli(&["deploy", "check", "--manifest", text(&file)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 1"));
    assert_eq!(in_force(&site), Some(before), "nothing has reached the edge");
    assert_eq!(site.log("the configuration is refused"), Vec::<String>::new());
    // And what is good is taken.
    std::fs::write(&file, manifest(&[GOOD])).unwrap();
    site.cli(&["deploy", "apply", "edge-1", "--manifest", text(&file)]);
}

/// The versions that the edge reports to be in force without a fault: the agent's and the hub's.
fn in_force(site: &Site) -> Option<(Value, Value)> {
    let version = |module: &str| {
        let reported = reported(site, module);
        (reported["lastDesiredStatus"]["code"] == 200).then(|| reported["lastDesiredVersion"].clone())
    };
    Some((version("%24edgeAgent")?, version("%24edgeHub")?))
}

fn reported(site: &Site, module: &str) -> Value {
    site.hub.rest().call("GET", &format!("/twins/edge-1/modules/{module}"), None)["properties"]["reported"].take()
}

#[test]
fn a_bad_route_that_is_forced_upon_the_edge_is_reported_and_the_routes_before_stay() {
    for (route, reason) in [(UNKNOWN_SINK, "$downstream"), (CONDITION_BEHIND, "a condition must stand before INTO")] {
        let mut site = Site::start(At::Edge);
        let login = site.device("dev-1");
        let mut peer = site.server().login(&login);
        eventually("the edge reports its manifest", || in_force(&site));
        let content: Value = serde_json::from_str(&manifest(&[GOOD, route])).unwrap();
        site.hub.rest().call("POST", "/devices/edge-1/applyConfigurationContent", Some(&content));
        let refused = eventually("the edge refuses", || {
            let reported = reported(&site, "%24edgeHub");
            (reported["lastDesiredStatus"]["code"] == 400).then(|| reported["lastDesiredStatus"].clone())
        });
        let description = refused["description"].as_str().unwrap();
        assert!(description.contains("r1") && description.contains(reason), "{description}");
        let lines = site.logged("the configuration is refused", "");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("r1"), "{}", lines[0]);
        peer.publish(1, &format!("{}/messages/events/", login.topics()), b"routed as before");
        assert_eq!(peer.hear(), Heard::PubAck(1));
        site.hub.events().next_where("message", |event| event["body"] == "routed as before");
    }
}

#[test]
fn a_manifest_that_the_agent_cannot_read_is_reported_and_the_one_before_stays() {
    let mut site = Site::start(At::Edge);
    eventually("the edge reports its manifest", || in_force(&site));
    let mut content: Value = serde_json::from_str(&manifest(&[GOOD])).unwrap();
    let agent = &mut content["modulesContent"]["$edgeAgent"]["properties.desired"];
    agent["modules"] = json!({ "m": { "type": "process", "status": "running", "restartPolicy": "sometimes",
        "settings": { "command": "not/absolute" } } });
    site.hub.rest().call("POST", "/devices/edge-1/applyConfigurationContent", Some(&content));
    let status = eventually("the agent refuses", || {
        let reported = reported(&site, "%24edgeAgent");
        let status = reported["lastDesiredStatus"].clone();
        (status["code"] != 200 && status["description"] != "").then_some(status)
    });
    assert_eq!(status["code"], 400, "{status}");
    // Before the first deployment there was nothing to take, which is said in such a line too.
    let lines = site.logged("desired properties are refused, the manifest before stays", "modules.m.");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("modules.m.restartPolicy: `sometimes`"), "{}", lines[0]);
    let folder = site.edge().data_folder();
    let shown = site.cli_json(&["edge", "status", "--json", "--edge-dir", text(&folder)]);
    assert_eq!(shown["deployment"]["code"], 400, "{shown}");
}
