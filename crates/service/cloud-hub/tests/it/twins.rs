//! Twins from both sides.

use std::sync::Arc;

use serde_json::json;
use skerry_gateway::{Backend as _, Lane as _, Terms};
use skerry_model::{Channel, Delivery, ErrorCode, Json, Precondition, Reply, Request, TwinUpdate};

use crate::support::{Client, World, id, object, own_actor, world};

async fn device_view(client: &Client) -> Json {
    match client.submit(Request::GetTwin).await {
        Reply::Twin(view) => view,
        other => panic!("{other:?}"),
    }
}

async fn report(client: &Client, patch: Json, if_version: Option<u64>) -> Reply {
    client.submit(Request::PatchReported { patch: object(patch), if_version }).await
}

async fn want(world: &World, client: &str, desired: Json) -> Result<u64, ErrorCode> {
    let update = TwinUpdate { tags: None, desired: Some(object(desired)) };
    let view = world.hub.patch_twin(&id(client), &update, &Precondition::Absent).await;
    view.map(|view| view.twin.desired.version).map_err(|error| error.code)
}

fn desired(patch: Json, version: u64) -> Delivery {
    Delivery::Desired { patch: Arc::new(object(patch)), version }
}

#[tokio::test(start_paused = true)]
async fn a_client_reads_both_sections_and_writes_reported() {
    let world = world().await;
    world.add_device("d").await;
    let client = world.attach("d").await;
    assert_eq!(device_view(&client).await, json!({"desired": {"$version": 1}, "reported": {"$version": 1}}));
    assert_eq!(report(&client, json!({"a": {"b": 1}}), None).await, Reply::Reported { version: Some(2) });
    want(&world, "d", json!({"rate": 5})).await.unwrap();
    let view = json!({"desired": {"rate": 5, "$version": 2}, "reported": {"a": {"b": 1}, "$version": 2}});
    assert_eq!(device_view(&client).await, view);
    assert!(
        matches!(report(&client, json!({"a.b": 1}), None).await, Reply::Failed(e) if e.code == ErrorCode::ArgumentInvalid)
    );
    assert!(
        matches!(report(&client, json!({"a": 2}), Some(9)).await, Reply::Failed(e) if e.code == ErrorCode::PreconditionFailed)
    );
    assert_eq!(device_view(&client).await, view);
}

#[tokio::test(start_paused = true)]
async fn whoever_listens_hears_of_every_version_in_order() {
    let world = world().await;
    world.add_device("d").await;
    let mut client = world.attach("d").await;
    want(&world, "d", json!({"before": 1})).await.unwrap();
    client.nothing_delivered().await;
    client.listen(Channel::Desired).await;
    let writes: Vec<_> = (0..10).map(|n| want(&world, "d", json!({ "n": n }))).collect();
    let mut versions = Vec::new();
    for write in writes {
        versions.push(write.await.unwrap());
    }
    want(&world, "d", json!({"n": null})).await.unwrap();
    for version in versions {
        assert_eq!(client.delivery().await, desired(json!({"n": version - 3}), version));
    }
    assert_eq!(client.delivery().await, desired(json!({"n": null}), 13));
    let tags = TwinUpdate { tags: Some(object(json!({"site": "a"}))), desired: None };
    world.hub.patch_twin(&id("d"), &tags, &Precondition::Absent).await.unwrap();
    client.nothing_delivered().await;

    let whole = TwinUpdate { tags: None, desired: Some(object(json!({"only": true}))) };
    world.hub.replace_twin(&id("d"), &whole, &Precondition::Absent).await.unwrap();
    let told = json!({"only": true, "before": null});
    assert_eq!(client.delivery().await, desired(told, 14), "what is gone is named: clients merge what they are told");
    assert_eq!(client.submit(Request::Unlisten(Channel::Desired)).await, Reply::Done);
    want(&world, "d", json!({"x": 1})).await.unwrap();
    client.nothing_delivered().await;
}

#[tokio::test(start_paused = true)]
async fn writers_at_the_same_time_lose_nothing() {
    let world = world().await;
    world.add_device("d").await;
    let mut client = world.attach("d").await;
    client.listen(Channel::Desired).await;
    let write = async |key: &str| {
        for n in 0..5 {
            want(&world, "d", json!({ key: n })).await.unwrap();
            report(&world.attach("d").await, json!({ key: n }), None).await;
        }
    };
    let service = async |key: &str| {
        for n in 0..5 {
            want(&world, "d", json!({ key: n })).await.unwrap();
        }
    };
    tokio::join!(service("a"), service("b"), service("c"));
    let mut seen = Vec::new();
    for _ in 0..15 {
        match client.delivery().await {
            Delivery::Desired { version, .. } => seen.push(version),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, (2..17).collect::<Vec<_>>());
    write("r").await;
    let view = world.hub.twin(&id("d")).await.unwrap();
    assert_eq!(Json::Object(view.twin.reported.properties), json!({"r": 4}));
    assert_eq!(Json::Object(view.twin.desired.properties), json!({"a": 4, "b": 4, "c": 4, "r": 4}));
}

#[tokio::test(start_paused = true)]
async fn a_service_writes_conditionally_by_the_twins_etag() {
    let world = world().await;
    world.add_edge("edge", None).await;
    let twin = world.hub.twin(&id("edge/$edgeAgent")).await.unwrap().twin;
    let update = TwinUpdate { tags: None, desired: Some(object(json!({"a": 1}))) };
    let fresh = Precondition::Etag(twin.etag());
    // What the client reports meanwhile does not get in the way.
    report(&world.attach("edge/$edgeAgent").await, json!({"r": 1}), None).await;
    let written = world.hub.patch_twin(&id("edge/$edgeAgent"), &update, &fresh).await.unwrap();
    assert_eq!(written.twin.desired.version, 2);
    let stale = world.hub.patch_twin(&id("edge/$edgeAgent"), &update, &fresh).await.unwrap_err();
    assert_eq!(stale.code, ErrorCode::PreconditionFailed);
    let missing = |client: &'static str| async { want(&world, client, json!({})).await };
    assert_eq!(missing("ghost").await, Err(ErrorCode::DeviceNotFound));
    assert_eq!(missing("edge/ghost").await, Err(ErrorCode::ModuleNotFound));
}

#[tokio::test(start_paused = true)]
async fn an_announced_model_is_kept() {
    let world = world().await;
    world.add_device("d").await;
    let lane = world.hub.lane(std::task::Waker::noop().clone());
    let terms = Terms { window: 1, model_id: Some("dtmi:a;1".into()) };
    drop(lane.attach(&own_actor("d"), id("d"), None, terms).await.unwrap());
    world.attach("d").await;
    assert_eq!(world.hub.twin(&id("d")).await.unwrap().model_id.as_deref(), Some("dtmi:a;1"));
    let too_long = Terms { window: 1, model_id: Some("d".repeat(257).into()) };
    assert!(lane.attach(&own_actor("d"), id("d"), None, too_long).await.is_err());
}
