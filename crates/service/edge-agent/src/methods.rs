//! Direct methods of `$edgeAgent` (`edge-agent` §5): `ping` and `RestartModule`.

use serde_json::json;
use skerry_model::{Json, ModuleName, json};

/// Nesting of a method's payload.
const DEPTH_MAX: usize = 64;

/// What a method call asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Ping,
    Restart(ModuleName),
}

/// An answer: status and JSON text.
pub(crate) type Answer = (i64, String);

/// Reads a call; names in any case.
///
/// # Errors
/// With the answer, when there is no such method or its argument is wrong.
pub(crate) fn read(name: &str, payload: &[u8]) -> Result<Asked, Answer> {
    match name.to_ascii_lowercase().as_str() {
        "ping" => Ok(Asked::Ping),
        "restartmodule" => restart(payload).map(Asked::Restart).map_err(|reason| failure(400, &reason)),
        _ => {
            Err(failure(400, &format!("Command '{name}' not found. The supported commands are - ping, RestartModule")))
        }
    }
}

/// The answer when all went well.
pub(crate) fn done() -> Answer {
    (200, "null".to_owned())
}

/// The answer when it did not.
pub(crate) fn failure(status: i64, reason: &str) -> Answer {
    (status, json!({ "message": reason }).to_string())
}

fn restart(payload: &[u8]) -> Result<ModuleName, String> {
    let payload = match json::parse(payload, DEPTH_MAX) {
        Ok(Json::Object(payload)) => payload,
        Ok(_) => return Err("the payload is not a JSON object".to_owned()),
        Err(error) => return Err(format!("the payload is {error}")),
    };
    let text = |name: &str| {
        let found = payload.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| value.as_str()).ok_or_else(|| format!("`{name}` is missing or not a text"))
    };
    let version = text("schemaVersion")?;
    if version.split('.').next() != Some("1") {
        return Err(format!("schema version {version} is not supported, 1.0 is"));
    }
    ModuleName::parse(text("id")?).map_err(|error| format!("`id`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_in_any_case() {
        assert_eq!(read("PING", b""), Ok(Asked::Ping));
        let module = ModuleName::parse("m").unwrap();
        assert_eq!(read("restartModule", br#"{"SchemaVersion":"1.0","id":"m"}"#), Ok(Asked::Restart(module)));
    }

    #[test]
    fn wrong_calls_are_answered_with_a_message() {
        let status = |name: &str, payload: &str| match read(name, payload.as_bytes()) {
            Err((status, body)) => (status, serde_json::from_str::<Json>(&body).unwrap()["message"].to_string()),
            Ok(asked) => panic!("{asked:?}"),
        };
        assert!(status("nosuch", "").1.contains("Command 'nosuch' not found. The supported commands are - "));
        for payload in ["", "[]", "{}", r#"{"schemaVersion":"2.0","id":"m"}"#, r#"{"schemaVersion":"1.0","id":""}"#] {
            assert_eq!(status("RestartModule", payload).0, 400, "{payload}");
        }
    }
}
