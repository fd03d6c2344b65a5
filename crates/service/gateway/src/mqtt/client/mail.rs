//! What the hub published for a client, as packets: acks, answers to what it asked, deliveries.

use std::collections::VecDeque;
use std::time::Duration;

use skerry_dialect::error::Tracking;
use skerry_dialect::mqtt::{publication, twin_response};
use skerry_model::{Channel, Delivery, LockToken, Monotonic, Outcome, Reply, RequestError, Settled};
use skerry_mqtt::{Grant, PacketId, Qos};
use smallvec::SmallVec;

use super::{Client, End, OUTGOING_BYTES_MAX};
use crate::{Backend, Runtime};

/// A client's refused requests are logged at most once in this time; what came between is counted.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// What a reply of the hub is said as.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// The answer to the client's twin request.
    Twin {
        /// The client's own id for it.
        rid: String,
    },
    /// The answer to a SUBSCRIBE.
    SubAck { id: PacketId, grants: SmallVec<[Grant; 4]> },
    /// The answer to an UNSUBSCRIBE.
    UnsubAck { id: PacketId },
    /// Nothing is said.
    Nobody,
}

impl<B: Backend> Client<B> {
    /// Takes what the hub published for this session: acks first, then answers, then deliveries.
    pub(super) fn take_mail(&mut self, runtime: &Runtime<B>) -> Result<(), End> {
        let mailbox = self.attached.mailbox.clone();
        let mut mail = mailbox.borrow_mut();
        if let Some(closed) = mail.closed {
            return Err(End::Hub(closed));
        }
        if let Some(ticket) = mail.committed.take() {
            let released = self.session.handle_committed(ticket);
            self.acknowledge(runtime, released);
        }
        while let Some((to, reply)) = mail.replies.pop_front() {
            if matches!(to, ReplyTo::Twin { .. }) {
                self.session.end_request();
            }
            self.answer(runtime, &to, &reply);
        }
        let room = std::mem::take(&mut mail.room);
        self.deliver(runtime, &mut mail.deliveries);
        drop(mail);
        if room {
            self.offer_again(runtime)?;
        }
        Ok(())
    }

    /// Logs a refused request under the id that its answer names. A client that goes on asking does not flood the log.
    fn tell_refusal(&mut self, now: Monotonic, error: &RequestError, id: &str) {
        let (last, unlogged) = &mut self.refused;
        if last.is_some_and(|last| now.since(last) < LOG_EVERY) {
            *unlogged += 1;
            return;
        }
        *last = Some(now);
        let unlogged = std::mem::take(unlogged);
        tracing::warn!(client = %self.id, code = ?error.code, reason = %error.detail, id, unlogged, "twin request refused");
    }

    pub(super) fn answer(&mut self, runtime: &Runtime<B>, to: &ReplyTo, reply: &Reply) {
        let out = self.outgoing.open(&runtime.buffers);
        match to {
            ReplyTo::Twin { rid } => {
                let mut topic = runtime.topic.borrow_mut();
                topic.clear();
                let id = runtime.tracking_id();
                let payload = twin_response(rid, reply, Tracking { id: &id, at: runtime.clock.now().wall }, &mut topic);
                // Twin answers go out whether or not the client has room for what it must acknowledge, so QoS 0 it is: an
                // answer that is lost with the connection is asked for again.
                if let Err(error) = self.mqtt.publish_at_most_once(&[&topic], &payload, out) {
                    tracing::debug!(client = %self.id, %error, "twin answer not sent");
                }
                drop(topic);
                if let Reply::Failed(error) = reply {
                    self.tell_refusal(runtime.clock.now().monotonic, error, &id);
                }
            }
            ReplyTo::SubAck { id, grants } => {
                if let Err(error) = self.mqtt.suback(*id, grants.iter().copied(), out) {
                    tracing::debug!(client = %self.id, %error, "SUBACK not sent");
                }
            }
            ReplyTo::UnsubAck { id } => self.mqtt.unsuback(*id, out),
            ReplyTo::Nobody => {}
        }
        if let (Reply::Failed(error), ReplyTo::SubAck { .. } | ReplyTo::UnsubAck { .. }) = (reply, to) {
            tracing::warn!(client = %self.id, %error, "cannot change what the client listens to");
        }
    }

    fn deliver(&mut self, runtime: &Runtime<B>, deliveries: &mut VecDeque<Delivery>) {
        let now = runtime.clock.now();
        let mut settled: SmallVec<[Settled; 16]> = SmallVec::new();
        let mut topic = runtime.topic.borrow_mut();
        while self.outgoing.len() < OUTGOING_BYTES_MAX
            && let Some(delivery) = deliveries.front()
        {
            let (channel, lock, again) = traits(delivery);
            let Some(qos) = self.subscriptions.get(&channel).copied() else {
                settled.extend(lock.map(|lock| Settled { lock, outcome: Outcome::Released }));
                deliveries.pop_front();
                continue;
            };
            if qos != Qos::AtMostOnce && self.mqtt.room() == 0 {
                break;
            }
            topic.clear();
            let payload = publication(delivery, &self.id, &mut topic);
            let out = self.outgoing.open(&runtime.buffers);
            let outcome = if qos == Qos::AtMostOnce {
                // Nobody will acknowledge it: written is delivered.
                settled.extend(lock.map(|lock| Settled { lock, outcome: Outcome::Accepted }));
                self.mqtt.publish_at_most_once(&[&topic], &payload, out)
            } else {
                if lock.is_some() {
                    self.session.handle_delivered(now);
                }
                self.mqtt.publish_at_least_once(lock, again, &[&topic], &payload, out).map(|_| ())
            };
            if let Err(error) = outcome {
                tracing::warn!(client = %self.id, %error, "a delivery cannot be written as an MQTT packet");
                settled.extend(lock.map(|lock| Settled { lock, outcome: Outcome::Rejected }));
            }
            deliveries.pop_front();
        }
        drop(topic);
        if !settled.is_empty() {
            self.attached.lane.settle(self.attached.key(), &settled);
        }
    }
}

/// Which channel a delivery belongs to, how it is settled, and whether it was sent before.
fn traits(delivery: &Delivery) -> (Channel, Option<LockToken>, bool) {
    match delivery {
        Delivery::Command { lock, command } => (Channel::Commands, Some(*lock), command.delivery_count > 0),
        Delivery::Method(_) => (Channel::Methods, None, false),
        Delivery::Desired { .. } => (Channel::Desired, None, false),
        Delivery::Input { lock, message } => (Channel::Inputs, Some(*lock), message.redelivered),
    }
}
