//! Messages to the inputs of modules: from the durable queues to the sessions of one lane, each with a window and a cursor.
//!
//! A receiver that keeps up is served from the batches the log has just made durable; one that fell behind reads from the log until
//! it has caught up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use skerry_gateway::{Published, SessionKey};
use skerry_log::{Arrivals, Batch, QueueKey, ReadBatch, messages};
use skerry_model::{ClientId, Delivery, InputMessage, LockToken, ModuleId, Settled, Settlement};
use skerry_outbox::{Entry, Outbox, OutboxLimits, Sent, Wanted};

use crate::held::{Held, Senders, unpin};
use crate::hub::Hub;
use crate::queued::{entry, offer_read};

/// Bytes that one read from the log brings.
const READ_BYTES: usize = 256 * 1024;
/// Marks lock tokens of inputs; those of commands are the uplink's and never have it.
const INPUT_LOCK: u128 = 1 << 127;
/// A read that failed is tried again after this time.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// All receivers of one lane.
pub(crate) struct Inputs {
    wake: Waker,
    receivers: BTreeMap<SessionKey, Receiver>,
    /// Who receives from which queue.
    index: Vec<Option<(SessionKey, usize)>>,
    senders: Senders,
    /// Reads that are done, from the threads that did them.
    done: Arc<Mutex<Vec<Done>>>,
    settings_version: u64,
    timer: Arc<AtomicBool>,
}

struct Done {
    key: SessionKey,
    wanted: Wanted,
    read: std::io::Result<ReadBatch>,
}

/// A module's session that listens to its inputs.
struct Receiver {
    module: ModuleId,
    over: Arc<AtomicBool>,
    outbox: Outbox<Item>,
    lines: Vec<Line>,
}

struct Line {
    queue: QueueKey,
    input: Arc<str>,
    /// What the batch that is being looked at holds for this queue.
    fresh: Vec<Entry<Item>>,
}

/// What is kept of a message until it is settled.
#[derive(Debug, Clone)]
struct Item {
    source: ClientId,
    held: Held,
}

impl Item {
    fn new(source: ClientId, held: Held) -> Self {
        Self { source, held }
    }
}

impl Inputs {
    pub(crate) fn new(wake: Waker) -> Self {
        Self {
            wake,
            receivers: BTreeMap::new(),
            index: Vec::new(),
            senders: Senders::default(),
            done: Arc::default(),
            settings_version: 0,
            timer: Arc::default(),
        }
    }

    /// A session begins to listen: it gets what waits in all queues of its module, oldest first within a priority. One that listens
    /// already goes on as it was.
    pub(crate) fn add(&mut self, hub: &Hub, key: SessionKey, module: &ModuleId, window: usize, over: Arc<AtomicBool>) {
        if self.receivers.contains_key(&key) {
            return;
        }
        // An older session of the module whose connection is not gone yet must not be taken for the one that receives.
        self.receivers.retain(|_, older| older.module != *module);
        let limits = OutboxLimits { window_messages: window, ..OutboxLimits::default() };
        let outbox = Outbox::new(limits, Vec::new());
        let mut receiver = Receiver { module: module.clone(), over, outbox, lines: Vec::new() };
        receiver.follow_queues(hub);
        self.receivers.insert(key, receiver);
        self.reindex();
        // What waits is wanted from the log at the lane's next turn.
        self.wake.wake_by_ref();
    }

    /// A session does not listen any more; what it did not settle is for the next one.
    pub(crate) fn remove(&mut self, hub: &Hub, key: SessionKey) {
        let Some(mut receiver) = self.receivers.remove(&key) else { return };
        self.reindex();
        // A newer session may have settled more already.
        if !receiver.over.load(Ordering::Acquire) {
            for (line, settlement) in receiver.outbox.all_settlements() {
                receiver.write(hub, line, settlement);
            }
        }
    }

    /// Takes over what a session settled; answers what is none of the inputs' business.
    pub(crate) fn settle(&mut self, hub: &Hub, by: SessionKey, settled: &[Settled]) -> Vec<Settled> {
        let mut others = Vec::new();
        let mut receiver = self.receivers.get_mut(&by);
        for settled in settled {
            if settled.lock.0 & INPUT_LOCK == 0 {
                others.push(*settled);
            } else if let Some(receiver) = &mut receiver {
                let (line, position) = place(settled.lock);
                receiver.outbox.settled(line, position, settled.outcome);
            }
        }
        if others.len() < settled.len() {
            // The window has room again, and a checkpoint will be due.
            self.wake_later(hub);
            self.wake.wake_by_ref();
        }
        others
    }

    /// Something became durable, was read, or was settled: hands on what can be sent.
    pub(crate) fn arrived(&mut self, hub: &Arc<Hub>, arrivals: Arrivals, published: &mut Published) {
        self.follow_settings(hub);
        if arrivals.lagged {
            self.receivers.values_mut().for_each(|receiver| receiver.outbox.lagged());
        }
        if !self.receivers.is_empty() {
            for batch in &arrivals.batches {
                self.offer_fresh(batch);
            }
        }
        self.take_reads();
        let now = hub.clock.now();
        let mut dirty = false;
        for (key, receiver) in &mut self.receivers {
            if receiver.over.load(Ordering::Acquire) {
                continue;
            }
            while let Some(sent) = receiver.outbox.next(now) {
                published.deliveries.push((*key, receiver.delivery(sent)));
            }
            while let Some(wanted) = receiver.outbox.wanted() {
                read(hub, &self.done, &self.wake, *key, receiver.lines.get(wanted.line).map(|line| line.queue), wanted);
            }
            for (line, settlement) in receiver.outbox.settlements(now.monotonic) {
                receiver.write(hub, line, settlement);
            }
            dirty |= receiver.outbox.next_timeout(now).is_some();
        }
        if dirty {
            self.wake_later(hub);
        }
    }

