//! Opens a log: finds its segments, takes over the newest snapshot, replays what follows, cuts off a torn end.
//!
//! At most one group is on its way to the disk at any time, so only the last group of the active segment can be torn. What was
//! acknowledged was written before it and is found; anything else that cannot be read is damage, is counted, and costs no more
//! than itself.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::buffer::AlignedBuffer;
use crate::compaction::Blank;
use crate::disk::{BLOCK, Disk, DiskFile};
use crate::format::{FLAG_CLOSES, FLAG_OPENS, Fields, GroupHeader, RecordPlace, kind};
use crate::group::Batch;
use crate::options::{LogOptions, Sizes};
use crate::planner::Planner;
use crate::segment::{Description, Found, Scan, Segment, file_id, file_name};
use crate::shared::Shared;
use crate::tenant::Tenant;
use crate::worker::{Clock, Worker, WorkerParts, salt_of};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options contradict themselves or each other.
    #[error("a log cannot be like this: {0}")]
    Options(String),
    /// The disk refuses.
    #[error("cannot read or write the files of the log")]
    Disk(#[from] io::Error),
    /// A snapshot with a sound checksum that makes no sense: written by a newer version, or by something else.
    #[error("the state in segment {0:016x} is not of a form this version knows")]
    Unknown(u64),
}

/// A segment's file as it was found.
struct FoundSegment {
    segment: Arc<Segment>,
    description: Description,
    /// Where the groups after its opening begin.
    opened: u64,
    snapshot: Option<Vec<u8>>,
}

/// What the snapshot knows of a segment: its end, the position after its last, when it was last written.
type Known = BTreeMap<u64, (u64, u64, i64)>;

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    options: &LogOptions,
    clock: Clock,
    salt: u64,
    refuses: bool,
    mut tenant: Box<dyn Tenant>,
) -> Result<(Arc<Shared>, Worker), OpenError> {
    let sizes = Sizes::of(options).map_err(OpenError::Options)?;
    let mut ids: Vec<u64> = disk.list()?.iter().filter_map(|name| file_id(name)).collect();
    ids.sort_unstable();
    let next_id = ids.last().map_or(1, |last| last + 1);
    let mut found = Vec::new();
    let mut blanks = Vec::new();
    let mut damaged = 0;
    for id in ids {
        let file = disk.open(&file_name(id))?;
        match examine(id, &file)? {
            Some(segment) => found.push(segment),
            None if was_opened(id, &file)? => {
                damaged += 1;
                tracing::error!(
                    segment = id,
                    "the opening of a segment cannot be read any more: its file is put aside"
                );
                disk.rename(&file_name(id), &format!("{id:016x}.damaged"))?;
            }
            None => blanks.push((id, file)),
        }
    }
    let newest = found
        .iter()
        .filter(|found| found.snapshot.is_some())
        .max_by_key(|found| (found.segment.first, found.segment.id));
    let newest = newest.map(|found| (Arc::clone(&found.segment), found.opened));
    let mut known = Known::new();
    if let Some((active, _)) = &newest {
        let snapshot =
            found.iter().find(|found| found.segment.id == active.id).and_then(|found| found.snapshot.as_deref());
        known = restore(snapshot.unwrap_or_default(), tenant.as_mut()).ok_or(OpenError::Unknown(active.id))?;
    }
    let mut log = Recovery { damaged, sizes, tenant };
    let mut planner =
        Planner::new(log.sizes.segment_bytes, usize::try_from(log.sizes.segments_max).unwrap_or(usize::MAX));
    let mut next = 1;
    if let Some((active, opened)) = &newest {
        log.replay(active, *opened)?;
        next = active.next();
        planner.active(active.end(), active.file.bytes()?);
    }
    let active_id = newest.as_ref().map(|(active, _)| active.id);
    let (segments, dead) = log.settle(found, active_id, &known)?;
    let prepared = remove(disk.as_ref(), &dead, blanks, &mut planner, salt)?;
    let segments = Arc::new(segments);
    let next = next.max(log.tenant.recovered(&segments));
    let shared = Shared::new(log.sizes.clone(), next, segments);
    shared.counters.damaged.store(log.damaged, Ordering::Relaxed);
    shared.counters.segments.store(shared.segments().len() as u64, Ordering::Relaxed);
    let tenant = log.tenant;
    let parts =
        WorkerParts { shared: Arc::clone(&shared), disk, clock, planner, tenant, prepared, next_id, salt, refuses };
    Ok((shared, Worker::new(parts)))
}

