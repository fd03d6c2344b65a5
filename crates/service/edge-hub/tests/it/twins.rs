//! Twins: the copy that serves while the hub above is away, and what is brought into line afterwards.

use std::time::Duration;

use serde_json::json;
use skerry_model::{Channel, Delivery, ErrorCode, Json, Reply, Request};

use crate::world::{Client, World, object};

const FILTER: &str = "$iothub/twin/PATCH/properties/desired/";

/// Changes of desired properties that arrived.
fn changes(client: &Client) -> Vec<(Json, u64)> {
    let change = |delivery| match delivery {
        Delivery::Desired { patch, version } => (Json::Object((*patch).clone()), version),
        other => panic!("{other:?}"),
    };
    client.take().into_iter().map(change).collect()
}

async fn world() -> World {
    let world = World::with_routes(json!({})).await;
    world.cloud.desire("leaf", json!({ "a": 1, "b": { "c": 2 } }));
    world
}

#[tokio::test(start_paused = true)]
async fn the_first_read_waits_for_the_hub_above() {
    let world = world().await;
    world.cloud.book().twins.get_mut("leaf").unwrap().reported = object(json!({ "r": 9 }));
    let leaf = world.attach("leaf").await;
    let twin = world.twin(&leaf).await;
    assert_eq!(twin["desired"], json!({ "a": 1, "b": { "c": 2 }, "$version": 1 }));
    assert_eq!(twin["reported"]["r"], 9);
}

#[tokio::test(start_paused = true)]
async fn a_twin_that_is_followed_is_served_from_the_copy() {
    let world = world().await;
    let leaf = world.listener("leaf", Channel::Desired).await;
    world.until(|| world.cloud.listens("leaf", FILTER)).await;
    world.twin(&leaf).await;
    world.settle().await;
    let reads = world.cloud.book().twin_reads["leaf"];
    world.cloud.desire("leaf", json!({ "a": null, "d": 4 }));
    world.until(|| leaf.count() == 1).await;
    assert_eq!(changes(&leaf), [(json!({ "a": null, "d": 4 }), 2)]);
    assert_eq!(world.twin(&leaf).await["desired"], json!({ "b": { "c": 2 }, "d": 4, "$version": 2 }));
    assert_eq!(world.cloud.book().twin_reads["leaf"], reads);

    // One that is not followed may have changed.
    assert_eq!(world.submit(&leaf, Request::Unlisten(Channel::Desired)).await, Reply::Done);
    world.until(|| !world.cloud.listens("leaf", FILTER)).await;
    world.cloud.desire("leaf", json!({ "d": 5 }));
    assert_eq!(world.twin(&leaf).await["desired"]["d"], 5);
}

