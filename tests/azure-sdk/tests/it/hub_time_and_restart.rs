//! What azure-iot-device counts on when time passes or the hub restarts: tokens end, subscriptions stay.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use skerry_testkit::{Hub, HubOptions, sas_token};

use crate::actors::{Client, From, service};

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

#[test]
fn a_given_token_ends_the_connection_when_it_expires() {
    let hub = Hub::start_with(&HubOptions { config: "clock_skew_seconds = 0\n".to_owned() });
    let connection_string = hub.create_device("dev-1");
    let expiry = seconds_now() + 6;
    let resource = format!("{}/devices/dev-1", hub.host());
    let token = sas_token(&resource, connection_string.part("SharedAccessKey"), expiry);
    let mut device =
        Client::create(&hub.ca_file(), "device", From::Token(&token), json!({ "connection_retry": false }));
    device.connect();
    device.wait_for_connection(true);
    let started = Instant::now();
    device.wait_for_connection(false);
    let closed = seconds_now();
    assert!((expiry..=expiry + 2).contains(&closed), "expiry {expiry}, closed {closed}, after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(9));
}

/// The SDK connects with a persistent session and never subscribes again by itself.
#[test]
fn subscriptions_outlive_a_killed_hub() {
    let mut hub = Hub::start();
    let connection_string = hub.create_device("dev-1");
    let options = json!({ "connection_retry_interval": 1 });
    let from = From::ConnectionString(connection_string.text());
    let mut device = Client::create(&hub.ca_file(), "device", from, options);
    device.talk.call("listen", json!({ "methods": true }));
    device.talk.skip_events();
    hub.kill();
    device.wait_for_connection(false);
    hub.start_again();
    device.wait_for_connection(true);
    let invoke = json!({ "name": "x", "device_id": "dev-1", "connect_timeout": 30 });
    assert_eq!(service(&hub).call("invoke", invoke)["status"], 200);
}
