//! What lives on a log: keeps its own state from what is written, and says which records are still of use.

use crate::group::{Batch, Record};
use crate::segment::Segment;
use crate::shared::Segments;

/// Space that can be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reclaim {
    /// None.
    Nothing,
    /// These segments hold nothing of use.
    Drop(Vec<u64>),
    /// Neighbours whose useful records fit into one segment.
    Compact(Vec<u64>),
}

/// How much is left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    pub(crate) segments_max: u64,
    /// What the output of a compaction holds for sure, in bytes of records.
    pub(crate) usable_bytes: u64,
    /// Milliseconds since 1970.
    pub(crate) now: i64,
}

/// What to do with a record of a segment that is being compacted.
pub(crate) enum Keep {
    /// Nobody needs it.
    No,
    /// As it is.
    Whole,
    /// With the payload that was written to the buffer given.
    Rewritten,
}

/// Queues or partitions. All calls come from the log thread, or from recovery. A segment is named by the first position it
/// covers; a compaction's output takes the name of the first of its sources.
pub(crate) trait Tenant: Send {
    /// Takes over the state that a snapshot holds; `None` when it cannot be understood.
    fn restore(&mut self, snapshot: &[u8]) -> Option<()>;
    /// Recovery found a group in the active segment, written after the snapshot.
    fn replay(&mut self, segment: u64, batch: &Batch);
    /// Recovery found a compacted segment that the snapshot does not know: what it knew under that name is void.
    fn recount_begins(&mut self, segment: u64);
    /// Recovery found a group of a compacted segment that the snapshot does not know.
    fn recount(&mut self, segment: u64, batch: &Batch);
    /// Recovery is over: these segments there are. Returns the lowest position that may be given away next: a snapshot can be
    /// ahead of the log and name positions of records that a crash undid, which must not come to mean others.
    fn recovered(&mut self, segments: &Segments) -> u64;
    /// A group became durable in a segment.
    fn written(&mut self, segment: u64, batch: &Batch);
    /// Appends all state that recovery needs.
    fn snapshot(&mut self, out: &mut Vec<u8>);
    /// What to give back, by the numbers of the segments. The last segment is the active one and never to be named.
    fn reclaim(&mut self, segments: &[std::sync::Arc<Segment>], space: Space) -> Reclaim;
    /// A compaction begins: `keep` is asked about each record, by the state of now.
    fn begin_compaction(&mut self, sources: &[u64], now: i64);
    /// Whether to keep a record of a compacted segment.
    fn keep(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Keep;
    /// The compaction is done: what was kept lies where the first of the sources was. Or it was given up.
    fn end_compaction(&mut self, done: bool);
    /// Segments were dropped.
    fn dropped(&mut self, segments: &[u64]);
}
