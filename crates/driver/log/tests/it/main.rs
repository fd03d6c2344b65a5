//! Logs on a real disk, in temporary folders.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod partitions;
mod queues;

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;

mod direct {
    skerry_log::disk_suite!(|| crate::folder(true));
}

mod through_the_cache {
    skerry_log::disk_suite!(|| crate::folder(false));
}

/// An empty folder that is removed with the first of the two.
fn folder(direct: bool) -> (tempfile::TempDir, skerry_log::Folder) {
    let place = tempfile::tempdir().unwrap();
    let folder = skerry_log::Folder::open(place.path()).unwrap();
    (place, if direct { folder } else { folder.without_direct_writes() })
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A waker for this thread.
fn waker() -> Waker {
    Waker::from(Arc::new(Unpark(std::thread::current())))
}
