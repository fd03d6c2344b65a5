//! `createOptions`, which travel as text in up to a hundred pieces.

use skerry_model::Json;
use skerry_model::json::{self, JsonObject};

use super::reader::Reader;

/// Characters of one piece when options are written.
pub const CHUNK_CHARS: usize = 512;
/// Pieces that are used when options are read.
const PIECES_MAX: usize = 100;
/// Nesting of create options; the engine's own body stays far below.
const DEPTH_MAX: usize = 64;
const NAME: &str = "createOptions";

/// The keys and texts that carry `options` in a module's settings: `createOptions`, `createOptions01` and so on.
pub fn chunks(options: &JsonObject) -> Vec<(String, String)> {
    let text: Vec<char> = serde_json::to_string(options).unwrap_or_default().chars().collect();
    let pieces = text.chunks(CHUNK_CHARS).enumerate();
    pieces
        .map(|(at, piece)| {
            let key = if at == 0 { NAME.to_owned() } else { format!("{NAME}{at:02}") };
            (key, piece.iter().collect())
        })
        .collect()
}

/// The create options of a module's settings.
pub(super) fn read(reader: &mut Reader, settings: &JsonObject) -> Option<JsonObject> {
    match join(settings).and_then(|text| parse(&text)) {
        Ok(options) => Some(options),
        Err(reason) => reader.fail(reason),
    }
}

/// Whether `key` takes part: any key that contains the name does, as in the original.
pub(super) fn is_piece(key: &str) -> bool {
    number(key).is_some()
}

fn join(settings: &JsonObject) -> Result<String, String> {
    let mut pieces: Vec<(String, &str, &Json)> = settings
        .iter()
        .filter_map(|(key, value)| number(key).map(|number| (key.to_ascii_lowercase(), number, value)))
        .collect();
    pieces.sort_by(|left, right| left.0.cmp(&right.0));
    let mut text = String::new();
    for (at, (_, number, value)) in pieces.into_iter().take(PIECES_MAX).enumerate() {
        if at == 0 && !number.is_empty() {
            return Err(format!(
                "Error while parsing chunked field \"{NAME}\", expected empty field number but found \"{number}\""
            ));
        }
        if at > 0 && number.parse() != Ok(at) {
            return Err(format!(
                "Error while parsing chunked field \"{NAME}\", expected {NAME}{at:02} found {NAME}{number}"
            ));
        }
        match value {
            Json::Null => {}
            Json::String(piece) => text.push_str(piece),
            other => text.push_str(&other.to_string()),
        }
    }
    Ok(text)
}

fn parse(text: &str) -> Result<JsonObject, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(JsonObject::new());
    }
    match json::parse(text.as_bytes(), DEPTH_MAX) {
        Ok(Json::Object(options)) => Ok(options),
        Ok(Json::Null) => Ok(JsonObject::new()),
        Ok(_) => Err(format!("{NAME} are not a JSON object")),
        Err(error) => Err(format!("{NAME} are {error}")),
    }
}

/// The digits behind the name in a key; `None` when the name is not in it.
fn number(key: &str) -> Option<&str> {
    let at = key.to_ascii_lowercase().find("createoptions")?;
    let rest = &key[at + NAME.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some(&rest[..end])
}
