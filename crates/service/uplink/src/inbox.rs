//! Deliveries that have arrived and are not taken yet, and how a hub's publications become deliveries.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use skerry_dialect::mqtt::client::Heard;
use skerry_model::{
    ClientId, Command, Delivery, DeviceId, FeedbackRequest, InputMessage, LockToken, MessageView, MethodCall,
    MethodCallId, ModuleName, PropertyBag, Timestamp, system,
};

/// In order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: VecDeque<(Delivery, usize)>,
    bytes: usize,
}

impl Inbox {
    pub(crate) fn push(&mut self, delivery: Delivery, bytes: usize) {
        self.bytes += bytes;
        self.waiting.push_back((delivery, bytes));
    }

    pub(crate) fn take(&mut self) -> Option<Delivery> {
        let (delivery, bytes) = self.waiting.pop_front()?;
        self.bytes -= bytes;
        Some(delivery)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of topics and payloads.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What is known about a publication besides what it says.
pub(crate) struct Arrival {
    pub(crate) lock: LockToken,
    pub(crate) call: MethodCallId,
    pub(crate) redelivered: bool,
    pub(crate) at: Timestamp,
}

/// `None`: the answer to a twin request, which is nobody's delivery.
pub(crate) fn delivery(heard: &Heard<'_>, own: &ClientId, arrival: &Arrival) -> Option<Delivery> {
    Some(match heard {
        Heard::Command(view) => Delivery::Command { lock: arrival.lock, command: Arc::new(command(*view, arrival)) },
        Heard::Input { input, message } => {
            Delivery::Input { lock: arrival.lock, message: self::input(input, *message, own, arrival) }
        }
        Heard::Method { name, payload, .. } => Delivery::Method(MethodCall {
            id: arrival.call,
            name: name.clone().into_owned(),
            payload: Bytes::copy_from_slice(payload),
        }),
        Heard::Desired(desired) => {
            Delivery::Desired { patch: Arc::new(desired.patch.clone()), version: desired.version }
        }
        Heard::TwinResponse { .. } => return None,
    })
}

/// MQTT does not tell a command's place in the queue nor its count of deliveries: the place is that among the publications of this
/// connection, the count tells a first delivery from a later one.
fn command(view: MessageView<'_>, arrival: &Arrival) -> Command {
    let expires = view.properties.get(system::EXPIRY).and_then(|text| Timestamp::parse(&text).ok());
    let ack = view.properties.get(system::ACK).and_then(|text| FeedbackRequest::parse(&text));
    Command {
        message: view.to_owned(),
        sequence_number: sequence_of(arrival.lock),
        enqueued: arrival.at,
        expires: expires.unwrap_or(Timestamp::from_unix_millis(i64::MAX)),
        delivery_count: u32::from(arrival.redelivered),
        ack: ack.unwrap_or_default(),
    }
}

fn input(name: &str, view: MessageView<'_>, own: &ClientId, arrival: &Arrival) -> InputMessage {
    InputMessage {
        input: Arc::from(name),
        source: source(view.properties).unwrap_or_else(|| ClientId::Device(own.device().clone())),
        properties: Bytes::copy_from_slice(view.properties.as_str().as_bytes()),
        body: Bytes::copy_from_slice(view.body),
        redelivered: arrival.redelivered,
    }
}

/// The sender as the hub stamped it.
fn source(bag: PropertyBag<'_>) -> Option<ClientId> {
    let device = DeviceId::parse(&bag.get(system::CONNECTION_DEVICE_ID)?).ok()?;
    match bag.get(system::CONNECTION_MODULE_ID) {
        None => Some(ClientId::Device(device)),
        Some(module) => Some(ClientId::Module(device.module(ModuleName::parse(&module).ok()?))),
    }
}

/// A lock names the connection and the publication on it.
pub(crate) fn lock(connection: u64, sequence: u64) -> LockToken {
    LockToken(u128::from(connection) << 64 | u128::from(sequence))
}

/// Number of the publication on its connection; 0 for one that needs no acknowledgement.
pub(crate) fn sequence_of(lock: LockToken) -> u64 {
    (lock.0 & u128::from(u64::MAX)) as u64
}

/// Number of the connection.
pub(crate) fn connection_of(lock: LockToken) -> u64 {
    (lock.0 >> 64) as u64
}
