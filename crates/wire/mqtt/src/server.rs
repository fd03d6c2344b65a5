//! The server's end of a connection: what must be remembered between packets, and when it has lasted too long.
//!
//! Events borrow from the packet that was handed in and come back at once, because the owner wants to hand a message on from the
//! read buffer: a queue of events between them would mean a copy for each message. What is to be sent is appended to the buffer
//! that the owner passes in.

use std::time::Duration;

use bytes::BufMut;
use skerry_model::{Limits, Monotonic};

use crate::encode::{self, EncodeError};
use crate::packet::{
    ConnAck, Connect, ConnectReturn, Grant, Packet, PacketId, PacketKind, Publish, Subscribe, Transfer, Unsubscribe,
};
use crate::unacked::Unacked;
use crate::window::Window;

/// Bounds of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// From the start to a CONNECT that was accepted.
    pub connect_timeout: Duration,
    /// Longest keep-alive that is honoured; a client that asks for none gets this one. The connection ends after 1.5 times this.
    pub keep_alive_max: Duration,
    /// Messages sent with QoS 1 and not acknowledged by the client, 1 to 32,767.
    pub window_max: u16,
    /// Messages received with QoS 1 and not acknowledged by us.
    pub unacked_max: usize,
}

impl Config {
    /// Default of [`Config::unacked_max`]: with four bytes each, 32 KiB of memory for a client that fills it.
    pub const UNACKED_MAX: usize = 8_192;
}

impl From<&Limits> for Config {
    fn from(limits: &Limits) -> Self {
        Self {
            connect_timeout: limits.handshake_timeout,
            keep_alive_max: limits.keep_alive_max,
            window_max: u16::try_from(limits.window_messages).unwrap_or(u16::MAX),
            unacked_max: Self::UNACKED_MAX,
        }
    }
}

