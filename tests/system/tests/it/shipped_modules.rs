//! The modules that come with Skerry, run by an edge as processes.

use serde_json::{Value, json};
use skerry_testkit::{Edge, Events, Hub, eventually, program};

fn module(name: &str, env: &Value) -> Value {
    json!({
        "type": "process", "version": "1", "status": "running", "restartPolicy": "always",
        "settings": { "command": program(name) }, "env": env,
    })
}

fn place(modules: &Value, routes: &Value) -> (Hub, Edge) {
    let hub = Hub::start();
    let edge = Edge::start(&hub, "edge-1");
    edge.deploy(&hub, modules, routes);
    edge.wait_until_listening();
    (hub, edge)
}

fn set_desired(hub: &Hub, module: &str, desired: &Value) {
    let patch = json!({ "properties": { "desired": desired } });
    hub.rest().call("PATCH", &format!("/twins/edge-1/modules/{module}"), Some(&patch));
}

fn reported(hub: &Hub, module: &str) -> Value {
    hub.rest().call("GET", &format!("/twins/edge-1/modules/{module}"), None)["properties"]["reported"].take()
}

fn next_of(events: &mut Events, module: &str) -> Value {
    events.next_where("event", |event| event["moduleId"] == module)
}

fn body(event: &Value) -> Value {
    serde_json::from_str(event["body"].as_str().unwrap_or_default()).unwrap_or_default()
}

#[test]
fn host_metrics_measures_this_machine_as_often_as_the_twin_says() {
    let modules = json!({ "host-metrics": module("host-metrics", &json!({})) });
    let (hub, _edge) = place(&modules, &json!({ "up": "FROM /messages/* INTO $upstream" }));
    let mut events = hub.events();
    let first = next_of(&mut events, "host-metrics");
    assert_eq!(first["properties"]["$.on"], "metrics");
    let measured = body(&first);
    assert!(measured["memory"]["totalBytes"].as_u64().is_some_and(|bytes| 1_000_000 < bytes), "{measured}");
    assert!(measured["cpu"]["cores"].as_u64().is_some_and(|cores| 1 <= cores), "{measured}");

    set_desired(&hub, "host-metrics", &json!({ "intervalSeconds": 0.2, "metrics": { "disks": false, "gpu": true } }));
    let quick = events.next_where("measurement without disks", |event| {
        event["moduleId"] == "host-metrics"
            && body(event).get("disks").is_none()
            && body(event)["cpu"]["percent"].is_number()
    });
    let percent = body(&quick)["cpu"]["percent"].as_f64();
    assert!(percent.is_some_and(|percent| (0.0..=100.0).contains(&percent)), "{quick}");
    eventually("the module says what is in force", || {
        let reported = reported(&hub, "host-metrics");
        let said = reported["intervalSeconds"] == 0.2
            && reported["configurationProblem"].as_str().is_some_and(|problem| problem.contains("metrics.gpu"));
        said.then_some(())
    });
}

#[test]
fn threshold_filter_lets_through_what_crosses_the_limit_set_by_twin_and_by_method() {
    let sensor = json!({ "MessageCount": { "value": "-1" }, "MessageDelay": { "value": "00:00:00.1" } });
    let modules = json!({
        "sensor": module("simulated-temperature-sensor", &sensor),
        "filter": module("threshold-filter", &json!({})),
    });
    let routes = json!({
        "measured": "FROM /messages/modules/sensor/outputs/temperatureOutput INTO BrokeredEndpoint(\"/modules/filter/inputs/input\")",
        "alerts": "FROM /messages/modules/filter/outputs/output INTO $upstream",
    });
    let (hub, _edge) = place(&modules, &routes);
    let mut events = hub.events();
    set_desired(&hub, "filter", &json!({ "path": "machine.temperature", "above": 25 }));
    let alert = next_of(&mut events, "filter");
    assert_eq!(alert["properties"]["MessageType"], "Alert");
    assert_eq!(alert["properties"]["limit"], "25");
    assert!(alert["properties"]["sequenceNumber"].is_string(), "what the sensor said is kept: {alert}");
    assert!(body(&alert)["machine"]["temperature"].as_f64().is_some_and(|degrees| 25.0 < degrees), "{alert}");

    let call = json!({ "methodName": "setLimits", "payload": { "above": null, "below": 1000 } });
    let answer = hub.rest().call("POST", "/twins/edge-1/modules/filter/methods", Some(&call));
    assert_eq!(answer["payload"], json!({ "path": "machine.temperature", "above": null, "below": 1000.0 }));
    events.next_where("alert of the other side", |event| {
        event["moduleId"] == "filter" && event["properties"]["limit-side"] == "below"
    });
    let wrong = json!({ "methodName": "setLimits", "payload": { "above": "hot" } });
    let answer = hub.rest().call("POST", "/twins/edge-1/modules/filter/methods", Some(&wrong));
    assert_eq!(answer["status"], 400);
}

#[test]
fn the_simulated_sensor_counts_stops_and_is_reset() {
    let sensor = json!({ "MessageCount": { "value": "5" }, "MessageDelay": { "value": "00:00:00.05" } });
    let modules = json!({ "sensor": module("simulated-temperature-sensor", &sensor) });
    let (hub, _edge) = place(&modules, &json!({ "up": "FROM /messages/* INTO $upstream" }));
    let mut events = hub.events();
    for number in 1..=5 {
        let event = next_of(&mut events, "sensor");
        assert_eq!(event["properties"]["sequenceNumber"], number.to_string());
        assert_eq!(event["properties"]["$.ct"], "application/json");
    }
    let call = json!({ "methodName": "reset" });
    let answer = hub.rest().call("POST", "/twins/edge-1/modules/sensor/methods", Some(&call));
    assert_eq!(answer["status"], 200, "it stays up after the last message");
    assert_eq!(events.all_now(), Vec::<Value>::new());
    // The edge passes reported properties on when it comes round to it.
    eventually("the sensor's report at the hub", || (reported(&hub, "sensor")["SendData"] == true).then_some(()));
}
