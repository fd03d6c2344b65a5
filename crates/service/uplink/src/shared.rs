//! What a session's handle and its task share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skerry_model::{Channel, ClientId, Now};
use skerry_net::Clock;
use tokio::sync::{Notify, watch};

use crate::config::UplinkConfig;
use crate::ended::{Ended, State};
use crate::inbox::Inbox;
use crate::live::{self, Live};

/// What the session's handle and its task share.
pub(crate) struct Shared {
    pub(crate) own: ClientId,
    pub(crate) config: Arc<UplinkConfig>,
    pub(crate) clock: Clock,
    /// What the topic of each message begins with.
    pub(crate) prefix: String,
    inner: Mutex<Inner>,
    pub(crate) state: watch::Sender<State>,
    /// How the session is to end.
    pub(crate) end: watch::Sender<End>,
    /// Something is to be written.
    pub(crate) to_write: Notify,
    /// A delivery was taken or settled.
    pub(crate) taken: Notify,
    /// A delivery can be taken, or there will be none any more.
    pub(crate) delivered: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    NotYet,
    /// Once everything in flight is acknowledged, or after a while.
    Drained,
    AtOnce,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) listening: BTreeSet<Channel>,
    /// Twin requests were made, so that every connection needs the subscription for their answers.
    pub(crate) twin_used: bool,
    pub(crate) live: Option<Live>,
    pub(crate) connections: u64,
    pub(crate) inbox: Inbox,
    pub(crate) requests: u64,
}

impl Shared {
    pub(crate) fn new(own: ClientId, config: Arc<UplinkConfig>, clock: Clock) -> Self {
        Self {
            prefix: live::telemetry_prefix(&own),
            own,
            config,
            clock,
            inner: Mutex::default(),
            state: watch::Sender::new(State::Connecting),
            end: watch::Sender::new(End::NotYet),
            to_write: Notify::new(),
            taken: Notify::new(),
            delivered: Notify::new(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is gone: links learn how far it came, everything that waits for an answer learns that none will come, and
    /// what was delivered and not taken is forgotten, because the hub sends it again. Answers why it is gone, and how long it could be used.
    pub(crate) fn lose(&self, ended: Ended) -> (Arc<Ended>, Duration) {
        let now = self.now().monotonic;
        let mut inner = self.lock();
        let Some(mut live) = inner.live.take() else {
            return (Arc::new(ended), Duration::ZERO);
        };
        inner.inbox.clear();
        drop(inner);
        let reason = Arc::new(live.finishing.take().unwrap_or(ended));
        live.show_progress();
        live.progress.send_modify(|progress| progress.lost = Some(Arc::clone(&reason)));
        (reason, live.ready_at.map_or(Duration::ZERO, |at| now.since(at)))
    }
}
