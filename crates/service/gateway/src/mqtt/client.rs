//! One client that is in: turns packets into what the hub understands, and what the hub publishes into packets.

use std::collections::BTreeMap;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use skerry_dialect::error::Tracking;
use skerry_dialect::mqtt::{
    Mark, NotUnderstood, Said, Subscription, marked, publication, said, subscription, twin_response,
};
use skerry_model::{
    Channel, ClientId, Delivery, ErrorCode, LockToken, Message, MessageView, Monotonic, Now, Outcome, PropertyBag,
    Refusal, Reply, Request, RequestError, Settled,
};
use skerry_mqtt::server::{Connection, Event, Expired, Violation};
use skerry_mqtt::{DecodeError, Grant, PacketId, Publish, Qos, Subscribe, Unsubscribe, WireLimits, decode};
use skerry_session::Session;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite};

use super::io::{Incoming, Outgoing};
use crate::lane::{Attached, ToKeep};
use crate::{Backend, Closed, Kept, Runtime};

/// Bytes that wait for a client's socket before nothing more is put behind them and nothing more is read from the client.
const OUTGOING_BYTES_MAX: usize = 262_144;
/// A client's refused requests are logged at most once in this time; what came between is counted.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Messages handed to the hub at once.
const BATCH_MESSAGES_MAX: usize = 256;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// In good order, or in the middle of things.
    #[error("the connection was lost: {0}")]
    Lost(#[from] io::Error),
    #[error("the client left")]
    Left,
    #[error("the client closed without DISCONNECT")]
    Eof,
    #[error("{0}")]
    Expired(Expired),
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    Violation(#[from] Violation),
    #[error("{0}")]
    NotUnderstood(#[from] NotUnderstood),
    #[error("subscribed to the topic filter {0:?} of another identity")]
    ForeignFilter(String),
    #[error("{0}")]
    Message(RequestError),
    #[error("{0}")]
    Session(skerry_session::End),
    #[error("{}", .0.as_str())]
    Hub(Closed),
}

impl End {
    /// Whether the client did something that an operator has to hear of.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Left | Self::Eof | Self::Expired(_) => false,
            Self::Hub(closed) => !matches!(closed, Closed::Superseded | Closed::Stopping),
            Self::Decode(_)
            | Self::Violation(_)
            | Self::NotUnderstood(_)
            | Self::ForeignFilter(_)
            | Self::Message(_)
            | Self::Session(_) => true,
        }
    }
}

/// What a client listens to, and how sure the deliveries are.
pub(crate) type Subscriptions = BTreeMap<Channel, Qos>;

/// What comes back when the client acknowledges something it was sent.
pub(crate) type Flight = Option<LockToken>;

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

/// A batch that the store had no room for.
struct Held {
    messages: Vec<Message>,
    with_ack: u32,
}

/// A client that is in.
pub(crate) struct Client<B: Backend> {
    pub(crate) id: ClientId,
    pub(crate) mqtt: Connection<Flight>,
    pub(crate) session: Session,
    pub(crate) attached: Attached<B>,
    pub(crate) subscriptions: Subscriptions,
    /// What the client listens to is kept for its next connection.
    pub(crate) keep_session: bool,
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
    limits: WireLimits,
    message_bytes_max: usize,
    /// Messages of QoS 1 that were acknowledged so far, which is the number of the last one.
    acked: u64,
    held: Option<Held>,
    /// When a refused request was logged last, and how many were not since then.
    refused: (Option<Monotonic>, u64),
    /// Bytes were left not understood although they may hold whole packets.
    backlog: bool,
}

impl<B: Backend> Client<B> {
    pub(crate) fn new(
        id: ClientId,
        mqtt: Connection<Flight>,
        session: Session,
        attached: Attached<B>,
        incoming: Incoming,
        outgoing: Outgoing,
        limits: &skerry_model::Limits,
    ) -> Self {
        Self {
            id,
            mqtt,
            session,
            attached,
            subscriptions: Subscriptions::new(),
            keep_session: false,
            outgoing,
            incoming,
            limits: WireLimits::from(limits),
            message_bytes_max: limits.message_bytes_max,
            acked: 0,
            held: None,
            refused: (None, 0),
            // What came right behind CONNECT.
            backlog: true,
        }
    }

