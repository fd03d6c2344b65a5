//! What modules wrote: which part of it is wanted, and the lines as they come.

use bytes::Bytes;
use skerry_model::Timestamp;
use tokio::sync::mpsc;

use crate::RuntimeError;

/// Lines that wait between a runtime and the reader of a log; beyond that the runtime stops reading.
const LINES_WAITING_MAX: usize = 64;

/// Which lines of a log are wanted; the default is all that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRange {
    /// Only the last so many lines of those that remain after `since` and `until`.
    pub tail: Option<usize>,
    /// Only lines written at this moment or later.
    pub since: Option<Timestamp>,
    /// Only lines written before this moment.
    pub until: Option<Timestamp>,
    /// Go on with new lines until the module ends.
    pub follow: bool,
}

/// Where a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written to.
    pub stream: LogStream,
    /// When the runtime got it.
    pub at: Option<Timestamp>,
    /// The text as written, without the line end; not always UTF-8. Very long lines come in pieces.
    pub text: Bytes,
}

/// Lines of a log, one after the other. Dropping it ends the reading.
#[derive(Debug)]
pub struct LogLines(mpsc::Receiver<Result<LogLine, RuntimeError>>);

/// The end of [`LogLines`] that a runtime writes to.
#[derive(Debug, Clone)]
pub struct LogSender(mpsc::Sender<Result<LogLine, RuntimeError>>);

impl LogLines {
    /// Both ends; the lines end when every sender is dropped.
    pub fn channel() -> (LogSender, Self) {
        let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
        (LogSender(sender), Self(receiver))
    }

    /// The next line; `None` at the end. An error is the last item.
    pub async fn next(&mut self) -> Option<Result<LogLine, RuntimeError>> {
        self.0.recv().await
    }
}

impl LogSender {
    /// Hands a line, or the error that ends the reading, to the reader and waits while it has too many; `false` when
    /// nobody reads any more.
    pub async fn send(&self, line: Result<LogLine, RuntimeError>) -> bool {
        self.0.send(line).await.is_ok()
    }

    /// The same for a thread outside of the async runtime.
    pub fn blocking_send(&self, line: Result<LogLine, RuntimeError>) -> bool {
        self.0.blocking_send(line).is_ok()
    }

    /// Waits until nobody reads any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}
