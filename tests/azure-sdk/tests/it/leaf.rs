//! Every operation of a device on azure-iot-device that uses an edge as its gateway.

use serde_json::json;
use skerry_testkit::{Edge, Hub};

use crate::actors::{Client, From};
use crate::device_scenarios as scenario;

struct Place {
    hub: Hub,
    _edge: Edge,
    device: Client,
}

/// A hub, an edge whose routes send everything up, and a device below it.
fn place() -> Place {
    let hub = Hub::start();
    let edge = Edge::start(&hub, "edge-1");
    edge.deploy(&hub, &json!({}), &json!({ "all": "FROM /messages/* INTO $upstream" }));
    edge.wait_until_listening();
    let connection_string = edge.create_leaf(&hub, "dev-1");
    let from = From::ConnectionString(connection_string.text());
    let device = Client::create(&edge.ca_file(), "device", from, json!({}));
    Place { hub, _edge: edge, device }
}

#[test]
fn telemetry_is_acknowledged_with_all_its_properties() {
    let mut place = place();
    scenario::telemetry_is_acknowledged_with_all_its_properties(&place.hub, &mut place.device);
}

#[test]
fn a_twin_is_read_reported_and_announced() {
    let mut place = place();
    scenario::a_twin_is_read_reported_and_announced(&place.hub, &mut place.device);
}

#[test]
fn a_bad_reported_patch_is_refused_and_changes_nothing() {
    let mut place = place();
    scenario::a_bad_reported_patch_is_refused_and_changes_nothing(&mut place.device);
}

#[test]
fn a_method_is_answered() {
    let mut place = place();
    scenario::a_method_is_answered(&place.hub, &mut place.device);
}

#[test]
fn commands_wait_for_the_device_and_arrive_in_order() {
    let mut place = place();
    scenario::commands_wait_for_the_device_and_arrive_in_order(&place.hub, &mut place.device);
}
