//! The dialect over HTTPS: paths, telemetry by POST, method invocation; and the headers they use.

mod method;
mod route;
mod telemetry;

use skerry_model::{InvalidId, ModuleId, Precondition};

pub use method::{invocation, invocation_body, method_result, read_method_result};
pub use route::{Route, ScopeCall, query_parameter, route};
pub use telemetry::{BATCH_CONTENT_TYPE, batch, telemetry_headers, telemetry_properties};

/// What JSON bodies are announced as; the Node SDK reads JSON only under this name.
pub const JSON_CONTENT_TYPE: &str = "application/json; charset=utf-8";

/// Name of the header in which a module that invokes a method says who it is.
pub const CALLING_MODULE_HEADER: &str = "x-ms-edge-moduleid";

/// Reads the value of [`CALLING_MODULE_HEADER`].
///
/// # Errors
/// When it is not `device/module`.
pub fn calling_module(value: &str) -> Result<ModuleId, InvalidId> {
    ModuleId::parse(value.trim())
}

/// Reads `If-Match`: `*` and etags, both with or without quotes.
pub fn precondition(if_match: Option<&str>) -> Precondition {
    let Some(value) = if_match.map(str::trim).filter(|value| !value.is_empty()) else { return Precondition::Absent };
    let value = value.strip_prefix("W/").unwrap_or(value);
    match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value) {
        "*" => Precondition::Any,
        etag => Precondition::Etag(etag.to_owned()),
    }
}

/// The value of `If-Match` that says `precondition`; `None` when there is none to say.
pub fn if_match(precondition: &Precondition) -> Option<String> {
    match precondition {
        Precondition::Absent => None,
        Precondition::Any => Some("*".to_owned()),
        Precondition::Etag(etag) => Some(quoted(etag)),
    }
}

/// The value of the `ETag` header.
pub fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

#[cfg(test)]
mod tests;
