//! Messages from local clients to the inputs of modules, and their acknowledgements.

use std::time::Duration;

use serde_json::json;
use skerry_gateway::Closed;
use skerry_log::LogOptions;
use skerry_model::{Channel, Json, Outcome, Refusal, Settled, Ticket};

use crate::world::{Client, OWN, Setup, World, id, routes, text};

const TO_B: &str = "FROM /messages/modules/a/outputs/out INTO BrokeredEndpoint(\"/modules/b/inputs/in\")";

fn to_b() -> Json {
    json!({ "toB": TO_B })
}

/// Sends `numbers` to output `out`, ten at a time, and waits for the last acknowledgement.
async fn send_numbers(world: &World, from: &Client, numbers: std::ops::Range<u32>) {
    let bodies: Vec<String> = numbers.map(|number| number.to_string()).collect();
    let mut last = Ticket(0);
    for ten in bodies.chunks(10) {
        let ten: Vec<&str> = ten.iter().map(String::as_str).collect();
        last = from.append("%24.on=out", &ten).unwrap().unwrap();
    }
    world.until(|| from.acked() >= last).await;
}

/// Processes what arrives until that many did.
async fn process(world: &World, client: &Client, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    while got.len() < count {
        world.until(|| client.count() > 0).await;
        got.extend(client.process());
    }
    got
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_goes_to_every_destination_of_its_routes_once() {
    let world = World::with_routes(json!({
        "toB": TO_B,
        "toC": "FROM /messages/modules/a/* INTO BrokeredEndpoint(\"/modules/c/inputs/other\")",
        "alsoToC": "FROM /messages/* INTO BrokeredEndpoint(\"/modules/c/inputs/other\")",
        "up": "FROM /messages/modules/a/outputs/* INTO $upstream",
    }))
    .await;
    let (b, c) = (world.listener("edge/b", Channel::Inputs).await, world.listener("edge/c", Channel::Inputs).await);
    let a = world.attach("edge/a").await;
    world.send(&a, "%24.on=out&k=v", "one").await;
    world.until(|| b.count() == 1 && c.count() == 1 && !world.cloud.from("edge/a").is_empty()).await;
    world.settle().await;
    let (_, at_b) = b.inputs().remove(0);
    assert_eq!((&*at_b.input, &at_b.source, at_b.redelivered), ("in", &id("edge/a"), false));
    assert_eq!((text(&at_b.body), text(&at_b.properties)), ("one".to_owned(), "%24.on=out&k=v".to_owned()));
    let at_c = c.inputs();
    assert_eq!((at_c.len(), &*at_c[0].1.input), (1, "other"));
    assert_eq!(world.cloud.from("edge/a"), ["one"]);
    let received = world.cloud.book().received.clone();
    assert_eq!(received[0].properties, "%24.on=out&k=v");
    let user_name = world.cloud.book().user_names["edge/a"].clone();
    assert!(user_name.contains("auth-chain=edge%2Fa%3Bedge"), "{user_name}");
}

#[tokio::test(start_paused = true)]
async fn a_condition_decides_on_properties_and_body() {
    let world = World::with_routes(json!({
        "hot": "FROM /messages/* WHERE level = 'high' AND $body.t > 20 INTO BrokeredEndpoint(\"/modules/b/inputs/in\")",
    }))
    .await;
    let b = world.listener("edge/b", Channel::Inputs).await;
    let leaf = world.attach("leaf").await;
    let json = "%24.ct=application%2Fjson&%24.ce=utf-8";
    for (properties, body) in [("level=low", "{\"t\":30}"), ("level=high", "{\"t\":10}"), ("level=high", "{\"t\":30}")]
    {
        world.send(&leaf, &format!("{json}&{properties}"), body).await;
    }
    assert_eq!(process(&world, &b, 1).await, ["{\"t\":30}"]);
    world.settle().await;
    assert_eq!(b.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_route_there_is_nothing_to_wait_for() {
    let world = World::with_routes(to_b()).await;
    let a = world.attach("edge/a").await;
    assert_eq!(a.append("%24.on=elsewhere", &["x"]), Ok(None));
    // In a batch, the ticket is that of the ones that go somewhere.
    assert!(a.append("%24.on=out", &["x"]).unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_waits_for_the_disk() {
    let world = World::with_routes(to_b()).await;
    let (a, b) = (world.attach("edge/a").await, world.listener("edge/b", Channel::Inputs).await);
    world.settle().await;
    world.disk_stalls.set(true);
    let ticket = a.append("%24.on=out", &["x"]).unwrap().unwrap();
    world.pass(Duration::from_secs(5)).await;
    assert_eq!((a.acked(), b.count()), (Ticket(0), 0));
    world.disk_stalls.set(false);
    world.until(|| a.acked() == ticket && b.count() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_survives_a_power_cut_and_the_rest_may_not() {
    let world = World::with_routes(to_b()).await;
    let a = world.attach("edge/a").await;
    send_numbers(&world, &a, 0..25).await;
    world.disk_stalls.set(true);
    a.append("%24.on=out", &["not acknowledged"]).unwrap();
    drop(a);
    let world = world.power_cut().await;
    world.run(world.hub.configured()).await;
    let b = world.listener("edge/b", Channel::Inputs).await;
    assert_eq!(process(&world, &b, 25).await, numbers(0..25));
    world.settle().await;
    assert_eq!(b.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lower_priority_number_goes_first_and_expired_messages_do_not_go_at_all() {
    let world = World::with_routes(json!({
        "late": { "route": "FROM /messages/modules/a/outputs/late INTO BrokeredEndpoint(\"/modules/b/inputs/in\")", "priority": 7 },
        "soon": { "route": "FROM /messages/modules/a/outputs/soon INTO BrokeredEndpoint(\"/modules/b/inputs/in\")", "priority": 1 },
        "brief": {
            "route": "FROM /messages/modules/a/outputs/brief INTO BrokeredEndpoint(\"/modules/b/inputs/in\")",
            "priority": 0, "timeToLiveSecs": 30,
        },
    }))
    .await;
    let a = world.attach("edge/a").await;
    for output in ["late", "brief", "soon", "late", "soon"] {
        world.send(&a, &format!("%24.on={output}"), output).await;
    }
    world.pass(Duration::from_secs(31)).await;
    let b = world.listener("edge/b", Channel::Inputs).await;
    assert_eq!(process(&world, &b, 4).await, ["soon", "soon", "late", "late"]);
}

#[tokio::test(start_paused = true)]
async fn the_window_bounds_what_is_in_flight_and_order_is_kept() {
    let world = World::with_routes(to_b()).await;
    let a = world.attach("edge/a").await;
    let lane = world.lane();
    let b = world.attach_on(&lane, "edge/b", 8).await;
    world.listen(&b, Channel::Inputs).await;
    send_numbers(&world, &a, 0..100).await;
    world.until(|| b.count() == 8).await;
    world.settle().await;
    assert_eq!(b.count(), 8, "the window is full");
    assert_eq!(process(&world, &b, 100).await, numbers(0..100));
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_connection_did_not_settle_comes_again_and_nothing_else() {
    let world = World::with_routes(to_b()).await;
    let a = world.attach("edge/a").await;
    let mut b = world.listener("edge/b", Channel::Inputs).await;
    send_numbers(&world, &a, 0..10).await;
    world.until(|| b.count() == 10).await;
    let inputs = b.inputs();
    // Settled out of order, with a hole.
    for at in [0, 1, 2, 5] {
        b.settle(inputs[at].0, Outcome::Accepted);
    }
    b.settle(inputs[3].0, Outcome::Rejected);
    b.disconnect();
    send_numbers(&world, &a, 10..12).await;
    let b = world.listener("edge/b", Channel::Inputs).await;
    assert_eq!(process(&world, &b, 7).await, ["4", "6", "7", "8", "9", "10", "11"]);
    world.settle().await;
    assert_eq!(b.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn released_messages_are_sent_again_as_such() {
    let world = World::with_routes(to_b()).await;
    let a = world.attach("edge/a").await;
    let b = world.listener("edge/b", Channel::Inputs).await;
    world.send(&a, "%24.on=out", "x").await;
    world.until(|| b.count() == 1).await;
    b.settle(b.inputs()[0].0, Outcome::Released);
    world.until(|| b.count() == 1).await;
    assert!(b.inputs()[0].1.redelivered);
}

#[tokio::test(start_paused = true)]
async fn listening_twice_sends_nothing_twice() {
    let world = World::with_routes(to_b()).await;
    let a = world.attach("edge/a").await;
    let b = world.listener("edge/b", Channel::Inputs).await;
    send_numbers(&world, &a, 0..5).await;
    world.until(|| b.count() == 5).await;
    world.listen(&b, Channel::Inputs).await;
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(process(&world, &b, 5).await, numbers(0..5));
    send_numbers(&world, &a, 5..6).await;
    assert_eq!(process(&world, &b, 1).await, ["5"]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_session_takes_over_and_the_older_one_can_do_nothing_any_more() {
    for same_lane in [true, false] {
        for reuses_slot in [true, false] {
            let world = World::with_routes(to_b()).await;
            let a = world.attach("edge/a").await;
            let lane = world.lane();
            // The newer session gets a slot before or behind the older one's.
            let mut first = world.attach_on(&lane, "edge/c", 1_000).await;
            let older = world.attach_on(&lane, "edge/b", 1_000).await;
            world.listen(&older, Channel::Inputs).await;
            send_numbers(&world, &a, 0..3).await;
            world.until(|| older.count() == 3).await;
            let inputs = older.inputs();
            if reuses_slot {
                first.disconnect();
            }
            let lane = if same_lane { lane.clone() } else { world.lane() };
            let newer = world.attach_on(&lane, "edge/b", 1_000).await;
            world.listen(&newer, Channel::Inputs).await;
            world.until(|| older.closed() == Some(Closed::Superseded)).await;
            assert_eq!(older.append("", &["x"]), Err(Refusal::Superseded));
            older.settle(inputs[0].0, Outcome::Accepted);
            assert_eq!(process(&world, &newer, 3).await, numbers(0..3));
            world.settle().await;
            // While both connections are there, the newer one gets everything, straight from what becomes durable too.
            for number in 3..6 {
                send_numbers(&world, &a, number..number + 1).await;
                assert_eq!(process(&world, &newer, 1).await, numbers(number..number + 1), "{same_lane} {reuses_slot}");
            }
            drop(older);
            send_numbers(&world, &a, 6..8).await;
            assert_eq!(process(&world, &newer, 2).await, numbers(6..8));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_away_holds_nobody_up_and_misses_nothing() {
    let world = World::with_routes(json!({
        "toB": TO_B,
        "toC": "FROM /messages/modules/a/* INTO BrokeredEndpoint(\"/modules/c/inputs/in\")",
    }))
    .await;
    let a = world.attach("edge/a").await;
    let b = world.listener("edge/b", Channel::Inputs).await;
    send_numbers(&world, &a, 0..300).await;
    assert_eq!(process(&world, &b, 300).await, numbers(0..300));
    let c = world.listener("edge/c", Channel::Inputs).await;
    send_numbers(&world, &a, 300..310).await;
    assert_eq!(process(&world, &c, 310).await, numbers(0..310));
    assert_eq!(process(&world, &b, 10).await, numbers(300..310));
}

#[tokio::test(start_paused = true)]
async fn a_full_store_takes_nothing_loses_nothing_and_says_when_there_is_room() {
    let log = LogOptions {
        bytes_max: 4 << 20,
        segment_bytes: Some(512 << 10),
        group_bytes_max: 128 << 10,
        ..LogOptions::default()
    };
    let world = World::with(to_b(), Setup { log, ..Setup::default() }).await;
    let a = world.attach("edge/a").await;
    let body = "x".repeat(50_000);
    let mut sent = 0;
    // Groups that wait to be written refuse as well, for a moment.
    let (mut last, mut refusals) = (Ticket(0), 0);
    while refusals < 20 {
        match a.append("%24.on=out", &[&body]) {
            Ok(ticket) => {
                (last, refusals) = (ticket.unwrap(), 0);
                sent += 1;
            }
            Err(Refusal::Full) => refusals += 1,
            Err(other) => panic!("{other}"),
        }
        world.settle().await;
    }
    assert!((20..80).contains(&sent), "{sent}");
    assert_eq!(a.acked(), last, "what was taken is durable");
    let told = a.room();
    world.pass(Duration::from_secs(60)).await;
    assert_eq!((a.append("%24.on=out", &[&body]), a.room()), (Err(Refusal::Full), told));

    let b = world.listener("edge/b", Channel::Inputs).await;
    assert_eq!(process(&world, &b, sent).await.len(), sent);
    world.until(|| a.room() > told).await;
    world.send(&a, "%24.on=out", "again").await;
    assert_eq!(process(&world, &b, 1).await, ["again"]);
}

#[tokio::test(start_paused = true)]
async fn new_routes_apply_to_new_messages_and_old_queues_are_still_served() {
    let world = World::with_routes(to_b()).await;
    let a = world.attach("edge/a").await;
    send_numbers(&world, &a, 0..3).await;
    let to_c = "FROM /messages/* INTO BrokeredEndpoint(\"/modules/c/inputs/new\")";
    world.cloud.desire(OWN, json!({ "routes": { "toB": null, "toC": to_c } }));
    let c = world.listener("edge/c", Channel::Inputs).await;
    world.until(|| world.queues.queues().iter().any(|queue| &*queue.endpoint == "edge/c/new")).await;
    send_numbers(&world, &a, 3..6).await;
    assert_eq!(process(&world, &c, 3).await, numbers(3..6));
    let b = world.listener("edge/b", Channel::Inputs).await;
    assert_eq!(process(&world, &b, 3).await, numbers(0..3));
    let retired = |world: &World| {
        let queues = world.queues.queues();
        queues.iter().find(|queue| &*queue.endpoint == "edge/b/in").and_then(|queue| queue.drop_at)
    };
    assert!(retired(&world).is_some());

    // A queue that is wanted again is not dropped.
    world.cloud.desire(OWN, json!({ "routes": { "toB": TO_B } }));
    world.until(|| retired(&world).is_none()).await;
    send_numbers(&world, &a, 6..8).await;
    assert_eq!(process(&world, &b, 2).await, numbers(6..8));
}

#[tokio::test(start_paused = true)]
async fn a_queue_without_routes_is_dropped_with_its_time_to_live() {
    let world = World::bare(Setup::default()).await;
    world.cloud.desire(OWN, routes(to_b(), 60));
    world.run(world.hub.configured()).await;
    let a = world.attach("edge/a").await;
    send_numbers(&world, &a, 0..3).await;
    world.cloud.desire(OWN, json!({ "routes": { "toB": null } }));
    world.until(|| world.queues.queues().iter().all(|queue| queue.drop_at.is_some())).await;
    world.pass(Duration::from_secs(200)).await;
    assert!(world.queues.queues().is_empty(), "{:?}", world.queues.queues());
    // The name is free again.
    world.cloud.desire(OWN, json!({ "routes": { "toB": TO_B } }));
    world.until(|| world.queues.queues().len() == 1).await;
    let b = world.listener("edge/b", Channel::Inputs).await;
    send_numbers(&world, &a, 3..4).await;
    assert_eq!(process(&world, &b, 1).await, ["3"]);
}

#[tokio::test(start_paused = true)]
async fn settling_what_was_never_sent_does_nothing() {
    let world = World::with_routes(to_b()).await;
    let a = world.attach("edge/a").await;
    let b = world.listener("edge/b", Channel::Inputs).await;
    world.send(&a, "%24.on=out", "x").await;
    world.until(|| b.count() == 1).await;
    let (lock, _) = b.inputs()[0];
    let mut wrong = [lock, lock];
    wrong[0].0 += 1;
    wrong[1].0 += 5 << 64;
    let settled: Vec<_> = wrong.map(|lock| Settled { lock, outcome: Outcome::Accepted }).into();
    b.lane.lane_settle(b.key, &settled);
    let mut b = b;
    b.disconnect();
    let b = world.listener("edge/b", Channel::Inputs).await;
    assert_eq!(process(&world, &b, 1).await, ["x"]);
}
