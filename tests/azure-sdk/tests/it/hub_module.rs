//! Every operation of a module on azure-iot-device that a hub offers, over MQTT, and its connections.

use serde_json::{Value, json};
use skerry_testkit::{ConnectionString, Hub, HubOptions, sas_token};

use crate::actors::Client;
use crate::outages::{
    Outage, a_token_ends_the_connection_when_it_expires, eager, nothing_is_lost_when_a_token_is_renewed, renewing,
    resigned, seconds_now,
};
use crate::scenarios as scenario;

/// What a module names with its messages.
const OUTPUT: Option<&str> = Some("temperatureOutput");

fn registered(hub: &Hub) -> ConnectionString {
    hub.create_device("dev-1");
    hub.create_module("dev-1", "m-1")
}

fn module_with(options: Value) -> (Hub, Client) {
    let hub = Hub::start();
    let module = Client::create(&hub.ca_file(), registered(&hub).text(), options);
    (hub, module)
}

fn module() -> (Hub, Client) {
    module_with(json!({}))
}

#[test]
fn telemetry_is_acknowledged_with_all_its_properties() {
    let (hub, mut module) = module();
    scenario::telemetry_is_acknowledged_with_all_its_properties(&hub, &mut module, OUTPUT);
}

#[test]
fn a_twin_is_read_reported_and_announced() {
    let (hub, mut module) = module();
    scenario::a_twin_is_read_reported_and_announced(&hub, &mut module);
}

#[test]
fn a_bad_reported_patch_is_refused_and_changes_nothing() {
    let (_hub, mut module) = module();
    scenario::a_bad_reported_patch_is_refused_and_changes_nothing(&mut module);
}

#[test]
fn a_method_is_answered() {
    let (hub, mut module) = module();
    scenario::a_method_is_answered(&hub, &mut module);
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

#[test]
fn a_wrong_key_is_final() {
    let hub = Hub::start();
    let right = registered(&hub);
    let other = hub.create_module("dev-1", "m-2");
    let wrong = right.text().replace(right.part("SharedAccessKey"), other.part("SharedAccessKey"));
    scenario::a_wrong_key_is_final(Client::module(&hub, &wrong));
}

#[test]
fn the_newer_connection_takes_over() {
    let hub = Hub::start();
    let connection_string = registered(&hub);
    let mut older = Client::create(&hub.ca_file(), connection_string.text(), resigned());
    let mut newer = Client::module(&hub, connection_string.text());
    scenario::the_newer_connection_takes_over(&mut older, &mut newer);
}

#[test]
fn a_token_is_renewed_and_nothing_lost() {
    let (hub, mut module) = module_with(renewing());
    nothing_is_lost_when_a_token_is_renewed(&hub, &mut module, OUTPUT);
}

#[test]
fn a_given_token_ends_the_connection_when_it_expires() {
    let hub = Hub::start_with(&HubOptions { config: "clock_skew_seconds = 0\n".to_owned() });
    hub.create_device("dev-1");
    let expiry = seconds_now() + 6;
    let [(mut module, _), (mut prudent, longer)] = ["m-1", "m-2"].map(|name| {
        let key = hub.create_module("dev-1", name).part("SharedAccessKey").to_owned();
        let resource = format!("{}/devices/dev-1/modules/{name}", hub.host());
        let token = sas_token(&resource, &key, expiry);
        let client = Client::create_with_token(&hub.ca_file(), &resource, &token, resigned());
        (client, sas_token(&resource, &key, expiry + 3_600))
    });
    a_token_ends_the_connection_when_it_expires(&mut module, expiry, &mut prudent, &longer);
}

#[test]
fn a_client_finds_a_hub_that_was_killed_and_loses_nothing() {
    let (mut hub, mut module) = module_with(eager());
    let outage = Outage::begin(&mut module);
    hub.kill();
    module.wait_for_connection(false);
    hub.start_again();
    module.wait_for_connection(true);
    outage.end(&hub, &mut module);
}
