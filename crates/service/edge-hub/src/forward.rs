//! Sending upstream: from the durable queues of `$upstream` to the hub above, each message as its own sender, in order.
//!
//! The hub above acknowledges what it has made durable; only then is a message forgotten here. A sender that cannot be connected is
//! set apart so that the others go on, and goes on from where it stood when it is back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use skerry_log::{Batch, QueueKey, QueuedMessage, Subscription, messages};
use skerry_model::{ClientId, ErrorCode, Monotonic, Outcome, Refusal, Ticket, Timestamp};
use skerry_outbox::{Entry, Offer, Outbox, OutboxLimits, Sent, Wanted};
use skerry_router::Endpoint;
use skerry_uplink::{Link, NotAppended, State};
use tokio::sync::{Notify, mpsc};

use crate::held::{Held, Senders, unpin};
use crate::hub::{Hub, lowest_bits};

/// Bytes that one read from the log brings.
const READ_BYTES: usize = 512 * 1024;
/// After the hub above came back, senders get this long to connect before they are set apart.
const RECONNECT_GRACE: Duration = Duration::from_secs(10);
/// A sender whose connection has no room for this long is set apart.
const FULL_GRACE: Duration = Duration::from_secs(1);
/// Senders that are set apart are looked at this often although nothing was heard of them: what has expired is then dropped.
const HELD_LOOK: Duration = Duration::from_secs(600);
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

/// One sender's connection, and what is in flight on it.
struct SenderLink {
    client: ClientId,
    link: Link,
    in_flight: VecDeque<(Ticket, usize, u64)>,
    /// It had no room when something was last handed to it.
    full: bool,
    /// Something was handed to it since the last look, or is in flight.
    busy: bool,
}

/// What became of a connection.
struct News {
    sender: Arc<str>,
    number: u64,
    what: Happened,
}

