//! A message's properties as one text, `key=value` pairs joined by `&`, percent-encoded: the form they travel and rest in.
//!
//! Devices send this form over MQTT, so the hot path neither decodes nor copies it; it is read only when a route or another
//! protocol asks. System properties have keys that begin with `$.` once decoded.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Keys of system properties inside a bag (`device-mqtt` §3.1).
pub mod system {
    /// Message id.
    pub const MESSAGE_ID: &str = "$.mid";
    /// Correlation id.
    pub const CORRELATION_ID: &str = "$.cid";
    /// User id.
    pub const USER_ID: &str = "$.uid";
    /// Destination of a cloud-to-device message.
    pub const TO: &str = "$.to";
    /// Content type.
    pub const CONTENT_TYPE: &str = "$.ct";
    /// Content encoding.
    pub const CONTENT_ENCODING: &str = "$.ce";
    /// Absolute expiry.
    pub const EXPIRY: &str = "$.exp";
    /// Creation time.
    pub const CREATION_TIME: &str = "$.ctime";
    /// Name of the module output a message left through.
    pub const OUTPUT_NAME: &str = "$.on";
    /// Security interface.
    pub const INTERFACE_ID: &str = "$.ifid";
    /// Component of a plug-and-play model.
    pub const COMPONENT: &str = "$.sub";
    /// Message schema.
    pub const SCHEMA: &str = "$.schema";
    /// The device a module message comes from; written by the hub, never believed from a client.
    pub const CONNECTION_DEVICE_ID: &str = "$.cdid";
    /// The module a module message comes from; written by the hub, never believed from a client.
    pub const CONNECTION_MODULE_ID: &str = "$.cmid";
    /// Which feedback the sender of a command wants.
    pub const ACK: &str = "iothub-ack";
}

/// Everything but RFC 3986's unreserved characters.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A borrowed bag; any text is one, what cannot be decoded stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct PropertyBag<'a>(&'a str);

impl<'a> PropertyBag<'a> {
    /// Takes the text as it came; at most one trailing `/` (some device SDKs append one) is left out.
    pub fn new(text: &'a str) -> Self {
        Self(text.strip_suffix('/').unwrap_or(text))
    }

    /// The text of the bag.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// No property at all.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// All properties in order, decoded. A key without `=` has no value; a key with `=` and nothing behind it an empty one.
    pub fn iter(self) -> impl Iterator<Item = (Cow<'a, str>, Option<Cow<'a, str>>)> {
        self.0.split('&').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
            None => (decode(pair), None),
            Some((key, value)) => (decode(key), Some(decode(value))),
        })
    }

    /// Application properties only, decoded; what begins with `$.` is left out.
    pub fn application(self) -> impl Iterator<Item = (Cow<'a, str>, Option<Cow<'a, str>>)> {
        self.iter().filter(|(key, _)| !key.starts_with("$."))
    }

    /// The value of the last property named exactly `key` (see [`system`]); the last one wins in every device SDK.
    pub fn get(self, key: &str) -> Option<Cow<'a, str>> {
        let mut found = None;
        for (name, value) in self.iter() {
            if name == key {
                found = value;
            }
        }
        found
    }

    /// Bytes of names and values of application properties plus values of system properties, decoded: what the size rule counts.
    pub fn counted_bytes(self) -> usize {
        self.iter()
            .map(|(key, value)| {
                let name_bytes = if key.starts_with("$.") { 0 } else { key.len() };
                name_bytes + value.map_or(0, |value| value.len())
            })
            .sum()
    }
}

impl fmt::Debug for PropertyBag<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, out)
    }
}

fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

/// Writes a bag in the canonical form every device SDK reads: system properties first, `%24.` keys, upper-case hex.
#[derive(Debug, Clone, Default)]
pub struct PropertyBagBuilder(String);

impl PropertyBagBuilder {
    /// An empty bag.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a property, system or application.
    pub fn push(&mut self, key: &str, value: &str) -> &mut Self {
        self.separate();
        self.0.extend(utf8_percent_encode(key, STRICT));
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value, STRICT));
        self
    }

    /// Adds a property when it has a non-empty value. The Java device SDK cannot read an empty one.
    pub fn push_some(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) if !value.is_empty() => self.push(key, value),
            _ => self,
        }
    }

    /// Adds a key that has no value, not even an empty one.
    pub fn push_null(&mut self, key: &str) -> &mut Self {
        self.separate();
        self.0.extend(utf8_percent_encode(key, STRICT));
        self
    }

    /// The finished text.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.0)
    }

    fn separate(&mut self) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(String, Option<String>)> {
        PropertyBag::new(text).iter().map(|(k, v)| (k.into_owned(), v.map(Cow::into_owned))).collect()
    }

    #[test]
    fn both_spellings_of_the_dollar_and_raw_slashes_are_read() {
        assert_eq!(
            pairs("%24.mid=id%201%2F2&$.ct=application/json&a=x%3Dy&empty=&bare&b=1=2/"),
            [
                ("$.mid", Some("id 1/2")),
                ("$.ct", Some("application/json")),
                ("a", Some("x=y")),
                ("empty", Some("")),
                ("bare", None),
                ("b", Some("1=2")),
            ]
            .map(|(k, v)| (k.to_owned(), v.map(str::to_owned)))
        );
    }

    #[test]
    fn malformed_percent_stays_as_it_is() {
        assert_eq!(PropertyBag::new("a=100%&b=%zz").get("a").as_deref(), Some("100%"));
        assert_eq!(PropertyBag::new("a=100%&b=%zz").get("b").as_deref(), Some("%zz"));
    }

    #[test]
    fn the_last_of_two_equal_keys_wins() {
        assert_eq!(PropertyBag::new("a=1&a=2").get("a").as_deref(), Some("2"));
    }

    #[test]
    fn size_counts_names_of_application_properties_but_not_of_system_ones() {
        assert_eq!(PropertyBag::new("%24.mid=abc&key=%C3%A4").counted_bytes(), 3 + 3 + 2);
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_back(pairs in proptest::collection::vec((".{1,20}", proptest::option::of(".{0,20}")), 0..8)) {
            let mut builder = PropertyBagBuilder::new();
            for (key, value) in &pairs {
                match value {
                    Some(value) => builder.push(key, value),
                    None => builder.push_null(key),
                };
            }
            let text = builder.finish();
            let read: Vec<_> = PropertyBag::new(&text).iter().map(|(k, v)| (k.into_owned(), v.map(Cow::into_owned))).collect();
            prop_assert_eq!(read, pairs);
        }
    }
}
