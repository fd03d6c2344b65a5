//! The outbox of one endpoint: which message goes next, and how far each of its queues is settled.

use std::sync::Arc;
use std::time::Duration;

use skerry_model::{Checkpoint, Monotonic, Now, Outcome, Settlement, Timestamp};

use crate::backoff::Backoff;
use crate::line::Line;

/// Bounds of an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Messages that are on their way to the receiver, at most.
    pub window_messages: usize,
    /// Messages of one queue that are held in memory, on their way or waiting.
    pub buffered_messages_max: usize,
    /// Their bytes; a single message may be larger.
    pub buffered_bytes_max: usize,
    /// Senders of one queue that are held back or catching up.
    pub senders_apart_max: usize,
    /// Time between two checkpoints of a queue; what was settled since the last one is sent again after a crash.
    pub checkpoint_interval: Duration,
    /// The wait after the first failure, doubled with each further one.
    pub retry_first: Duration,
    /// The longest wait.
    pub retry_longest: Duration,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            window_messages: 1_000,
            buffered_messages_max: 4_000,
            buffered_bytes_max: 4 << 20,
            senders_apart_max: 1_000,
            checkpoint_interval: Duration::from_millis(20),
            retry_first: Duration::from_secs(1),
            retry_longest: Duration::from_secs(60),
        }
    }
}

/// A message of a queue, as far as an outbox needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// Its place in the log.
    pub position: u64,
    /// Whose it is.
    pub sender: Arc<str>,
    /// Its size in the log, in bytes.
    pub bytes: u32,
    /// When it is worthless.
    pub expires: Option<Timestamp>,
    /// What the caller wants to be given with it; cloned when sent, kept until it is settled.
    pub item: T,
}

/// What was read from a queue in answer to [`Outbox::wanted`].
#[derive(Debug)]
pub struct Offer<T> {
    /// Of which queue, by its place among the outbox's.
    pub line: usize,
    /// Of one sender alone.
    pub sender: Option<Arc<str>>,
    /// Where the read began.
    pub from: u64,
    /// Where to read on: all entries from `from` up to here are in `entries`.
    pub next: u64,
    /// There was no more.
    pub at_end: bool,
    /// What is not settled, in order.
    pub entries: Vec<Entry<T>>,
}

/// What must be read from the log before there is more to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Of which queue, by its place among the outbox's.
    pub line: usize,
    /// Of one sender alone; `None`: of all but those that are apart.
    pub sender: Option<Arc<str>>,
    /// From where on.
    pub from: u64,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent<T> {
    /// Of which queue, by its place among the outbox's.
    pub line: usize,
    /// The message.
    pub entry: Entry<T>,
    /// It was sent before and not settled.
    pub redelivered: bool,
}

/// What one endpoint is sent, in which order and when.
#[derive(Debug)]
pub struct Outbox<T> {
    limits: OutboxLimits,
    lines: Vec<Line<T>>,
    /// Lines by priority, lower first.
    order: Vec<usize>,
    backoff: Backoff,
    not_before: Monotonic,
}

impl<T: Clone> Outbox<T> {
    /// An outbox over queues given by priority (lower goes first, strictly) and checkpoint; a queue's place in the list is its
    /// `line` from then on.
    pub fn new(limits: OutboxLimits, queues: Vec<(u32, Checkpoint)>) -> Self {
        let lines = queues.into_iter().map(|(priority, checkpoint)| Line::new(priority, checkpoint)).collect();
        let backoff = Backoff::new(limits.retry_first, limits.retry_longest);
        let mut outbox = Self { limits, lines, order: Vec::new(), backoff, not_before: Monotonic::default() };
        outbox.sort();
        outbox
    }

    /// Adds a queue; returns its `line`.
    pub fn add(&mut self, priority: u32, checkpoint: Checkpoint) -> usize {
        self.lines.push(Line::new(priority, checkpoint));
        self.sort();
        self.lines.len() - 1
    }

    fn sort(&mut self) {
        self.order = (0..self.lines.len()).collect();
        self.order.sort_by_key(|line| self.lines[*line].priority);
    }

    /// Offers what just became durable in a queue, all of a batch that ends before `next`. It is not taken (`false`) when the
    /// queue is not read that far or there is no room; then it will be wanted later.
    pub fn offer_fresh(&mut self, line: usize, next: u64, entries: Vec<Entry<T>>) -> bool {
        self.lines.get_mut(line).is_some_and(|line| line.offer_fresh(next, entries, &self.limits))
    }

    /// Batches were missed: what was in them must be read.
    pub fn lagged(&mut self) {
        self.lines.iter_mut().for_each(Line::lagged);
    }

    /// What must be read from the log, highest priority first. Each is given once and answered with [`Outbox::offer_read`] or
    /// [`Outbox::read_failed`].
    pub fn wanted(&mut self) -> Option<Wanted> {
        let Self { lines, order, limits, .. } = self;
        order.iter().find_map(|line| lines[*line].wanted(*line, limits))
    }

