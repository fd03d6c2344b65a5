//! A message on its way: what the sender said, and what the hub stamps on it.

use std::sync::Arc;

use bytes::Bytes;

use crate::{AuthMethod, ClientId, PropertyBag, Timestamp, system};

/// A message borrowed from a read buffer or a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageView<'a> {
    /// Application and system properties.
    pub properties: PropertyBag<'a>,
    /// The payload; never interpreted by the platform except in `$body` conditions.
    pub body: &'a [u8],
}

impl MessageView<'_> {
    /// The size that the message limit is about: body plus names and values of properties, decoded, in bytes.
    pub fn counted_bytes(&self) -> usize {
        self.body.len() + self.properties.counted_bytes()
    }

    /// A copy that owns its parts.
    pub fn to_owned(&self) -> Message {
        Message { properties: self.properties.as_str().to_owned(), body: Bytes::copy_from_slice(self.body) }
    }
}

/// A message that owns its parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The property bag's text (see [`PropertyBag`]).
    pub properties: String,
    /// The payload.
    pub body: Bytes,
}

impl Message {
    /// The properties to read.
    pub fn bag(&self) -> PropertyBag<'_> {
        PropertyBag::new(&self.properties)
    }

    /// The message, borrowed.
    pub fn view(&self) -> MessageView<'_> {
        MessageView { properties: self.bag(), body: &self.body }
    }

    /// The id its sender gave it.
    pub fn message_id(&self) -> Option<String> {
        self.bag().get(system::MESSAGE_ID).map(std::borrow::Cow::into_owned)
    }
}

/// What kind of event a message is (`iothub-message-source`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageSource {
    /// Sent by a device or module.
    Telemetry,
    /// A twin changed.
    TwinChange,
}

impl MessageSource {
    /// The value of `iothub-message-source`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "Telemetry",
            Self::TwinChange => "twinChangeEvents",
        }
    }
}

/// What the hub knows about where a message comes from; never taken from the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Whose message it is.
    pub source: ClientId,
    /// The sender's generation id.
    pub generation: Arc<str>,
    /// How the sender was authenticated.
    pub auth_method: AuthMethod,
    /// The plug-and-play model the sender announced.
    pub model_id: Option<Arc<str>>,
    /// What kind of event it is.
    pub kind: MessageSource,
    /// When the hub took it.
    pub enqueued: Timestamp,
}
