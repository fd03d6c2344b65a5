//! Cloud-to-device messages: one durable queue for each device, offered to whoever listens as that device.
//!
//! A message in flight is locked to its session. Every delivery that does not end in completion counts: given back, or lost with
//! the connection. What was in flight when the hub itself ended is offered again without being counted.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skerry_model::{
    Channel, ClientId, Command, Delivery, DeviceId, ErrorCode, FeedbackRequest, LockToken, Message, Outcome,
    PropertyBagBuilder, RequestError, Settled, Timestamp, system,
};
use skerry_state::{Change, Expect, Key, Page, Record};

use crate::CloudHub;
use crate::hub::{Hub, unavailable};
use crate::records;
use crate::registry::of_device;

/// A cloud-to-device message as a service sends it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandDraft {
    /// Properties and payload.
    pub message: Message,
    /// When it expires; the hub's default time to live counts when there is none.
    pub expires: Option<Timestamp>,
    /// Which feedback is wanted.
    pub ack: FeedbackRequest,
}

/// Sequence numbers that are in flight, or whose settlement is being written down. Changed only under the device's lock.
#[derive(Default)]
pub(crate) struct Queues {
    taken: Mutex<HashMap<DeviceId, BTreeSet<u64>>>,
}

impl Queues {
    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, BTreeSet<u64>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_taken(&self, device: &DeviceId, sequence: u64) -> bool {
        self.lock().get(device).is_some_and(|taken| taken.contains(&sequence))
    }

    fn take(&self, device: &DeviceId, sequence: u64) {
        self.lock().entry(device.clone()).or_default().insert(sequence);
    }

    fn give_back(&self, device: &DeviceId, sequences: impl Iterator<Item = u64>) {
        let mut all = self.lock();
        if let Some(taken) = all.get_mut(device) {
            for sequence in sequences {
                taken.remove(&sequence);
            }
            if taken.is_empty() {
                all.remove(device);
            }
        }
    }
}

impl CloudHub {
    /// Puts a message into a device's queue; answers with its sequence number when it is durable.
    ///
    /// # Errors
    /// `DeviceNotFound`, `QueueDepthExceeded`, `TooLarge`, `ArgumentInvalid` when it would be expired already.
    pub async fn send_command(&self, device: &DeviceId, draft: CommandDraft) -> Result<u64, RequestError> {
        let hub = &self.0;
        let _lock = hub.lock(device).await;
        hub.known_device(device).await?;
        let now = hub.now();
        let command = hub.drafted_command(device, draft, now)?;
        let (waiting, expired) = hub.waiting_commands(device, now).await?;
        let max = hub.config.limits.commands_waiting_max;
        if waiting.len() >= max {
            let text = format!("the queue of device `{device}` is full: {max} messages wait");
            return Err(RequestError::new(ErrorCode::QueueDepthExceeded, text));
        }
        let queue = hub.state.get(&queue_key(device)).await.map_err(unavailable)?;
        let (next, expect) = match &queue {
            None => (1, Expect::Absent),
            Some(record) => {
                let next = records::read_queue(device.as_str(), &record.value).map_err(unavailable)?;
                (next, Expect::Revision(record.revision))
            }
        };
        let mut changes = vec![
            Change::put(queue_key(device), expect, records::write_queue(next + 1)),
            Change::put(command_key(device, next), Expect::Absent, records::write_command(&command)),
        ];
        changes.extend(expired.into_iter().map(|key| Change::delete(key, Expect::Any)));
        hub.state.commit(changes).await.map_err(unavailable)?;
        hub.offer(device).await;
        Ok(next)
    }

    /// Deletes what waits in a device's queue and is not in flight; says how many messages that were.
    ///
    /// # Errors
    /// `DeviceNotFound`.
    pub async fn purge_commands(&self, device: &DeviceId) -> Result<u32, RequestError> {
        let hub = &self.0;
        let _lock = hub.lock(device).await;
        hub.known_device(device).await?;
        let (waiting, expired) = hub.waiting_commands(device, hub.now()).await?;
        let purged: Vec<_> = waiting
            .into_iter()
            .filter(|(_, command)| !hub.queues.is_taken(device, command.sequence_number))
            .map(|(key, _)| key)
            .collect();
        let count = u32::try_from(purged.len()).unwrap_or(u32::MAX);
        let deletions = purged.into_iter().chain(expired).map(|key| Change::delete(key, Expect::Any));
        hub.state.commit(deletions.collect()).await.map_err(unavailable)?;
        Ok(count)
    }
}

impl Hub {
    /// How many messages wait for a device.
    pub(crate) async fn commands_waiting(&self, device: &DeviceId) -> Result<u32, RequestError> {
        let (waiting, _) = self.waiting_commands(device, self.now()).await?;
        Ok(u32::try_from(waiting.len()).unwrap_or(u32::MAX))
    }

    /// Offers what waits for `device` to its session, in the background.
    pub(crate) fn offer_commands(self: &Arc<Self>, device: &DeviceId) {
        let (hub, device) = (Arc::clone(self), device.clone());
        self.spawn(async move {
            let _lock = hub.lock(&device).await;
            hub.offer(&device).await;
        });
    }

    /// Takes what became of messages in flight. They leave the session at once, so that its end does not count them again.
    pub(crate) fn settle_commands(self: &Arc<Self>, client: &ClientId, serial: u64, settled: &[Settled]) {
        let outcomes = self.sessions.with_serial(client, serial, |live| {
            let known =
                settled.iter().filter_map(|s| live.locked.remove(&s.lock).map(|sequence| (sequence, s.outcome)));
            known.collect::<Vec<_>>()
        });
        self.finish_commands(client, outcomes.unwrap_or_default());
    }

