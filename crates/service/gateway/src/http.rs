//! The HTTP head: a connection's requests go to the routes that were mounted.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use skerry_dialect::error::{self, Tracking};
use skerry_model::{ErrorCode, Now, RequestError};
use skerry_net::Stream;
use skerry_net::http::{Body, HeaderName, Request, Response, ServerLimits, StatusCode, serve_http};

use crate::runtime::Runtime;
use crate::{Backend, Door, Peer};

/// An answer under way.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

/// What an HTTP head serves. The cloud hub's routes and the edge hub's are mounted through this.
pub trait HttpRoutes: Send + Sync + 'static {
    /// Answers one request, whatever it is; what there is no route for is answered too.
    fn handle(&self, request: Request, peer: Arc<Peer>) -> Answer<'_>;
}

/// Why a request was not done.
#[derive(Debug)]
pub enum HttpRefusal {
    /// Its sender was not let in. The door was told who and why; what is said here is for the sender.
    Sender(RequestError),
    /// Its sender was let in, or nobody asked who that is.
    Request(RequestError),
}

impl HttpRefusal {
    /// The answer to `asked` (method and path) of `peer`, which is logged unless the door has done that. `id` is in both, so that
    /// one finds the other.
    pub fn answer(self, door: &Door, now: Now, peer: &Peer, asked: &str, id: &str) -> Response {
        let error = match self {
            Self::Sender(error) => error,
            Self::Request(error) => {
                door.refuse_request(now, peer.address.ip(), asked, &error, id);
                error
            }
        };
        failure(&error, Tracking { id, at: now.wall })
    }
}

impl From<RequestError> for HttpRefusal {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

/// The response that says `error`, in the body and header forms all device and service SDKs know.
fn failure(error: &RequestError, tracking: Tracking<'_>) -> Response {
    let status = StatusCode::from_u16(error::status(error.code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let response = Response::json(status, error::http_body(error, tracking))
        .header(HeaderName::from_static(error::HEADER), error::name(error.code));
    match error.code {
        ErrorCode::Throttled | ErrorCode::Unavailable => response.header(skerry_net::http::header::RETRY_AFTER, "10"),
        _ => response,
    }
}

pub(crate) async fn serve<B: Backend>(runtime: Rc<Runtime<B>>, stream: Stream, peer: Peer) {
    let config = &runtime.config.limits;
    let limits = ServerLimits {
        head_max: config.handshake_timeout,
        body_bytes_max: config.http_body_bytes_max,
        ..ServerLimits::default()
    };
    let peer = Arc::new(peer);
    let asked = Cell::new(false);
    let handler = |request: Request| {
        asked.set(true);
        let (runtime, peer) = (runtime.clone(), peer.clone());
        async move {
            match &runtime.routes {
                Some(routes) => routes.handle(request, peer).await,
                None => {
                    let error = RequestError::new(ErrorCode::NotFound, "nothing is served here");
                    let tracking = Tracking { id: &runtime.tracking_id(), at: runtime.clock.now().wall };
                    failure(&error, tracking).into()
                }
            }
        }
    };
    if let Err(error) = serve_http(stream, handler, &limits).await {
        // A connection that waits for its next request may end at any time; one that never asked is a stranger.
        let reason = match () {
            () if asked.get() => None,
            () if error.is_too_slow() => Some(format!("no request within {} s", limits.head_max.as_secs())),
            () if error.is_malformed() => Some(error.to_string()),
            () => None,
        };
        match reason {
            Some(reason) => runtime.door.refuse(runtime.clock.now(), peer.address.ip(), "https", "", &reason),
            None => tracing::debug!(peer = %peer.address, %error, "an HTTP connection ended"),
        }
    }
}
