//! What a device or module does, whether it is connected to the hub or to an edge that speaks for it. The caller creates it.

use serde_json::{Value, json};
use skerry_testkit::{ConnectionString, Hub, eventually};

use crate::actors::{Client, service};

/// `output`: what a module names with its messages, which becomes a property.
pub(crate) fn telemetry_is_acknowledged_with_all_its_properties(hub: &Hub, client: &mut Client, output: Option<&str>) {
    client.connect();
    client.talk.call(
        "send",
        json!({
            "data": "{\"t\":21.5}", "message_id": "id 1/2", "correlation_id": "c+1", "user_id": "u&1", "output": output,
            "content_type": "application/json", "content_encoding": "utf-8",
            "properties": { "a": "x=y&z", "b key": "v/1 2", "empty": "", "uml": "ä" },
        }),
    );
    client.talk.call("send", json!({ "data": "", "output": output }));
    client.talk.call("send", json!({ "data": "x".repeat(200_000), "output": output }));
    let mut events = hub.events();
    let first = events.next_where("telemetry", |event| client.sent(event));
    assert_eq!(first["body"], "{\"t\":21.5}");
    let mut properties = json!({
        "$.mid": "id 1/2", "$.cid": "c+1", "$.uid": "u&1", "$.ct": "application/json", "$.ce": "utf-8",
        "a": "x=y&z", "b key": "v/1 2", "empty": "", "uml": "ä",
    });
    if let Some(output) = output {
        properties["$.on"] = json!(output);
    }
    assert_eq!(first["properties"], properties);
    let mut body = || events.next_where("telemetry", |event| client.sent(event))["body"].take();
    assert_eq!(body(), "");
    assert_eq!(body().as_str().map(str::len), Some(200_000));
}

pub(crate) fn a_twin_is_read_reported_and_announced(hub: &Hub, client: &mut Client) {
    let mut service = service(hub);
    client.connect();
    assert_eq!(client.twin(), json!({ "desired": { "$version": 1 }, "reported": { "$version": 1 } }));
    client.talk.call("listen", json!({ "desired": true }));
    // The SDK reads the twin on its own when it subscribes, and hands out what it has.
    client.talk.call("patch_reported", json!({ "patch": { "fw": "1.0", "gone": 1, "deep": { "a": 1, "b": 2 } } }));
    client.talk.call("patch_reported", json!({ "patch": { "fw": "2.0", "gone": null, "deep": { "b": null } } }));
    // Not which version that made: an edge answers at once, and tells its hub of several patches in one.
    let reported = json!({ "fw": "2.0", "deep": { "a": 1 } });
    assert_eq!(without(client.twin()["reported"].take(), &["$version"]), reported);
    eventually("the hub has what was reported", || {
        let seen = client.twin_at(&mut service)["properties"]["reported"].take();
        (seen["fw"] == "2.0").then(|| assert_eq!(without(seen, &["$version", "$metadata"]), reported))
    });

    client.desire(&mut service, &json!({ "interval": 30 }));
    assert_eq!(client.desired_patch(&json!(2)), json!({ "interval": 30, "$version": 2 }));
    client.desire(&mut service, &json!({ "interval": null }));
    assert_eq!(client.desired_patch(&json!(3)), json!({ "interval": null, "$version": 3 }));
    assert_eq!(client.twin()["desired"], json!({ "$version": 3 }));
}

fn without(mut object: Value, keys: &[&str]) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.retain(|key, _| !keys.contains(&key.as_str()));
    }
    object
}

pub(crate) fn a_bad_reported_patch_is_refused_and_changes_nothing(client: &mut Client) {
    client.connect();
    let mut deep = json!(1);
    for _ in 0..12 {
        deep = json!({ "d": deep });
    }
    let refused = client.talk.try_call("patch_reported", json!({ "patch": { "fine": 1, "deep": deep } }));
    assert!(refused.is_err(), "{refused:?}");
    let refused = client.talk.try_call("patch_reported", json!({ "patch": { "big": "x".repeat(40_000) } }));
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(client.twin()["reported"], json!({ "$version": 1 }));
}

