//! Sending upstream: from the durable queues of `$upstream` to the hub above, each message as its own sender, in order.
//!
//! The hub above acknowledges what it has made durable; only then is a message forgotten here. A sender that cannot be connected is
//! set apart so that the others go on, and goes on from where it stood when it is back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use skerry_log::{Batch, QueueKey, QueuedMessage, Subscription, messages};
use skerry_model::{ClientId, Monotonic, Outcome, Ticket};
use skerry_outbox::{Entry, Offer, Outbox, OutboxLimits, Sent, Wanted};
use skerry_router::Endpoint;
use skerry_uplink::{Link, NotAppended, State};
use tokio::sync::{Notify, mpsc};

use crate::hub::{Hub, lowest_bits};

/// Bytes that one read from the log brings.
const READ_BYTES: usize = 512 * 1024;
/// After the hub above came back, senders get this long to connect before they are set apart.
const RECONNECT_GRACE: Duration = Duration::from_secs(10);
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
    reconnected: BTreeSet<ClientId>,
    /// Senders with messages in flight.
    active: BTreeSet<ClientId>,
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
    pub(crate) fn wake(&self, client: &ClientId) {
        self.lock().reconnected.insert(client.clone());
        self.wake.0.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// Whether messages of `client` are on their way up.
    pub(crate) fn is_forwarding(&self, client: &ClientId) -> bool {
        self.forwarding.lock().active.contains(client)
    }

    /// Starts sending what waits for the hub above.
    pub(crate) fn start_forwarding(self: &Arc<Self>) {
        let subscription = self.queues.subscribe(Waker::from(self.forwarding.wake.clone()));
        self.runtime.spawn(run(Arc::downgrade(self), subscription));
    }
}

/// What is kept of a message until the hub above has it.
#[derive(Debug, Clone)]
struct Item {
    properties: Bytes,
    body: Bytes,
}

/// One sender's connection, and what is in flight on it.
struct SenderLink {
    client: ClientId,
    link: Link,
    in_flight: VecDeque<(Ticket, usize, u64)>,
}

/// What became of a connection.
struct News {
    sender: Arc<str>,
    number: u64,
    acked: Ticket,
    lost: bool,
}

struct Forwarder {
    outbox: Outbox<Item>,
    lines: Vec<QueueKey>,
    links: BTreeMap<Arc<str>, SenderLink>,
    news: mpsc::Sender<News>,
    /// Since when the hub above can be reached.
    online_since: Option<Monotonic>,
    /// A link has no room; its watcher says when.
    blocked: bool,
    /// Senders whose links were lost since the last turn.
    gone: Vec<Arc<str>>,
}

