//! What the hub sends: listening, taking, settling, and what happens when nobody takes it.

use std::time::Duration;

use skerry_model::{Channel, Delivery, FeedbackRequest, LockToken, Outcome, Reply, Request};
use skerry_uplink::{Closed, Ended, Limits, SendError, State, UplinkSession};

use crate::world::{Hub, Said, World, state};

const INPUTS: &str = "devices/edge/modules/mod/inputs/";

async fn listening(limits: Limits) -> (World, UplinkSession, Hub) {
    let mut world = World::new(limits);
    let session = world.open();
    // Before there is a connection: the first one begins with it.
    assert_eq!(session.submit(Request::Listen(Channel::Inputs)).await, Reply::Done);
    let mut hub = world.connected().await;
    assert_eq!(hub.next().await, Said::Subscribe(vec![format!("{INPUTS}#")]));
    (world, session, hub)
}

async fn input(session: &UplinkSession) -> (LockToken, String) {
    match session.next_delivery().await {
        Some(Delivery::Input { lock, message }) => (lock, String::from_utf8(message.body.to_vec()).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn inputs_are_acknowledged_when_settled_in_order_of_arrival() {
    let (_world, session, mut hub) = listening(Limits::default()).await;
    for key in 1..=3 {
        let topic = format!("{INPUTS}in1/%24.cdid=edge&%24.cmid=other&a=b%201");
        hub.publish(key, &topic, &key.to_string()).await;
    }
    let Some(Delivery::Input { lock: first, message }) = session.next_delivery().await else { panic!("an input") };
    assert_eq!((&*message.input, message.source.to_string().as_str()), ("in1", "edge/other"));
    assert_eq!(&message.properties[..], b"%24.cdid=edge&%24.cmid=other&a=b%201");
    assert!(!message.redelivered);
    let (second, _) = input(&session).await;
    let (third, body) = input(&session).await;
    assert_eq!(body, "3");
    assert!(hub.silent_for(Duration::from_secs(5)).await, "nothing is settled");
    session.settle(second, Outcome::Accepted);
    assert!(hub.silent_for(Duration::from_secs(5)).await, "the first comes first");
    session.settle(first, Outcome::Rejected);
    assert_eq!((hub.next().await, hub.next().await), (Said::Acked(1), Said::Acked(2)));
    session.settle(third, Outcome::Accepted);
    assert_eq!(hub.next().await, Said::Acked(3));
}

#[tokio::test(start_paused = true)]
async fn commands_and_desired_changes_arrive_as_values() {
    let (_world, session, mut hub) = listening(Limits::default()).await;
    let (commands, heard) = tokio::join!(session.submit(Request::Listen(Channel::Commands)), hub.next());
    assert_eq!(commands, Reply::Done);
    assert_eq!(heard, Said::Subscribe(vec!["devices/edge/modules/mod/messages/devicebound/#".to_owned()]));
    let bag = "%24.mid=m-1&%24.to=%2Fdevices%2Fedge&%24.exp=2024-05-01T10%3A00%3A00.0000000Z&iothub-ack=full&p=1";
    hub.publish(1, &format!("devices/edge/modules/mod/messages/devicebound/{bag}"), "do").await;
    hub.publish(2, "$iothub/twin/PATCH/properties/desired/?$version=8", r#"{"a":null,"$version":8}"#).await;
    let Some(Delivery::Command { lock, command }) = session.next_delivery().await else { panic!("a command") };
    assert_eq!((command.message.message_id().as_deref(), &command.message.body[..]), (Some("m-1"), b"do".as_slice()));
    assert_eq!((command.ack, command.delivery_count), (FeedbackRequest::Full, 0));
    assert_eq!(command.expires.to_string(), "2024-05-01T10:00:00.000Z");
    let Some(Delivery::Desired { patch, version }) = session.next_delivery().await else { panic!("a change") };
    assert_eq!((patch.len(), patch["a"].is_null(), version), (1, true, 8));
    session.settle(lock, Outcome::Accepted);
    assert_eq!((hub.next().await, hub.next().await), (Said::Acked(1), Said::Acked(2)));
}

#[tokio::test(start_paused = true)]
async fn listening_survives_a_loss_and_what_was_not_taken_does_not() {
    let (mut world, session, mut hub) = listening(Limits::default()).await;
    hub.publish(1, &format!("{INPUTS}in1/"), "old").await;
    hub.publish(2, &format!("{INPUTS}in1/"), "older").await;
    let (old, _) = input(&session).await;
    drop(hub);
    let mut hub = world.connected().await;
    let waiting = state(&session, |state| matches!(state, State::Connecting | State::Disconnected { .. })).await;
    assert!(!matches!(waiting, State::Connected { .. }), "not before the subscriptions are there");
    assert_eq!(hub.next().await, Said::Subscribe(vec![format!("{INPUTS}#")]));
    state(&session, |state| matches!(state, State::Connected { number: 2 })).await;
    hub.publish(7, &format!("{INPUTS}in1/"), "new").await;
    let (new, body) = input(&session).await;
    assert_eq!(body, "new");
    session.settle(old, Outcome::Accepted);
    assert!(hub.silent_for(Duration::from_secs(5)).await, "a lock of the lost connection means nothing");
    session.settle(new, Outcome::Accepted);
    assert_eq!(hub.next().await, Said::Acked(7));
}

#[tokio::test(start_paused = true)]
async fn who_stops_listening_is_not_subscribed_again() {
    let (mut world, session, mut hub) = listening(Limits::default()).await;
    let (reply, heard) = tokio::join!(session.submit(Request::Unlisten(Channel::Inputs)), hub.next());
    assert_eq!((reply, heard), (Reply::Done, Said::Unsubscribe(vec![format!("{INPUTS}#")])));
    drop(hub);
    let mut hub = world.connected().await;
    state(&session, |state| matches!(state, State::Connected { number: 2 })).await;
    assert!(hub.silent_for(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_comes_on_a_new_connection() {
    let (mut world, session, mut hub) = listening(Limits::default()).await;
    let link = session.link().await.unwrap();
    hub.publish(1, &format!("{INPUTS}in1/"), "x").await;
    let (lock, _) = input(&session).await;
    session.settle(lock, Outcome::Released);
    assert_eq!(hub.next().await, Said::Disconnect);
    assert!(matches!(*link.lost().await.reason, Ended::GivenBack));
    let mut hub = world.connected().await;
    hub.next().await;
    session.link().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_when_deliveries_are_not_taken() {
    let limits = Limits { deliveries_max: 3, ..Limits::default() };
    let (_world, session, mut hub) = listening(limits).await;
    let link = session.link().await.unwrap();
    for key in 1..=3 {
        hub.publish(key, &format!("{INPUTS}in1/"), "x").await;
    }
    // The acknowledgement stands behind deliveries that nobody takes; its waiter learns of the end.
    let ticket = link.append("", b"m").unwrap();
    hub.payloads(1).await;
    hub.ack_through(1).await;
    let lost = link.acked_beyond(skerry_model::Ticket(ticket.0 - 1)).await.unwrap_err();
    assert!(matches!(*lost.reason, Ended::NotDrained(_)), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn taking_and_settling_lets_the_rest_in() {
    for limits in
        [Limits { deliveries_max: 3, ..Limits::default() }, Limits { delivery_bytes_max: 300, ..Limits::default() }]
    {
        let (_world, session, mut hub) = listening(limits).await;
        for key in 1..=20 {
            hub.publish(key, &format!("{INPUTS}in1/"), &format!("{key:0100}")).await;
        }
        for key in 1..=20_u32 {
            let (lock, body) = input(&session).await;
            assert_eq!(body.parse(), Ok(key));
            session.settle(lock, Outcome::Accepted);
            assert_eq!(hub.next().await, Said::Acked(key));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_understood_is_acknowledged_and_dropped() {
    let (_world, session, mut hub) = listening(Limits::default()).await;
    hub.publish(1, "devices/other/messages/devicebound/", "not ours").await;
    assert_eq!(hub.next().await, Said::Acked(1));
    hub.publish(2, &format!("{INPUTS}in1/"), "ours").await;
    assert_eq!(input(&session).await.1, "ours");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_session_is_the_end_of_deliveries() {
    let (_world, session, _hub) = listening(Limits::default()).await;
    session.link().await.unwrap();
    let session = std::sync::Arc::new(session);
    let waiting = tokio::spawn({
        let session = std::sync::Arc::clone(&session);
        async move { session.next_delivery().await }
    });
    tokio::task::yield_now().await;
    session.close().await;
    assert_eq!(waiting.await.unwrap(), None);
    assert!(session.link().await.is_err());
    assert_eq!(session.send("", b"x").await, Err(SendError::Closed(Closed)));
    assert!(matches!(*session.state().borrow(), State::Closed));
}