/// Reads a file's opening; `None` when no segment was ever completely opened in it.
fn examine(id: u64, file: &Arc<dyn DiskFile>) -> io::Result<Option<FoundSegment>> {
    let mut head = vec![0; BLOCK];
    let read = file.read_at(&mut head, 0)?;
    let Some(header) = GroupHeader::read(&head[..read]).filter(|header| header.segment == id && header.block == 0)
    else {
        return Ok(None);
    };
    let segment = Arc::new(Segment::new(id, Arc::clone(file), header.salt, header.first));
    let bytes = file.bytes()? / BLOCK as u64 * BLOCK as u64;
    let mut scan = Scan::new(Arc::clone(&segment), 0, bytes);
    let mut description = None;
    let mut snapshot = Vec::new();
    loop {
        let Found::Group(header, places) = scan.next()? else { return Ok(None) };
        if header.flags & FLAG_OPENS == 0 {
            return Ok(None);
        }
        for place in places {
            let payload = &scan.group()[place.at as usize..(place.at + place.bytes) as usize];
            match place.kind {
                kind::SEGMENT => description = Description::decode(payload),
                kind::SNAPSHOT | kind::SNAPSHOT_END => snapshot.extend_from_slice(payload),
                _ => return Ok(None),
            }
            let Some(description) = description.clone() else { return Ok(None) };
            let opened = scan.offset();
            segment.extend(opened, segment.first, header.written_at);
            if description.replaces.is_some() {
                return Ok(Some(FoundSegment { segment, description, opened, snapshot: None }));
            }
            if place.kind == kind::SNAPSHOT_END {
                return Ok(Some(FoundSegment { segment, description, opened, snapshot: Some(snapshot) }));
            }
        }
    }
}

/// Whether a file without a sound opening has groups of messages: then it was a segment once, and its opening is damaged.
fn was_opened(id: u64, file: &Arc<dyn DiskFile>) -> io::Result<bool> {
    let bytes = file.bytes()? / BLOCK as u64 * BLOCK as u64;
    let mut block = vec![0; BLOCK];
    for offset in (0..bytes).step_by(BLOCK) {
        let read = file.read_at(&mut block, offset)?;
        let header = GroupHeader::read(&block[..read]);
        if header.is_some_and(|header| header.segment == id && u64::from(header.block) * BLOCK as u64 == offset) {
            let header = header.filter(|header| header.flags & FLAG_OPENS == 0);
            return Ok(header.is_some());
        }
    }
    Ok(false)
}

fn restore(snapshot: &[u8], tenant: &mut dyn Tenant) -> Option<Known> {
    let mut fields = Fields(snapshot);
    let count = fields.u32()?;
    let mut known = Known::new();
    for _ in 0..count {
        known.insert(fields.u64()?, (fields.u64()?, fields.u64()?, fields.i64()?));
    }
    tenant.restore(fields.0)?;
    Some(known)
}

struct Recovery {
    damaged: u64,
    sizes: Sizes,
    tenant: Box<dyn Tenant>,
}

impl Recovery {
    /// Replays the active segment's groups and cuts off its torn end.
    fn replay(&mut self, active: &Arc<Segment>, opened: u64) -> io::Result<()> {
        let bytes = active.file.bytes()? / BLOCK as u64 * BLOCK as u64;
        let mut scan = Scan::new(Arc::clone(active), opened, bytes);
        loop {
            let at = scan.offset();
            match scan.next()? {
                Found::End => return Ok(()),
                Found::Group(header, places) => {
                    active.mark(header.first, at, self.sizes.segment_bytes);
                    active.extend(scan.offset(), header.next, header.written_at);
                    self.tenant.replay(active.first, &batch(&scan, &header, places));
                }
                Found::Damage if self.sound_group_follows(&mut scan)? => {
                    self.damaged += 1;
                    tracing::error!(
                        segment = active.id,
                        offset = at,
                        "a group that was written cannot be read any more"
                    );
                }
                Found::Damage => return self.cut(active, at, bytes),
            }
        }
    }

