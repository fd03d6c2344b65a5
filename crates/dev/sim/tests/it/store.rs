//! Store and forward in a simulated world: senders, queues on a log, outboxes and receivers, driven by dice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use skerry_log::{
    Clock, Destination, LogOptions, NewMessage, OpenError, QueueKey, QueuedMessage, Queues, QueuesOptions,
    Subscription, Turn, Worker, messages,
};
use skerry_model::{Monotonic, Now, Outcome, Refusal, Timestamp};
use skerry_outbox::{Entry, Offer, Outbox, OutboxLimits};
use skerry_sim::disk::SimDisk;
use skerry_sim::{Dice, Truth};

/// Endpoints and the priorities they have queues for.
const ENDPOINTS: [(&str, &[u32]); 4] =
    [("$upstream", &[1, 7]), ("edge/fast/in", &[7]), ("edge/away/in", &[7]), ("edge/slow/in", &[7])];
const SENDERS: [&str; 5] = ["edge/a", "edge/b", "edge/c", "leaf1", "leaf2"];
/// What all files may take together.
pub(crate) const BYTES_MAX: u64 = 12 * SEGMENT_BYTES;
const SEGMENT_BYTES: u64 = 48 << 10;

fn options() -> QueuesOptions {
    let log = LogOptions {
        bytes_max: BYTES_MAX,
        segment_bytes: Some(SEGMENT_BYTES),
        group_bytes_max: 12 << 10,
        groups_waiting_max: 3,
        subscription_batches_max: 4,
        lazy_write_after: Duration::from_millis(50),
    };
    QueuesOptions { log, queues_max: 12 }
}

fn limits() -> OutboxLimits {
    OutboxLimits {
        window_messages: 8,
        buffered_messages_max: 24,
        buffered_bytes_max: 16 << 10,
        senders_apart_max: 4,
        ..OutboxLimits::default()
    }
}

/// Time that stands still until it is moved.
#[derive(Clone, Default)]
pub(crate) struct SimClock(Arc<AtomicU64>);

impl SimClock {
    pub(crate) fn pass(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Now {
        let millis = self.0.load(Ordering::Relaxed);
        let wall = 1_700_000_000_000 + i64::try_from(millis).unwrap();
        Now { monotonic: Monotonic::from_start(Duration::from_millis(millis)), wall: Timestamp::from_unix_millis(wall) }
    }

    pub(crate) fn clock(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

/// One endpoint and its receiver, while the receiver is there.
struct Receiver {
    outbox: Outbox<u64>,
    keys: Vec<QueueKey>,
    /// What is on its way: line, position, message.
    on_the_way: VecDeque<(usize, u64, u64)>,
}

/// The programs between two power cuts.
pub(crate) struct Running {
    dice: Dice,
    clock: SimClock,
    queues: Queues,
    worker: Worker,
    subscription: Subscription,
    keys: BTreeMap<&'static str, Vec<QueueKey>>,
    receivers: BTreeMap<&'static str, Receiver>,
    parked: Vec<Arc<str>>,
    /// Queues that will be dropped, and when.
    retired: BTreeMap<u32, i64>,
}

/// Why a run ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The power is gone, or the log failed.
    Off,
    /// Something happened that must not.
    Wrong(String),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Failed(_) => Self::Off,
            other => Self::Wrong(format!("refused: {other}")),
        }
    }
}

impl From<String> for End {
    fn from(wrong: String) -> Self {
        Self::Wrong(wrong)
    }
}

/// The payload of a message: its number, and bytes that follow from it.
fn body(message: u64) -> Vec<u8> {
    let mut dice = Dice::new(message);
    let length = if dice.chance(3) { dice.below(9000) } else { dice.below(500) };
    let mut body = message.to_le_bytes().to_vec();
    body.extend((0..length).map(|at| u8::try_from((message + at) % 251).unwrap()));
    body
}

impl Running {
    pub(crate) fn start(disk: &SimDisk, clock: &SimClock, mut dice: Dice, truth: &mut Truth) -> Result<Self, End> {
        let opened = Queues::open(Arc::new(disk.clone()), &options(), clock.clock(), dice.number());
        let (queues, worker) = opened.map_err(|error| match error {
            OpenError::Disk(_) => End::Off,
            other => End::Wrong(format!("the log does not open: {other}")),
        })?;
        if queues.status().damaged != 0 {
            return Err(End::Wrong("recovery found damage".to_owned()));
        }
        truth.durable(queues.durable());
        let subscription = queues.subscribe(Waker::noop().clone());
        let mut keys = BTreeMap::new();
        for (endpoint, priorities) in ENDPOINTS {
            let made: Result<_, _> = priorities.iter().map(|priority| queues.queue(endpoint, *priority)).collect();
            keys.insert(endpoint, made?);
        }
        let parked = Vec::new();
        let receivers = BTreeMap::new();
        let mut running = Self {
            dice,
            clock: clock.clone(),
            queues,
            worker,
            subscription,
            keys,
            receivers,
            parked,
            retired: BTreeMap::new(),
        };
        for status in running.queues.queues() {
            // What was decided before the crash is taken back, if it survived.
            if status.drop_at.is_some() {
                running.queues.retire(status.queue, None)?;
            }
        }
        for (endpoint, _) in ENDPOINTS {
            running.receiver_comes(endpoint);
        }
        Ok(running)
    }

