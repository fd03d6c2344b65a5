//! Twins, methods and commands over REST.

use serde_json::json;
use skerry_gateway::{Lane as _, Published};
use skerry_model::{Channel, Delivery, MethodAnswer, Reply, Request};

use crate::support::{START, World, primary_key, world};

#[tokio::test(start_paused = true)]
async fn a_twin_is_read_merged_and_replaced() {
    let world = world().await;
    world.device("d", json!({})).await;
    let fresh = world.owner("GET", "/twins/d").send().await;
    assert_eq!(fresh.header("etag"), Some("\"AAAAAAAAAAE=\""));
    let fresh = fresh.json();
    assert_eq!((&fresh["version"], fresh.get("tags")), (&json!(2), None));

    let patch = json!({"tags": {"site": "a"}, "properties": {"desired": {"cfg": {"rate": 5}, "old": null}}});
    let written =
        world.owner("PATCH", "/twins/d").header("if-match", "\"AAAAAAAAAAE=\"").json(patch.clone()).send().await;
    assert_eq!(written.status, 200);
    let desired = &written.json()["properties"]["desired"];
    assert_eq!((&desired["cfg"], &desired["$version"]), (&json!({"rate": 5}), &json!(2)));
    assert_eq!(desired["$metadata"]["cfg"]["rate"]["$lastUpdatedVersion"], 2);
    let stale = world.owner("PATCH", "/twins/d").header("if-match", "AAAAAAAAAAE=").json(patch).send().await;
    assert_eq!((stale.status, stale.code().as_str()), (412, "PreconditionFailed"));

    // One tool sends back the whole document; Java cannot say PATCH.
    let mut whole = written.json();
    whole["properties"]["desired"]["more"] = json!(1);
    let java = world.owner("POST", "/twins/d").header("x-http-method-override", "PATCH").json(whole).send().await;
    assert_eq!((java.status, &java.json()["properties"]["desired"]["more"]), (200, &json!(1)));
    assert_eq!(world.owner("POST", "/twins/d").json(json!({})).status().await, 404);

    let put = world.owner("PUT", "/twins/d").json(json!({"properties": {"desired": {"only": 1}}})).send().await.json();
    assert_eq!((put["properties"]["desired"].get("cfg"), put.get("tags")), (None, None));
    let before = world.owner("GET", "/twins/d").send().await.json();
    let large = "x".repeat(4_000);
    let large: serde_json::Map<_, _> = (0..9).map(|n| (format!("k{n}"), json!(large))).collect();
    let refused = world.owner("PATCH", "/twins/d").json(json!({"properties": {"desired": large}})).send().await;
    assert_eq!(refused.status, 413);
    assert_eq!(world.owner("PATCH", "/twins/d").body("{\"tags\":1}").status().await, 400);
    assert_eq!(world.owner("GET", "/twins/d").send().await.json(), before);
}

