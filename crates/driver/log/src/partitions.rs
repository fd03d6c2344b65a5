//! Partitioned streams on one log: one durable write makes durable what arrived for all partitions.
//!
//! Records of a partition have sequence numbers of their own, from 0, without gaps. Nothing is ever refused for want of room:
//! the oldest whole segments are dropped when the byte budget is used up or their youngest record is too old.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use skerry_model::{Refusal, Ticket};

use crate::disk::Disk;
use crate::format::{Fields, RECORD_HEADER};
use crate::group::{Batch, Record};
use crate::handle::{LogStatus, status};
use crate::options::{LogOptions, RESERVED_SEGMENTS};
use crate::reader::{Select, lock};
use crate::recovery::{OpenError, open};
use crate::segment::Segment;
use crate::shared::{Class, Need, Segments, Shared};
use crate::subscription::Subscription;
use crate::tenant::{Keep, Reclaim, Space, Tenant};
use crate::worker::{Clock, Worker};

/// An event.
const EVENT: u8 = 1;
/// Partition and sequence number before an event's payload, in bytes.
const EVENT_HEADER: usize = 12;

/// Sizes and times of a log of partitions.
#[derive(Debug, Clone)]
pub struct PartitionsOptions {
    /// The log under them. Its budget is reached by dropping the oldest segments.
    pub log: LogOptions,
    /// How many partitions, 1 to 1,024. A log that was made with more keeps them.
    pub partitions: u32,
    /// Segments whose youngest record is older than this are dropped; `None` keeps them until the budget is used up.
    pub keep_for: Option<Duration>,
}

/// Partitions a log may have.
pub const PARTITIONS_MAX: u32 = 1024;

/// An event that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Complete when [`Partitions::durable`] has reached it.
    pub ticket: Ticket,
    /// Its sequence number within its partition.
    pub sequence: u64,
}

/// An event that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its partition.
    pub partition: u32,
    /// Its sequence number within the partition.
    pub sequence: u64,
    /// What was appended. Shares the memory of the batch it came in.
    pub payload: Bytes,
}

/// Events that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// In the order of their sequence numbers. They may begin later than asked for, when what was asked for is dropped.
    pub events: Vec<Event>,
    /// Where to read on.
    pub next: u64,
    /// There was no more at the time.
    pub at_end: bool,
}

/// A log of partitions; clones share it. The log thread ends when the last is dropped, after what waits is written.
#[derive(Clone)]
pub struct Partitions {
    shared: Arc<Shared>,
    state: Arc<Mutex<State>>,
    _closing: Arc<crate::handle::Closing>,
}

