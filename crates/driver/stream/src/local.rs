//! The port on the partitioned log of this machine: one durable write makes durable what arrived for all partitions.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use skerry_log::disk::Disk;
use skerry_log::{
    Clock, Folder, LogOptions, LogThread, Partitions, PartitionsOptions, Subscription, random_salt, system_clock,
};
use skerry_model::{MessageView, Refusal, Stamp, Timestamp};
use tokio::sync::watch;

use crate::port::READ_BYTES_MAX;
use crate::{
    Bounds, CommitListener, Committed, Event, EventStream, PartitionId, Pending, Position, RecordHead, Span,
    StreamError, decode,
};

/// Bytes read at a time when a moment is searched.
const SEARCH_BYTES: usize = 1024 * 1024;
/// How far the wall clock may have been set back: an event can be taken "later" than its segment was written by that much.
const CLOCK_SET_BACK_MAX: Duration = Duration::from_secs(60 * 60);

/// Sizes of a local stream.
#[derive(Debug, Clone)]
pub struct LocalStreamOptions {
    /// Partitions, 1 to 1,024. A stream that was made with more keeps them.
    pub partitions: u16,
    /// All files together, in bytes, at least 32 MiB. When it is used up, the oldest events make room.
    pub bytes_max: u64,
    /// How long events are kept at most; `None` keeps them until the space is used up.
    pub keep_for: Option<Duration>,
}

impl Default for LocalStreamOptions {
    fn default() -> Self {
        Self { partitions: 4, bytes_max: 1 << 30, keep_for: Some(Duration::from_secs(24 * 60 * 60)) }
    }
}

/// Why a stream cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStreamError {
    /// Its folder cannot be used, or no thread be started.
    #[error("cannot use the event stream's folder")]
    Folder(#[source] io::Error),
    /// Its log cannot be opened.
    #[error("cannot open the event stream's log")]
    Log(#[source] skerry_log::OpenError),
}

/// Events in a log on disk. Dropping it waits until what was taken is written.
pub struct LocalStream {
    inner: Arc<Inner>,
    _thread: LogThread,
}

struct Inner {
    log: Partitions,
    partitions: Vec<Partition>,
    listener: Mutex<Option<CommitListener>>,
    subscription: OnceLock<Subscription>,
}

struct Partition {
    line: Mutex<Line>,
    committed: watch::Sender<Committed>,
}

/// The end of a partition where events are added.
#[derive(Default)]
struct Line {
    /// Sequence number of the next event.
    next: u64,
    last_enqueued: Option<Timestamp>,
    /// The rest of a batch that was taken when the log had no room for all of it: one batch at most, and nothing is taken
    /// before it is in the log.
    rest: VecDeque<Vec<u8>>,
}

impl LocalStream {
    /// Opens or makes the stream in `folder`.
    ///
    /// # Errors
    /// When the folder cannot be used or holds something else.
    pub fn open(folder: &Path, options: &LocalStreamOptions) -> Result<Self, OpenStreamError> {
        let disk = Folder::open(folder).map_err(OpenStreamError::Folder)?;
        Self::open_on(Arc::new(disk), options, system_clock(), random_salt())
    }

    /// Opens or makes the stream on `disk`; `salt` is any number that differs from one opening to the next.
    ///
    /// # Errors
    /// When the disk cannot be used or holds something else.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        options: &LocalStreamOptions,
        clock: Clock,
        salt: u64,
    ) -> Result<Self, OpenStreamError> {
        let options = PartitionsOptions {
            log: LogOptions { bytes_max: options.bytes_max, ..LogOptions::default() },
            partitions: options.partitions.into(),
            keep_for: options.keep_for,
        };
        let (log, worker) = Partitions::open(disk, &options, clock, salt).map_err(OpenStreamError::Log)?;
        let count = u16::try_from(log.count()).unwrap_or(u16::MAX);
        let partitions = (0..count)
            .map(|partition| Partition::opened(&log, partition.into()))
            .collect::<io::Result<_>>()
            .map_err(OpenStreamError::Folder)?;
        let inner = Arc::new(Inner { log, partitions, listener: Mutex::default(), subscription: OnceLock::new() });
        let publisher = Arc::new(Publisher(Arc::downgrade(&inner)));
        let subscription = inner.log.subscribe(Waker::from(publisher));
        // Set before the worker runs, so that no arrival is missed.
        inner.subscription.get_or_init(|| subscription);
        let thread = worker.spawn("event-stream").map_err(OpenStreamError::Folder)?;
        Ok(Self { inner, _thread: thread })
    }
}

