//! Decides which disk operation comes next. Pure: it is told what waits and what was done, and touches nothing itself.

use std::time::Duration;

use crate::disk::BLOCK;

/// Bytes that are zero-filled at once.
pub(crate) const FILL_BYTES: u64 = 256 * 1024;
/// Files made ahead for segments to come.
const PREPARED_MIN: usize = 1;
/// Files kept for segments to come when segments were given back: using them again costs no filling, so a log whose receivers keep
/// up fills nothing.
const PREPARED_MAX: usize = 4;
/// A write faster than this is never waited for, because waiting costs a fast disk more than it brings.
const GATHER_ABOVE: Duration = Duration::from_millis(1);
/// The share of the last write's time that is waited for more to arrive.
const GATHER_SHARE: u32 = 16;
/// How often a disk without space is asked again.
const FULL_DISK_RETRY: Duration = Duration::from_millis(100);

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOp {
    /// Let more records arrive: on a slow disk the first one would otherwise start a write alone.
    Gather(Duration),
    /// Begin the next segment in the file prepared for it: its description and the snapshot.
    OpenSegment,
    /// Write the oldest waiting group at `offset` of the active segment.
    WriteGroup {
        /// In bytes from the file's start.
        offset: u64,
    },
    /// Make a file for a segment to come, and sync the directory.
    Prepare,
    /// Fill a part of the active segment's file with zeros, so that writing there changes no metadata.
    FillActive {
        /// In bytes from the file's start.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// Fill a part of the prepared file with zeros.
    FillPrepared {
        /// In bytes from the file's start.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// One step of giving space back: drop dead segments, or move live records together.
    Reclaim,
    /// Nothing, until something arrives.
    Rest,
}

/// What the planner cannot know by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Situation {
    /// Size of the oldest waiting group, padded, in bytes; `None` when nothing waits or what waits is not due.
    pub waiting: Option<u64>,
    /// Another group waits behind it, so there is nothing to gather for.
    pub more_waiting: bool,
    /// Files of the log: segments, prepared ones, the output of a compaction.
    pub files: usize,
    /// Whether there is space to give back.
    pub reclaim: bool,
    /// Whether giving space back is urgent, because little is left.
    pub pressed: bool,
}

/// Chooses the next [`DiskOp`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planner {
    segment_bytes: u64,
    files_max: usize,
    offset: u64,
    filled: u64,
    /// How far each prepared file is filled.
    prepared: Vec<u64>,
    last_write: Duration,
    gathered: bool,
    fill_owed: u64,
    reclaim_owed: bool,
    disk_full: bool,
}

impl Planner {
    /// For segments of `segment_bytes`, at most `files_max` files.
    pub fn new(segment_bytes: u64, files_max: usize) -> Self {
        Self {
            segment_bytes,
            files_max,
            // No segment is open: the first group opens one.
            offset: segment_bytes,
            filled: segment_bytes,
            prepared: Vec::new(),
            last_write: Duration::ZERO,
            gathered: false,
            fill_owed: 0,
            reclaim_owed: false,
            disk_full: false,
        }
    }

    /// The active segment has `offset` bytes of groups in a file of `filled` bytes.
    pub fn active(&mut self, offset: u64, filled: u64) {
        self.offset = offset;
        self.filled = whole_blocks(filled).max(offset);
    }

    /// A file of `filled` bytes is ready for a segment to come.
    pub fn prepared(&mut self, filled: u64) {
        self.prepared.push(whole_blocks(filled));
    }

    /// A prepared file was taken for something else than the next active segment.
    pub fn prepared_taken(&mut self) -> u64 {
        if self.prepared.is_empty() { 0 } else { self.prepared.remove(0) }
    }

    /// Prepared files.
    pub fn prepared_count(&self) -> usize {
        self.prepared.len()
    }

    /// Whether a further file is worth keeping.
    pub fn keeps_prepared(&self) -> bool {
        self.prepared.len() < PREPARED_MAX
    }

    /// Bytes of the active segment that are still free.
    pub fn active_left(&self) -> u64 {
        self.segment_bytes.saturating_sub(self.offset)
    }

