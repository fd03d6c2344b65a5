//! A message as conditions see it.

use std::borrow::Cow;
use std::cell::OnceCell;

use skerry_model::{ClientId, Json, MessageView, Stamp, json, system};
use smallvec::SmallVec;

use crate::filter::Fields;

/// The depth beyond which a body counts as "not JSON".
const BODY_DEPTH_MAX: usize = 64;

/// What conditions call a system property, and its key in a property bag (`edge-hub-routing-and-store` §2).
const IN_BAG: &[(&str, &str)] = &[
    ("messageId", system::MESSAGE_ID),
    ("correlationId", system::CORRELATION_ID),
    ("cid", system::CORRELATION_ID),
    ("userId", system::USER_ID),
    ("to", system::TO),
    ("contentType", system::CONTENT_TYPE),
    ("contentEncoding", system::CONTENT_ENCODING),
    ("absolute-expiry-time", system::EXPIRY),
    ("creationTime", system::CREATION_TIME),
    ("outputName", system::OUTPUT_NAME),
    ("iothub-interface-id", system::INTERFACE_ID),
    ("dt-subject", system::COMPONENT),
    ("messageSchema", system::SCHEMA),
    ("ack", system::ACK),
];

/// One message for conditions: the sender's properties, what the hub stamped on it, and the body, parsed when first asked for.
pub struct MessageFields<'a> {
    message: MessageView<'a>,
    stamp: Option<&'a Stamp>,
    more: SmallVec<[(&'a str, &'a str); 4]>,
    body: OnceCell<Option<Json>>,
}

impl<'a> MessageFields<'a> {
    /// The message as its sender gave it.
    pub fn new(message: MessageView<'a>) -> Self {
        Self { message, stamp: None, more: SmallVec::new(), body: OnceCell::new() }
    }

    /// With what the hub stamped on it; only this says who sent it.
    #[must_use]
    pub fn stamped(mut self, stamp: &'a Stamp) -> Self {
        self.stamp = Some(stamp);
        self
    }

    /// With one more system property, such as `edgeMessageId`; it wins over the sender's of that name.
    #[must_use]
    pub fn with_system(mut self, name: &'a str, value: &'a str) -> Self {
        self.more.push((name, value));
        self
    }

    fn stamped_property(&self, name: &str) -> Option<Cow<'_, str>> {
        let stamp = self.stamp?;
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        if is("connectionDeviceId") {
            Some(stamp.source.device().as_str().into())
        } else if is("connectionModuleId") {
            match &stamp.source {
                ClientId::Device(_) => None,
                ClientId::Module(module) => Some(module.name.as_str().into()),
            }
        } else if is("connectionDeviceGenerationId") {
            Some((&*stamp.generation).into())
        } else if is("connectionAuthMethod") {
            Some(stamp.auth_method.to_stamp().into())
        } else if is("enqueuedTime") {
            Some(stamp.enqueued.to_round_trip().into())
        } else if is("modelId") {
            stamp.model_id.as_deref().map(Cow::Borrowed)
        } else {
            None
        }
    }

    fn parse_body(&self) -> Option<Json> {
        let is_json = self.message.properties.get(system::CONTENT_TYPE)?.eq_ignore_ascii_case("application/json");
        let encoding = self.message.properties.get(system::CONTENT_ENCODING)?.to_ascii_lowercase();
        if !is_json {
            return None;
        }
        let text = match encoding.as_str() {
            "utf-8" => String::from_utf8_lossy(self.message.body),
            "utf-16" => utf16(self.message.body).into(),
            "utf-32" => utf32(self.message.body).into(),
            _ => return None,
        };
        json::parse(text.as_bytes(), BODY_DEPTH_MAX).ok().filter(Json::is_object)
    }
}

