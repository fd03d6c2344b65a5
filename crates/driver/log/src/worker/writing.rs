//! Writes what was gathered: groups, and the opening of the segments that they go into.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use skerry_model::Now;

use super::Worker;
use crate::disk::BLOCK;
use crate::format::{FLAG_OPENS, RECORD_HEADER, kind};
use crate::group::Group;
use crate::segment::{Description, Segment};
use crate::tenant::Reclaim;

impl Worker {
    pub(super) fn write_group(&mut self, offset: u64, now: Now) -> io::Result<()> {
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

    pub(super) fn open_segment(&mut self, now: Now) -> io::Result<()> {
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
}
