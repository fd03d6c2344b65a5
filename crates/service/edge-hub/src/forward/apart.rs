//! Senders that are set apart, so that the others go on: while they have no connection, or none with room.

use std::sync::Arc;
use std::time::Duration;

use skerry_model::Monotonic;
use skerry_uplink::State;

use super::Forwarder;
use crate::hub::Hub;

/// Senders that are set apart are looked at this often although nothing was heard of them: what has expired is then dropped.
const HELD_LOOK: Duration = Duration::from_secs(600);

impl Forwarder {
    /// Keeps a sender that is set apart connected, so that it can go on.
    pub(super) fn hold(&mut self, hub: &Arc<Hub>, sender: Arc<str>) {
        if let Some((_, client)) = self.senders.get(&sender) {
            hub.forwarding.lock().busy.insert(client.clone());
            hub.reach_up(&client);
        }
        self.held.insert(sender);
        self.look_at_held = true;
    }

    /// Sets a sender apart in a queue; `false` when too many are already, so that all have to wait.
    pub(super) fn park(&mut self, hub: &Arc<Hub>, line: usize, sender: &Arc<str>) -> bool {
        let parked = self.outbox.park(line, sender);
        if parked {
            self.hold(hub, sender.clone());
        }
        parked
    }

    /// Lets those go on whose reason to be set apart is over.
    pub(super) fn let_go(&mut self, hub: &Arc<Hub>) {
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

    /// Notes that a sender has neither a link nor messages that wait for one, if that is so.
    pub(super) fn not_busy(&mut self, hub: &Hub, sender: &Arc<str>) {
        if !self.links.contains_key(sender)
            && !self.held.contains(sender)
            && let Some((_, client)) = self.senders.get(sender)
        {
            hub.forwarding.lock().busy.remove(&client);
        }
    }

    /// Right after the hub above came back its senders are still connecting: everybody waits for them a little.
    pub(super) fn may_wait_for(&mut self, hub: &Hub, sender: &str, now: Monotonic) -> bool {
        let session = self.senders.get(sender).and_then(|(_, client)| hub.upstream.session(&client));
        let refused = session.is_some_and(|one| matches!(*one.state().borrow(), State::Refused { .. }));
        self.is_fresh(now) && !refused
    }
}
