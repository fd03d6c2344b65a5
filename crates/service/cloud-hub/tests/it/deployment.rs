//! A manifest applied to one device.

use serde_json::json;
use skerry_model::json::JsonObject;
use skerry_model::{Channel, Delivery, ErrorCode, Json, ModuleName};

use crate::support::{World, device, id, object, world};

fn name(text: &str) -> ModuleName {
    ModuleName::parse(text).unwrap()
}

async fn apply(world: &World, to: &str, sections: Json, listed: &[&str]) -> Result<(), ErrorCode> {
    let desired: Vec<(ModuleName, JsonObject)> =
        object(sections).into_iter().map(|(key, section)| (name(&key), object(section))).collect();
    let listed: Vec<_> = listed.iter().map(|text| name(text)).collect();
    world.hub.apply_configuration(&device(to), &desired, &listed).await.map_err(|error| error.code)
}

async fn desired(world: &World, client: &str) -> (Json, u64) {
    let section = world.hub.twin(&id(client)).await.unwrap().twin.desired;
    (Json::Object(section.properties), section.version)
}

#[tokio::test(start_paused = true)]
async fn sections_replace_and_missing_modules_are_made() {
    let world = world().await;
    world.add_edge("edge", None).await;
    let mut agent = world.attach("edge/$edgeAgent").await;
    agent.listen(Channel::Desired).await;
    let sections = json!({"$edgeAgent": {"modules": {"sensor": {}, "filter": {}}}, "sensor": {"everySec": 5}});
    apply(&world, "edge", sections, &["sensor", "filter"]).await.unwrap();
    let modules = world.hub.list_modules(&device("edge")).await.unwrap();
    let made: Vec<_> = modules.iter().map(|m| (m.id.name.as_str(), m.managed_by.as_str())).collect();
    let managed = "iotEdge";
    assert_eq!(made, [("$edgeAgent", managed), ("$edgeHub", managed), ("filter", managed), ("sensor", managed)]);
    assert!(modules[3].authentication.keys().is_some());
    assert_eq!(desired(&world, "edge/sensor").await, (json!({"everySec": 5}), 2));
    assert_eq!(desired(&world, "edge/$edgeHub").await, (json!({}), 1), "what is not named stays as it is");
    assert!(matches!(agent.delivery().await, Delivery::Desired { version: 2, .. }));

    apply(&world, "edge", json!({"sensor": {"unit": "C"}}), &[]).await.unwrap();
    assert_eq!(desired(&world, "edge/sensor").await, (json!({"unit": "C"}), 3));
    assert_eq!(desired(&world, "edge/$edgeAgent").await.1, 2);
    agent.nothing_delivered().await;
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_cannot_be_changes_nothing() {
    let world = world().await;
    world.add_edge("edge", None).await;
    world.add_device("plain").await;
    assert_eq!(apply(&world, "ghost", json!({}), &[]).await, Err(ErrorCode::DeviceNotFound));
    assert_eq!(apply(&world, "plain", json!({}), &[]).await, Err(ErrorCode::ArgumentInvalid));
    assert_eq!(apply(&world, "edge", json!({"$other": {}}), &[]).await, Err(ErrorCode::ArgumentInvalid));
    let bad = json!({"$edgeHub": {"ok": 1}, "sensor": {"a.b": 1}});
    assert_eq!(apply(&world, "edge", bad, &["filter"]).await, Err(ErrorCode::ArgumentInvalid));
    let many: Vec<_> = (0..51).map(|n| format!("m{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(apply(&world, "edge", json!({}), &many).await, Err(ErrorCode::LimitExceeded));
    assert_eq!(world.hub.list_modules(&device("edge")).await.unwrap().len(), 2);
    assert_eq!(desired(&world, "edge/$edgeHub").await, (json!({}), 1));
}
