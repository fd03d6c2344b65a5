//! Every operation of a module on azure-iot-device that a hub offers, over MQTT.

use serde_json::json;
use skerry_testkit::Hub;

use crate::actors::{Client, service};

#[test]
fn a_module_sends_reads_reports_and_is_told() {
    let hub = Hub::start();
    let mut service = service(&hub);
    hub.create_device("dev-1");
    let mut module = Client::module(&hub, hub.create_module("dev-1", "m-1").text());
    module.connect();
    module.talk.call("send", json!({ "data": "plain" }));
    module.talk.call("send", json!({ "data": "named", "output": "temperatureOutput", "properties": { "k": "v" } }));
    let named = hub.events().next_where("the second message", |event| event["body"] == "named");
    assert_eq!((&named["deviceId"], &named["moduleId"]), (&json!("dev-1"), &json!("m-1")));
    assert_eq!(named["properties"], json!({ "$.on": "temperatureOutput", "k": "v" }));
    assert_eq!(module.twin(), json!({ "desired": { "$version": 1 }, "reported": { "$version": 1 } }));
    module.talk.call("listen", json!({ "desired": true, "methods": true }));
    service.call("update_module_twin", json!({ "device_id": "dev-1", "module_id": "m-1", "desired": { "a": [1, 2] } }));
    assert_eq!(module.talk.event("desired")["patch"], json!({ "a": [1, 2], "$version": 2 }));
    module.talk.call("patch_reported", json!({ "patch": { "state": "on" } }));
    let seen = service.call("get_module_twin", json!({ "device_id": "dev-1", "module_id": "m-1" }));
    assert_eq!(seen["properties"]["reported"]["state"], "on");
    let answer =
        service.call("invoke", json!({ "name": "x", "device_id": "dev-1", "module_id": "m-1", "payload": "p" }));
    assert_eq!(answer, json!({ "status": 200, "payload": { "echo": "p" } }));
}

#[test]
fn a_device_and_its_module_are_different_clients() {
    let hub = Hub::start();
    let mut device = Client::device(&hub, hub.create_device("dev-1").text());
    let mut module = Client::module(&hub, hub.create_module("dev-1", "m-1").text());
    device.connect();
    module.connect();
    device.talk.call("patch_reported", json!({ "patch": { "who": "device" } }));
    module.talk.call("patch_reported", json!({ "patch": { "who": "module" } }));
    assert_eq!(device.twin()["reported"]["who"], "device");
    assert_eq!(module.twin()["reported"]["who"], "module");
}