    /// Wakes the lane when the next checkpoint is due; one such timer is enough.
    fn wake_later(&self, hub: &Hub) {
        if self.timer.swap(true, Ordering::AcqRel) {
            return;
        }
        let (timer, wake) = (self.timer.clone(), self.wake.clone());
        let interval = OutboxLimits::default().checkpoint_interval;
        hub.runtime.spawn(async move {
            tokio::time::sleep(interval).await;
            timer.store(false, Ordering::Release);
            wake.wake();
        });
    }

    /// New routes may have brought new queues.
    fn follow_settings(&mut self, hub: &Hub) {
        let version = *hub.settings.version.borrow();
        if std::mem::replace(&mut self.settings_version, version) != version {
            self.receivers.values_mut().for_each(|receiver| receiver.follow_queues(hub));
            self.reindex();
        }
    }

    fn reindex(&mut self) {
        self.index.clear();
        for (key, receiver) in &self.receivers {
            for (at, line) in receiver.lines.iter().enumerate() {
                let queue = line.queue.0 as usize;
                if self.index.len() <= queue {
                    self.index.resize(queue + 1, None);
                }
                self.index[queue] = Some((*key, at));
            }
        }
    }

    fn offer_fresh(&mut self, batch: &Batch) {
        for message in messages(batch) {
            for destination in message.destinations() {
                let place = self.index.get(destination.queue.0 as usize).copied().flatten();
                if let Some((key, line)) = place
                    && let Some(line) = self.receivers.get_mut(&key).and_then(|receiver| receiver.lines.get_mut(line))
                {
                    line.fresh.extend(entry(&mut self.senders, &message, batch, destination.expires, Item::new));
                }
            }
        }
        for receiver in self.receivers.values_mut() {
            for (at, line) in receiver.lines.iter_mut().enumerate() {
                // Also without entries: the queue is then known to be read that far.
                let mut entries = std::mem::take(&mut line.fresh);
                unpin(batch.memory_bytes(), &mut entries, |entry| &mut entry.item.held);
                receiver.outbox.offer_fresh(at, batch.next(), entries);
            }
        }
    }

    fn take_reads(&mut self) {
        let done = std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner));
        for Done { key, wanted, read } in done {
            let Some(receiver) = self.receivers.get_mut(&key) else { continue };
            let Some(queue) = receiver.lines.get(wanted.line).map(|line| line.queue) else { continue };
            match read {
                Ok(found) => {
                    let senders = &mut self.senders;
                    offer_read(&mut receiver.outbox, wanted, queue, &found, |message, expires| {
                        entry(senders, message, &found.batch, expires, Item::new)
                    });
                }
                Err(error) => {
                    tracing::error!(%error, module = %receiver.module, "queued messages cannot be read");
                    receiver.outbox.read_failed(&wanted);
                }
            }
        }
    }
}

impl Receiver {
    /// Takes up every queue of the module: those of the routes in force, and those of earlier ones that still hold something.
    fn follow_queues(&mut self, hub: &Hub) {
        let prefix = format!("{}/{}/", self.module.device, self.module.name);
        for status in hub.queues.queues() {
            let Some(input) = status.endpoint.strip_prefix(&prefix) else { continue };
            if self.lines.iter().any(|line| line.queue == status.queue) {
                continue;
            }
            if let Some(checkpoint) = hub.queues.checkpoint(status.queue) {
                self.outbox.add(status.priority, checkpoint);
                self.lines.push(Line { queue: status.queue, input: Arc::from(input), fresh: Vec::new() });
            }
        }
    }

    fn delivery(&self, sent: Sent<Item>) -> Delivery {
        let input = self.lines.get(sent.line).map_or_else(|| Arc::from(""), |line| line.input.clone());
        let Item { source, held: Held { properties, body } } = sent.entry.item;
        let lock = LockToken(INPUT_LOCK | (sent.line as u128) << 64 | u128::from(sent.entry.position));
        let message = InputMessage { input, source, properties, body, redelivered: sent.redelivered };
        Delivery::Input { lock, message }
    }

    fn write(&self, hub: &Hub, line: usize, settlement: Settlement) {
        let Some(line) = self.lines.get(line) else { return };
        hub.write_settled(line.queue, settlement, &self.module);
    }
}

/// The line and position that a lock token of an input holds.
fn place(lock: LockToken) -> (usize, u64) {
    let line = (lock.0 & !INPUT_LOCK) >> 64;
    (usize::try_from(line).unwrap_or(usize::MAX), u64::try_from(lock.0 & u128::from(u64::MAX)).unwrap_or(u64::MAX))
}

/// Reads on a thread that may wait for the disk; the lane is woken when it is done.
fn read(
    hub: &Arc<Hub>,
    done: &Arc<Mutex<Vec<Done>>>,
    wake: &Waker,
    key: SessionKey,
    queue: Option<QueueKey>,
    wanted: Wanted,
) {
    let Some(queue) = queue else { return };
    let (hub, done, wake) = (hub.clone(), done.clone(), wake.clone());
    hub.runtime.clone().spawn(async move {
        let read = hub.read_queued(queue, &wanted, READ_BYTES).await;
        drop(hub);
        if read.is_err() {
            tokio::time::sleep(READ_AGAIN_AFTER).await;
        }
        done.lock().unwrap_or_else(PoisonError::into_inner).push(Done { key, wanted, read });
        wake.wake();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_token_tells_its_place() {
        let lock = LockToken(INPUT_LOCK | 7 << 64 | u128::from(u64::MAX - 1));
        assert_eq!(place(lock), (7, u64::MAX - 1));
    }
}
