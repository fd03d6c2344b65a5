//! The configuration of the hub, its report, and who is in its scope.

use std::time::Duration;

use serde_json::json;
use skerry_gateway::{Backend, Claim, Closed, Credential, Proof, TokenSigner};
use skerry_model::{Channel, Json, SasToken, Timestamp};

use crate::world::{Client, OWN, Setup, World, id, routes};

const TO_B: &str = "FROM /messages/* INTO BrokeredEndpoint(\"/modules/b/inputs/in\")";

fn reported(world: &World) -> Json {
    Json::Object(world.cloud.twin(OWN).reported)
}

#[tokio::test(start_paused = true)]
async fn a_document_with_a_fault_is_reported_and_changes_nothing_not_even_after_a_restart() {
    let world = World::with_routes(json!({ "toB": TO_B })).await;
    world.until(|| reported(&world)["lastDesiredVersion"] == 1).await;
    assert_eq!(reported(&world)["lastDesiredStatus"], json!({ "code": 200, "description": "" }));
    world.cloud.desire(OWN, json!({ "routes": { "toB": "FROM nowhere", "more": TO_B } }));
    world.until(|| reported(&world)["lastDesiredVersion"] == 2).await;
    assert_eq!(reported(&world)["lastDesiredStatus"]["code"], 400);
    assert_ne!(reported(&world)["lastDesiredStatus"]["description"], "");
    let leaf = world.attach("leaf").await;
    world.send(&leaf, "", "one").await;
    drop(leaf);
    world.cloud.leave();
    let world = world.power_cut().await;
    world.run(world.hub.configured()).await;
    let leaf = world.attach("leaf").await;
    world.send(&leaf, "", "two").await;
    let b = world.listener("edge/b", Channel::Inputs).await;
    world.until(|| b.count() == 2).await;
    assert_eq!(b.process(), ["one", "two"]);

    world.cloud.come_back();
    world.cloud.desire(OWN, json!({ "routes": { "toB": null, "more": null } }));
    world.until(|| reported(&world)["lastDesiredStatus"]["code"] == 200).await;
    assert_eq!(leaf.append("", &["x"]), Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_hub_without_a_configuration_says_that_it_waits_and_a_bad_one_is_named() {
    let log = skerry_sim::Log::read_along();
    let world = World::bare(Setup::default()).await;
    world.until(|| reported(&world)["lastDesiredVersion"] == 1).await;
    assert_eq!(reported(&world)["lastDesiredStatus"]["code"], 400, "as the original says it");
    assert_eq!(log.lines_with("there is no configuration for this hub yet").len(), 1);
    assert_eq!(log.lines_with("refused"), Vec::<String>::new());
    world.cloud.desire(OWN, json!({ "routes": { "toB": "FROM nowhere" } }));
    world.until(|| reported(&world)["lastDesiredVersion"] == 2).await;
    assert_eq!(log.lines_with("the configuration is refused").len(), 1);
    assert_eq!(log.lines_with("there is no configuration for this hub yet").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_configuration_that_is_known() {
    let world = World::bare(Setup::default()).await;
    world.settle().await;
    let configured = tokio::time::timeout(Duration::ZERO, world.hub.configured()).await;
    assert!(configured.is_err());
    world.cloud.desire(OWN, routes(json!({}), 60));
    world.run(world.hub.configured()).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_here_is_reported_and_forgotten_at_the_next_start() {
    let world = World::with_routes(json!({})).await;
    let mut a = world.attach("edge/a").await;
    let mut leaf = world.attach("leaf").await;
    world.until(|| reported(&world)["clients"]["leaf"]["status"] == "Connected").await;
    assert_eq!(reported(&world)["clients"]["edge/a"]["status"], "Connected");
    a.disconnect();
    leaf.disconnect();
    world.until(|| reported(&world)["clients"]["leaf"].is_null()).await;
    assert_eq!(reported(&world)["clients"]["edge/a"]["status"], "Disconnected");
    world.cloud.leave();
    let world = world.power_cut().await;
    let _b = world.attach("edge/b").await;
    world.pass(Duration::from_secs(10)).await;
    world.cloud.come_back();
    world.until(|| !reported(&world)["clients"]["edge/b"].is_null()).await;
    assert_eq!(reported(&world)["clients"].as_object().unwrap().len(), 1, "{}", reported(&world)["clients"]);
}

/// The key that signed [`token`], in base64, and one that did not.
const KEY: &str = "dGhlIGtleSBvZiB0aGUgbGVhZiBkZXZpY2UsIGxvbmc=";
const OTHER_KEY: &str = "YW5vdGhlciBrZXkgb2YgdGhlIGxlYWYsIGFzIGxvbmc=";

fn leaf(key: &str, status: &str) -> Json {
    json!({
        "deviceId": "leaf", "generationId": "1", "status": status, "capabilities": { "iotEdge": false },
        "authentication": { "type": "sas", "symmetricKey": { "primaryKey": key, "secondaryKey": key } },
    })
}

/// A token of `leaf`, signed with [`KEY`].
fn token(device: &str) -> Proof {
    let text = "SharedAccessSignature sr=hub.example%2Fdevices%2Fleaf&sig=q1s6SO3TeiJz6hXwNJl6IWRanE8tBUNTaP%2B8vxsJoZk%3D&se=1800000000";
    let token: SasToken = skerry_dialect::sas::parse(text).unwrap();
    assert_eq!(token.expiry, Timestamp::from_unix_seconds(1_800_000_000));
    let credential = Credential::Token { token, signed_by: TokenSigner::Device };
    Proof { claim: Claim::Client(id(device)), credential }
}

fn asked(world: &World) -> usize {
    world.cloud.book().scope_calls.iter().filter(|call| call.0 == "getDeviceAndModuleOnBehalfOf").count()
}

async fn bare_with(device: Json) -> World {
    let world = World::bare(Setup::default()).await;
    world.cloud.book().devices[1] = device;
    world.until(|| !world.cloud.book().scope_calls.is_empty()).await;
    world.settle().await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_client_of_the_scope_is_let_in_without_asking_also_after_a_restart_without_the_hub() {
    let world = bare_with(leaf(KEY, "enabled")).await;
    world.run(world.hub.authenticate(token("leaf"))).await.unwrap();
    assert_eq!(asked(&world), 0);
    world.cloud.leave();
    let world = world.power_cut().await;
    let actor = world.run(world.hub.authenticate(token("leaf"))).await.unwrap();
    assert_eq!(actor.expires, Some(Timestamp::from_unix_seconds(1_800_000_000)));
}

#[tokio::test(start_paused = true)]
async fn a_changed_key_is_asked_for_but_not_more_often_than_every_two_minutes() {
    let world = bare_with(leaf(OTHER_KEY, "enabled")).await;
    for _ in 0..3 {
        world.run(world.hub.authenticate(token("leaf"))).await.unwrap_err();
    }
    assert_eq!(asked(&world), 1);
    world.cloud.book().devices[1] = leaf(KEY, "enabled");
    world.pass(Duration::from_secs(100)).await;
    world.run(world.hub.authenticate(token("leaf"))).await.unwrap_err();
    world.pass(Duration::from_secs(25)).await;
    world.run(world.hub.authenticate(token("leaf"))).await.unwrap();
    assert_eq!(asked(&world), 2);
    world.run(world.hub.authenticate(token("nobody"))).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn who_is_deleted_or_disabled_is_put_out_at_the_next_look() {
    let world = bare_with(leaf(KEY, "enabled")).await;
    let (one, two) = (world.attach("leaf").await, world.attach("leaf2").await);
    let a = world.attach("edge/a").await;
    world.until(|| world.cloud.is_connected("leaf2")).await;
    {
        let mut book = world.cloud.book();
        book.devices[1] = leaf(KEY, "disabled");
        book.devices.remove(2);
    }
    world.pass(Duration::from_secs(3_700)).await;
    assert_eq!((one.closed(), two.closed(), a.closed()), (Some(Closed::Disabled), Some(Closed::Deleted), None));
    assert!(!world.cloud.is_connected("leaf2"));
    world.run(world.hub.authenticate(token("leaf"))).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn who_the_hub_above_refuses_is_looked_at_again_before_the_next_look_is_due() {
    let world = bare_with(leaf(KEY, "enabled")).await;
    let (one, two) = (world.attach("leaf").await, world.attach("leaf2").await);
    let a = world.attach("edge/a").await;
    for client in ["leaf", "leaf2", "edge/a"] {
        world.until(|| world.cloud.is_connected(client)).await;
    }
    {
        let mut book = world.cloud.book();
        book.devices[1] = leaf(KEY, "disabled");
        book.devices.remove(2);
        book.refused.extend(["leaf".to_owned(), "leaf2".to_owned(), "edge/a".to_owned()]);
    }
    // A connection that breaks says nothing about who may come in; a refusal does.
    world.cloud.drop_connection("leaf");
    world.pass(Duration::from_secs(5)).await;
    assert_eq!((one.closed(), two.closed()), (Some(Closed::Disabled), None));
    // One who is deleted is not told about; the whole scope is read for it, and not at once again.
    world.cloud.drop_connection("leaf2");
    world.pass(Duration::from_secs(35)).await;
    assert_eq!(two.closed(), Some(Closed::Deleted));
    // Who is as before stays, whatever the reason of the refusal.
    world.cloud.drop_connection("edge/a");
    world.pass(Duration::from_secs(120)).await;
    assert_eq!(a.closed(), None);
}

/// Somebody who comes in with [`token`].
async fn let_in(world: &World) -> Client {
    let actor = world.run(world.hub.authenticate(token("leaf"))).await.unwrap();
    world.attach_as(&world.lane(), &actor, 10).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_came_in_with_a_key_that_is_no_longer_good_is_put_out_at_the_next_look() {
    let world = bare_with(leaf(KEY, "enabled")).await;
    let (client, other) = (let_in(&world).await, world.attach("leaf2").await);
    let actor = world.run(world.hub.authenticate(token("leaf"))).await.unwrap();

    // Its own key is still good as the second one.
    let mut rolled = leaf(OTHER_KEY, "enabled");
    rolled["authentication"]["symmetricKey"]["secondaryKey"] = KEY.into();
    world.cloud.book().devices[1] = rolled;
    world.pass(Duration::from_secs(3_700)).await;
    assert_eq!(client.closed(), None);

    world.cloud.book().devices[1] = leaf(OTHER_KEY, "enabled");
    world.pass(Duration::from_secs(3_700)).await;
    assert_eq!((client.closed(), other.closed()), (Some(Closed::Revoked), None));
    // Neither is somebody let in who was authenticated before.
    let denied = world.attach_as(&world.lane(), &actor, 10).await.err().unwrap();
    assert_eq!(denied.detail, "leaf: its credentials are not valid any more");
}

#[tokio::test(start_paused = true)]
async fn a_single_look_at_an_identity_puts_out_who_no_longer_fits() {
    let world = bare_with(leaf(KEY, "enabled")).await;
    let client = let_in(&world).await;
    world.cloud.book().devices[1] = leaf(OTHER_KEY, "enabled");
    // Somebody shows a token that does not fit what is known, so the hub above is asked.
    let mut foreign = token("leaf");
    let Credential::Token { token, .. } = &mut foreign.credential else { unreachable!() };
    token.signature[0] ^= 1;
    world.run(world.hub.authenticate(foreign)).await.unwrap_err();
    world.settle().await;
    assert_eq!((asked(&world), client.closed()), (1, Some(Closed::Revoked)));

    let world = bare_with(leaf(KEY, "enabled")).await;
    let client = let_in(&world).await;
    world.cloud.book().devices.remove(1);
    world.pass(Duration::from_secs(3_700)).await;
    assert_eq!(client.closed(), Some(Closed::Deleted));
}
