//! For backends: what is published for the sessions of one lane until its runtime fetches it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use skerry_model::{Delivery, Ticket};

use crate::{Closed, Published, SessionKey};

/// Filled from any thread, emptied by the lane's own. What it holds is bounded by the windows of the lane's sessions.
pub struct LaneMailbox {
    wake: Waker,
    published: Mutex<Published>,
}

impl LaneMailbox {
    /// An empty mailbox; `wake` wakes the lane's runtime.
    pub fn new(wake: Waker) -> Self {
        Self { wake, published: Mutex::default() }
    }

    /// Adds to what is published and wakes the lane.
    pub fn publish(&self, write: impl FnOnce(&mut Published)) {
        write(&mut self.lock());
        self.wake.wake_by_ref();
    }

    /// Sends a delivery to a session of the lane.
    pub fn deliver(&self, to: SessionKey, delivery: Delivery) {
        self.publish(|published| published.deliveries.push((to, delivery)));
    }

    /// Ends a session of the lane.
    pub fn close(&self, session: SessionKey, why: Closed) {
        self.publish(|published| published.closed.push((session, why)));
    }

    /// Everything published since the last call.
    pub fn take(&self) -> Option<Published> {
        let mut published = self.lock();
        if published.is_empty() { None } else { Some(std::mem::take(&mut *published)) }
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        // A panic while it was held leaves whole entries only.
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Published {
    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.deliveries.is_empty() && self.closed.is_empty() && !self.room
    }

    /// Everything that `session` appended up to `ticket` is durable; a watermark right behind an older one of the same session
    /// replaces it.
    pub fn commit(&mut self, session: SessionKey, ticket: Ticket) {
        match self.commits.last_mut() {
            Some((last, newest)) if *last == session => *newest = ticket,
            _ => self.commits.push((session, ticket)),
        }
    }
}