async fn run(hub: Weak<Hub>, subscription: Subscription) {
    let (news, mut arriving) = mpsc::channel(NEWS_MAX);
    let outbox = Outbox::new(OutboxLimits::default(), Vec::new());
    let mut forwarder = Forwarder {
        outbox,
        lines: Vec::new(),
        links: BTreeMap::new(),
        news,
        online_since: None,
        blocked: false,
        gone: Vec::new(),
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
                forwarder.hear(first);
                while let Ok(next) = arriving.try_recv() {
                    forwarder.hear(next);
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
        let reconnected = std::mem::take(&mut hub.forwarding.lock().reconnected);
        for client in reconnected {
            self.outbox.unpark(&client.to_string());
        }
        for sender in self.gone.drain(..) {
            if let Ok(client) = ClientId::parse(&sender) {
                hub.forwarding.lock().active.remove(&client);
            }
        }
        self.follow_connection(hub);
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
            if let Some(queue) = self.lines.get(line)
                && let Err(refusal) = hub.queues.settle(*queue, settlement)
            {
                tracing::warn!(%refusal, "what the hub has cannot be noted; it is sent again after a restart");
            }
        }
        let due = self.outbox.next_timeout(now).map_or(LOOK_EVERY, |at| at.since(now.monotonic));
        let graceful = self.online_since.is_some_and(|since| now.monotonic.since(since) < RECONNECT_GRACE);
        due.min(if graceful { Duration::from_secs(1) } else { LOOK_EVERY })
    }

    fn follow_queues(&mut self, hub: &Hub) {
        let name = hub.endpoint_name(&Endpoint::Upstream);
        for status in hub.queues.queues().into_iter().filter(|status| *status.endpoint == *name) {
            if !self.lines.contains(&status.queue)
                && let Some(checkpoint) = hub.queues.checkpoint(status.queue)
            {
                self.outbox.add(status.priority, checkpoint);
                self.lines.push(status.queue);
            }
        }
    }

    /// Whether the hub above can be reached is seen from `$edgeHub`'s own connection.
    fn follow_connection(&mut self, hub: &Hub) {
        let own = ClientId::Module(hub.config.own_module());
        let online = hub.upstream.connection(&own).is_some();
        match (online, self.online_since) {
            (true, None) => self.online_since = Some(hub.clock.now().monotonic),
            (false, Some(_)) => self.online_since = None,
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn offer_fresh(&mut self, batch: &Batch) {
        for (line, queue) in self.lines.iter().enumerate() {
            let entries = messages(batch).filter_map(|message| entry(&message, batch, *queue)).collect();
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
                let entries =
                    messages(&found.batch).filter_map(|message| entry(&message, &found.batch, queue)).collect();
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
        while !self.blocked
            && let Some(sent) = self.outbox.next(now)
        {
            let (line, position, sender) = (sent.line, sent.entry.position, sent.entry.sender.clone());
            let Some(client) = self.connect(hub, &sender) else {
                self.outbox.settled(line, position, Outcome::Released);
                if self.may_wait_for(hub, &sender, now.monotonic) || !self.outbox.park(line, &sender) {
                    return;
                }
                continue;
            };
            self.send(hub, &client, sent);
        }
    }

    /// Makes sure that the sender has a connection; `None` when it has none at the moment.
    fn connect(&mut self, hub: &Arc<Hub>, sender: &Arc<str>) -> Option<ClientId> {
        if let Some(link) = self.links.get(sender) {
            return Some(link.client.clone());
        }
        // Names of senders are written by this hub, so they can be read.
        let client = ClientId::parse(sender).ok()?;
        let link = hub.reach_up(&client).session.link().now_or_never()?.ok()?;
        tokio::spawn(watch(sender.clone(), link.clone(), self.news.clone()));
        hub.forwarding.lock().active.insert(client.clone());
        let made = SenderLink { client: client.clone(), link, in_flight: VecDeque::new() };
        self.links.insert(sender.clone(), made);
        Some(client)
    }

    /// Right after the hub above came back its senders are still connecting: everybody waits for them a little.
    fn may_wait_for(&self, hub: &Hub, sender: &str, now: Monotonic) -> bool {
        let fresh = self.online_since.is_some_and(|since| now.since(since) < RECONNECT_GRACE);
        let refused = ClientId::parse(sender)
            .ok()
            .and_then(|client| hub.upstream.session(&client))
            .is_some_and(|one| matches!(*one.session.state().borrow(), State::Refused { .. }));
        fresh && !refused
    }

    fn send(&mut self, hub: &Hub, client: &ClientId, sent: Sent<Item>) {
        let Sent { line, entry, .. } = sent;
        let Some(at) = self.links.get_mut(&entry.sender) else { return };
        let properties = String::from_utf8_lossy(&entry.item.properties);
        match at.link.append(&properties, &entry.item.body) {
            Ok(ticket) => at.in_flight.push_back((ticket, line, entry.position)),
            Err(NotAppended::Refused(error)) => {
                tracing::warn!(%client, %error, "the hub would never take a message; it is dropped");
                self.outbox.settled(line, entry.position, Outcome::Rejected);
            }
            Err(NotAppended::Full) => {
                self.outbox.settled(line, entry.position, Outcome::Released);
                self.blocked = true;
                let (link, bell) = (at.link.clone(), hub.forwarding.wake.clone());
                let (news, sender) = (self.news.clone(), entry.sender.clone());
                tokio::spawn(async move {
                    // The loss of the link is told by its watcher.
                    let _ = link.room().await;
                    let acked = link.acked();
                    let _ = news.send(News { sender, number: link.number(), acked, lost: false }).await;
                    bell.0.notify_one();
                });
            }
            Err(NotAppended::Ending) => {
                self.outbox.settled(line, entry.position, Outcome::Released);
                self.outbox.park(line, &entry.sender);
            }
        }
    }

    /// Takes over how far a connection came.
    fn hear(&mut self, news: News) {
        self.blocked = false;
        let Some(link) = self.links.get_mut(&news.sender).filter(|link| link.link.number() == news.number) else {
            return;
        };
        while let Some((_, line, position)) = link.in_flight.pop_front_if(|(ticket, _, _)| *ticket <= news.acked) {
            self.outbox.settled(line, position, Outcome::Accepted);
        }
        if news.lost {
            // Whether these arrived is not known: they are sent again, in their order.
            for (_, line, position) in std::mem::take(&mut link.in_flight) {
                self.outbox.settled(line, position, Outcome::Released);
            }
            self.links.remove(&news.sender);
            self.gone.push(news.sender);
        }
    }
}

/// Tells the forwarder of every progress of a link, and of its loss.
async fn watch(sender: Arc<str>, link: Link, news: mpsc::Sender<News>) {
    let mut acked = Ticket(0);
    loop {
        let (now, lost) = match link.acked_beyond(acked).await {
            Ok(now) => (now, false),
            Err(lost) => (lost.acked, true),
        };
        acked = now;
        let told = news.send(News { sender: sender.clone(), number: link.number(), acked, lost }).await;
        if lost || told.is_err() {
            return;
        }
    }
}

fn entry(message: &QueuedMessage<'_>, batch: &Batch, queue: QueueKey) -> Option<Entry<Item>> {
    let destination = message.destination(queue)?;
    let (properties, body) = message.share(batch);
    Some(Entry {
        position: message.position(),
        sender: Arc::from(message.source()),
        bytes: u32::try_from(message.bytes()).unwrap_or(u32::MAX),
        expires: destination.expires,
        item: Item { properties, body },
    })
}
