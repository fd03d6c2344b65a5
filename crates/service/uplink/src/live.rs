//! A session's state while it has a connection: what is in flight each way. Everything here happens under the session's lock.

mod incoming;

use std::collections::BTreeMap;
use std::sync::Arc;

use skerry_dialect::mqtt::client::{self as dialect, TwinAnswer};
use skerry_model::{
    Channel, ClientId, ErrorCode, MessageView, MethodAnswer, MethodCallId, Monotonic, PropertyBag, RequestError, Ticket,
};
use skerry_mqtt::{PacketId, Qos, client};
use tokio::sync::{oneshot, watch};

use crate::config::Limits;
use crate::ended::Ended;
use crate::link::NotAppended;
use crate::watermark::Watermark;

/// Packet ids beyond those of messages, twin requests and answers to methods: for subscriptions.
const SUBSCRIPTIONS_MAX: u16 = 16;

/// What comes back with a PUBACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Message(Ticket),
    Control,
}

/// What links watch.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) acked: Ticket,
    pub(crate) lost: Option<Arc<Ended>>,
}

#[derive(Debug)]
enum Phase {
    /// CONNECT is not answered.
    Opening,
    /// What was listened to on the connection before is being subscribed again.
    Subscribing(PacketId),
    Ready,
    /// Nothing new is taken.
    Ending,
}

#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) number: u64,
    connection: client::Connection<Key>,
    phase: Phase,
    /// Since when it can be used.
    pub(crate) ready_at: Option<Monotonic>,
    /// Why the connection is closed as soon as everything is written.
    pub(crate) finishing: Option<Ended>,
    pub(crate) out: Vec<u8>,
    messages: Watermark,
    /// When the watermark moved last, or messages began to be in flight; at first, when CONNECT was written.
    progressed: Monotonic,
    /// Somebody was told that there is no room.
    waited_for: bool,
    twin_subscribed: bool,
    requests: BTreeMap<u64, oneshot::Sender<TwinAnswer>>,
    subscriptions: BTreeMap<PacketId, oneshot::Sender<bool>>,
    methods: BTreeMap<MethodCallId, String>,
    calls: u64,
    pub(crate) progress: watch::Sender<Progress>,
}

/// What a packet changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// The connection can be used.
    Ready,
    Delivered,
}

impl Live {
    /// The bounds of the MQTT connection below.
    pub(crate) fn mqtt(limits: &Limits) -> client::Config {
        let control = u16::try_from(limits.requests_max + limits.methods_max).unwrap_or(u16::MAX);
        client::Config {
            connect_timeout: limits.answer_timeout,
            ping_timeout: limits.answer_timeout,
            window_max: limits.window_messages.saturating_add(control).saturating_add(SUBSCRIPTIONS_MAX),
            unacked_max: limits.deliveries_max,
        }
    }

