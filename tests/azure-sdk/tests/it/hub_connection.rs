//! Connections of azure-iot-device to the hub: refused, taken over, lost and found, renewed, ended.

use serde_json::json;
use skerry_testkit::{Hub, HubOptions, sas_token};

use crate::actors::Client;
use crate::outages::{
    Outage, a_token_ends_the_connection_when_it_expires, eager, nothing_is_lost_when_a_token_is_renewed, renewing,
    resigned, seconds_now,
};
use crate::scenarios as scenario;

#[test]
fn a_wrong_key_is_final() {
    let hub = Hub::start();
    let right = hub.create_device("dev-1");
    let other = hub.create_device("dev-2");
    let wrong = right.text().replace(right.part("SharedAccessKey"), other.part("SharedAccessKey"));
    scenario::a_wrong_key_is_final(Client::device(&hub, &wrong));
}

#[test]
fn a_disabled_device_is_put_out_and_kept_out() {
    let hub = Hub::start();
    let connection_string = hub.create_device("dev-1");
    let client = || Client::device(&hub, connection_string.text());
    scenario::a_disabled_device_is_put_out_and_kept_out(&hub, &connection_string, client);
}

#[test]
fn the_newer_connection_takes_over() {
    let hub = Hub::start();
    let connection_string = hub.create_device("dev-1");
    let mut older = Client::create(&hub.ca_file(), connection_string.text(), resigned());
    let mut newer = Client::device(&hub, connection_string.text());
    scenario::the_newer_connection_takes_over(&mut older, &mut newer);
}

#[test]
fn a_token_is_renewed_and_nothing_lost() {
    let hub = Hub::start();
    let mut device = Client::create(&hub.ca_file(), hub.create_device("dev-1").text(), renewing());
    nothing_is_lost_when_a_token_is_renewed(&hub, &mut device, None);
}

#[test]
fn a_given_token_ends_the_connection_when_it_expires() {
    let hub = Hub::start_with(&HubOptions { config: "clock_skew_seconds = 0\n".to_owned() });
    let expiry = seconds_now() + 6;
    let [(mut device, _), (mut prudent, longer)] = ["dev-1", "dev-2"].map(|name| {
        let key = hub.create_device(name).part("SharedAccessKey").to_owned();
        let resource = format!("{}/devices/{name}", hub.host());
        let token = sas_token(&resource, &key, expiry);
        let client = Client::create_with_token(&hub.ca_file(), &resource, &token, resigned());
        (client, sas_token(&resource, &key, expiry + 3_600))
    });
    a_token_ends_the_connection_when_it_expires(&mut device, expiry, &mut prudent, &longer);
}

#[test]
fn a_client_finds_a_hub_that_was_killed_and_loses_nothing() {
    let mut hub = Hub::start();
    let mut device = Client::create(&hub.ca_file(), hub.create_device("dev-1").text(), eager());
    let outage = Outage::begin(&mut device);
    hub.kill();
    device.wait_for_connection(false);
    hub.start_again();
    device.wait_for_connection(true);
    outage.end(&hub, &mut device);
}

#[test]
fn a_given_token_is_good_for_whom_it_names() {
    let hub = Hub::start();
    let (one, other) = (hub.create_device("dev-1"), hub.create_device("dev-2"));
    let resource = format!("{}/devices/dev-1", hub.host());
    let token = |key: &str| sas_token(&resource, key, 4_000_000_000);
    let right = token(one.part("SharedAccessKey"));
    let mut device = Client::create_with_token(&hub.ca_file(), &resource, &right, json!({}));
    device.talk.call("send", json!({ "data": "with a given token" }));
    let forged = token(other.part("SharedAccessKey"));
    scenario::a_wrong_key_is_final(Client::create_with_token(&hub.ca_file(), &resource, &forged, json!({})));
}
