//! Every operation of a device on azure-iot-device that uses an edge as its gateway.

use serde_json::{Value, json};
use skerry_testkit::{ConnectionString, Edge, EdgeOptions, Hub, sas_token};

use crate::actors::{Client, service};
use crate::outages::{
    Outage, a_client_of_an_edge_outlasts_its_hub, a_token_ends_the_connection_when_it_expires, eager,
    nothing_is_lost_when_a_token_is_renewed, renewing, resigned, seconds_now,
};
use crate::scenarios::{self as scenario, send_command};

/// A hub and an edge whose routes send everything up, with a device `dev-1` below it.
struct Place {
    hub: Hub,
    edge: Edge,
    connection_string: ConnectionString,
}

impl Place {
    fn new() -> Self {
        Self::with(&EdgeOptions::default())
    }

    fn with(options: &EdgeOptions) -> Self {
        let hub = Hub::start();
        let edge = Edge::start_with(&hub, "edge-1", options);
        edge.deploy(&hub, &json!({}), &json!({ "all": "FROM /messages/* INTO $upstream" }));
        edge.wait_until_listening();
        let connection_string = edge.create_leaf(&hub, "dev-1");
        Self { hub, edge, connection_string }
    }

    fn device(&self) -> Client {
        self.device_with(json!({}))
    }

    fn device_with(&self, options: Value) -> Client {
        Client::create(&self.edge.ca_file(), self.connection_string.text(), options)
    }

    /// A client with a token of its own, signed with a key of `identity`, that goes through the edge; and a token that ends an
    /// hour later.
    fn with_token(&self, client: &str, identity: &ConnectionString, expiry: u64) -> (Client, String) {
        let (resource, key) = (format!("{}/devices/{client}", self.hub.host()), identity.part("SharedAccessKey"));
        let mut options = resigned();
        options["gateway_hostname"] = json!(self.edge.host());
        let token = sas_token(&resource, key, expiry);
        let client = Client::create_with_token(&self.edge.ca_file(), &resource, &token, options);
        (client, sas_token(&resource, key, expiry + 3_600))
    }
}

#[test]
fn telemetry_is_acknowledged_with_all_its_properties() {
    let place = Place::new();
    scenario::telemetry_is_acknowledged_with_all_its_properties(&place.hub, &mut place.device(), None);
}

#[test]
fn a_twin_is_read_reported_and_announced() {
    let place = Place::new();
    scenario::a_twin_is_read_reported_and_announced(&place.hub, &mut place.device());
}

#[test]
fn a_bad_reported_patch_is_refused_and_changes_nothing() {
    let place = Place::new();
    scenario::a_bad_reported_patch_is_refused_and_changes_nothing(&mut place.device());
}

#[test]
fn a_method_is_answered() {
    let place = Place::new();
    scenario::a_method_is_answered(&place.hub, &mut place.device());
}

#[test]
fn commands_wait_arrive_in_order_and_once() {
    let place = Place::new();
    scenario::commands_wait_arrive_in_order_and_once(&place.hub, &mut place.device(), || place.device());
}

#[test]
fn a_wrong_key_is_final() {
    let place = Place::new();
    let (right, other) = (&place.connection_string, place.hub.create_device("dev-2"));
    let wrong = right.text().replace(right.part("SharedAccessKey"), other.part("SharedAccessKey"));
    scenario::a_wrong_key_is_final(Client::create(&place.edge.ca_file(), &wrong, json!({})));
}

#[test]
fn a_disabled_device_is_put_out_and_kept_out() {
    let place = Place::new();
    let client = || place.device();
    scenario::a_disabled_device_is_put_out_and_kept_out(&place.hub, &place.connection_string, client);
}

#[test]
fn the_newer_connection_takes_over() {
    let place = Place::new();
    scenario::the_newer_connection_takes_over(&mut place.device_with(resigned()), &mut place.device());
}

#[test]
fn a_token_is_renewed_and_nothing_lost() {
    let place = Place::new();
    nothing_is_lost_when_a_token_is_renewed(&place.hub, &mut place.device_with(renewing()), None);
}

/// Of a device, and of a module that was given its token and not the edge's signature.
#[test]
fn a_given_token_ends_the_connection_when_it_expires() {
    let place = Place::with(&EdgeOptions { config: "clock_skew_seconds = 0\n".to_owned(), ..EdgeOptions::default() });
    let (module, prudent) = (place.hub.create_module("edge-1", "m-1"), place.edge.create_leaf(&place.hub, "dev-2"));
    let expiry = seconds_now() + 7;
    let (mut device, _) = place.with_token("dev-1", &place.connection_string, expiry);
    let (mut module, _) = place.with_token("edge-1/modules/m-1", &module, expiry);
    let (mut prudent, longer) = place.with_token("dev-2", &prudent, expiry);
    module.connect();
    a_token_ends_the_connection_when_it_expires(&mut device, expiry, &mut prudent, &longer);
    module.wait_for_connection(false);
    assert!(seconds_now() <= expiry + 2, "the module was put out too late");
    for mut late in [device, module] {
        let refused = late.talk.try_call("connect", json!({})).unwrap_err();
        assert!(refused.starts_with("CredentialError"), "{refused}");
    }
}

#[test]
fn a_client_finds_an_edge_that_was_killed_and_loses_nothing() {
    let mut place = Place::new();
    let mut device = place.device_with(eager());
    device.talk.call("listen", json!({ "messages": true }));
    let outage = Outage::begin(&mut device);
    place.edge.kill();
    device.wait_for_connection(false);
    let mut service = service(&place.hub);
    let version = device.desire(&mut service, &json!({ "while": "away" }));
    send_command(&place.hub, "dev-1", "while away", &[]);
    place.edge.start_again();
    device.wait_for_connection(true);
    assert_eq!(device.talk.event("message")["data"], "\"while away\"");
    assert_eq!(device.desired_patch(&version)["while"], "away");
    outage.end(&place.hub, &mut device);
}

#[test]
fn a_client_outlasts_the_hub() {
    let mut place = Place::new();
    let mut device = place.device();
    a_client_of_an_edge_outlasts_its_hub(&mut place.hub, &mut device);
}
