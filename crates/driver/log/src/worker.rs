//! The one thread that writes: does what the planner says, publishes what became durable, gives space back.

mod blanks;
mod reclaiming;
mod writing;

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use skerry_model::{Monotonic, Now};

use crate::buffer::AlignedBuffer;
use crate::compaction::{Blank, Compaction};
use crate::disk::{BLOCK, Disk};
use crate::group::Group;
use crate::options::RESERVED_SEGMENTS;
use crate::planner::{DiskOp, FILL_BYTES, Planner, Situation};
use crate::shared::Shared;
use crate::tenant::{Reclaim, Tenant};

pub(crate) use blanks::salt_of;

/// Tells the time; asked by the log thread only.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// Time between two looks when nothing is written, and between two tries on a disk without space.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Something was done; there may be more.
    Worked,
    /// Wait this long for more to arrive, then go on.
    Gather(Duration),
    /// Nothing to do before something arrives or this time has passed.
    Rest(Duration),
    /// The log failed: no turn will ever do anything again.
    Failed,
}

/// Does the disk operations of one log. Runs on a thread of its own ([`Worker::run`]), or turn by turn in a simulation.
pub struct Worker {
    pub(crate) shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    clock: Clock,
    planner: Planner,
    tenant: Box<dyn Tenant>,
    prepared: Vec<Blank>,
    next_id: u64,
    salt: u64,
    /// A log of queues refuses when it is full; one of streams drops its oldest segments instead.
    refuses: bool,
    compaction: Option<Compaction>,
    zeros: AlignedBuffer,
    found: Reclaim,
    look_at: Monotonic,
    groups_since_look: u32,
    lazy_since: Option<Monotonic>,
    failed: bool,
}

/// What recovery hands to a new worker.
pub(crate) struct WorkerParts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Clock,
    pub(crate) planner: Planner,
    pub(crate) tenant: Box<dyn Tenant>,
    pub(crate) prepared: Vec<Blank>,
    pub(crate) next_id: u64,
    pub(crate) salt: u64,
    pub(crate) refuses: bool,
}

impl Worker {
    pub(crate) fn new(parts: WorkerParts) -> Self {
        let mut worker = Self {
            shared: parts.shared,
            disk: parts.disk,
            clock: parts.clock,
            planner: parts.planner,
            tenant: parts.tenant,
            prepared: parts.prepared,
            next_id: parts.next_id,
            salt: parts.salt,
            refuses: parts.refuses,
            compaction: None,
            zeros: AlignedBuffer::new(usize::try_from(FILL_BYTES).unwrap_or(BLOCK)),
            found: Reclaim::Nothing,
            look_at: Monotonic::default(),
            groups_since_look: 0,
            lazy_since: None,
            failed: false,
        };
        worker.tell_room();
        worker
    }

    /// Runs until the log is closed (its last handle is dropped or told to stop) or fails.
    pub fn run(mut self) {
        loop {
            match self.turn() {
                Turn::Worked => {}
                Turn::Gather(time) => std::thread::sleep(time),
                Turn::Rest(time) => {
                    if !self.sleep(time) {
                        return;
                    }
                }
                Turn::Failed => return,
            }
        }
    }

    /// Sleeps until something arrives; `false` when the log is to stop and nothing waits.
    fn sleep(&self, time: Duration) -> bool {
        let mut building = self.shared.building();
        if building.stopping && building.groups.is_empty() {
            // Under the lock that producers take, so that none believes that its record will be written.
            building.failed.get_or_insert_with(|| Arc::from("it is closed"));
            return false;
        }
        // With only lazy records waiting, the time given already ends when they are due.
        if building.urgent || building.stopping {
            return true;
        }
        building.asleep = true;
        let waited = self.shared.wake.wait_timeout(building, time).unwrap_or_else(PoisonError::into_inner);
        building = waited.0;
        building.asleep = false;
        true
    }

