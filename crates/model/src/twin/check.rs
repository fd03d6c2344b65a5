//! What a twin may hold: kinds of values, names of keys, depth and size.

use crate::json::{INTEGER_MAX, INTEGER_MIN, JsonObject, depth};
use crate::{ErrorCode, Json, Limits, RequestError};

use super::TwinPart;
use super::merge::without_nulls;
use super::section::without_reserved;

/// Why a write of a twin is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TwinError {
    /// Not the version that the writer asked for.
    #[error("the section has version {current}, not {asked}")]
    Version {
        /// What the writer expected.
        asked: u64,
        /// What it is.
        current: u64,
    },
    /// The part would become larger than allowed.
    #[error("{} would have {bytes} bytes, allowed are {max}", part.as_str())]
    Size {
        /// Which part.
        part: TwinPart,
        /// Bytes as the platform counts them.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The part would nest deeper than allowed.
    #[error("{} would nest {levels} levels deep, allowed are {max}", part.as_str())]
    Depth {
        /// Which part.
        part: TwinPart,
        /// Levels of objects and arrays.
        levels: usize,
        /// The limit.
        max: usize,
    },
    /// A key or value that a twin cannot hold.
    #[error("{path}: {reason}")]
    Value {
        /// Where, from the twin's root; keys cut at 40 characters.
        path: String,
        /// What is wrong there.
        reason: &'static str,
    },
}

impl TwinError {
    /// The code that stands for this error: version 412, size 413, everything else 400.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Version { .. } => ErrorCode::PreconditionFailed,
            Self::Size { .. } => ErrorCode::TooLarge,
            Self::Depth { .. } | Self::Value { .. } => ErrorCode::ArgumentInvalid,
        }
    }
}

impl From<TwinError> for RequestError {
    fn from(error: TwinError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Checks keys and values of a patch; `null` members are allowed, they delete.
pub(super) fn patch(part: TwinPart, patch: &JsonObject, limits: &Limits) -> Result<(), TwinError> {
    Place { part, limits, key: "", within: None }.object(&without_reserved(patch), true)
}

/// Checks size and depth of a merged part.
pub(super) fn whole(part: TwinPart, document: &JsonObject, limits: &Limits) -> Result<(), TwinError> {
    let levels = document.values().map(depth).max().unwrap_or(0);
    if levels > limits.twin_depth_max {
        return Err(TwinError::Depth { part, levels, max: limits.twin_depth_max });
    }
    let bytes = counted_bytes(document);
    let max = match part {
        TwinPart::Tags => limits.twin_tags_bytes_max,
        TwinPart::Desired | TwinPart::Reported => limits.twin_section_bytes_max,
    };
    if bytes > max { Err(TwinError::Size { part, bytes, max }) } else { Ok(()) }
}

/// Checks a whole document that a service gives, and drops its `null` members.
pub(super) fn document(
    part: TwinPart,
    document: Option<&JsonObject>,
    limits: &Limits,
) -> Result<JsonObject, TwinError> {
    let Some(document) = document else { return Ok(JsonObject::new()) };
    patch(part, document, limits)?;
    let clean = without_nulls(&without_reserved(document));
    whole(part, &clean, limits)?;
    Ok(clean)
}

/// The size that the limits are about: keys and strings by UTF-8 length without control characters, 8 bytes a number, 4 a boolean.
fn counted_bytes(object: &JsonObject) -> usize {
    object.iter().map(|(key, value)| text_bytes(key) + value_bytes(value)).sum()
}

fn value_bytes(value: &Json) -> usize {
    match value {
        Json::Null => 0,
        Json::Bool(_) => 4,
        Json::Number(_) => 8,
        Json::String(text) => text_bytes(text),
        Json::Array(items) => items.iter().map(value_bytes).sum(),
        Json::Object(members) => counted_bytes(members),
    }
}

fn text_bytes(text: &str) -> usize {
    text.chars().filter(|c| !c.is_control()).map(char::len_utf8).sum()
}

/// Where a check is: a key, and the place it is in.
struct Place<'a> {
    part: TwinPart,
    limits: &'a Limits,
    key: &'a str,
    within: Option<&'a Place<'a>>,
}

impl Place<'_> {
    fn object(&self, object: &JsonObject, root: bool) -> Result<(), TwinError> {
        let within = if root { None } else { Some(self) };
        for (key, value) in object {
            let inner = Place { part: self.part, limits: self.limits, key, within };
            inner.check_key()?;
            inner.value(value, false)?;
        }
        Ok(())
    }

    fn value(&self, value: &Json, in_array: bool) -> Result<(), TwinError> {
        match value {
            Json::Null if in_array => Err(self.wrong("an array cannot hold null")),
            Json::Null | Json::Bool(_) => Ok(()),
            Json::Number(number) => {
                let in_range = match number.as_i64() {
                    Some(integer) => (INTEGER_MIN..=INTEGER_MAX).contains(&integer),
                    None => !number.is_u64(),
                };
                if in_range {
                    Ok(())
                } else {
                    Err(self.wrong("an integer must lie between -4503599627370496 and 4503599627370495"))
                }
            }
            Json::String(text) if text.len() > self.limits.twin_string_bytes_max => {
                Err(self.wrong("the text is too long"))
            }
            Json::String(_) => Ok(()),
            Json::Array(items) => items.iter().try_for_each(|item| self.value(item, true)),
            Json::Object(members) => self.object(members, false),
        }
    }

    fn check_key(&self) -> Result<(), TwinError> {
        if self.key.len() > self.limits.twin_key_bytes_max {
            return Err(self.wrong("the key is too long"));
        }
        if self.key.chars().any(|c| c.is_control() || matches!(c, '.' | '$' | ' ')) {
            return Err(self.wrong("a key cannot contain control characters, '.', '$' or space"));
        }
        Ok(())
    }

    fn wrong(&self, reason: &'static str) -> TwinError {
        TwinError::Value { path: self.path(), reason }
    }

    fn path(&self) -> String {
        let mut path = self.within.map_or_else(|| self.part.as_str().to_owned(), Place::path);
        path.push('.');
        path.extend(self.key.chars().take(40).flat_map(char::escape_debug));
        path
    }
}
