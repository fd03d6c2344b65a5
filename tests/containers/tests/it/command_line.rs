//! `skerry edge` on the machine, and the agent's direct methods, about modules in containers.

use std::process::Command;

use serde_json::{Value, json};
use skerry_testkit::{eventually, program};

use crate::site::{Site, UNTIL_STOPPED, shell};

#[track_caller]
fn edge_command(site: &Site, arguments: &[&str]) -> String {
    let mut command = Command::new(program("skerry"));
    command.arg("edge").args(arguments).arg("--edge-dir").arg(site.edge.data_folder());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "skerry edge {arguments:?}: {said:?}");
    said.into_iter().next().unwrap_or_default()
}

#[test]
fn modules_are_listed_their_output_is_read_and_they_are_restarted() {
    let site = Site::start();
    site.deploy(&json!({ "talks": shell(&format!("echo one; echo two >&2; {UNTIL_STOPPED}")) }), &json!({}));
    let id = site.running_id("talks");
    let started = site.container("talks").unwrap()["State"]["StartedAt"].clone();
    let listed = eventually("it is listed as running", || {
        let listed = edge_command(&site, &["list"]);
        listed.lines().any(|line| line.contains("talks") && line.contains("running")).then_some(listed)
    });
    assert!(listed.contains("edgeHub"), "{listed}");
    eventually("its output is there", || {
        let logs = edge_command(&site, &["logs", "talks"]);
        (logs.contains("one") && logs.contains("two")).then_some(())
    });
    let last = edge_command(&site, &["logs", "talks", "--tail", "1"]);
    assert_eq!(last.lines().count(), 1, "{last}");

    edge_command(&site, &["restart", "talks"]);
    assert_eq!(site.running_id("talks"), id, "restarted, not made anew");
    let restarted = site.container("talks").unwrap()["State"]["StartedAt"].clone();
    assert_ne!(restarted, started);

    let call = json!({ "methodName": "RestartModule", "payload": { "schemaVersion": "1.0", "id": "talks" }, "responseTimeoutInSeconds": 60 });
    let path = format!("/twins/{}/modules/$edgeAgent/methods", site.edge.device());
    let answer = site.hub.rest().call("POST", &path, Some(&call));
    assert_eq!((&answer["status"], &answer["payload"]), (&json!(200), &Value::Null), "{answer}");
    assert_eq!(site.running_id("talks"), id);
    assert_ne!(site.container("talks").unwrap()["State"]["StartedAt"], restarted);
    let module = site.module_is("talks", "running");
    assert_eq!(module["restartCount"], 0, "a restart on request is no failure: {module}");
}
