//! Durable queues on one log: a message is written once, names the queues it is in, and is forgotten when all have settled it.
//!
//! A queue is an endpoint's share of one priority. How far it is settled is its checkpoint, written to the same log from time to
//! time and with every new segment; no memory is held per message.

mod encoding;
mod message;
mod state;
mod tenant;

use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;

use skerry_model::{Checkpoint, ErrorCode, Refusal, RequestError, Settlement, Tally, Ticket, Timestamp};

pub use message::{QueuedMessage, messages};

use crate::disk::Disk;
use crate::format::{GROUP_HEADER, RECORD_HEADER, put_text};
use crate::group::Record;
use crate::handle::{Closing, LogStatus, status};
use crate::options::{LogOptions, Sizes};
use crate::queues::encoding::put_settlement;
use crate::queues::message::{MESSAGE, payload_bytes, write_head};
use crate::queues::state::State;
use crate::queues::tenant::QueueTenant;
use crate::reader::{ReadBatch, Select, lock};
use crate::recovery::{OpenError, open};
use crate::segment::Segment;
use crate::shared::{Class, Need, Shared};
use crate::subscription::Subscription;
use crate::worker::{Clock, Worker};

/// A queue was made.
pub(crate) const QUEUE: u8 = 2;
/// A queue's checkpoint.
pub(crate) const SETTLED: u8 = 3;
/// A queue will be dropped at a certain time, or will not.
pub(crate) const RETIRED: u8 = 4;
/// A queue was dropped.
pub(crate) const DROPPED: u8 = 5;

/// Bytes that one queue takes in a snapshot for each segment, and besides, at most (without senders that are behind).
const SNAPSHOT_BYTES: (u64, u64) = (76, 400);
/// Bytes of an endpoint's name.
const ENDPOINT_BYTES_MAX: usize = 512;

/// Sizes and times of a log of queues.
#[derive(Debug, Clone)]
pub struct QueuesOptions {
    /// The log under them.
    pub log: LogOptions,
    /// Queues there may be, retired ones included.
    pub queues_max: u32,
}

impl Default for QueuesOptions {
    fn default() -> Self {
        Self { log: LogOptions::default(), queues_max: 256 }
    }
}

/// Names a queue in this log, also after it is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueKey(pub u32);

/// A queue that a message is put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Which.
    pub queue: QueueKey,
    /// When it is worthless there; `None` never.
    pub expires: Option<Timestamp>,
}

/// A message to be put into queues.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    /// Whose message it is; within a queue each sender can be held back on its own. At most 64 KiB.
    pub source: &'a str,
    /// Whatever else the hub wants to find with the message, in its own form. At most 64 KiB.
    pub stamp: &'a [u8],
    /// The text of the property bag.
    pub properties: &'a str,
    /// The payload.
    pub body: &'a [u8],
    /// When it was taken.
    pub enqueued: Timestamp,
    /// Where it goes; a message that goes nowhere is not written.
    pub destinations: &'a [Destination],
}

/// What is known of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// Its key.
    pub queue: QueueKey,
    /// Whose queue it is.
    pub endpoint: Arc<str>,
    /// Lower goes first.
    pub priority: u32,
    /// What is not settled. After a restart and while messages expire it is an estimate that comes right by itself.
    pub waiting: Tally,
    /// When the oldest of what waits was taken, as far as whole segments tell; never later than the truth.
    pub oldest: Option<Timestamp>,
    /// What its receiver took.
    pub accepted: Tally,
    /// What was dropped because its time was over.
    pub expired: Tally,
    /// What was dropped because it was refused for ever.
    pub rejected: Tally,
    /// When it is dropped with what it holds; `None` while it is in use.
    pub drop_at: Option<Timestamp>,
    /// Senders that are held back.
    pub parked: usize,
}

/// What was lost with queues that were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// Messages that waited in a queue when it was dropped.
    pub removed: Tally,
}

/// Which queues take messages.
#[derive(Debug, Default)]
pub(crate) struct Gate(Vec<bool>);

