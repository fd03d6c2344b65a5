//! An HTTP client for one server: over TCP, TLS or a unix socket, with every wait and size bounded, reusing connections.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::time::{Instant, timeout_at};

use super::{BodyReader, Request, Response};
use crate::{ClientTls, ConnectError, HandshakeError, connect_tcp, connect_unix};

/// Which server, and how it is reached.
#[derive(Debug, Clone)]
pub enum HttpAddress {
    /// Plain HTTP.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// HTTPS.
    Tls {
        /// Name or address; the server's certificate must be for it.
        host: String,
        /// Port.
        port: u16,
        /// Whom to trust.
        tls: ClientTls,
    },
    /// HTTP on a unix socket.
    Unix(PathBuf),
}

impl HttpAddress {
    /// Reads `unix:///path`, `http://host[:port]`, or `https://host[:port]` when `tls` is given. What follows the host is ignored.
    ///
    /// # Errors
    /// When the text is none of these.
    pub fn parse(uri: &str, tls: Option<&ClientTls>) -> Result<Self, HttpError> {
        let wrong = |reason| HttpError::Address { uri: uri.to_owned(), reason };
        let (scheme, rest) = uri.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        match scheme.to_ascii_lowercase().as_str() {
            "unix" => {
                let path = percent_decode_str(rest).decode_utf8().map_err(|_| wrong("the path is not UTF-8"))?;
                if !path.starts_with('/') {
                    return Err(wrong("the path of a unix socket must begin with `/`"));
                }
                Ok(Self::Unix(PathBuf::from(path.into_owned())))
            }
            "http" => {
                let (host, port) =
                    host_and_port(authority, 80).ok_or_else(|| wrong("it has no host or a wrong port"))?;
                Ok(Self::Tcp { host, port })
            }
            "https" => {
                let (host, port) =
                    host_and_port(authority, 443).ok_or_else(|| wrong("it has no host or a wrong port"))?;
                let tls = tls.ok_or_else(|| wrong("https needs trusted roots"))?.clone();
                Ok(Self::Tls { host, port, tls })
            }
            _ => Err(wrong("the scheme is not unix, http or https")),
        }
    }

    fn host_header(&self) -> String {
        let (host, port, usual) = match self {
            Self::Unix(_) => return "localhost".to_owned(),
            Self::Tcp { host, port } => (host, *port, 80),
            Self::Tls { host, port, .. } => (host, *port, 443),
        };
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
        if port == usual { host } else { format!("{host}:{port}") }
    }
}

fn host_and_port(authority: &str, usual: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':').map(str::parse))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port.parse())),
            None => (authority, None),
        },
    };
    let port = port.transpose().ok()?.unwrap_or(usual);
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

impl std::fmt::Display for HttpAddress {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { .. } => write!(out, "http://{}", self.host_header()),
            Self::Tls { .. } => write!(out, "https://{}", self.host_header()),
            Self::Unix(path) => write!(out, "unix://{}", path.display()),
        }
    }
}

