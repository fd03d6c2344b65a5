//! Telemetry on its way into the event stream, and the word back to who sent it once it is durable.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skerry_gateway::{Actor, Closed, LaneMailbox, Published, SessionKey};
use skerry_model::{ClientId, ErrorCode, Limits, MessageSource, MessageView, Refusal, RequestError, Stamp, Ticket};
use skerry_stream::{Committed, PartitionId};
use tokio::sync::oneshot;

use crate::CloudHub;
use crate::hub::{Hub, unavailable};
use crate::twins::twin_key;
use crate::{authenticate, records};

/// Who waits for what to become durable in one partition.
#[derive(Default)]
pub(crate) struct Line {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// In the order of appending; bounded by what the stream takes before it commits.
    waiting: VecDeque<Waiting>,
    /// Lanes that were refused for want of room since the last commit.
    refused: Vec<Arc<LaneMailbox>>,
}

struct Waiting {
    /// Durable once the partition is durable up to here.
    next: u64,
    who: Waiter,
}

/// Who is to hear of it.
pub(crate) enum Waiter {
    /// A session on a lane.
    Session { lane: Arc<LaneMailbox>, key: SessionKey, ticket: Ticket },
    /// A request that waits.
    Caller(oneshot::Sender<()>),
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// Hands messages to the stream. `who` hears of it when they are durable; the partition's queue is held meanwhile, so that
    /// the order of those who wait is the order of the stream.
    pub(crate) fn append(
        &self,
        partition: PartitionId,
        stamp: &Stamp,
        batch: &[MessageView<'_>],
        lane: Option<&Arc<LaneMailbox>>,
        who: impl FnOnce() -> Waiter,
    ) -> Result<(), Refusal> {
        let line = self.lines.get(usize::from(partition.0));
        let line = line.ok_or(Refusal::Failed("there is no such partition".into()))?;
        let mut queue = line.lock();
        match self.stream.append(partition, stamp, batch) {
            Ok(next) => {
                queue.waiting.push_back(Waiting { next, who: who() });
                Ok(())
            }
            Err(Refusal::Full) => {
                if let Some(lane) = lane
                    && !queue.refused.iter().any(|refused| Arc::ptr_eq(refused, lane))
                {
                    queue.refused.push(Arc::clone(lane));
                }
                Err(Refusal::Full)
            }
            Err(other) => Err(other),
        }
    }

    /// The stream says how far a partition is durable.
    pub(crate) fn committed(&self, partition: PartitionId, committed: Committed) {
        let Some(line) = self.lines.get(usize::from(partition.0)) else { return };
        let mut queue = line.lock();
        let Queue { waiting, refused } = &mut *queue;
        let mut next = || {
            let decided = waiting.front().is_some_and(|front| front.next <= committed.next || committed.failed);
            if decided { waiting.pop_front() } else { None }
        };
        let mut one = next();
        while let Some(Waiting { next: end, who }) = one.take() {
            match who {
                // What follows for the same lane is told with it, so that the lane is woken once.
                Waiter::Session { lane, key, ticket } => lane.publish(|published| {
                    tell(published, key, ticket, end <= committed.next);
                    one = next();
                    while let Some(Waiting { next: end, who: Waiter::Session { lane: other, key, ticket } }) = &one
                        && Arc::ptr_eq(other, &lane)
                    {
                        tell(published, *key, *ticket, *end <= committed.next);
                        one = next();
                    }
                }),
                Waiter::Caller(done) => {
                    // Dropping the sender tells the caller that it failed.
                    if end <= committed.next {
                        let _ = done.send(());
                    }
                    one = next();
                }
            }
        }
        for lane in refused.drain(..) {
            lane.publish(|published| published.room = true);
        }
    }

    /// What the hub stamps on messages of `client`; `enqueued` is set anew for every batch.
    pub(crate) fn stamp(&self, actor: &Actor, client: &ClientId, found: &authenticate::Found) -> Stamp {
        let generation = found.module.as_ref().map_or(&found.device.generation, |module| &module.generation);
        Stamp {
            source: client.clone(),
            generation: Arc::clone(generation),
            auth_method: actor.method,
            model_id: None,
            kind: MessageSource::Telemetry,
            enqueued: self.now(),
        }
    }
}

impl CloudHub {
    /// Takes messages of `subject` without a session, and answers when they are durable (telemetry by request).
    ///
    /// # Errors
    /// `Unauthorized` when `actor` may not act for `subject`, `TooLarge`, `Unavailable`.
    pub async fn send_telemetry(
        &self,
        actor: &Actor,
        subject: &ClientId,
        batch: &[MessageView<'_>],
    ) -> Result<(), RequestError> {
        let hub = &self.0;
        let found = hub.may_act(actor, subject, None).await;
        let found = found.map_err(|denied| RequestError { code: denied.code, detail: denied.detail })?;
        if let Some((_, error)) = too_large(batch, &hub.config.limits) {
            return Err(error);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let mut stamp = hub.stamp(actor, subject, &found);
        let twin = hub.state.get(&twin_key(subject)).await.map_err(unavailable)?;
        if let Some(twin) = twin {
            let stored = records::read_twin(&twin.key.id, &twin.value).map_err(unavailable)?;
            stamp.model_id = stored.model_id.map(Arc::from);
        }
        let partition = PartitionId::of(subject.device(), hub.stream.partitions());
        let (done, is_done) = oneshot::channel();
        let unavailable = |text: &'static str| RequestError::new(ErrorCode::Unavailable, text);
        hub.append(partition, &stamp, batch, None, || Waiter::Caller(done)).map_err(|refusal| match refusal {
            Refusal::Full => unavailable("the event stream is full at the moment"),
            other => RequestError::new(ErrorCode::Unavailable, other.to_string()),
        })?;
        is_done.await.map_err(|_| unavailable("the event stream failed"))
    }
}

fn tell(published: &mut Published, key: SessionKey, ticket: Ticket, durable: bool) {
    if durable {
        published.commit(key, ticket);
    } else {
        published.closed.push((key, Closed::StoreFailed));
    }
}

/// The first message that is larger than allowed.
pub(crate) fn too_large(batch: &[MessageView<'_>], limits: &Limits) -> Option<(usize, RequestError)> {
    batch.iter().enumerate().find_map(|(index, message)| {
        // Decoding only ever makes properties shorter, so most messages need not be decoded to be counted.
        let bytes_at_most = message.body.len() + message.properties.as_str().len();
        if bytes_at_most <= limits.message_bytes_max || message.counted_bytes() <= limits.message_bytes_max {
            return None;
        }
        let text = format!(
            "a message has at most {} bytes, this one has {}",
            limits.message_bytes_max,
            message.counted_bytes()
        );
        Some((index, RequestError::new(ErrorCode::TooLarge, text)))
    })
}
