//! HTTP/1.1 on any [`Stream`](crate::Stream): requests and responses as plain values, a client and a server driver.

mod body;
mod client;
mod message;
mod server;
#[cfg(test)]
mod tests;

pub use body::{Body, BodyReader, BodySender, Closed};
pub use client::{ClientLimits, HttpAddress, HttpClient, HttpError};
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
pub use message::{Request, Response};
pub use server::{ServeError, ServerLimits, serve_http, serve_http_until};