    /// Goes on to the next group that is sound and follows what was read; a torn group has none behind it.
    fn sound_group_follows(&self, scan: &mut Scan) -> io::Result<bool> {
        while scan.skip_damage()? {
            let at = scan.offset();
            if let Found::Group(..) = scan.next()? {
                scan.go_back(at);
                return Ok(true);
            }
            scan.go_back(at);
        }
        Ok(false)
    }

    /// Zeroes what a torn group may have left, so that nothing of it can be taken for a part of what is written there next.
    fn cut(&self, active: &Segment, at: u64, bytes: u64) -> io::Result<()> {
        let end = bytes.min(at + self.sizes.group_bytes_max as u64);
        let length = usize::try_from(end - at).unwrap_or(0);
        let mut old = vec![0; length];
        let read = active.file.read_at(&mut old, at)?;
        if old[..read].iter().any(|byte| *byte != 0) {
            tracing::info!(segment = active.id, offset = at, "cut off what was not completely written");
            active.file.write_durable(AlignedBuffer::new(length).bytes(), at)?;
        }
        Ok(())
    }

    /// Sorts segments by what they cover; says which files hold nothing of use.
    fn settle(
        &mut self,
        found: Vec<FoundSegment>,
        active: Option<u64>,
        known: &Known,
    ) -> io::Result<(Vec<Arc<Segment>>, Vec<u64>)> {
        let mut kept: BTreeMap<u64, Arc<Segment>> = BTreeMap::new();
        let mut dead = Vec::new();
        let mut replaced = Vec::new();
        for FoundSegment { segment, description, opened, .. } in found {
            let id = segment.id;
            if let Some((end, next, written_at)) = known.get(&id) {
                segment.extend(*end, *next, *written_at);
            } else if Some(id) != active {
                // A segment that the snapshot does not know is the output of a compaction after it, or of one that never ended.
                match description.replaces {
                    Some((next, _)) if self.recount(&segment, opened, next)? => {}
                    Some(_) | None => {
                        dead.push(id);
                        continue;
                    }
                }
            }
            if let Some((_, sources)) = description.replaces {
                replaced.extend(sources);
            }
            kept.insert(id, segment);
        }
        for id in replaced {
            if kept.remove(&id).is_some() {
                dead.push(id);
            }
        }
        let mut segments: Vec<_> = kept.into_values().collect();
        segments.sort_by_key(|segment| (segment.first, Some(segment.id) == active));
        Ok((segments, dead))
    }

    /// Whether a compaction's output is complete; then what is in it is counted.
    fn recount(&mut self, segment: &Arc<Segment>, opened: u64, next: u64) -> io::Result<bool> {
        let bytes = segment.file.bytes()? / BLOCK as u64 * BLOCK as u64;
        for count in [false, true] {
            if count {
                self.tenant.recount_begins(segment.first);
            }
            let mut scan = Scan::new(Arc::clone(segment), opened, bytes);
            loop {
                let at = scan.offset();
                let Found::Group(header, places) = scan.next()? else { return Ok(false) };
                segment.extend(scan.offset(), next, header.written_at);
                if header.flags & FLAG_CLOSES != 0 {
                    break;
                }
                if count {
                    segment.mark(header.first, at, self.sizes.segment_bytes);
                    self.tenant.recount(segment.first, &batch(&scan, &header, places));
                }
            }
        }
        Ok(true)
    }
}

fn batch(scan: &Scan, header: &GroupHeader, places: Vec<RecordPlace>) -> Batch {
    let used = places.last().map_or(0, |place| (place.at + place.bytes) as usize);
    let bytes = scan.group().get(..used).map(Bytes::copy_from_slice).unwrap_or_default();
    Batch::new(bytes, places, header.first, header.next)
}

/// Removes dead files; files in which no segment was ever opened are kept for segments to come, a few of them.
fn remove(
    disk: &dyn Disk,
    dead: &[u64],
    blanks: Vec<(u64, Arc<dyn DiskFile>)>,
    planner: &mut Planner,
    salt: u64,
) -> Result<Vec<Blank>, OpenError> {
    let mut prepared = Vec::new();
    let mut gone = dead.to_vec();
    for (id, file) in blanks {
        if planner.keeps_prepared() {
            planner.prepared(file.bytes()?);
            prepared.push(Blank { id, file, salt: salt_of(salt, id) });
        } else {
            gone.push(id);
        }
    }
    for id in gone {
        disk.remove(&file_name(id))?;
    }
    disk.sync_directory()?;
    Ok(prepared)
}
