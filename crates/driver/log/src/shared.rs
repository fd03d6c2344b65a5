//! What producers, readers and the log thread share: the groups being built, the watermark, the segments, the subscribers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use skerry_model::{Refusal, Ticket};

use crate::buffer::BufferPool;
use crate::format::RECORD_HEADER;
use crate::group::{Batch, Group};
use crate::options::Sizes;
use crate::segment::Segment;
use crate::subscription::Subscribers;

/// All segments with content, by the positions they cover.
pub(crate) type Segments = Arc<Vec<Arc<Segment>>>;

pub(crate) struct Shared {
    pub(crate) sizes: Sizes,
    pub(crate) pool: Arc<BufferPool>,
    pub(crate) building: Mutex<Building>,
    pub(crate) wake: Condvar,
    /// Position after the last durable record.
    durable: AtomicU64,
    segments: RwLock<Segments>,
    pub(crate) subscribers: Subscribers,
    pub(crate) counters: Counters,
}

/// The producers' side, under one short lock.
pub(crate) struct Building {
    /// Oldest first; the last one takes new records.
    pub(crate) groups: VecDeque<Group>,
    pub(crate) next: u64,
    /// Bytes that messages may still take, what waits in `groups` not counted.
    pub(crate) room: u64,
    pub(crate) failed: Option<Arc<str>>,
    /// Something waits that somebody waits for.
    pub(crate) urgent: bool,
    /// The log thread sleeps and must be woken.
    pub(crate) asleep: bool,
    pub(crate) stopping: bool,
    /// Somebody was refused since the last group was taken, and is to be told when there is room.
    pub(crate) refused: bool,
    /// The budget is used up; cleared when a good part is free again.
    pub(crate) full: bool,
}

/// What a log counts since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) groups: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) moved: AtomicU64,
    pub(crate) segments: AtomicU64,
    pub(crate) last_write_nanos: AtomicU64,
}

/// What an append will take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Need {
    pub(crate) records: usize,
    pub(crate) payload_bytes: usize,
}

impl Need {
    pub(crate) fn add(&mut self, payload_bytes: usize) {
        self.records += 1;
        self.payload_bytes += payload_bytes;
    }

    fn bytes(self) -> usize {
        self.payload_bytes + self.records * RECORD_HEADER
    }
}

/// Whether an append counts against the budget and is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A message: counted, and somebody waits for its ticket.
    Message,
    /// The log's own book-keeping: goes into the reserve, and may wait for company.
    Bookkeeping,
}

impl Shared {
    pub(crate) fn new(sizes: Sizes, next: u64, segments: Segments) -> Arc<Self> {
        let pool = BufferPool::new(sizes.group_bytes_max);
        let building = Building {
            groups: VecDeque::new(),
            next,
            room: 0,
            failed: None,
            urgent: false,
            asleep: false,
            stopping: false,
            refused: false,
            full: false,
        };
        Arc::new(Self {
            subscribers: Subscribers::new(sizes.subscription_batches_max),
            sizes,
            pool,
            building: Mutex::new(building),
            wake: Condvar::new(),
            durable: AtomicU64::new(next),
            segments: RwLock::new(segments),
            counters: Counters::default(),
        })
    }

    pub(crate) fn building(&self) -> MutexGuard<'_, Building> {
        self.building.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Position after the last durable record.
    pub(crate) fn durable_next(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The last durable position as a ticket.
    pub(crate) fn durable(&self) -> Ticket {
        Ticket(self.durable_next().saturating_sub(1))
    }

    pub(crate) fn segments(&self) -> Segments {
        Arc::clone(&self.segments.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_segments(&self, segments: Vec<Arc<Segment>>) {
        *self.segments.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(segments);
    }

    /// Makes a written group visible to everybody.
    pub(crate) fn publish(&self, batch: &Batch) {
        self.durable.store(batch.next(), Ordering::Release);
        self.subscribers.publish(batch);
    }

    /// Appends under the lock, all or nothing: `fill` is called only when there is room for what is needed.
    ///
    /// # Errors
    /// [`Refusal::Full`] or [`Refusal::Failed`].
    pub(crate) fn append<T>(
        &self,
        need: Need,
        class: Class,
        fill: impl FnOnce(&mut Appender<'_>) -> T,
    ) -> Result<(Ticket, T), Refusal> {
        let mut building = self.building();
        self.admit(&mut building, need, class)?;
        let mut appender = Appender { shared: self, building: &mut building };
        let filled = fill(&mut appender);
        let ticket = Ticket(building.next.saturating_sub(1));
        if class == Class::Message {
            building.urgent = true;
        }
        let wake = building.asleep;
        building.asleep = false;
        drop(building);
        if wake {
            self.wake.notify_one();
        }
        Ok((ticket, filled))
    }

    fn admit(&self, building: &mut Building, need: Need, class: Class) -> Result<(), Refusal> {
        if let Some(failed) = &building.failed {
            return Err(Refusal::Failed(failed.to_string().into()));
        }
        if class == Class::Bookkeeping {
            return Ok(());
        }
        let waiting: usize = building.groups.iter().map(Group::payload_bytes).sum();
        let out_of_room = building.full || building.room < (waiting + need.bytes()) as u64;
        // The first of an empty line is always taken, or a batch larger than a group could never pass.
        let too_many = building.groups.len() >= self.sizes.groups_waiting_max
            && building.groups.back().is_some_and(|group| !group.fits(need.bytes()));
        if out_of_room || too_many {
            if out_of_room && !building.full {
                building.full = true;
                tracing::warn!(room = building.room, need = need.bytes(), "the log is full: senders are refused");
            }
            building.refused = true;
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Full);
        }
        Ok(())
    }

    /// Tells how much room there is now, and whoever was refused that it may try again.
    pub(crate) fn set_room(&self, room: u64, enough: u64) {
        let mut building = self.building();
        building.room = room;
        if building.full && room >= enough {
            building.full = false;
            tracing::info!(room, "the log has room again: senders are taken");
        }
        let tell = building.refused && !building.full;
        if tell {
            building.refused = false;
        }
        drop(building);
        if tell {
            self.subscribers.room();
        }
    }

    /// Ends the log for good: what was not durable by now never will be.
    pub(crate) fn fail(&self, reason: &str) {
        let mut building = self.building();
        if building.failed.is_none() {
            tracing::error!(reason, "the log failed: nothing is taken any more");
            building.failed = Some(Arc::from(reason));
        }
        building.groups.clear();
        drop(building);
        self.subscribers.failed();
    }
}

/// Puts records into the group being built.
pub(crate) struct Appender<'a> {
    shared: &'a Shared,
    building: &'a mut Building,
}

impl Appender<'_> {
    /// Adds a record of `parts`, whose total the caller bounded by [`Sizes::group_bytes_max`].
    pub(crate) fn push(&mut self, kind: u8, parts: &[&[u8]]) -> u64 {
        let bytes = parts.iter().map(|part| part.len()).sum();
        let building = &mut *self.building;
        if building.groups.back().is_none_or(|group| !group.fits(bytes)) {
            building.groups.push_back(Group::new(self.shared.pool.take(), building.next));
        }
        let position = building.next;
        if let Some(group) = building.groups.back_mut() {
            building.next = group.push(kind, parts) + 1;
        }
        position
    }
}

impl Building {
    /// Takes the oldest group to write it, unless it is larger than what fits.
    pub(crate) fn take_group(&mut self, fits: u64) -> Option<Group> {
        let group = self.groups.pop_front_if(|group| group.padded_bytes() <= fits);
        if self.groups.is_empty() {
            self.urgent = false;
        }
        group
    }
}
