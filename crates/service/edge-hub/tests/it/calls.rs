//! Direct methods and commands.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use skerry_edge_hub::EdgeRoutes;
use skerry_gateway::{HttpRoutes as _, Peer};
use skerry_model::{Channel, Delivery, ErrorCode, LockToken, MethodAnswer, MethodInvocation, Outcome, Reply, Request};
use skerry_net::http::{HeaderName, Method, Request as HttpRequest};

use crate::world::{Client, World, id, text};

fn invocation(target: &str, connect: u64) -> Request {
    Request::InvokeMethod(MethodInvocation {
        target: id(target),
        name: "reset".to_owned(),
        payload: b"{\"hard\":true}".as_slice().into(),
        response_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(connect),
    })
}

async fn answer(world: &World, client: &Client, status: i64, payload: &'static str) {
    world.until(|| client.count() == 1).await;
    let call = client.method();
    assert_eq!((call.name.as_str(), text(&call.payload).as_str()), ("reset", "{\"hard\":true}"));
    let answer = MethodAnswer { id: call.id, status, payload: payload.as_bytes().into() };
    assert_eq!(world.submit(client, Request::AnswerMethod(answer)).await, Reply::Done);
}

fn failed(reply: &Reply) -> ErrorCode {
    match reply {
        Reply::Failed(error) => error.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_module_calls_modules_and_leaves_of_its_device_without_the_hub_above() {
    let world = World::with_routes(json!({})).await;
    // The scope is known from before the outage.
    world.until(|| !world.cloud.book().scope_calls.is_empty()).await;
    world.settle().await;
    world.cloud.leave();
    let a = world.attach("edge/a").await;
    for target in ["edge/b", "leaf"] {
        let callee = world.listener(target, Channel::Methods).await;
        let (reply, ()) = tokio::join!(world.submit(&a, invocation(target, 0)), answer(&world, &callee, 207, "[1]"));
        assert_eq!(reply, Reply::MethodResult { status: 207, payload: b"[1]".as_slice().into() });
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_finds_only_who_is_known_here_and_listens() {
    let world = World::with_routes(json!({})).await;
    world.until(|| !world.cloud.book().scope_calls.is_empty()).await;
    world.settle().await;
    let (a, leaf) = (world.attach("edge/a").await, world.attach("leaf").await);
    for target in ["elsewhere", "edge/nobody", "other/module"] {
        assert_eq!(failed(&world.submit(&a, invocation(target, 0)).await), ErrorCode::DeviceNotFound, "{target}");
    }
    assert_eq!(failed(&world.submit(&a, invocation("leaf", 0)).await), ErrorCode::DeviceNotOnline);
    assert_eq!(failed(&world.submit(&leaf, invocation("edge/a", 0)).await), ErrorCode::Forbidden);
    // Within the connect timeout it may come.
    let (reply, ()) = tokio::join!(world.submit(&a, invocation("leaf", 300)), async {
        world.settle().await;
        world.listen(&leaf, Channel::Methods).await;
        answer(&world, &leaf, 200, "null").await;
    });
    assert_eq!(reply, Reply::MethodResult { status: 200, payload: b"null".as_slice().into() });
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_nobody_answers_or_the_target_goes() {
    let world = World::with_routes(json!({})).await;
    world.until(|| !world.cloud.book().scope_calls.is_empty()).await;
    world.settle().await;
    let a = world.attach("edge/a").await;
    let mut b = world.listener("edge/b", Channel::Methods).await;
    assert_eq!(failed(&world.submit(&a, invocation("edge/b", 0)).await), ErrorCode::Timeout);
    b.take();
    let (reply, ()) = tokio::join!(world.submit(&a, invocation("edge/b", 0)), async {
        world.until(|| b.count() == 1).await;
        b.disconnect();
    });
    assert_eq!(failed(&reply), ErrorCode::ConnectionClosed);
}

#[tokio::test(start_paused = true)]
async fn calls_of_the_hub_above_are_relayed_and_answered() {
    let world = World::with_routes(json!({})).await;
    let leaf = world.listener("leaf", Channel::Methods).await;
    world.until(|| world.cloud.listens("leaf", "$iothub/methods/POST/")).await;
    assert!(world.cloud.call("leaf", "reset", "7", "{\"hard\":true}"));
    answer(&world, &leaf, 201, "{\"ok\":1}").await;
    world.until(|| !world.cloud.book().method_answers.is_empty()).await;
    let answers = world.cloud.book().method_answers.clone();
    assert_eq!(answers, [("leaf".to_owned(), "201/?$rid=7".to_owned(), "{\"ok\":1}".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn the_hub_refreshes_its_scope_when_asked() {
    let world = World::with_routes(json!({})).await;
    let own = "edge/$edgeHub";
    world.until(|| world.cloud.listens(own, "$iothub/methods/POST/")).await;
    world.until(|| world.cloud.book().scope_calls.len() == 1).await;
    assert!(world.cloud.call(own, "RefreshDeviceScopeIdentityCache", "1", ""));
    world.until(|| world.cloud.book().method_answers.len() == 1).await;
    assert!(world.cloud.call(own, "RefreshDeviceScopeIdentityCache", "2", "{\"deviceIds\":[\"leaf\"]}"));
    world.until(|| world.cloud.book().method_answers.len() == 2).await;
    assert!(world.cloud.call(own, "RefreshDeviceScopeIdentityCache", "3", "{\"deviceIds\":7}"));
    world.until(|| world.cloud.book().method_answers.len() == 3).await;
    assert!(world.cloud.call(own, "other", "4", ""));
    world.until(|| world.cloud.book().method_answers.len() == 4).await;
    let answers: Vec<_> = world.cloud.book().method_answers.iter().map(|answer| answer.1.clone()).collect();
    assert_eq!(answers, ["200/?$rid=1", "200/?$rid=2", "400/?$rid=3", "404/?$rid=4"]);
    let calls: Vec<_> = world.cloud.book().scope_calls.iter().map(|call| call.0.clone()).collect();
    let everybody = "devicesAndModulesInTargetDeviceScope";
    assert_eq!(calls, [everybody, everybody, "getDeviceAndModuleOnBehalfOf"]);
}

/// Commands that arrived.
fn commands(client: &Client) -> Vec<(LockToken, String)> {
    let command = |delivery| match delivery {
        Delivery::Command { lock, command } => (lock, text(&command.message.body)),
        other => panic!("{other:?}"),
    };
    client.take().into_iter().map(command).collect()
}

#[tokio::test(start_paused = true)]
async fn a_command_is_acknowledged_above_when_its_device_settled_it() {
    let world = World::with_routes(json!({})).await;
    world.cloud.command("leaf", 1, "early");
    let leaf = world.listener("leaf", Channel::Commands).await;
    world.until(|| leaf.count() == 1).await;
    world.cloud.command("leaf", 2, "late");
    world.until(|| leaf.count() == 2).await;
    world.settle().await;
    assert!(world.cloud.book().commands_done.is_empty());
    let got = commands(&leaf);
    assert_eq!((got[0].1.as_str(), got[1].1.as_str()), ("early", "late"));
    leaf.settle(got[0].0, Outcome::Accepted);
    leaf.settle(got[1].0, Outcome::Rejected);
    world.until(|| world.cloud.book().commands_done.len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn commands_that_a_lost_client_did_not_settle_come_again() {
    let world = World::with_routes(json!({})).await;
    let mut leaf = world.listener("leaf", Channel::Commands).await;
    world.cloud.command("leaf", 1, "one");
    world.cloud.command("leaf", 2, "two");
    world.until(|| leaf.count() == 2).await;
    let got = commands(&leaf);
    leaf.settle(got[0].0, Outcome::Accepted);
    leaf.disconnect();
    world.until(|| world.cloud.book().commands_done.len() == 1).await;
    world.pass(Duration::from_secs(10)).await;
    let leaf = world.listener("leaf", Channel::Commands).await;
    world.until(|| leaf.count() == 1).await;
    let got = commands(&leaf);
    assert_eq!(got[0].1, "two");
    leaf.settle(got[0].0, Outcome::Accepted);
    world.until(|| world.cloud.book().commands_done.len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_takes_over_gets_the_commands_of_the_older_one() {
    let world = World::with_routes(json!({})).await;
    let older = world.listener("leaf", Channel::Commands).await;
    world.cloud.command("leaf", 1, "one");
    world.until(|| older.count() == 1).await;
    let newer = world.listener("leaf", Channel::Commands).await;
    world.until(|| newer.count() == 1).await;
    newer.settle(commands(&newer)[0].0, Outcome::Accepted);
    world.until(|| world.cloud.book().commands_done.len() == 1).await;
    drop(older);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_takes_over_and_wants_no_commands_is_not_offered_them_over_and_over() {
    let world = World::with_routes(json!({})).await;
    let older = world.listener("leaf", Channel::Commands).await;
    world.until(|| world.cloud.listens("leaf", "devices/leaf/messages/devicebound/")).await;
    let newer = world.attach("leaf").await;
    world.until(|| !world.cloud.listens("leaf", "devices/leaf/messages/devicebound/")).await;
    world.cloud.command("leaf", 1, "one");
    world.pass(Duration::from_secs(120)).await;
    assert_eq!((world.cloud.connects("leaf"), newer.count()), (1, 0));
    drop(older);
    world.listen(&newer, Channel::Commands).await;
    world.until(|| newer.count() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn refused_requests_are_logged_once_for_the_same_peer_and_reason() {
    let world = World::with_routes(json!({})).await;
    let log = skerry_sim::Log::read_along();
    let routes = EdgeRoutes::new(world.hub.clone(), vec!["hub.example".to_owned()]);
    let peer = Arc::new(Peer { address: "192.0.2.7:4711".parse().unwrap(), certificates: Vec::new() });
    let ask = async |request: HttpRequest| routes.handle(request, peer.clone()).await.status.as_u16();
    for path in ["/devices/edge", "/devices/leaf", "/devices/edge"] {
        assert_eq!(ask(HttpRequest::new(Method::GET, path)).await, 404);
    }
    let [line] = &log.lines_with("request refused")[..] else { panic!("{:?}", log.lines_with("")) };
    assert!(["192.0.2.7", "GET /devices/edge", "NotFound"].iter().all(|part| line.contains(part)), "{line}");
    assert_eq!(world.hub.door().refused(), []);

    let stranger = || {
        let request = HttpRequest::new(Method::POST, "/twins/edge/modules/b/methods?api-version=2018-06-30");
        request.header(HeaderName::from_static("x-ms-edge-moduleid"), "edge/a")
    };
    assert_eq!((ask(stranger()).await, ask(stranger()).await), (401, 401));
    let lines = log.lines_with("refused");
    assert!(lines.len() == 2 && lines[1].contains("edge/a"), "one line for each kind: {lines:?}");
    assert_eq!(world.hub.door().refused()[0].count, 2);
}
