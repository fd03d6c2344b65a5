//! Calling a method over HTTPS, by services and by modules alike: the request's and the answer's body.
//!
//! Sources: `device-https` §7, `service-messaging` §1.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use skerry_model::{ClientId, ErrorCode, Json, Limits, MethodInvocation, RequestError};

use crate::body::{DEPTH_MAX, invalid, object, text};

/// When the caller does not say how long to wait for the answer.
const RESPONSE_TIMEOUT_DEFAULT_S: u64 = 30;
/// How long a caller may be willing to wait for the answer, in seconds.
const RESPONSE_TIMEOUT_S: std::ops::RangeInclusive<u64> = 5..=300;
/// How long a caller may be willing to wait for the target to come online, in seconds.
const CONNECT_TIMEOUT_S: std::ops::RangeInclusive<u64> = 0..=300;

/// Reads the body of a call of one of `target`'s methods.
///
/// # Errors
/// When it is not JSON, names no method, or a member is outside its range.
pub fn invocation(target: ClientId, body: &[u8], limits: &Limits) -> Result<MethodInvocation, RequestError> {
    let body = object(body)?;
    let name = text(&body, "methodName")?.unwrap_or("");
    if name.is_empty() {
        return Err(invalid("`methodName` is missing"));
    }
    if name.chars().count() > limits.method_name_chars_max {
        return Err(invalid(format!("`methodName` has more than {} characters", limits.method_name_chars_max)));
    }
    // The C device SDK has a name of its own for the first one.
    let response = seconds(&body, "responseTimeoutInSeconds", &RESPONSE_TIMEOUT_S)?;
    let response = if response.is_some() { response } else { seconds(&body, "timeout", &RESPONSE_TIMEOUT_S)? };
    let connect = seconds(&body, "connectTimeoutInSeconds", &CONNECT_TIMEOUT_S)?;
    // Absent and null both reach the target as null.
    let payload = body.get("payload").unwrap_or(&Json::Null).to_string();
    if payload.len() > limits.method_payload_bytes_max {
        return Err(RequestError::new(
            ErrorCode::TooLarge,
            format!(
                "the method's payload has {} bytes, {} are allowed",
                payload.len(),
                limits.method_payload_bytes_max
            ),
        ));
    }
    Ok(MethodInvocation {
        target,
        name: name.to_owned(),
        payload: Bytes::from(payload),
        response_timeout: Duration::from_secs(response.unwrap_or(RESPONSE_TIMEOUT_DEFAULT_S)),
        connect_timeout: Duration::from_secs(connect.unwrap_or(0)),
    })
}

fn seconds(
    body: &skerry_model::json::JsonObject,
    name: &str,
    range: &std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, RequestError> {
    match body.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|seconds| range.contains(seconds)) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(invalid(format!("`{name}` is not a whole number from {} to {}", range.start(), range.end()))),
        },
    }
}

/// The body that calls a method.
pub fn invocation_body(invocation: &MethodInvocation) -> String {
    let payload: Json = serde_json::from_slice(&invocation.payload).unwrap_or(Json::Null);
    json!({
        "methodName": invocation.name,
        "payload": payload,
        "responseTimeoutInSeconds": invocation.response_timeout.as_secs(),
        "connectTimeoutInSeconds": invocation.connect_timeout.as_secs(),
    })
    .to_string()
}

/// The body of an answer: the target's `status` and its `payload`, which has to be JSON; empty counts as null.
///
/// # Errors
/// When the target answered something that is not JSON.
pub fn method_result(status: i64, payload: &[u8]) -> Result<String, RequestError> {
    let payload = if payload.trim_ascii().is_empty() {
        Json::Null
    } else {
        skerry_model::json::parse(payload, DEPTH_MAX).map_err(|error| {
            RequestError::new(ErrorCode::BadRequest, format!("the method's target answered what is {error}"))
        })?
    };
    Ok(json!({ "status": status, "payload": payload }).to_string())
}

/// Reads the body of an answer: the target's status and payload.
///
/// # Errors
/// When it is not such a body.
pub fn read_method_result(body: &[u8]) -> Result<(i64, Json), RequestError> {
    let mut body = object(body)?;
    let status = body.get("status").and_then(Json::as_i64).ok_or_else(|| invalid("`status` is not a whole number"))?;
    Ok((status, body.shift_remove("payload").unwrap_or(Json::Null)))
}