    pub(crate) fn new(number: u64, connection: client::Connection<Key>, out: Vec<u8>, now: Monotonic) -> Self {
        Self {
            number,
            connection,
            phase: Phase::Opening,
            ready_at: None,
            finishing: None,
            out,
            messages: Watermark::default(),
            progressed: now,
            waited_for: false,
            twin_subscribed: false,
            requests: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            methods: BTreeMap::new(),
            calls: 0,
            progress: watch::Sender::default(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready)
    }

    pub(crate) fn next_timeout(&self) -> Option<Monotonic> {
        self.connection.next_timeout()
    }

    /// Looks at the clock; pings are written.
    pub(crate) fn handle_timeout(&mut self, now: Monotonic, limits: &Limits) -> Result<(), Ended> {
        if let Some(expired) = self.connection.handle_timeout(now, &mut self.out) {
            return Err(Ended::Silent(expired));
        }
        if self.messages.in_flight() > 0 && now.since(self.progressed) >= limits.ack_timeout {
            return Err(Ended::NotAcked(limits.ack_timeout));
        }
        if matches!(self.phase, Phase::Subscribing(_)) && now.since(self.progressed) >= limits.answer_timeout {
            return Err(Ended::NotSubscribed(limits.answer_timeout));
        }
        Ok(())
    }

    /// Whether packets may be taken from the socket.
    pub(crate) fn may_receive(&self) -> bool {
        self.connection.may_receive()
    }

    /// Tells links how far the watermark is, once for everything that was read together.
    pub(crate) fn show_progress(&mut self) {
        let acked = self.messages.done();
        let waited_for = std::mem::take(&mut self.waited_for);
        self.progress.send_if_modified(|progress| {
            let moved = progress.acked != acked;
            progress.acked = acked;
            moved || waited_for
        });
    }

    /// Hands over what is to be written.
    pub(crate) fn take_out(&mut self, chunk: &mut Vec<u8>) {
        std::mem::swap(&mut self.out, chunk);
        if std::mem::take(&mut self.waited_for) {
            self.progress.send_modify(|_| {});
        }
    }

    pub(crate) fn has_room(&mut self, limits: &Limits) -> bool {
        let room = self.messages.in_flight() < u64::from(limits.window_messages)
            && self.out.len() <= limits.out_bytes_max
            && self.connection.room() > 0;
        self.waited_for |= !room;
        room
    }

    /// Appends a message; `prefix` is what its topic begins with.
    pub(crate) fn append(
        &mut self,
        now: Monotonic,
        prefix: &str,
        message: MessageView<'_>,
        limits: &Limits,
    ) -> Result<Ticket, NotAppended> {
        if !self.is_ready() {
            return Err(NotAppended::Ending);
        }
        let bag = message.properties.as_str();
        // Counting means decoding: needed only when the text as it is could be too much.
        if bag.len() + message.body.len() > limits.message_bytes_max
            && message.counted_bytes() > limits.message_bytes_max
        {
            let detail = format!("a message has at most {} bytes", limits.message_bytes_max);
            return Err(NotAppended::Refused(RequestError::new(ErrorCode::TooLarge, detail)));
        }
        if !self.has_room(limits) {
            return Err(NotAppended::Full);
        }
        let ticket = self.messages.next();
        let sent = self.connection.publish_at_least_once(
            Key::Message(ticket),
            false,
            &[prefix, bag],
            message.body,
            &mut self.out,
        );
        match sent {
            Ok(_) => {
                if self.messages.in_flight() == 0 {
                    self.progressed = now;
                }
                self.messages.hand_out();
                Ok(ticket)
            }
            Err(client::NotSent::NotOpen) => Err(NotAppended::Ending),
            Err(client::NotSent::WindowFull) => Err(NotAppended::Full),
            Err(client::NotSent::Encode(error)) => {
                let detail = format!("the message {error}");
                Err(NotAppended::Refused(RequestError::new(ErrorCode::ArgumentInvalid, detail)))
            }
        }
    }

    /// Acknowledges one delivery.
    pub(crate) fn ack(&mut self, sequence: u64) {
        self.connection.ack(sequence, &mut self.out);
    }

    /// Subscribes to `filter`; the answer says whether the hub lets us.
    pub(crate) fn subscribe(&mut self, filter: &str) -> Result<oneshot::Receiver<bool>, client::NotSent> {
        let id = self.connection.subscribe(&[(filter, Qos::AtLeastOnce)], &mut self.out)?;
        Ok(self.await_answer(id))
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) -> Result<oneshot::Receiver<bool>, client::NotSent> {
        let id = self.connection.unsubscribe(&[filter], &mut self.out)?;
        Ok(self.await_answer(id))
    }

    /// Subscribes to answers of twin requests unless that is done.
    pub(crate) fn prepare_twin(&mut self) -> Result<Option<oneshot::Receiver<bool>>, client::NotSent> {
        if self.twin_subscribed { Ok(None) } else { self.subscribe(dialect::TWIN_RESPONSE_FILTER).map(Some) }
    }

    /// The subscription to answers of twin requests is there.
    pub(crate) fn twin_prepared(&mut self) {
        self.twin_subscribed = true;
    }

    /// Sends a twin request under the name `rid`.
    pub(crate) fn request(
        &mut self,
        rid: u64,
        topic: &str,
        payload: &[u8],
        limits: &Limits,
    ) -> Result<oneshot::Receiver<TwinAnswer>, RequestError> {
        // Those that gave up waiting.
        self.requests.retain(|_, waiting| !waiting.is_closed());
        if self.requests.len() >= limits.requests_max {
            return Err(RequestError::new(ErrorCode::Throttled, "too many twin requests wait for their answer"));
        }
        self.publish(topic, payload)?;
        let (sender, receiver) = oneshot::channel();
        self.requests.insert(rid, sender);
        Ok(receiver)
    }

    /// Sends the answer to a method call; to an unknown call nothing.
    pub(crate) fn answer_method(&mut self, answer: &MethodAnswer) -> Result<(), RequestError> {
        let Some(rid) = self.methods.remove(&answer.id) else {
            return Ok(());
        };
        let mut topic = String::new();
        dialect::method_answer_topic(&rid, answer.status, &mut topic);
        self.publish(&topic, &answer.payload)
    }

    /// From here on nothing new is taken.
    pub(crate) fn stop_taking(&mut self) {
        self.phase = Phase::Ending;
    }

    /// Everything that was sent is answered.
    pub(crate) fn is_drained(&self) -> bool {
        self.messages.in_flight() == 0 && self.requests.values().all(oneshot::Sender::is_closed)
    }

    /// Leaves in good order as soon as everything is written.
    pub(crate) fn finish(&mut self, why: Ended) {
        self.phase = Phase::Ending;
        if self.finishing.is_none() {
            self.connection.disconnect(&mut self.out);
            self.finishing = Some(why);
        }
    }

    fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), RequestError> {
        match self.connection.publish_at_least_once(Key::Control, false, &[topic], payload, &mut self.out) {
            Ok(_) => Ok(()),
            Err(client::NotSent::NotOpen) => Err(crate::session::not_connected()),
            Err(client::NotSent::WindowFull) => {
                Err(RequestError::new(ErrorCode::Throttled, "too much waits for the hub's answer"))
            }
            Err(client::NotSent::Encode(error)) => {
                Err(RequestError::new(ErrorCode::ArgumentInvalid, format!("the request {error}")))
            }
        }
    }

    fn await_answer(&mut self, id: PacketId) -> oneshot::Receiver<bool> {
        let (sender, receiver) = oneshot::channel();
        self.subscriptions.insert(id, sender);
        receiver
    }
}

/// The filters for `channels`, and for answers to twin requests.
pub(crate) fn filters(channels: impl Iterator<Item = Channel>, twin: bool, own: &ClientId) -> Vec<String> {
    let twin = twin.then(|| dialect::TWIN_RESPONSE_FILTER.to_owned());
    twin.into_iter().chain(channels.map(|channel| dialect::filter(channel, own))).collect()
}

/// What the topic of each message of `own` begins with.
pub(crate) fn telemetry_prefix(own: &ClientId) -> String {
    let mut prefix = String::new();
    dialect::telemetry_topic(own, PropertyBag::default(), &mut prefix);
    prefix
}