    /// One thing happens.
    pub(crate) fn step(&mut self, truth: &mut Truth, next_message: &mut u64) -> Result<(), End> {
        match self.dice.below(100) {
            0..30 => self.append(truth, next_message)?,
            30..62 => self.turns(truth)?,
            62..80 => self.deliver(truth)?,
            80..90 => self.checkpoint(truth, false)?,
            90..93 => self.park_or_unpark(),
            93..96 => self.come_or_go(truth)?,
            96 => self.retire_or_not(truth)?,
            97 => self.queues.flush(),
            98 => self.clock.pass(70_000),
            _ => self.clock.pass(self.dice.below(500)),
        }
        Ok(())
    }

    fn append(&mut self, truth: &mut Truth, next_message: &mut u64) -> Result<(), End> {
        let now = self.clock.now().wall;
        let mut batch = Vec::new();
        for _ in 0..=self.dice.below(4) {
            let message = *next_message;
            *next_message += 1;
            let mut to = Vec::new();
            for keys in self.keys.values() {
                if self.dice.chance(45) {
                    let queue = keys[self.dice.index(keys.len())];
                    let lives = Duration::from_millis(1 + self.dice.below(200_000));
                    to.push(Destination { queue, expires: self.dice.chance(20).then(|| now.plus(lives)) });
                }
            }
            // A queue that was dropped is never named: the hub knows first.
            to.retain(|to| !self.retired.contains_key(&to.queue.0));
            batch.push((message, SENDERS[self.dice.index(SENDERS.len())], body(message), to));
        }
        let new: Vec<NewMessage<'_>> = batch
            .iter()
            .map(|(_, source, body, to)| NewMessage {
                source,
                stamp: b"stamp",
                properties: "k=v",
                body,
                enqueued: now,
                destinations: to,
            })
            .collect();
        match self.queues.append(&new) {
            Ok(ticket) => {
                for (message, _, _, to) in &batch {
                    for to in to {
                        truth.appended(*message, to.queue.0, ticket, to.expires.map(Timestamp::unix_millis));
                    }
                }
                Ok(())
            }
            Err(Refusal::Full) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    fn turns(&mut self, truth: &mut Truth) -> Result<(), End> {
        for _ in 0..=self.dice.below(5) {
            self.turn(truth)?;
        }
        Ok(())
    }

    fn turn(&mut self, truth: &mut Truth) -> Result<Turn, End> {
        let turn = self.worker.turn();
        truth.durable(self.queues.durable());
        if self.dice.chance(30) {
            self.clock.pass(self.dice.below(6));
        }
        match turn {
            Turn::Failed => return Err(End::Off),
            Turn::Gather(time) => self.clock.pass(u64::try_from(time.as_millis()).unwrap()),
            Turn::Rest(_) if self.dice.chance(20) => self.clock.pass(60),
            Turn::Rest(_) | Turn::Worked => {}
        }
        self.queues_dropped(truth);
        Ok(turn)
    }

    fn queues_dropped(&mut self, truth: &mut Truth) {
        if self.retired.is_empty() {
            return;
        }
        let alive: Vec<u32> = self.queues.queues().iter().map(|status| status.queue.0).collect();
        for keys in self.keys.values_mut() {
            for key in keys.iter().filter(|key| !alive.contains(&key.0)) {
                truth.dropped(key.0);
                self.retired.remove(&key.0);
            }
            keys.retain(|key| alive.contains(&key.0));
        }
        for (endpoint, priorities) in ENDPOINTS {
            let keys = self.keys.entry(endpoint).or_default();
            if keys.len() < priorities.len() {
                self.receivers.remove(endpoint);
                keys.clear();
                for priority in priorities {
                    // Refused only when the log failed, which the next turn tells.
                    keys.extend(self.queues.queue(endpoint, *priority).ok());
                }
            }
        }
    }

    /// Fresh messages go to those who are there; what is wanted is read; what can be sent is sent; some of it is settled.
    fn deliver(&mut self, truth: &mut Truth) -> Result<(), End> {
        self.fresh();
        let endpoints: Vec<&'static str> = self.receivers.keys().copied().collect();
        for endpoint in endpoints {
            self.read(endpoint)?;
            self.send(endpoint, truth)?;
            self.settle_some(endpoint, truth);
        }
        Ok(())
    }

    fn fresh(&mut self) {
        let arrivals = self.subscription.take();
        for receiver in self.receivers.values_mut() {
            if arrivals.lagged {
                receiver.outbox.lagged();
            }
            for batch in &arrivals.batches {
                for (line, key) in receiver.keys.iter().enumerate() {
                    let entries: Vec<_> = messages(batch).filter_map(|message| entry(&message, *key)).collect();
                    if !entries.is_empty() {
                        receiver.outbox.offer_fresh(line, batch.next(), entries);
                    }
                }
            }
        }
    }

    fn read(&mut self, endpoint: &str) -> Result<(), End> {
        let Some(receiver) = self.receivers.get_mut(endpoint) else { return Ok(()) };
        while let Some(wanted) = receiver.outbox.wanted() {
            let key = receiver.keys[wanted.line];
            let read = match &wanted.sender {
                None => self.queues.read(key, wanted.from, 4096),
                Some(sender) => self.queues.read_sender(key, sender, wanted.from, 4096),
            };
            let Ok(read) = read else { return Err(End::Off) };
            let entries = messages(&read.batch).filter_map(|message| entry(&message, key)).collect();
            let (line, next, at_end) = (wanted.line, read.batch.next(), read.at_end);
            receiver.outbox.offer_read(Offer { line, sender: wanted.sender, from: wanted.from, next, at_end, entries });
        }
        if self.queues.status().damaged != 0 {
            return Err(End::Wrong("a read found damage".to_owned()));
        }
        Ok(())
    }

    fn send(&mut self, endpoint: &str, truth: &mut Truth) -> Result<(), End> {
        let Some(receiver) = self.receivers.get_mut(endpoint) else { return Ok(()) };
        while let Some(sent) = receiver.outbox.next(self.clock.now()) {
            let (position, message) = (sent.entry.position, sent.entry.item);
            if self.queues.durable().0 < position {
                return Err(End::Wrong(format!("position {position} is delivered and not durable")));
            }
            let queue = receiver.keys[sent.line].0;
            truth.delivered(message, queue, &sent.entry.sender, position, sent.redelivered)?;
            receiver.on_the_way.push_back((sent.line, position, message));
        }
        Ok(())
    }

    fn settle_some(&mut self, endpoint: &str, truth: &mut Truth) {
        let Some(receiver) = self.receivers.get_mut(endpoint) else { return };
        for _ in 0..self.dice.below(8) {
            let index = if self.dice.chance(70) { 0 } else { self.dice.index(receiver.on_the_way.len()) };
            let Some((line, position, message)) = receiver.on_the_way.remove(index) else { return };
            let outcome = match self.dice.below(20) {
                0 => Outcome::Rejected,
                1 => Outcome::Released,
                _ => Outcome::Accepted,
            };
            let known = receiver.outbox.settled(line, position, outcome);
            if known && outcome != Outcome::Released {
                truth.settled(message, receiver.keys[line].0);
            }
        }
    }

    fn checkpoint(&mut self, truth: &mut Truth, all: bool) -> Result<(), End> {
        let now = self.clock.now().monotonic;
        for receiver in self.receivers.values_mut() {
            let due = if all { receiver.outbox.all_settlements() } else { receiver.outbox.settlements(now) };
            for (line, settlement) in due {
                let key = receiver.keys[line];
                let ticket = self.queues.settle(key, settlement)?;
                truth.recorded(key.0, ticket);
            }
        }
        Ok(())
    }

    fn park_or_unpark(&mut self) {
        let Some(receiver) = self.receivers.get_mut("$upstream") else { return };
        let sender: Arc<str> = Arc::from(SENDERS[self.dice.index(SENDERS.len())]);
        if let Some(index) = self.parked.iter().position(|parked| *parked == sender) {
            self.parked.swap_remove(index);
            receiver.outbox.unpark(&sender);
        } else if receiver.outbox.park(0, &sender) | receiver.outbox.park(1, &sender) {
            self.parked.push(sender);
        }
    }

    fn come_or_go(&mut self, truth: &mut Truth) -> Result<(), End> {
        let (endpoint, _) = ENDPOINTS[self.dice.index(ENDPOINTS.len())];
        if let Some(receiver) = self.receivers.get_mut(endpoint) {
            if self.dice.chance(50) {
                receiver.outbox.rewind();
                receiver.on_the_way.clear();
                return Ok(());
            }
            if self.dice.chance(70) {
                self.checkpoint(truth, true)?;
            }
            let receiver = self.receivers.remove(endpoint).unwrap();
            receiver.keys.iter().for_each(|key| truth.forgotten(key.0));
        } else if endpoint != "edge/away/in" || self.dice.chance(20) {
            self.receiver_comes(endpoint);
        }
        Ok(())
    }

    fn receiver_comes(&mut self, endpoint: &'static str) {
        let keys = self.keys[endpoint].clone();
        let priorities = ENDPOINTS.iter().find(|(name, _)| *name == endpoint).unwrap().1;
        let queues = keys.iter().zip(priorities);
        let queues = queues.map(|(key, priority)| (*priority, self.queues.checkpoint(*key).unwrap())).collect();
        let outbox = Outbox::new(limits(), queues);
        if endpoint == "$upstream" {
            self.parked = (0..keys.len()).flat_map(|line| outbox.parked(line)).collect();
            self.parked.sort();
            self.parked.dedup();
        }
        self.receivers.insert(endpoint, Receiver { outbox, keys, on_the_way: VecDeque::new() });
    }

    fn retire_or_not(&mut self, truth: &mut Truth) -> Result<(), End> {
        let queue = self.keys["edge/slow/in"][0];
        if self.retired.contains_key(&queue.0) {
            return Ok(());
        }
        let drop_at = self.clock.now().wall.plus(Duration::from_millis(self.dice.below(20_000)));
        self.queues.retire(queue, Some(drop_at))?;
        self.retired.insert(queue.0, drop_at.unix_millis());
        // Whether the decision survives a crash is open; what it drops is of no account from now on.
        truth.dropped(queue.0);
        if let Some(receiver) = self.receivers.remove("edge/slow/in") {
            receiver.keys.iter().for_each(|key| truth.forgotten(key.0));
        }
        Ok(())
    }

    /// Everybody is there and takes everything, until nothing is left.
    /// Returns the time when that was so.
    pub(crate) fn drain(mut self, truth: &mut Truth) -> Result<i64, End> {
        for (endpoint, _) in ENDPOINTS {
            let receiver = self.receivers.get_mut(endpoint).unwrap();
            for parked in std::mem::take(&mut self.parked) {
                receiver.outbox.unpark(&parked);
            }
        }
        for _ in 0..10_000 {
            self.clock.pass(100);
            self.fresh();
            let mut idle = true;
            for (endpoint, _) in ENDPOINTS {
                self.read(endpoint)?;
                self.send(endpoint, truth)?;
                let receiver = self.receivers.get_mut(endpoint).unwrap();
                for (line, position, message) in std::mem::take(&mut receiver.on_the_way) {
                    idle = false;
                    receiver.outbox.settled(line, position, Outcome::Accepted);
                    truth.settled(message, receiver.keys[line].0);
                }
            }
            self.checkpoint(truth, true)?;
            self.queues.flush();
            while matches!(self.turn(truth)?, Turn::Worked | Turn::Gather(_)) {
                idle = false;
            }
            if idle {
                let now = self.clock.now().wall.unix_millis();
                return self.check_empty().map(|()| now);
            }
        }
        Err(End::Wrong("the queues are never empty".to_owned()))
    }

    fn check_empty(mut self) -> Result<(), End> {
        // What had expired is left in its segments for a while.
        self.clock.pass(600_000);
        for _ in 0..100 {
            self.worker.turn();
            self.clock.pass(1000);
        }
        for status in self.queues.queues() {
            if status.waiting.messages != 0 && status.endpoint.as_ref() != "edge/slow/in" {
                return Err(End::Wrong(format!(
                    "after all was taken, {status:?}, {:?}",
                    self.queues.checkpoint(status.queue)
                )));
            }
        }
        let segments = self.queues.status().segments;
        if 4 < segments { Err(End::Wrong(format!("{segments} segments are kept for nothing"))) } else { Ok(()) }
    }
}

fn entry(message: &QueuedMessage<'_>, key: QueueKey) -> Option<Entry<u64>> {
    let destination = message.destination(key)?;
    let number = u64::from_le_bytes(*message.body().first_chunk().unwrap());
    assert_eq!(message.body(), body(number), "message {number} is not what was sent");
    assert_eq!((message.stamp(), message.properties()), (b"stamp".as_slice(), b"k=v".as_slice()));
    Some(Entry {
        position: message.position(),
        sender: Arc::from(message.source()),
        bytes: u32::try_from(message.bytes()).unwrap(),
        expires: destination.expires,
        item: number,
    })
}
