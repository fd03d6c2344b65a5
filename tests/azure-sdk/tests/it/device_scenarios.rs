//! What a device does, whether it is connected to the hub or to an edge that speaks for it. The caller connects it.

use serde_json::{Value, json};
use skerry_testkit::{Hub, eventually};

use crate::actors::{Client, service};

pub(crate) fn telemetry_is_acknowledged_with_all_its_properties(hub: &Hub, device: &mut Client) {
    device.connect();
    device.talk.call(
        "send",
        json!({
            "data": "{\"t\":21.5}", "message_id": "id 1/2", "correlation_id": "c+1", "user_id": "u&1",
            "content_type": "application/json", "content_encoding": "utf-8",
            "properties": { "a": "x=y&z", "b key": "v/1 2", "empty": "", "uml": "ä" },
        }),
    );
    device.talk.call("send", json!({ "data": "" }));
    device.talk.call("send", json!({ "data": "x".repeat(200_000) }));
    let mut events = hub.events();
    let first = events.next_where("telemetry", |event| event["deviceId"] == "dev-1");
    assert_eq!(first["moduleId"], Value::Null);
    assert_eq!(first["body"], "{\"t\":21.5}");
    let properties = json!({
        "$.mid": "id 1/2", "$.cid": "c+1", "$.uid": "u&1", "$.ct": "application/json", "$.ce": "utf-8",
        "a": "x=y&z", "b key": "v/1 2", "empty": "", "uml": "ä",
    });
    assert_eq!(first["properties"], properties);
    let mut body = || events.next_where("telemetry", |event| event["deviceId"] == "dev-1")["body"].take();
    assert_eq!(body(), "");
    assert_eq!(body().as_str().map(str::len), Some(200_000));
}

pub(crate) fn a_twin_is_read_reported_and_announced(hub: &Hub, device: &mut Client) {
    let mut service = service(hub);
    device.connect();
    assert_eq!(device.twin(), json!({ "desired": { "$version": 1 }, "reported": { "$version": 1 } }));
    device.talk.call("listen", json!({ "desired": true }));
    // The SDK reads the twin on its own when it subscribes, and hands out what it has.
    device.talk.call("patch_reported", json!({ "patch": { "fw": "1.0", "gone": 1 } }));
    device.talk.call("patch_reported", json!({ "patch": { "fw": "2.0", "gone": null } }));
    assert_eq!(device.twin()["reported"]["fw"], "2.0");
    assert_eq!(device.twin()["reported"].get("gone"), None);
    eventually("the hub has what was reported", || {
        let seen = service.call("get_twin", json!({ "device_id": "dev-1" }));
        (seen["properties"]["reported"]["fw"] == "2.0").then_some(())
    });

    service.call("update_twin", json!({ "device_id": "dev-1", "desired": { "interval": 30 } }));
    let patch = device.talk.event_where("desired", |event| event["patch"]["$version"] == 2)["patch"].take();
    assert_eq!(patch, json!({ "interval": 30, "$version": 2 }));
    service.call("update_twin", json!({ "device_id": "dev-1", "desired": { "interval": null } }));
    let patch = device.talk.event_where("desired", |event| event["patch"]["$version"] == 3)["patch"].take();
    assert_eq!(patch, json!({ "interval": null, "$version": 3 }));
    assert_eq!(device.twin()["desired"], json!({ "$version": 3 }));
}

pub(crate) fn a_bad_reported_patch_is_refused_and_changes_nothing(device: &mut Client) {
    device.connect();
    let mut deep = json!(1);
    for _ in 0..12 {
        deep = json!({ "d": deep });
    }
    let refused = device.talk.try_call("patch_reported", json!({ "patch": { "fine": 1, "deep": deep } }));
    assert!(refused.is_err(), "{refused:?}");
    let refused = device.talk.try_call("patch_reported", json!({ "patch": { "big": "x".repeat(40_000) } }));
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(device.twin()["reported"], json!({ "$version": 1 }));
}

pub(crate) fn a_method_is_answered(hub: &Hub, device: &mut Client) {
    let mut service = service(hub);
    device.talk.call("listen", json!({ "methods": true }));
    device.talk.call("answer", json!({ "name": "reboot", "status": 418, "payload": { "in": 3 } }));
    let invoke = json!({ "name": "reboot", "device_id": "dev-1", "payload": { "delay": 5 }, "connect_timeout": 30 });
    assert_eq!(service.call("invoke", invoke), json!({ "status": 418, "payload": { "in": 3 } }));
    let seen = device.talk.event("method");
    assert_eq!((&seen["name"], &seen["payload"]), (&json!("reboot"), &json!({ "delay": 5 })));
}

pub(crate) fn commands_wait_for_the_device_and_arrive_in_order(hub: &Hub, device: &mut Client) {
    send_command(
        hub,
        "one",
        &[("iothub-app-messageId", "m-1"), ("iothub-app-colour", "red/blue"), ("iothub-app-ack", "full")],
    );
    send_command(hub, "two", &[]);
    device.talk.call("listen", json!({ "messages": true }));
    let one = device.talk.event("message");
    assert_eq!(one["data"], "\"one\"");
    assert_eq!((&one["message_id"], &one["ack"]), (&json!("m-1"), &json!("full")));
    assert_eq!(one["properties"]["colour"], "red/blue");
    assert_eq!(device.talk.event("message")["data"], "\"two\"");
    send_command(hub, "three", &[]);
    assert_eq!(device.talk.event("message")["data"], "\"three\"");
}

/// The body is JSON, so a text arrives with its quotes.
#[track_caller]
pub(crate) fn send_command(hub: &Hub, text: &str, headers: &[(&str, &str)]) {
    let answer = hub.rest().ask("POST", "/devices/dev-1/messages/deviceBound", headers, Some(&json!(text)));
    assert_eq!(answer.status, 204, "{}", answer.text);
}