/// What a packet means for the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a, K> {
    /// The client introduces itself. Answer with [`Connection::accept`] or [`Connection::refuse`]; until then hand in no packet.
    Connect(Connect<'a>),
    /// The client speaks another protocol; answer with [`Connection::refuse`] and `UnacceptableProtocol`.
    ForeignProtocol {
        /// `MQTT` for version 5, `MQIsdp` for version 3.1.
        protocol: &'a str,
        /// The protocol level.
        level: u8,
    },
    /// A message of QoS 0 or 1.
    Publish {
        /// The message.
        publish: Publish<'a>,
        /// With QoS 1: its number, counted from 1, for [`Connection::ack_through`].
        sequence: Option<u64>,
    },
    /// The client has taken the message that was sent with this key.
    Acked(K),
    /// The client acknowledges an id under which nothing is in flight. Some clients answer, after a reconnect, what they received
    /// before it; so this is to be counted, and not a reason to close.
    UnknownAck(PacketId),
    /// The client wants to hear topics. Answer with [`Connection::grant`] or [`Connection::suback`].
    Subscribe(Subscribe<'a>),
    /// The client does not want to hear topics any more. Answer with [`Connection::unsuback`].
    Unsubscribe(Unsubscribe<'a>),
    /// The client leaves in good order: forget its will, close.
    Disconnect,
}

/// What a client did against the protocol. Close without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Something came before CONNECT.
    #[error("{0} before CONNECT")]
    NotConnected(PacketKind),
    /// CONNECT came twice.
    #[error("a second CONNECT")]
    ConnectedTwice,
    /// A packet was handed in while CONNECT was not answered.
    #[error("{0} before CONNECT was answered")]
    NotAccepted(PacketKind),
    /// A packet that only servers send.
    #[error("{0} from a client")]
    NotFromClients(PacketKind),
    /// QoS 2, which this platform does not take.
    #[error("{0}: QoS 2 is not taken")]
    ExactlyOnce(PacketKind),
    /// A message was handed in although [`Connection::may_receive`] said no.
    #[error("{0} messages wait for their acknowledgement")]
    TooManyUnacked(usize),
    /// Something came after DISCONNECT or after a refusal.
    #[error("{0} after the end")]
    Ended(PacketKind),
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// CONNECT is not accepted yet, or the connection has ended.
    #[error("the connection is not open")]
    NotOpen,
    /// The client has to acknowledge something first.
    #[error("the window is full")]
    WindowFull,
    /// The message does not fit into a packet.
    #[error("cannot be written: {0}")]
    Encode(#[from] EncodeError),
}

/// Why a connection has lasted too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Expired {
    /// No CONNECT was accepted in time.
    #[error("no CONNECT within {0:?}")]
    Connect(Duration),
    /// The client was silent for 1.5 times its keep-alive.
    #[error("nothing heard for {0:?}")]
    KeepAlive(Duration),
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Waits for CONNECT, or for the owner's answer to it when `keep_alive` is known.
    Opening {
        deadline: Monotonic,
        keep_alive: Option<Duration>,
    },
    Open {
        last_heard: Monotonic,
        silence_max: Duration,
    },
    Ended,
}

/// The server's end of one connection. `K` is what the owner wants back when the client acknowledges a message.
#[derive(Debug)]
pub struct Connection<K> {
    config: Config,
    phase: Phase,
    unacked: Unacked,
    window: Window<K>,
}

impl<K> Connection<K> {
    /// A connection that was just made. `first_id` is the first packet id that will be used; when it differs from connection to
    /// connection, an acknowledgement that belongs to an earlier one meets nothing.
    pub fn new(now: Monotonic, config: Config, first_id: PacketId) -> Self {
        Self {
            phase: Phase::Opening { deadline: now + config.connect_timeout, keep_alive: None },
            unacked: Unacked::new(),
            window: Window::new(config.window_max, first_id),
            config,
        }
    }

    /// Takes one packet of the client.
    ///
    /// # Errors
    /// When the client does not keep to the protocol; the connection is to be closed.
    pub fn handle_packet<'a>(
        &mut self,
        now: Monotonic,
        packet: Packet<'a>,
        out: &mut impl BufMut,
    ) -> Result<Option<Event<'a, K>>, Violation> {
        match &mut self.phase {
            Phase::Open { last_heard, .. } => *last_heard = now,
            Phase::Opening { .. } => return self.introduce(packet).map(Some),
            Phase::Ended => return Err(Violation::Ended(packet.kind())),
        }
        match packet {
            Packet::Publish(publish) => self.receive(publish).map(Some),
            Packet::PubAck(id) => Ok(Some(self.window.remove(id).map_or(Event::UnknownAck(id), Event::Acked))),
            Packet::Subscribe(subscribe) => Ok(Some(Event::Subscribe(subscribe))),
            Packet::Unsubscribe(unsubscribe) => Ok(Some(Event::Unsubscribe(unsubscribe))),
            Packet::PingReq => {
                encode::pingresp(out);
                // Clients ping when they have nothing else to say: a good moment to give memory back.
                self.unacked.shrink_when_idle();
                self.window.shrink_when_idle();
                Ok(None)
            }
            Packet::Disconnect => {
                self.phase = Phase::Ended;
                Ok(Some(Event::Disconnect))
            }
            Packet::Connect(_) | Packet::ForeignConnect { .. } => Err(Violation::ConnectedTwice),
            Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => Err(Violation::ExactlyOnce(packet.kind())),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                Err(Violation::NotFromClients(packet.kind()))
            }
        }
    }

    /// Looks whether the connection has lasted too long; if so, it is to be closed.
    pub fn handle_timeout(&mut self, now: Monotonic) -> Option<Expired> {
        let expired = match self.phase {
            Phase::Opening { deadline, .. } if deadline <= now => Expired::Connect(self.config.connect_timeout),
            Phase::Open { last_heard, silence_max } if last_heard + silence_max <= now => {
                Expired::KeepAlive(silence_max)
            }
            Phase::Opening { .. } | Phase::Open { .. } | Phase::Ended => return None,
        };
        self.phase = Phase::Ended;
        Some(expired)
    }

    /// When to call [`Self::handle_timeout`] next. Moves into the future with every packet, so a timer may be set to an earlier
    /// answer and be set anew when it fires.
    pub fn next_timeout(&self) -> Option<Monotonic> {
        match self.phase {
            Phase::Opening { deadline, .. } => Some(deadline),
            Phase::Open { last_heard, silence_max } => Some(last_heard + silence_max),
            Phase::Ended => None,
        }
    }

    /// Lets the client in. Does nothing when no CONNECT waits for an answer.
    pub fn accept(&mut self, now: Monotonic, session_present: bool, out: &mut impl BufMut) {
        if let Phase::Opening { keep_alive: Some(keep_alive), .. } = self.phase {
            self.phase = Phase::Open { last_heard: now, silence_max: keep_alive * 3 / 2 };
            encode::connack(out, ConnAck { session_present, code: ConnectReturn::Accepted });
        }
    }

    /// Does not let the client in; close when the answer is sent. `code` is not `Accepted`.
    pub fn refuse(&mut self, code: ConnectReturn, out: &mut impl BufMut) {
        debug_assert_ne!(code, ConnectReturn::Accepted);
        if let Phase::Opening { .. } = self.phase {
            self.phase = Phase::Ended;
            encode::connack(out, ConnAck { session_present: false, code });
        }
    }

    /// The next packet may be handed in. When this says no, leave the bytes unread until something is acknowledged.
    pub fn may_receive(&self) -> bool {
        self.unacked.len() < self.config.unacked_max
    }

    /// Messages received with QoS 1 and not acknowledged yet.
    pub fn unacked(&self) -> usize {
        self.unacked.len()
    }

    /// Acknowledges every message with a number up to `sequence`, in order of arrival.
    pub fn ack_through(&mut self, sequence: u64, out: &mut impl BufMut) {
        self.unacked.ack_through(sequence, out);
    }

    /// The message with the number `sequence` is done; its PUBACK is sent when all before it are.
    pub fn ack(&mut self, sequence: u64, out: &mut impl BufMut) {
        self.unacked.ack(sequence, out);
    }

    /// Grants each filter the level asked for, 1 at most.
    ///
    /// # Errors
    /// Never for a packet from the decoder; see [`Self::suback`].
    pub fn grant(&mut self, subscribe: &Subscribe<'_>, out: &mut impl BufMut) -> Result<(), EncodeError> {
        self.suback(subscribe.id, subscribe.filters().map(|(_, qos)| Grant::Granted(qos.granted())), out)
    }

    /// Answers a SUBSCRIBE, one answer for each filter in their order.
    ///
    /// # Errors
    /// When there are more answers than a packet holds.
    pub fn suback(
        &mut self,
        id: PacketId,
        grants: impl Iterator<Item = Grant> + Clone,
        out: &mut impl BufMut,
    ) -> Result<(), EncodeError> {
        encode::suback(out, id, grants)
    }

    /// Answers an UNSUBSCRIBE.
    pub fn unsuback(&mut self, id: PacketId, out: &mut impl BufMut) {
        encode::unsuback(out, id);
    }

    /// How many messages of QoS 1 can be sent before the client has to acknowledge one.
    pub fn room(&self) -> usize {
        self.window.room()
    }

    /// Messages sent with QoS 1 and not acknowledged by the client.
    pub fn in_flight(&self) -> usize {
        self.window.len()
    }

    /// Sends a message with QoS 0. The topic is the pieces one behind the other.
    ///
    /// # Errors
    /// When the connection is not open or the message does not fit into a packet.
    pub fn publish_at_most_once(
        &mut self,
        topic: &[&str],
        payload: &[u8],
        out: &mut impl BufMut,
    ) -> Result<(), NotSent> {
        self.opened()?;
        Ok(encode::publish(out, Transfer::AtMostOnce, false, topic, payload)?)
    }

    /// Sends a message with QoS 1; `key` comes back with [`Event::Acked`]. The topic is the pieces one behind the other. `dup`: it
    /// was sent to this client before.
    ///
    /// # Errors
    /// When the connection is not open, the window is full or the message does not fit into a packet.
    pub fn publish_at_least_once(
        &mut self,
        key: K,
        dup: bool,
        topic: &[&str],
        payload: &[u8],
        out: &mut impl BufMut,
    ) -> Result<PacketId, NotSent> {
        self.opened()?;
        let id = self.window.insert(key).map_err(|_| NotSent::WindowFull)?;
        if let Err(error) = encode::publish(out, Transfer::AtLeastOnce { id, dup }, false, topic, payload) {
            self.window.remove(id);
            return Err(error.into());
        }
        Ok(id)
    }

    fn opened(&self) -> Result<(), NotSent> {
        match self.phase {
            Phase::Open { .. } => Ok(()),
            Phase::Opening { .. } | Phase::Ended => Err(NotSent::NotOpen),
        }
    }

    fn introduce<'a>(&mut self, packet: Packet<'a>) -> Result<Event<'a, K>, Violation> {
        let Phase::Opening { keep_alive, .. } = &mut self.phase else {
            return Err(Violation::ConnectedTwice);
        };
        match packet {
            Packet::Connect(_) | Packet::ForeignConnect { .. } if keep_alive.is_some() => {
                Err(Violation::ConnectedTwice)
            }
            Packet::Connect(connect) => {
                let max = self.config.keep_alive_max;
                let asked = Duration::from_secs(u64::from(connect.keep_alive));
                *keep_alive = Some(if asked.is_zero() { max } else { asked.min(max) });
                Ok(Event::Connect(connect))
            }
            Packet::ForeignConnect { protocol, level } => Ok(Event::ForeignProtocol { protocol, level }),
            other if keep_alive.is_some() => Err(Violation::NotAccepted(other.kind())),
            other => Err(Violation::NotConnected(other.kind())),
        }
    }

    fn receive<'a>(&mut self, publish: Publish<'a>) -> Result<Event<'a, K>, Violation> {
        match publish.transfer {
            Transfer::AtMostOnce => Ok(Event::Publish { publish, sequence: None }),
            Transfer::AtLeastOnce { id, .. } => {
                if !self.may_receive() {
                    return Err(Violation::TooManyUnacked(self.unacked.len()));
                }
                Ok(Event::Publish { publish, sequence: Some(self.unacked.push(id)) })
            }
            Transfer::ExactlyOnce { .. } => Err(Violation::ExactlyOnce(PacketKind::Publish)),
        }
    }
}

#[cfg(test)]
mod tests;
