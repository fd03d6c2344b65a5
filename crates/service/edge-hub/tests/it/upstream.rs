//! Messages to the hub above: order, outages, and identities it does not let in.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{Client, World};

fn up() -> Value {
    json!({ "up": "FROM /messages/* INTO $upstream" })
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

async fn send_numbers(world: &World, from: &Client, range: std::ops::Range<u32>) {
    for number in numbers(range) {
        world.send(from, "", &number).await;
    }
}

/// Without repetitions, in the order of their first arrival.
fn once(payloads: Vec<String>) -> Vec<String> {
    let mut seen = Vec::new();
    for payload in payloads {
        if !seen.contains(&payload) {
            seen.push(payload);
        }
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn an_outage_loses_nothing_repeats_only_what_was_in_flight_and_keeps_the_order() {
    let world = World::with_routes(up()).await;
    let (a, leaf) = (world.attach("edge/a").await, world.attach("leaf").await);
    send_numbers(&world, &a, 0..5).await;
    world.until(|| world.cloud.from("edge/a").len() == 5).await;
    world.settle().await;
    world.cloud.book().holds_acks.insert("edge/a".to_owned());
    send_numbers(&world, &a, 5..8).await;
    world.until(|| world.cloud.from("edge/a").len() == 8).await;
    world.cloud.leave();
    send_numbers(&world, &a, 8..20).await;
    send_numbers(&world, &leaf, 0..5).await;
    world.pass(Duration::from_secs(90)).await;
    assert_eq!(world.cloud.from("edge/a").len(), 8);
    world.cloud.book().holds_acks.clear();
    world.cloud.come_back();
    world.until(|| once(world.cloud.from("edge/a")).len() == 20 && world.cloud.from("leaf").len() == 5).await;
    world.settle().await;
    let received = world.cloud.from("edge/a");
    let expected = [numbers(0..8), numbers(5..20)].concat();
    assert_eq!(received, expected, "the three that were not acknowledged come twice");
    assert_eq!(world.cloud.from("leaf"), numbers(0..5));
}

#[tokio::test(start_paused = true)]
async fn what_waited_before_a_restart_goes_up_although_its_sender_is_not_here() {
    let world = World::with_routes(up()).await;
    world.cloud.leave();
    let a = world.attach("edge/a").await;
    send_numbers(&world, &a, 0..30).await;
    drop(a);
    let world = world.power_cut().await;
    world.pass(Duration::from_secs(5)).await;
    world.cloud.come_back();
    world.until(|| world.cloud.from("edge/a").len() == 30).await;
    assert_eq!(world.cloud.from("edge/a"), numbers(0..30));
    // Nobody needs the connection any more.
    world.until(|| !world.cloud.is_connected("edge/a")).await;
    assert!(world.cloud.is_connected("edge/$edgeHub"));
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_is_refused_holds_up_nobody_and_goes_on_where_it_stood() {
    let world = World::with_routes(up()).await;
    world.cloud.book().refused.insert("leaf".to_owned());
    let (a, leaf) = (world.attach("edge/a").await, world.attach("leaf").await);
    for number in 0..20 {
        world.send(&leaf, "", &format!("leaf {number}")).await;
        world.send(&a, "", &number.to_string()).await;
    }
    world.until(|| world.cloud.from("edge/a").len() == 20).await;
    assert_eq!(world.cloud.from("edge/a"), numbers(0..20));
    world.cloud.book().refused.clear();
    world.until(|| world.cloud.from("leaf").len() == 20).await;
    send_numbers(&world, &leaf, 100..103).await;
    world.until(|| world.cloud.from("leaf").len() == 23).await;
    let expected: Vec<String> = (0..20).map(|number| format!("leaf {number}")).chain(numbers(100..103)).collect();
    assert_eq!(world.cloud.from("leaf"), expected);
}

#[tokio::test(start_paused = true)]
async fn a_refused_identity_that_is_gone_goes_on_after_a_restart() {
    let world = World::with_routes(up()).await;
    world.cloud.book().refused.insert("leaf".to_owned());
    let leaf = world.attach("leaf").await;
    let a = world.attach("edge/a").await;
    send_numbers(&world, &leaf, 0..5).await;
    send_numbers(&world, &a, 0..5).await;
    world.until(|| world.cloud.from("edge/a").len() == 5).await;
    world.until(|| world.queues.queues().iter().any(|queue| queue.parked == 1)).await;
    world.pass(Duration::from_secs(1)).await;
    drop((leaf, a));
    let world = world.power_cut().await;
    world.pass(Duration::from_secs(60)).await;
    world.cloud.book().refused.clear();
    world.until(|| world.cloud.from("leaf").len() == 5).await;
    assert_eq!(world.cloud.from("leaf"), numbers(0..5));
    assert_eq!(once(world.cloud.from("edge/a")), numbers(0..5));
}

#[tokio::test(start_paused = true)]
async fn messages_of_an_identity_that_stays_refused_expire_and_are_counted() {
    let world = World::with_routes(json!({
        "up": { "route": "FROM /messages/* INTO $upstream", "timeToLiveSecs": 100 },
    }))
    .await;
    world.cloud.book().refused.insert("leaf".to_owned());
    let leaf = world.attach("leaf").await;
    send_numbers(&world, &leaf, 0..5).await;
    let queue = || world.queues.queues().remove(0);
    world.until(|| queue().parked == 1).await;
    world.until(|| queue().expired.messages == 5 && queue().parked == 0).await;
    assert_eq!(world.cloud.from("leaf"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn one_lost_connection_rewinds_its_sender_only() {
    let world = World::with_routes(up()).await;
    let (a, b) = (world.attach("edge/a").await, world.attach("edge/b").await);
    send_numbers(&world, &a, 0..3).await;
    send_numbers(&world, &b, 0..3).await;
    world.until(|| world.cloud.from("edge/a").len() == 3 && world.cloud.from("edge/b").len() == 3).await;
    for round in 1..6 {
        world.cloud.book().holds_acks.insert("edge/a".to_owned());
        let (from, to) = (round * 10, round * 10 + 3);
        send_numbers(&world, &a, from..to).await;
        world.until(|| world.cloud.from("edge/a").ends_with(&numbers(from..to))).await;
        world.cloud.book().holds_acks.clear();
        world.cloud.drop_connection("edge/a");
        send_numbers(&world, &a, to..to + 2).await;
        send_numbers(&world, &b, from..to).await;
        world.until(|| world.cloud.from("edge/a").ends_with(&numbers(from..to + 2))).await;
        world.until(|| world.cloud.from("edge/b").ends_with(&numbers(from..to))).await;
    }
    let b = world.cloud.from("edge/b");
    assert_eq!(b.len(), once(b.clone()).len(), "nothing of the other sender is repeated: {b:?}");
    let in_order: Vec<u32> = once(world.cloud.from("edge/a")).iter().map(|number| number.parse().unwrap()).collect();
    assert!(in_order.is_sorted(), "{in_order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sender_whose_messages_are_not_acknowledged_leaves_room_for_others() {
    let world = World::with_routes(up()).await;
    world.cloud.book().holds_acks.insert("edge/a".to_owned());
    let (a, b) = (world.attach("edge/a").await, world.attach("edge/b").await);
    let many: Vec<String> = numbers(0..2_500);
    for bodies in many.chunks(250) {
        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
        a.append("", &bodies).unwrap();
        world.settle().await;
    }
    world.until(|| world.cloud.from("edge/a").len() == 1_000).await;
    send_numbers(&world, &b, 0..5).await;
    world.until(|| world.cloud.from("edge/b").len() == 5).await;
    world.cloud.acknowledge("edge/a");
    world.until(|| world.cloud.from("edge/a").len() >= 2_500).await;
    assert_eq!(world.cloud.from("edge/a"), many);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_without_having_sent_anything_is_disconnected_above() {
    let world = World::with_routes(up()).await;
    let mut leaf = world.attach("leaf").await;
    world.until(|| world.cloud.is_connected("leaf")).await;
    leaf.disconnect();
    world.until(|| !world.cloud.is_connected("leaf")).await;
    world.pass(Duration::from_secs(300)).await;
    assert_eq!(world.cloud.connects("leaf"), 1);
}