impl Drop for LocalStream {
    fn drop(&mut self) {
        // Readers may hold the log still; its thread ends all the same.
        self.inner.log.close();
    }
}

/// Is called on the log's thread when something became durable or there is room again.
struct Publisher(Weak<Inner>);

impl Wake for Publisher {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(inner) = self.0.upgrade() {
            inner.arrived();
        }
    }
}

impl Partition {
    fn opened(log: &Partitions, partition: u32) -> io::Result<Self> {
        let range = log.range(partition);
        let last = if range.is_empty() { None } else { log.read(partition, range.end - 1, 1)?.events.pop() };
        let last_enqueued = last.and_then(|last| decode(last.sequence, &last.payload).ok());
        let line = Line {
            next: range.end,
            last_enqueued: last_enqueued.map(|event| event.stamp.enqueued),
            rest: VecDeque::new(),
        };
        let committed = watch::Sender::new(Committed { next: range.end, failed: false });
        Ok(Self { line: Mutex::new(line), committed })
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn partition(&self, id: PartitionId) -> Result<&Partition, StreamError> {
        self.partitions.get(usize::from(id.0)).ok_or(StreamError::NoSuchPartition(id))
    }

    fn arrived(&self) {
        let Some(subscription) = self.subscription.get() else { return };
        let skerry_log::Arrivals { failed, room, .. } = subscription.take();
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (partition, id) in self.partitions.iter().zip((0..).map(PartitionId)) {
            self.append_rest(id, partition);
            let committed = Committed { next: self.log.range(id.0.into()).end, failed };
            let news = partition.committed.send_if_modified(|known| {
                let news = *known != committed && !known.failed;
                if news {
                    *known = committed;
                }
                news
            });
            // Whoever was refused may have been so because of other partitions' events.
            if let Some(listener) = listener.as_ref().filter(|_| news || room) {
                listener(id, committed);
            }
        }
    }

    /// Puts what was taken without room into the log, now that there may be some.
    fn append_rest(&self, id: PartitionId, partition: &Partition) {
        let mut line = partition.lock();
        while let Some(record) = line.rest.front() {
            if self.log.append(id.0.into(), &[record]).is_err() {
                return;
            }
            line.rest.pop_front();
        }
    }

    fn read(&self, id: PartitionId, from: Position, bytes_max: usize) -> Result<Span, StreamError> {
        let partition = self.partition(id)?;
        let durable = partition.committed.borrow().next;
        let start = match from {
            Position::Start => 0,
            Position::End => durable,
            Position::Sequence(sequence) => sequence.min(durable),
            Position::Enqueued(moment) => self.first_taken_since(id, moment, durable)?,
        };
        self.read_from(id, start, durable, bytes_max.min(READ_BYTES_MAX))
    }

    /// Events that are told as durable only, so that nobody sees more than the commits say.
    fn read_from(&self, id: PartitionId, start: u64, durable: u64, bytes_max: usize) -> Result<Span, StreamError> {
        if start >= durable {
            return Ok(Span { events: Vec::new(), next: durable });
        }
        let found = self.log.read(id.0.into(), start, bytes_max).map_err(failed)?;
        let mut span = Span { events: Vec::with_capacity(found.events.len()), next: found.next.min(durable) };
        for event in found.events.into_iter().take_while(|event| event.sequence < durable) {
            let decoded: Event = decode(event.sequence, &event.payload).map_err(failed)?;
            span.events.push(decoded);
        }
        Ok(span)
    }

    /// The first event taken at `moment` or later: whole segments are passed over by their own times, the rest is looked at.
    fn first_taken_since(&self, id: PartitionId, moment: Timestamp, durable: u64) -> Result<u64, StreamError> {
        let early = moment.minus(CLOCK_SET_BACK_MAX);
        let mut next = self.log.first_written_since(id.0.into(), early.unix_millis());
        loop {
            let span = self.read_from(id, next, durable, SEARCH_BYTES)?;
            if let Some(event) = span.events.iter().find(|event| event.stamp.enqueued >= moment) {
                return Ok(event.sequence);
            }
            if span.events.is_empty() || span.next >= durable {
                return Ok(durable);
            }
            next = span.next;
        }
    }
}

impl EventStream for LocalStream {
    fn partitions(&self) -> u16 {
        u16::try_from(self.inner.partitions.len()).unwrap_or(u16::MAX)
    }

