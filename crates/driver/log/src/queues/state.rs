//! What is known of each queue: its name, its checkpoint, and how much of it lies in each segment.

use std::collections::BTreeMap;
use std::sync::Arc;

use skerry_model::{BehindState, Checkpoint, Settlement, Tally, Timestamp};

use crate::format::{Fields, put_text};
use crate::queues::QueueStatus;
use crate::queues::encoding::{checkpoint, put_checkpoint, put_tally, put_u32, put_u64, tally};
use crate::queues::message::QueuedMessage;
use crate::queues::{QueueKey, Removal};

/// How long after its expiry a message is left alone, because it may be on its way to its receiver; in milliseconds.
const EXPIRY_GRACE: i64 = 60_000;

/// One queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueState {
    pub(crate) endpoint: Arc<str>,
    pub(crate) priority: u32,
    pub(crate) checkpoint: Checkpoint,
    /// When the queue is dropped with all it holds, in milliseconds since 1970.
    pub(crate) drop_at: Option<i64>,
    pub(crate) accepted: Tally,
    pub(crate) expired: Tally,
    pub(crate) rejected: Tally,
}

/// What one segment holds of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) put: Tally,
    pub(crate) settled: Tally,
    pub(crate) last: u64,
    pub(crate) last_expiry: i64,
    pub(crate) oldest: i64,
}

/// What one segment holds, by queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SegmentHoldings {
    pub(crate) queues: BTreeMap<u32, Holding>,
}

/// All queues.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) queues: BTreeMap<u32, QueueState>,
    pub(crate) names: BTreeMap<(Arc<str>, u32), u32>,
    pub(crate) next_key: u32,
    /// Position of the last record about queues that is in the state. A snapshot can be ahead of the log, and what is in it
    /// must not be done again.
    pub(crate) applied: u64,
    /// By the first position that the segment covers.
    pub(crate) segments: BTreeMap<u64, SegmentHoldings>,
    /// What was dropped together with its queue.
    pub(crate) removed: Tally,
}

impl State {
    /// Makes a queue for messages behind the record at `position`.
    pub(crate) fn add_queue(&mut self, key: u32, endpoint: Arc<str>, priority: u32, position: u64) {
        self.applied = position;
        self.next_key = self.next_key.max(key.saturating_add(1));
        self.names.insert((Arc::clone(&endpoint), priority), key);
        let none = Tally::default();
        let checkpoint = Checkpoint { settled_to: position, ..Checkpoint::default() };
        let queue =
            QueueState { endpoint, priority, checkpoint, drop_at: None, accepted: none, expired: none, rejected: none };
        self.queues.insert(key, queue);
    }

    /// A queue will be dropped at a time, or not; whether there is such a queue.
    pub(crate) fn retire(&mut self, key: u32, drop_at: Option<i64>, position: u64) -> bool {
        self.applied = position;
        let queue = self.queues.get_mut(&key);
        queue.map(|queue| queue.drop_at = drop_at).is_some()
    }

    pub(crate) fn drop_queue(&mut self, key: u32, position: u64) {
        self.applied = position;
        let waiting = self.waiting(key);
        if let Some(queue) = self.queues.remove(&key) {
            self.names.remove(&(queue.endpoint, queue.priority));
            self.removed.add(waiting);
        }
    }

    /// Queues whose time is over.
    pub(crate) fn to_drop(&self, now: i64) -> Vec<u32> {
        self.queues.iter().filter(|(_, queue)| queue.drop_at.is_some_and(|at| at <= now)).map(|(key, _)| *key).collect()
    }

    /// Takes a settlement over.
    pub(crate) fn settle(&mut self, key: u32, settlement: Settlement, position: u64) {
        self.applied = position;
        let Some(queue) = self.queues.get_mut(&key) else { return };
        queue.checkpoint = settlement.checkpoint;
        queue.accepted.add(settlement.accepted);
        queue.expired.add(settlement.expired);
        queue.rejected.add(settlement.rejected);
        for run in settlement.runs {
            let segment = self.segments.range_mut(..=run.first).next_back();
            if let Some(holding) = segment.and_then(|(_, segment)| segment.queues.get_mut(&key)) {
                holding.settled.add(run.tally);
            }
        }
    }

    /// Counts a message into its segment; `live` says for which queues.
    pub(crate) fn count(&mut self, segment: u64, message: &QueuedMessage<'_>, live: impl Fn(&Self, u32) -> bool) {
        for (key, expiry) in message.raw_destinations() {
            if !live(self, key) {
                continue;
            }
            let holding = self.segments.entry(segment).or_default().queues.entry(key);
            let holding = holding.or_insert(Holding {
                put: Tally::default(),
                settled: Tally::default(),
                last: 0,
                last_expiry: i64::MIN,
                oldest: i64::MAX,
            });
            holding.put.add(Tally { messages: 1, bytes: message.bytes() as u64 });
            holding.last = holding.last.max(message.position());
            holding.last_expiry = holding.last_expiry.max(expiry);
            holding.oldest = holding.oldest.min(message.enqueued().unix_millis());
        }
    }

    /// What of a queue waits.
    pub(crate) fn waiting(&self, key: u32) -> Tally {
        let mut waiting = Tally::default();
        let Some(queue) = self.queues.get(&key) else { return waiting };
        let lowest_open = queue.checkpoint.lowest_open();
        let holdings = self.segments.values().filter_map(|segment| segment.queues.get(&key));
        for holding in holdings.filter(|holding| lowest_open <= holding.last) {
            waiting.add(holding.put.without(holding.settled));
        }
        waiting
    }

