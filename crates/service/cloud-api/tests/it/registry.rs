//! Devices and modules over REST, from both sides.

use serde_json::json;

use crate::support::{key, primary_key, world};

#[tokio::test(start_paused = true)]
async fn a_device_is_made_read_changed_and_deleted() {
    let world = world().await;
    // What the Python and az clients send: empty keys mean that the hub makes them.
    let keys = json!({"type": "sas", "symmetricKey": {"primaryKey": "", "secondaryKey": ""}});
    let made = world.device("d", json!({"status": "enabled", "authentication": keys})).await;
    assert_eq!(primary_key(&made).len(), 44);
    let read = world.owner("GET", "/devices/d").send().await;
    assert_eq!(read.json(), made);
    assert_eq!(read.header("etag").unwrap(), format!("\"{}\"", made["etag"].as_str().unwrap()));
    let mut changed = made.clone();
    changed["status"] = json!("disabled");
    let answer = world.owner("PUT", "/devices/d").header("if-match", "\"*\"").json(changed).send().await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("disabled")));
    assert_eq!(primary_key(&answer.json()), primary_key(&made));

    let list = world.owner("GET", "/devices?top=5").send().await.json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(world.owner("GET", "/devices?top=x").status().await, 400);
    let statistics = world.owner("GET", "/statistics/devices").send().await.json();
    assert_eq!(statistics, json!({"totalDeviceCount": 1, "enabledDeviceCount": 0, "disabledDeviceCount": 1}));
    let _attached = world.device("e", json!({})).await;
    let _session = world.attach("e").await;
    let connected = world.owner("GET", "/statistics/service").send().await.json();
    assert_eq!(connected, json!({"connectedDeviceCount": 1}));

    let deleted = world.owner("DELETE", "/devices/d").send().await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert_eq!(world.owner("GET", "/devices/d").send().await.code(), "DeviceNotFound");
}

#[tokio::test(start_paused = true)]
async fn malformed_documents_change_nothing() {
    let world = world().await;
    for body in ["", "[]", "{", "{\"deviceId\":\"other\"}", "{\"deviceId\":\"d\",\"status\":\"asleep\"}"] {
        assert_eq!(world.owner("PUT", "/devices/d").body(body).status().await, 400, "{body}");
    }
    assert_eq!(world.owner("PUT", "/devices/d%20d").body("{}").status().await, 400);
    assert_eq!(world.owner("GET", "/devices/d").status().await, 404);
}

#[tokio::test(start_paused = true)]
async fn an_edge_meets_its_hub_for_the_first_time() {
    let world = world().await;
    let edge = world.device("edge", json!({"capabilities": {"iotEdge": true}})).await;
    let other = world.device("other", json!({})).await;
    let own = |method: &str, target: &str| world.ask(method, target).client("edge", primary_key(&edge));
    let agent = own("GET", "/devices/edge/modules/$edgeAgent").send().await.json();
    assert_eq!((&agent["authentication"]["type"], &agent["managedBy"]), (&json!("none"), &json!("iotEdge")));

    let keys = json!({"type": "sas", "symmetricKey": {"primaryKey": key(1), "secondaryKey": key(2)}});
    let document = json!({"moduleId": "$edgeAgent", "deviceId": "edge", "authentication": keys});
    let put = own("PUT", "/devices/edge/modules/%24edgeAgent").header("if-match", "*").json(document).send().await;
    assert_eq!(put.status, 200);
    let put = put.json();
    assert_eq!((&put["generationId"], &put["managedBy"]), (&agent["generationId"], &json!("iotEdge")));
    assert_eq!(primary_key(&put), key(1));

    let module = json!({"moduleId": "sensor", "deviceId": "edge", "managedBy": "iotEdge"});
    let made = own("PUT", "/devices/edge/modules/sensor").json(module.clone()).send().await;
    assert_eq!((made.status, &made.json()["managedBy"]), (200, &json!("iotEdge")));
    assert_eq!(own("PUT", "/devices/edge/modules/sensor").json(module).status().await, 409);
    let list = own("GET", "/devices/edge/modules").send().await.json();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|m| m["moduleId"].as_str().unwrap()).collect();
    assert_eq!(names, ["$edgeAgent", "$edgeHub", "sensor"]);
    assert_eq!(own("DELETE", "/devices/edge/modules/sensor").header("if-match", "*").status().await, 204);
    assert_eq!(own("DELETE", "/devices/edge/modules/$edgeHub").header("if-match", "*").status().await, 403);

    // Nobody else's token opens these, and this one nothing else.
    let foreign = world.ask("GET", "/devices/edge/modules").client("other", primary_key(&other));
    assert_eq!(foreign.status().await, 401);
    assert_eq!(own("GET", "/devices/edge").status().await, 401);
    assert_eq!(own("GET", "/twins/edge").status().await, 401);
    assert_eq!(own("GET", "/devices/other/modules").status().await, 401);
}

#[tokio::test(start_paused = true)]
async fn a_manifest_is_applied_and_its_modules_are_there_at_once() {
    let world = world().await;
    world.device("edge", json!({"capabilities": {"iotEdge": true}})).await;
    let content = json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {"sensor": {}, "silent": {}}}},
        "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}},
        "sensor": {"properties.desired": {"everySec": 5}},
    }});
    let applied = world.owner("POST", "/devices/edge/applyConfigurationContent").json(content).send().await;
    assert_eq!((applied.status, applied.body.len()), (204, 0));
    let list = world.owner("GET", "/devices/edge/modules").send().await.json();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|m| m["moduleId"].as_str().unwrap()).collect();
    assert_eq!(names, ["$edgeAgent", "$edgeHub", "sensor", "silent"]);
    let twin = world.owner("GET", "/twins/edge/modules/sensor").send().await.json();
    assert_eq!(twin["properties"]["desired"]["everySec"], 5);
    let twin = world.owner("GET", "/twins/edge/modules/$edgeAgent").send().await.json();
    assert_eq!(twin["properties"]["desired"]["$version"], 2);

    let bad = json!({"modulesContent": {"sensor": {"properties.desired": {"a.b": 1}}}});
    assert_eq!(world.owner("POST", "/devices/edge/applyConfigurationContent").json(bad).status().await, 400);
    let unread = world.ask("POST", "/devices/edge/applyConfigurationContent").policy("service").body("{}");
    assert_eq!(unread.status().await, 401);
}
