//! Reading members out of JSON bodies, with errors that name the member.

use skerry_model::{ErrorCode, Json, RequestError, json, json::JsonObject};

/// Nesting that is read in any body; twins have a narrower rule of their own.
pub(crate) const DEPTH_MAX: usize = 64;

pub(crate) fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> RequestError {
    RequestError::new(ErrorCode::ArgumentInvalid, detail)
}

/// The body as JSON.
pub(crate) fn value(body: &[u8]) -> Result<Json, RequestError> {
    json::parse(body, DEPTH_MAX).map_err(|error| RequestError::new(ErrorCode::Format, format!("the body is {error}")))
}

/// The body as a JSON object.
pub(crate) fn object(body: &[u8]) -> Result<JsonObject, RequestError> {
    match value(body)? {
        Json::Object(object) => Ok(object),
        _ => Err(RequestError::new(ErrorCode::Format, "the body is not a JSON object")),
    }
}

/// A text member; `None` when it is missing or null.
pub(crate) fn text<'a>(object: &'a JsonObject, name: &str) -> Result<Option<&'a str>, RequestError> {
    match object.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(format!("`{name}` is not a text"))),
    }
}

/// A member that is an object; `None` when it is missing or null.
pub(crate) fn member<'a>(object: &'a JsonObject, name: &str) -> Result<Option<&'a JsonObject>, RequestError> {
    match object.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Object(member)) => Ok(Some(member)),
        Some(_) => Err(invalid(format!("`{name}` is not an object"))),
    }
}