    /// What was read.
    pub fn offer_read(&mut self, offer: Offer<T>) {
        if let Some(line) = self.lines.get_mut(offer.line) {
            line.offer_read(offer);
        }
    }

    /// It could not be read; it will be wanted again.
    pub fn read_failed(&mut self, wanted: &Wanted) {
        if let Some(line) = self.lines.get_mut(wanted.line) {
            line.read_failed(wanted.sender.as_deref());
        }
    }

    /// The next message to send: `None` when nothing waits, the window is full, or a wait after a failure is not over. Expired
    /// messages are passed over and counted.
    pub fn next(&mut self, now: Now) -> Option<Sent<T>> {
        if now.monotonic < self.not_before || self.limits.window_messages <= self.on_the_way() {
            return None;
        }
        for rank in 0..self.order.len() {
            let line = self.order[rank];
            if let Some((entry, redelivered)) = self.lines[line].send(now) {
                return Some(Sent { line, entry, redelivered });
            }
            // A higher priority that must be read first keeps the lower ones waiting: strict means strict.
            if self.lines[line].may_have_more() {
                return None;
            }
        }
        None
    }

    /// Messages that are on their way.
    pub fn on_the_way(&self) -> usize {
        self.lines.iter().map(Line::sent).sum()
    }

    /// What became of a message. Accepted and rejected ones are done with; released and modified ones are sent again, before
    /// everything behind them, and at once: tell [`Outbox::failed`] if that would be in vain. `false` when it was not on its way.
    pub fn settled(&mut self, line: usize, position: u64, outcome: Outcome) -> bool {
        let known = self.lines.get_mut(line).is_some_and(|line| line.settled(position, outcome));
        if known && outcome == Outcome::Accepted {
            self.backoff.succeeded();
        }
        known
    }

    /// The receiver is gone: everything that was on its way is sent again, first of all, once it is back.
    pub fn rewind(&mut self) {
        self.lines.iter_mut().for_each(Line::rewind);
    }

    /// Sending failed for a reason that lies in no message: nothing is sent for a while, longer with each failure in a row.
    /// `dice` is any number, evenly spread. Returns the wait.
    pub fn failed(&mut self, now: Now, dice: u64) -> Duration {
        let wait = self.backoff.failed(dice);
        self.not_before = now.monotonic + wait;
        wait
    }

    /// The receiver is back: the wait is over.
    pub fn retry_now(&mut self) {
        self.not_before = Monotonic::default();
    }

    /// When to come again although nothing happened: the wait after a failure ends, or a checkpoint is due.
    pub fn next_timeout(&self, now: Now) -> Option<Monotonic> {
        let waits = Some(self.not_before).filter(|until| now.monotonic < *until);
        let dirty = self.lines.iter().filter(|line| line.is_dirty());
        let checkpoint = dirty.map(|line| line.written_at() + self.limits.checkpoint_interval).min();
        waits.into_iter().chain(checkpoint).min()
    }

    /// Holds a sender back in a queue, because its receiver refuses it; the others go on. `false` when too many are already:
    /// then the queue waits.
    pub fn park(&mut self, line: usize, sender: &Arc<str>) -> bool {
        self.lines.get_mut(line).is_some_and(|line| line.park(sender, &self.limits))
    }

    /// Lets a sender go on from where it was held back, in all queues.
    pub fn unpark(&mut self, sender: &str) {
        self.lines.iter_mut().for_each(|line| line.unpark(sender, false));
    }

    /// Drops all that waits of a sender that is held back, counted as rejected.
    pub fn discard(&mut self, sender: &str) {
        self.lines.iter_mut().for_each(|line| line.unpark(sender, true));
    }

    /// Senders that are held back in a queue; they still are after a restart, until they are let go.
    pub fn parked(&self, line: usize) -> Vec<Arc<str>> {
        self.lines.get(line).map(|line| line.parked().cloned().collect()).unwrap_or_default()
    }

    /// Settlements that are due to be written down, with their queues.
    pub fn settlements(&mut self, now: Monotonic) -> Vec<(usize, Settlement)> {
        let limits = &self.limits;
        let lines = self.lines.iter_mut().enumerate();
        lines.filter_map(|(index, line)| Some((index, line.settlement(now, limits)?))).collect()
    }

    /// All settlements that were not written down yet, due or not: before an orderly end.
    pub fn all_settlements(&mut self) -> Vec<(usize, Settlement)> {
        let limits = OutboxLimits { checkpoint_interval: Duration::ZERO, ..self.limits.clone() };
        let lines = self.lines.iter_mut().enumerate();
        lines.filter_map(|(index, line)| Some((index, line.settlement(line.written_at(), &limits)?))).collect()
    }

    /// How far a queue is settled.
    pub fn checkpoint(&self, line: usize) -> Option<Checkpoint> {
        self.lines.get(line).map(Line::checkpoint)
    }
}

#[cfg(test)]
mod tests;
