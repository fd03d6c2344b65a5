//! Logs on a real disk, in temporary folders.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod partitions;

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;

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
