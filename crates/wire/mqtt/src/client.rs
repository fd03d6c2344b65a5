//! The client's end of a connection: introduces itself, keeps the connection alive, knows what is not answered yet.
//!
//! Works as [`crate::server`]: events borrow from the packet, what is to be sent is appended to the buffer passed in.

use std::time::Duration;

use bytes::BufMut;
use skerry_model::Monotonic;

use crate::encode::{self, EncodeError};
use crate::packet::{ConnAck, Connect, ConnectReturn, Packet, PacketId, PacketKind, Publish, Qos, SubAck, Transfer};
use crate::unacked::Unacked;
use crate::window::Window;

/// Bounds of one connection. The keep-alive is that of the CONNECT packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// From CONNECT to CONNACK.
    pub connect_timeout: Duration,
    /// From PINGREQ to anything that the server sends.
    pub ping_timeout: Duration,
    /// Packets sent with an id and not answered, 1 to 32,767.
    pub window_max: u16,
    /// Messages received with QoS 1 and not acknowledged by us.
    pub unacked_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(30),
            window_max: 1_000,
            unacked_max: crate::server::Config::UNACKED_MAX,
        }
    }
}

/// What a packet means for the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a, K> {
    /// We are in.
    Accepted {
        /// The server has subscriptions of an earlier connection.
        session_present: bool,
    },
    /// We are not; the server closes the connection.
    Refused(ConnectReturn),
    /// A message of QoS 0 or 1.
    Publish {
        /// The message.
        publish: Publish<'a>,
        /// With QoS 1: its number, counted from 1, for [`Connection::ack`].
        sequence: Option<u64>,
    },
    /// The server has taken the message that was sent with this key.
    Acked(K),
    /// The answer to a SUBSCRIBE.
    Subscribed(SubAck<'a>),
    /// The answer to an UNSUBSCRIBE.
    Unsubscribed(PacketId),
}

/// What a server did against the protocol. Close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Something came before CONNACK.
    #[error("{0} before CONNACK")]
    NotConnected(PacketKind),
    /// CONNACK came twice.
    #[error("a second CONNACK")]
    ConnectedTwice,
    /// A packet that only clients send.
    #[error("{0} from a server")]
    NotFromServers(PacketKind),
    /// QoS 2, which was never asked for.
    #[error("{0}: QoS 2 was not asked for")]
    ExactlyOnce(PacketKind),
    /// An answer to something that was not sent.
    #[error("{kind} for {id}, under which nothing is in flight")]
    UnknownAnswer {
        /// Type of the answer.
        kind: PacketKind,
        /// Its id.
        id: PacketId,
    },
    /// A SUBACK with another number of answers than the SUBSCRIBE had filters.
    #[error("{answers} answers for {filters} filters")]
    WrongSubAck {
        /// Filters asked for.
        filters: usize,
        /// Answers that came.
        answers: usize,
    },
    /// A message was handed in although [`Connection::may_receive`] said no.
    #[error("{0} messages wait for their acknowledgement")]
    TooManyUnacked(usize),
    /// Something came after a refusal or after the end.
    #[error("{0} after the end")]
    Ended(PacketKind),
}

/// Why something was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// CONNACK has not come yet, or the connection has ended.
    #[error("the connection is not open")]
    NotOpen,
    /// The server has to answer something first.
    #[error("the window is full")]
    WindowFull,
    /// It does not fit into a packet.
    #[error("cannot be written: {0}")]
    Encode(#[from] EncodeError),
}

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Expired {
    /// No CONNACK in time.
    #[error("no CONNACK within {0:?}")]
    Connect(Duration),
    /// No sign of life after a PINGREQ.
    #[error("nothing heard for {0:?} after a PINGREQ")]
    Ping(Duration),
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Opening { deadline: Monotonic },
    Open { next_ping: Option<Monotonic>, answer_until: Option<Monotonic> },
    Ended,
}

