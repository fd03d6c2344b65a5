//! What a client says: a PUBLISH packet's topic and payload as a message, a request or an answer.
//!
//! Source: `device-mqtt` §2, §4, §6, §7. Telemetry is borrowed and not looked into.

use bytes::Bytes;
use skerry_model::{
    ClientId, ErrorCode, Json, MessageView, MethodAnswer, MethodCallId, PropertyBag, PropertyBagBuilder, Request,
    RequestError, json,
};

use super::{METHOD_ANSWERS, REPORTED, TWIN_GET, parameter, strip_own};

/// Nesting that is read at all; how deep a twin may be is decided by who keeps it, with a better answer.
const PATCH_DEPTH_MAX: usize = 64;

/// What a client said.
#[derive(Debug, Clone, PartialEq)]
pub enum Said<'a> {
    /// A message of its own.
    Telemetry(MessageView<'a>),
    /// Something that wants an answer under the client's own request id. A request that is understood but wrong in itself is
    /// answered with its error.
    Asked {
        /// The client's request id, to be echoed unchanged.
        rid: &'a str,
        /// What it asks.
        request: Result<Request, RequestError>,
    },
    /// An answer to a method call.
    Answered(MethodAnswer),
    /// An answer to a method call that this hub never made; to be ignored.
    Stray,
}

/// Why a PUBLISH packet is not understood; the connection is to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    /// No topic of this dialect.
    #[error("published to the topic `{0}`, which has no meaning here")]
    Topic(String),
    /// The topic belongs to another identity.
    #[error("published to the topic `{0}` of another identity")]
    Foreign(String),
    /// A request without an id cannot be answered.
    #[error("published to the topic `{0}` without a $rid")]
    RequestId(String),
    /// A method's status is not a number.
    #[error("answered a method with a status that is not a number: `{0}`")]
    Status(String),
}

/// Understands a PUBLISH packet of `from`.
///
/// # Errors
/// When the topic is none of this dialect, or names another identity.
pub fn said<'a>(from: &ClientId, topic: &'a str, payload: &'a [u8]) -> Result<Said<'a>, NotUnderstood> {
    if let Some(rest) = strip_own(topic, from) {
        return match rest.strip_prefix("messages/events") {
            Some("") => Ok(telemetry("", payload)),
            Some(bag) if bag.starts_with('/') => Ok(telemetry(&bag[1..], payload)),
            _ => Err(NotUnderstood::Topic(shortened(topic))),
        };
    }
    if let Some(parameters) = topic.strip_prefix(TWIN_GET) {
        return Ok(Said::Asked { rid: rid(topic, parameters)?, request: Ok(Request::GetTwin) });
    }
    if let Some(parameters) = topic.strip_prefix(REPORTED) {
        return Ok(Said::Asked { rid: rid(topic, parameters)?, request: reported(parameters, payload) });
    }
    if let Some(rest) = topic.strip_prefix(METHOD_ANSWERS) {
        return answer(topic, rest, payload);
    }
    Err(if topic.starts_with("devices/") {
        NotUnderstood::Foreign(shortened(topic))
    } else {
        NotUnderstood::Topic(shortened(topic))
    })
}

fn telemetry<'a>(bag: &'a str, body: &'a [u8]) -> Said<'a> {
    Said::Telemetry(MessageView { properties: PropertyBag::new(bag), body })
}

fn rid<'a>(topic: &str, parameters: &'a str) -> Result<&'a str, NotUnderstood> {
    parameter(parameters, "$rid")
        .filter(|rid| !rid.is_empty())
        .ok_or_else(|| NotUnderstood::RequestId(shortened(topic)))
}

fn reported(parameters: &str, payload: &[u8]) -> Result<Request, RequestError> {
    let if_version = parameter(parameters, "$version").map(str::parse).transpose().map_err(|_| {
        RequestError::new(ErrorCode::ArgumentInvalid, "the $version of the reported patch is not a number")
    })?;
    let patch = json::parse(payload, PATCH_DEPTH_MAX)
        .map_err(|error| RequestError::new(ErrorCode::Format, format!("the reported patch is {error}")))?;
    match patch {
        Json::Object(patch) => Ok(Request::PatchReported { patch, if_version }),
        _ => Err(RequestError::new(ErrorCode::Format, "the reported patch is not a JSON object")),
    }
}

/// `{status}/?$rid={rid}`.
fn answer<'a>(topic: &str, rest: &'a str, payload: &[u8]) -> Result<Said<'a>, NotUnderstood> {
    let (status, parameters) = rest.split_once('/').ok_or_else(|| NotUnderstood::RequestId(shortened(topic)))?;
    let status = status.parse().map_err(|_| NotUnderstood::Status(shortened(status)))?;
    Ok(match u128::from_str_radix(rid(topic, parameters)?, 16) {
        Ok(id) => {
            Said::Answered(MethodAnswer { id: MethodCallId(id), status, payload: Bytes::copy_from_slice(payload) })
        }
        Err(_) => Said::Stray,
    })
}

/// What a log line can hold of a stranger's text; what follows the first `?` or the telemetry prefix is the client's own data and
/// is left out.
fn shortened(topic: &str) -> String {
    const CHARS_MAX: usize = 200;
    let path = match topic.find("/messages/events/") {
        Some(at) => &topic[..at + "/messages/events".len()],
        None => topic.split('?').next().unwrap_or(topic),
    };
    path.chars().take(CHARS_MAX).filter(|c| !c.is_control()).collect()
}

/// What the hub adds to a message because of how it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The client wanted it retained; it is not, but it is marked.
    Retained,
    /// It is the client's will.
    Will,
}

/// The property bag `bag` with a mark.
pub fn marked(bag: PropertyBag<'_>, mark: Mark) -> String {
    let (key, value) = match mark {
        Mark::Retained => ("mqtt-retain", "true"),
        Mark::Will => ("iothub-MessageType", "Will"),
    };
    let pair = PropertyBagBuilder::new().push(key, value).finish();
    if bag.is_empty() { pair } else { format!("{}&{pair}", bag.as_str()) }
}
