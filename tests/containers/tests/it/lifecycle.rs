//! What a manifest says becomes of containers: options, crashes, stops, removal; and what is none of ours.

use serde_json::{Value, json};
use skerry_testkit::eventually;

use crate::docker::{container, docker, image, try_docker};
use crate::site::{Site, UNTIL_STOPPED, module, shell, shell_options};

#[test]
fn create_options_in_chunks_and_with_fields_we_do_not_know_reach_the_engine() {
    let site = Site::start();
    let mut options = shell_options(UNTIL_STOPPED);
    let more = json!({
        "Env": ["FROM_OPTIONS=yes", "BOTH=options"],
        "Labels": { "own": "x".repeat(1_000) },
        "StopTimeout": 7,
        "ThisIsNoFieldOfAnyEngine": { "a": [1, 2] },
        "HostConfig": {
            "Memory": 134_217_728, "OomScoreAdj": 17, "Ulimits": [{ "Name": "nofile", "Soft": 123, "Hard": 456 }],
            "Sysctls": { "net.ipv4.ip_unprivileged_port_start": "77" }, "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m" } },
        },
    });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let env = json!({ "FROM_MANIFEST": { "value": "yes" }, "BOTH": { "value": "manifest" } });
    let mut wanted = module("python-example", &json!({}), &env);
    let text = options.to_string();
    assert!(1_024 < text.len(), "several pieces");
    for (number, piece) in text.as_bytes().chunks(512).enumerate() {
        let key = if number == 0 { "createOptions".to_owned() } else { format!("createOptions{number:02}") };
        wanted["settings"][key] = String::from_utf8(piece.to_vec()).unwrap().into();
    }
    site.deploy(&json!({ "options": wanted }), &json!({}));
    site.running_id("options");
    let made = site.container("options").unwrap();
    let (config, host) = (&made["Config"], &made["HostConfig"]);
    assert_eq!((&config["StopTimeout"], &config["Labels"]["own"]), (&json!(7), &json!("x".repeat(1_000))));
    assert_eq!((&host["Memory"], &host["OomScoreAdj"]), (&json!(134_217_728), &json!(17)));
    assert_eq!(host["Ulimits"][0]["Hard"], 456);
    // A field that the edge has never heard of, and that the kernel shows.
    assert_eq!(host["Sysctls"]["net.ipv4.ip_unprivileged_port_start"], "77");
    assert_eq!(host["LogConfig"]["Config"]["max-size"], "1m");
    let env: Vec<&str> = config["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for entry in ["FROM_OPTIONS=yes", "FROM_MANIFEST=yes", "BOTH=options", "IOTEDGE_MODULEID=options"] {
        assert!(env.contains(&entry), "{entry} is not in {env:?}");
    }
    let reported = site.module_is("options", "running");
    let pieces = reported["settings"].as_object().unwrap();
    let pieces: String = pieces
        .iter()
        .filter(|(key, _)| key.starts_with("createOptions"))
        .filter_map(|(_, piece)| piece.as_str())
        .collect();
    assert_eq!(serde_json::from_str::<Value>(&pieces).unwrap(), options, "reported as it was wanted");
}

#[test]
fn a_module_that_ends_waits_and_is_started_again() {
    let site = Site::start();
    site.deploy(&json!({ "crashes": shell("sleep 1; exit 3") }), &json!({}));
    let waiting = site.module_is("crashes", "backoff");
    assert_eq!(waiting["exitCode"], 3, "{waiting}");
    let id = site.container("crashes").unwrap()["Id"].clone();
    let reported = site.reported_where("it was started again", |reported| {
        reported["modules"]["crashes"]["restartCount"].as_u64().is_some_and(|count| 0 < count)
    });
    assert_ne!(reported["modules"]["crashes"]["lastRestartTimeUtc"], "0001-01-01T00:00:00Z");
    assert_eq!(site.container("crashes").unwrap()["Id"], id, "started again, not made anew");
    // Mended by the next manifest, it need not wait.
    site.deploy(&json!({ "crashes": shell(UNTIL_STOPPED) }), &json!({}));
    eventually("another container runs", || {
        site.container("crashes").filter(|made| made["Id"] != id && made["State"]["Running"] == true)
    });
    site.module_is("crashes", "running");
}

#[test]
fn a_module_is_stopped_started_and_removed_as_the_manifest_says() {
    let site = Site::start();
    let (kept, mut other) = (shell(UNTIL_STOPPED), shell(UNTIL_STOPPED));
    site.deploy(&json!({ "kept": kept, "other": other }), &json!({}));
    let (kept_id, other_id) = (site.running_id("kept"), site.running_id("other"));
    other["status"] = "stopped".into();
    site.deploy(&json!({ "kept": kept, "other": other }), &json!({}));
    // Before its first start it was reported as stopped, too.
    let reported = site.reported_where("it is stopped because it was to be", |reported| {
        let other = &reported["modules"]["other"];
        other["status"] == "stopped" && other["runtimeStatus"] == "stopped"
    });
    assert_eq!(reported["modules"]["other"]["exitCode"], 0, "{reported}");
    assert_eq!(site.container("other").unwrap()["State"]["Status"], "exited");
    other["status"] = "running".into();
    site.deploy(&json!({ "kept": kept, "other": other }), &json!({}));
    site.module_is("other", "running");
    assert_eq!(site.running_id("other"), other_id);
    site.deploy(&json!({ "kept": kept }), &json!({}));
    eventually("the container is gone", || site.container("other").is_none().then_some(()));
    site.reported_where("it is not reported any more", |reported| reported["modules"].get("other").is_none());
    eventually("its identity is gone", || {
        let path = format!("/devices/{}/modules/other", site.edge.device());
        (site.hub.rest().ask("GET", &path, &[], None).status == 404).then_some(())
    });
    assert_eq!(site.running_id("kept"), kept_id, "nobody touched it");
    assert_eq!(site.container("kept").unwrap()["RestartCount"], 0);
}

#[test]
fn a_container_that_is_not_ours_is_left_alone() {
    let site = Site::start();
    let name = site.edge.container("foreign");
    let foreign = Foreign(docker(&[
        "run",
        "--detach",
        "--name",
        &name,
        "--entrypoint",
        "/bin/sleep",
        &image("python-example"),
        "3600",
    ]));
    let before = container(&foreign.0).unwrap();
    // Another one of the manifest, and one that would have its name.
    site.deploy(&json!({ "ours": shell(UNTIL_STOPPED), "foreign": shell(UNTIL_STOPPED) }), &json!({}));
    site.module_is("ours", "running");
    let refused = site.module_is("foreign", "backoff");
    assert!(refused["statusDescription"].as_str().is_some_and(|text| text.contains(&name)), "{refused}");
    site.deploy(&json!({}), &json!({}));
    eventually("the container is gone", || site.container("ours").is_none().then_some(()));
    site.reported_where("nothing runs", |reported| {
        reported["modules"].as_object().is_some_and(serde_json::Map::is_empty)
    });
    let after = container(&foreign.0).unwrap();
    assert_eq!((&after["State"], &after["Created"]), (&before["State"], &before["Created"]));
}

/// A container that somebody else made.
struct Foreign(String);

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = try_docker(&["rm", "--force", "--volumes", &self.0]);
    }
}
