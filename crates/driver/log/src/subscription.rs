//! How durable records reach those who wait for them: each subscriber has an inbox of shared batches and is woken once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Waker;

use crate::group::Batch;

/// What a subscriber finds.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Batches in order, each continuing the one before unless [`Arrivals::lagged`].
    pub batches: VecDeque<Batch>,
    /// Batches were left out before these, because the subscriber did not come for them: what it misses, it reads from the log.
    pub lagged: bool,
    /// There is room again after a refusal.
    pub room: bool,
    /// The log failed: nothing more will become durable.
    pub failed: bool,
}

/// The right to hear of every batch; dropping it ends that.
#[derive(Debug)]
pub struct Subscription(Arc<Inbox>);

#[derive(Debug)]
struct Inbox {
    waker: Waker,
    arrivals: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    arrivals: Arrivals,
    woken: bool,
}

impl Subscription {
    /// Takes all that arrived; the waker is woken at the next arrival after this.
    pub fn take(&self) -> Arrivals {
        let mut state = self.0.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        state.woken = false;
        std::mem::take(&mut state.arrivals)
    }
}

/// All inboxes of a log.
#[derive(Debug)]
pub(crate) struct Subscribers {
    inboxes: Mutex<Vec<Weak<Inbox>>>,
    batches_max: usize,
}

impl Subscribers {
    pub(crate) fn new(batches_max: usize) -> Self {
        Self { inboxes: Mutex::default(), batches_max }
    }

    pub(crate) fn add(&self, waker: Waker) -> Subscription {
        let inbox = Arc::new(Inbox { waker, arrivals: Mutex::default() });
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&inbox));
        Subscription(inbox)
    }

    pub(crate) fn publish(&self, batch: &Batch) {
        self.each(|arrivals| {
            if arrivals.batches.len() >= self.batches_max {
                arrivals.batches.clear();
                arrivals.lagged = true;
            }
            arrivals.batches.push_back(batch.clone());
        });
    }

    pub(crate) fn room(&self) {
        self.each(|arrivals| arrivals.room = true);
    }

    pub(crate) fn failed(&self) {
        self.each(|arrivals| arrivals.failed = true);
    }

    fn each(&self, change: impl Fn(&mut Arrivals)) {
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        inboxes.retain(|inbox| {
            let Some(inbox) = inbox.upgrade() else { return false };
            let mut state = inbox.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut state.arrivals);
            let wake = !std::mem::replace(&mut state.woken, true);
            drop(state);
            if wake {
                inbox.waker.wake_by_ref();
            }
            true
        });
    }
}
