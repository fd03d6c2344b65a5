//! The queues as what lives on a log: counts what is written, says what is of use, forgets what is not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use skerry_model::{Checkpoint, Tally};

use crate::format::Fields;
use crate::group::{Batch, Record};
use crate::queues::encoding::settlement;
use crate::queues::message::QueuedMessage;
use crate::queues::state::{Holding, SegmentHoldings, State, is_over};
use crate::queues::{DROPPED, Gate, QUEUE, RETIRED, SETTLED};
use crate::reader::lock;
use crate::segment::Segment;
use crate::shared::{Class, Need, Segments, Shared};
use crate::tenant::{Keep, Reclaim, Space, Tenant};

/// The part of the budget that must be in use before live records are moved: moving wears the disk.
const COMPACT_ABOVE: u64 = 4;

pub(crate) struct QueueTenant {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) gate: Arc<Mutex<Gate>>,
    /// Where to write that a queue was dropped.
    pub(crate) shared: Arc<OnceLock<Weak<Shared>>>,
    moving: Option<Moving>,
}

/// The state at the beginning of a compaction, by which all its records are judged.
struct Moving {
    sources: Vec<u64>,
    checkpoints: BTreeMap<u32, Checkpoint>,
    /// What was settled in the sources by then.
    settled: BTreeMap<u32, Tally>,
    now: i64,
    kept: SegmentHoldings,
    expired: BTreeMap<u32, Tally>,
}

impl QueueTenant {
    pub(crate) fn new(state: Arc<Mutex<State>>, gate: Arc<Mutex<Gate>>, shared: Arc<OnceLock<Weak<Shared>>>) -> Self {
        Self { state, gate, shared, moving: None }
    }

    /// Writes down that the time of some queues is over.
    fn drop_queues(&self, now: i64) {
        let due = lock(&self.state).to_drop(now);
        let Some(shared) = self.shared.get().and_then(Weak::upgrade).filter(|_| !due.is_empty()) else { return };
        for key in due {
            let mut need = Need::default();
            need.add(4);
            // Should the log have failed, nothing is dropped any more either.
            let _ = shared.append(need, Class::Bookkeeping, |appender| {
                lock(&self.gate).close(key);
                let position = appender.push(DROPPED, &[&key.to_le_bytes()]);
                let mut state = lock(&self.state);
                let waiting = state.waiting(key);
                if let Some(queue) = state.queues.get(&key).filter(|_| 0 < waiting.messages) {
                    let (endpoint, messages) = (&queue.endpoint, waiting.messages);
                    tracing::warn!(%endpoint, messages, "dropped what waited for an endpoint that does not exist any more");
                }
                state.drop_queue(key, position);
            });
        }
    }

    fn control(&self, record: &Record<'_>) -> Option<()> {
        let mut fields = Fields(record.payload);
        let mut state = lock(&self.state);
        if record.position <= state.applied {
            return Some(());
        }
        match record.kind {
            QUEUE => {
                let key = fields.u32()?;
                let priority = fields.u32()?;
                state.add_queue(key, Arc::from(fields.text()?), priority, record.position);
            }
            SETTLED => {
                let key = fields.u32()?;
                state.settle(key, settlement(&mut fields)?, record.position);
            }
            RETIRED => {
                let key = fields.u32()?;
                let drop_at = Some(fields.i64()?).filter(|at| *at != i64::MAX);
                state.retire(key, drop_at, record.position);
            }
            DROPPED => state.drop_queue(fields.u32()?, record.position),
            _ => {}
        }
        Some(())
    }
}

impl Tenant for QueueTenant {
    fn restore(&mut self, snapshot: &[u8]) -> Option<()> {
        *lock(&self.state) = State::read(&mut Fields(snapshot))?;
        Some(())
    }

    fn replay(&mut self, segment: u64, batch: &Batch) {
        for record in batch.records() {
            if let Some(message) = QueuedMessage::read(&record) {
                lock(&self.state).count(segment, &message, |_, _| true);
            } else if self.control(&record).is_none() {
                tracing::error!(
                    position = record.position,
                    kind = record.kind,
                    "a record of the log cannot be understood"
                );
            }
        }
    }

    fn recount(&mut self, segment: u64, batch: &Batch) {
        let mut state = lock(&self.state);
        for message in batch.records().filter_map(|record| QueuedMessage::read(&record)) {
            state.count(segment, &message, |state, key| {
                let queue = state.queues.get(&key);
                queue.is_some_and(|queue| !queue.checkpoint.is_settled(message.source(), message.position()))
            });
        }
    }

    fn recount_begins(&mut self, segment: u64) {
        lock(&self.state).segments.remove(&segment);
    }

    fn recovered(&mut self, segments: &Segments) -> u64 {
        let mut state = lock(&self.state);
        state.segments.retain(|first, _| segments.iter().any(|segment| segment.first == *first));
        let mut gate = lock(&self.gate);
        for key in state.queues.keys() {
            gate.open(*key);
        }
        state.queues.values().map(|queue| queue.checkpoint.settled_to).max().unwrap_or(0).max(state.applied + 1)
    }

    fn written(&mut self, segment: u64, batch: &Batch) {
        let mut state = lock(&self.state);
        // A segment without messages has its place too, or settlements would be counted to the one before.
        state.segments.entry(segment).or_default();
        for message in batch.records().filter_map(|record| QueuedMessage::read(&record)) {
            state.count(segment, &message, |_, _| true);
        }
    }

    fn snapshot(&mut self, out: &mut Vec<u8>) {
        lock(&self.state).put(out);
    }

