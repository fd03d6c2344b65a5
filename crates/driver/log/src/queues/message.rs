//! The form of a queued message, and of a look at one.

use bytes::Bytes;
use skerry_model::Timestamp;

use crate::format::Fields;
use crate::group::{Batch, Record};
use crate::queues::{Destination, NewMessage, QueueKey};

/// A message's record.
pub(crate) const MESSAGE: u8 = 1;
/// Bytes before the destinations.
const HEAD: usize = 18;
/// Bytes of a destination.
const DESTINATION: usize = 12;
/// Stands for a message that never expires.
const NEVER: i64 = i64::MAX;

/// Bytes of a message's payload in the log.
pub(crate) fn payload_bytes(message: &NewMessage<'_>) -> usize {
    let destinations = message.destinations.len() * DESTINATION;
    HEAD + destinations + message.source.len() + message.stamp.len() + message.properties.len() + message.body.len()
}

/// Writes what precedes source, stamp, properties and body, whose lengths the caller has checked.
pub(crate) fn write_head(out: &mut Vec<u8>, message: &NewMessage<'_>) {
    out.clear();
    let short = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes();
    out.extend_from_slice(&short(message.destinations.len()));
    out.extend_from_slice(&short(message.source.len()));
    out.extend_from_slice(&short(message.stamp.len()));
    out.extend_from_slice(&u32::try_from(message.properties.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&message.enqueued.unix_millis().to_le_bytes());
    for destination in message.destinations {
        put_destination(out, destination.queue.0, destination.expires.map_or(NEVER, Timestamp::unix_millis));
    }
}

fn put_destination(out: &mut Vec<u8>, key: u32, expires: i64) {
    out.extend_from_slice(&key.to_le_bytes());
    out.extend_from_slice(&expires.to_le_bytes());
}

/// A message in a log, borrowed from the batch it came in.
#[derive(Debug, Clone, Copy)]
pub struct QueuedMessage<'a> {
    position: u64,
    enqueued: i64,
    destinations: &'a [u8],
    source: &'a str,
    stamp: &'a [u8],
    properties: &'a [u8],
    body: &'a [u8],
    bytes: usize,
    /// Of the stamp in the batch's memory.
    stamp_at: usize,
}

impl<'a> QueuedMessage<'a> {
    pub(crate) fn read(record: &Record<'a>) -> Option<Self> {
        if record.kind != MESSAGE {
            return None;
        }
        let mut fields = Fields(record.payload);
        let destinations = usize::from(fields.u16()?);
        let source = usize::from(fields.u16()?);
        let stamp = usize::from(fields.u16()?);
        let properties = usize::try_from(fields.u32()?).ok()?;
        let enqueued = fields.i64()?;
        let destinations = fields.take(destinations * DESTINATION)?;
        let source = std::str::from_utf8(fields.take(source)?).ok()?;
        let stamp_at = record.at + record.payload.len() - fields.0.len();
        let stamp = fields.take(stamp)?;
        let properties = fields.take(properties)?;
        let bytes = record.payload.len() + crate::format::RECORD_HEADER;
        let position = record.position;
        Some(Self { position, enqueued, destinations, source, stamp, properties, body: fields.0, bytes, stamp_at })
    }

    /// Its place in the log; never used twice, and larger than those of all messages before.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// When it was taken.
    pub fn enqueued(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.enqueued)
    }

    /// The queues it was put into. After a long wait those that have settled it may be missing.
    pub fn destinations(&self) -> impl Iterator<Item = Destination> + 'a {
        self.raw_destinations().map(|(key, expires)| Destination {
            queue: QueueKey(key),
            expires: (expires != NEVER).then(|| Timestamp::from_unix_millis(expires)),
        })
    }

    pub(crate) fn raw_destinations(&self) -> impl Iterator<Item = (u32, i64)> + 'a {
        self.destinations.chunks_exact(DESTINATION).filter_map(|bytes| {
            let mut fields = Fields(bytes);
            Some((fields.u32()?, fields.i64()?))
        })
    }

    /// Whether it was put into a queue; then when it expires there.
    pub fn destination(&self, queue: QueueKey) -> Option<Destination> {
        self.destinations().find(|destination| destination.queue == queue)
    }

    /// Whose message it is.
    pub fn source(&self) -> &'a str {
        self.source
    }

    /// What the hub stamped on it, in the hub's own form.
    pub fn stamp(&self) -> &'a [u8] {
        self.stamp
    }

    /// The text of its property bag.
    pub fn properties(&self) -> &'a [u8] {
        self.properties
    }

    /// Its payload.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// What it takes in the log, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Properties and payload as shares of the memory of `batch`, which the message was borrowed from.
    pub fn share(&self, batch: &Batch) -> (Bytes, Bytes) {
        let properties = self.stamp_at + self.stamp.len();
        let body = properties + self.properties.len();
        (batch.bytes().slice(properties..body), batch.bytes().slice(body..body + self.body.len()))
    }

    /// The payload of the same record with only some of its destinations.
    pub(crate) fn write_with(&self, kept: impl Fn(u32, i64) -> bool, out: &mut Vec<u8>) {
        let mut destinations = Vec::new();
        for (key, expires) in self.raw_destinations().filter(|(key, expires)| kept(*key, *expires)) {
            put_destination(&mut destinations, key, expires);
        }
        let short = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes();
        out.extend_from_slice(&short(destinations.len() / DESTINATION));
        out.extend_from_slice(&short(self.source.len()));
        out.extend_from_slice(&short(self.stamp.len()));
        out.extend_from_slice(&u32::try_from(self.properties.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&self.enqueued.to_le_bytes());
        out.extend_from_slice(&destinations);
        for part in [self.source.as_bytes(), self.stamp, self.properties, self.body] {
            out.extend_from_slice(part);
        }
    }
}

/// The messages of a batch, in the order they were taken.
pub fn messages(batch: &Batch) -> impl Iterator<Item = QueuedMessage<'_>> {
    batch.records().filter_map(|record| QueuedMessage::read(&record))
}