    /// While the disk has no space: bytes that can be written into files which have theirs already.
    pub fn filled_left(&self) -> Option<u64> {
        let prepared: u64 = self.prepared.iter().sum();
        self.disk_full.then(|| self.filled.saturating_sub(self.offset) + prepared)
    }

    /// The disk has no space for more, or has it again.
    pub fn disk_full(&mut self, full: bool) {
        self.disk_full = full;
    }

    /// What to do next.
    pub fn next(&self, situation: &Situation) -> DiskOp {
        if let Some(fill) = self.fill().filter(|_| FILL_BYTES <= self.fill_owed) {
            return fill;
        }
        if self.reclaim_owed && situation.reclaim && situation.pressed {
            return DiskOp::Reclaim;
        }
        if let Some(bytes) = situation.waiting {
            return self.write(bytes, situation.more_waiting);
        }
        if self.prepared.len() < PREPARED_MIN && situation.files < self.files_max && !self.disk_full {
            return DiskOp::Prepare;
        }
        if let Some(fill) = self.fill() {
            return fill;
        }
        if situation.reclaim { DiskOp::Reclaim } else { DiskOp::Rest }
    }

    fn write(&self, bytes: u64, more_waiting: bool) -> DiskOp {
        if self.last_write > GATHER_ABOVE && !self.gathered && !more_waiting {
            return DiskOp::Gather(self.last_write / GATHER_SHARE);
        }
        if self.offset + bytes <= self.segment_bytes {
            DiskOp::WriteGroup { offset: self.offset }
        } else if self.prepared.is_empty() && self.disk_full {
            DiskOp::Gather(FULL_DISK_RETRY)
        } else if self.prepared.is_empty() {
            DiskOp::Prepare
        } else {
            DiskOp::OpenSegment
        }
    }

    fn fill(&self) -> Option<DiskOp> {
        if self.disk_full {
            return None;
        }
        if self.filled < self.segment_bytes {
            let bytes = (self.segment_bytes - self.filled).min(FILL_BYTES);
            return Some(DiskOp::FillActive { offset: self.filled, bytes });
        }
        let offset = *self.prepared.first().filter(|filled| **filled < self.segment_bytes)?;
        Some(DiskOp::FillPrepared { offset, bytes: (self.segment_bytes - offset).min(FILL_BYTES) })
    }

    /// More was let arrive.
    pub fn gathered(&mut self) {
        self.gathered = true;
    }

    /// A group of `bytes` was written at the place that was planned, in `took`.
    pub fn written(&mut self, bytes: u64, took: Duration) {
        self.offset += bytes;
        self.filled = self.filled.max(self.offset);
        self.last_write = took;
        self.gathered = false;
        // Filling twice as fast as writing keeps the next segment ready in time at any rate of arrival.
        self.fill_owed = (self.fill_owed + 2 * bytes).min(2 * self.segment_bytes);
        self.reclaim_owed = true;
    }

    /// A segment was opened in the first prepared file; its opening took `offset` bytes.
    pub fn opened(&mut self, offset: u64) {
        let filled = self.prepared_taken();
        self.active(offset, filled);
    }

    /// The active segment's file was filled by so many bytes more.
    pub fn filled_active(&mut self, bytes: u64) {
        self.filled += bytes;
        self.fill_owed = self.fill_owed.saturating_sub(bytes);
    }

    /// The first prepared file was filled by so many bytes more.
    pub fn filled_prepared(&mut self, bytes: u64) {
        if let Some(filled) = self.prepared.first_mut() {
            *filled += bytes;
        }
        self.fill_owed = self.fill_owed.saturating_sub(bytes);
    }

    /// A step of giving space back was done.
    pub fn reclaimed(&mut self) {
        self.reclaim_owed = false;
    }
}

