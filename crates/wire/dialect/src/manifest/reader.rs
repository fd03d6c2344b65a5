//! Walks a JSON document and collects what is wrong with it. Keys are matched without regard to case, unknown ones are ignored.

use skerry_model::Json;
use skerry_model::json::JsonObject;

use super::ManifestError;

/// Where we are, and what was wrong so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    path: Vec<String>,
    pub(super) errors: Vec<ManifestError>,
}

impl Reader {
    /// Begins at a place that is not the document itself.
    pub(super) fn at(path: &[&str]) -> Self {
        Self { path: path.iter().map(|key| (*key).to_owned()).collect(), errors: Vec::new() }
    }

    /// Notes what is wrong here.
    pub(super) fn fail<T>(&mut self, reason: impl Into<String>) -> Option<T> {
        self.errors.push(ManifestError { path: self.path.clone(), reason: reason.into(), place: None });
        None
    }

    /// Does something one level deeper.
    pub(super) fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.to_owned());
        let outcome = read(self);
        self.path.pop();
        outcome
    }

    /// Reads a member that must be there.
    pub(super) fn required<'a, T>(
        &mut self,
        object: &'a JsonObject,
        name: &str,
        read: impl FnOnce(&mut Self, &'a Json) -> Option<T>,
    ) -> Option<T> {
        match member(object, name) {
            Some((key, value)) => self.within(key, |reader| read(reader, value)),
            None => self.fail(format!("`{name}` is missing")),
        }
    }

    /// Reads a member that may be missing or null. The outer `None` means that it is there and wrong.
    pub(super) fn optional<'a, T>(
        &mut self,
        object: &'a JsonObject,
        name: &str,
        read: impl FnOnce(&mut Self, &'a Json) -> Option<T>,
    ) -> Option<Option<T>> {
        match member(object, name) {
            None | Some((_, Json::Null)) => Some(None),
            Some((key, value)) => self.within(key, |reader| read(reader, value)).map(Some),
        }
    }

    pub(super) fn object<'a>(&mut self, value: &'a Json) -> Option<&'a JsonObject> {
        match value {
            Json::Object(object) => Some(object),
            _ => self.fail(format!("expected an object, found {}", kind(value))),
        }
    }

    /// A text; numbers and booleans are taken for their spelling, as the original does.
    pub(super) fn text(&mut self, value: &Json) -> Option<String> {
        match value {
            Json::String(text) => Some(text.clone()),
            Json::Number(number) => Some(number.to_string()),
            Json::Bool(truth) => Some(spelled(*truth).to_owned()),
            Json::Null | Json::Array(_) | Json::Object(_) => {
                self.fail(format!("expected a text, found {}", kind(value)))
            }
        }
    }

    /// A text that is more than white space.
    pub(super) fn filled_text(&mut self, value: &Json) -> Option<String> {
        let text = self.text(value)?;
        if text.trim().is_empty() { self.fail("must not be blank") } else { Some(text) }
    }

    /// One of some words, in any case.
    pub(super) fn word<T>(&mut self, value: &Json, parse: impl Fn(&str) -> Option<T>, words: &str) -> Option<T> {
        let text = self.text(value)?;
        parse(&text).or_else(|| self.fail(format!("`{text}` is none of {words}")))
    }

    /// A whole number of a range.
    pub(super) fn whole(&mut self, value: &Json, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let number = match value {
            Json::Number(number) => number.as_i64(),
            Json::String(text) => text.trim().parse().ok(),
            Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
        };
        number
            .filter(|number| range.contains(number))
            .or_else(|| self.fail(format!("expected a whole number from {} to {}", range.start(), range.end())))
    }
}

/// The member `name`: exactly, or else without regard to case; with the key as it was written.
pub(super) fn member<'a>(object: &'a JsonObject, name: &str) -> Option<(&'a str, &'a Json)> {
    let exact = object.get_key_value(name);
    let found = exact.or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)));
    found.map(|(key, value)| (key.as_str(), value))
}

/// How the original spells a boolean that stands where a text is wanted.
pub(super) const fn spelled(truth: bool) -> &'static str {
    if truth { "True" } else { "False" }
}

pub(super) const fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}
