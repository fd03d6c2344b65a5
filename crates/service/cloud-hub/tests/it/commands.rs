//! Cloud-to-device messages: kept, offered in order, counted, and given up at last.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skerry_cloud_hub::CommandDraft;
use skerry_gateway::Lane as _;
use skerry_model::{
    Channel, Command, Delivery, ErrorCode, LockToken, Message, Outcome, Precondition, RequestError, Settled,
};
use skerry_stream::MemoryStream;

use crate::support::{Client, START, World, device, hub_on, own_actor, world};

fn draft(body: &str) -> CommandDraft {
    let message = Message { properties: "a=1".to_owned(), body: Bytes::from(body.to_owned()) };
    CommandDraft { message, ..CommandDraft::default() }
}

async fn send(world: &World, body: &str) -> Result<u64, RequestError> {
    world.hub.send_command(&device("d"), draft(body)).await
}

async fn waiting(world: &World) -> u32 {
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.hub.get_device(&device("d")).await.unwrap().activity.commands_waiting
}

async fn command(client: &mut Client) -> (LockToken, Arc<Command>) {
    match client.delivery().await {
        Delivery::Command { lock, command } => (lock, command),
        other => panic!("{other:?}"),
    }
}

async fn body(client: &mut Client) -> (LockToken, String) {
    let (lock, command) = command(client).await;
    (lock, String::from_utf8(command.message.body.to_vec()).unwrap())
}

fn settle(client: &Client, lock: LockToken, outcome: Outcome) {
    client.lane.settle(client.key, &[Settled { lock, outcome }]);
}

async fn listening(world: &World, window: u32) -> Client {
    let client = world.try_attach(&own_actor("d"), "d", None, window).await.unwrap();
    client.listen(Channel::Commands).await;
    client
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_offered_in_order_and_forgotten_when_accepted() {
    let world = world().await;
    world.add_device("d").await;
    assert_eq!((send(&world, "one").await, send(&world, "two").await), (Ok(1), Ok(2)));
    let mut client = world.attach("d").await;
    client.nothing_delivered().await;
    client.listen(Channel::Commands).await;
    let (first, one) = command(&mut client).await;
    assert_eq!(one.message.properties, "%24.to=%2Fdevices%2Fd%2Fmessages%2Fdevicebound&a=1");
    assert_eq!((one.sequence_number, one.enqueued, one.delivery_count), (1, START, 0));
    assert_eq!(one.expires, START.plus(Duration::from_secs(3_600)));
    let (second, _) = command(&mut client).await;
    send(&world, "three").await.unwrap();
    let (third, text) = body(&mut client).await;
    assert_eq!((text.as_str(), waiting(&world).await), ("three", 3));
    for lock in [first, second, third] {
        settle(&client, lock, Outcome::Accepted);
    }
    assert_eq!(waiting(&world).await, 0);
    settle(&client, first, Outcome::Released);
    client.nothing_delivered().await;
    client.disconnect();
    let mut again = listening(&world, 10).await;
    again.nothing_delivered().await;
}

#[tokio::test(start_paused = true)]
async fn the_window_bounds_what_is_in_flight() {
    let world = world().await;
    world.add_device("d").await;
    for n in 0..5 {
        send(&world, &n.to_string()).await.unwrap();
    }
    let mut client = listening(&world, 2).await;
    let (first, _) = body(&mut client).await;
    let (_, text) = body(&mut client).await;
    assert_eq!(text, "1");
    client.nothing_delivered().await;
    settle(&client, first, Outcome::Accepted);
    assert_eq!(body(&mut client).await.1, "2");
    client.nothing_delivered().await;
}

#[tokio::test(start_paused = true)]
async fn every_delivery_without_completion_counts() {
    let world = world().await;
    world.add_device("d").await;
    send(&world, "x").await.unwrap();
    let mut client = listening(&world, 10).await;
    let (lock, _) = command(&mut client).await;
    settle(&client, lock, Outcome::Released);
    let (lock, again) = command(&mut client).await;
    assert_eq!(again.delivery_count, 1);
    settle(&client, lock, Outcome::Modified);
    assert_eq!(command(&mut client).await.1.delivery_count, 2);
    // A lost connection makes it available at once, also to a session that takes over.
    let mut newer = listening(&world, 10).await;
    assert_eq!(command(&mut newer).await.1.delivery_count, 3);
    newer.disconnect();
    let mut last = listening(&world, 10).await;
    let (lock, fourth) = command(&mut last).await;
    assert_eq!(fourth.delivery_count, 4);
    settle(&last, lock, Outcome::Rejected);
    assert_eq!(waiting(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn after_ten_deliveries_it_is_given_up() {
    let world = world().await;
    world.add_device("d").await;
    send(&world, "poison").await.unwrap();
    send(&world, "next").await.unwrap();
    let mut client = listening(&world, 1).await;
    for count in 0..10 {
        let (lock, command) = command(&mut client).await;
        assert_eq!((command.delivery_count, &command.message.body[..]), (count, &b"poison"[..]));
        settle(&client, lock, Outcome::Released);
    }
    assert_eq!(body(&mut client).await.1, "next");
    assert_eq!(waiting(&world).await, 1);
}

#[tokio::test(start_paused = true)]
async fn expired_messages_are_not_offered_and_make_room() {
    let world = world().await;
    world.add_device("d").await;
    let expires = Some(START.plus(Duration::from_secs(60)));
    for _ in 0..50 {
        world.hub.send_command(&device("d"), CommandDraft { expires, ..draft("short") }).await.unwrap();
    }
    assert_eq!(send(&world, "one too many").await.unwrap_err().code, ErrorCode::QueueDepthExceeded);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(waiting(&world).await, 0);
    send(&world, "fresh").await.unwrap();
    let mut client = listening(&world, 100).await;
    assert_eq!(body(&mut client).await.1, "fresh");
    client.nothing_delivered().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_is_refused() {
    let world = world().await;
    world.add_device("d").await;
    let large = "x".repeat(65_537);
    assert_eq!(send(&world, &large).await.unwrap_err().code, ErrorCode::TooLarge);
    let expired = CommandDraft { expires: Some(START), ..draft("x") };
    let refused = world.hub.send_command(&device("d"), expired).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ArgumentInvalid);
    let nobody = world.hub.send_command(&device("ghost"), draft("x")).await.unwrap_err();
    assert_eq!(nobody.code, ErrorCode::DeviceNotFound);
    assert_eq!(waiting(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_queue_outlives_the_hub_but_not_its_device() {
    let world = world().await;
    world.add_device("d").await;
    send(&world, "kept").await.unwrap();
    let hub = hub_on(&world.state, Arc::new(MemoryStream::start(4))).await;
    let world = World { hub, state: world.state };
    let mut client = listening(&world, 10).await;
    assert_eq!(body(&mut client).await.1, "kept");
    assert_eq!(send(&world, "later").await, Ok(2));
    world.hub.delete_device(&device("d"), &Precondition::Any).await.unwrap();
    world.add_device("d").await;
    assert_eq!(waiting(&world).await, 0);
    assert_eq!(send(&world, "new").await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_purge_spares_what_is_in_flight() {
    let world = world().await;
    world.add_device("d").await;
    for text in ["a", "b", "c"] {
        send(&world, text).await.unwrap();
    }
    let mut client = listening(&world, 1).await;
    let (lock, _) = body(&mut client).await;
    assert_eq!(world.hub.purge_commands(&device("d")).await, Ok(2));
    settle(&client, lock, Outcome::Accepted);
    assert_eq!(waiting(&world).await, 0);
    client.nothing_delivered().await;
}
