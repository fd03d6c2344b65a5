//! A group of records: first being built under the producers' lock, then written at once, then shared with all readers.

use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::{AlignedBuffer, BufferPool, SharedBuffer};
use crate::format::{GROUP_HEADER, GroupHeader, RECORD_HEADER, RecordPlace, seal_record};

/// Records that will be written together.
#[derive(Debug)]
pub(crate) struct Group {
    buffer: AlignedBuffer,
    used: usize,
    index: Vec<RecordPlace>,
    first: u64,
    next: u64,
}

impl Group {
    /// An empty group whose first record gets the position `first`.
    pub(crate) fn new(buffer: AlignedBuffer, first: u64) -> Self {
        Self { buffer, used: GROUP_HEADER, index: Vec::new(), first, next: first }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The position after the last record.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Bytes of records so far, without the group's header.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.used - GROUP_HEADER
    }

    /// Bytes the group would take in the file.
    pub(crate) fn padded_bytes(&self) -> u64 {
        self.used.next_multiple_of(crate::disk::BLOCK) as u64
    }

    /// Whether a record of that many bytes of payload still fits.
    pub(crate) fn fits(&self, payload_bytes: usize) -> bool {
        self.used + RECORD_HEADER + payload_bytes <= self.buffer.capacity()
    }

    /// Adds a record made of `parts` with the next position; the caller made sure that it fits. Returns its position.
    pub(crate) fn push(&mut self, kind: u8, parts: &[&[u8]]) -> u64 {
        let position = self.next;
        self.push_at(position, kind, parts);
        position
    }

    /// Adds a record with a position of its own, not below any before.
    pub(crate) fn push_at(&mut self, position: u64, kind: u8, parts: &[&[u8]]) {
        self.place(position, kind, parts);
        self.next = position + 1;
    }

    /// Adds a record that takes no position.
    pub(crate) fn push_unnumbered(&mut self, kind: u8, parts: &[&[u8]]) {
        self.place(self.next, kind, parts);
    }

    fn place(&mut self, position: u64, kind: u8, parts: &[&[u8]]) {
        let start = self.used;
        let mut at = start + RECORD_HEADER;
        let memory = self.buffer.bytes_mut();
        for part in parts {
            memory[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        // The checksum runs over what was just copied, while it is still in the nearest cache.
        seal_record(&mut memory[start..at], u32::try_from(position - self.first).unwrap_or(u32::MAX), kind);
        self.used = at;
        let payload = start + RECORD_HEADER;
        self.index.push(RecordPlace {
            position,
            at: u32::try_from(payload).unwrap_or(u32::MAX),
            bytes: u32::try_from(at - payload).unwrap_or(u32::MAX),
            kind,
        });
    }

    /// Writes the header and zeroes the padding; afterwards [`Group::padded`] is what belongs on disk.
    pub(crate) fn seal(&mut self, segment: u64, salt: u64, flags: u32, block: u32, written_at: i64) -> GroupHeader {
        let header = GroupHeader {
            segment,
            salt,
            first: self.first,
            next: self.next,
            payload_bytes: u32::try_from(self.payload_bytes()).unwrap_or(u32::MAX),
            records: u32::try_from(self.index.len()).unwrap_or(u32::MAX),
            flags,
            block,
            written_at,
        };
        let end = self.used.next_multiple_of(crate::disk::BLOCK);
        let memory = self.buffer.bytes_mut();
        header.write(&mut memory[..GROUP_HEADER]);
        memory[self.used..end].fill(0);
        header
    }

    /// The bytes to write, whole blocks.
    pub(crate) fn padded(&self) -> &[u8] {
        &self.buffer.bytes()[..self.used.next_multiple_of(crate::disk::BLOCK)]
    }

    /// Shares the group with readers; the buffer goes back to `pool` after the last of them.
    pub(crate) fn share(self, pool: &Arc<BufferPool>) -> Batch {
        let shared = SharedBuffer::new(self.buffer, self.used, Arc::clone(pool));
        Batch::new(Bytes::from_owner(shared), self.index, self.first, self.next)
    }
}

/// Durable records in one shared piece of memory. Cloning is cheap and shares it.
#[derive(Debug, Clone)]
pub struct Batch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: Bytes,
    index: Vec<RecordPlace>,
    first: u64,
    next: u64,
}

/// One record of a [`Batch`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) position: u64,
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
    /// Of the payload within the batch's memory.
    pub(crate) at: usize,
}

impl Batch {
    pub(crate) fn new(bytes: Bytes, index: Vec<RecordPlace>, first: u64, next: u64) -> Self {
        Self(Arc::new(Inner { bytes, index, first, next }))
    }

    /// The first position the batch covers.
    pub fn first(&self) -> u64 {
        self.0.first
    }

    /// The position after the last one the batch covers.
    pub fn next(&self) -> u64 {
        self.0.next
    }

    /// Bytes of memory that the batch keeps alive.
    pub fn memory_bytes(&self) -> usize {
        self.0.bytes.len()
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.0.index.len()
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.0.index.iter().filter_map(|place| self.at(place))
    }

    fn at(&self, place: &RecordPlace) -> Option<Record<'_>> {
        let payload = self.0.bytes.get(place.at as usize..place.at as usize + place.bytes as usize)?;
        Some(Record { position: place.position, kind: place.kind, payload, at: place.at as usize })
    }
}
