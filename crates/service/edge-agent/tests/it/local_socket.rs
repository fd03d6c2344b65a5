//! The management API on a real socket, in real time.

use std::time::Duration;

use serde_json::{Value as Json, json};
use skerry_dialect::management::{LogQuery, list_path, read_modules, restart_path};
use skerry_dialect::own::EdgeStatus;
use skerry_edge_agent::ManagementSocket;
use skerry_module_runtime::Act;
use skerry_net::Clock;
use skerry_net::http::{ClientLimits, HttpAddress, HttpClient, Method, Request, Response};

use crate::world::{World, desired, image, name, program};

async fn ask(client: &HttpClient, method: Method, target: &str) -> Response {
    client.request(Request::new(method, target)).await.unwrap()
}

fn message(response: &Response) -> (u16, String) {
    let body: Json = serde_json::from_slice(&response.body).unwrap();
    (response.status.as_u16(), body["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_command_line_finds_everything_on_the_socket() {
    let mut world = World::with(false, Clock::system());
    world.docker.set_act(&name("m"), Act::Prints(vec!["one".to_owned(), "two".to_owned()]));
    world.hub.set_desired(desired(&json!({"m": image("m:1"), "p": program("/bin/p")})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;
    let path = world.folder().join("mgmt.sock");
    let _socket = ManagementSocket::serve(path.clone(), 0o660, world.agent.as_ref().unwrap().handle()).unwrap();
    let client = HttpClient::new(HttpAddress::Unix(path), ClientLimits::default());

    let listed = read_modules(&ask(&client, Method::GET, &list_path()).await.body).unwrap();
    let listed: Vec<_> =
        listed.iter().map(|module| (module.name.as_str(), module.status.as_str(), module.image.as_str())).collect();
    assert_eq!(
        listed,
        [
            ("edgeAgent", "running", "agent:1"),
            ("edgeHub", "running", "hub:1"),
            ("m", "running", "m:1"),
            ("p", "running", "/bin/p"),
        ]
    );

    let logs = LogQuery { tail: Some(2), ..LogQuery::default() };
    let logs = ask(&client, Method::GET, &logs.path("m")).await;
    assert_eq!(logs.body, "two\ndone\n");
    assert_eq!(ask(&client, Method::POST, &restart_path("m")).await.status.as_u16(), 204);

    let status = EdgeStatus::read(&ask(&client, Method::GET, "/skerry/status").await.body).unwrap();
    assert_eq!(
        (status.device.as_str(), status.hub.as_str(), status.upstream_connected),
        ("edge1", "hub.example", true)
    );
    assert_eq!(status.deployment.unwrap().code, 200);

    for (method, target, status, text) in [
        (Method::GET, "/modules", 400, "api-version not specified"),
        (Method::GET, "/modules?api-version=1", 400, "invalid api-version \"1\""),
        (Method::DELETE, "/modules?api-version=2022-08-03", 400, "method not allowed"),
        (Method::GET, "/nothing?api-version=2022-08-03", 404, "not found"),
        (Method::POST, "/modules/x/restart?api-version=2022-08-03", 404, "there is no module `x`"),
        (
            Method::POST,
            "/modules/edgeHub/restart?api-version=2022-08-03",
            409,
            "`edgeHub` is a part of this program and has no process of its own",
        ),
    ] {
        assert_eq!(message(&ask(&client, method, target).await), (status, text.to_owned()), "{target}");
    }
    let missing = ask(&client, Method::GET, &LogQuery::default().path("x")).await;
    assert_eq!(missing.status.as_u16(), 404);
    let followed = LogQuery { follow: true, ..LogQuery::default() };
    let followed = client.open(Request::new(Method::GET, followed.path("m"))).await.unwrap();
    let mut body = followed.body;
    let first = tokio::time::timeout(Duration::from_secs(10), body.piece()).await.unwrap().unwrap();
    assert!(first.is_some_and(|piece| piece.starts_with(b"one\n")));
}
