//! Telemetry: acknowledged when durable, in order, stamped, and refused without loss.

use std::sync::Arc;

use skerry_gateway::{Closed, Lane as _};
use skerry_model::{ErrorCode, MessageView, PropertyBag, Refusal, Ticket};
use skerry_stream::{Event, MemoryStream, PartitionId, Position};

use crate::support::{Client, World, edge_hub, hub_on, id, own_actor, world};
use skerry_state::MemoryState;

fn message(body: &[u8]) -> MessageView<'_> {
    MessageView { properties: PropertyBag::new("%24.ct=text&a=1"), body }
}

async fn held_world() -> (World, Arc<MemoryStream>) {
    let state = Arc::new(MemoryState::default());
    let stream = Arc::new(MemoryStream::held(4));
    let hub = hub_on(&state, stream.clone()).await;
    (World { hub, state }, stream)
}

async fn events(world: &World, client: &str) -> Vec<Event> {
    let partition = PartitionId::of(id(client).device(), 4);
    world.hub.stream().read(partition, Position::Start, 1 << 20).await.unwrap().events
}

fn commits(client: &Client, published: &skerry_gateway::Published) -> Vec<Ticket> {
    assert!(published.commits.iter().all(|(key, _)| *key == client.key));
    published.commits.iter().map(|(_, ticket)| *ticket).collect()
}

#[tokio::test(start_paused = true)]
async fn a_ticket_completes_when_its_messages_are_durable() {
    let (world, stream) = held_world().await;
    world.add_device("d").await;
    let mut client = world.attach("d").await;
    let first = client.lane.append(client.key, &[message(b"1"), message(b"2")]).unwrap();
    let second = client.lane.append(client.key, &[message(b"3")]).unwrap();
    assert!(first < second);
    assert_eq!(client.lane.append(client.key, &[]), Ok(None));
    let published = std::mem::take(client.settle_down().await);
    assert_eq!(commits(&client, &published), []);
    stream.commit();
    let published = std::mem::take(client.settle_down().await);
    assert_eq!(Some(*commits(&client, &published).last().unwrap()), second);
    let third = client.lane.append(client.key, &[message(b"4")]).unwrap();
    stream.commit();
    let published = std::mem::take(client.settle_down().await);
    assert_eq!(commits(&client, &published), [third.unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn events_say_who_sent_them_by_what_the_hub_knows() {
    let world = world().await;
    let edge = world.add_edge("edge", None).await;
    let leaf = world.add_leaf("leaf", &edge).await;
    let client = world.try_attach(&edge_hub("edge"), "leaf", Some("leaf;edge"), 1).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    client.lane.append(client.key, &[message(b"hello")]).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    let [event] = &events(&world, "leaf").await[..] else { panic!("one event") };
    assert_eq!((event.properties.as_str(), &event.body[..]), ("%24.ct=text&a=1", &b"hello"[..]));
    assert_eq!((&event.stamp.source, &event.stamp.generation), (&id("leaf"), &leaf.generation));
    assert_eq!(event.stamp.enqueued, crate::support::START.plus(std::time::Duration::from_secs(3)));
    let method = event.stamp.auth_method.to_stamp();
    assert_eq!(method, r#"{"scope":"module","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#);
}

#[tokio::test(start_paused = true)]
async fn a_batch_with_a_message_that_is_too_large_is_refused_whole() {
    let world = world().await;
    world.add_device("d").await;
    let mut client = world.attach("d").await;
    let large = vec![0; 262_145];
    let refused = client.lane.append(client.key, &[message(b"1"), message(&large)]).unwrap_err();
    assert!(matches!(refused, Refusal::Message { index: 1, error } if error.code == ErrorCode::TooLarge));
    // Names and values count decoded: 262,140 bytes of body, 4 of value of a system property, 2 of an application property.
    let fits = vec![0; 262_144 - 6];
    assert!(client.lane.append(client.key, &[message(&fits)]).is_ok());
    let one_more = vec![0; 262_144 - 5];
    assert!(client.lane.append(client.key, &[message(&one_more)]).is_err());
    client.settle_down().await;
    assert_eq!(events(&world, "d").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_stream_says_when_there_is_room_again() {
    let (world, stream) = held_world().await;
    world.add_device("d").await;
    let mut client = world.attach("d").await;
    let many = vec![message(b""); 65_536];
    client.lane.append(client.key, &many).unwrap();
    assert_eq!(client.lane.append(client.key, &[message(b"x")]), Err(Refusal::Full));
    assert!(!client.settle_down().await.room);
    stream.commit();
    let published = std::mem::take(client.settle_down().await);
    assert!(published.room);
    assert_eq!(commits(&client, &published), [Ticket(1)], "a refused batch takes no ticket");
    assert_eq!(client.lane.append(client.key, &[message(b"x")]), Ok(Some(Ticket(2))));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_closes_whoever_waits_for_it() {
    let (world, stream) = held_world().await;
    world.add_device("d").await;
    let mut client = world.attach("d").await;
    client.lane.append(client.key, &[message(b"x")]).unwrap();
    stream.fail();
    let published = std::mem::take(client.settle_down().await);
    assert_eq!(commits(&client, &published), [], "what was lost is not acknowledged");
    assert_eq!(published.closed, [(client.key, Closed::StoreFailed)]);
    assert!(matches!(client.lane.append(client.key, &[message(b"x")]), Err(Refusal::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_when_its_messages_are_durable() {
    let (world, stream) = held_world().await;
    world.add_device("d").await;
    world.add_device("e").await;
    let send = async || world.hub.send_telemetry(&own_actor("d"), &id("d"), &[message(b"x")]).await;
    let (sent, ()) = tokio::join!(send(), async {
        tokio::task::yield_now().await;
        assert!(events(&world, "d").await.is_empty());
        stream.commit();
    });
    assert_eq!(sent, Ok(()));
    assert_eq!(events(&world, "d").await.len(), 1);
    let other = world.hub.send_telemetry(&own_actor("d"), &id("e"), &[message(b"x")]).await;
    assert_eq!(other.unwrap_err().code, ErrorCode::Unauthorized);
    let (sent, ()) = tokio::join!(send(), async {
        tokio::task::yield_now().await;
        stream.fail();
    });
    assert_eq!(sent.unwrap_err().code, ErrorCode::Unavailable);
}
