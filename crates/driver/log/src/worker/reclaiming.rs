//! Gives space back: finds what is not needed any more, drops segments, puts what a compaction made in their place.

use std::io;
use std::sync::Arc;

use skerry_model::Now;

use super::{LOOK_INTERVAL, Worker};
use crate::compaction::{Compaction, Step};
use crate::disk::BLOCK;
use crate::segment::Segment;
use crate::tenant::{Reclaim, Space};

/// Groups between two looks for space to give back.
const GROUPS_PER_LOOK: u32 = 64;

impl Worker {
    /// Asks now and then what can be given back.
    pub(super) fn look(&mut self, now: Now, refused: bool) {
        let soon = if refused { 1 } else { GROUPS_PER_LOOK };
        if self.compaction.is_some() || (self.groups_since_look < soon && now.monotonic < self.look_at) {
            return;
        }
        self.groups_since_look = 0;
        self.look_at = now.monotonic + LOOK_INTERVAL;
        self.planner.disk_full(false);
        self.find(now);
    }

    pub(super) fn find(&mut self, now: Now) {
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

    pub(super) fn reclaim(&mut self, now: Now) -> io::Result<()> {
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

    pub(super) fn drop_segments(&mut self, ids: &[u64]) -> io::Result<()> {
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.shared.segments().iter().cloned().partition(|segment| ids.contains(&segment.id));
        self.shared.set_segments(kept);
        self.tenant.dropped(&gone.iter().map(|segment| segment.first).collect::<Vec<_>>());
        self.retire(gone)?;
        self.tell_room();
        Ok(())
    }
}
