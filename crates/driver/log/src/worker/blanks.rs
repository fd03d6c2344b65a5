//! Files for the segments to come: made, zero-filled ahead of writing, used again.

use std::io;
use std::sync::Arc;

use skerry_model::Now;

use super::{LOOK_INTERVAL, Worker};
use crate::compaction::Blank;
use crate::disk::DiskFile;
use crate::segment::{Segment, file_name};

impl Worker {
    pub(super) fn prepare(&mut self, now: Now) -> io::Result<()> {
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
    pub(super) fn fill(&mut self, file: &Arc<dyn DiskFile>, offset: u64, bytes: u64, now: Now) -> io::Result<bool> {
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

    /// Uses files again, or removes them. One directory sync for all, before anything else is dropped: a later snapshot may
    /// rely on their absence.
    pub(super) fn retire(&mut self, segments: Vec<Arc<Segment>>) -> io::Result<()> {
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
}

/// A number that tells one use of a file from all others.
pub(crate) fn salt_of(base: u64, id: u64) -> u64 {
    // The finalizer of splitmix64.
    let mut mixed = base ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