impl Partitions {
    /// Opens the log on `disk`; the worker must then be run. `salt` is any number that differs from one opening to the next.
    ///
    /// # Errors
    /// When the options contradict each other, the disk refuses, or the files are of an unknown form.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: &PartitionsOptions,
        clock: Clock,
        salt: u64,
    ) -> Result<(Self, Worker), OpenError> {
        if !(1..=PARTITIONS_MAX).contains(&options.partitions) {
            let partitions = options.partitions;
            return Err(OpenError::Options(format!("{partitions} partitions are not between 1 and {PARTITIONS_MAX}")));
        }
        let keep_for = options.keep_for.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let state = Arc::new(Mutex::new(State::new(options.partitions, keep_for)));
        let tenant = Box::new(PartitionTenant(Arc::clone(&state)));
        let (shared, worker) = open(disk, &options.log, clock, salt, false, tenant)?;
        let closing = crate::handle::Closing::new(&shared);
        Ok((Self { shared, state, _closing: closing }, worker))
    }

    /// How many partitions there are.
    pub fn count(&self) -> u32 {
        u32::try_from(lock(&self.state).appended.len()).unwrap_or(PARTITIONS_MAX)
    }

    /// Appends one event, the parts of its payload joined. Never waits.
    ///
    /// # Errors
    /// [`Refusal::Full`] when too much waits to be written or the disk itself has no space: try again when a subscription says
    /// that there is room. [`Refusal::Failed`] when the log failed. [`Refusal::Message`] when the payload is larger than a group
    /// or there is no such partition.
    pub fn append(&self, partition: u32, payload: &[&[u8]]) -> Result<Appended, Refusal> {
        let bytes = EVENT_HEADER + payload.iter().map(|part| part.len()).sum::<usize>();
        if self.largest_payload() + EVENT_HEADER < bytes {
            return Err(refused(format!("an event of {} bytes is larger than a group", bytes - EVENT_HEADER)));
        }
        let mut need = Need::default();
        need.add(bytes);
        let (ticket, sequence) = self.shared.append(need, Class::Message, |appender| {
            // Taken under the producers' lock, so that the numbers follow the order of the records.
            let mut state = lock(&self.state);
            let next = state.appended.get_mut(partition as usize)?;
            let sequence = *next;
            *next += 1;
            drop(state);
            let mut header = [0; EVENT_HEADER];
            header[..4].copy_from_slice(&partition.to_le_bytes());
            header[4..].copy_from_slice(&sequence.to_le_bytes());
            match payload {
                [one] => appender.push(EVENT, &[&header, one]),
                [one, two] => appender.push(EVENT, &[&header, one, two]),
                [one, two, three] => appender.push(EVENT, &[&header, one, two, three]),
                many => {
                    let mut parts = vec![header.as_slice()];
                    parts.extend_from_slice(many);
                    appender.push(EVENT, &parts)
                }
            };
            Some(sequence)
        })?;
        let sequence = sequence.ok_or_else(|| refused(format!("there is no partition {partition}")))?;
        Ok(Appended { ticket, sequence })
    }

    /// Bytes of the largest payload that can be appended.
    pub fn largest_payload(&self) -> usize {
        self.shared.sizes.group_bytes_max - crate::format::GROUP_HEADER - RECORD_HEADER - EVENT_HEADER
    }

    /// All tickets up to this one are complete.
    pub fn durable(&self) -> Ticket {
        self.shared.durable()
    }

    /// From now on, gets every batch that becomes durable; `waker` is woken once until the subscriber takes what arrived.
    pub fn subscribe(&self, waker: Waker) -> Subscription {
        self.shared.subscribers.add(waker)
    }

    /// Reads a partition from sequence number `from` on, about `bytes_max` bytes of it, at least one event if there is one.
    /// Waits for the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn read(&self, partition: u32, from: u64, bytes_max: usize) -> io::Result<Events> {
        let mut want = Want { state: &self.state, partition, from };
        let (mut position, from) = {
            let state = lock(&self.state);
            let start = state.start(partition, from);
            (start, from.max(state.oldest(partition)))
        };
        loop {
            let found = crate::reader::read(&self.shared, position, bytes_max, &mut want)?;
            let events: Vec<Event> = events(&found.batch).collect();
            if !events.is_empty() || found.at_end {
                let next = events.last().map_or(from, |event| event.sequence + 1);
                return Ok(Events { events, next, at_end: found.at_end });
            }
            position = found.batch.next();
        }
    }

    /// Sequence numbers of the events of a partition that can be read; empty when there is none, its start is the next one then.
    pub fn range(&self, partition: u32) -> Range<u64> {
        let state = lock(&self.state);
        let next = state.durable.get(partition as usize).copied().unwrap_or(0);
        state.oldest(partition).min(next)..next
    }

    /// The first sequence number of a partition that was written at or after a moment (milliseconds since 1970), as far as whole
    /// segments tell: nothing younger is left out.
    pub fn first_written_since(&self, partition: u32, unix_millis: i64) -> u64 {
        let segments = self.shared.segments();
        let state = lock(&self.state);
        let young = segments.iter().filter(|segment| unix_millis <= segment.last_written_at());
        let first = young
            .filter_map(|segment| state.tallies.get(&segment.first)?.get(&partition))
            .map(|tally| tally.first)
            .min();
        first.unwrap_or_else(|| state.durable.get(partition as usize).copied().unwrap_or(0))
    }

    /// Figures for people and metrics.
    pub fn status(&self) -> LogStatus {
        status(&self.shared)
    }

    /// Asks the log thread to write what waits and end; then everything is refused.
    pub fn close(&self) {
        crate::handle::close(&self.shared);
    }
}

fn refused(detail: String) -> Refusal {
    let error = skerry_model::RequestError::new(skerry_model::ErrorCode::TooLarge, detail);
    Refusal::Message { index: 0, error }
}

/// The events of a batch, in the order they were appended. They share the batch's memory.
pub fn events(batch: &Batch) -> impl Iterator<Item = Event> + '_ {
    batch.records().filter_map(|record| {
        let (partition, sequence) = event_header(&record)?;
        let payload = batch.bytes().slice(record.at + EVENT_HEADER..record.at + record.payload.len());
        Some(Event { partition, sequence, payload })
    })
}

fn event_header(record: &Record<'_>) -> Option<(u32, u64)> {
    let mut fields = Fields(record.payload);
    if record.kind != EVENT { None } else { Some((fields.u32()?, fields.u64()?)) }
}

/// What a segment holds of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tally {
    /// First sequence number, and the position it has.
    first: u64,
    position: u64,
    /// The sequence number after the last.
    next: u64,
}

#[derive(Debug)]
struct State {
    keep_for: Option<i64>,
    /// Next sequence number of each partition.
    appended: Vec<u64>,
    /// The sequence number after the last durable one.
    durable: Vec<u64>,
    tallies: BTreeMap<u64, BTreeMap<u32, Tally>>,
}

impl State {
    fn new(partitions: u32, keep_for: Option<i64>) -> Self {
        let none = vec![0; partitions as usize];
        Self { keep_for, appended: none.clone(), durable: none, tallies: BTreeMap::new() }
    }

