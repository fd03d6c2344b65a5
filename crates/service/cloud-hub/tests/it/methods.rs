//! Direct methods: who answers, who does not, and what the caller hears.

use std::time::Duration;

use bytes::Bytes;
use skerry_gateway::MethodResult;
use skerry_model::{
    Channel, Delivery, ErrorCode, MethodAnswer, MethodCall, MethodInvocation, Reply, Request, RequestError,
};

use crate::support::{Client, World, id, world};

fn invocation(target: &str, connect_seconds: u64) -> MethodInvocation {
    MethodInvocation {
        target: id(target),
        name: "reboot".to_owned(),
        payload: Bytes::from_static(b"{\"delay\":3}"),
        response_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(connect_seconds),
    }
}

async fn invoke(world: &World, target: &str, connect_seconds: u64) -> Result<MethodResult, RequestError> {
    world.hub.invoke_method(invocation(target, connect_seconds)).await
}

fn code(result: Result<MethodResult, RequestError>) -> ErrorCode {
    result.unwrap_err().code
}

async fn call(client: &mut Client) -> MethodCall {
    match client.delivery().await {
        Delivery::Method(call) => call,
        other => panic!("{other:?}"),
    }
}

async fn answer(client: &Client, call: &MethodCall, payload: &'static [u8]) {
    let answer = MethodAnswer { id: call.id, status: 207, payload: Bytes::from_static(payload) };
    assert_eq!(client.submit(Request::AnswerMethod(answer)).await, Reply::Done);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_listens_answers() {
    let world = world().await;
    world.add_device("d").await;
    let mut client = world.attach("d").await;
    client.listen(Channel::Methods).await;
    let (result, ()) = tokio::join!(invoke(&world, "d", 0), async {
        let call = call(&mut client).await;
        assert_eq!((call.name.as_str(), &call.payload[..]), ("reboot", &b"{\"delay\":3}"[..]));
        answer(&client, &call, b"[true]").await;
        answer(&client, &call, b"\"the second answer is nobody's\"").await;
    });
    assert_eq!(result, Ok(MethodResult { status: 207, payload: Bytes::from_static(b"[true]") }));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_not_there_is_waited_for_as_long_as_asked() {
    let world = world().await;
    world.add_device("d").await;
    assert_eq!(code(invoke(&world, "ghost", 10).await), ErrorCode::DeviceNotFound);
    assert_eq!(code(invoke(&world, "d/ghost", 10).await), ErrorCode::ModuleNotFound);
    assert_eq!(code(invoke(&world, "d", 0).await), ErrorCode::DeviceNotOnline);
    let mut client = world.attach("d").await;
    let began = tokio::time::Instant::now();
    assert_eq!(code(invoke(&world, "d", 10).await), ErrorCode::DeviceNotOnline, "connected, but it does not listen");
    assert_eq!(began.elapsed().as_secs(), 10);
    let (result, ()) = tokio::join!(invoke(&world, "d", 10), async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        client.listen(Channel::Methods).await;
        let call = call(&mut client).await;
        // The response time begins when the call is sent.
        tokio::time::sleep(Duration::from_secs(25)).await;
        answer(&client, &call, b"").await;
    });
    assert_eq!(result.unwrap().status, 207);
}

#[tokio::test(start_paused = true)]
async fn silence_and_a_lost_connection_are_told_apart() {
    let world = world().await;
    world.add_device("d").await;
    let mut client = world.attach("d").await;
    client.listen(Channel::Methods).await;
    let began = tokio::time::Instant::now();
    assert_eq!(code(invoke(&world, "d", 0).await), ErrorCode::Timeout);
    assert_eq!(began.elapsed().as_secs(), 30);
    let late = call(&mut client).await;
    answer(&client, &late, b"1").await;

    let (result, ()) = tokio::join!(invoke(&world, "d", 0), async {
        call(&mut client).await;
        client.disconnect();
    });
    assert_eq!(code(result), ErrorCode::ConnectionClosed);

    // A session that takes over does not answer what was asked of the one before.
    let mut older = world.attach("d").await;
    older.listen(Channel::Methods).await;
    let (result, ()) = tokio::join!(invoke(&world, "d", 0), async {
        let call = call(&mut older).await;
        let newer = world.attach("d").await;
        answer(&newer, &call, b"1").await;
    });
    assert_eq!(code(result), ErrorCode::ConnectionClosed);
}

#[tokio::test(start_paused = true)]
async fn malformed_calls_and_answers_are_refused() {
    let world = world().await;
    world.add_device("d").await;
    let mut client = world.attach("d").await;
    client.listen(Channel::Methods).await;
    let good = invocation("d", 0);
    let seconds = Duration::from_secs;
    let bad = [
        MethodInvocation { name: String::new(), ..good.clone() },
        MethodInvocation { name: "x".repeat(101), ..good.clone() },
        MethodInvocation { response_timeout: seconds(4), ..good.clone() },
        MethodInvocation { response_timeout: seconds(301), ..good.clone() },
        MethodInvocation { connect_timeout: seconds(301), ..good.clone() },
        MethodInvocation { payload: Bytes::from_static(b"{"), ..good.clone() },
    ];
    for invocation in bad {
        assert_eq!(code(world.hub.invoke_method(invocation).await), ErrorCode::ArgumentInvalid);
    }
    let large = Bytes::from(vec![b' '; 131_073]);
    let large = MethodInvocation { payload: large, ..good };
    assert_eq!(code(world.hub.invoke_method(large).await), ErrorCode::TooLarge);
    let (result, ()) = tokio::join!(invoke(&world, "d", 0), async {
        let call = call(&mut client).await;
        answer(&client, &call, b"not json").await;
    });
    assert_eq!(code(result), ErrorCode::ArgumentInvalid);
}

#[tokio::test(start_paused = true)]
async fn a_target_can_be_asked_only_so_much_at_once() {
    let world = world().await;
    world.add_device("d").await;
    let mut client = world.attach("d").await;
    client.listen(Channel::Methods).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let hub = world.hub.clone();
        calls.spawn(async move { hub.invoke_method(invocation("d", 0)).await });
    }
    for _ in 0..100 {
        call(&mut client).await;
    }
    assert_eq!(code(invoke(&world, "d", 0).await), ErrorCode::Throttled);
    calls.abort_all();
    while calls.join_next().await.is_some() {}
    let (result, ()) = tokio::join!(invoke(&world, "d", 0), async {
        let call = call(&mut client).await;
        answer(&client, &call, b"1").await;
    });
    assert!(result.is_ok(), "callers that went away make room");
}

#[tokio::test(start_paused = true)]
async fn a_module_calls_what_belongs_to_its_device() {
    let world = world().await;
    let edge = world.add_edge("edge", None).await;
    world.add_leaf("leaf", &edge).await;
    world.add_device("foreign").await;
    world.add_module("edge/caller").await;
    let caller = world.attach("edge/caller").await;
    for (target, expected) in [
        ("leaf", ErrorCode::DeviceNotOnline),
        ("edge/$edgeAgent", ErrorCode::DeviceNotOnline),
        ("edge", ErrorCode::DeviceNotOnline),
        ("foreign", ErrorCode::DeviceNotFound),
        ("ghost", ErrorCode::DeviceNotFound),
    ] {
        let reply = caller.submit(Request::InvokeMethod(invocation(target, 0))).await;
        assert!(matches!(&reply, Reply::Failed(e) if e.code == expected), "{target}: {reply:?}");
    }
    let device = world.attach("foreign").await;
    let reply = device.submit(Request::InvokeMethod(invocation("foreign", 0))).await;
    assert!(matches!(reply, Reply::Failed(e) if e.code == ErrorCode::Forbidden));
}