    /// Does one thing, the most useful one.
    pub fn turn(&mut self) -> Turn {
        if self.failed {
            return Turn::Failed;
        }
        self.step().unwrap_or_else(|error| {
            // A write that failed may have reached the disk or not, and later writes say nothing about it: this is the end.
            self.failed = true;
            self.shared.fail(&error.to_string());
            Turn::Failed
        })
    }

    fn step(&mut self) -> io::Result<Turn> {
        let now = (self.clock)();
        let (situation, rest) = self.situation(now);
        let op = self.planner.next(&situation);
        tracing::trace!(?op, "turn");
        match op {
            DiskOp::Gather(time) => {
                self.planner.gathered();
                return Ok(Turn::Gather(time));
            }
            DiskOp::Rest => return Ok(Turn::Rest(rest)),
            DiskOp::OpenSegment => self.open_segment(now)?,
            DiskOp::WriteGroup { offset } => self.write_group(offset, now)?,
            DiskOp::Prepare => self.prepare(now)?,
            DiskOp::FillActive { offset, bytes } => {
                let active = self.shared.segments().last().cloned();
                if let Some(active) = active
                    && self.fill(&active.file, offset, bytes, now)?
                {
                    self.planner.filled_active(bytes);
                }
            }
            DiskOp::FillPrepared { offset, bytes } => {
                if let Some(file) = self.prepared.first().map(|blank| Arc::clone(&blank.file))
                    && self.fill(&file, offset, bytes, now)?
                {
                    self.planner.filled_prepared(bytes);
                }
            }
            DiskOp::Reclaim => self.reclaim(now)?,
        }
        Ok(Turn::Worked)
    }

    fn situation(&mut self, now: Now) -> (Situation, Duration) {
        let building = self.shared.building();
        let first = building.groups.front().filter(|group| !group.is_empty());
        let bytes = first.map(Group::padded_bytes);
        let more_waiting = building.groups.len() > 1;
        let urgent = building.urgent || building.stopping || more_waiting;
        let refused = building.refused;
        drop(building);
        let mut rest = LOOK_INTERVAL;
        let waiting = bytes.filter(|_| {
            let since = *self.lazy_since.get_or_insert(now.monotonic);
            let waited = now.monotonic.since(since);
            let lazy = self.shared.sizes.lazy_write_after;
            rest = rest.min(lazy.saturating_sub(waited)).max(Duration::from_millis(1));
            urgent || lazy <= waited
        });
        self.look(now, refused);
        let files = self.shared.segments().len() + self.prepared.len() + usize::from(self.has_output());
        let left =
            self.shared.sizes.segments_max.saturating_sub(self.shared.segments().len() as u64 + RESERVED_SEGMENTS);
        let situation = Situation {
            waiting,
            more_waiting,
            files,
            reclaim: self.compaction.is_some() || self.found != Reclaim::Nothing,
            pressed: left * 4 <= self.shared.sizes.segments_max,
        };
        (situation, rest)
    }

    fn has_output(&self) -> bool {
        self.compaction.as_ref().is_some_and(Compaction::has_output)
    }

    /// Works out what senders may still put in.
    fn tell_room(&mut self) {
        let sizes = &self.shared.sizes;
        let segments = self.shared.segments().len() as u64;
        let for_messages = sizes.segments_max - RESERVED_SEGMENTS;
        let active = self.planner.active_left().saturating_sub(sizes.group_bytes_max as u64 + 2 * BLOCK as u64);
        let mut room = match (self.refuses, for_messages.checked_sub(segments)) {
            (false, _) => u64::MAX,
            (true, Some(free)) => free * sizes.usable_bytes() + active,
            (true, None) => 0,
        };
        if let Some(filled) = self.planner.filled_left() {
            room = room.min(filled.saturating_sub(2 * sizes.group_bytes_max as u64));
        }
        let enough = sizes.usable_bytes() / 2;
        self.shared.set_room(room, enough);
    }
}
