//! Every operation of a module on azure-iot-device that an edge starts as a process and that creates itself from its
//! environment.

use serde_json::{Value, json};
use skerry_testkit::{Edge, Hub, Invitation, python};

use crate::actors::{Client, script};
use crate::outages::{a_client_of_an_edge_outlasts_its_hub, eager, nothing_is_lost_when_a_token_is_renewed, renewing};
use crate::scenarios::{self as scenario, send_command};

/// A process module that runs the script of these tests.
fn python_module(invitation: &Invitation) -> Value {
    json!({
        "type": "process", "version": "1", "status": "running", "restartPolicy": "always",
        "settings": { "command": python(), "args": ["-u", script("client.py")] },
        "env": { "TALK_TO": { "value": invitation.talk_to() } },
    })
}

/// A hub, an edge, and a module on it, `sender`, whose messages go up.
struct Place {
    hub: Hub,
    edge: Edge,
    sender: Client,
}

impl Place {
    /// `options`: the SDK's own keyword arguments.
    fn new(options: Value) -> Self {
        let hub = Hub::start();
        let edge = Edge::start(&hub, "edge-1");
        let invitation = Invitation::new();
        edge.deploy(&hub, &json!({ "sender": python_module(&invitation) }), &all_up());
        let sender = Client::of_edge(&invitation, "edge-1", "sender", options);
        Self { hub, edge, sender }
    }
}

fn all_up() -> Value {
    json!({ "up": "FROM /messages/* INTO $upstream" })
}

/// The same with a second module, `receiver`; both are connected.
fn with_receiver(routes: &Value) -> (Place, Client) {
    let hub = Hub::start();
    let edge = Edge::start(&hub, "edge-1");
    let (sender, receiver) = (Invitation::new(), Invitation::new());
    edge.deploy(&hub, &json!({ "sender": python_module(&sender), "receiver": python_module(&receiver) }), routes);
    let mut sender = Client::of_edge(&sender, "edge-1", "sender", json!({}));
    let mut receiver = Client::of_edge(&receiver, "edge-1", "receiver", json!({}));
    sender.connect();
    receiver.connect();
    (Place { hub, edge, sender }, receiver)
}

#[test]
fn telemetry_is_acknowledged_with_all_its_properties() {
    let mut place = Place::new(json!({}));
    scenario::telemetry_is_acknowledged_with_all_its_properties(&place.hub, &mut place.sender, Some("out"));
}

#[test]
fn an_output_reaches_an_input_with_all_its_properties_and_in_order() {
    let (mut place, mut receiver) = with_receiver(&json!({
        "local": "FROM /messages/modules/sender/outputs/out INTO BrokeredEndpoint(\"/modules/receiver/inputs/in\")",
    }));
    receiver.talk.call("listen", json!({ "messages": true }));
    let message = json!({
        "data": "{\"t\":1}", "output": "out", "message_id": "m-1", "correlation_id": "c+1", "user_id": "u&1",
        "content_type": "application/json", "content_encoding": "utf-8", "properties": { "k": "v/1 &", "empty": "" },
    });
    place.sender.talk.call("send", message);
    let seen = receiver.talk.event("message");
    for (property, value) in [
        ("data", "{\"t\":1}"),
        ("input", "in"),
        ("message_id", "m-1"),
        ("correlation_id", "c+1"),
        ("user_id", "u&1"),
        ("content_type", "application/json"),
        ("content_encoding", "utf-8"),
    ] {
        assert_eq!(seen[property], value, "{property}");
    }
    let properties = &seen["properties"];
    // A receiver that uses Azure's SDK for Java would lose its connection over an empty value, so none is delivered.
    assert_eq!((&properties["k"], properties.get("empty")), (&json!("v/1 &"), None));
    assert_eq!(properties["$.cmid"], "sender");
    place.sender.talk.call("send", json!({ "data": "", "output": "out" }));
    assert_eq!(receiver.talk.event("message")["data"], "");
    place.sender.talk.call("send", json!({ "data": "x".repeat(200_000), "output": "out" }));
    assert_eq!(receiver.talk.event("message")["data"].as_str().map(str::len), Some(200_000));
    for number in 0..20 {
        place.sender.talk.call("send", json!({ "data": format!("{number}"), "output": "out" }));
    }
    for number in 0..20 {
        assert_eq!(receiver.talk.event("message")["data"], format!("{number}"), "in order");
    }
}