/// What waits for its answer under a packet id.
#[derive(Debug)]
enum Waiting<K> {
    Publish(K),
    Subscribe { filters: usize },
    Unsubscribe,
}

/// The client's end of one connection. `K` is what the owner wants back when the server acknowledges a message.
#[derive(Debug)]
pub struct Connection<K> {
    config: Config,
    /// `None`: the client promised nothing and does not ping.
    keep_alive: Option<Duration>,
    phase: Phase,
    unacked: Unacked,
    window: Window<Waiting<K>>,
}

impl<K> Connection<K> {
    /// Introduces itself with `connect`.
    ///
    /// # Errors
    /// When CONNECT cannot be written.
    pub fn open(
        now: Monotonic,
        config: Config,
        connect: &Connect<'_>,
        out: &mut impl BufMut,
    ) -> Result<Self, EncodeError> {
        encode::connect(out, connect)?;
        Ok(Self {
            keep_alive: (connect.keep_alive > 0).then(|| Duration::from_secs(u64::from(connect.keep_alive))),
            phase: Phase::Opening { deadline: now + config.connect_timeout },
            unacked: Unacked::new(),
            window: Window::new(config.window_max, PacketId::MIN),
            config,
        })
    }

    /// Takes one packet of the server.
    ///
    /// # Errors
    /// When the server does not keep to the protocol; the connection is to be closed.
    pub fn handle_packet<'a>(&mut self, now: Monotonic, packet: Packet<'a>) -> Result<Option<Event<'a, K>>, Violation> {
        match &mut self.phase {
            Phase::Open { answer_until, .. } => *answer_until = None,
            Phase::Opening { .. } => return self.introduced(now, packet).map(Some),
            Phase::Ended => return Err(Violation::Ended(packet.kind())),
        }
        match packet {
            Packet::Publish(publish) => self.receive(publish).map(Some),
            Packet::PubAck(id) => match self.window.remove_if(id, |waiting| matches!(waiting, Waiting::Publish(_))) {
                Some(Waiting::Publish(key)) => Ok(Some(Event::Acked(key))),
                _ => Err(Violation::UnknownAnswer { kind: PacketKind::PubAck, id }),
            },
            Packet::SubAck(answer) => self.subscribed(answer).map(Some),
            Packet::UnsubAck(id) => {
                match self.window.remove_if(id, |waiting| matches!(waiting, Waiting::Unsubscribe)) {
                    Some(_) => Ok(Some(Event::Unsubscribed(id))),
                    None => Err(Violation::UnknownAnswer { kind: PacketKind::UnsubAck, id }),
                }
            }
            Packet::PingResp => {
                self.unacked.shrink_when_idle();
                self.window.shrink_when_idle();
                Ok(None)
            }
            Packet::ConnAck(_) => Err(Violation::ConnectedTwice),
            Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => Err(Violation::ExactlyOnce(packet.kind())),
            Packet::Connect(_)
            | Packet::ForeignConnect { .. }
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq
            | Packet::Disconnect => Err(Violation::NotFromServers(packet.kind())),
        }
    }

    /// Pings when it is time, and tells when the connection is to be given up.
    pub fn handle_timeout(&mut self, now: Monotonic, out: &mut impl BufMut) -> Option<Expired> {
        let expired = match &mut self.phase {
            Phase::Opening { deadline } if *deadline <= now => Expired::Connect(self.config.connect_timeout),
            Phase::Open { answer_until: Some(until), .. } if *until <= now => Expired::Ping(self.config.ping_timeout),
            Phase::Open { next_ping: Some(next_ping), answer_until } => {
                if let Some(keep_alive) = self.keep_alive
                    && *next_ping <= now
                {
                    // In fixed steps, also while there is traffic: a server that only takes is heard of this way too.
                    *next_ping = now + keep_alive;
                    *answer_until = answer_until.or(Some(now + self.config.ping_timeout));
                    encode::pingreq(out);
                }
                return None;
            }
            Phase::Opening { .. } | Phase::Open { .. } | Phase::Ended => return None,
        };
        self.phase = Phase::Ended;
        Some(expired)
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn next_timeout(&self) -> Option<Monotonic> {
        match self.phase {
            Phase::Opening { deadline } => Some(deadline),
            Phase::Open { next_ping, answer_until } => match (next_ping, answer_until) {
                (Some(ping), Some(answer)) => Some(ping.min(answer)),
                (one, other) => one.or(other),
            },
            Phase::Ended => None,
        }
    }

    /// CONNACK has come, and nothing that ends the connection.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// How many packets with an id can be sent before the server has to answer one.
    pub fn room(&self) -> usize {
        self.window.room()
    }

    /// Packets sent with an id and not answered.
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
    /// was sent before.
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
        self.send(Waiting::Publish(key), |id| {
            encode::publish(out, Transfer::AtLeastOnce { id, dup }, false, topic, payload)
        })
    }

    /// Asks to hear topics; the answer is [`Event::Subscribed`] with the id returned here.
    ///
    /// # Errors
    /// When the connection is not open, the window is full, or there is no filter or one that is not a filter.
    pub fn subscribe(&mut self, filters: &[(&str, Qos)], out: &mut impl BufMut) -> Result<PacketId, NotSent> {
        self.send(Waiting::Subscribe { filters: filters.len() }, |id| {
            encode::subscribe(out, id, filters.iter().copied())
        })
    }

    /// Asks not to hear topics any more; the answer is [`Event::Unsubscribed`] with the id returned here.
    ///
    /// # Errors
    /// When the connection is not open, the window is full, or there is no filter or one that is not a filter.
    pub fn unsubscribe(&mut self, filters: &[&str], out: &mut impl BufMut) -> Result<PacketId, NotSent> {
        self.send(Waiting::Unsubscribe, |id| encode::unsubscribe(out, id, filters.iter().copied()))
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

    /// Leaves in good order; close when DISCONNECT is sent.
    pub fn disconnect(&mut self, out: &mut impl BufMut) {
        if self.is_open() {
            encode::disconnect(out);
        }
        self.phase = Phase::Ended;
    }

    fn opened(&self) -> Result<(), NotSent> {
        if self.is_open() { Ok(()) } else { Err(NotSent::NotOpen) }
    }

    fn send(
        &mut self,
        waiting: Waiting<K>,
        write: impl FnOnce(PacketId) -> Result<(), EncodeError>,
    ) -> Result<PacketId, NotSent> {
        self.opened()?;
        let id = self.window.insert(waiting).map_err(|_| NotSent::WindowFull)?;
        if let Err(error) = write(id) {
            self.window.remove(id);
            return Err(error.into());
        }
        Ok(id)
    }

    fn introduced<'a>(&mut self, now: Monotonic, packet: Packet<'a>) -> Result<Event<'a, K>, Violation> {
        let Packet::ConnAck(ConnAck { session_present, code }) = packet else {
            return Err(Violation::NotConnected(packet.kind()));
        };
        if code != ConnectReturn::Accepted {
            self.phase = Phase::Ended;
            return Ok(Event::Refused(code));
        }
        self.phase = Phase::Open { next_ping: self.keep_alive.map(|span| now + span), answer_until: None };
        Ok(Event::Accepted { session_present })
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

    fn subscribed<'a>(&mut self, answer: SubAck<'a>) -> Result<Event<'a, K>, Violation> {
        match self.window.remove_if(answer.id, |waiting| matches!(waiting, Waiting::Subscribe { .. })) {
            Some(Waiting::Subscribe { filters }) if filters == answer.grants().len() => Ok(Event::Subscribed(answer)),
            Some(Waiting::Subscribe { filters }) => {
                Err(Violation::WrongSubAck { filters, answers: answer.grants().len() })
            }
            _ => Err(Violation::UnknownAnswer { kind: PacketKind::SubAck, id: answer.id }),
        }
    }
}

#[cfg(test)]
mod tests;