    fn append(&self, id: PartitionId, stamp: &Stamp, messages: &[MessageView<'_>]) -> Result<u64, Refusal> {
        let inner = &self.inner;
        let partition = inner.partition(id).map_err(|error| Refusal::Failed(error.to_string().into()))?;
        let mut line = partition.lock();
        if !line.rest.is_empty() {
            return Err(Refusal::Full);
        }
        let enqueued = line.last_enqueued.map_or(stamp.enqueued, |last| last.max(stamp.enqueued));
        let mut head = RecordHead::new(stamp, enqueued);
        let largest = inner.log.largest_payload();
        if let Some(index) = messages.iter().position(|message| head.record_bytes(message) > largest) {
            let text = format!("an event has at most {largest} bytes");
            let error = skerry_model::RequestError::new(skerry_model::ErrorCode::TooLarge, text);
            return Err(Refusal::Message { index, error });
        }
        let mut messages = messages.iter();
        let mut next = line.next;
        while let Some(message) = messages.next() {
            match inner.log.append(id.0.into(), &head.record(message)) {
                Ok(appended) => next = appended.sequence + 1,
                Err(Refusal::Full) if next > line.next => {
                    // The beginning of the batch is in the log already, so the whole batch is taken.
                    line.rest = std::iter::once(message).chain(messages).map(|m| head.record(m).concat()).collect();
                    next += u64::try_from(line.rest.len()).unwrap_or(0);
                    break;
                }
                Err(refusal) => return Err(refusal),
            }
        }
        if next > line.next {
            line.next = next;
            line.last_enqueued = Some(enqueued);
        }
        Ok(next)
    }

    fn on_commit(&self, listener: CommitListener) {
        *self.inner.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
    }

    fn commits(&self, id: PartitionId) -> Result<watch::Receiver<Committed>, StreamError> {
        Ok(self.inner.partition(id)?.committed.subscribe())
    }

    fn bounds(&self, id: PartitionId) -> Result<Bounds, StreamError> {
        let partition = self.inner.partition(id)?;
        let last_enqueued = partition.lock().last_enqueued;
        let next = partition.committed.borrow().next;
        Ok(Bounds { first: self.inner.log.range(id.0.into()).start.min(next), next, last_enqueued })
    }

    fn read(&self, id: PartitionId, from: Position, bytes_max: usize) -> Pending<'_, Span> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            inner.partition(id)?;
            // Reading waits for the disk, which nobody else on this runtime should.
            tokio::task::spawn_blocking(move || inner.read(id, from, bytes_max)).await.map_err(failed)?
        })
    }

    fn trim(&self, id: PartitionId, _before: u64) -> Pending<'_, ()> {
        // The log drops whole segments by age and space by itself; single partitions cannot be cut.
        Box::pin(async move { self.inner.partition(id).map(drop) })
    }
}

fn failed(error: impl std::fmt::Display) -> StreamError {
    StreamError::Failed(error.to_string())
}

#[cfg(test)]
mod tests;
