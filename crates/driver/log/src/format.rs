//! What lies on disk: groups of records, each group written at once, padded to whole blocks.
//!
//! ```text
//! group  = header (64 bytes) record* zeros-to-the-next-block
//! header = magic u32, checksum u32 of the rest, segment u64, salt u64, first u64, next u64, payload bytes u32,
//!          records u32, flags u32, block u32, written at (ms since 1970) i64
//! record = bytes u32, checksum u32 of the rest, position minus first u32, kind u8, zero u8 × 3, payload
//! ```
//! All numbers are little-endian, checksums are CRC-32C. `segment`, `salt` and `block` (the group's own place in the file) make
//! what an earlier use of the file left behind, or what a sender hid in a payload, impossible to mistake for a group.

use crate::disk::BLOCK;

/// Bytes of a group's header.
pub(crate) const GROUP_HEADER: usize = 64;
/// Bytes of a record's header.
pub(crate) const RECORD_HEADER: usize = 16;
const MAGIC: u32 = u32::from_le_bytes(*b"SKG1");

/// The group opens a segment and holds its description and the snapshot, no records with positions of their own.
pub(crate) const FLAG_OPENS: u32 = 1;
/// The group closes a segment made by compaction: what comes before it is complete.
pub(crate) const FLAG_CLOSES: u32 = 2;
/// The group was moved by compaction: its positions have gaps.
pub(crate) const FLAG_MOVED: u32 = 4;

/// What a record is. Numbers from 1 are for what lives on the log; a log's own are from 240.
pub(crate) mod kind {
    /// Describes the segment; the first record of each.
    pub(crate) const SEGMENT: u8 = 240;
    /// A part of the snapshot of all state.
    pub(crate) const SNAPSHOT: u8 = 241;
    /// The last part of a snapshot.
    pub(crate) const SNAPSHOT_END: u8 = 242;
}

/// A group's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) segment: u64,
    pub(crate) salt: u64,
    /// Position of the first record, and the one after the last.
    pub(crate) first: u64,
    pub(crate) next: u64,
    pub(crate) payload_bytes: u32,
    pub(crate) records: u32,
    pub(crate) flags: u32,
    /// Place in the file, in blocks.
    pub(crate) block: u32,
    /// Milliseconds since 1970.
    pub(crate) written_at: i64,
}

impl GroupHeader {
    /// Bytes the group takes in the file.
    pub(crate) fn padded_bytes(&self) -> u64 {
        (GROUP_HEADER as u64 + u64::from(self.payload_bytes)).next_multiple_of(BLOCK as u64)
    }

    pub(crate) fn write(&self, out: &mut [u8]) {
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[8..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..24].copy_from_slice(&self.salt.to_le_bytes());
        out[24..32].copy_from_slice(&self.first.to_le_bytes());
        out[32..40].copy_from_slice(&self.next.to_le_bytes());
        out[40..44].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[44..48].copy_from_slice(&self.records.to_le_bytes());
        out[48..52].copy_from_slice(&self.flags.to_le_bytes());
        out[52..56].copy_from_slice(&self.block.to_le_bytes());
        out[56..64].copy_from_slice(&self.written_at.to_le_bytes());
        let checksum = crc32c::crc32c(&out[8..GROUP_HEADER]);
        out[4..8].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads a header; `None` when these bytes are none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..GROUP_HEADER)?;
        if u32_at(bytes, 0)? != MAGIC || u32_at(bytes, 4)? != crc32c::crc32c(&bytes[8..]) {
            return None;
        }
        Some(Self {
            segment: u64_at(bytes, 8)?,
            salt: u64_at(bytes, 16)?,
            first: u64_at(bytes, 24)?,
            next: u64_at(bytes, 32)?,
            payload_bytes: u32_at(bytes, 40)?,
            records: u32_at(bytes, 44)?,
            flags: u32_at(bytes, 48)?,
            block: u32_at(bytes, 52)?,
            written_at: u64_at(bytes, 56)?.cast_signed(),
        })
    }
}

