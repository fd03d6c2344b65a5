//! One segment: a file of groups that cover a range of positions, and how to read it.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{BLOCK, DiskFile};
use crate::format::{Fields, GROUP_HEADER, GroupHeader, RecordPlace, records};

/// Bytes that a scan reads at once.
const SCAN_BYTES: usize = 256 * 1024;
/// Places per segment that are remembered, so that a reader need not start at its beginning.
const MARKS_MAX: u64 = 64;

/// A segment's file name.
pub(crate) fn file_name(id: u64) -> String {
    format!("{id:016x}.log")
}

/// The segment of that file name; `None` when it is not one of ours.
pub(crate) fn file_id(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// What a segment's first record says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    /// First position it covers.
    pub(crate) first: u64,
    /// For a segment made by compaction: the position after the last one it covers, and the segments it replaces.
    pub(crate) replaces: Option<(u64, Vec<u64>)>,
}

/// The form of everything in a segment.
const VERSION: u8 = 1;

impl Description {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.replaces.is_some())];
        out.extend_from_slice(&self.first.to_le_bytes());
        if let Some((next, sources)) = &self.replaces {
            out.extend_from_slice(&next.to_le_bytes());
            for source in sources {
                out.extend_from_slice(&source.to_le_bytes());
            }
        }
        out
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        if fields.u8()? != VERSION {
            return None;
        }
        let moved = fields.u8()? == 1;
        let first = fields.u64()?;
        let replaces = if moved {
            let next = fields.u64()?;
            let mut sources = Vec::new();
            while !fields.0.is_empty() {
                sources.push(fields.u64()?);
            }
            Some((next, sources))
        } else {
            None
        };
        Some(Self { first, replaces })
    }
}

/// A segment with content.
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) salt: u64,
    /// First position it covers.
    pub(crate) first: u64,
    /// Bytes of durable groups.
    end: AtomicU64,
    /// Position after the last one it covers.
    next: AtomicU64,
    /// When its last group was written, in milliseconds since 1970.
    last_written_at: AtomicI64,
    marks: Mutex<Vec<(u64, u64)>>,
}

impl Segment {
    pub(crate) fn new(id: u64, file: Arc<dyn DiskFile>, salt: u64, first: u64) -> Self {
        Self {
            id,
            file,
            salt,
            first,
            end: AtomicU64::new(0),
            next: AtomicU64::new(first),
            last_written_at: AtomicI64::new(i64::MIN),
            marks: Mutex::default(),
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    pub(crate) fn last_written_at(&self) -> i64 {
        self.last_written_at.load(Ordering::Relaxed)
    }

    /// Notes that everything up to `end` bytes and below position `next` is durable.
    pub(crate) fn extend(&self, end: u64, next: u64, written_at: i64) {
        self.last_written_at.fetch_max(written_at, Ordering::Relaxed);
        self.next.store(next, Ordering::Release);
        self.end.store(end, Ordering::Release);
    }

    /// Remembers that the group at `offset` begins with `position`, when nothing near is remembered.
    pub(crate) fn mark(&self, position: u64, offset: u64, segment_bytes: u64) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.last().is_none_or(|(_, last)| last + segment_bytes / MARKS_MAX <= offset) {
            marks.push((position, offset));
        }
    }

    /// Where to begin to read for `position`.
    pub(crate) fn offset_for(&self, position: u64) -> u64 {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let after = marks.partition_point(|(marked, _)| *marked <= position);
        after.checked_sub(1).map_or(0, |at| marks[at].1)
    }

    /// Whether a header is one of this segment's, lying where it was written.
    pub(crate) fn owns(&self, header: &GroupHeader, offset: u64) -> bool {
        header.segment == self.id && header.salt == self.salt && u64::from(header.block) * BLOCK as u64 == offset
    }
}

/// What a scan found at its place.
pub(crate) enum Found {
    /// A sound group; its bytes are [`Scan::group`].
    Group(GroupHeader, Vec<RecordPlace>),
    /// Bytes that are not what was written.
    Damage,
    /// The end.
    End,
}

/// Reads a segment's groups one after the other.
pub(crate) struct Scan {
    segment: Arc<Segment>,
    offset: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    group_at: usize,
}

impl Scan {
    /// From `offset`, a group's beginning, to `end`.
    pub(crate) fn new(segment: Arc<Segment>, offset: u64, end: u64) -> Self {
        Self { segment, offset, end, window: Vec::new(), window_at: 0, group_at: 0 }
    }

    /// Where the next group would begin.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns to a place that was passed.
    pub(crate) fn go_back(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Bytes from the beginning of the group found last.
    pub(crate) fn group(&self) -> &[u8] {
        self.window.get(self.group_at..).unwrap_or_default()
    }

    /// The next group. After [`Found::Damage`] the place is unchanged.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn next(&mut self) -> io::Result<Found> {
        if self.offset >= self.end {
            return Ok(Found::End);
        }
        self.load(self.offset, GROUP_HEADER)?;
        let Some(header) = self.header_at(self.offset) else { return Ok(Found::Damage) };
        let bytes = header.padded_bytes();
        if self.offset + bytes > self.end {
            return Ok(Found::Damage);
        }
        self.load(self.offset, usize::try_from(bytes).unwrap_or(usize::MAX))?;
        self.group_at = usize::try_from(self.offset - self.window_at).unwrap_or(usize::MAX);
        let Some(places) = records(self.group(), &header) else { return Ok(Found::Damage) };
        self.offset += bytes;
        Ok(Found::Group(header, places))
    }

    /// After damage: goes on to the next block that begins a group of this segment, or to the end; says whether there is one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn skip_damage(&mut self) -> io::Result<bool> {
        loop {
            self.offset += BLOCK as u64;
            if self.offset >= self.end {
                return Ok(false);
            }
            self.load(self.offset, GROUP_HEADER)?;
            if self.header_at(self.offset).is_some() {
                return Ok(true);
            }
        }
    }

    fn header_at(&self, offset: u64) -> Option<GroupHeader> {
        let at = usize::try_from(offset - self.window_at).ok()?;
        GroupHeader::read(self.window.get(at..)?).filter(|header| self.segment.owns(header, offset))
    }

    fn load(&mut self, offset: u64, bytes: usize) -> io::Result<()> {
        let loaded = self.window_at..self.window_at + self.window.len() as u64;
        if loaded.contains(&offset) && (offset + bytes as u64 <= loaded.end || loaded.end == self.end) {
            return Ok(());
        }
        let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        self.window.resize(bytes.max(SCAN_BYTES).min(left), 0);
        self.window_at = offset;
        let read = self.segment.file.read_at(&mut self.window, offset)?;
        self.window.truncate(read);
        Ok(())
    }
}