async fn answer_one(world: &World, client: &str, payload: &'static [u8]) {
    let (lane, attachment) = world.attach(client).await;
    assert_eq!(lane.submit(attachment.key(), Request::Listen(Channel::Methods)).await, Reply::Done);
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let Some(Published { mut deliveries, .. }) = lane.published() else { continue };
        let Some((_, Delivery::Method(call))) = deliveries.pop() else { continue };
        assert_eq!(&call.payload[..], b"{\"delay\":3}");
        let answer = MethodAnswer { id: call.id, status: 404, payload: payload.into() };
        lane.submit(attachment.key(), Request::AnswerMethod(answer)).await;
        return;
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_is_called_by_a_service_and_by_a_module() {
    let world = world().await;
    let edge = world.device("edge", json!({"capabilities": {"iotEdge": true}})).await;
    for name in ["caller", "target"] {
        let target = format!("/devices/edge/modules/{name}");
        world.owner("PUT", &target).json(json!({"deviceId": "edge", "moduleId": name})).send().await;
    }
    let body = json!({"methodName": "m", "payload": {"delay": 3}, "responseTimeoutInSeconds": 10, "connectTimeoutInSeconds": 5});
    let (answer, ()) = tokio::join!(
        world.owner("POST", "/twins/edge/modules/target/methods").json(body.clone()).send(),
        answer_one(&world, "edge/target", b"[1]")
    );
    assert_eq!((answer.status, answer.json()), (200, json!({"status": 404, "payload": [1]})));
    assert_eq!(answer.header("x-ms-command-statuscode"), Some("404"));

    let caller = world.owner("GET", "/devices/edge/modules/caller").send().await.json();
    // Without `api-version`, as one device SDK does, and with the caller's own token.
    let as_module = |target: &str| {
        let ask = world.ask_exactly("POST", target).header("x-ms-edge-moduleid", "edge/caller");
        ask.client("edge/caller", primary_key(&caller)).json(body.clone())
    };
    let (answer, ()) =
        tokio::join!(as_module("/twins/edge/modules/target/methods").send(), answer_one(&world, "edge/target", b""));
    assert_eq!((answer.status, answer.json()), (200, json!({"status": 404, "payload": null})));

    let offline = as_module("/twins/edge/methods").send().await;
    assert_eq!((offline.status, offline.code().as_str()), (404, "DeviceNotOnline"));
    world.device("foreign", json!({})).await;
    assert_eq!(as_module("/twins/foreign/methods").send().await.code(), "DeviceNotFound");
    let with_device_token = world.ask("POST", "/twins/edge/methods").header("x-ms-edge-moduleid", "edge/caller");
    assert_eq!(with_device_token.client("edge", primary_key(&edge)).json(body.clone()).status().await, 401);
    let malformed = world.ask("POST", "/twins/edge/methods").header("x-ms-edge-moduleid", "edge").json(body);
    assert_eq!(malformed.status().await, 400);
    let unnamed = world.owner("POST", "/twins/edge/methods").json(json!({"payload": 1}));
    assert_eq!(unnamed.status().await, 400);
}

#[tokio::test(start_paused = true)]
async fn a_command_is_sent_and_purged() {
    let world = world().await;
    world.device("d", json!({})).await;
    let send = || {
        let ask = world.owner("POST", "/devices%2Fd%2Fmessages%2FdeviceBound").body("hello");
        ask.header("iothub-app-color", "red").header("iothub-app-ack", "full").header("iothub-app-messageid", "m-1")
    };
    let sent = send().send().await;
    assert_eq!((sent.status, sent.body.len()), (204, 0));
    let (lane, attachment) = world.attach("d").await;
    lane.submit(attachment.key(), Request::Listen(Channel::Commands)).await;
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    let Some((_, Delivery::Command { command, .. })) = lane.published().unwrap().deliveries.pop() else {
        panic!("a command")
    };
    let bag = command.message.bag();
    assert_eq!((&command.message.body[..], bag.get("color").as_deref()), (&b"hello"[..], Some("red")));
    assert_eq!((bag.get("$.mid").as_deref(), command.ack.as_str()), (Some("m-1"), "full"));
    assert_eq!(command.enqueued, START);
    drop((lane, attachment));
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    let device = world.owner("GET", "/devices/d").send().await.json();
    assert_eq!(device["cloudToDeviceMessageCount"], 1);
    let purged = world.owner("DELETE", "/devices/d/commands").send().await;
    assert_eq!(purged.json(), json!({"deviceId": "d", "moduleId": null, "totalMessagesPurged": 1}));

    for _ in 0..50 {
        assert_eq!(send().status().await, 204);
    }
    let full = send().send().await;
    assert_eq!((full.status, full.code().as_str()), (403, "DeviceMaximumQueueDepthExceeded"));
    let bad = world.owner("POST", "/devices/d/messages/deviceBound").header("iothub-ack", "maybe");
    assert_eq!(bad.status().await, 400);
    assert_eq!(world.owner("POST", "/devices/ghost/messages/deviceBound").status().await, 404);
    assert_eq!(world.owner("POST", "/devices/d/modules/m/messages/deviceBound").status().await, 501);
}