/// Where a record lies within its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordPlace {
    pub(crate) position: u64,
    /// Of the payload, in bytes from the group's start.
    pub(crate) at: u32,
    pub(crate) bytes: u32,
    pub(crate) kind: u8,
}

/// Writes a record's header; its payload already lies behind it.
pub(crate) fn seal_record(record: &mut [u8], delta: u32, kind: u8) {
    let payload_bytes = u32::try_from(record.len() - RECORD_HEADER).unwrap_or(u32::MAX);
    record[0..4].copy_from_slice(&payload_bytes.to_le_bytes());
    record[8..12].copy_from_slice(&delta.to_le_bytes());
    record[12..16].copy_from_slice(&[kind, 0, 0, 0]);
    let checksum = crc32c::crc32c(&record[8..]);
    record[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// Checks a whole group and finds its records; `None` when any part of it is not what was written.
pub(crate) fn records(group: &[u8], header: &GroupHeader) -> Option<Vec<RecordPlace>> {
    let end = GROUP_HEADER + header.payload_bytes as usize;
    let group = group.get(..end)?;
    // The count comes from a checked header, and yet memory is only taken for what can be there.
    let mut places = Vec::with_capacity((header.records as usize).min(group.len() / RECORD_HEADER));
    let mut at = GROUP_HEADER;
    while at < end {
        let bytes = u32_at(group, at)? as usize;
        let payload = at + RECORD_HEADER;
        let record = group.get(at..payload.checked_add(bytes)?)?;
        if u32_at(record, 4)? != crc32c::crc32c(&record[8..]) {
            return None;
        }
        places.push(RecordPlace {
            position: header.first.checked_add(u64::from(u32_at(record, 8)?))?,
            at: u32::try_from(payload).ok()?,
            bytes: u32::try_from(bytes).ok()?,
            kind: record[12],
        });
        at = payload + bytes;
    }
    (places.len() == header.records as usize).then_some(places)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads numbers and texts off the front of a record's payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(*self.take(2)?.first_chunk()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.take(8)?.first_chunk()?))
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.u64().map(u64::cast_signed)
    }

    /// A text after its length as u16.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let bytes = self.u16()?;
        std::str::from_utf8(self.take(usize::from(bytes))?).ok()
    }
}

/// Appends a text after its length as u16; longer texts are cut, callers check before.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&bytes.to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(bytes)]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::group::Group;

    fn sample(payloads: &[Vec<u8>]) -> (Vec<u8>, GroupHeader) {
        let mut group = Group::new(crate::buffer::AlignedBuffer::new(1 << 20), 100);
        for payload in payloads {
            group.push(7, &[payload]);
        }
        let header = group.seal(3, 9, 0, 5, 1234);
        (group.padded().to_vec(), header)
    }

    proptest! {
        #[test]
        fn a_group_reads_back(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)) {
            let (bytes, header) = sample(&payloads);
            prop_assert_eq!(GroupHeader::read(&bytes), Some(header));
            let places = records(&bytes, &header).unwrap();
            prop_assert_eq!(places.len(), payloads.len());
            for (index, (place, payload)) in places.iter().zip(&payloads).enumerate() {
                prop_assert_eq!(place.position, 100 + index as u64);
                prop_assert_eq!(&bytes[place.at as usize..][..place.bytes as usize], payload.as_slice());
            }
        }

        #[test]
        fn a_damaged_group_is_noticed(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..20),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
        ) {
            let (mut bytes, header) = sample(&payloads);
            let used = GROUP_HEADER + header.payload_bytes as usize;
            bytes[at.index(used)] ^= flip;
            let read = GroupHeader::read(&bytes).and_then(|header| records(&bytes, &header));
            prop_assert_eq!(read, None);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), payload_bytes in any::<u32>()) {
            let header = GroupHeader { payload_bytes, ..sample(&[vec![1]]).1 };
            let _ = GroupHeader::read(&bytes);
            let _ = records(&bytes, &header);
        }
    }
}