    fn reclaim(&mut self, segments: &[Arc<Segment>], space: Space) -> Reclaim {
        self.drop_queues(space.now);
        let state = lock(&self.state);
        let sealed = &segments[..segments.len().saturating_sub(1)];
        let empty = SegmentHoldings::default();
        let holdings = |segment: &Segment| state.segments.get(&segment.first).unwrap_or(&empty);
        let dead = sealed.iter().filter(|segment| state.is_dead(holdings(segment), space.now));
        let dead: Vec<u64> = dead.map(|segment| segment.id).collect();
        if !dead.is_empty() {
            return Reclaim::Drop(dead);
        }
        if (segments.len() as u64) * COMPACT_ABOVE < space.segments_max {
            return Reclaim::Nothing;
        }
        let open = |segment: &Arc<Segment>| -> u64 {
            let holdings = holdings(segment).queues.iter();
            holdings.map(|(key, holding)| state.open(*key, holding, space.now).bytes).sum()
        };
        let open: Vec<u64> = sealed.iter().map(open).collect();
        best_run(&open, space.usable_bytes)
            .map_or(Reclaim::Nothing, |run| Reclaim::Compact(sealed[run].iter().map(|segment| segment.id).collect()))
    }

    fn begin_compaction(&mut self, sources: &[u64], now: i64) {
        let state = lock(&self.state);
        let checkpoints = state.queues.iter().map(|(key, queue)| (*key, queue.checkpoint.clone())).collect();
        self.moving = Some(Moving {
            sources: sources.to_vec(),
            checkpoints,
            settled: settled_in(&state, sources),
            now,
            kept: SegmentHoldings::default(),
            expired: BTreeMap::new(),
        });
    }

    fn keep(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Keep {
        let (Some(message), Some(moving)) = (QueuedMessage::read(record), self.moving.as_mut()) else {
            return Keep::No;
        };
        let bytes = message.bytes() as u64;
        let mut kept = Vec::new();
        let mut all = 0;
        for (key, expiry) in message.raw_destinations() {
            all += 1;
            let checkpoint = moving.checkpoints.get(&key);
            if checkpoint.is_none_or(|checkpoint| checkpoint.is_settled(message.source(), message.position())) {
                continue;
            }
            if is_over(expiry, moving.now) {
                moving.expired.entry(key).or_default().add(Tally { messages: 1, bytes });
            } else {
                kept.push(key);
            }
        }
        let mut counted = State::default();
        std::mem::swap(counted.segments.entry(0).or_default(), &mut moving.kept);
        counted.count(0, &message, |_, key| kept.contains(&key));
        std::mem::swap(counted.segments.entry(0).or_default(), &mut moving.kept);
        if kept.is_empty() {
            Keep::No
        } else if kept.len() == all {
            Keep::Whole
        } else {
            message.write_with(|key, _| kept.contains(&key), out);
            Keep::Rewritten
        }
    }

    fn end_compaction(&mut self, done: bool) {
        let Some(moving) = self.moving.take().filter(|_| done) else { return };
        let mut state = lock(&self.state);
        let mut kept = moving.kept;
        for (key, settled) in settled_in(&state, &moving.sources) {
            // What was settled since the beginning was kept, and is settled in the new segment.
            let since = settled.without(moving.settled.get(&key).copied().unwrap_or_default());
            if let Some(holding) = kept.queues.get_mut(&key) {
                holding.settled.add(since);
            }
        }
        for first in &moving.sources {
            state.segments.remove(first);
        }
        if let Some(first) = moving.sources.first().filter(|_| !kept.queues.is_empty()) {
            state.segments.insert(*first, kept);
        }
        for (key, expired) in moving.expired {
            if let Some(queue) = state.queues.get_mut(&key) {
                queue.expired.add(expired);
            }
        }
    }

    fn dropped(&mut self, segments: &[u64]) {
        let mut state = lock(&self.state);
        for first in segments {
            state.forget(*first);
        }
    }
}

fn settled_in(state: &State, sources: &[u64]) -> BTreeMap<u32, Tally> {
    let mut settled: BTreeMap<u32, Tally> = BTreeMap::new();
    for segment in sources.iter().filter_map(|first| state.segments.get(first)) {
        for (key, Holding { settled: part, .. }) in &segment.queues {
            settled.entry(*key).or_default().add(*part);
        }
    }
    settled
}

/// The neighbours whose open bytes fit into one segment and whose move frees the most segments, with the least to move.
fn best_run(open: &[u64], usable_bytes: u64) -> Option<std::ops::Range<usize>> {
    let mut best: Option<(usize, u64, std::ops::Range<usize>)> = None;
    for start in 0..open.len() {
        let mut moved = 0;
        for (end, bytes) in open.iter().enumerate().skip(start) {
            moved += bytes;
            if usable_bytes < moved {
                break;
            }
            let freed = end - start + usize::from(moved == 0);
            let better = best.as_ref().is_none_or(|(most, least, _)| (*most, *least) < (freed, u64::MAX - moved));
            if 0 < freed && better {
                best = Some((freed, u64::MAX - moved, start..end + 1));
            }
        }
    }
    best.map(|(_, _, run)| run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_that_frees_most_is_moved() {
        assert_eq!(best_run(&[90, 90, 90], 100), None);
        assert_eq!(best_run(&[90, 10, 20, 90], 100), Some(1..3));
        assert_eq!(best_run(&[90, 0, 90], 100), Some(1..2));
        assert_eq!(best_run(&[30, 30, 30, 80, 5, 5, 5, 5], 100), Some(3..8));
        assert_eq!(best_run(&[10], 100), None);
        assert_eq!(best_run(&[0], 100), Some(0..1));
        assert_eq!(best_run(&[0, 0, 99], 100), Some(0..2));
    }
}
