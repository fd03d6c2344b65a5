//! What a client is sent: topics and payloads of deliveries and of answers to twin requests.
//!
//! Source: `device-mqtt` §3.3, §5–§7. Topics are appended to a buffer of the caller, so that nothing is allocated per message.

use std::borrow::Cow;
use std::fmt::Write as _;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use skerry_model::{
    ClientId, Command, Delivery, ErrorCode, FeedbackRequest, InputMessage, Json, MethodCall, PropertyBag, Reply,
    RequestError, json::JsonObject, system,
};

use super::{DESIRED, METHOD_CALLS, TWIN_RESPONSES, push_own};
use crate::error::{self, Tracking};
use crate::percent::{self, STRICT};

/// What a method's name cannot hold inside a topic. The Node device SDK does not decode it, so that nothing else is touched.
const METHOD_NAME: &AsciiSet = &CONTROLS.add(b'/').add(b'?').add(b'#').add(b'+').add(b'%');

/// Appends the topic of `delivery` to `topic` and answers the payload.
pub fn publication<'a>(delivery: &'a Delivery, to: &ClientId, topic: &mut String) -> Cow<'a, [u8]> {
    match delivery {
        Delivery::Input { message, .. } => input(message, to, topic),
        Delivery::Command { command, .. } => self::command(command, to, topic),
        Delivery::Method(call) => method(call, topic),
        Delivery::Desired { patch, version } => desired(patch, *version, topic),
    }
}

fn method<'a>(call: &'a MethodCall, topic: &mut String) -> Cow<'a, [u8]> {
    topic.push_str(METHOD_CALLS);
    topic.extend(utf8_percent_encode(&call.name, METHOD_NAME));
    // Nothing may follow the request id: the C# device SDK takes all of it.
    let _ = write!(topic, "/?$rid={:x}", call.id.0);
    Cow::Borrowed(&call.payload)
}

/// The version stands in the topic, where the Java device SDK reads it, and in the body, where the Python one does.
fn desired(patch: &JsonObject, version: u64, topic: &mut String) -> Cow<'static, [u8]> {
    let _ = write!(topic, "{DESIRED}?$version={version}");
    let mut body = patch.clone();
    body.insert("$version".to_owned(), version.into());
    Cow::Owned(Json::Object(body).to_string().into_bytes())
}

/// `%24.to` is always there: the C# device SDK cannot take an empty bag, the Java one needs an encoded system key in front.
fn command<'a>(command: &'a Command, to: &ClientId, topic: &mut String) -> Cow<'a, [u8]> {
    push_own(topic, to);
    topic.push_str("messages/devicebound/");
    let bag = command.message.bag();
    if let Some(id) = bag.get(system::MESSAGE_ID) {
        push_pair(topic, system::MESSAGE_ID, &id);
        topic.push('&');
    }
    let mut destination = String::from("/");
    push_own(&mut destination, to);
    destination.push_str("messages/deviceBound");
    push_pair(topic, system::TO, &destination);
    let rest = |key: &str| !matches!(key, system::MESSAGE_ID | system::TO | system::EXPIRY | system::ACK);
    let properties = || bag.iter().filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)));
    for (key, value) in properties().filter(|(key, _)| rest(key) && key.starts_with("$.")) {
        topic.push('&');
        push_pair(topic, &key, &value);
    }
    if bag.get(system::EXPIRY).is_some() {
        topic.push('&');
        push_pair(topic, system::EXPIRY, &command.expires.to_round_trip());
    }
    if command.ack != FeedbackRequest::None {
        topic.push('&');
        push_pair(topic, system::ACK, command.ack.as_str());
    }
    for (key, value) in properties().filter(|(key, _)| rest(key) && !key.starts_with("$.")) {
        topic.push('&');
        push_pair(topic, &key, &value);
    }
    Cow::Borrowed(&command.message.body)
}

fn push_pair(topic: &mut String, key: &str, value: &str) {
    topic.extend(utf8_percent_encode(key, STRICT));
    topic.push('=');
    topic.extend(utf8_percent_encode(value, STRICT));
}

