//! Every operation of a device on azure-iot-device, over MQTT against the hub.

use skerry_testkit::Hub;

use crate::actors::Client;
use crate::scenarios as scenario;

fn device() -> (Hub, Client) {
    let hub = Hub::start();
    let device = Client::device(&hub, hub.create_device("dev-1").text());
    (hub, device)
}

#[test]
fn telemetry_is_acknowledged_with_all_its_properties() {
    let (hub, mut device) = device();
    scenario::telemetry_is_acknowledged_with_all_its_properties(&hub, &mut device, None);
}

#[test]
fn a_twin_is_read_reported_and_announced() {
    let (hub, mut device) = device();
    scenario::a_twin_is_read_reported_and_announced(&hub, &mut device);
}

#[test]
fn a_bad_reported_patch_is_refused_and_changes_nothing() {
    let (_hub, mut device) = device();
    scenario::a_bad_reported_patch_is_refused_and_changes_nothing(&mut device);
}

#[test]
fn a_method_is_answered() {
    let (hub, mut device) = device();
    scenario::a_method_is_answered(&hub, &mut device);
}

#[test]
fn commands_wait_arrive_in_order_and_once() {
    let hub = Hub::start();
    let connection_string = hub.create_device("dev-1");
    let mut device = Client::device(&hub, connection_string.text());
    let next = || Client::device(&hub, connection_string.text());
    scenario::commands_wait_arrive_in_order_and_once(&hub, &mut device, next);
}
