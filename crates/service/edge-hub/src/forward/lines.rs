//! The queues for the hub above: taken up, read, and told what is settled.

use std::sync::Arc;

use skerry_log::{Batch, messages};
use skerry_outbox::Wanted;
use skerry_router::Endpoint;

use super::Forwarder;
use crate::held::unpin;
use crate::hub::{Hub, lowest_bits};
use crate::queued::{entry, offer_read};

/// Bytes that one read from the log brings.
const READ_BYTES: usize = 512 * 1024;

impl Forwarder {
    /// Takes up every queue for the hub above: those of the routes in force, and those of earlier ones that still hold something.
    pub(super) fn follow_queues(&mut self, hub: &Arc<Hub>) {
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

    pub(super) fn offer_fresh(&mut self, batch: &Batch) {
        for message in messages(batch) {
            for destination in message.destinations() {
                if let Some(line) = self.lines.iter().position(|queue| *queue == destination.queue) {
                    let entry = entry(&mut self.senders, &message, batch, destination.expires, |_, held| held);
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

    pub(super) async fn read(&mut self, hub: &Hub, wanted: Wanted) {
        let Some(queue) = self.lines.get(wanted.line).copied() else { return };
        match hub.read_queued(queue, &wanted, READ_BYTES).await {
            Ok(found) => {
                let senders = &mut self.senders;
                offer_read(&mut self.outbox, wanted, queue, &found, |message, expires| {
                    entry(senders, message, &found.batch, expires, |_, held| held)
                });
            }
            Err(error) => {
                tracing::error!(%error, "queued messages cannot be read");
                self.outbox.read_failed(&wanted);
                let wait = self.outbox.failed(hub.clock.now(), lowest_bits((hub.random)()));
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Writes down what is settled.
    pub(super) fn write_settled(&mut self, hub: &Hub) {
        for (line, settlement) in self.outbox.settlements(hub.clock.now().monotonic) {
            if let Some(queue) = self.lines.get(line) {
                hub.write_settled(*queue, settlement, &"$upstream");
            }
        }
    }
}
