//! The client's side of the dialect: where it listens, where it publishes, and what a hub's publications mean. Used against our own
//! hubs and Azure's alike.

use std::borrow::Cow;
use std::fmt::Write as _;

use skerry_model::{Channel, ClientId, Json, MessageView, PropertyBag, RequestError, json, json::JsonObject};

use super::{
    DESIRED, METHOD_ANSWERS, METHOD_CALLS, REPORTED, TWIN_GET, TWIN_RESPONSES, parameter, push_own, strip_own,
};
use crate::{error, percent};

/// Nesting that is read in what a hub sends.
const DEPTH_MAX: usize = 64;

/// The filter to subscribe to before the first twin request.
pub const TWIN_RESPONSE_FILTER: &str = "$iothub/twin/res/#";

/// The filter that listens to `channel` as `own`.
pub fn filter(channel: Channel, own: &ClientId) -> String {
    let below = |rest: &str| {
        let mut filter = String::new();
        push_own(&mut filter, own);
        filter.push_str(rest);
        filter
    };
    match channel {
        Channel::Commands => below("messages/devicebound/#"),
        Channel::Inputs => below("inputs/#"),
        Channel::Methods => format!("{METHOD_CALLS}#"),
        Channel::Desired => format!("{DESIRED}#"),
    }
}

/// Appends the topic of a message of `own` with the properties `bag`.
pub fn telemetry_topic(own: &ClientId, bag: PropertyBag<'_>, topic: &mut String) {
    push_own(topic, own);
    topic.push_str("messages/events/");
    topic.push_str(bag.as_str());
}

/// Appends the topic that asks for the own twin; `rid` is a name of one's own without `& ? = /`.
pub fn get_twin_topic(rid: &str, topic: &mut String) {
    let _ = write!(topic, "{TWIN_GET}?$rid={rid}");
}

/// Appends the topic that sends a patch of reported properties.
pub fn patch_reported_topic(rid: &str, if_version: Option<u64>, topic: &mut String) {
    let _ = write!(topic, "{REPORTED}?$rid={rid}");
    if let Some(version) = if_version {
        let _ = write!(topic, "&$version={version}");
    }
}

/// Appends the topic that answers the method call `rid`.
pub fn method_answer_topic(rid: &str, status: i64, topic: &mut String) {
    let _ = write!(topic, "{METHOD_ANSWERS}{status}/?$rid={rid}");
}

/// What a hub published.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard<'a> {
    /// A cloud-to-device message; to be acknowledged when it is processed.
    Command(MessageView<'a>),
    /// A message to one of the module's inputs; to be acknowledged when it is processed.
    Input {
        /// The input's name.
        input: &'a str,
        /// Sender (`$.cdid`, `$.cmid`), properties and payload.
        message: MessageView<'a>,
    },
    /// A method call.
    Method {
        /// To be given back with the answer.
        rid: &'a str,
        /// The method's name.
        name: Cow<'a, str>,
        /// JSON text; may be empty.
        payload: &'a [u8],
    },
    /// Desired properties changed.
    Desired(DesiredPatch),
    /// The answer to a twin request.
    TwinResponse {
        /// The id the request was given.
        rid: &'a str,
        /// What the hub says.
        answer: TwinAnswer,
    },
}

/// A change of desired properties.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredPatch {
    /// The patch without `$version`; `null` deletes.
    pub patch: JsonObject,
    /// Version of the section after the patch.
    pub version: u64,
}

/// What a hub answers to a twin request.
#[derive(Debug, Clone, PartialEq)]
pub enum TwinAnswer {
    /// The whole twin as the client sees it.
    Twin(Json),
    /// Done; for a reported patch with the section's new version where the hub says it.
    Done {
        /// Version of the reported section after the patch.
        version: Option<u64>,
    },
    /// Refused.
    Failed(RequestError),
}

