//! Paths into a JSON body: `a.b[0].c`.

use skerry_model::Json;

use crate::value::Value;

/// A path into a body, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BodyPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    Item(usize),
    /// Passes the check of the original, but its evaluation never gives a value: wildcards, text behind an index.
    Nowhere,
}

impl BodyPath {
    /// Reads a path; `None` when it is not one (empty part, part that is only digits, index that is not a number).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut steps = Vec::new();
        for part in text.split('.') {
            let (name, indexes) = part.split_at(part.find('[').unwrap_or(part.len()));
            let is_name = !name.is_empty() && !name.contains(']') && !name.bytes().all(|byte| byte.is_ascii_digit());
            if !is_name {
                return None;
            }
            steps.push(if name == "*" { Step::Nowhere } else { Step::Member(name.to_owned()) });
            if !indexes.is_empty() {
                push_indexes(indexes, &mut steps)?;
            }
        }
        Some(Self(steps))
    }

    /// What the path leads to. Objects, arrays and texts that look like a date are undefined.
    pub(crate) fn value_in<'a>(&self, body: &'a Json) -> Value<'a> {
        let mut at = Some(body);
        for step in &self.0 {
            at = match (step, at) {
                (Step::Nowhere, _) => return Value::Undefined,
                (Step::Member(name), Some(Json::Object(members))) => members.get(name),
                (Step::Item(index), Some(Json::Array(items))) => items.get(*index),
                (Step::Member(_) | Step::Item(_), _) => None,
            };
        }
        match at {
            None => Value::Missing,
            Some(Json::Null) => Value::Null,
            Some(Json::Bool(truth)) => Value::Bool(*truth),
            Some(Json::Number(number)) => number.as_f64().map_or(Value::Undefined, Value::number),
            Some(Json::String(text)) if looks_like_date(text) => Value::Undefined,
            Some(Json::String(text)) => Value::text(text.as_str()),
            Some(Json::Array(_) | Json::Object(_)) => Value::Undefined,
        }
    }
}

/// `[0]` must be right; what follows the first index is looked at only when the path is used.
fn push_indexes(text: &str, steps: &mut Vec<Step>) -> Option<()> {
    let (first, mut rest) = index(text)?;
    steps.push(first);
    while !rest.is_empty() {
        match index(rest) {
            Some((step, behind)) => {
                steps.push(step);
                rest = behind;
            }
            None => {
                steps.push(Step::Nowhere);
                break;
            }
        }
    }
    Some(())
}

fn index(text: &str) -> Option<(Step, &str)> {
    let (digits, rest) = text.strip_prefix('[')?.split_once(']')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // A number too large for an index is beyond the end of any array.
    Some((Step::Item(digits.parse().unwrap_or(usize::MAX)), rest))
}

/// Whether the original's JSON library takes the text for a date: `2024-05-01T10:00:00`, with fraction and zone or without,
/// or `/Date(…)/`.
fn looks_like_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    if let Some(inner) = text.strip_prefix("/Date(").and_then(|rest| rest.strip_suffix(")/")) {
        let digits = inner.strip_prefix('-').unwrap_or(inner);
        return digits.starts_with(|c: char| c.is_ascii_digit());
    }
    if !(19..=40).contains(&bytes.len()) {
        return false;
    }
    let shape_is_right = bytes[..19].iter().zip(b"dddd-dd-ddTdd:dd:dd").all(|(byte, wanted)| match wanted {
        b'd' => byte.is_ascii_digit(),
        _ => byte == wanted,
    });
    shape_is_right && date_exists(bytes) && zone_is_right(&bytes[19..])
}

fn date_exists(bytes: &[u8]) -> bool {
    let number =
        |from: usize, to: usize| bytes[from..to].iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    let is_leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let days = match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let time_exists = hour < 24 && minute < 60 && second < 60 || (hour, minute, second) == (24, 0, 0);
    year > 0 && (1..=12).contains(&month) && (1..=days).contains(&day) && time_exists
}

fn zone_is_right(rest: &[u8]) -> bool {
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let zone = match rest.split_first() {
        Some((b'.', fraction)) => {
            let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if length == 0 || length > 7 {
                return false;
            }
            &fraction[length..]
        }
        _ => rest,
    };
    match zone {
        [] | [b'Z'] => true,
        [b'+' | b'-', offset @ ..] => match offset.len() {
            2 | 4 => digits(offset),
            5 => offset[2] == b':' && digits(&offset[..2]) && digits(&offset[3..]),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_or_refused() {
        for text in ["a", "a.b[0].c", "a[0][1]", "1a", "a[0]b", "*", "a-b.c_d"] {
            assert!(BodyPath::parse(text).is_some(), "{text}");
        }
        for text in ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a[x]", "a]", "[0]", "5", "a.5", "a['b']"] {
            assert!(BodyPath::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_lies_beyond_an_index_is_found_or_undefined() {
        let body = serde_json::json!({"a": [[1, 2], "x"]});
        let value = |path: &str| BodyPath::parse(path).unwrap().value_in(&body);
        assert_eq!(value("a[0][1]"), Value::Number(2.0));
        assert_eq!(value("a[1]"), Value::text("x"));
        assert_eq!(value("a[1].b"), Value::Missing);
        assert_eq!(value("a[99999999999999999999999]"), Value::Missing);
        assert_eq!(value("a[0]b"), Value::Undefined);
        assert_eq!(value("a.*"), Value::Undefined);
    }

    #[test]
    fn dates_are_told_from_other_texts() {
        for text in [
            "2024-05-01T10:00:00",
            "2024-05-01T10:00:00Z",
            "2024-02-29T24:00:00.1234567+02:00",
            "2024-05-01T10:00:00-0200",
            "/Date(1700000000000)/",
        ] {
            assert!(looks_like_date(text), "{text}");
        }
        for text in [
            "2024-05-01",
            "2024-05-01 10:00:00",
            "2023-02-29T10:00:00",
            "2024-13-01T10:00:00Z",
            "2024-05-01T10:00:00.12345678Z",
            "2024-05-01T10:00:00 Z",
            "2024-05-01T10:00:0äZ",
            "/Date()/",
        ] {
            assert!(!looks_like_date(text), "{text}");
        }
    }
}
