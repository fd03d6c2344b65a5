//! The one thread that writes: does what the planner says, publishes what became durable, gives space back.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use skerry_model::{Monotonic, Now};

use crate::buffer::AlignedBuffer;
use crate::compaction::{Blank, Compaction, Step};
use crate::disk::{BLOCK, Disk};
use crate::format::{FLAG_OPENS, RECORD_HEADER, kind};
use crate::group::Group;
use crate::options::RESERVED_SEGMENTS;
use crate::planner::{DiskOp, FILL_BYTES, Planner, Situation};
use crate::segment::{Description, Segment, file_name};
use crate::shared::Shared;
use crate::tenant::{Reclaim, Space, Tenant};

/// Tells the time; asked by the log thread only.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// Groups between two looks for space to give back.
const GROUPS_PER_LOOK: u32 = 64;
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
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Clock,
    pub(crate) planner: Planner,
    pub(crate) tenant: Box<dyn Tenant>,
    pub(crate) prepared: Vec<Blank>,
    pub(crate) next_id: u64,
    pub(crate) salt: u64,
    /// A log of queues refuses when it is full; one of streams drops its oldest segments instead.
    pub(crate) refuses: bool,
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

    /// Asks now and then what can be given back.
    fn look(&mut self, now: Now, refused: bool) {
        let soon = if refused { 1 } else { GROUPS_PER_LOOK };
        if self.compaction.is_some() || (self.groups_since_look < soon && now.monotonic < self.look_at) {
            return;
        }
        self.groups_since_look = 0;
        self.look_at = now.monotonic + LOOK_INTERVAL;
        self.planner.disk_full(false);
        self.find(now);
    }

    fn find(&mut self, now: Now) {
        let segments = self.shared.segments();
        let sizes = &self.shared.sizes;
        let group = sizes.group_bytes_max as u64;
        let space = Space {
            segments_max: sizes.segments_max,
            // What is moved is packed into groups that are at least half full, each with a last block that is not.
            usable_bytes: (sizes.segment_bytes - 4 * BLOCK as u64) / (group + 2 * BLOCK as u64) * group,
            now: now.wall.unix_millis(),
        };
        self.found = self.tenant.reclaim(&segments, space);
        if let Some(compaction) = &self.compaction {
            let busy = |id: &u64| compaction.sources.iter().any(|source| source.id == *id);
            self.found = match std::mem::replace(&mut self.found, Reclaim::Nothing) {
                Reclaim::Drop(ids) => match ids.into_iter().filter(|id| !busy(id)).collect::<Vec<_>>() {
                    ids if ids.is_empty() => Reclaim::Nothing,
                    ids => Reclaim::Drop(ids),
                },
                Reclaim::Nothing | Reclaim::Compact(_) => Reclaim::Nothing,
            };
        }
    }

    fn write_group(&mut self, offset: u64, now: Now) -> io::Result<()> {
        // Records may have been added since the planner was told the group's size: if it does not fit any more, plan again.
        let fits = self.shared.sizes.segment_bytes - offset;
        let group = self.shared.building().take_group(fits);
        if group.is_none() {
            return Ok(());
        }
        self.lazy_since = None;
        let (Some(mut group), Some(active)) = (group, self.shared.segments().last().cloned()) else { return Ok(()) };
        let bytes = group.padded_bytes();
        let block = u32::try_from(offset / BLOCK as u64).unwrap_or(u32::MAX);
        let written_at = now.wall.unix_millis();
        group.seal(active.id, active.salt, 0, block, written_at);
        active.file.write_durable(group.padded(), offset)?;
        let took = (self.clock)().monotonic.since(now.monotonic);
        self.planner.written(bytes, took);
        self.groups_since_look += 1;
        active.mark(group.first(), offset, self.shared.sizes.segment_bytes);
        let batch = group.share(&self.shared.pool);
        // Counted before it is visible: a reader passes over segments that hold nothing for it.
        self.tenant.written(active.first, &batch);
        active.extend(offset + bytes, batch.next(), written_at);
        let counters = &self.shared.counters;
        counters.groups.fetch_add(1, Ordering::Relaxed);
        counters.records.fetch_add(batch.len() as u64, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        counters.last_write_nanos.store(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.shared.publish(&batch);
        self.tell_room();
        Ok(())
    }

    fn open_segment(&mut self, now: Now) -> io::Result<()> {
        // The moment to notice that a whole segment has become free.
        self.find(now);
        if let Reclaim::Drop(ids) = std::mem::replace(&mut self.found, Reclaim::Nothing) {
            self.drop_segments(&ids)?;
        }
        let first = self.shared.building().groups.front().map(Group::first);
        let (Some(first), false) = (first, self.prepared.is_empty()) else { return Ok(()) };
        let blank = self.prepared.remove(0);
        let segment = Arc::new(Segment::new(blank.id, blank.file, blank.salt, first));
        let written_at = now.wall.unix_millis();
        for mut group in self.opening_groups(first) {
            let block = u32::try_from(segment.end() / BLOCK as u64).unwrap_or(u32::MAX);
            group.seal(segment.id, segment.salt, FLAG_OPENS, block, written_at);
            segment.file.write_durable(group.padded(), segment.end())?;
            segment.extend(segment.end() + group.padded_bytes(), first, written_at);
            drop(group.share(&self.shared.pool));
        }
        self.planner.opened(segment.end());
        let mut segments = self.shared.segments().to_vec();
        segments.push(segment);
        self.shared.set_segments(segments);
        self.shared.counters.segments.fetch_add(1, Ordering::Relaxed);
        self.tell_room();
        Ok(())
    }

    /// The description of a segment and the snapshot of all state, in as many groups as it takes.
    fn opening_groups(&mut self, first: u64) -> Vec<Group> {
        let mut snapshot = Vec::new();
        let segments = self.shared.segments();
        snapshot.extend_from_slice(&u32::try_from(segments.len()).unwrap_or(u32::MAX).to_le_bytes());
        for segment in segments.iter() {
            for number in [segment.id, segment.end(), segment.next(), segment.last_written_at().cast_unsigned()] {
                snapshot.extend_from_slice(&number.to_le_bytes());
            }
        }
        self.tenant.snapshot(&mut snapshot);
        let description = Description { first, replaces: None }.encode();
        let mut groups = vec![Group::new(self.shared.pool.take(), first)];
        groups[0].push_unnumbered(kind::SEGMENT, &[&description]);
        let part_bytes = self.shared.sizes.group_bytes_max - BLOCK - RECORD_HEADER;
        let mut parts = snapshot.chunks(part_bytes).peekable();
        while let Some(part) = parts.next() {
            let kind = if parts.peek().is_some() { kind::SNAPSHOT } else { kind::SNAPSHOT_END };
            let mut group = match groups.pop() {
                Some(group) if group.fits(part.len()) => group,
                full => {
                    groups.extend(full);
                    Group::new(self.shared.pool.take(), first)
                }
            };
            group.push_unnumbered(kind, &[part]);
            groups.push(group);
        }
        groups
    }

    fn prepare(&mut self, now: Now) -> io::Result<()> {
        let sizes = &self.shared.sizes;
        let files = self.shared.segments().len() as u64 + u64::from(self.has_output());
        if files >= sizes.segments_max {
            // Writing goes before moving: the compaction begins again when there is space.
            if let Some(compaction) = self.compaction.take() {
                self.tenant.end_compaction(false);
                return self.retire(compaction.into_output().into_iter().collect());
            }
        }
        let id = self.new_id();
        let made = self.disk.create(&file_name(id)).and_then(|file| self.disk.sync_directory().map(|()| file));
        match made {
            Ok(file) => self.keep_blank(Blank { id, file, salt: self.salt_of(id) }),
            Err(error) => self.no_space(error, now),
        }
    }

    fn keep_blank(&mut self, blank: Blank) -> io::Result<()> {
        self.planner.prepared(blank.file.bytes()?.min(self.shared.sizes.segment_bytes));
        self.prepared.push(blank);
        Ok(())
    }

    fn new_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn salt_of(&self, id: u64) -> u64 {
        salt_of(self.salt, id)
    }

    /// Zero-fills; `false` when the disk has no space, which is no failure: senders are refused until it has.
    fn fill(&mut self, file: &Arc<dyn crate::disk::DiskFile>, offset: u64, bytes: u64, now: Now) -> io::Result<bool> {
        let zeros = &self.zeros.bytes()[..usize::try_from(bytes).unwrap_or(0)];
        match file.write_durable(zeros, offset) {
            Ok(()) => Ok(true),
            Err(error) => self.no_space(error, now).map(|()| false),
        }
    }

    fn no_space(&mut self, error: io::Error, now: Now) -> io::Result<()> {
        if error.kind() != io::ErrorKind::StorageFull && error.kind() != io::ErrorKind::QuotaExceeded {
            return Err(error);
        }
        tracing::warn!(%error, "the disk has no space for a further segment");
        self.planner.disk_full(true);
        self.look_at = now.monotonic + LOOK_INTERVAL;
        self.tell_room();
        Ok(())
    }

    fn reclaim(&mut self, now: Now) -> io::Result<()> {
        self.planner.reclaimed();
        if self.compaction.is_none() {
            match std::mem::replace(&mut self.found, Reclaim::Nothing) {
                Reclaim::Nothing => {}
                Reclaim::Drop(ids) => {
                    self.drop_segments(&ids)?;
                    self.find(now);
                }
                Reclaim::Compact(ids) => {
                    let sources =
                        self.shared.segments().iter().filter(|segment| ids.contains(&segment.id)).cloned().collect();
                    let compaction = Compaction::new(sources, now.wall.unix_millis());
                    self.tenant.begin_compaction(&compaction.names(), now.wall.unix_millis());
                    self.compaction = Some(compaction);
                }
            }
            return Ok(());
        }
        let Some(mut compaction) = self.compaction.take() else { return Ok(()) };
        match compaction.step(self.tenant.as_mut(), &self.shared)? {
            Step::More => self.compaction = Some(compaction),
            Step::NeedsFile => {
                if self.prepared.is_empty() {
                    let files = self.shared.segments().len() as u64;
                    if files < self.shared.sizes.segments_max {
                        self.prepare(now)?;
                    }
                }
                if self.prepared.is_empty() {
                    self.tenant.end_compaction(false);
                    return Ok(());
                }
                self.planner.prepared_taken();
                compaction.begin_output(self.prepared.remove(0), &self.shared)?;
                self.compaction = Some(compaction);
            }
            Step::Overflow => {
                self.tenant.end_compaction(false);
                self.retire(compaction.into_output().into_iter().collect())?;
            }
            Step::Done(target) => {
                self.replace(compaction.into_sources(), target)?;
                self.find(now);
            }
        }
        Ok(())
    }

    fn replace(&mut self, sources: Vec<Arc<Segment>>, target: Option<Arc<Segment>>) -> io::Result<()> {
        let ids: Vec<u64> = sources.iter().map(|source| source.id).collect();
        let mut segments = Vec::new();
        for segment in self.shared.segments().iter() {
            if segment.id == ids[0] {
                segments.extend(target.clone());
            }
            if !ids.contains(&segment.id) {
                segments.push(Arc::clone(segment));
            }
        }
        // Before the new segment is visible, for the same reason as in `write_group`.
        self.tenant.end_compaction(true);
        self.shared.set_segments(segments);
        self.retire(sources)?;
        self.tell_room();
        Ok(())
    }

    fn drop_segments(&mut self, ids: &[u64]) -> io::Result<()> {
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.shared.segments().iter().cloned().partition(|segment| ids.contains(&segment.id));
        self.shared.set_segments(kept);
        self.tenant.dropped(&gone.iter().map(|segment| segment.first).collect::<Vec<_>>());
        self.retire(gone)?;
        self.tell_room();
        Ok(())
    }

    /// Uses files again, or removes them. One directory sync for all, before anything else is dropped: a later snapshot may
    /// rely on their absence.
    fn retire(&mut self, segments: Vec<Arc<Segment>>) -> io::Result<()> {
        for segment in segments {
            let id = segment.id;
            // A file that a reader still holds must keep its content.
            let free = Arc::try_unwrap(segment).ok().filter(|_| self.planner.keeps_prepared());
            if let Some(segment) = free {
                // Behind those that are ready: recovery relies on segments being opened in the order of their ids.
                let new = self.new_id();
                self.disk.rename(&file_name(id), &file_name(new))?;
                self.keep_blank(Blank { id: new, file: segment.file, salt: self.salt_of(new) })?;
            } else {
                self.disk.remove(&file_name(id))?;
            }
        }
        self.disk.sync_directory()
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

/// A number that tells one use of a file from all others.
pub(crate) fn salt_of(base: u64, id: u64) -> u64 {
    // The finalizer of splitmix64.
    let mut mixed = base ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
