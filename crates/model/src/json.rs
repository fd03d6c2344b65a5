//! JSON as data: twins, method payloads and route conditions are JSON, so the platform has one JSON type.

/// A JSON value with the order of keys kept.
pub type Json = serde_json::Value;
/// A JSON object with the order of keys kept.
pub type JsonObject = serde_json::Map<String, Json>;

/// The largest integer a twin can hold, 2^52 − 1.
pub const INTEGER_MAX: i64 = 4_503_599_627_370_495;
/// The smallest integer a twin can hold, −2^52.
pub const INTEGER_MIN: i64 = -4_503_599_627_370_496;

/// Why a text is not JSON that we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON: what was wrong, and where (both counted from 1).
    #[error("not JSON at line {line} column {column}: {reason}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1; 0 when the text ended too early.
        column: usize,
        /// What the parser missed.
        reason: String,
    },
    /// Objects and arrays nested deeper than allowed.
    #[error("JSON nested deeper than {0} levels")]
    TooDeep(usize),
}

/// Reads JSON that nests at most `depth_max` objects and arrays (a scalar has depth 0). No depth above 127 is ever taken.
///
/// # Errors
/// When the text is not JSON, or nests deeper.
pub fn parse(text: &[u8], depth_max: usize) -> Result<Json, JsonError> {
    let value: Json = serde_json::from_slice(text).map_err(|error| {
        if error.to_string().contains("recursion limit") {
            return JsonError::TooDeep(depth_max);
        }
        let reason = error.to_string();
        let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason).to_owned();
        JsonError::Syntax { line: error.line(), column: error.column(), reason }
    })?;
    if depth(&value) > depth_max { Err(JsonError::TooDeep(depth_max)) } else { Ok(value) }
}

/// How deep objects and arrays nest: 0 for a scalar, 1 for `{}` and `[1]`.
pub fn depth(value: &Json) -> usize {
    match value {
        Json::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Json::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_limited_and_errors_have_a_position() {
        assert_eq!(parse(b"{\"a\":[1]}", 2).map(|v| v.to_string()), Ok("{\"a\":[1]}".to_owned()));
        assert_eq!(parse(b"{\"a\":[1]}", 1), Err(JsonError::TooDeep(1)));
        assert_eq!(parse("[".repeat(100_000).as_bytes(), 10), Err(JsonError::TooDeep(10)));
        let error = parse(b"{\n\"a\":}", 10).unwrap_err();
        assert_eq!(error.to_string(), "not JSON at line 2 column 5: expected value");
    }

    #[test]
    fn key_order_and_large_integers_are_kept() {
        let text = "{\"z\":4503599627370495,\"a\":-4503599627370496}";
        assert_eq!(parse(text.as_bytes(), 1).unwrap().to_string(), text);
    }
}