#[test]
fn a_twin_is_read_reported_and_announced() {
    let mut place = Place::new(json!({}));
    scenario::a_twin_is_read_reported_and_announced(&place.hub, &mut place.sender);
}

#[test]
fn a_bad_reported_patch_is_refused_and_changes_nothing() {
    let mut place = Place::new(json!({}));
    scenario::a_bad_reported_patch_is_refused_and_changes_nothing(&mut place.sender);
}

#[test]
fn a_method_is_answered() {
    let mut place = Place::new(json!({}));
    scenario::a_method_is_answered(&place.hub, &mut place.sender);
}

#[test]
fn a_module_calls_methods_of_a_module_and_of_a_device_below_the_edge() {
    let (mut place, mut receiver) = with_receiver(&json!({}));
    let params = |name: &str, payload: Value| {
        json!({
            "methodName": name, "payload": payload, "responseTimeoutInSeconds": 10, "connectTimeoutInSeconds": 10,
        })
    };
    receiver.talk.call("listen", json!({ "methods": true }));
    receiver.talk.call("answer", json!({ "name": "refuse", "status": 403, "payload": { "why": "no" } }));
    let to_module = |params: Value| json!({ "params": params, "device_id": "edge-1", "module_id": "receiver" });
    let answer = place.sender.talk.call("invoke_method", to_module(params("echo", json!("p"))));
    assert_eq!(answer, json!({ "status": 200, "payload": { "echo": "p" } }));
    let answer = place.sender.talk.call("invoke_method", to_module(params("refuse", json!({ "a": 1 }))));
    assert_eq!(answer, json!({ "status": 403, "payload": { "why": "no" } }));
    assert_eq!(receiver.talk.event_where("method", |event| event["name"] == "refuse")["payload"], json!({ "a": 1 }));

    let connection_string = place.edge.create_leaf(&place.hub, "dev-1");
    let mut leaf = Client::create(&place.edge.ca_file(), connection_string.text(), json!({}));
    leaf.talk.call("listen", json!({ "methods": true, "messages": true }));
    let to_device = |device: &str| json!({ "params": params("x", json!(5)), "device_id": device });
    let answer = place.sender.talk.call("invoke_method", to_device("dev-1"));
    assert_eq!(answer, json!({ "status": 200, "payload": { "echo": 5 } }));
    send_command(&place.hub, "dev-1", "down", &[]);
    assert_eq!(leaf.talk.event("message")["data"], "\"down\"");
    let refused = place.sender.talk.try_call("invoke_method", to_device("nobody"));
    assert!(refused.is_err(), "{refused:?}");
}

/// Each time with a signature from the workload API.
#[test]
fn a_token_is_renewed_and_nothing_lost() {
    let mut place = Place::new(renewing());
    nothing_is_lost_when_a_token_is_renewed(&place.hub, &mut place.sender, Some("out"));
}

#[test]
fn a_module_outlasts_the_hub() {
    let mut place = Place::new(eager());
    a_client_of_an_edge_outlasts_its_hub(&mut place.hub, &mut place.sender);
}

#[test]
fn what_was_acknowledged_while_the_hub_was_away_arrives_in_order() {
    let mut place = Place::new(json!({}));
    place.sender.talk.call("send", json!({ "data": "before" }));
    place.hub.kill();
    place.sender.talk.call("send_many", json!({ "prefix": "away", "count": 50 }));
    place.edge.kill();
    place.edge.start_again();
    place.hub.start_again();
    let mut events = place.hub.events();
    for number in 0..50 {
        let body = format!("away-{number}");
        events.next_where("message that the edge acknowledged", |event| event["body"] == body);
    }
}

#[test]
fn a_module_works_on_after_the_edge_was_killed() {
    let hub = Hub::start();
    let mut edge = Edge::start(&hub, "edge-1");
    let invitation = Invitation::new();
    edge.deploy(&hub, &json!({ "sender": python_module(&invitation) }), &all_up());
    let mut first = Client::of_edge(&invitation, "edge-1", "sender", json!({}));
    first.talk.call("patch_reported", json!({ "patch": { "kept": true } }));
    edge.kill();
    // A process module ends with its edge; it is started again, with an environment that works.
    edge.start_again();
    let mut again = Client::of_edge(&invitation, "edge-1", "sender", json!({}));
    again.talk.call("send", json!({ "data": "alive" }));
    hub.events().next_where("message", |event| event["body"] == "alive");
    assert_eq!(again.twin()["reported"]["kept"], true);
    scenario::a_method_is_answered(&hub, &mut again);
}
