//! The Rust SDK against the hub, with a key of its own instead of an edge.

use std::fs;
use std::time::Duration;

use serde_json::json;
use skerry_sdk::{Message, MethodAnswer, Module};
use skerry_testkit::Hub;

fn module(hub: &Hub) -> Module {
    hub.create_device("dev-1");
    let connection_string = hub.create_module("dev-1", "m-1");
    let roots = fs::read_to_string(hub.ca_file()).unwrap_or_else(|cause| panic!("no CA: {cause}"));
    Module::from_connection_string(connection_string.text(), &roots).unwrap_or_else(|cause| panic!("{cause}"))
}

/// Talks to the hub beside the runtime that the module lives on.
async fn beside<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(ask).await.unwrap_or_else(|cause| panic!("{cause}"))
}

#[tokio::test]
async fn messages_twins_and_methods() {
    let hub = beside(Hub::start).await;
    let rest = hub.rest();
    let module = module(&hub);
    module.send("out", Message::json(&json!({ "a": 1 })).property("k", "v")).await.unwrap();

    let twin = module.twin().await.unwrap();
    assert_eq!((twin.desired, twin.reported), (json!({ "$version": 1 }), json!({ "$version": 1 })));
    module.report(json!({ "state": "on", "gone": null })).await.unwrap();
    assert_eq!(module.twin().await.unwrap().reported, json!({ "state": "on", "$version": 2 }));

    let mut desired = module.desired().await.unwrap();
    assert_eq!(desired.current(), json!({ "$version": 1 }));
    let patch = json!({ "properties": { "desired": { "rate": { "a": 1, "b": 2 } } } });
    let patching = rest.clone();
    beside(move || patching.call("PATCH", "/twins/dev-1/modules/m-1", Some(&patch))).await;
    assert_eq!(desired.changed().await, Ok(json!({ "rate": { "a": 1, "b": 2 }, "$version": 2 })));

    module
        .on_method("double", async |call| MethodAnswer::ok(json!(call.payload.as_i64().unwrap_or(0) * 2)))
        .await
        .unwrap();
    let calling = rest.clone();
    let answer = beside(move || {
        let call = json!({ "methodName": "double", "payload": 21, "connectTimeoutInSeconds": 10 });
        calling.call("POST", "/twins/dev-1/modules/m-1/methods", Some(&call))
    });
    assert_eq!(answer.await, json!({ "status": 200, "payload": 42 }));
    let answer = beside(move || {
        rest.call("POST", "/twins/dev-1/modules/m-1/methods", Some(&json!({ "methodName": "unknown" })))
    });
    assert_eq!(answer.await["status"], 501);
    let mut events = hub.events();
    let event = beside(move || events.next_event()).await;
    assert_eq!((&event["body"], &event["properties"]["k"]), (&json!("{\"a\":1}"), &json!("v")));
    module.close().await;
}

#[tokio::test]
async fn what_changed_while_the_hub_was_away_is_noticed() {
    let mut hub = beside(Hub::start).await;
    let module = module(&hub);
    let mut desired = module.desired().await.unwrap();
    desired.current();
    let hub = beside(move || {
        hub.kill();
        hub.start_again();
        let patch = json!({ "properties": { "desired": { "while": "away" } } });
        hub.rest().call("PATCH", "/twins/dev-1/modules/m-1", Some(&patch));
        hub
    })
    .await;
    let changed = tokio::time::timeout(Duration::from_secs(60), desired.changed()).await.unwrap();
    assert_eq!(changed, Ok(json!({ "while": "away", "$version": 2 })));
    module.send("", Message::new("back")).await.unwrap();
    let mut events = hub.events();
    assert_eq!(beside(move || events.next_event()).await["body"], "back");
}
