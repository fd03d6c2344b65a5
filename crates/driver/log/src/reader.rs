//! Reads records from the segments by position, beside the log thread and without any lock of its.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::format::RecordPlace;
use crate::group::{Batch, Record};
use crate::segment::{Found, Scan, Segment};
use crate::shared::Shared;

/// Bytes of segments that one read looks through at most; what it finds may be much less.
const LOOK_BYTES: u64 = 4 << 20;

/// What a read found.
#[derive(Debug, Clone)]
pub struct ReadBatch {
    /// What matched, in order. Covers all positions from where the read began up to [`Batch::next`].
    pub batch: Batch,
    /// Nothing durable lies behind it (at the time of the read).
    pub at_end: bool,
}

/// What a reader wants of a segment or record.
pub(crate) trait Select {
    /// Whether the segment may hold anything that matches.
    fn segment(&mut self, segment: &Segment) -> bool;
    /// Whether a record matches.
    fn record(&mut self, record: &Record<'_>) -> bool;
}

/// Reads from position `from` on, until about `bytes_max` of payload matched (at least one record, if any is near).
///
/// # Errors
/// When the disk refuses.
pub(crate) fn read(shared: &Shared, from: u64, bytes_max: usize, select: &mut dyn Select) -> io::Result<ReadBatch> {
    let mut reading = Reading { from, next: from, bytes: Vec::new(), index: Vec::new(), looked: 0, bytes_max };
    loop {
        let segments = shared.segments();
        let start = segments.partition_point(|segment| segment.first <= reading.next).saturating_sub(1);
        let mut at_end = true;
        let mut again = false;
        for segment in segments.iter().skip(start) {
            match reading.segment(shared, segment, select)? {
                Progress::Through => {}
                Progress::Enough => {
                    at_end = false;
                    break;
                }
                Progress::Replaced => {
                    again = true;
                    break;
                }
            }
        }
        if !again {
            return Ok(reading.done(at_end));
        }
    }
}

struct Reading {
    from: u64,
    next: u64,
    bytes: Vec<u8>,
    index: Vec<RecordPlace>,
    looked: u64,
    bytes_max: usize,
}

enum Progress {
    /// The segment is read.
    Through,
    /// Enough was found, or looked at.
    Enough,
    /// The segment was dropped or replaced meanwhile.
    Replaced,
}

impl Reading {
    fn segment(&mut self, shared: &Shared, segment: &Arc<Segment>, select: &mut dyn Select) -> io::Result<Progress> {
        // In this order: what lies below `end` is then below `next` or belongs to a later call.
        let next = segment.next();
        let end = segment.end();
        if next <= self.next {
            return Ok(Progress::Through);
        }
        if !select.segment(segment) {
            self.next = next;
            return Ok(Progress::Through);
        }
        let mut scan = Scan::new(Arc::clone(segment), segment.offset_for(self.next), end);
        loop {
            let at = scan.offset();
            match scan.next()? {
                Found::End => break,
                Found::Damage => {
                    let current = shared.segments().iter().any(|known| known.id == segment.id);
                    if !current {
                        return Ok(Progress::Replaced);
                    }
                    shared.counters.damaged.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(
                        segment = segment.id,
                        offset = at,
                        "a group that was written cannot be read any more"
                    );
                    scan.skip_damage()?;
                }
                Found::Group(header, places) => {
                    segment.mark(header.first, at, shared.sizes.segment_bytes);
                    for place in places {
                        if self.next <= place.position && !self.record(&scan, place, select) {
                            return Ok(Progress::Enough);
                        }
                    }
                    self.next = self.next.max(header.next);
                }
            }
            self.looked += scan.offset() - at;
            if LOOK_BYTES <= self.looked && scan.offset() < end {
                return Ok(Progress::Enough);
            }
        }
        self.next = self.next.max(next);
        Ok(Progress::Through)
    }

    /// Takes a record that matches; `false` when there is no room for it.
    fn record(&mut self, scan: &Scan, place: RecordPlace, select: &mut dyn Select) -> bool {
        let Some(payload) = scan.group().get(place.at as usize..(place.at + place.bytes) as usize) else { return true };
        let record = Record { position: place.position, kind: place.kind, payload, at: 0 };
        if !select.record(&record) {
            return true;
        }
        if !self.bytes.is_empty() && self.bytes_max < self.bytes.len() + payload.len() {
            self.next = place.position;
            return false;
        }
        let at = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(payload);
        self.index.push(RecordPlace { at, ..place });
        true
    }

    fn done(self, at_end: bool) -> ReadBatch {
        ReadBatch { batch: Batch::new(Bytes::from(self.bytes), self.index, self.from, self.next), at_end }
    }
}

/// The state of a tenant, shared with the log thread; a poisoned lock is as good as a sound one, its holders do not panic midway.
pub(crate) fn lock<T>(state: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