/// The sender's identity first, then its own bag. Pairs that are canonical already are copied as they are.
fn input<'a>(message: &'a InputMessage, to: &ClientId, topic: &mut String) -> Cow<'a, [u8]> {
    push_own(topic, to);
    topic.push_str("inputs/");
    topic.push_str(&message.input);
    topic.push('/');
    push_pair(topic, system::CONNECTION_DEVICE_ID, message.source.device().as_str());
    if let Some(module) = message.source.module() {
        topic.push('&');
        push_pair(topic, system::CONNECTION_MODULE_ID, module.as_str());
    }
    match std::str::from_utf8(&message.properties) {
        Ok(properties) => push_bag(topic, PropertyBag::new(properties)),
        // Bags come from topics, which are UTF-8; anything else is kept readable.
        Err(_) => push_bag(topic, PropertyBag::new(&String::from_utf8_lossy(&message.properties))),
    }
    Cow::Borrowed(&message.body)
}

/// Appends a sender's bag in the form every receiver reads: strictly encoded, each pair with a value. The output it left through
/// and what it claims to be are not passed on.
fn push_bag(topic: &mut String, bag: PropertyBag<'_>) {
    for pair in bag.as_str().split('&') {
        if is_canonical(pair) {
            if !is_withheld_encoded(pair) {
                topic.push('&');
                topic.push_str(pair);
            }
        } else {
            push_decoded(topic, pair);
        }
    }
}

fn push_decoded(topic: &mut String, pair: &str) {
    // Neither an empty value nor a missing one can be said to the Java device SDK, so such a pair is dropped.
    let Some((key, value)) = pair.split_once('=').filter(|(_, value)| !value.is_empty()) else { return };
    let key = percent::decode(key);
    if !matches!(&*key, system::OUTPUT_NAME | system::CONNECTION_DEVICE_ID | system::CONNECTION_MODULE_ID) {
        topic.push('&');
        push_pair(topic, &key, &percent::decode(value));
    }
}

fn is_withheld_encoded(pair: &str) -> bool {
    const WITHHELD: [&str; 3] = ["on=", "cdid=", "cmid="];
    pair.strip_prefix("%24.").is_some_and(|rest| WITHHELD.iter().any(|key| rest.starts_with(key)))
}

/// Whether a pair is exactly what strict encoding would have made of it: a key, one `=`, a value that is not empty, nothing but
/// unreserved characters and well-formed, upper-case escapes of others.
fn is_canonical(pair: &str) -> bool {
    let bytes = pair.as_bytes();
    let Some(divider) = bytes.iter().position(|b| *b == b'=') else { return false };
    if divider == 0 || divider + 1 == bytes.len() {
        return false;
    }
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => 1,
            b'=' if at == divider => 1,
            b'%' if is_needed_escape(bytes.get(at + 1..at + 3)) => 3,
            _ => return false,
        };
    }
    true
}

/// Two upper-case hex digits of a byte that has to be escaped.
fn is_needed_escape(digits: Option<&[u8]>) -> bool {
    const fn value(digit: u8) -> Option<u8> {
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'A'..=b'F' => Some(digit - b'A' + 10),
            _ => None,
        }
    }
    let Some(&[high, low]) = digits else { return false };
    let (Some(high), Some(low)) = (value(high), value(low)) else { return false };
    let byte = high << 4 | low;
    // What is beyond ASCII may not be UTF-8, which only the decoder finds out.
    byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"-._~".contains(&byte)
}

/// Appends the topic of the answer to request `rid` to `topic` and answers the payload.
pub fn twin_response(rid: &str, reply: &Reply, tracking: Tracking<'_>, topic: &mut String) -> Vec<u8> {
    let failure;
    let (status, version, body) = match reply {
        Reply::Twin(twin) => (200, None, twin.to_string()),
        Reply::Reported { version } => (204, *version, String::new()),
        Reply::Done => (204, None, String::new()),
        Reply::Failed(error) => (error::status(error.code), None, error::twin_body(error, tracking)),
        Reply::MethodResult { .. } => {
            failure = RequestError::new(ErrorCode::Internal, "the hub answered something else than was asked");
            (error::status(failure.code), None, error::twin_body(&failure, tracking))
        }
    };
    let _ = write!(topic, "{TWIN_RESPONSES}{status}/?$rid={rid}");
    if let Some(version) = version {
        let _ = write!(topic, "&$version={version}");
    }
    body.into_bytes()
}
