//! What can go wrong, once for all protocols; each head has a table from these to its own status.

use std::borrow::Cow;

/// One catalogue of failures. The six-digit numbers are IoT Hub's (`twin-method-c2d-semantics` §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request cannot be understood.
    BadRequest,
    /// A value is outside what is allowed.
    ArgumentInvalid,
    /// A document does not have the right form.
    Format,
    /// Token missing, wrong or expired; an identity that is unknown or disabled looks the same from outside.
    Unauthorized,
    /// The device's queue of commands is full.
    QueueDepthExceeded,
    /// More methods in flight, uploads or other things than allowed.
    QuotaExceeded,
    /// What was asked for is not allowed to who asks.
    Forbidden,
    /// No such device.
    DeviceNotFound,
    /// No such module.
    ModuleNotFound,
    /// Nothing at this address.
    NotFound,
    /// The target of a method is not connected, or does not listen for methods.
    DeviceNotOnline,
    /// The target of a method went away before it answered.
    ConnectionClosed,
    /// A device with this id exists.
    DeviceAlreadyExists,
    /// A module with this id exists.
    ModuleAlreadyExists,
    /// The version that was asked for is not the current one.
    PreconditionFailed,
    /// The lock on a message is not held any more.
    LockLost,
    /// A message or document is too large.
    TooLarge,
    /// More than the registry may hold.
    LimitExceeded,
    /// Too much at once: the same again later will do.
    Throttled,
    /// A fault of ours.
    Internal,
    /// Nothing is wrong with the request; the same again later will do.
    Unavailable,
    /// The other side did not answer in time.
    Timeout,
    /// A newer connection of the same identity took over.
    Superseded,
    /// This part of the interface is not built.
    NotImplemented,
}

/// A failed request: the code, and a sentence that says what was wrong with what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct RequestError {
    /// What kind of failure.
    pub code: ErrorCode,
    /// A sentence for a person; never holds a key or a payload.
    pub detail: Cow<'static, str>,
}

impl RequestError {
    /// A failure of the kind `code`; `detail` says what was wrong with what.
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Why somebody is not let in. The peer learns only the code; `detail` is for the log and the connection list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Denied {
    /// `Unauthorized` is final; `Unavailable` and `Throttled` ask the peer to come again.
    pub code: ErrorCode,
    /// What was wrong with what; never holds a key or a token.
    pub detail: Cow<'static, str>,
}

impl Denied {
    /// Not let in, for good: wrong key, expired token, unknown or disabled identity.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code: ErrorCode::Unauthorized, detail: detail.into() }
    }

    /// Not let in now; the same again later will do.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code: ErrorCode::Unavailable, detail: detail.into() }
    }
}

/// Why a batch of messages was not taken. Nothing of the batch was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The store has no room: stop reading from this sender and offer the batch again when woken.
    #[error("the store is full")]
    Full,
    /// A newer attachment of the same subject exists; this one is fenced off.
    #[error("a newer connection of the same identity took over")]
    Superseded,
    /// Message number `index` of the batch can never be taken.
    #[error("message {index} of the batch is refused: {error}")]
    Message {
        /// Which message of the batch, from 0.
        index: usize,
        /// Why.
        error: RequestError,
    },
    /// The store cannot write any more (disk error); nothing will be taken until it is repaired.
    #[error("the store failed: {0}")]
    Failed(Cow<'static, str>),
}
