//! What every handle on a log offers: its figures, its end, and the thread that runs it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use skerry_model::{Monotonic, Now, Timestamp};

use crate::shared::Shared;
use crate::worker::{Clock, Worker};

/// Figures of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    /// Why the log takes nothing any more; `None` while it works.
    pub failed: Option<Arc<str>>,
    /// The budget is used up and senders are refused.
    pub full: bool,
    /// Bytes of messages that may still be appended. Very large where the oldest are dropped instead.
    pub room_bytes: u64,
    /// Segments with content.
    pub segments: u64,
    /// Bytes of one segment's file.
    pub segment_bytes: u64,
    /// Groups written since the log was opened.
    pub groups: u64,
    /// Records written since then.
    pub records: u64,
    /// Bytes of groups written since then, padding included.
    pub bytes_written: u64,
    /// Bytes of records moved together since then.
    pub bytes_moved: u64,
    /// Appends refused since then.
    pub refused: u64,
    /// Groups that were once durable and cannot be read any more, found since then.
    pub damaged: u64,
    /// How long the last durable write took.
    pub last_write: Duration,
}

pub(crate) fn status(shared: &Shared) -> LogStatus {
    let (failed, full, room_bytes) = {
        let building = shared.building();
        (building.failed.clone(), building.full, building.room)
    };
    let counters = &shared.counters;
    LogStatus {
        failed,
        full,
        room_bytes,
        segments: shared.segments().len() as u64,
        segment_bytes: shared.sizes.segment_bytes,
        groups: counters.groups.load(Ordering::Relaxed),
        records: counters.records.load(Ordering::Relaxed),
        bytes_written: counters.bytes.load(Ordering::Relaxed),
        bytes_moved: counters.moved.load(Ordering::Relaxed),
        refused: counters.refused.load(Ordering::Relaxed),
        damaged: counters.damaged.load(Ordering::Relaxed),
        last_write: Duration::from_nanos(counters.last_write_nanos.load(Ordering::Relaxed)),
    }
}

pub(crate) fn close(shared: &Shared) {
    let mut building = shared.building();
    building.stopping = true;
    building.asleep = false;
    drop(building);
    shared.wake.notify_one();
}

/// Makes what waits be written now, settlements included.
pub(crate) fn flush(shared: &Shared) {
    let mut building = shared.building();
    building.urgent = !building.groups.is_empty();
    building.asleep = false;
    drop(building);
    shared.wake.notify_one();
}

/// Ends the log thread when the last handle is gone.
pub(crate) struct Closing(Weak<Shared>);

impl Closing {
    pub(crate) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self(Arc::downgrade(shared)))
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            close(&shared);
        }
    }
}

/// The running log thread. Dropping it closes the log: what waits is written, and nothing is taken any more.
pub struct LogThread {
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Worker {
    /// Runs the worker on a thread called `name`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(self, name: &str) -> std::io::Result<LogThread> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || self.run())?;
        Ok(LogThread { thread: Some(thread), shared })
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        close(&self.shared);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the log thread panicked");
        }
    }
}

/// The clocks of this machine.
pub fn system_clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || Now {
        monotonic: Monotonic::from_start(start.elapsed()),
        wall: Timestamp::from_unix_millis(
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        ),
    })
}

/// A number that no other opening of a log has, for [`Partitions::open`](crate::Partitions::open) and
/// [`Queues::open`](crate::Queues::open).
pub fn random_salt() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