    /// A session is gone: its messages are available again at once, and counted.
    pub(crate) fn release_commands(self: &Arc<Self>, client: &ClientId, sequences: Vec<u64>) {
        self.finish_commands(client, sequences.into_iter().map(|sequence| (sequence, Outcome::Modified)).collect());
    }

    fn finish_commands(self: &Arc<Self>, client: &ClientId, outcomes: Vec<(u64, Outcome)>) {
        if outcomes.is_empty() {
            return;
        }
        let (hub, device) = (Arc::clone(self), client.device().clone());
        self.spawn(async move {
            let _lock = hub.lock(&device).await;
            if let Err(error) = hub.finish(&device, &outcomes).await {
                // They stay in the queue and will be delivered again.
                tracing::warn!(%device, %error, "cannot write down what became of commands");
            }
            hub.queues.give_back(&device, outcomes.iter().map(|(sequence, _)| *sequence));
            hub.offer(&device).await;
        });
    }

    async fn finish(&self, device: &DeviceId, outcomes: &[(u64, Outcome)]) -> Result<(), RequestError> {
        let mut changes = Vec::with_capacity(outcomes.len());
        for (sequence, outcome) in outcomes {
            let key = command_key(device, *sequence);
            let again = match outcome {
                Outcome::Accepted | Outcome::Rejected => false,
                Outcome::Released | Outcome::Modified => true,
            };
            if !again {
                changes.push(Change::delete(key, Expect::Any));
                continue;
            }
            let Some(record) = self.state.get(&key).await.map_err(unavailable)? else { continue };
            let mut command = records::read_command(&key.id, &record.value).map_err(unavailable)?;
            command.delivery_count += 1;
            if command.delivery_count >= self.config.commands.deliveries_max {
                tracing::info!(%device, sequence, "command dropped: delivered too often without completion");
                changes.push(Change::delete(key, Expect::Any));
            } else {
                changes.push(Change::put(key, Expect::Revision(record.revision), records::write_command(&command)));
            }
        }
        self.state.commit(changes).await.map_err(unavailable)?;
        Ok(())
    }

    /// Offers what waits, in order, as far as the session's window goes. The caller holds the device's lock.
    async fn offer(&self, device: &DeviceId) {
        let client = ClientId::Device(device.clone());
        let listens = self.sessions.with(&client, |live| live.listening.to(Channel::Commands)).unwrap_or(false);
        if !listens {
            return;
        }
        let waiting = match self.waiting_commands(device, self.now()).await {
            Ok((waiting, _)) => waiting,
            Err(error) => {
                tracing::warn!(%device, %error, "cannot offer commands");
                return;
            }
        };
        for (_, command) in waiting {
            let sequence = command.sequence_number;
            if self.queues.is_taken(device, sequence) {
                continue;
            }
            let lock = LockToken(self.random.u128());
            let command = Arc::new(command);
            let taken = self.sessions.with(&client, |live| {
                let room = live.listening.to(Channel::Commands) && live.locked.len() < live.window;
                if room {
                    live.locked.insert(lock, sequence);
                    live.deliver(Delivery::Command { lock, command });
                }
                room
            });
            if taken != Some(true) {
                return;
            }
            self.queues.take(device, sequence);
        }
    }

    /// What waits for `device` in order, and the keys of what has expired and is not in flight.
    async fn waiting_commands(
        &self,
        device: &DeviceId,
        now: Timestamp,
    ) -> Result<(Vec<(Key, Command)>, Vec<Key>), RequestError> {
        let page = Page::first(skerry_state::PAGE_RECORDS_MAX);
        let found = self.state.find(&records::COMMAND, &of_device(device), page).await.map_err(unavailable)?;
        let (mut waiting, mut expired) = (Vec::new(), Vec::new());
        for Record { key, value, .. } in found.records {
            let command = records::read_command(&key.id, &value).map_err(unavailable)?;
            if self.queues.is_taken(device, command.sequence_number) || now < command.expires {
                waiting.push((key, command));
            } else {
                expired.push(key);
            }
        }
        Ok((waiting, expired))
    }

    fn drafted_command(&self, device: &DeviceId, draft: CommandDraft, now: Timestamp) -> Result<Command, RequestError> {
        let mut message = draft.message;
        let bytes = message.view().counted_bytes();
        let max = self.config.limits.command_bytes_max;
        if bytes > max {
            let text = format!("a cloud-to-device message has at most {max} bytes, this one has {bytes}");
            return Err(RequestError::new(ErrorCode::TooLarge, text));
        }
        let expires = draft.expires.unwrap_or_else(|| now.plus(self.config.commands.time_to_live));
        if expires <= now {
            let text = format!("the message would have expired at {expires}");
            return Err(RequestError::new(ErrorCode::ArgumentInvalid, text));
        }
        if message.bag().get(system::TO).is_none() {
            let to = format!("/devices/{device}/messages/devicebound");
            let mut properties = PropertyBagBuilder::new().push(system::TO, &to).finish();
            if !message.properties.is_empty() {
                properties = [properties.as_str(), &message.properties].join("&");
            }
            message.properties = properties;
        }
        Ok(Command { message, sequence_number: 0, enqueued: now, expires, delivery_count: 0, ack: draft.ack })
    }
}

fn queue_key(device: &DeviceId) -> Key {
    Key::new(records::COMMAND_QUEUE, device.as_str())
}

/// Padded, so that the order of keys is the order of the queue.
fn command_key(device: &DeviceId, sequence: u64) -> Key {
    Key::new(records::COMMAND, format!("{device}/{sequence:020}"))
}
