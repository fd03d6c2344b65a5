//! How far a queue is settled: what an outbox decides and a log keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

/// All positions from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl Span {
    /// Whether a position lies in one of some spans that are sorted and apart.
    pub fn any_contains(spans: &[Self], position: u64) -> bool {
        let after = spans.partition_point(|span| span.first <= position);
        after.checked_sub(1).and_then(|at| spans.get(at)).is_some_and(|span| position <= span.last)
    }
}

/// How far one queue is settled. Positions are places in a log; the queue's own messages have gaps between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// All messages of the queue below this are settled, but for senders that are behind.
    pub settled_to: u64,
    /// All messages in these spans, at or above `settled_to`, are settled too, but for senders that are behind. Sorted and apart.
    pub settled: Vec<Span>,
    /// Senders whose progress is their own, because they were held back while the others went on.
    pub behind: BTreeMap<Arc<str>, Behind>,
}

/// The progress of one sender within a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// All its messages below this are settled.
    pub from: u64,
    /// What else of its is settled, while it is not joined. Sorted and apart.
    pub settled: Vec<Span>,
    /// What it is doing.
    pub state: BehindState,
}

/// What a sender that is behind is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BehindState {
    /// It is held back.
    Parked,
    /// Its messages are being sent on their own, until it has caught up.
    CatchingUp,
    /// It has caught up: from [`Behind::from`] on, its messages are settled as all others are.
    Joined,
}

impl Checkpoint {
    /// Whether the message at `position`, of this queue and from `sender`, is settled.
    pub fn is_settled(&self, sender: &str, position: u64) -> bool {
        let with_others = position < self.settled_to || Span::any_contains(&self.settled, position);
        match self.behind.get(sender) {
            None => with_others,
            Some(behind) if position < behind.from => true,
            Some(behind) => match behind.state {
                BehindState::Joined => with_others,
                BehindState::Parked | BehindState::CatchingUp => Span::any_contains(&behind.settled, position),
            },
        }
    }

    /// The lowest position that may not be settled.
    pub fn lowest_open(&self) -> u64 {
        let behind =
            self.behind.values().filter(|behind| behind.state != BehindState::Joined).map(|behind| behind.from);
        behind.min().map_or(self.settled_to, |from| from.min(self.settled_to))
    }
}

/// A number of messages and their size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many.
    pub messages: u64,
    /// Their size in the log, in bytes.
    pub bytes: u64,
}

impl Tally {
    /// Counts `other` in.
    pub const fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }

    /// What is left after taking `other` away; never below zero.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self { messages: self.messages.saturating_sub(other.messages), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// Messages settled one after the other, to tell where in the log they lay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Position of the first of them.
    pub first: u64,
    /// How much they were.
    pub tally: Tally,
}

/// What became settled in a queue since the last of these.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settlement {
    /// How far the queue is settled now.
    pub checkpoint: Checkpoint,
    /// What was settled since, and where it lay.
    pub runs: Vec<Run>,
    /// Of these, what was taken by its receiver.
    pub accepted: Tally,
    /// What was dropped because its time to live was over.
    pub expired: Tally,
    /// What was dropped because it was refused for ever.
    pub rejected: Tally,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_is_behind_has_its_own_progress() {
        let behind = |state| Behind { from: 5, settled: vec![Span { first: 8, last: 8 }], state };
        let checkpoint = |state| Checkpoint {
            settled_to: 20,
            settled: vec![Span { first: 25, last: 30 }],
            behind: BTreeMap::from([(Arc::from("slow"), behind(state))]),
        };
        let settled = |checkpoint: &Checkpoint, sender| -> Vec<u64> {
            [4, 5, 8, 9, 19, 20, 24, 25, 30, 31].into_iter().filter(|at| checkpoint.is_settled(sender, *at)).collect()
        };
        let parked = checkpoint(BehindState::Parked);
        assert_eq!(settled(&parked, "other"), [4, 5, 8, 9, 19, 25, 30]);
        assert_eq!(settled(&parked, "slow"), [4, 8]);
        assert_eq!(parked.lowest_open(), 5);
        let joined = checkpoint(BehindState::Joined);
        assert_eq!(settled(&joined, "slow"), settled(&joined, "other"));
        assert_eq!(joined.lowest_open(), 20);
    }
}
