//! Bodies: whole ones, and ones that come piece by piece.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::sync::mpsc;

use super::HttpError;

/// Pieces of a streaming body that may wait for a slow reader.
const PIECES_WAITING_MAX: usize = 8;

/// The body of a response that is sent.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Whole(Bytes),
    Pieces(mpsc::Receiver<Bytes>),
}

impl Body {
    /// A body whose pieces come later, and where to put them. It ends when the sender is dropped.
    pub fn streaming() -> (BodySender, Self) {
        let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
        (BodySender(sender), Self(Kind::Pieces(receiver)))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Whole(bytes))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.0 {
            Kind::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Pieces(receiver) => receiver.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Kind::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Pieces(_) => SizeHint::default(),
        }
    }
}

/// Puts pieces into a streaming body.
#[derive(Debug)]
pub struct BodySender(mpsc::Sender<Bytes>);

/// The other end went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader of the body went away")]
pub struct Closed;

impl BodySender {
    /// Adds a piece; waits while eight pieces wait for the reader.
    ///
    /// # Errors
    /// When the reader is gone.
    pub async fn send(&self, piece: Bytes) -> Result<(), Closed> {
        self.0.send(piece).await.map_err(|_| Closed)
    }

    /// Waits until the reader is gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// The body of a response that is received, piece by piece.
#[derive(Debug)]
pub struct BodyReader(pub(super) Incoming);

impl BodyReader {
    /// The next piece, never empty; `None` at the end.
    ///
    /// # Errors
    /// When the connection is lost before the body's end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, HttpError> {
        while let Some(frame) = self.0.frame().await {
            let frame = frame.map_err(HttpError::Lost)?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}