impl Gate {
    fn is_open(&self, key: u32) -> bool {
        self.0.get(key as usize).copied().unwrap_or(false)
    }

    fn open(&mut self, key: u32) {
        let key = key as usize;
        if self.0.len() <= key {
            self.0.resize(key + 1, false);
        }
        self.0[key] = true;
    }

    fn close(&mut self, key: u32) {
        if let Some(open) = self.0.get_mut(key as usize) {
            *open = false;
        }
    }
}

/// All queues of an edge hub; clones share them. The log thread ends when the last is dropped, after what waits is written.
#[derive(Clone)]
pub struct Queues {
    shared: Arc<Shared>,
    state: Arc<Mutex<State>>,
    gate: Arc<Mutex<Gate>>,
    queues_max: u32,
    _closing: Arc<Closing>,
}

impl Queues {
    /// Opens the queues on `disk`; the worker must then be run. `salt` is any number that differs from one opening to the next.
    ///
    /// # Errors
    /// When the options contradict each other, the disk refuses, or the files are of an unknown form.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: &QueuesOptions,
        clock: Clock,
        salt: u64,
    ) -> Result<(Self, Worker), OpenError> {
        let sizes = Sizes::of(&options.log).map_err(OpenError::Options)?;
        let each = sizes.segments_max * SNAPSHOT_BYTES.0 + SNAPSHOT_BYTES.1;
        if sizes.segment_bytes / 2 < each * u64::from(options.queues_max) {
            let (queues, segment) = (options.queues_max, sizes.segment_bytes);
            return Err(OpenError::Options(format!(
                "the state of {queues} queues does not fit into segments of {segment} bytes"
            )));
        }
        let state = Arc::new(Mutex::new(State::default()));
        let gate = Arc::new(Mutex::new(Gate::default()));
        let late = Arc::new(OnceLock::new());
        let tenant = QueueTenant::new(Arc::clone(&state), Arc::clone(&gate), Arc::clone(&late));
        let (shared, worker) = open(disk, &options.log, clock, salt, true, Box::new(tenant))?;
        // Set once, here.
        let _ = late.set(Arc::downgrade(&shared));
        let closing = Closing::new(&shared);
        Ok((Self { shared, state, gate, queues_max: options.queues_max, _closing: closing }, worker))
    }

    /// The queue of an endpoint for one priority, made if there is none. A retired queue stays retired.
    ///
    /// # Errors
    /// [`Refusal::Message`] when there are too many queues or the name is too long; [`Refusal::Failed`].
    pub fn queue(&self, endpoint: &str, priority: u32) -> Result<QueueKey, Refusal> {
        let name = (Arc::from(endpoint), priority);
        if let Some(key) = lock(&self.state).names.get(&name) {
            return Ok(QueueKey(*key));
        }
        if ENDPOINT_BYTES_MAX < endpoint.len() {
            let bytes = endpoint.len();
            return Err(refused(
                0,
                ErrorCode::ArgumentInvalid,
                format!("an endpoint's name of {bytes} bytes is too long"),
            ));
        }
        let mut need = Need::default();
        need.add(8 + 2 + endpoint.len());
        let (_, made) = self.shared.append(need, Class::Bookkeeping, |appender| {
            let mut state = lock(&self.state);
            // Another thread may have been faster.
            if let Some(key) = state.names.get(&name) {
                return Some(QueueKey(*key));
            }
            if self.queues_max as usize <= state.queues.len() {
                return None;
            }
            let key = state.next_key;
            let mut record = key.to_le_bytes().to_vec();
            record.extend_from_slice(&priority.to_le_bytes());
            put_text(&mut record, endpoint);
            let position = appender.push(QUEUE, &[&record]);
            state.add_queue(key, Arc::clone(&name.0), priority, position);
            lock(&self.gate).open(key);
            Some(QueueKey(key))
        })?;
        let too_many = || format!("there are {} queues, and more are not allowed", self.queues_max);
        made.ok_or_else(|| refused(0, ErrorCode::LimitExceeded, too_many()))
    }

    /// All queues, by key.
    pub fn queues(&self) -> Vec<QueueStatus> {
        lock(&self.state).status()
    }

    /// What was lost with queues that were dropped.
    pub fn removal(&self) -> Removal {
        lock(&self.state).removal()
    }

    /// Appends messages, all or none. Never waits. When the ticket is complete, each message is durable in all its queues.
    ///
    /// # Errors
    /// [`Refusal::Full`]: offer them again when a subscription says that there is room. [`Refusal::Message`]: this one can never
    /// be taken (too large, or a queue of its does not exist any more). [`Refusal::Failed`]: the log failed.
    pub fn append(&self, messages: &[NewMessage<'_>]) -> Result<Ticket, Refusal> {
        let mut need = Need::default();
        for (index, message) in messages.iter().enumerate().filter(|(_, message)| !message.destinations.is_empty()) {
            let bytes = payload_bytes(message);
            let long = [message.source.len(), message.stamp.len(), message.destinations.len()];
            if self.largest_record() < bytes || long.iter().any(|length| usize::from(u16::MAX) < *length) {
                return Err(refused(
                    index,
                    ErrorCode::TooLarge,
                    format!("a message of {bytes} bytes does not fit into the store"),
                ));
            }
            need.add(bytes);
        }
        let (ticket, closed) = self.shared.append(need, Class::Message, |appender| {
            let gate = lock(&self.gate);
            let goes = |message: &NewMessage<'_>| message.destinations.iter().all(|to| gate.is_open(to.queue.0));
            if let Some(closed) = messages.iter().position(|message| !goes(message)) {
                return Some(closed);
            }
            drop(gate);
            let mut head = Vec::with_capacity(64);
            for message in messages.iter().filter(|message| !message.destinations.is_empty()) {
                write_head(&mut head, message);
                let (source, properties) = (message.source.as_bytes(), message.properties.as_bytes());
                appender.push(MESSAGE, &[&head, source, message.stamp, properties, message.body]);
            }
            None
        })?;
        match closed {
            None => Ok(ticket),
            Some(index) => Err(refused(index, ErrorCode::NotFound, "a queue of the message was removed".to_owned())),
        }
    }

    /// Bytes of the largest message, with all that goes with it.
    pub fn largest_record(&self) -> usize {
        self.shared.sizes.group_bytes_max - GROUP_HEADER - RECORD_HEADER
    }

    /// All tickets up to this one are complete.
    pub fn durable(&self) -> Ticket {
        self.shared.durable()
    }

    /// From now on, gets every batch that becomes durable; `waker` is woken once until the subscriber takes what arrived.
    pub fn subscribe(&self, waker: Waker) -> Subscription {
        self.shared.subscribers.add(waker)
    }

    /// Reads on in a queue from a position: what is not settled by its checkpoint, about `bytes_max` bytes, at least one message
    /// if one is near. Go on at [`Batch::next`](crate::Batch::next). Waits for the disk, never for the log thread.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn read(&self, queue: QueueKey, from: u64, bytes_max: usize) -> io::Result<ReadBatch> {
        self.read_if(queue, from, bytes_max, None)
    }

    /// The same for the messages of one sender alone, wherever the queue stands.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn read_sender(&self, queue: QueueKey, sender: &str, from: u64, bytes_max: usize) -> io::Result<ReadBatch> {
        self.read_if(queue, from, bytes_max, Some(sender))
    }

    fn read_if(&self, queue: QueueKey, from: u64, bytes_max: usize, sender: Option<&str>) -> io::Result<ReadBatch> {
        let checkpoint = self.checkpoint(queue).unwrap_or_default();
        let mut want = Want { state: &self.state, key: queue.0, from, sender, checkpoint };
        crate::reader::read(&self.shared, from, bytes_max, &mut want)
    }

    /// How far a queue is settled; `None` when there is no such queue.
    pub fn checkpoint(&self, queue: QueueKey) -> Option<Checkpoint> {
        lock(&self.state).queues.get(&queue.0).map(|queue| queue.checkpoint.clone())
    }

    /// Takes over what an outbox settled. It is written with whatever is written next, or soon after; until its ticket is
    /// complete, a crash makes it undone, and what was settled is sent again.
    ///
    /// # Errors
    /// [`Refusal::Failed`]; [`Refusal::Message`] when the state of the senders that are behind is too large, or there is no such
    /// queue.
    pub fn settle(&self, queue: QueueKey, settlement: Settlement) -> Result<Ticket, Refusal> {
        let mut record = queue.0.to_le_bytes().to_vec();
        put_settlement(&mut record, &settlement);
        if self.largest_record() < record.len() {
            let bytes = record.len();
            return Err(refused(
                0,
                ErrorCode::TooLarge,
                format!("a settlement of {bytes} bytes does not fit into the store"),
            ));
        }
        let mut need = Need::default();
        need.add(record.len());
        let (ticket, known) = self.shared.append(need, Class::Bookkeeping, |appender| {
            let mut state = lock(&self.state);
            let known = state.queues.contains_key(&queue.0);
            if known {
                let position = appender.push(SETTLED, &[&record]);
                state.settle(queue.0, settlement, position);
            }
            known
        })?;
        if known { Ok(ticket) } else { Err(no_queue(queue)) }
    }

    /// Lets a queue live only until `drop_at` (its endpoint is gone); what it then still holds is dropped and counted. `None`
    /// takes that back.
    ///
    /// # Errors
    /// [`Refusal::Failed`]; [`Refusal::Message`] when there is no such queue.
    pub fn retire(&self, queue: QueueKey, drop_at: Option<Timestamp>) -> Result<Ticket, Refusal> {
        let mut need = Need::default();
        need.add(12);
        let at = drop_at.map(Timestamp::unix_millis);
        let (ticket, known) = self.shared.append(need, Class::Bookkeeping, |appender| {
            let mut state = lock(&self.state);
            state.queues.get(&queue.0)?;
            let drop_at = at.unwrap_or(i64::MAX);
            let position = appender.push(RETIRED, &[&queue.0.to_le_bytes(), &drop_at.to_le_bytes()]);
            state.retire(queue.0, at, position).then_some(())
        })?;
        known.map(|()| ticket).ok_or_else(|| no_queue(queue))
    }

    /// Figures for people and metrics.
    pub fn status(&self) -> LogStatus {
        status(&self.shared)
    }

    /// Has what waits written now, settlements included.
    pub fn flush(&self) {
        crate::handle::flush(&self.shared);
    }

    /// Asks the log thread to write what waits and end; then everything is refused.
    pub fn close(&self) {
        crate::handle::close(&self.shared);
    }
}

fn refused(index: usize, code: ErrorCode, detail: String) -> Refusal {
    Refusal::Message { index, error: RequestError::new(code, detail) }
}

fn no_queue(queue: QueueKey) -> Refusal {
    refused(0, ErrorCode::NotFound, format!("there is no queue {}", queue.0))
}

struct Want<'a> {
    state: &'a Mutex<State>,
    key: u32,
    from: u64,
    sender: Option<&'a str>,
    checkpoint: Checkpoint,
}

impl Select for Want<'_> {
    fn segment(&mut self, segment: &Segment) -> bool {
        let state = lock(self.state);
        let Some(holdings) = state.segments.get(&segment.first) else { return true };
        holdings.queues.get(&self.key).is_some_and(|holding| self.from <= holding.last)
    }

    fn record(&mut self, record: &Record<'_>) -> bool {
        let Some(message) = QueuedMessage::read(record) else { return false };
        if message.raw_destinations().all(|(key, _)| key != self.key) {
            return false;
        }
        let source = message.source();
        // Senders that are behind are not left out: who reads may already know better than the checkpoint.
        let mine = self.sender.is_none_or(|sender| sender == source);
        mine && !self.checkpoint.is_settled(source, message.position())
    }
}
