//! Client and server against each other.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{ListenAddress, Listener};

async fn echo(request: Request) -> Response<Body> {
    if request.path() == "/stream" {
        let (sender, body) = Body::streaming();
        tokio::spawn(async move {
            for piece in ["one", "two"] {
                let _ = sender.send(Bytes::from_static(piece.as_bytes())).await;
                tokio::task::yield_now().await;
            }
        });
        return Response { status: StatusCode::OK, headers: HeaderMap::new(), body };
    }
    if request.path() == "/never" {
        std::future::pending::<()>().await;
    }
    let text = format!("{} {} {:?}", request.method, request.target, request.body);
    Response { body: text.into(), ..Response::new(StatusCode::OK) }.into()
}

/// A server on a unix socket that serves each connection `requests_max` times, then closes it.
fn serve(folder: &tempfile::TempDir, limits: ServerLimits) -> (HttpAddress, tokio::task::JoinHandle<()>) {
    let path = folder.path().join("http.sock");
    let listener = Listener::bind(&ListenAddress::Unix { path: path.clone(), mode: 0o600 }).unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await;
            let (stream, limits) = (socket.attach().unwrap(), limits.clone());
            tokio::spawn(async move { serve_http(stream, echo, &limits).await });
        }
    });
    (HttpAddress::Unix(path), task)
}

#[tokio::test]
async fn requests_reach_the_handler_and_connections_are_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _server) = serve(&folder, ServerLimits::default());
    let client = HttpClient::new(address, ClientLimits::default());
    for _ in 0..3 {
        let asked = Request::new(Method::POST, "/a?b=c").json("{}");
        let answer = client.request(asked).await.unwrap();
        assert_eq!((answer.status, answer.body), (StatusCode::OK, Bytes::from_static(b"POST /a?b=c b\"{}\"")));
    }
    let mut answer = client.open(Request::new(Method::GET, "/stream")).await.unwrap();
    assert_eq!(answer.body.piece().await.unwrap().unwrap(), "one");
    assert_eq!(answer.body.piece().await.unwrap().unwrap(), "two");
    assert_eq!(answer.body.piece().await.unwrap(), None);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = Listener::bind(&ListenAddress::Unix { path: path.clone(), mode: 0o600 }).unwrap();
    tokio::spawn(async move {
        loop {
            let mut stream = listener.accept().await.0.attach().unwrap();
            let mut request = [0; 1000];
            let _ = stream.read(&mut request).await;
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    });
    let client = HttpClient::new(HttpAddress::Unix(path), ClientLimits::default());
    for _ in 0..5 {
        assert_eq!(client.request(Request::new(Method::GET, "/")).await.unwrap().status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_on_both_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _server) = serve(&folder, ServerLimits { body_bytes_max: 10, ..ServerLimits::default() });
    let client = HttpClient::new(address.clone(), ClientLimits { body_bytes_max: 40, ..ClientLimits::default() });
    let answer = client.request(Request::new(Method::POST, "/").json("0123456789+")).await.unwrap();
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.body, "{\"message\":\"request body too large\"}");
    let error = client.request(Request::new(Method::GET, "/?".to_owned() + &"x".repeat(50))).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { limit: 40, .. }), "{error}");
    let HttpAddress::Unix(path) = address else { panic!() };
    let chunked =
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n8\r\n01234567\r\n8\r\n01234567\r\n0\r\n\r\n";
    assert!(raw(&path, chunked).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn what_is_not_http_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (HttpAddress::Unix(path), _server) = serve(&folder, ServerLimits::default()) else { panic!() };
    assert!(raw(&path, "\x10\x20rubbish\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(20_000));
    assert!(raw(&path, &long).await.starts_with("HTTP/1.1 431 "));
}

async fn raw(path: &std::path::Path, request: &str) -> String {
    let mut stream = crate::connect_unix(path, Duration::from_secs(5)).await.unwrap();
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test(start_paused = true)]
async fn silent_and_slow_clients_are_not_waited_for() {
    let limits = ServerLimits { head_max: Duration::from_secs(60), ..ServerLimits::default() };
    let (client, server) = tokio::io::duplex(1000);
    let begin = tokio::time::Instant::now();
    let error = serve_http(server, echo, &limits).await.unwrap_err();
    assert!(error.is_too_slow() && !error.is_malformed(), "{error}");
    assert_eq!(begin.elapsed().as_secs(), 60);
    drop(client);

    let (mut client, server) = tokio::io::duplex(1000);
    client.write_all(b"\x10\x20rubbish\r\n\r\n").await.unwrap();
    let error = serve_http(server, echo, &limits).await.unwrap_err();
    assert!(error.is_malformed() && !error.is_too_slow(), "{error}");
    drop(client);

    let (mut client, server) = tokio::io::duplex(1000);
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let begin = tokio::time::Instant::now();
    let _ = serve_http(server, echo, &limits).await;
    assert_eq!(begin.elapsed().as_secs(), 60, "an idle connection after a request");

    let (mut client, server) = tokio::io::duplex(1000);
    client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab").await.unwrap();
    let begin = tokio::time::Instant::now();
    let _ = serve_http(server, echo, &limits).await;
    assert_eq!(begin.elapsed().as_secs(), 30);
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _server) = serve(&folder, ServerLimits::default());
    let client =
        HttpClient::new(address, ClientLimits { answer_max: Duration::from_secs(7), ..ClientLimits::default() });
    let begin = tokio::time::Instant::now();
    let error = client.request(Request::new(Method::GET, "/never")).await.unwrap_err();
    assert!(matches!(error, HttpError::TimedOut { .. }), "{error}");
    assert_eq!(begin.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_the_request_under_way() {
    let (mut client, server) = tokio::io::duplex(1000);
    client.write_all(b"GET /late HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let handler = |_| async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Response::new(StatusCode::OK).into()
    };
    serve_http_until(server, handler, &ServerLimits::default(), tokio::time::sleep(Duration::from_secs(5)))
        .await
        .unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}