impl Fields for MessageFields<'_> {
    /// Without regard to case; the last of several wins. A key without a value is an empty text.
    fn property(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut found = None;
        for (key, value) in self.message.properties.application() {
            if same(&key, name) {
                found = Some(value.unwrap_or_default());
            }
        }
        found
    }

    /// Without regard to case.
    fn system_property(&self, name: &str) -> Option<Cow<'_, str>> {
        if let Some((_, value)) = self.more.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Some((*value).into());
        }
        match IN_BAG.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, key)) => self.message.properties.get(key),
            None => self.stamped_property(name),
        }
    }

    /// JSON only when content type and encoding say so, and only an object.
    fn body(&self) -> Option<&Json> {
        self.body.get_or_init(|| self.parse_body()).as_ref()
    }
}

/// Equal without regard to case, beyond ASCII too, as the original compares.
fn same(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
        || !left.is_ascii() && left.chars().flat_map(char::to_uppercase).eq(right.chars().flat_map(char::to_uppercase))
}

/// Little-endian, as "utf-16" is in the original.
fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Little-endian, as "utf-32" is in the original.
fn utf32(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(4).map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]));
    units.map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_model::{AuthKind, AuthMethod, AuthScope, MessageSource, PropertyBag, Timestamp};

    fn view<'a>(properties: &'a str, body: &'a [u8]) -> MessageView<'a> {
        MessageView { properties: PropertyBag::new(properties), body }
    }

    #[test]
    fn only_the_stamp_says_who_sent_a_message() {
        let stamp = Stamp {
            source: ClientId::parse("edge1/sensor").unwrap(),
            generation: "g1".into(),
            auth_method: AuthMethod { scope: AuthScope::Module, kind: AuthKind::Sas },
            model_id: None,
            kind: MessageSource::Telemetry,
            enqueued: Timestamp::default(),
        };
        let message = view("%24.cdid=forged&%24.mid=m1&%24.ct=a%2Fb", b"");
        assert_eq!(MessageFields::new(message).system_property("connectionDeviceId"), None);
        let fields = MessageFields::new(message).stamped(&stamp).with_system("edgeMessageId", "e1");
        let read = |name: &str| fields.system_property(name).map(Cow::into_owned);
        assert_eq!(read("CONNECTIONDEVICEID").as_deref(), Some("edge1"));
        assert_eq!(read("connectionModuleId").as_deref(), Some("sensor"));
        assert_eq!(read("connectionDeviceGenerationId").as_deref(), Some("g1"));
        assert_eq!(read("messageId").as_deref(), Some("m1"));
        assert_eq!(read("contentType").as_deref(), Some("a/b"));
        assert_eq!(read("edgemessageid").as_deref(), Some("e1"));
        assert_eq!(read("modelId"), None);
        assert_eq!(read("$.mid"), None);
    }

    #[test]
    fn properties_are_found_without_regard_to_case() {
        let fields = MessageFields::new(view("Level=1&level=2&bare&%C3%84=3&%24.mid=m", b""));
        assert_eq!(fields.property("LEVEL").as_deref(), Some("2"));
        assert_eq!(fields.property("bare").as_deref(), Some(""));
        assert_eq!(fields.property("ä").as_deref(), Some("3"));
        assert_eq!(fields.property("$.mid"), None);
    }

    #[test]
    fn bodies_in_wide_encodings_are_read() {
        let utf16_body: Vec<u8> = "{\"a\":\"ä\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let utf32_body: Vec<u8> = "{\"a\":\"ä\"}".chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        for (encoding, body) in [("utf-16", utf16_body), ("UTF-32", utf32_body)] {
            let properties = format!("$.ct=application%2Fjson&$.ce={encoding}");
            let fields = MessageFields::new(view(&properties, &body));
            assert_eq!(fields.body().and_then(|body| body["a"].as_str()), Some("ä"), "{encoding}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
        let fields = MessageFields::new(view("$.ct=application%2Fjson&$.ce=utf-8", deep.as_bytes()));
        assert!(fields.body().is_none());
    }
}
