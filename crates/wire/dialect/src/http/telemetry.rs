//! Telemetry by POST: a message's properties as headers, and many messages in one body.
//!
//! Source: `device-https` §2–3.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use skerry_model::{Json, Message, PropertyBag, PropertyBagBuilder, RequestError, Timestamp, system};

use crate::body::{invalid, value};

/// The content type of a body that holds many messages.
pub const BATCH_CONTENT_TYPE: &str = "application/vnd.microsoft.iothub.json";

/// What application properties begin with as headers.
const APPLICATION: &str = "iothub-app-";

/// Headers of system properties and their keys in a bag.
const SYSTEM: [(&str, &str); 10] = [
    ("iothub-messageid", system::MESSAGE_ID),
    ("iothub-correlationid", system::CORRELATION_ID),
    ("iothub-userid", system::USER_ID),
    ("iothub-to", system::TO),
    ("iothub-contenttype", system::CONTENT_TYPE),
    ("iothub-contentencoding", system::CONTENT_ENCODING),
    ("iothub-expiry", system::EXPIRY),
    ("iothub-creation-time-utc", system::CREATION_TIME),
    ("iothub-interface-id", system::INTERFACE_ID),
    ("dt-subject", system::COMPONENT),
];

/// The property bag that a request's headers (or a batch entry's properties) say. Other headers are ignored; the case of names does
/// not matter, and that of application properties is kept as it came.
pub fn telemetry_properties<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let (mut own, mut application) = (PropertyBagBuilder::new(), PropertyBagBuilder::new());
    for (name, value) in headers {
        if let Some(property) = name.get(..APPLICATION.len()).filter(|start| start.eq_ignore_ascii_case(APPLICATION)) {
            let property = &name[property.len()..];
            // The Node device SDK sends a system property that the application set by its short name in this way.
            let bag = if property.starts_with("$.") { &mut own } else { &mut application };
            if !property.is_empty() {
                bag.push(property, value);
            }
            continue;
        }
        let known = SYSTEM.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        let Some((_, key)) = known else { continue };
        let said = match *key {
            // Most clients repeat the request's own path here.
            system::TO => !value.starts_with("/devices/"),
            // The Node device SDK writes a date in words, which no reader of a bag understands.
            system::EXPIRY | system::CREATION_TIME => Timestamp::parse(value).is_ok(),
            _ => true,
        };
        if said {
            own.push_some(key, Some(value));
        }
    }
    let (own, application) = (own.finish(), application.finish());
    match (own.is_empty(), application.is_empty()) {
        (false, false) => format!("{own}&{application}"),
        _ => own + &application,
    }
}

/// The headers that say the property bag `bag`. Names and values that cannot be headers are left out.
pub fn telemetry_headers(bag: PropertyBag<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (key, value) in bag.iter() {
        let Some(value) = value.filter(|value| value.bytes().all(|b| b >= b' ' && b != 0x7f)) else { continue };
        let name = match SYSTEM.iter().find(|(_, known)| *known == key) {
            Some((header, _)) => (*header).to_owned(),
            None if !key.is_empty() && key.bytes().all(is_token) => format!("{APPLICATION}{key}"),
            None => continue,
        };
        headers.push((name, value.into_owned()));
    }
    headers
}

/// What a header's name may consist of (RFC 9110).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads a body of many messages; all or none.
///
/// # Errors
/// When the body is not an array of messages, or one of them is malformed.
pub fn batch(body: &[u8]) -> Result<Vec<Message>, RequestError> {
    let Json::Array(entries) = value(body)? else { return Err(invalid("the batch is not an array")) };
    entries
        .iter()
        .enumerate()
        .map(|(at, entry)| message(entry).map_err(|what| invalid(format!("message {at} of the batch: {what}"))))
        .collect()
}

fn message(entry: &Json) -> Result<Message, &'static str> {
    let body = match &entry["body"] {
        Json::Null => "",
        Json::String(body) => body,
        _ => return Err("`body` is not a text"),
    };
    let encoded = match &entry["base64Encoded"] {
        Json::Null => true,
        Json::Bool(encoded) => *encoded,
        _ => return Err("`base64Encoded` is neither true nor false"),
    };
    let body = if encoded {
        Bytes::from(STANDARD.decode(body).map_err(|_| "`body` is not base64")?)
    } else {
        Bytes::copy_from_slice(body.as_bytes())
    };
    let properties = match &entry["properties"] {
        Json::Null => String::new(),
        Json::Object(properties) => {
            let pairs: Option<Vec<_>> =
                properties.iter().map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect();
            telemetry_properties(pairs.ok_or("a property is not a text")?)
        }
        _ => return Err("`properties` is not an object"),
    };
    Ok(Message { properties, body })
}