#[tokio::test(start_paused = true)]
async fn what_changed_between_two_sessions_of_a_client_is_not_missed() {
    let world = world().await;
    for round in 0..5 {
        let mut leaf = world.listener("leaf", Channel::Desired).await;
        world.until(|| world.cloud.listens("leaf", FILTER)).await;
        assert_eq!(world.twin(&leaf).await["desired"]["a"], round + 1);
        leaf.disconnect();
        world.until(|| !world.cloud.listens("leaf", FILTER)).await;
        world.cloud.desire("leaf", json!({ "a": round + 2 }));
        if round == 3 {
            // Long enough for the connection above to be closed; the next one counts from 1 again.
            world.until(|| !world.cloud.is_connected("leaf")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_hub_the_copy_serves_also_after_a_restart_and_the_difference_comes_later() {
    let world = world().await;
    let leaf = world.listener("leaf", Channel::Desired).await;
    world.twin(&leaf).await;
    world.cloud.leave();
    world.settle().await;
    assert_eq!(world.twin(&leaf).await["desired"]["b"], json!({ "c": 2 }));
    drop(leaf);
    let world = world.power_cut().await;
    let leaf = world.listener("leaf", Channel::Desired).await;
    assert_eq!(world.twin(&leaf).await["desired"], json!({ "a": 1, "b": { "c": 2 }, "$version": 1 }));

    world.cloud.desire("leaf", json!({ "a": null }));
    world.cloud.desire("leaf", json!({ "b": { "c": 3, "e": 5 } }));
    world.cloud.come_back();
    world.until(|| leaf.count() == 1).await;
    assert_eq!(changes(&leaf), [(json!({ "a": null, "b": { "c": 3, "e": 5 } }), 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_served_an_empty_twin_hears_of_the_real_one() {
    let world = world().await;
    world.cloud.leave();
    world.settle().await;
    let leaf = world.listener("leaf", Channel::Desired).await;
    assert_eq!(world.twin(&leaf).await["desired"], json!({ "$version": 1 }));
    world.cloud.desire("leaf", json!({ "z": 1 }));
    world.cloud.come_back();
    world.until(|| leaf.count() == 1).await;
    assert_eq!(changes(&leaf), [(json!({ "a": 1, "b": { "c": 2 }, "z": 1 }), 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_in_the_versions_is_filled_by_reading_anew() {
    let world = world().await;
    let leaf = world.listener("leaf", Channel::Desired).await;
    world.until(|| world.cloud.listens("leaf", FILTER)).await;
    world.twin(&leaf).await;
    world.settle().await;
    {
        let mut book = world.cloud.book();
        let twin = book.twins.get_mut("leaf").unwrap();
        twin.desired.insert("missed".to_owned(), 1.into());
        twin.desired_version += 1;
    }
    world.cloud.desire("leaf", json!({ "heard": 2 }));
    world.until(|| leaf.count() == 1).await;
    assert_eq!(changes(&leaf), [(json!({ "missed": 1, "heard": 2 }), 3)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_reported_offline_is_answered_seen_and_sent_later_in_one_piece() {
    let world = world().await;
    let leaf = world.attach("leaf").await;
    world.report(&leaf, json!({ "x": { "y": 1, "old": 1 }, "gone": 1 })).await;
    world.until(|| world.cloud.twin("leaf").reported_version == 1).await;
    world.settle().await;
    world.cloud.leave();
    world.report(&leaf, json!({ "gone": null, "x": null })).await;
    world.report(&leaf, json!({ "x": { "y": 2 }, "n": [1, 2] })).await;
    assert_eq!(world.twin(&leaf).await["reported"]["x"], json!({ "y": 2 }));
    let refused = Request::PatchReported { patch: object(json!({ "a.b": 1 })), if_version: None };
    let Reply::Failed(error) = world.submit(&leaf, refused).await else { panic!("taken") };
    assert_eq!(error.code, ErrorCode::ArgumentInvalid);
    let sent = world.cloud.book().patches.len();
    world.cloud.come_back();
    world.until(|| world.cloud.twin("leaf").reported_version == 2).await;
    world.settle().await;
    assert_eq!(world.cloud.book().patches.len(), sent + 1);
    assert_eq!(Json::Object(world.cloud.twin("leaf").reported), json!({ "x": { "y": 2 }, "n": [1, 2] }));
}

#[tokio::test(start_paused = true)]
async fn what_was_reported_before_a_restart_goes_up_although_the_client_does_not_come_back() {
    let world = world().await;
    world.cloud.leave();
    let leaf = world.attach("leaf").await;
    world.report(&leaf, json!({ "x": 1 })).await;
    drop(leaf);
    let world = world.power_cut().await;
    world.pass(Duration::from_secs(200)).await;
    world.cloud.come_back();
    world.until(|| world.cloud.twin("leaf").reported_version == 1).await;
    assert_eq!(Json::Object(world.cloud.twin("leaf").reported), json!({ "x": 1 }));
    world.until(|| !world.cloud.is_connected("leaf")).await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_the_hub_does_not_take_now_is_sent_again_and_one_it_never_takes_is_not() {
    let world = world().await;
    let leaf = world.attach("leaf").await;
    world.until(|| world.cloud.is_connected("leaf")).await;
    world.cloud.book().patch_status = Some(429);
    world.report(&leaf, json!({ "x": 1 })).await;
    let sent = |world: &World| world.cloud.book().patches.iter().filter(|(client, _)| client == "leaf").count();
    world.until(|| sent(&world) == 2).await;
    world.cloud.book().patch_status = None;
    world.until(|| world.cloud.twin("leaf").reported_version == 1).await;
    world.cloud.book().patch_status = Some(400);
    let before = sent(&world);
    world.report(&leaf, json!({ "x": 2 })).await;
    world.pass(Duration::from_secs(120)).await;
    assert_eq!(sent(&world), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_gives_no_twin_costs_a_client_no_more_than_the_wait() {
    let world = world().await;
    let leaf = world.attach("leaf").await;
    world.twin(&leaf).await;
    world.cloud.book().no_twins = true;
    let before = world.clock.now().monotonic;
    assert_eq!(world.twin(&leaf).await["desired"]["a"], 1);
    assert!(world.clock.now().monotonic.since(before) < Duration::from_secs(12));
}

#[tokio::test(start_paused = true)]
async fn reported_properties_are_messages_to_the_routes() {
    let route = "FROM /twinChangeNotifications INTO BrokeredEndpoint(\"/modules/b/inputs/twins\")";
    let world = World::with_routes(json!({ "twins": route })).await;
    let b = world.listener("edge/b", Channel::Inputs).await;
    let leaf = world.attach("leaf").await;
    world.report(&leaf, json!({ "x": 1 })).await;
    world.until(|| b.count() >= 1).await;
    let from_leaf = b
        .inputs()
        .into_iter()
        .map(|(_, message)| message)
        .find(|message| String::from_utf8_lossy(&message.properties).contains("%24.cdid=leaf"));
    let body: Json = serde_json::from_slice(&from_leaf.unwrap().body).unwrap();
    assert_eq!(body, json!({ "properties": { "reported": { "x": 1 } } }));
}
