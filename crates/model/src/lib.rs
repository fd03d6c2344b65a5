//! The words of the platform: values every other crate speaks in, and the rules that hold inside one value.

#![forbid(unsafe_code)]

mod auth;
mod checkpoint;
mod contract;
mod error;
mod ids;
pub mod json;
mod limits;
pub mod manifest;
mod message;
mod property_bag;
mod registry;
mod time;
mod twin;

pub use auth::{AuthChain, AuthKind, AuthMethod, AuthScope, InvalidChain, SasToken};
pub use checkpoint::{Behind, BehindState, Checkpoint, Run, Settlement, Span, Tally};
pub use contract::{
    Channel, Command, Delivery, FeedbackRequest, InputMessage, LockToken, MethodAnswer, MethodCall, MethodCallId,
    MethodInvocation, Outcome, Reply, Request, Settled, Ticket,
};
pub use error::{Denied, ErrorCode, Refusal, RequestError};
pub use ids::{ClientId, DeviceId, InvalidId, ModuleId, ModuleName};
pub use json::Json;
pub use limits::Limits;
pub use manifest::{HubManifest, Manifest, ModuleSpec, Route};
pub use message::{Message, MessageSource, MessageView, Stamp};
pub use property_bag::{PropertyBag, PropertyBagBuilder, system};
pub use registry::{
    Activity, Authentication, AuthenticationDraft, ConnectionState, DeviceDraft, DeviceRecord, DeviceStatus, EdgeScope,
    InvalidKey, InvalidThumbprint, KeyPair, ModuleDraft, ModuleRecord, Precondition, STATUS_REASON_CHARS_MAX,
    SharedKey, Thumbprint,
};
pub use time::{InvalidTimestamp, Monotonic, Now, Timestamp};
pub use twin::{
    Metadata, NEVER, Section, Twin, TwinChange, TwinError, TwinPart, TwinRecordError, TwinUpdate, difference, merge,
};
