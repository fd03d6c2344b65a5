//! Why the connection of a client ends.

use std::io;

use skerry_dialect::mqtt::NotUnderstood;
use skerry_model::RequestError;
use skerry_mqtt::DecodeError;
use skerry_mqtt::server::{Expired, Violation};

use crate::Closed;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// In good order, or in the middle of things.
    #[error("the connection was lost: {0}")]
    Lost(#[from] io::Error),
    #[error("the client left")]
    Left,
    #[error("the client closed without DISCONNECT")]
    Eof,
    #[error("{0}")]
    Expired(Expired),
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    Violation(#[from] Violation),
    #[error("{0}")]
    NotUnderstood(#[from] NotUnderstood),
    #[error("subscribed to the topic filter {0:?} of another identity")]
    ForeignFilter(String),
    #[error("{0}")]
    Message(RequestError),
    #[error("{0}")]
    Session(skerry_session::End),
    #[error("{}", .0.as_str())]
    Hub(Closed),
}

impl End {
    /// Whether the client did something that an operator has to hear of.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Left | Self::Eof | Self::Expired(_) => false,
            Self::Hub(closed) => !matches!(closed, Closed::Superseded | Closed::Stopping),
            Self::Decode(_)
            | Self::Violation(_)
            | Self::NotUnderstood(_)
            | Self::ForeignFilter(_)
            | Self::Message(_)
            | Self::Session(_) => true,
        }
    }
}
