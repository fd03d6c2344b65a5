//! Connections of azure-iot-device to the hub: refused, taken over, lost and found, renewed.

use serde_json::json;
use skerry_testkit::{Hub, sas_token};

use crate::actors::{Client, From, service};

#[test]
fn a_wrong_key_is_final() {
    let hub = Hub::start();
    let right = hub.create_device("dev-1");
    let other = hub.create_device("dev-2");
    let wrong = right.text().replace(right.part("SharedAccessKey"), other.part("SharedAccessKey"));
    let mut device = Client::device(&hub, &wrong);
    let refused = device.talk.try_call("connect", json!({})).unwrap_err();
    assert!(refused.starts_with("CredentialError"), "{refused}");
}

#[test]
fn a_disabled_device_is_put_out_and_kept_out() {
    let hub = Hub::start();
    let mut service = service(&hub);
    let connection_string = hub.create_device("dev-1");
    let mut device = Client::device(&hub, connection_string.text());
    device.connect();
    device.wait_for_connection(true);
    let key = connection_string.part("SharedAccessKey");
    service.call(
        "update_device_with_sas",
        json!({ "device_id": "dev-1", "etag": null, "primary_key": key, "secondary_key": key, "status": "disabled" }),
    );
    device.wait_for_connection(false);
    let mut again = Client::device(&hub, connection_string.text());
    let refused = again.talk.try_call("connect", json!({})).unwrap_err();
    assert!(refused.starts_with("CredentialError"), "{refused}");
}

#[test]
fn the_newer_connection_takes_over() {
    let hub = Hub::start();
    let connection_string = hub.create_device("dev-1");
    // Without this the older one would take over again.
    let options = json!({ "connection_retry": false });
    let mut older = Client::create(&hub.ca_file(), "device", From::ConnectionString(connection_string.text()), options);
    older.connect();
    older.wait_for_connection(true);
    let mut newer = Client::device(&hub, connection_string.text());
    newer.connect();
    older.wait_for_connection(false);
    newer.talk.call("send", json!({ "data": "still here" }));
}

#[test]
fn a_token_is_renewed_and_nothing_lost() {
    let hub = Hub::start();
    let connection_string = hub.create_device("dev-1");
    // The SDK renews 120 s before the end: here every 10 s.
    let options = json!({ "sastoken_ttl": 130 });
    let mut device =
        Client::create(&hub.ca_file(), "device", From::ConnectionString(connection_string.text()), options);
    device.talk.call("listen", json!({ "methods": true }));
    device.wait_for_connection(true);
    device.talk.skip_events();
    let sending = device.talk.begin("send_many", json!({ "prefix": "renewal", "count": 200, "pause": 0.07 }));
    device.wait_for_connection(false);
    device.wait_for_connection(true);
    device.talk.finish(sending).unwrap();
    let mut events = hub.events();
    for number in 0..200 {
        // What was not acknowledged before the change is sent again after it, so some may come twice.
        let body = format!("renewal-{number}");
        events.next_where("message that was acknowledged", |event| event["body"] == body);
    }
    let mut service = service(&hub);
    let invoke = json!({ "name": "x", "device_id": "dev-1" });
    assert_eq!(service.call("invoke", invoke)["status"], 200, "the subscription outlives the connection");
}

#[test]
fn a_client_finds_a_hub_that_was_killed_and_loses_nothing() {
    let mut hub = Hub::start();
    let connection_string = hub.create_device("dev-1");
    let options = json!({ "connection_retry_interval": 1 });
    let mut device =
        Client::create(&hub.ca_file(), "device", From::ConnectionString(connection_string.text()), options);
    device.talk.call("listen", json!({ "methods": true, "desired": true }));
    device.talk.call("patch_reported", json!({ "patch": { "kept": true } }));
    device.talk.skip_events();
    let messages = json!({ "prefix": "outage", "count": 60, "pause": 0.02, "keep_trying": true });
    let sending = device.talk.begin("send_many", messages);
    device.talk.event_where("sent", |event| event["number"] == 20);
    hub.kill();
    device.wait_for_connection(false);
    hub.start_again();
    device.wait_for_connection(true);
    device.talk.finish(sending).unwrap();
    let mut events = hub.events();
    for number in 0..60 {
        let body = format!("outage-{number}");
        events.next_where("message that was acknowledged", |event| event["body"] == body);
    }
    assert_eq!(device.twin()["reported"]["kept"], true, "acknowledged before the kill");
}

#[test]
fn a_given_token_is_good_for_whom_it_names() {
    let hub = Hub::start();
    let (one, other) = (hub.create_device("dev-1"), hub.create_device("dev-2"));
    let resource = format!("{}/devices/dev-1", hub.host());
    let token = |key: &str| sas_token(&resource, key, 4_000_000_000);
    let right = token(one.part("SharedAccessKey"));
    let mut device = Client::create(&hub.ca_file(), "device", From::Token(&right), json!({}));
    device.talk.call("send", json!({ "data": "with a given token" }));
    let forged = token(other.part("SharedAccessKey"));
    let mut device = Client::create(&hub.ca_file(), "device", From::Token(&forged), json!({}));
    let refused = device.talk.try_call("connect", json!({})).unwrap_err();
    assert!(refused.starts_with("CredentialError"), "{refused}");
}