pub(crate) fn a_method_is_answered(hub: &Hub, client: &mut Client) {
    let mut service = service(hub);
    client.talk.call("listen", json!({ "methods": true }));
    client.talk.call("answer", json!({ "name": "reboot", "status": 418, "payload": { "in": 3 } }));
    let answer = client.invoke(&mut service, "reboot", &json!({ "delay": 5 }));
    assert_eq!(answer, json!({ "status": 418, "payload": { "in": 3 } }));
    let seen = client.talk.event("method");
    assert_eq!((&seen["name"], &seen["payload"]), (&json!("reboot"), &json!({ "delay": 5 })));
}

/// `next`: the same device anew.
pub(crate) fn commands_wait_arrive_in_order_and_once(hub: &Hub, device: &mut Client, next: impl FnOnce() -> Client) {
    let id = device.device_id().to_owned();
    send_command(
        hub,
        &id,
        "one",
        &[("iothub-app-messageId", "m-1"), ("iothub-app-colour", "red/blue"), ("iothub-app-ack", "full")],
    );
    send_command(hub, &id, "two", &[]);
    device.talk.call("listen", json!({ "messages": true }));
    let one = device.talk.event("message");
    assert_eq!(one["data"], "\"one\"");
    assert_eq!((&one["message_id"], &one["ack"]), (&json!("m-1"), &json!("full")));
    assert_eq!(one["properties"]["colour"], "red/blue");
    assert_eq!(device.talk.event("message")["data"], "\"two\"");
    send_command(hub, &id, "three", &[]);
    assert_eq!(device.talk.event("message")["data"], "\"three\"");

    device.talk.call("shutdown", json!({}));
    let mut next = next();
    next.talk.call("listen", json!({ "messages": true }));
    send_command(hub, &id, "four", &[]);
    assert_eq!(next.talk.event("message")["data"], "\"four\"", "what was settled is not sent again");
}

/// The body is JSON, so a text arrives with its quotes.
#[track_caller]
pub(crate) fn send_command(hub: &Hub, device: &str, text: &str, headers: &[(&str, &str)]) {
    let path = format!("/devices/{device}/messages/deviceBound");
    let answer = hub.rest().ask("POST", &path, headers, Some(&json!(text)));
    assert_eq!(answer.status, 204, "{}", answer.text);
}

/// A client that was created with somebody else's key.
pub(crate) fn a_wrong_key_is_final(mut client: Client) {
    let refused = client.talk.try_call("connect", json!({})).unwrap_err();
    assert!(refused.starts_with("CredentialError"), "{refused}");
}

/// `client` creates one for the device of this connection string.
pub(crate) fn a_disabled_device_is_put_out_and_kept_out(
    hub: &Hub,
    connection_string: &ConnectionString,
    client: impl Fn() -> Client,
) {
    let mut device = client();
    device.connect();
    device.wait_for_connection(true);
    let path = format!("/devices/{}", connection_string.part("DeviceId"));
    let mut identity = hub.rest().call("GET", &path, None);
    identity["status"] = "disabled".into();
    let answer = hub.rest().ask("PUT", &path, &[("If-Match", "*")], Some(&identity));
    assert_eq!(answer.status, 200, "{}", answer.text);
    device.wait_for_connection(false);
    let refused = client().talk.try_call("connect", json!({})).unwrap_err();
    assert!(refused.starts_with("CredentialError"), "{refused}");
}

/// Two clients with the same identity; the older one does not try again.
pub(crate) fn the_newer_connection_takes_over(older: &mut Client, newer: &mut Client) {
    older.connect();
    older.wait_for_connection(true);
    newer.connect();
    older.wait_for_connection(false);
    newer.talk.call("send", json!({ "data": "still here" }));
}