/// Why a hub's publication is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotHeard {
    /// No topic of this dialect, or of another identity.
    #[error("the hub published to the topic `{0}`, which has no meaning here")]
    Topic(String),
    /// A parameter is missing or wrong.
    #[error("the hub's topic `{topic}` has no proper {parameter}")]
    Parameter {
        /// The topic.
        topic: String,
        /// Which parameter.
        parameter: &'static str,
    },
    /// The payload is not what belongs to the topic.
    #[error("the hub's {what} is {error}")]
    Payload {
        /// What should have been there.
        what: &'static str,
        /// What is wrong.
        error: String,
    },
}

/// Understands what a hub published to `own`.
///
/// # Errors
/// When the topic or the payload is not of this dialect.
pub fn heard<'a>(own: &ClientId, topic: &'a str, payload: &'a [u8]) -> Result<Heard<'a>, NotHeard> {
    if let Some(rest) = topic.strip_prefix(TWIN_RESPONSES) {
        return twin_response(topic, rest, payload);
    }
    if let Some(parameters) = topic.strip_prefix(DESIRED) {
        return desired(topic, parameters, payload);
    }
    if let Some(rest) = topic.strip_prefix(METHOD_CALLS) {
        let (name, parameters) = rest.rsplit_once("/?").ok_or_else(|| wrong(topic, "$rid"))?;
        let rid = parameter(parameters, "$rid").ok_or_else(|| wrong(topic, "$rid"))?;
        return Ok(Heard::Method { rid, name: percent::decode(name), payload });
    }
    let unknown = || NotHeard::Topic(shortened(topic));
    let rest = strip_own(topic, own).ok_or_else(unknown)?;
    let view = |bag| MessageView { properties: PropertyBag::new(bag), body: payload };
    if let Some(inputs) = rest.strip_prefix("inputs/") {
        let (input, bag) = inputs.split_once('/').unwrap_or((inputs, ""));
        return Ok(Heard::Input { input, message: view(bag) });
    }
    match rest.strip_prefix("messages/devicebound") {
        Some("") => Ok(Heard::Command(view(""))),
        Some(bag) if bag.starts_with('/') => Ok(Heard::Command(view(&bag[1..]))),
        _ => Err(unknown()),
    }
}

fn wrong(topic: &str, parameter: &'static str) -> NotHeard {
    NotHeard::Parameter { topic: shortened(topic), parameter }
}

fn shortened(topic: &str) -> String {
    const CHARS_MAX: usize = 200;
    topic.chars().take(CHARS_MAX).filter(|c| !c.is_control()).collect()
}

fn twin_response<'a>(topic: &'a str, rest: &'a str, payload: &[u8]) -> Result<Heard<'a>, NotHeard> {
    let (status, parameters) = rest.split_once('/').ok_or_else(|| wrong(topic, "status"))?;
    let status: u16 = status.parse().map_err(|_| wrong(topic, "status"))?;
    let rid = parameter(parameters, "$rid").ok_or_else(|| wrong(topic, "$rid"))?;
    let answer = match status {
        200 if !payload.is_empty() => TwinAnswer::Twin(read(payload, "twin")?),
        200..=299 => TwinAnswer::Done { version: parameter(parameters, "$version").and_then(|text| text.parse().ok()) },
        _ => TwinAnswer::Failed(error::read(status, payload)),
    };
    Ok(Heard::TwinResponse { rid, answer })
}

/// The version is taken from the body, and from the topic where the body has none.
fn desired<'a>(topic: &str, parameters: &str, payload: &[u8]) -> Result<Heard<'a>, NotHeard> {
    let Json::Object(mut patch) = read(payload, "desired patch")? else {
        return Err(NotHeard::Payload { what: "desired patch", error: "not a JSON object".to_owned() });
    };
    let in_topic = || parameter(parameters, "$version").and_then(|text| text.parse().ok());
    let in_body = patch.shift_remove("$version").and_then(|version| version.as_u64());
    let version = in_body.or_else(in_topic).ok_or_else(|| wrong(topic, "$version"))?;
    Ok(Heard::Desired(DesiredPatch { patch, version }))
}

fn read(payload: &[u8], what: &'static str) -> Result<Json, NotHeard> {
    json::parse(payload, DEPTH_MAX).map_err(|error| NotHeard::Payload { what, error: error.to_string() })
}
