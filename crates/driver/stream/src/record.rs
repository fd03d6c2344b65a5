//! How an event rests on disk: a head that is the same for all messages of a batch, then properties, then the body.
//!
//! ```text
//! u8   layout, 1
//! u8   kind of event: 0 telemetry, 1 twin change
//! u8   whose credential (0 device, 1 module, 2 hub) * 16 + its kind (0 none, 1 sas, 2 self-signed, 3 authority)
//! i64  when it was taken, milliseconds since 1970
//! u8   length, device id         u8   length, module name; empty for a device
//! u8   length, generation        u16  length, model id; empty for none
//! u32  length, property bag      then the body up to the end
//! ```
//! Numbers are little-endian.

use std::sync::Arc;

use bytes::Bytes;
use skerry_model::{
    AuthKind, AuthMethod, AuthScope, ClientId, DeviceId, MessageSource, MessageView, ModuleName, Stamp, Timestamp,
};

use crate::Event;

const LAYOUT: u8 = 1;

/// What was read is not a record of a layout that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an event record: {0}")]
pub struct InvalidRecord(&'static str);

/// The encoded part that all messages of one batch share; its last four bytes, the length of the property bag, are set for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHead(Vec<u8>);

/// Bytes of the length of the property bag.
const LENGTH: usize = 4;

impl RecordHead {
    /// Encodes a stamp, taken at `enqueued`. Texts that are longer than their length field can say are cut; ids never are.
    pub fn new(stamp: &Stamp, enqueued: Timestamp) -> Self {
        let mut head = Vec::with_capacity(128);
        head.push(LAYOUT);
        head.push(match stamp.kind {
            MessageSource::Telemetry => 0,
            MessageSource::TwinChange => 1,
        });
        head.push(method_byte(stamp.auth_method));
        head.extend_from_slice(&enqueued.unix_millis().to_le_bytes());
        push_short(&mut head, stamp.source.device().as_str());
        push_short(&mut head, stamp.source.module().map_or("", ModuleName::as_str));
        push_short(&mut head, &stamp.generation);
        let model = cut(stamp.model_id.as_deref().unwrap_or_default(), usize::from(u16::MAX));
        head.extend_from_slice(&u16::try_from(model.len()).unwrap_or(0).to_le_bytes());
        head.extend_from_slice(model.as_bytes());
        head.extend_from_slice(&[0; LENGTH]);
        Self(head)
    }

    /// Bytes of the record of `message` under this head.
    pub fn record_bytes(&self, message: &MessageView<'_>) -> usize {
        self.0.len() + message.properties.as_str().len() + message.body.len()
    }

    /// The record of `message`, in parts that follow each other.
    pub fn record<'a>(&'a mut self, message: &MessageView<'a>) -> [&'a [u8]; 3] {
        let properties = message.properties.as_str();
        let length = u32::try_from(properties.len()).unwrap_or(0).to_le_bytes();
        let at = self.0.len().saturating_sub(LENGTH);
        if let Some(place) = self.0.get_mut(at..) {
            place.copy_from_slice(&length);
        }
        [&self.0, properties.as_bytes(), message.body]
    }
}

/// Reads the record of the event `sequence`; the body shares memory with `record`.
///
/// # Errors
/// When it is not a record, or of a layout that is not known.
pub fn decode(sequence: u64, record: &Bytes) -> Result<Event, InvalidRecord> {
    let mut rest = Rest(record);
    if rest.take(1)? != [LAYOUT] {
        return Err(InvalidRecord("the layout is not known"));
    }
    let kind = match rest.take(1)? {
        [0] => MessageSource::Telemetry,
        [1] => MessageSource::TwinChange,
        _ => return Err(InvalidRecord("the kind of event is not known")),
    };
    let auth_method = read_method(rest.take(1)?)?;
    let enqueued = i64::from_le_bytes(rest.array()?);
    let device = DeviceId::parse(rest.short()?).map_err(|_| InvalidRecord("the device id is malformed"))?;
    let module = match rest.short()? {
        "" => None,
        name => Some(ModuleName::parse(name).map_err(|_| InvalidRecord("the module name is malformed"))?),
    };
    let generation = Arc::from(rest.short()?);
    let model_bytes = usize::from(u16::from_le_bytes(rest.array()?));
    let model_id = match rest.text(model_bytes)? {
        "" => None,
        model => Some(Arc::from(model)),
    };
    let property_bytes = u32::from_le_bytes(rest.array()?);
    let property_bytes = usize::try_from(property_bytes).map_err(|_| InvalidRecord("it ends too early"))?;
    let properties = rest.text(property_bytes)?.to_owned();
    let body = record.slice_ref(rest.0);
    let stamp = Stamp {
        source: ClientId::new(device, module),
        generation,
        auth_method,
        model_id,
        kind,
        enqueued: Timestamp::from_unix_millis(enqueued),
    };
    Ok(Event { sequence, stamp, properties, body })
}

