//! Modules on the unmodified azure-iot-device in containers, which create themselves from their environment.

use std::net::SocketAddr;

use serde_json::{Value, json};
use skerry_testkit::{Conversation, Invitation, repository};

use crate::docker::reachable_from_containers;
use crate::site::{EDGE_NAME, Site, module};

/// The scripts that a test steers a device or module with.
fn scripts() -> String {
    repository().join("tests/azure-sdk/python").display().to_string()
}

/// An address where a script in a container reaches this test.
pub(crate) fn invitation() -> Invitation {
    Invitation::on(SocketAddr::new(reachable_from_containers(), 0))
}

/// A module in a container that waits for what a test says.
#[track_caller]
pub(crate) fn steered(invitation: &Invitation) -> Value {
    let options = json!({
        "Entrypoint": ["python3", "-u", "/scripts/client.py"],
        "HostConfig": { "Binds": [format!("{}:/scripts:ro", scripts())] },
    });
    module("python-example", &options, &json!({ "TALK_TO": { "value": invitation.talk_to() } }))
}

/// Connects a module that came.
#[track_caller]
pub(crate) fn connected(invitation: &Invitation, name: &str, options: &Value) -> Conversation {
    let mut talk = invitation.accept(name);
    talk.call("create", json!({ "how": "edge_environment", "kind": "module", "options": options }));
    talk.call("connect", json!({}));
    talk
}

#[test]
fn two_modules_exchange_messages_and_methods_and_a_device_beside_them_does_too() {
    let site = Site::start();
    let (one, two) = (invitation(), invitation());
    let routes = json!({
        "there": "FROM /messages/modules/one/outputs/out INTO BrokeredEndpoint(\"/modules/two/inputs/in\")",
        "back": "FROM /messages/modules/two/outputs/out INTO BrokeredEndpoint(\"/modules/one/inputs/in\")",
        "leaf": "FROM /messages/* WHERE NOT IS_DEFINED($connectionModuleId) INTO BrokeredEndpoint(\"/modules/two/inputs/leaf\")",
        "up": "FROM /messages/* INTO $upstream",
    });
    site.deploy(&json!({ "one": steered(&one), "two": steered(&two) }), &routes);
    let mut one = connected(&one, "one", &json!({}));
    let mut two = connected(&two, "two", &json!({}));
    let environment = one.call("environment", json!({}));
    assert_eq!(environment["IOTEDGE_WORKLOADURI"], "unix:///var/run/iotedge/workload.sock");
    assert_eq!(environment["IOTEDGE_GATEWAYHOSTNAME"], EDGE_NAME);

    for talk in [&mut one, &mut two] {
        talk.call("listen", json!({ "messages": true, "methods": true, "desired": true }));
    }
    for number in 0..10 {
        one.call(
            "send",
            json!({ "data": format!("there-{number}"), "output": "out", "properties": { "n": number.to_string() } }),
        );
        let there = two.event("message");
        assert_eq!((&there["data"], &there["input"]), (&json!(format!("there-{number}")), &json!("in")));
        assert_eq!(there["properties"]["n"], number.to_string());
        two.call("send", json!({ "data": format!("back-{number}"), "output": "out" }));
        assert_eq!(one.event("message")["data"], format!("back-{number}"));
    }
    let mut events = site.hub.events();
    events.next_where("message of one", |event| event["body"] == "there-9" && event["moduleId"] == "one");

    one.call("send", json!({ "data": "{\"plain\":1}", "message_id": "m-1", "content_type": "application/json", "content_encoding": "utf-8",
        "properties": { "key /1": "value & more" } }));
    let plain = events.next_where("message without an output", |event| event["body"] == "{\"plain\":1}");
    assert_eq!(
        (&plain["properties"]["key /1"], &plain["properties"]["$.mid"]),
        (&json!("value & more"), &json!("m-1")),
        "{plain}"
    );

    let params = json!({ "methodName": "greet", "payload": { "a": 1 }, "responseTimeoutInSeconds": 20, "connectTimeoutInSeconds": 20 });
    let device = site.edge.device().to_owned();
    let answer = one.call("invoke_method", json!({ "params": params, "device_id": device, "module_id": "two" }));
    assert_eq!(answer, json!({ "status": 200, "payload": { "echo": { "a": 1 } } }));
    assert_eq!(two.event("method")["name"], "greet");
    let call =
        json!({ "methodName": "fromHub", "payload": 7, "responseTimeoutInSeconds": 20, "connectTimeoutInSeconds": 20 });
    let answer = site.hub.rest().call("POST", &format!("/twins/{device}/modules/one/methods"), Some(&call));
    assert_eq!(answer["payload"], json!({ "echo": 7 }));
    site.set_desired("two", &json!({ "rate": 5 }));
    two.event_where("desired", |event| event["patch"]["rate"] == 5);
    two.call("patch_reported", json!({ "patch": { "rate": 5 } }));
    let refused = two.try_call("patch_reported", json!({ "patch": { "rate": 6, "big": "x".repeat(40_000) } }));
    assert!(refused.is_err(), "{refused:?}");
    let twin = two.call("get_twin", json!({}));
    assert_eq!((&twin["desired"]["rate"], &twin["reported"]["rate"]), (&json!(5), &json!(5)), "{twin}");

    let leaf_string = site.edge.create_leaf(&site.hub, "leaf");
    let mut leaf = Conversation::python("leaf", &repository().join("tests/azure-sdk/python/client.py"), &[]);
    leaf.call("create", json!({ "how": "connection_string", "kind": "device", "text": leaf_string.text(), "ca_file": site.edge.ca_file() }));
    leaf.call("listen", json!({ "methods": true }));
    leaf.call("send", json!({ "data": "from the leaf" }));
    assert_eq!(two.event("message")["data"], "from the leaf");
    events.next_where("message of the leaf", |event| event["body"] == "from the leaf" && event["deviceId"] == "leaf");
    let answer = one.call("invoke_method", json!({ "params": params, "device_id": "leaf" }));
    assert_eq!(answer["payload"], json!({ "echo": { "a": 1 } }));
}

#[test]
fn the_example_module_computes_what_it_says() {
    let site = Site::start();
    let sender = invitation();
    let routes = json!({
        "in": "FROM /messages/modules/sender/outputs/out INTO BrokeredEndpoint(\"/modules/example/inputs/input\")",
        "up": "FROM /messages/modules/example/outputs/mean INTO $upstream",
    });
    let example = module("python-example", &json!({}), &json!({}));
    site.deploy(&json!({ "sender": steered(&sender), "example": example }), &routes);
    let mut sender = connected(&sender, "sender", &json!({}));
    for percent in [10, 20, 60] {
        let body = json!({ "cpu": { "percent": percent } }).to_string();
        sender.call(
            "send",
            json!({ "data": body, "output": "out", "content_type": "application/json", "content_encoding": "utf-8" }),
        );
    }
    let mut events = site.hub.events();
    events.next_where("mean of all three", |event| {
        let body: Value = serde_json::from_str(event["body"].as_str().unwrap_or_default()).unwrap_or_default();
        event["moduleId"] == "example" && body == json!({ "path": "cpu.percent", "mean": 30.0, "count": 3 })
    });
}