    pub(crate) fn status(&self) -> Vec<QueueStatus> {
        let status = |(key, queue): (&u32, &QueueState)| {
            let lowest_open = queue.checkpoint.lowest_open();
            let open = self.segments.values().filter_map(|segment| segment.queues.get(key));
            let open = open.filter(|holding| lowest_open <= holding.last);
            let oldest =
                open.filter(|holding| holding.settled.messages < holding.put.messages).map(|holding| holding.oldest);
            QueueStatus {
                queue: QueueKey(*key),
                endpoint: Arc::clone(&queue.endpoint),
                priority: queue.priority,
                waiting: self.waiting(*key),
                oldest: oldest.min().map(Timestamp::from_unix_millis),
                accepted: queue.accepted,
                expired: queue.expired,
                rejected: queue.rejected,
                drop_at: queue.drop_at.map(Timestamp::from_unix_millis),
                parked: queue.checkpoint.behind.values().filter(|behind| behind.state == BehindState::Parked).count(),
            }
        };
        self.queues.iter().map(status).collect()
    }

    pub(crate) fn removal(&self) -> Removal {
        Removal { removed: self.removed }
    }

    /// How much of a holding may still be of use: none for sure, or an upper bound.
    pub(crate) fn open(&self, key: u32, holding: &Holding, now: i64) -> Tally {
        let none = Tally::default();
        let Some(queue) = self.queues.get(&key) else { return none };
        if holding.last < queue.checkpoint.lowest_open() || is_over(holding.last_expiry, now) {
            return none;
        }
        holding.put.without(holding.settled)
    }

    /// Whether no message of a segment is of any use, for sure.
    pub(crate) fn is_dead(&self, segment: &SegmentHoldings, now: i64) -> bool {
        segment.queues.iter().all(|(key, holding)| {
            let Some(queue) = self.queues.get(key) else { return true };
            holding.last < queue.checkpoint.lowest_open() || is_over(holding.last_expiry, now)
        })
    }

    /// Forgets a dead segment; what had expired in it is counted.
    pub(crate) fn forget(&mut self, first: u64) {
        let Some(segment) = self.segments.remove(&first) else { return };
        for (key, holding) in segment.queues {
            if let Some(queue) =
                self.queues.get_mut(&key).filter(|queue| queue.checkpoint.lowest_open() <= holding.last)
            {
                queue.expired.add(holding.put.without(holding.settled));
            }
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u32(out, self.next_key as usize);
        put_u64(out, [self.applied]);
        put_tally(out, self.removed);
        put_u32(out, self.queues.len());
        for (key, queue) in &self.queues {
            put_u32(out, *key as usize);
            put_text(out, &queue.endpoint);
            put_u32(out, queue.priority as usize);
            put_u64(out, [queue.drop_at.unwrap_or(i64::MAX).cast_unsigned()]);
            for counted in [queue.accepted, queue.expired, queue.rejected] {
                put_tally(out, counted);
            }
            put_checkpoint(out, &queue.checkpoint);
        }
        put_u32(out, self.segments.len());
        for (first, segment) in &self.segments {
            put_u64(out, [*first]);
            put_u32(out, segment.queues.len());
            for (key, holding) in &segment.queues {
                put_u32(out, *key as usize);
                put_tally(out, holding.put);
                put_tally(out, holding.settled);
                put_u64(out, [holding.last, holding.last_expiry.cast_unsigned(), holding.oldest.cast_unsigned()]);
            }
        }
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let mut state =
            Self { next_key: fields.u32()?, applied: fields.u64()?, removed: tally(fields)?, ..Self::default() };
        for _ in 0..fields.u32()? {
            let key = fields.u32()?;
            let endpoint: Arc<str> = Arc::from(fields.text()?);
            let priority = fields.u32()?;
            let drop_at = Some(fields.i64()?).filter(|at| *at != i64::MAX);
            let (accepted, expired, rejected) = (tally(fields)?, tally(fields)?, tally(fields)?);
            let checkpoint = checkpoint(fields)?;
            state.names.insert((Arc::clone(&endpoint), priority), key);
            let queue = QueueState { endpoint, priority, checkpoint, drop_at, accepted, expired, rejected };
            state.queues.insert(key, queue);
        }
        for _ in 0..fields.u32()? {
            let first = fields.u64()?;
            let segment = state.segments.entry(first).or_default();
            for _ in 0..fields.u32()? {
                let key = fields.u32()?;
                let (put, settled) = (tally(fields)?, tally(fields)?);
                let holding =
                    Holding { put, settled, last: fields.u64()?, last_expiry: fields.i64()?, oldest: fields.i64()? };
                segment.queues.insert(key, holding);
            }
        }
        Some(state)
    }
}

/// Whether a message that expires then is dropped without asking its receiver.
pub(crate) fn is_over(expiry: i64, now: i64) -> bool {
    expiry.saturating_add(EXPIRY_GRACE) <= now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_reads_back() {
        let mut state = State::default();
        state.add_queue(3, Arc::from("$upstream"), 7, 40);
        state.add_queue(4, Arc::from("edge1/m/in"), 2, 50);
        let one = Tally { messages: 1, bytes: 10 };
        let holding = Holding { put: one, settled: Tally::default(), last: 41, last_expiry: 5, oldest: 2 };
        state.segments.entry(40).or_default().queues.insert(3, holding);
        let settlement = Settlement { accepted: one, ..Settlement::default() };
        state.settle(3, settlement, 60);
        assert_eq!(state.queues[&3].accepted, one);
        let mut out = Vec::new();
        state.put(&mut out);
        let mut fields = Fields(&out);
        let read = State::read(&mut fields).unwrap();
        assert!(fields.0.is_empty());
        assert_eq!((&read.queues, &read.segments, &read.names), (&state.queues, &state.segments, &state.names));
        assert_eq!((read.next_key, read.applied, read.removed), (5, 60, state.removed));
    }
}
