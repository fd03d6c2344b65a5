//! Modules on azure-iot-device that an edge starts as processes and that create themselves from their environment.

use serde_json::{Value, json};
use skerry_testkit::{Conversation, Edge, Hub, Invitation, eventually, python};

use crate::actors::{script, service};
use crate::device_scenarios::send_command;

/// A process module that runs the script of these tests.
fn python_module(invitation: &Invitation) -> Value {
    json!({
        "type": "process", "version": "1", "status": "running", "restartPolicy": "always",
        "settings": { "command": python(), "args": ["-u", script("client.py")] },
        "env": { "TALK_TO": { "value": invitation.talk_to() } },
    })
}

/// A hub, an edge, and two modules on it: `sender` and `receiver`.
struct Place {
    hub: Hub,
    edge: Edge,
    sender: Conversation,
    receiver: Conversation,
}

fn place(routes: Value) -> Place {
    let hub = Hub::start();
    let edge = Edge::start(&hub, "edge-1");
    let (sender, receiver) = (Invitation::new(), Invitation::new());
    edge.deploy(&hub, &json!({ "sender": python_module(&sender), "receiver": python_module(&receiver) }), &routes);
    edge.wait_until_listening();
    let mut sender = sender.accept("sender");
    let mut receiver = receiver.accept("receiver");
    for module in [&mut sender, &mut receiver] {
        module.call("create", json!({ "how": "edge_environment", "kind": "module" }));
        module.call("connect", json!({}));
    }
    Place { hub, edge, sender, receiver }
}

#[test]
fn an_output_reaches_an_input_and_the_hub() {
    let mut place = place(json!({
        "local": "FROM /messages/modules/sender/outputs/out INTO BrokeredEndpoint(\"/modules/receiver/inputs/in\")",
        "up": "FROM /messages/modules/sender/outputs/* INTO $upstream",
    }));
    place.receiver.call("listen", json!({ "messages": true }));
    let message = json!({
        "data": "{\"t\":1}", "output": "out", "message_id": "m-1", "content_type": "application/json",
        "content_encoding": "utf-8", "properties": { "k": "v/1 &" },
    });
    place.sender.call("send", message);
    let seen = place.receiver.event("message");
    assert_eq!(
        (&seen["data"], &seen["input"], &seen["message_id"]),
        (&json!("{\"t\":1}"), &json!("in"), &json!("m-1"))
    );
    assert_eq!(seen["properties"]["k"], "v/1 &");
    assert_eq!(seen["properties"]["$.cmid"], "sender");
    let event = place.hub.events().next_where("event of the module", |event| event["moduleId"] == "sender");
    assert_eq!((&event["body"], &event["properties"]["k"]), (&json!("{\"t\":1}"), &json!("v/1 &")));
    for number in 0..20 {
        place.sender.call("send", json!({ "data": format!("{number}"), "output": "out" }));
    }
    for number in 0..20 {
        assert_eq!(place.receiver.event("message")["data"], format!("{number}"), "in order");
    }
}

#[test]
fn a_module_s_twin_is_read_reported_and_announced() {
    let mut place = place(json!({}));
    let mut service = service(&place.hub);
    let module = json!({ "device_id": "edge-1", "module_id": "sender" });
    place.sender.call("listen", json!({ "desired": true }));
    assert!(place.sender.call("get_twin", json!({}))["desired"]["$version"].is_u64());
    place.sender.call("patch_reported", json!({ "patch": { "state": { "on": true } } }));
    eventually("the hub has what was reported", || {
        let twin = service.call("get_module_twin", module.clone());
        (twin["properties"]["reported"]["state"] == json!({ "on": true })).then_some(())
    });
    let mut change = module;
    change["desired"] = json!({ "rate": 7 });
    service.call("update_module_twin", change);
    place.sender.event_where("desired", |event| event["patch"]["rate"] == 7);
    assert_eq!(place.sender.call("get_twin", json!({}))["desired"]["rate"], 7);
}

#[test]
fn methods_go_from_the_hub_and_from_module_to_module() {
    let mut place = place(json!({}));
    let mut service = service(&place.hub);
    place.receiver.call("listen", json!({ "methods": true }));
    let invoke = json!({
        "name": "fromHub", "device_id": "edge-1", "module_id": "receiver", "payload": { "a": 1 }, "connect_timeout": 30,
    });
    assert_eq!(service.call("invoke", invoke)["payload"], json!({ "echo": { "a": 1 } }));
    let params = json!({ "methodName": "fromModule", "payload": "p", "responseTimeoutInSeconds": 10, "connectTimeoutInSeconds": 10 });
    let call = json!({ "params": params, "device_id": "edge-1", "module_id": "receiver" });
    let answer = place.sender.call("invoke_method", call);
    assert_eq!(answer, json!({ "status": 200, "payload": { "echo": "p" } }));
    assert_eq!(place.receiver.event_where("method", |event| event["name"] == "fromModule")["payload"], "p");
}

#[test]
fn a_module_calls_a_method_of_a_device_below_the_edge() {
    let mut place = place(json!({}));
    let connection_string = place.edge.create_leaf(&place.hub, "dev-1");
    let from = crate::actors::From::ConnectionString(connection_string.text());
    let mut leaf = crate::actors::Client::create(&place.edge.ca_file(), "device", from, json!({}));
    leaf.talk.call("listen", json!({ "methods": true, "messages": true }));
    let params =
        json!({ "methodName": "x", "payload": 5, "responseTimeoutInSeconds": 10, "connectTimeoutInSeconds": 10 });
    let answer = place.sender.call("invoke_method", json!({ "params": params, "device_id": "dev-1" }));
    assert_eq!(answer, json!({ "status": 200, "payload": { "echo": 5 } }));
    send_command(&place.hub, "down", &[]);
    assert_eq!(leaf.talk.event("message")["data"], "\"down\"");
}

#[test]
fn what_was_acknowledged_while_the_hub_was_away_arrives_in_order() {
    let mut place = place(json!({ "up": "FROM /messages/modules/sender/* INTO $upstream" }));
    place.sender.call("send", json!({ "data": "before" }));
    place.hub.kill();
    place.sender.call("send_many", json!({ "prefix": "away", "count": 50 }));
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
    let routes = json!({ "up": "FROM /messages/* INTO $upstream" });
    edge.deploy(&hub, &json!({ "sender": python_module(&invitation) }), &routes);
    edge.wait_until_listening();
    let _first = invitation.accept("sender");
    edge.kill();
    // A process module ends with its edge; it is started again, with an environment that works.
    edge.start_again();
    let mut again = invitation.accept("sender, started again");
    again.call("create", json!({ "how": "edge_environment", "kind": "module" }));
    again.call("send", json!({ "data": "alive" }));
    hub.events().next_where("message", |event| event["body"] == "alive");
}