enum Happened {
    /// The hub above has everything up to here.
    Acked(Ticket),
    /// There is room again.
    Room,
    /// The connection is gone; the hub above has everything up to here.
    Lost(Ticket),
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
        let now = hub.clock.now();
        for (line, settlement) in self.outbox.settlements(now.monotonic) {
            let Some(queue) = self.lines.get(line) else { continue };
            match hub.queues.settle(*queue, settlement) {
                Ok(_) => {}
                // The queue was dropped with all it held: nothing of it is sent again.
                Err(Refusal::Message { error, .. }) if error.code == ErrorCode::NotFound => {}
                Err(refusal) => {
                    tracing::warn!(%refusal, "what the hub has cannot be noted; it is sent again after a restart");
                }
            }
        }
        let due = self.outbox.next_timeout(now).map_or(LOOK_EVERY, |at| at.since(now.monotonic));
        let soon = self.is_fresh(now.monotonic) || self.blocked.is_some();
        due.min(if soon { FULL_GRACE } else { LOOK_EVERY })
    }

    /// Whether the hub above came back only just now.
    fn is_fresh(&self, now: Monotonic) -> bool {
        self.online_since.is_some_and(|since| now.since(since) < RECONNECT_GRACE)
    }

    /// Takes up every queue for the hub above: those of the routes in force, and those of earlier ones that still hold something.
    fn follow_queues(&mut self, hub: &Arc<Hub>) {
        let version = Some(*hub.settings.version.borrow());
        if std::mem::replace(&mut self.settings_version, version) == version {
            return;
        }
        let name = hub.endpoint_name(&Endpoint::Upstream);
        for status in hub.queues.queues().into_iter().filter(|status| *status.endpoint == *name) {
            if !self.lines.contains(&status.queue)
                && let Some(checkpoint) = hub.queues.checkpoint(status.queue)
            {
                let line = self.outbox.add(status.priority, checkpoint);
                self.lines.push(status.queue);
                self.fresh.push(Vec::new());
                // Senders that were set apart before a restart go on as soon as they are connected.
                for sender in self.outbox.parked(line) {
                    self.hold(hub, sender);
                }
            }
        }
    }

    /// Keeps a sender that is set apart connected, so that it can go on.
    fn hold(&mut self, hub: &Arc<Hub>, sender: Arc<str>) {
        if let Some((_, client)) = self.senders.get(&sender) {
            hub.forwarding.lock().busy.insert(client.clone());
            hub.reach_up(&client);
        }
        self.held.insert(sender);
        self.look_at_held = true;
    }

    /// Sets a sender apart in a queue; `false` when too many are already, so that all have to wait.
    fn park(&mut self, hub: &Arc<Hub>, line: usize, sender: &Arc<str>) -> bool {
        let parked = self.outbox.park(line, sender);
        if parked {
            self.hold(hub, sender.clone());
        }
        parked
    }

    /// Lets those go on whose reason to be set apart is over.
    fn let_go(&mut self, hub: &Arc<Hub>) {
        let now = hub.clock.now().monotonic;
        let all = HELD_LOOK <= now.since(self.held_looked);
        if self.online_since.is_none() || self.held.is_empty() || !(all || self.look_at_held) {
            return;
        }
        self.look_at_held = false;
        if all {
            self.held_looked = now;
        }
        for sender in std::mem::take(&mut self.held) {
            let may_go = match self.links.get(&sender) {
                // What is in flight on it is settled or released first, or its order would be lost.
                Some(link) => !link.full && link.in_flight.is_empty(),
                None => {
                    let client = self.senders.get(&sender).map(|(_, client)| client);
                    all || client.is_some_and(|client| hub.upstream.connection(&client).is_some())
                }
            };
            if may_go {
                self.outbox.unpark(&sender);
                self.not_busy(hub, &sender);
            } else {
                self.held.insert(sender);
            }
        }
    }

    /// Connections with nothing to do may be closed by whoever looks after them.
    fn look_at_links(&mut self, hub: &Hub) {
        let now = hub.clock.now().monotonic;
        if now.since(self.links_looked) < LOOK_EVERY {
            return;
        }
        self.links_looked = now;
        for (sender, link) in &mut self.links {
            let was_busy = std::mem::replace(&mut link.busy, !link.in_flight.is_empty());
            if !was_busy && !self.held.contains(sender) {
                hub.forwarding.lock().busy.remove(&link.client);
            }
        }
    }

    /// Notes that a sender has neither a link nor messages that wait for one, if that is so.
    fn not_busy(&mut self, hub: &Hub, sender: &Arc<str>) {
        if !self.links.contains_key(sender)
            && !self.held.contains(sender)
            && let Some((_, client)) = self.senders.get(sender)
        {
            hub.forwarding.lock().busy.remove(&client);
        }
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

    fn offer_fresh(&mut self, batch: &Batch) {
        for message in messages(batch) {
            for destination in message.destinations() {
                if let Some(line) = self.lines.iter().position(|queue| *queue == destination.queue) {
                    let entry = entry(&mut self.senders, &message, batch, destination.expires);
                    self.fresh[line].extend(entry);
                }
            }
        }
        for line in 0..self.lines.len() {
            let mut entries = std::mem::take(&mut self.fresh[line]);
            unpin(batch.memory_bytes(), &mut entries, |entry| &mut entry.item);
            self.outbox.offer_fresh(line, batch.next(), entries);
        }
    }

    async fn read(&mut self, hub: &Hub, wanted: Wanted) {
        let Some(queue) = self.lines.get(wanted.line).copied() else { return };
        let (queues, asked) = (hub.queues.clone(), wanted.clone());
        let read = tokio::task::spawn_blocking(move || match &asked.sender {
            None => queues.read(queue, asked.from, READ_BYTES),
            Some(sender) => queues.read_sender(queue, sender, asked.from, READ_BYTES),
        });
        match read.await {
            Ok(Ok(found)) => {
                let senders = &mut self.senders;
                let entries = messages(&found.batch)
                    .filter_map(|message| entry(senders, &message, &found.batch, message.destination(queue)?.expires));
                let entries = entries.collect();
                self.outbox.offer_read(Offer {
                    line: wanted.line,
                    sender: wanted.sender,
                    from: wanted.from,
                    next: found.batch.next(),
                    at_end: found.at_end,
                    entries,
                });
            }
            failed => {
                if let Ok(Err(error)) = failed {
                    tracing::error!(%error, "queued messages cannot be read");
                }
                self.outbox.read_failed(&wanted);
                let wait = self.outbox.failed(hub.clock.now(), lowest_bits((hub.random)()));
                tokio::time::sleep(wait).await;
            }
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

    /// Makes sure that the sender has a connection; `false` when it has none at the moment.
    fn connect(&mut self, hub: &Arc<Hub>, sender: &Arc<str>) -> bool {
        if self.links.contains_key(sender) {
            return true;
        }
        // Names of senders are written by this hub, so they can be read.
        let Some((_, client)) = self.senders.get(sender) else { return false };
        let Some(Ok(link)) = hub.reach_up(&client).link().now_or_never() else { return false };
        tokio::spawn(watch(sender.clone(), link.clone(), self.news.clone()));
        let made = SenderLink { client, link, in_flight: VecDeque::new(), full: false, busy: false };
        self.links.insert(sender.clone(), made);
        true
    }

    /// Right after the hub above came back its senders are still connecting: everybody waits for them a little.
    fn may_wait_for(&mut self, hub: &Hub, sender: &str, now: Monotonic) -> bool {
        let session = self.senders.get(sender).and_then(|(_, client)| hub.upstream.session(&client));
        let refused = session.is_some_and(|one| matches!(*one.state().borrow(), State::Refused { .. }));
        self.is_fresh(now) && !refused
    }

    /// Hands a message to its sender's connection; `false` when nothing more can be sent now.
    fn send(&mut self, hub: &Arc<Hub>, sent: Sent<Held>) -> bool {
        let Sent { line, entry, .. } = sent;
        let Some(at) = self.links.get_mut(&entry.sender) else { return false };
        let properties = String::from_utf8_lossy(&entry.item.properties);
        match at.link.append(&properties, &entry.item.body) {
            Ok(ticket) => {
                if !std::mem::replace(&mut at.busy, true) {
                    hub.forwarding.lock().busy.insert(at.client.clone());
                }
                at.in_flight.push_back((ticket, line, entry.position));
                true
            }
            Err(NotAppended::Refused(error)) => {
                tracing::warn!(client = %at.client, %error, "the hub would never take a message; it is dropped");
                self.outbox.settled(line, entry.position, Outcome::Rejected);
                true
            }
            Err(NotAppended::Full) => {
                self.outbox.settled(line, entry.position, Outcome::Released);
                self.wait_for_room(hub, line, &entry.sender)
            }
            Err(NotAppended::Ending) => {
                // The loss of the link is told by its watcher; then the sender goes on with the next one.
                self.outbox.settled(line, entry.position, Outcome::Released);
                self.park(hub, line, &entry.sender)
            }
        }
    }

    /// A link is full: all wait for it a moment, because it is cheap; then its sender is set apart and the others go on (`true`).
    fn wait_for_room(&mut self, hub: &Arc<Hub>, line: usize, sender: &Arc<str>) -> bool {
        let Some(at) = self.links.get_mut(sender) else { return false };
        if std::mem::replace(&mut at.full, true) {
            self.blocked = None;
            return self.park(hub, line, sender);
        }
        self.blocked = Some((sender.clone(), hub.clock.now().monotonic));
        let (link, news, sender) = (at.link.clone(), self.news.clone(), sender.clone());
        tokio::spawn(async move {
            // The loss of the link is told by its watcher.
            if link.room().await.is_ok() {
                let _ = news.send(News { sender, number: link.number(), what: Happened::Room }).await;
            }
        });
        false
    }

    /// Takes over how far a connection came.
    fn hear(&mut self, hub: &Hub, news: News) {
        let sender = news.sender;
        let Some(link) = self.links.get_mut(&sender).filter(|link| link.link.number() == news.number) else { return };
        match news.what {
            Happened::Room => link.full = false,
            Happened::Acked(acked) | Happened::Lost(acked) => {
                while let Some((_, line, position)) = link.in_flight.pop_front_if(|(ticket, _, _)| *ticket <= acked) {
                    self.outbox.settled(line, position, Outcome::Accepted);
                }
            }
        }
        // What its sender waited for if it is set apart: room, or that nothing is in flight any more.
        self.look_at_held |= link.in_flight.is_empty() || !link.full;
        if !link.full && self.blocked.as_ref().is_some_and(|(blocked, _)| *blocked == sender) {
            self.blocked = None;
        }
        if let Happened::Lost(_) = news.what {
            // Whether these arrived is not known: they are sent again, in their order.
            for (_, line, position) in std::mem::take(&mut link.in_flight) {
                self.outbox.settled(line, position, Outcome::Released);
            }
            self.links.remove(&sender);
            self.blocked.take_if(|(blocked, _)| *blocked == sender);
            self.look_at_held = true;
            self.not_busy(hub, &sender);
        }
    }
}

/// Tells the forwarder of every progress of a link, and of its loss.
async fn watch(sender: Arc<str>, link: Link, news: mpsc::Sender<News>) {
    let mut acked = Ticket(0);
    loop {
        let what = match link.acked_beyond(acked).await {
            Ok(now) => {
                acked = now;
                Happened::Acked(now)
            }
            Err(lost) => Happened::Lost(lost.acked),
        };
        let lost = matches!(what, Happened::Lost(_));
        let told = news.send(News { sender: sender.clone(), number: link.number(), what }).await;
        if lost || told.is_err() {
            return;
        }
    }
}

fn entry(
    senders: &mut Senders,
    message: &QueuedMessage<'_>,
    batch: &Batch,
    expires: Option<Timestamp>,
) -> Option<Entry<Held>> {
    let (sender, _) = senders.get(message.source())?;
    let (properties, body) = message.share(batch);
    let bytes = u32::try_from(message.bytes()).unwrap_or(u32::MAX);
    Some(Entry { position: message.position(), sender, bytes, expires, item: Held { properties, body } })
}