/// Bounds on one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connecting, TLS handshake included.
    pub connect_max: Duration,
    /// From sending the request to the end of the answer; for a streamed answer, to the end of its head.
    pub answer_max: Duration,
    /// Bytes of an answer that is not streamed.
    pub body_bytes_max: usize,
    /// Idle connections that are kept for the next request.
    pub idle_connections_max: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connect_max: Duration::from_secs(15),
            answer_max: Duration::from_secs(60),
            body_bytes_max: 4 * 1024 * 1024,
            idle_connections_max: 2,
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be used.
    #[error("`{uri}` is not an address to send requests to: {reason}")]
    Address {
        /// The address.
        uri: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No TLS session; often the server's certificate is not trusted or for another name.
    #[error("cannot speak TLS with `{server}`")]
    Tls {
        /// Which server.
        server: String,
        /// Why.
        #[source]
        cause: HandshakeError,
    },
    /// The request cannot be written as HTTP.
    #[error("the request cannot be written as HTTP")]
    Request(#[source] http::Error),
    /// The server took too long.
    #[error("`{server}` did not answer within {} s", .after.as_secs())]
    TimedOut {
        /// Which server.
        server: String,
        /// The limit.
        after: Duration,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("the connection was lost or what came was not HTTP")]
    Lost(#[source] hyper::Error),
    /// The answer is larger than this client takes.
    #[error("the answer of `{server}` is larger than {limit} bytes")]
    TooLarge {
        /// Which server.
        server: String,
        /// The limit.
        limit: usize,
    },
}

type Sender = SendRequest<Full<Bytes>>;

/// Sends requests to one server. Requests at the same time use connections of their own; idle ones are kept and used again.
#[derive(Debug)]
pub struct HttpClient {
    address: HttpAddress,
    limits: ClientLimits,
    idle: Mutex<Vec<Sender>>,
}

impl HttpClient {
    /// A client of the server at `address`; nothing is connected yet.
    pub fn new(address: HttpAddress, limits: ClientLimits) -> Self {
        Self { address, limits, idle: Mutex::new(Vec::new()) }
    }

    /// The server's address.
    pub fn address(&self) -> &HttpAddress {
        &self.address
    }

    /// Sends `request` and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// When no answer comes in time, or it is too large.
    pub async fn request(&self, request: Request) -> Result<Response, HttpError> {
        let deadline = Instant::now() + self.limits.answer_max;
        let (sender, response) = self.exchange(&request, deadline).await?;
        let (head, body) = response.into_parts();
        let limit = self.limits.body_bytes_max;
        if body.size_hint().lower() > limit as u64 {
            return Err(self.too_large());
        }
        let body = timeout_at(deadline, Limited::new(body, limit).collect())
            .await
            .map_err(|_| self.timed_out())?
            .map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => HttpError::Lost(*error),
                Err(_) => self.too_large(),
            })?
            .to_bytes();
        self.keep(sender);
        Ok(Response { status: head.status, headers: head.headers, body })
    }

    /// Sends `request` and gives the head of the answer, with its body to be read piece by piece. The time between pieces is not
    /// bounded, and the connection is not used again.
    ///
    /// # Errors
    /// When no head comes in time.
    pub async fn open(&self, request: Request) -> Result<Response<BodyReader>, HttpError> {
        let (_, response) = self.exchange(&request, Instant::now() + self.limits.answer_max).await?;
        let (head, body) = response.into_parts();
        Ok(Response { status: head.status, headers: head.headers, body: BodyReader(body) })
    }

    async fn exchange(
        &self,
        request: &Request,
        deadline: Instant,
    ) -> Result<(Sender, http::Response<Incoming>), HttpError> {
        while let Some(mut sender) = self.take_idle() {
            match self.send(&mut sender, request, deadline).await {
                Ok(response) => return Ok((sender, response)),
                // The server may have closed an idle connection just now. What had no effect, or has the same twice, is sent again.
                Err(Failure { sent, error: HttpError::Lost(_) }) if !sent || is_repeatable(&request.method) => {}
                Err(failure) => return Err(failure.error),
            }
        }
        let mut sender = self.connect().await?;
        let response = self.send(&mut sender, request, deadline).await.map_err(|failure| failure.error)?;
        Ok((sender, response))
    }

    async fn send(
        &self,
        sender: &mut Sender,
        request: &Request,
        deadline: Instant,
    ) -> Result<http::Response<Incoming>, Failure> {
        let message =
            self.message(request).map_err(|error| Failure { sent: false, error: HttpError::Request(error) })?;
        match timeout_at(deadline, sender.try_send_request(message)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut failed)) => {
                Err(Failure { sent: failed.take_message().is_none(), error: HttpError::Lost(failed.into_error()) })
            }
            Err(_) => Err(Failure { sent: true, error: self.timed_out() }),
        }
    }

    fn message(&self, request: &Request) -> Result<http::Request<Full<Bytes>>, http::Error> {
        let mut message = http::Request::builder()
            .method(request.method.clone())
            .uri(request.target.as_str())
            .body(Full::new(request.body.clone()))?;
        *message.headers_mut() = request.headers.clone();
        if !message.headers().contains_key(header::HOST) {
            message.headers_mut().insert(header::HOST, HeaderValue::try_from(self.address.host_header())?);
        }
        Ok(message)
    }

    async fn connect(&self) -> Result<Sender, HttpError> {
        let deadline = Instant::now() + self.limits.connect_max;
        let stream = match &self.address {
            HttpAddress::Unix(path) => connect_unix(path, self.limits.connect_max).await?,
            HttpAddress::Tcp { host, port } => connect_tcp(host, *port, self.limits.connect_max).await?,
            HttpAddress::Tls { host, port, tls } => {
                let tcp = connect_tcp(host, *port, self.limits.connect_max).await?;
                let left = deadline.saturating_duration_since(Instant::now());
                tls.connect(tcp, host, left)
                    .await
                    .map_err(|cause| HttpError::Tls { server: self.address.to_string(), cause })?
            }
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(HttpError::Lost)?;
        // Ends by itself when the sender is dropped or the server closes; the sender reports its errors.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        idle.pop_if(|sender| sender.is_ready())
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !sender.is_closed() && idle.len() < self.limits.idle_connections_max {
            idle.push(sender);
        }
    }

    fn timed_out(&self) -> HttpError {
        HttpError::TimedOut { server: self.address.to_string(), after: self.limits.answer_max }
    }

    fn too_large(&self) -> HttpError {
        HttpError::TooLarge { server: self.address.to_string(), limit: self.limits.body_bytes_max }
    }
}

struct Failure {
    /// Whether the server may have seen the request.
    sent: bool,
    error: HttpError,
}

/// RFC 9110 §9.2.2.
fn is_repeatable(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (uri, shown) in [
            ("unix:///var/run/iotedge/workload.sock", "unix:///var/run/iotedge/workload.sock"),
            ("http://localhost:15580/", "http://localhost:15580"),
            ("HTTP://[::1]/x", "http://[::1]"),
            ("http://h?x:y", "http://h"),
        ] {
            assert_eq!(HttpAddress::parse(uri, None).unwrap().to_string(), shown);
        }
        for uri in ["", "unix://relative", "ftp://x", "http://", "http://h:99999", "https://h", "http://[::1"] {
            assert!(HttpAddress::parse(uri, None).is_err(), "{uri}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in "(unix://|http://)?.{0,40}") {
            let _ = HttpAddress::parse(&text, None);
        }
    }
}
