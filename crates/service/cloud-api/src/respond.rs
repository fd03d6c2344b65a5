//! Answers in the forms that clients insist on.

use bytes::Bytes;
use skerry_dialect::http::quoted;
use skerry_gateway::HttpRefusal;
use skerry_net::http::{Response, StatusCode, header};

/// The answer to a request, or why it was not done.
pub(crate) type Answered = Result<Response, HttpRefusal>;

/// 200 with JSON.
pub(crate) fn json(body: impl Into<Bytes>) -> Response {
    Response::json(StatusCode::OK, body)
}

/// 200 with JSON and its `ETag`.
pub(crate) fn entity(etag: &str, body: impl Into<Bytes>) -> Response {
    json(body).header(header::ETAG, &quoted(etag))
}

/// 204.
pub(crate) fn done() -> Response {
    Response::new(StatusCode::NO_CONTENT)
}