/// A torn write may leave a file that ends within a block.
fn whole_blocks(bytes: u64) -> u64 {
    bytes / BLOCK as u64 * BLOCK as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1 << 20;

    fn busy(bytes: u64) -> Situation {
        Situation { waiting: Some(bytes), files: 1, ..Situation::default() }
    }

    fn open_planner() -> Planner {
        let mut planner = Planner::new(SEGMENT, 8);
        planner.prepared(SEGMENT);
        planner.opened(4096);
        planner
    }

    #[test]
    fn the_first_group_prepares_and_opens_a_segment() {
        let mut planner = Planner::new(SEGMENT, 8);
        assert_eq!(planner.next(&busy(4096)), DiskOp::Prepare);
        planner.prepared(0);
        assert_eq!(planner.next(&busy(4096)), DiskOp::OpenSegment);
        planner.opened(8192);
        assert_eq!(planner.next(&busy(4096)), DiskOp::WriteGroup { offset: 8192 });
    }

    #[test]
    fn a_slow_disk_is_given_time_to_gather_once_per_group() {
        let mut planner = open_planner();
        planner.written(4096, Duration::from_millis(16));
        planner.prepared(SEGMENT);
        assert_eq!(planner.next(&busy(4096)), DiskOp::Gather(Duration::from_millis(1)));
        planner.gathered();
        assert_eq!(planner.next(&busy(4096)), DiskOp::WriteGroup { offset: 8192 });
        planner.written(4096, Duration::from_millis(16));
        let more = Situation { more_waiting: true, ..busy(4096) };
        assert_eq!(planner.next(&more), DiskOp::WriteGroup { offset: 12288 });
        planner.written(4096, Duration::from_micros(900));
        assert_eq!(planner.next(&busy(4096)), DiskOp::WriteGroup { offset: 16384 });
    }

    #[test]
    fn the_next_segment_is_filled_before_it_is_needed() {
        let mut planner = open_planner();
        planner.prepared(0);
        let mut written = 0;
        loop {
            match planner.next(&busy(32 * 1024)) {
                DiskOp::WriteGroup { .. } => {
                    planner.written(32 * 1024, Duration::from_micros(100));
                    written += 1;
                }
                DiskOp::FillPrepared { bytes, .. } => planner.filled_prepared(bytes),
                DiskOp::OpenSegment => break,
                other => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!(written, 31);
        assert_eq!(planner.prepared, [SEGMENT]);
    }

    #[test]
    fn segments_that_were_given_back_are_used_in_turn_and_not_filled() {
        let mut planner = open_planner();
        assert_eq!(planner.next(&Situation::default()), DiskOp::Prepare);
        for _ in 0..PREPARED_MAX {
            assert!(planner.keeps_prepared());
            planner.prepared(SEGMENT);
        }
        assert!(!planner.keeps_prepared());
        for _ in 0..PREPARED_MAX {
            planner.written(FILL_BYTES, Duration::ZERO);
            assert_eq!(planner.next(&busy(4096)), DiskOp::WriteGroup { offset: 4096 + FILL_BYTES });
            assert_eq!(planner.next(&busy(SEGMENT)), DiskOp::OpenSegment);
            planner.opened(4096);
        }
        assert_eq!(planner.next(&Situation::default()), DiskOp::Prepare);
    }

    #[test]
    fn space_is_given_back_between_writes_only_under_pressure() {
        let mut planner = open_planner();
        planner.prepared(SEGMENT);
        planner.written(4096, Duration::ZERO);
        let relaxed = Situation { reclaim: true, ..busy(4096) };
        assert_eq!(planner.next(&relaxed), DiskOp::WriteGroup { offset: 8192 });
        let pressed = Situation { pressed: true, ..relaxed };
        assert_eq!(planner.next(&pressed), DiskOp::Reclaim);
        planner.reclaimed();
        assert_eq!(planner.next(&pressed), DiskOp::WriteGroup { offset: 8192 });
        let idle = Situation { reclaim: true, files: 8, ..Situation::default() };
        assert_eq!(planner.next(&idle), DiskOp::Reclaim);
        assert_eq!(planner.next(&Situation { files: 8, ..Situation::default() }), DiskOp::Rest);
    }

    #[test]
    fn a_full_disk_is_not_filled_further() {
        let mut planner = open_planner();
        planner.prepared(0);
        planner.disk_full(true);
        assert_eq!(planner.next(&Situation::default()), DiskOp::Rest);
        assert_eq!(planner.filled_left(), Some(SEGMENT - 4096));
        planner.disk_full(false);
        assert_eq!(planner.next(&Situation::default()), DiskOp::FillPrepared { offset: 0, bytes: FILL_BYTES });
    }
}
