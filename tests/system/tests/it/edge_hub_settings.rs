//! What a manifest may say of the edge hub in `systemModules`: its environment and its port bindings.

use std::net::TcpStream;

use serde_json::{Value, json};
use skerry_testkit::eventually;

use crate::peer::Heard;
use crate::site::{At, Site, all_up};

/// `CONNACK`: the server is unavailable.
const UNAVAILABLE: u8 = 3;

/// What the hub above is told of the edge hub.
fn reported(site: &Site) -> Option<Value> {
    let mut twin = site.hub.rest().call("GET", "/twins/edge-1/modules/$edgeAgent", None);
    Some(twin["properties"]["reported"]["systemModules"]["edgeHub"]["statusDescription"].take())
}

#[test]
fn environment_and_port_bindings_of_the_edge_hub_are_honoured_and_can_be_taken_back() {
    let mut site = Site::start(At::Edge);
    let (first, second) = (site.device("dev-1"), site.device("dev-2"));
    let server = site.server();
    let bindings = json!({
        "8883/tcp": [{ "HostPort": "18883" }, { "HostPort": "8883", "HostIp": "203.0.113.1" }],
        "443/tcp": [{ "HostPort": "18443" }],
        "5671/tcp": [{ "HostPort": "5671" }],
    });
    let options = json!({ "HostConfig": { "PortBindings": bindings } });
    let edge_hub = json!({
        "settings": { "image": "skerry/edge", "createOptions": options.to_string() },
        "env": {
            "RuntimeLogLevel": { "value": "error" },
            "MaxConnectedClients": { "value": "1" },
            "UpstreamProtocol": { "value": "Amqp" },
        },
    });
    site.deploy_with(&edge_hub, &all_up());
    let (mqtt, https) = (server.at_port(18_883), server.at_port(18_443));
    for place in [&mqtt, &https] {
        eventually("the edge listens there", || TcpStream::connect(place.address()).ok());
    }
    https.secured();
    let _first = mqtt.login(&first);
    let (_refused, heard) = server.try_login(&second);
    assert_eq!(heard, Heard::ConnAck(UNAVAILABLE));
    assert_eq!(site.refused("dev-2", 1)["reason"], "as many clients as there may be: 1");
    let sentence = "running; UpstreamProtocol=Amqp means nothing here; the hub serves no port 5671/tcp; \
                    cannot listen on 203.0.113.1:8883: Cannot assign requested address (os error 99)";
    eventually("what cannot be done is reported", || (reported(&site)? == sentence).then_some(()));

    site.deploy(&all_up());
    for place in [&mqtt, &https] {
        eventually("the edge listens there no longer", || TcpStream::connect(place.address()).err());
    }
    let _second = server.login(&second);
    eventually("nothing is remarked", || (reported(&site)? == "running").then_some(()));
    site.logged("connected", "client=dev-2");
    let logged_of_first = site.log("client=dev-1");
    assert!(logged_of_first.is_empty(), "less was to be logged then: {logged_of_first:?}");
}
