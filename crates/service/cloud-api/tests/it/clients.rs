//! Telemetry by POST, and the questions of edge hubs.

use serde_json::{Value as Json, json};

use crate::support::{World, key, primary_key, world};

async fn events(world: &World) -> Vec<Json> {
    let answer = world.ask_exactly("GET", "/skerry/events?from=oldest").policy("service").send().await;
    let text = String::from_utf8(answer.body).unwrap();
    let mut lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.pop().expect("where to go on");
    lines
}

#[tokio::test(start_paused = true)]
async fn telemetry_comes_alone_or_in_a_batch() {
    let world = world().await;
    let device = world.device("d", json!({})).await;
    let post = || world.ask("POST", "/devices/d/messages/events").client("d", primary_key(&device));
    let one = post().header("iothub-app-color", "red").header("iothub-messageid", "1").body("alone").send().await;
    assert_eq!((one.status, one.body.len()), (204, 0));
    let batch = json!([
        {"body": "aGVsbG8=", "properties": {"iothub-app-n": "1"}},
        {"body": "plain", "base64Encoded": false},
    ]);
    let kind = "application/vnd.microsoft.iothub.json";
    assert_eq!(post().header("content-type", kind).json(batch).status().await, 204);
    let events = events(&world).await;
    let bodies: Vec<_> = events.iter().map(|event| event["body"].as_str().unwrap()).collect();
    assert_eq!(bodies, ["alone", "hello", "plain"]);
    assert_eq!((&events[0]["properties"]["color"], &events[0]["properties"]["$.mid"]), (&json!("red"), &json!("1")));

    assert_eq!(post().header("content-type", kind).body("{}").status().await, 400);
    assert_eq!(post().body(&"x".repeat(262_145)).status().await, 413);
    assert_eq!(post().header("content-type", kind).body(&"x".repeat(262_145)).status().await, 413);
    // A policy that may act for devices sends for any of them; a module's token for the module only.
    assert_eq!(world.ask("POST", "/devices/d/messages/events").policy("device").status().await, 204);
    assert_eq!(world.ask("POST", "/devices/ghost/messages/events").policy("device").status().await, 401);
    let module =
        world.owner("PUT", "/devices/d/modules/m").json(json!({"deviceId": "d", "moduleId": "m"})).send().await;
    let module = module.json();
    let as_module = |target: &str| world.ask("POST", target).client("d/m", primary_key(&module));
    assert_eq!(as_module("/devices/d/modules/m/messages/events").status().await, 204);
    assert_eq!(as_module("/devices/d/messages/events").status().await, 401);
}

#[tokio::test(start_paused = true)]
async fn an_edge_hub_learns_who_is_below_it() {
    let world = world().await;
    let edge = world.device("edge", json!({"capabilities": {"iotEdge": true}})).await;
    for n in 0..3 {
        world.device(&format!("leaf{n}"), json!({"deviceScope": edge["deviceScope"]})).await;
    }
    let keys = json!({"type": "sas", "symmetricKey": {"primaryKey": key(1), "secondaryKey": key(2)}});
    let hub = json!({"deviceId": "edge", "moduleId": "$edgeHub", "authentication": keys});
    assert_eq!(
        world.owner("PUT", "/devices/edge/modules/$edgeHub").header("if-match", "*").json(hub).status().await,
        200
    );
    let ask = |call: &str, body: Json| {
        let target = format!("/devices/edge/modules/%24edgeHub/{call}");
        world.ask("POST", &target).client("edge/$edgeHub", &key(1)).json(body)
    };
    let mut seen = Vec::new();
    let mut continuation = Json::Null;
    loop {
        let body = json!({"pageSize": 2, "continuationLink": continuation, "authChain": "edge"});
        let answer = ask("devicesAndModulesInTargetDeviceScope", body).send().await;
        assert_eq!(answer.status, 200);
        let answer = answer.json();
        seen.extend(answer["devices"].as_array().unwrap().iter().map(|d| d["deviceId"].as_str().unwrap().to_owned()));
        continuation = answer["continuationLink"].clone();
        if continuation.is_null() {
            break;
        }
        assert!(continuation.as_str().unwrap().starts_with("/devices/edge/"));
    }
    assert_eq!(seen, ["edge", "leaf0", "leaf1", "leaf2"]);

    // From before there were nested gateways: the link is followed.
    let mut target =
        "/devices/edge/modules/$edgeHub/devicesAndModulesInDeviceScope?deviceCount=3&api-version=1".to_owned();
    let mut count = 0;
    while !target.is_empty() {
        let answer = world.ask_exactly("GET", &target).client("edge/$edgeHub", &key(1)).send().await.json();
        count += answer["devices"].as_array().unwrap().len();
        target = answer["continuationLink"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!(count, 4);

    let one =
        ask("getDeviceAndModuleOnBehalfOf", json!({"targetDeviceId": "leaf1", "authChain": "leaf1;edge"})).send().await;
    assert_eq!(one.json()["devices"][0]["deviceId"], "leaf1");
    assert!(!primary_key(&one.json()["devices"][0]).is_empty());
    let put = json!({"authChain": "leaf1;edge", "module": {"moduleId": "m", "deviceId": "leaf1"}});
    let made = ask("putModuleOnBehalfOf", put.clone()).send().await.json();
    assert_eq!(ask("putModuleOnBehalfOf", put).send().await.json()["generationId"], made["generationId"]);
    let modules = ask("getModulesOnTargetDevice", json!({"authChain": "leaf1;edge"})).send().await.json();
    assert_eq!(modules.as_array().map(Vec::len), Some(1));
    let module = json!({"authChain": "leaf1;edge", "targetModuleId": "m"});
    assert_eq!(ask("getModuleOnBehalfOf", module).send().await.json()["moduleId"], "m");
    let delete = json!({"authChain": "leaf1;edge", "moduleId": "m"});
    assert_eq!(ask("deleteModuleOnBehalfOf", delete).status().await, 204);

    world.device("stranger", json!({})).await;
    let foreign = json!({"targetDeviceId": "stranger", "authChain": "stranger;edge"});
    assert_eq!(ask("getDeviceAndModuleOnBehalfOf", foreign).status().await, 401);
    let with_device_token = world.ask("POST", "/devices/edge/modules/$edgeHub/getModulesOnTargetDevice");
    let with_device_token = with_device_token.client("edge", primary_key(&edge)).json(json!({"authChain": "edge"}));
    assert_eq!(with_device_token.status().await, 401);
}
