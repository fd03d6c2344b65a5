//! What a session is doing, and why a connection ended.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use skerry_model::Monotonic;
use skerry_mqtt::{ConnectReturn, DecodeError, client};

use crate::dial::DialError;
use crate::token::TokenError;

/// What a session is doing.
#[derive(Debug, Clone)]
pub enum State {
    /// Making a connection.
    Connecting,
    /// Connected, and everything that was listened to is subscribed again.
    Connected {
        /// Number of the connection, from 1. What was heard on an earlier one may have gaps: read the twin again.
        number: u64,
    },
    /// Not connected for now.
    Disconnected {
        /// Why.
        reason: Arc<Ended>,
        /// When the next attempt begins.
        retry_at: Monotonic,
    },
    /// The hub does not let this identity in, and will not before somebody changes something: it is unknown or disabled, its key is
    /// another, or the chain is not one. Attempts go on, rarely.
    Refused {
        /// The hub's answer.
        code: ConnectReturn,
        /// When the next attempt begins.
        retry_at: Monotonic,
    },
    /// The session was closed.
    Closed,
}

/// Why a connection ended or did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// No token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No token in time.
    #[error("no token within {0:?}")]
    TokenTimeout(Duration),
    /// No byte stream.
    #[error("the hub cannot be reached")]
    Dial(#[from] DialError),
    /// No byte stream in time.
    #[error("no connection within {0:?}")]
    DialTimeout(Duration),
    /// The hub's answer to CONNECT.
    #[error("the hub refused the connection: {}", reason(*.0))]
    Refused(ConnectReturn),
    /// The hub closed the connection.
    #[error("the hub closed the connection")]
    ByHub,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    /// The hub sent something that is not MQTT.
    #[error("the hub sent what is not MQTT: {0}")]
    NotMqtt(#[from] DecodeError),
    /// The hub did not keep to the protocol.
    #[error("the hub sent {0}")]
    Violation(#[from] client::Violation),
    /// The hub was silent for too long.
    #[error("{0}")]
    Silent(client::Expired),
    /// Messages were not acknowledged.
    #[error("the hub acknowledged nothing for {0:?}")]
    NotAcked(Duration),
    /// The subscriptions that a connection begins with were not answered.
    #[error("the hub did not answer the subscriptions within {0:?}")]
    NotSubscribed(Duration),
    /// Deliveries were not taken or settled here.
    #[error("deliveries were neither taken nor settled for {0:?}")]
    NotDrained(Duration),
    /// A delivery was settled as not processed; over MQTT the hub offers it again only on a new connection.
    #[error("a delivery was given back")]
    GivenBack,
    /// A new token is shown with a new connection.
    #[error("the token is renewed")]
    Renewal,
    /// The session was closed.
    #[error("the session was closed")]
    Closed,
    /// CONNECT cannot be written.
    #[error("CONNECT cannot be written: {0}")]
    Connect(#[from] skerry_mqtt::encode::EncodeError),
}

impl Ended {
    /// The hub's answer when it will be the same until somebody changes something.
    pub(crate) fn refused_for_ever(&self) -> Option<ConnectReturn> {
        match self {
            Self::Refused(code) if *code != ConnectReturn::ServerUnavailable => Some(*code),
            _ => None,
        }
    }

    /// We wanted it.
    pub(crate) fn intended(&self) -> bool {
        matches!(self, Self::Renewal | Self::Closed)
    }
}

fn reason(code: ConnectReturn) -> &'static str {
    match code {
        ConnectReturn::Accepted => "accepted",
        ConnectReturn::UnacceptableProtocol => "it does not speak MQTT 3.1.1",
        ConnectReturn::IdentifierRejected => "it does not take the client id",
        ConnectReturn::ServerUnavailable => "it is not available",
        ConnectReturn::BadUserNameOrPassword => "it does not understand the user name or token",
        ConnectReturn::NotAuthorized => "the identity is not authorized",
    }
}
