//! Sending upstream: from the durable queues of `$upstream` to the hub above, each message as its own sender, in order.
//!
//! The hub above acknowledges what it has made durable; only then is a message forgotten here. A sender that cannot be connected is
//! set apart so that the others go on, and goes on from where it stood when it is back.

mod apart;
mod lines;
mod links;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use skerry_log::{QueueKey, Subscription};
use skerry_model::{ClientId, Monotonic, Outcome};
use skerry_outbox::{Entry, Outbox, OutboxLimits};
use tokio::sync::{Notify, mpsc};

use crate::held::{Held, Senders};
use crate::hub::Hub;
use links::{News, SenderLink};

/// After the hub above came back, senders get this long to connect before they are set apart.
const RECONNECT_GRACE: Duration = Duration::from_secs(10);
/// A sender whose connection has no room for this long is set apart.
const FULL_GRACE: Duration = Duration::from_secs(1);
/// Messages on their way to the hub above; one sender can have only a part of them (the window of its connection), so that one whose
/// messages are not acknowledged leaves room for others.
const WINDOW_MESSAGES: usize = 4_000;
/// Messages of one queue in memory.
const BUFFERED_MESSAGES: usize = 8_000;
/// News of connections that wait for the forwarder.
const NEWS_MAX: usize = 256;
/// The forwarder looks around this often although nothing happened.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What others tell the forwarder.
#[derive(Default)]
pub(crate) struct Forwarding {
    wake: Arc<Bell>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// Some client has a new connection upstream.
    reconnected: bool,
    /// Senders that are connected for their messages' sake, or would be if they could.
    busy: BTreeSet<ClientId>,
}

#[derive(Default)]
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

impl Forwarding {
    /// A client has a new connection upstream.
    pub(crate) fn reconnected(&self) {
        self.lock().reconnected = true;
        self.wake.0.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// Whether messages of `client` are on their way up, or wait for its connection.
    pub(crate) fn is_forwarding(&self, client: &ClientId) -> bool {
        self.forwarding.lock().busy.contains(client)
    }

    /// Starts sending what waits for the hub above.
    pub(crate) fn start_forwarding(self: &Arc<Self>) {
        let subscription = self.queues.subscribe(Waker::from(self.forwarding.wake.clone()));
        self.runtime.spawn(run(Arc::downgrade(self), subscription));
    }
}

struct Forwarder {
    outbox: Outbox<Held>,
    lines: Vec<QueueKey>,
    /// Of each line, what the batch that is being looked at holds for it.
    fresh: Vec<Vec<Entry<Held>>>,
    senders: Senders,
    links: BTreeMap<Arc<str>, SenderLink>,
    /// Senders that are set apart.
    held: BTreeSet<Arc<str>>,
    /// Something happened that may let some of them go on.
    look_at_held: bool,
    held_looked: Monotonic,
    links_looked: Monotonic,
    news: mpsc::Sender<News>,
    /// Since when the hub above can be reached.
    online_since: Option<Monotonic>,
    /// Whose link has no room, and since when.
    blocked: Option<(Arc<str>, Monotonic)>,
    /// Version of the settings whose queues are known.
    settings_version: Option<u64>,
}

async fn run(hub: Weak<Hub>, subscription: Subscription) {
    let (news, mut arriving) = mpsc::channel(NEWS_MAX);
    let limits = OutboxLimits {
        window_messages: WINDOW_MESSAGES,
        buffered_messages_max: BUFFERED_MESSAGES,
        ..OutboxLimits::default()
    };
    let mut forwarder = Forwarder {
        outbox: Outbox::new(limits, Vec::new()),
        lines: Vec::new(),
        fresh: Vec::new(),
        senders: Senders::default(),
        links: BTreeMap::new(),
        held: BTreeSet::new(),
        look_at_held: false,
        held_looked: Monotonic::default(),
        links_looked: Monotonic::default(),
        news,
        online_since: None,
        blocked: None,
        settings_version: None,
    };
    let Some(bell) = hub.upgrade().map(|hub| hub.forwarding.wake.clone()) else { return };
    loop {
        let wait = {
            let Some(hub) = hub.upgrade() else { return };
            forwarder.turn(&hub, &subscription).await
        };
        tokio::select! {
            () = bell.0.notified() => {}
            Some(first) = arriving.recv() => {
                let Some(hub) = hub.upgrade() else { return };
                forwarder.hear(&hub, first);
                while let Ok(next) = arriving.try_recv() {
                    forwarder.hear(&hub, next);
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Forwarder {
    /// One look at everything; answers how long until the next at the latest.
    async fn turn(&mut self, hub: &Arc<Hub>, subscription: &Subscription) -> Duration {
        self.follow_queues(hub);
        let arrivals = subscription.take();
        if arrivals.lagged {
            self.outbox.lagged();
        }
        for batch in &arrivals.batches {
            self.offer_fresh(batch);
        }
        self.look_at_held |= std::mem::take(&mut hub.forwarding.lock().reconnected);
        self.follow_connection(hub);
        self.let_go(hub);
        self.look_at_links(hub);
        // Only what can be sent is worth reading; what is wanted is said once, so it must not be asked for in vain.
        while self.online_since.is_some() {
            self.pump(hub);
            match self.outbox.wanted() {
                Some(wanted) => self.read(hub, wanted).await,
                None => break,
            }
        }
        self.write_settled(hub);
        let now = hub.clock.now();
        let due = self.outbox.next_timeout(now).map_or(LOOK_EVERY, |at| at.since(now.monotonic));
        let soon = self.is_fresh(now.monotonic) || self.blocked.is_some();
        due.min(if soon { FULL_GRACE } else { LOOK_EVERY })
    }

    /// Whether the hub above came back only just now.
    fn is_fresh(&self, now: Monotonic) -> bool {
        self.online_since.is_some_and(|since| now.since(since) < RECONNECT_GRACE)
    }

    /// Whether the hub above can be reached is seen from `$edgeHub`'s own connection.
    fn follow_connection(&mut self, hub: &Hub) {
        match (hub.upstream.is_reachable(), self.online_since) {
            (true, None) => {
                self.online_since = Some(hub.clock.now().monotonic);
                self.look_at_held = true;
            }
            (false, Some(_)) => self.online_since = None,
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn pump(&mut self, hub: &Arc<Hub>) {
        let now = hub.clock.now();
        if self.blocked.as_ref().is_some_and(|(_, since)| now.monotonic.since(*since) < FULL_GRACE) {
            return;
        }
        while let Some(sent) = self.outbox.next(now) {
            let (line, position, sender) = (sent.line, sent.entry.position, sent.entry.sender.clone());
            let goes_on = if self.connect(hub, &sender) {
                self.send(hub, sent)
            } else {
                self.outbox.settled(line, position, Outcome::Released);
                !self.may_wait_for(hub, &sender, now.monotonic) && self.park(hub, line, &sender)
            };
            if !goes_on {
                return;
            }
        }
    }
}
