//! The connections of senders to the hub above: made, fed, and followed until they are lost.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::FutureExt as _;
use skerry_model::{ClientId, Outcome, Ticket};
use skerry_outbox::Sent;
use skerry_uplink::{Link, NotAppended};
use tokio::sync::mpsc;

use super::{Forwarder, LOOK_EVERY};
use crate::held::Held;
use crate::hub::Hub;

/// One sender's connection, and what is in flight on it.
pub(super) struct SenderLink {
    client: ClientId,
    link: Link,
    pub(super) in_flight: VecDeque<(Ticket, usize, u64)>,
    /// It had no room when something was last handed to it.
    pub(super) full: bool,
    /// Something was handed to it since the last look, or is in flight.
    busy: bool,
}

/// What became of a connection.
pub(super) struct News {
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

impl Forwarder {
    /// Makes sure that the sender has a connection; `false` when it has none at the moment.
    pub(super) fn connect(&mut self, hub: &Arc<Hub>, sender: &Arc<str>) -> bool {
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

    /// Hands a message to its sender's connection; `false` when nothing more can be sent now.
    pub(super) fn send(&mut self, hub: &Arc<Hub>, sent: Sent<Held>) -> bool {
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
    pub(super) fn hear(&mut self, hub: &Hub, news: News) {
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

    /// Connections with nothing to do may be closed by whoever looks after them.
    pub(super) fn look_at_links(&mut self, hub: &Hub) {
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