/// What of a record was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], InvalidRecord> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(InvalidRecord("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], InvalidRecord> {
        self.take(N)?.try_into().map_err(|_| InvalidRecord("it ends too early"))
    }

    fn text(&mut self, count: usize) -> Result<&'a str, InvalidRecord> {
        std::str::from_utf8(self.take(count)?).map_err(|_| InvalidRecord("a text is not UTF-8"))
    }

    fn short(&mut self) -> Result<&'a str, InvalidRecord> {
        let [count] = self.array()?;
        self.text(usize::from(count))
    }
}

fn push_short(head: &mut Vec<u8>, text: &str) {
    let text = cut(text, usize::from(u8::MAX));
    head.push(u8::try_from(text.len()).unwrap_or(0));
    head.extend_from_slice(text.as_bytes());
}

fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

const SCOPES: [AuthScope; 3] = [AuthScope::Device, AuthScope::Module, AuthScope::Hub];
const KINDS: [AuthKind; 4] = [AuthKind::None, AuthKind::Sas, AuthKind::SelfSigned, AuthKind::CertificateAuthority];

fn method_byte(method: AuthMethod) -> u8 {
    let scope = match method.scope {
        AuthScope::Device => 0,
        AuthScope::Module => 1,
        AuthScope::Hub => 2,
    };
    let kind = match method.kind {
        AuthKind::None => 0,
        AuthKind::Sas => 1,
        AuthKind::SelfSigned => 2,
        AuthKind::CertificateAuthority => 3,
    };
    scope * 16 + kind
}

fn read_method(byte: &[u8]) -> Result<AuthMethod, InvalidRecord> {
    let byte = byte.first().copied().unwrap_or(u8::MAX);
    let scope = SCOPES.get(usize::from(byte / 16));
    let kind = KINDS.get(usize::from(byte % 16));
    match (scope, kind) {
        (Some(&scope), Some(&kind)) => Ok(AuthMethod { scope, kind }),
        _ => Err(InvalidRecord("the authentication is not known")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skerry_model::PropertyBag;

    use super::*;

    fn stamps() -> impl Strategy<Value = Stamp> {
        let source = ("[A-Za-z0-9$.-]{1,128}", proptest::option::of("[A-Za-z0-9$.-]{1,128}"));
        let method = (0..SCOPES.len(), 0..KINDS.len());
        (source, "[0-9]{0,20}", method, proptest::option::of("[a-z:;]{1,200}"), any::<bool>(), any::<i64>()).prop_map(
            |((device, module), generation, (scope, kind), model, telemetry, enqueued)| Stamp {
                source: ClientId::new(
                    DeviceId::parse(&device).unwrap(),
                    module.map(|m| ModuleName::parse(&m).unwrap()),
                ),
                generation: Arc::from(generation),
                auth_method: AuthMethod { scope: SCOPES[scope], kind: KINDS[kind] },
                model_id: model.map(Arc::from),
                kind: if telemetry { MessageSource::Telemetry } else { MessageSource::TwinChange },
                enqueued: Timestamp::from_unix_millis(enqueued),
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_is_read_back(
            stamp in stamps(), properties in "[a-z=&%0-9ä]{0,60}", body in proptest::collection::vec(any::<u8>(), 0..100)
        ) {
            let mut head = RecordHead::new(&stamp, stamp.enqueued);
            let other = MessageView { properties: PropertyBag::new("of another message"), body: b"" };
            head.record(&other);
            let message = MessageView { properties: PropertyBag::new(&properties), body: &body };
            let record = head.record(&message).concat();
            prop_assert_eq!(record.len(), head.record_bytes(&message));
            let record = Bytes::from(record);
            let event = decode(7, &record).unwrap();
            prop_assert_eq!(&event.stamp, &stamp);
            prop_assert_eq!((event.sequence, event.properties.as_str(), &event.body[..]), (7, properties.as_str(), &body[..]));
            // A cut record is refused or, within its body, shorter; it never makes the reader panic.
            for end in 0..record.len() {
                if let Ok(cut) = decode(7, &record.slice(..end)) {
                    prop_assert!(end + body.len() >= record.len() && cut.body.len() < body.len());
                }
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(0, &Bytes::from(bytes));
        }
    }
}
