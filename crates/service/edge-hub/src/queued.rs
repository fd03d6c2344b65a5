//! Between a durable queue and the outbox that sends what it holds: reading what is wanted, writing what is settled.

use std::fmt;
use std::io;

use skerry_log::{Batch, QueueKey, QueuedMessage, ReadBatch, messages};
use skerry_model::{ClientId, ErrorCode, Refusal, Settlement, Timestamp};
use skerry_outbox::{Entry, Offer, Outbox, Wanted};

use crate::held::{Held, Senders};
use crate::hub::Hub;

impl Hub {
    /// Reads about `bytes` of what an outbox wants of `queue`, on a thread that may wait for the disk.
    pub(crate) async fn read_queued(&self, queue: QueueKey, wanted: &Wanted, bytes: usize) -> io::Result<ReadBatch> {
        let (queues, from, sender) = (self.queues.clone(), wanted.from, wanted.sender.clone());
        let reading = tokio::task::spawn_blocking(move || match &sender {
            None => queues.read(queue, from, bytes),
            Some(sender) => queues.read_sender(queue, sender, from, bytes),
        });
        reading.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Writes down what the receiver has settled.
    pub(crate) fn write_settled(&self, queue: QueueKey, settlement: Settlement, receiver: &impl fmt::Display) {
        match self.queues.settle(queue, settlement) {
            Ok(_) => {}
            // The queue was dropped with all it held: nothing of it is sent again.
            Err(Refusal::Message { error, .. }) if error.code == ErrorCode::NotFound => {}
            Err(refusal) => {
                tracing::warn!(%receiver, %refusal, "what was settled cannot be written; it is sent again after a restart");
            }
        }
    }
}

/// Hands an outbox what was read for it of `queue`.
pub(crate) fn offer_read<T: Clone>(
    outbox: &mut Outbox<T>,
    wanted: Wanted,
    queue: QueueKey,
    found: &ReadBatch,
    mut entry: impl FnMut(&QueuedMessage<'_>, Option<Timestamp>) -> Option<Entry<T>>,
) {
    let entries = messages(&found.batch).filter_map(|message| entry(&message, message.destination(queue)?.expires));
    outbox.offer_read(Offer {
        line: wanted.line,
        sender: wanted.sender,
        from: wanted.from,
        next: found.batch.next(),
        at_end: found.at_end,
        entries: entries.collect(),
    });
}

/// What an outbox holds of a message in `batch`; `None` when its sender's name cannot be read.
pub(crate) fn entry<T>(
    senders: &mut Senders,
    message: &QueuedMessage<'_>,
    batch: &Batch,
    expires: Option<Timestamp>,
    item: impl FnOnce(ClientId, Held) -> T,
) -> Option<Entry<T>> {
    let (sender, client) = senders.get(message.source())?;
    let (properties, body) = message.share(batch);
    let bytes = u32::try_from(message.bytes()).unwrap_or(u32::MAX);
    Some(Entry { position: message.position(), sender, bytes, expires, item: item(client, Held { properties, body }) })
}
