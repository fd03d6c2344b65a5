//! Twin requests, and answers to methods.

use std::sync::Arc;
use std::time::Duration;

use skerry_model::json::JsonObject;
use skerry_model::{
    Channel, ClientId, Delivery, ErrorCode, MethodAnswer, MethodInvocation, Reply, Request, RequestError,
};
use skerry_uplink::{Limits, UplinkSession};

use crate::world::{Hub, Said, World};

const TWIN_FILTER: &str = "$iothub/twin/res/#";

fn submit(session: &Arc<UplinkSession>, request: Request) -> tokio::task::JoinHandle<Reply> {
    let session = Arc::clone(session);
    tokio::spawn(async move { session.submit(request).await })
}

fn code(reply: Reply) -> Option<ErrorCode> {
    match reply {
        Reply::Failed(RequestError { code, .. }) => Some(code),
        _ => None,
    }
}

/// The topic of the next message; it is acknowledged.
async fn topic(hub: &mut Hub) -> String {
    match hub.next().await {
        Said::Publish { topic, sequence, .. } => {
            hub.ack_through(sequence).await;
            topic
        }
        other => panic!("{other:?}"),
    }
}

async fn world() -> (World, Arc<UplinkSession>, Hub) {
    let mut world = World::new(Limits { requests_max: 2, ..Limits::default() });
    let session = Arc::new(world.open());
    let hub = world.connected().await;
    session.link().await.unwrap();
    (world, session, hub)
}