    fn tally(&mut self, segment: u64, batch: &Batch) {
        for record in batch.records() {
            let Some((partition, sequence)) = event_header(&record) else { continue };
            // A log made with more partitions keeps them all, or their numbers would begin again.
            let known = self.durable.len().max(partition as usize + 1).min(PARTITIONS_MAX as usize);
            self.durable.resize(known, 0);
            if let Some(durable) = self.durable.get_mut(partition as usize) {
                *durable = sequence + 1;
            }
            let tally = self.tallies.entry(segment).or_default().entry(partition);
            tally.or_insert(Tally { first: sequence, position: record.position, next: 0 }).next = sequence + 1;
        }
    }

    /// The position to read a partition from.
    fn start(&self, partition: u32, from: u64) -> u64 {
        let tallies = self.tallies.values().filter_map(|segment| segment.get(&partition));
        let tally = tallies.filter(|tally| from < tally.next).min_by_key(|tally| tally.first);
        tally.map_or(u64::MAX, |tally| tally.position)
    }

    fn oldest(&self, partition: u32) -> u64 {
        let tallies = self.tallies.values().filter_map(|segment| segment.get(&partition));
        let next = self.durable.get(partition as usize).copied().unwrap_or(0);
        tallies.map(|tally| tally.first).min().unwrap_or(next)
    }
}

struct Want<'a> {
    state: &'a Mutex<State>,
    partition: u32,
    from: u64,
}

impl Select for Want<'_> {
    fn segment(&mut self, segment: &Segment) -> bool {
        let state = lock(self.state);
        let Some(tallies) = state.tallies.get(&segment.first) else { return true };
        tallies.get(&self.partition).is_some_and(|tally| self.from < tally.next)
    }

    fn record(&mut self, record: &Record<'_>) -> bool {
        event_header(record).is_some_and(|(partition, sequence)| partition == self.partition && self.from <= sequence)
    }
}

struct PartitionTenant(Arc<Mutex<State>>);

impl Tenant for PartitionTenant {
    fn restore(&mut self, snapshot: &[u8]) -> Option<()> {
        let mut fields = Fields(snapshot);
        let mut state = lock(&self.0);
        let partitions = fields.u32().filter(|count| *count <= PARTITIONS_MAX)?;
        let known = state.durable.len().max(partitions as usize);
        state.durable.resize(known, 0);
        for partition in 0..partitions as usize {
            state.durable[partition] = fields.u64()?;
        }
        while !fields.0.is_empty() {
            let segment = fields.u64()?;
            let count = fields.u32()?;
            let tallies = state.tallies.entry(segment).or_default();
            for _ in 0..count {
                let partition = fields.u32()?;
                tallies.insert(partition, Tally { first: fields.u64()?, position: fields.u64()?, next: fields.u64()? });
            }
        }
        Some(())
    }

    fn replay(&mut self, segment: u64, batch: &Batch) {
        lock(&self.0).tally(segment, batch);
    }

    fn recount_begins(&mut self, _segment: u64) {}

    fn recount(&mut self, _segment: u64, _batch: &Batch) {}

    fn recovered(&mut self, segments: &Segments) -> u64 {
        let mut state = lock(&self.0);
        state.appended = state.durable.clone();
        state.tallies.retain(|first, _| segments.iter().any(|segment| segment.first == *first));
        0
    }

    fn written(&mut self, segment: u64, batch: &Batch) {
        lock(&self.0).tally(segment, batch);
    }

    fn snapshot(&mut self, out: &mut Vec<u8>) {
        let state = lock(&self.0);
        out.extend_from_slice(&u32::try_from(state.durable.len()).unwrap_or(0).to_le_bytes());
        for next in &state.durable {
            out.extend_from_slice(&next.to_le_bytes());
        }
        for (segment, tallies) in &state.tallies {
            out.extend_from_slice(&segment.to_le_bytes());
            out.extend_from_slice(&u32::try_from(tallies.len()).unwrap_or(0).to_le_bytes());
            for (partition, tally) in tallies {
                out.extend_from_slice(&partition.to_le_bytes());
                for number in [tally.first, tally.position, tally.next] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
    }

    fn reclaim(&mut self, segments: &[Arc<Segment>], space: Space) -> Reclaim {
        let state = lock(&self.0);
        let sealed = segments.len().saturating_sub(1);
        let too_many = (segments.len() as u64 + RESERVED_SEGMENTS).saturating_sub(space.segments_max);
        let too_many = usize::try_from(too_many).unwrap_or(sealed);
        let too_old = state.keep_for.map_or(0, |keep_for| {
            segments.iter().take_while(|segment| segment.last_written_at().saturating_add(keep_for) < space.now).count()
        });
        let gone: Vec<u64> =
            segments.iter().take(sealed.min(too_many.max(too_old))).map(|segment| segment.id).collect();
        if gone.is_empty() { Reclaim::Nothing } else { Reclaim::Drop(gone) }
    }

    fn begin_compaction(&mut self, _sources: &[u64], _now: i64) {}

    fn keep(&mut self, _record: &Record<'_>, _out: &mut Vec<u8>) -> Keep {
        Keep::Whole
    }

    fn end_compaction(&mut self, _done: bool) {}

    fn dropped(&mut self, segments: &[u64]) {
        lock(&self.0).tallies.retain(|first, _| !segments.contains(first));
    }
}