    /// One round: what the hub published, then what can be written, then what can be read; until nothing moves.
    pub(crate) fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        runtime: &Runtime<B>,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        match self.poll_rounds(runtime, stream, cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    fn poll_rounds<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        runtime: &Runtime<B>,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        loop {
            self.attached.mailbox.borrow_mut().register(cx.waker());
            self.take_mail(runtime)?;
            let had_to_wait = self.outgoing.len() >= OUTGOING_BYTES_MAX;
            if let Poll::Ready(written) = self.outgoing.poll_write(stream, &runtime.buffers, cx) {
                written?;
            }
            if had_to_wait && self.outgoing.len() < OUTGOING_BYTES_MAX {
                continue;
            }
            if !self.may_read() {
                return Ok(());
            }
            let mut incoming = std::mem::take(&mut self.incoming);
            let outcome = if std::mem::take(&mut self.backlog) {
                Poll::Ready(incoming.again(|bytes| self.understand(runtime, bytes)).map(|()| None))
            } else {
                let limits = self.limits;
                incoming
                    .poll_read(stream, &runtime.buffers, &limits, cx, |bytes| self.understand(runtime, bytes))
                    .map_ok(Some)
            };
            self.incoming = incoming;
            match outcome {
                Poll::Ready(Ok(Some(0))) => return Err(End::Eof),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(end)) => return Err(end),
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn may_read(&self) -> bool {
        self.held.is_none() && self.outgoing.len() < OUTGOING_BYTES_MAX && self.mqtt.may_receive()
    }

    /// Takes what the hub published for this session: acks first, then answers, then deliveries.
    fn take_mail(&mut self, runtime: &Runtime<B>) -> Result<(), End> {
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

    fn acknowledge(&mut self, runtime: &Runtime<B>, released: u32) {
        if released > 0 {
            self.acked += u64::from(released);
            self.mqtt.ack_through(self.acked, self.outgoing.open(&runtime.buffers));
        }
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

    fn answer(&mut self, runtime: &Runtime<B>, to: &ReplyTo, reply: &Reply) {
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

    fn deliver(&mut self, runtime: &Runtime<B>, deliveries: &mut std::collections::VecDeque<Delivery>) {
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

    /// Understands whole packets from the front of `bytes` and answers how many bytes they were.
    fn understand(&mut self, runtime: &Runtime<B>, bytes: &[u8]) -> Result<usize, End> {
        let now = runtime.clock.now();
        let mut rest = bytes;
        let mut batch = Batch::default();
        let mut settled: SmallVec<[Settled; 64]> = SmallVec::new();
        let outcome = loop {
            if !self.may_read() {
                self.backlog = !rest.is_empty();
                break Ok(());
            }
            let packet = match decode(&mut rest, &self.limits) {
                Ok(Some(packet)) => packet,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            };
            let event = match self.mqtt.handle_packet(now.monotonic, packet, self.outgoing.open(&runtime.buffers)) {
                Ok(event) => event,
                Err(violation) => break Err(violation.into()),
            };
            let understood = match event {
                Some(Event::Publish { publish, sequence }) => {
                    self.hear(runtime, &mut batch, &publish, sequence.is_some())
                }
                Some(Event::Acked(Some(lock))) => {
                    settled.push(Settled { lock, outcome: Outcome::Accepted });
                    Ok(())
                }
                Some(Event::Subscribe(subscribe)) => self.subscribe(runtime, &subscribe),
                Some(Event::Unsubscribe(unsubscribe)) => self.unsubscribe(runtime, &unsubscribe),
                Some(Event::Disconnect) => Err(End::Left),
                // The state machine refuses a second introduction by itself.
                Some(Event::Acked(None) | Event::UnknownAck(_) | Event::Connect(_) | Event::ForeignProtocol { .. })
                | None => Ok(()),
            };
            if let Err(end) = understood {
                break Err(end);
            }
        };
        // What came in good order before a violation counts.
        let flushed = self.flush(runtime, &mut batch);
        if !settled.is_empty() {
            self.session.handle_settled(now, u32::try_from(settled.len()).unwrap_or(u32::MAX));
            self.attached.lane.settle(self.attached.key(), &settled);
        }
        outcome?;
        flushed?;
        Ok(bytes.len() - rest.len())
    }

    fn hear<'a>(
        &mut self,
        runtime: &Runtime<B>,
        batch: &mut Batch<'a>,
        publish: &Publish<'a>,
        with_ack: bool,
    ) -> Result<(), End> {
        match said(&self.id, publish.topic, publish.payload)? {
            Said::Telemetry(message) => {
                self.check_size(&message)?;
                if publish.retain {
                    self.flush(runtime, batch)?;
                    let bag = marked(message.properties, Mark::Retained);
                    let message = MessageView { properties: PropertyBag::new(&bag), body: message.body };
                    return self.append(runtime, &[message], u32::from(with_ack));
                }
                batch.messages.push(message);
                batch.with_ack += u32::from(with_ack);
                if batch.messages.len() >= BATCH_MESSAGES_MAX { self.flush(runtime, batch) } else { Ok(()) }
            }
            Said::Asked { rid, request } => {
                self.flush(runtime, batch)?;
                self.taken(runtime, with_ack);
                let to = ReplyTo::Twin { rid: rid.to_owned() };
                match request.and_then(|request| self.session.begin_request().map(|()| request)) {
                    Ok(request) => self.attached.submit(vec![request], to),
                    Err(error) => self.answer(runtime, &to, &Reply::Failed(error)),
                }
                Ok(())
            }
            Said::Answered(answer) => {
                self.flush(runtime, batch)?;
                self.taken(runtime, with_ack);
                self.attached.submit(vec![Request::AnswerMethod(answer)], ReplyTo::Nobody);
                Ok(())
            }
            Said::Stray => {
                self.flush(runtime, batch)?;
                self.taken(runtime, with_ack);
                Ok(())
            }
        }
    }

    fn check_size(&self, message: &MessageView<'_>) -> Result<(), End> {
        // Encoded properties are never shorter than decoded ones, so most messages need no counting.
        let at_most = message.body.len() + message.properties.as_str().len();
        if at_most <= self.message_bytes_max || message.counted_bytes() <= self.message_bytes_max {
            return Ok(());
        }
        let detail = format!(
            "sent a message of {} bytes, where {} are allowed",
            message.counted_bytes(),
            self.message_bytes_max
        );
        Err(End::Message(RequestError::new(ErrorCode::TooLarge, detail)))
    }

    /// Something that is no telemetry has arrived: it is acknowledged in its turn.
    fn taken(&mut self, runtime: &Runtime<B>, with_ack: bool) {
        let released = self.session.handle_appended(None, u32::from(with_ack));
        self.acknowledge(runtime, released);
    }

    fn flush(&mut self, runtime: &Runtime<B>, batch: &mut Batch<'_>) -> Result<(), End> {
        if batch.messages.is_empty() {
            return Ok(());
        }
        let with_ack = std::mem::take(&mut batch.with_ack);
        let outcome = self.append(runtime, &batch.messages, with_ack);
        batch.messages.clear();
        outcome
    }

    fn append(&mut self, runtime: &Runtime<B>, messages: &[MessageView<'_>], with_ack: u32) -> Result<(), End> {
        match self.attached.lane.append(self.attached.key(), messages) {
            Ok(ticket) => {
                let released = self.session.handle_appended(ticket, with_ack);
                self.acknowledge(runtime, released);
                Ok(())
            }
            Err(Refusal::Full) => {
                self.session.handle_store_full(runtime.clock.now());
                let messages = messages.iter().map(MessageView::to_owned).collect();
                self.held = Some(Held { messages, with_ack });
                Ok(())
            }
            Err(Refusal::Superseded) => Err(End::Hub(Closed::Superseded)),
            Err(Refusal::Failed(reason)) => {
                tracing::error!(client = %self.id, %reason, "the store failed");
                Err(End::Hub(Closed::StoreFailed))
            }
            Err(Refusal::Message { error, .. }) => Err(End::Message(error)),
        }
    }

    fn offer_again(&mut self, runtime: &Runtime<B>) -> Result<(), End> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let messages: Vec<_> = held.messages.iter().map(Message::view).collect();
        self.append(runtime, &messages, held.with_ack)
    }

    fn subscribe(&mut self, runtime: &Runtime<B>, subscribe: &Subscribe<'_>) -> Result<(), End> {
        let mut requests = Vec::new();
        let mut grants = SmallVec::new();
        let mut changed = false;
        for (filter, qos) in subscribe.filters() {
            match subscription(filter, &self.id) {
                Subscription::Channel(channel) => {
                    let before = self.subscriptions.insert(channel, qos.granted());
                    changed |= before != Some(qos.granted());
                    if before.is_none() {
                        requests.push(Request::Listen(channel));
                    }
                }
                Subscription::TwinResponses | Subscription::Nothing => {}
                Subscription::Foreign => return Err(End::ForeignFilter(filter.chars().take(200).collect())),
            }
            grants.push(Grant::Granted(qos.granted()));
        }
        // Answered when the hub knows it, so that who sees the SUBACK is online for others.
        let kept = self.to_keep(runtime, changed);
        self.attached.submit_and_keep(requests, kept, ReplyTo::SubAck { id: subscribe.id, grants });
        Ok(())
    }

    fn unsubscribe(&mut self, runtime: &Runtime<B>, unsubscribe: &Unsubscribe<'_>) -> Result<(), End> {
        let mut requests = Vec::new();
        for filter in unsubscribe.filters() {
            if let Subscription::Channel(channel) = subscription(filter, &self.id)
                && self.subscriptions.remove(&channel).is_some()
            {
                requests.push(Request::Unlisten(channel));
            }
        }
        let kept = self.to_keep(runtime, !requests.is_empty());
        self.attached.submit_and_keep(requests, kept, ReplyTo::UnsubAck { id: unsubscribe.id });
        Ok(())
    }

    /// What the client now listens to, when that has changed and is to be kept.
    fn to_keep(&self, runtime: &Runtime<B>, changed: bool) -> Option<ToKeep<B>> {
        let kept = |(channel, qos): (&Channel, &Qos)| Kept { channel: *channel, acknowledged: *qos != Qos::AtMostOnce };
        (changed && self.keep_session).then(|| ToKeep {
            backend: runtime.backend.clone(),
            client: self.id.clone(),
            listening: self.subscriptions.iter().map(kept).collect(),
        })
    }

    /// Listens again to what the client listened to before.
    pub(crate) fn resume(&mut self, subscriptions: Subscriptions) {
        let requests = subscriptions.keys().copied().map(Request::Listen).collect();
        self.subscriptions = subscriptions;
        self.attached.submit(requests, ReplyTo::Nobody);
    }

    /// Whether the connection has lasted too long.
    pub(crate) fn handle_timeout(&mut self, now: Now) -> Option<End> {
        let expired = self.mqtt.handle_timeout(now.monotonic).map(End::Expired);
        expired.or_else(|| self.session.handle_timeout(now).map(End::Session))
    }

    /// When to look at the clock again, at the latest.
    pub(crate) fn next_timeout(&self, now: Now) -> Monotonic {
        const NEVER: Monotonic = Monotonic::from_start(std::time::Duration::MAX);
        let deadlines = [self.mqtt.next_timeout(), self.session.next_timeout(now)];
        deadlines.into_iter().flatten().min().unwrap_or(NEVER)
    }

    /// Hands the client's will to the hub; what cannot be taken is given up, as its sender is gone.
    pub(crate) fn publish_will(&self, will: &Message) {
        let bag = marked(will.bag(), Mark::Will);
        let message = MessageView { properties: PropertyBag::new(&bag), body: &will.body };
        if let Err(error) = self.attached.lane.append(self.attached.key(), &[message]) {
            tracing::warn!(client = %self.id, %error, "the will was not taken");
        }
    }
}

/// Messages of one read that go to the hub together.
#[derive(Default)]
struct Batch<'a> {
    messages: SmallVec<[MessageView<'a>; 64]>,
    with_ack: u32,
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

/// The first packet id of a connection, spread so that ids of one connection mean nothing on the next.
pub(crate) fn first_packet_id(counter: u64) -> PacketId {
    let spread = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    PacketId::new(u16::try_from(spread).unwrap_or(1).max(1)).unwrap_or(PacketId::MIN)
}
