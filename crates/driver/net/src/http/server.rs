//! The server's end of one HTTP connection: reads whole requests within limits, asks a handler, writes its responses.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::{Body, Request, Response};

/// Bounds on one connection of a client.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// For the head of a request to arrive, counted from the connection's begin or the end of the response before.
    pub head_max: Duration,
    /// For a request's body to arrive.
    pub body_max: Duration,
    /// Bytes of a request's head; at least 8,192.
    pub head_bytes_max: usize,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Headers of a request.
    pub headers_max: usize,
    /// What a client is told whose request never reaches the handler: too large (413), too slow (408), broken (400).
    pub refusal: fn(StatusCode, &'static str) -> Response,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            head_max: Duration::from_secs(60),
            body_max: Duration::from_secs(30),
            head_bytes_max: 16 * 1024,
            body_bytes_max: 1024 * 1024,
            headers_max: 100,
            refusal: |status, reason| Response::json(status, format!("{{\"message\":\"{reason}\"}}")),
        }
    }
}

/// Why a connection ended otherwise than by its client closing it in good order.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP connection failed: {0}")]
pub struct ServeError(#[source] hyper::Error);

impl ServeError {
    /// The head of a request did not arrive in time.
    pub fn is_too_slow(&self) -> bool {
        self.0.is_timeout()
    }

    /// What came is not HTTP.
    pub fn is_malformed(&self) -> bool {
        self.0.is_parse()
    }
}

/// Serves one connection until the client closes it. `handler` is asked once per request, one at a time.
///
/// # Errors
/// When the connection is lost, or what comes is not HTTP or takes too long.
pub async fn serve_http<S, H, F>(stream: S, handler: H, limits: &ServerLimits) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request) -> F,
    F: Future<Output = Response<Body>>,
{
    serve_http_until(stream, handler, limits, std::future::pending()).await
}

/// As [`serve_http`], and when `stop` ends: a request that is being answered is finished, then the connection is closed.
///
/// # Errors
/// As [`serve_http`].
pub async fn serve_http_until<S, H, F>(
    stream: S,
    handler: H,
    limits: &ServerLimits,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request) -> F,
    F: Future<Output = Response<Body>>,
{
    let handler = &handler;
    let service = service_fn(move |request| answer(request, handler, limits));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_max)
        .max_buf_size(limits.head_bytes_max.max(8 * 1024))
        .max_headers(limits.headers_max)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut stop = pin!(stop);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.as_mut() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(ServeError)
}

async fn answer<H, F>(
    request: http::Request<Incoming>,
    handler: &H,
    limits: &ServerLimits,
) -> Result<http::Response<Body>, Infallible>
where
    H: Fn(Request) -> F,
    F: Future<Output = Response<Body>>,
{
    let (head, body) = request.into_parts();
    let response = match whole(body, limits).await {
        Ok(body) => {
            let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
            handler(Request { method: head.method, target, headers: head.headers, body }).await
        }
        Err((status, reason)) => {
            let mut response = (limits.refusal)(status, reason);
            // The rest of the body is not wanted, so nothing can follow on this connection.
            response.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            response.into()
        }
    };
    let mut message = http::Response::new(response.body);
    *message.status_mut() = response.status;
    *message.headers_mut() = response.headers;
    Ok(message)
}

async fn whole(body: Incoming, limits: &ServerLimits) -> Result<Bytes, (StatusCode, &'static str)> {
    const TOO_LARGE: (StatusCode, &str) = (StatusCode::PAYLOAD_TOO_LARGE, "request body too large");
    if body.size_hint().lower() > limits.body_bytes_max as u64 {
        return Err(TOO_LARGE);
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    match timeout(limits.body_max, Limited::new(body, limits.body_bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(TOO_LARGE),
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "request body is broken")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "request body too slow")),
    }
}
