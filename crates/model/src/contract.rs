//! What clients ask and what they are sent: the words both hubs and all protocol heads share.
//!
//! An entry exists only when at least two heads can say it; what one protocol alone can say is mounted on that head.

use std::time::Duration;

use bytes::Bytes;

use crate::json::JsonObject;
use crate::{ClientId, Json, Message, RequestError, Timestamp};

/// A kind of delivery that a client can listen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Cloud-to-device messages.
    Commands,
    /// Direct methods.
    Methods,
    /// Changes of desired properties.
    Desired,
    /// Messages to a module's inputs.
    Inputs,
}

/// Everything a client can ask of the hub besides sending telemetry.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Read the own twin.
    GetTwin,
    /// Merge into the own twin's reported properties.
    PatchReported {
        /// The patch; `null` deletes.
        patch: JsonObject,
        /// Only when the reported section has this version.
        if_version: Option<u64>,
    },
    /// Begin listening.
    Listen(Channel),
    /// Stop listening.
    Unlisten(Channel),
    /// Call a method of another client (a module through its edge hub).
    InvokeMethod(MethodInvocation),
    /// Answer a method call.
    AnswerMethod(MethodAnswer),
}

/// The hub's answer to a [`Request`].
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The twin as a device sees it: both sections with `$version`, no tags, no `$metadata`.
    Twin(Json),
    /// The reported patch is taken; the section's new version where the hub knows it.
    Reported {
        /// Version of the reported section after the patch.
        version: Option<u64>,
    },
    /// Done, nothing to say.
    Done,
    /// The other client's answer to a method.
    MethodResult {
        /// Chosen by the other client.
        status: i64,
        /// JSON text; empty counts as `null`.
        payload: Bytes,
    },
    /// Refused.
    Failed(RequestError),
}

/// A call of another client's method.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodInvocation {
    /// Whose method.
    pub target: ClientId,
    /// The method's name.
    pub name: String,
    /// JSON text; empty when the caller gave none.
    pub payload: Bytes,
    /// How long the target may take to answer: 5 s to 300 s.
    pub response_timeout: Duration,
    /// How long to wait for the target to come online: 0 s to 300 s.
    pub connect_timeout: Duration,
}

/// Names one method call on its way; unique within the hub's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodCallId(pub u128);

/// A method call as its target gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodCall {
    /// To be given back with the answer.
    pub id: MethodCallId,
    /// The method's name.
    pub name: String,
    /// JSON text; may be empty.
    pub payload: Bytes,
}

/// The target's answer to a method call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodAnswer {
    /// Which call; an unknown one is ignored.
    pub id: MethodCallId,
    /// Any number.
    pub status: i64,
    /// JSON text; may be empty.
    pub payload: Bytes,
}

/// Names one delivery to one attachment until it is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockToken(pub u128);

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Processed: forget it.
    Accepted,
    /// Not processed, offer it again.
    Released,
    /// Failed, offer it again and count the attempt.
    Modified,
    /// Never to be processed.
    Rejected,
}

/// One settled delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Which one.
    pub lock: LockToken,
    /// What became of it.
    pub outcome: Outcome,
}

/// Which feedback the sender of a command wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FeedbackRequest {
    /// None.
    #[default]
    None,
    /// When it was completed.
    Positive,
    /// When it was not.
    Negative,
    /// Either way.
    Full,
}

impl FeedbackRequest {
    /// Reads `none`, `positive`, `negative`, `full`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Positive, Self::Negative, Self::Full]
            .into_iter()
            .find(|ack| ack.as_str().eq_ignore_ascii_case(text))
    }

    /// The wire's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::Full => "full",
        }
    }
}

/// A cloud-to-device message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Properties and payload as the sender gave them.
    pub message: Message,
    /// Place in the device's queue, from 1.
    pub sequence_number: u64,
    /// When the hub took it.
    pub enqueued: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
    /// Deliveries before this one that did not end in completion.
    pub delivery_count: u32,
    /// Which feedback its sender wants.
    pub ack: FeedbackRequest,
}

/// A message on its way to a module's input. Cloning shares the parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputMessage {
    /// The input's name.
    pub input: std::sync::Arc<str>,
    /// Who sent it.
    pub source: ClientId,
    /// The sender's property bag as text.
    pub properties: Bytes,
    /// The payload.
    pub body: Bytes,
    /// It was sent to this client before and not settled.
    pub redelivered: bool,
}

/// Everything a client can be sent besides answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// A cloud-to-device message; to be settled.
    Command {
        /// Settles it.
        lock: LockToken,
        /// The message.
        command: std::sync::Arc<Command>,
    },
    /// A method call; to be answered with [`Request::AnswerMethod`].
    Method(MethodCall),
    /// Desired properties changed.
    Desired {
        /// The patch as the operator gave it, `null` for deleted keys, without `$version`.
        patch: std::sync::Arc<JsonObject>,
        /// Version of the desired section after the patch.
        version: u64,
    },
    /// A message to one of a module's inputs; to be settled.
    Input {
        /// Settles it.
        lock: LockToken,
        /// The message.
        message: InputMessage,
    },
}

/// Receipt for appended messages. Tickets of one attachment are handed out and completed in order; a ticket is complete when
/// everything its messages were promised to is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub u64);
