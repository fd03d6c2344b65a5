//! Moves what is still of use in some neighbouring segments into one new segment, which takes their place in the order.

use std::io;
use std::sync::Arc;

use crate::disk::{BLOCK, DiskFile};
use crate::format::{FLAG_CLOSES, FLAG_MOVED, FLAG_OPENS, GROUP_HEADER, RECORD_HEADER, kind};
use crate::group::{Group, Record};
use crate::segment::{Description, Found, Scan, Segment};
use crate::shared::Shared;
use crate::tenant::{Keep, Tenant};

/// Bytes of source that one step reads at most; the log thread writes groups between steps.
const STEP_BYTES: u64 = 1 << 20;

/// A file that is ready to be written.
pub(crate) struct Blank {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) salt: u64,
}

/// A compaction in progress.
pub(crate) struct Compaction {
    pub(crate) sources: Vec<Arc<Segment>>,
    source: usize,
    scan: Option<Scan>,
    output: Option<Output>,
    rewritten: Vec<u8>,
    now: i64,
}

struct Output {
    segment: Arc<Segment>,
    group: Option<Group>,
}

/// How a step ended.
pub(crate) enum Step {
    /// There is more to do.
    More,
    /// The output does not hold what is of use; the sources stay.
    Overflow,
    /// A file is needed for the output.
    NeedsFile,
    /// Done: this segment takes the place of the sources, or nothing does.
    Done(Option<Arc<Segment>>),
}

impl Compaction {
    pub(crate) fn new(sources: Vec<Arc<Segment>>, now: i64) -> Self {
        Self { sources, source: 0, scan: None, output: None, rewritten: Vec::new(), now }
    }

    /// The first positions of the sources.
    pub(crate) fn names(&self) -> Vec<u64> {
        self.sources.iter().map(|source| source.first).collect()
    }

    /// Whether a file was taken for the output.
    pub(crate) fn has_output(&self) -> bool {
        self.output.is_some()
    }

    /// Gives the output up: what it holds means nothing.
    pub(crate) fn into_output(self) -> Option<Arc<Segment>> {
        self.output.map(|output| output.segment)
    }

    /// The segments that are not needed any more.
    pub(crate) fn into_sources(self) -> Vec<Arc<Segment>> {
        self.sources
    }

    /// Begins the output in `blank`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn begin_output(&mut self, blank: Blank, shared: &Shared) -> io::Result<()> {
        let first = self.sources.first().map_or(0, |source| source.first);
        let next = self.sources.last().map_or(first, |source| source.next());
        let segment = Arc::new(Segment::new(blank.id, blank.file, blank.salt, first));
        let ids = self.sources.iter().map(|source| source.id).collect();
        let mut group = Group::new(shared.pool.take(), first);
        group.push_unnumbered(kind::SEGMENT, &[&Description { first, replaces: Some((next, ids)) }.encode()]);
        write(&segment, group, FLAG_OPENS | FLAG_MOVED, self.now, shared)?;
        self.output = Some(Output { segment, group: None });
        Ok(())
    }

    /// Reads on in the sources and writes what is kept. After [`Step::NeedsFile`] the caller begins the output and steps again.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn step(&mut self, tenant: &mut dyn Tenant, shared: &Shared) -> io::Result<Step> {
        let mut read = 0;
        while read < STEP_BYTES {
            let Some(source) = self.sources.get(self.source) else { return self.finish(shared) };
            let mut scan = match self.scan.take() {
                Some(scan) => scan,
                None => Scan::new(Arc::clone(source), 0, source.end()),
            };
            let before = scan.offset();
            match scan.next()? {
                Found::End => {
                    self.source += 1;
                    continue;
                }
                Found::Damage => {
                    shared.counters.damaged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    scan.skip_damage()?;
                }
                Found::Group(_, places) => {
                    let group = scan.group();
                    for place in places {
                        let payload = &group[place.at as usize..(place.at + place.bytes) as usize];
                        let record = Record { position: place.position, kind: place.kind, payload, at: 0 };
                        self.rewritten.clear();
                        let kept = match tenant.keep(&record, &mut self.rewritten) {
                            Keep::No => continue,
                            Keep::Whole => payload,
                            Keep::Rewritten => self.rewritten.as_slice(),
                        };
                        let Some(output) = &mut self.output else { return Ok(self.restart(tenant)) };
                        if !output.push(&record, kept, self.now, shared)? {
                            return Ok(Step::Overflow);
                        }
                    }
                }
            }
            read += scan.offset() - before;
            self.scan = Some(scan);
        }
        Ok(Step::More)
    }

    /// The first record to keep was found before there was a file for it: begin again with one.
    fn restart(&mut self, tenant: &mut dyn Tenant) -> Step {
        tenant.begin_compaction(&self.names(), self.now);
        self.source = 0;
        self.scan = None;
        Step::NeedsFile
    }

    fn finish(&mut self, shared: &Shared) -> io::Result<Step> {
        let Some(output) = &mut self.output else { return Ok(Step::Done(None)) };
        if !output.flush(self.now, shared)? {
            return Ok(Step::Overflow);
        }
        let next = self.sources.last().map_or(0, |source| source.next());
        let mut group = Group::new(shared.pool.take(), next);
        group.push_unnumbered(kind::SEGMENT, &[]);
        if output.segment.end() + group.padded_bytes() > shared.sizes.segment_bytes {
            return Ok(Step::Overflow);
        }
        write(&output.segment, group, FLAG_CLOSES | FLAG_MOVED, self.now, shared)?;
        let written_at = self.sources.iter().map(|source| source.last_written_at()).max().unwrap_or(self.now);
        output.segment.extend(output.segment.end(), next, written_at);
        Ok(Step::Done(Some(Arc::clone(&output.segment))))
    }
}

impl Output {
    /// Whether there was room for it.
    fn push(&mut self, record: &Record<'_>, payload: &[u8], now: i64, shared: &Shared) -> io::Result<bool> {
        if self.group.as_ref().is_some_and(|group| !group.fits(payload.len())) && !self.flush(now, shared)? {
            return Ok(false);
        }
        let group = self.group.get_or_insert_with(|| Group::new(shared.pool.take(), record.position));
        group.push_at(record.position, record.kind, &[payload]);
        shared.counters.moved.fetch_add((RECORD_HEADER + payload.len()) as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(true)
    }

    fn flush(&mut self, now: i64, shared: &Shared) -> io::Result<bool> {
        let Some(group) = self.group.take() else { return Ok(true) };
        // The closing group needs a block as well.
        let closing = (GROUP_HEADER + RECORD_HEADER).next_multiple_of(BLOCK) as u64;
        if self.segment.end() + group.padded_bytes() + closing > shared.sizes.segment_bytes {
            return Ok(false);
        }
        write(&self.segment, group, FLAG_MOVED, now, shared)?;
        Ok(true)
    }
}

/// Writes a group at a segment's end, durably; its buffer goes back to the pool.
fn write(segment: &Segment, mut group: Group, flags: u32, now: i64, shared: &Shared) -> io::Result<()> {
    let offset = segment.end();
    let block = u32::try_from(offset / BLOCK as u64).unwrap_or(u32::MAX);
    group.seal(segment.id, segment.salt, flags, block, now);
    segment.file.write_durable(group.padded(), offset)?;
    segment.mark(group.first(), offset, shared.sizes.segment_bytes);
    segment.extend(offset + group.padded_bytes(), group.next(), i64::MIN);
    drop(group.share(&shared.pool));
    Ok(())
}
