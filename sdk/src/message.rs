//! Messages out and in.

use bytes::Bytes;
use skerry_model::{ClientId, Json, PropertyBag, PropertyBagBuilder, Timestamp, system};

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    body: Bytes,
    /// Pairs in the order they were added; system properties by their short names (`$.mid`).
    properties: Vec<(String, String)>,
}

impl Message {
    /// A message of any bytes.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Message { body: body.into(), properties: Vec::new() }
    }

    /// A JSON document, marked as such, so that routes can look into it.
    pub fn json(body: &Json) -> Self {
        let message = Message::new(body.to_string());
        message.with(system::CONTENT_TYPE, "application/json").with(system::CONTENT_ENCODING, "utf-8")
    }

    /// The message that came in, to be sent on: its body and what its first sender said about it.
    pub fn from_input(input: &InputMessage) -> Self {
        let ours = [system::OUTPUT_NAME, system::CONNECTION_DEVICE_ID, system::CONNECTION_MODULE_ID];
        let pairs = PropertyBag::new(&input.properties).iter();
        let said = pairs.filter(|(name, _)| !ours.contains(&name.as_ref()));
        let properties = said.filter_map(|(name, value)| Some((name.into_owned(), value?.into_owned()))).collect();
        Message { body: input.body.clone(), properties }
    }

    /// Adds an application property; a later one of the same name wins.
    #[must_use]
    pub fn property(self, name: &str, value: &str) -> Self {
        self.with(name, value)
    }

    /// Names the message, at most 128 characters.
    #[must_use]
    pub fn id(self, id: &str) -> Self {
        self.with(system::MESSAGE_ID, id)
    }

    /// Says which message this one belongs to.
    #[must_use]
    pub fn correlation_id(self, id: &str) -> Self {
        self.with(system::CORRELATION_ID, id)
    }

    /// Says what the body is: a media type and, for text, its encoding (`utf-8`).
    #[must_use]
    pub fn content(self, media_type: &str, encoding: &str) -> Self {
        self.with(system::CONTENT_TYPE, media_type).with(system::CONTENT_ENCODING, encoding)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.properties.retain(|(known, _)| known != name);
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Properties as they travel, for this output at this time, and the body.
    pub(crate) fn into_parts(self, output: &str, now: Timestamp) -> (String, Bytes) {
        let mut bag = PropertyBagBuilder::new();
        bag.push_some(system::OUTPUT_NAME, Some(output));
        if !self.properties.iter().any(|(name, _)| name == system::CREATION_TIME) {
            bag.push(system::CREATION_TIME, &now.to_round_trip());
        }
        for (name, value) in &self.properties {
            bag.push(name, value);
        }
        (bag.finish(), self.body)
    }
}

/// A message that a route brought to an input of this module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputMessage {
    /// The input.
    pub input: String,
    /// Who sent it.
    pub source: ClientId,
    /// The body.
    pub body: Bytes,
    /// It may have come before: the edge did not hear what became of it.
    pub redelivered: bool,
    pub(crate) properties: String,
}

impl InputMessage {
    /// An application property.
    pub fn property(&self, name: &str) -> Option<String> {
        PropertyBag::new(&self.properties).get(name).map(|value| value.into_owned())
    }

    /// The id its sender gave it.
    pub fn id(&self) -> Option<String> {
        self.property(system::MESSAGE_ID)
    }

    /// When its sender made it, if it said so.
    pub fn created(&self) -> Option<Timestamp> {
        self.property(system::CREATION_TIME).and_then(|text| Timestamp::parse(&text).ok())
    }
}

impl From<skerry_model::InputMessage> for InputMessage {
    fn from(message: skerry_model::InputMessage) -> Self {
        InputMessage {
            input: message.input.to_string(),
            source: message.source,
            body: message.body,
            redelivered: message.redelivered,
            properties: String::from_utf8_lossy(&message.properties).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_714_557_600);

    #[test]
    fn a_message_travels_with_its_output_and_the_time() {
        let message = Message::json(&json!({ "a": 1 })).id("m/1").property("k", "old").property("k", "v&w");
        let (properties, body) = message.into_parts("out", NOW);
        assert_eq!(
            properties,
            "%24.on=out&%24.ctime=2024-05-01T10%3A00%3A00.0000000Z&%24.ct=application%2Fjson&%24.ce=utf-8&%24.mid=m%2F1&k=v%26w"
        );
        assert_eq!(body, "{\"a\":1}");
    }

    #[test]
    fn a_message_sent_on_keeps_what_its_sender_said() {
        let input = InputMessage {
            input: "in".to_owned(),
            source: ClientId::parse("edge/sensor").unwrap(),
            body: "b".into(),
            redelivered: false,
            properties:
                "%24.cdid=edge&%24.cmid=sensor&%24.on=x&%24.ctime=2024-05-01T09%3A00%3A00.0000000Z&%24.mid=7&k=v"
                    .to_owned(),
        };
        assert_eq!((input.property("k").as_deref(), input.id().as_deref()), (Some("v"), Some("7")));
        assert_eq!(input.created(), Some(NOW.minus(std::time::Duration::from_secs(3600))));
        let (properties, _) = Message::from_input(&input).property("k2", "w").into_parts("out", NOW);
        assert_eq!(properties, "%24.on=out&%24.ctime=2024-05-01T09%3A00%3A00.0000000Z&%24.mid=7&k=v&k2=w");
    }
}