#[tokio::test(start_paused = true)]
async fn the_twin_is_read_and_patched() {
    let (_world, session, mut hub) = world().await;
    let reading = submit(&session, Request::GetTwin);
    assert_eq!(hub.next().await, Said::Subscribe(vec![TWIN_FILTER.to_owned()]));
    assert_eq!(topic(&mut hub).await, "$iothub/twin/GET/?$rid=1");
    let twin = r#"{"desired":{"$version":7},"reported":{"$version":3}}"#;
    hub.publish(1, "$iothub/twin/res/200/?$rid=1", twin).await;
    let Reply::Twin(read) = reading.await.unwrap() else { panic!("a twin") };
    assert_eq!(read.to_string(), twin);
    assert_eq!(hub.next().await, Said::Acked(1));

    let mut patch = JsonObject::new();
    patch.insert("fw".to_owned(), "2.0".into());
    let patching = submit(&session, Request::PatchReported { patch: patch.clone(), if_version: Some(3) });
    let Said::Publish { topic, payload, .. } = hub.next().await else { panic!("no second subscription") };
    assert_eq!(topic, "$iothub/twin/PATCH/properties/reported/?$rid=2&$version=3");
    assert_eq!(payload, r#"{"fw":"2.0"}"#);
    hub.publish(2, "$iothub/twin/res/204/?$rid=2&$version=4", "").await;
    assert_eq!(patching.await.unwrap(), Reply::Reported { version: Some(4) });
    assert_eq!(hub.next().await, Said::Acked(2));

    let refused = submit(&session, Request::PatchReported { patch, if_version: None });
    assert!(matches!(hub.next().await, Said::Publish { .. }));
    hub.publish(3, "$iothub/twin/res/413/?$rid=3", r#"{"errorCode":413001,"message":"too much"}"#).await;
    assert_eq!(code(refused.await.unwrap()), Some(ErrorCode::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn answers_may_overtake_each_other_and_strangers_are_ignored() {
    let (_world, session, mut hub) = world().await;
    let first = submit(&session, Request::GetTwin);
    hub.next().await;
    hub.next().await;
    let second = submit(&session, Request::GetTwin);
    hub.next().await;
    hub.publish(1, "$iothub/twin/res/200/?$rid=77", "{}").await;
    hub.publish(2, "$iothub/twin/res/200/?$rid=2", r#"{"second":1}"#).await;
    hub.publish(3, "$iothub/twin/res/200/?$rid=1", r#"{"first":1}"#).await;
    let text = |reply| if let Reply::Twin(twin) = reply { twin.to_string() } else { panic!("{reply:?}") };
    assert_eq!(text(second.await.unwrap()), r#"{"second":1}"#);
    assert_eq!(text(first.await.unwrap()), r#"{"first":1}"#);
}

#[tokio::test(start_paused = true)]
async fn a_request_fails_without_a_connection_without_an_answer_and_with_a_loss() {
    let (mut world, session, mut hub) = world().await;
    let begin = world.seconds();
    let forgotten = submit(&session, Request::GetTwin);
    hub.next().await;
    topic(&mut hub).await;
    let waiting = tokio::spawn(async move { hub.silent_for(Duration::from_secs(100)).await.then_some(hub) });
    assert_eq!(code(forgotten.await.unwrap()), Some(ErrorCode::Timeout));
    assert!((59.0..61.0).contains(&(world.seconds() - begin)));
    let mut hub = waiting.await.unwrap().unwrap();

    let lost = submit(&session, Request::GetTwin);
    topic(&mut hub).await;
    drop(hub);
    assert_eq!(code(lost.await.unwrap()), Some(ErrorCode::Unavailable));
    let mut hub = world.knocking().await;
    assert_eq!(code(session.submit(Request::GetTwin).await), Some(ErrorCode::Unavailable));
    hub.accept().await;
    assert_eq!(hub.next().await, Said::Subscribe(vec![TWIN_FILTER.to_owned()]), "needed once, needed again");
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_are_bounded_and_those_that_gave_up_do_not_count() {
    let (_world, session, mut hub) = world().await;
    let first = submit(&session, Request::GetTwin);
    hub.next().await;
    topic(&mut hub).await;
    let second = submit(&session, Request::GetTwin);
    topic(&mut hub).await;
    assert_eq!(code(session.submit(Request::GetTwin).await), Some(ErrorCode::Throttled));
    first.abort();
    assert!(first.await.is_err());
    let third = submit(&session, Request::GetTwin);
    assert_eq!(topic(&mut hub).await, "$iothub/twin/GET/?$rid=4");
    hub.publish(1, "$iothub/twin/res/429/?$rid=4", "").await;
    assert_eq!(code(third.await.unwrap()), Some(ErrorCode::Throttled));
    assert!(!second.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_method_is_called_and_answered() {
    let (mut world, session, mut hub) = world().await;
    let listening = submit(&session, Request::Listen(Channel::Methods));
    assert_eq!(hub.next().await, Said::Subscribe(vec!["$iothub/methods/POST/#".to_owned()]));
    assert_eq!(listening.await.unwrap(), Reply::Done);
    hub.publish(1, "$iothub/methods/POST/reboot/?$rid=9f-1c", r#"{"delay":5}"#).await;
    let Some(Delivery::Method(call)) = session.next_delivery().await else { panic!("a call") };
    assert_eq!((call.name.as_str(), &call.payload[..]), ("reboot", br#"{"delay":5}"#.as_slice()));
    assert_eq!(hub.next().await, Said::Acked(1), "a call is acknowledged at once");
    let answer = MethodAnswer { id: call.id, status: -5, payload: b"{}".as_slice().into() };
    assert_eq!(session.submit(Request::AnswerMethod(answer.clone())).await, Reply::Done);
    assert_eq!(topic(&mut hub).await, "$iothub/methods/res/-5/?$rid=9f-1c");
    assert_eq!(session.submit(Request::AnswerMethod(answer)).await, Reply::Done);
    assert!(hub.silent_for(Duration::from_secs(1)).await, "there is one answer");

    // The answer to a call of a connection that is gone has nobody to go to.
    hub.publish(2, "$iothub/methods/POST/reboot/?$rid=2", "").await;
    let Some(Delivery::Method(call)) = session.next_delivery().await else { panic!("a call") };
    drop(hub);
    let mut hub = world.connected().await;
    hub.next().await;
    session.link().await.unwrap();
    let answer = MethodAnswer { id: call.id, status: 200, payload: b"".as_slice().into() };
    assert_eq!(session.submit(Request::AnswerMethod(answer)).await, Reply::Done);
    assert!(hub.silent_for(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn methods_of_others_are_not_called_over_mqtt() {
    let (_world, session, _hub) = world().await;
    let call = MethodInvocation {
        target: ClientId::parse("a").unwrap(),
        name: "m".to_owned(),
        payload: b"".as_slice().into(),
        response_timeout: Duration::from_secs(5),
        connect_timeout: Duration::ZERO,
    };
    assert_eq!(code(session.submit(Request::InvokeMethod(call)).await), Some(ErrorCode::NotImplemented));
}
