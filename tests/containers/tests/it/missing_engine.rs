//! A machine without a container engine.

use serde_json::json;
use skerry_testkit::program;

use crate::site::{Site, UNTIL_STOPPED};

#[test]
fn without_an_engine_processes_run_and_the_status_says_what_is_missing() {
    let site = Site::start_with("engine = \"/nowhere/engine.sock\"");
    let env = json!({ "MessageCount": { "value": "-1" }, "MessageDelay": { "value": "00:00:00.2" } });
    let modules = json!({
        "sensor": {
            "type": "process", "version": "1", "status": "running", "restartPolicy": "always",
            "settings": { "command": program("simulated-temperature-sensor") }, "env": env,
        },
        "contained": {
            "type": "docker", "version": "1", "status": "running", "restartPolicy": "always",
            "settings": { "image": "skerry/never-pulled:1", "createOptions": json!({ "Cmd": [UNTIL_STOPPED] }).to_string() },
        },
    });
    site.deploy(&modules, &json!({ "up": "FROM /messages/* INTO $upstream" }));
    site.module_is("sensor", "running");
    let missing = site.module_is("contained", "unknown");
    let description = missing["statusDescription"].as_str().unwrap();
    assert!(
        description.contains("no container engine answers at") && description.contains("/nowhere/engine.sock"),
        "{missing}"
    );
    let reported = site.reported();
    let status = &reported["lastDesiredStatus"];
    assert_eq!(status["code"], 500, "{status}");
    assert!(status["description"].as_str().unwrap().contains("/nowhere/engine.sock"), "{status}");
    // The process module does its work; its name of the edge is an address of this machine there.
    assert_eq!(reported["modules"]["sensor"]["type"], "process");
    site.hub.events().next_where("message of the sensor", |event| event["moduleId"] == "sensor");
}
