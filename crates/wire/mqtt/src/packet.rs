//! The packets of MQTT 3.1.1 as values that borrow from the buffer they were read from.

use std::fmt;
use std::num::NonZeroU16;

/// Names a packet until it is answered; zero is not an id (§2.3.1).
pub type PacketId = NonZeroU16;

/// How sure a delivery is (§4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// 0: sent and forgotten.
    AtMostOnce,
    /// 1: kept until acknowledged.
    AtLeastOnce,
    /// 2: four packets; this platform neither grants nor takes it.
    ExactlyOnce,
}

impl Qos {
    /// The number on the wire as a level.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn bits(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }

    /// What is granted to who asks for this level: 1 at most.
    #[must_use]
    pub fn granted(self) -> Self {
        self.min(Self::AtLeastOnce)
    }
}

/// How one message travels: its level, and what comes with the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// Level 0 has neither id nor repetition.
    AtMostOnce,
    /// Level 1.
    AtLeastOnce {
        /// To be given back in the PUBACK.
        id: PacketId,
        /// The sender has sent this message before.
        dup: bool,
    },
    /// Level 2.
    ExactlyOnce {
        /// To be given back in the PUBREC.
        id: PacketId,
        /// The sender has sent this message before.
        dup: bool,
    },
}

/// A message (§3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// A valid topic name: not empty, without wildcards.
    pub topic: &'a str,
    /// Any bytes.
    pub payload: &'a [u8],
    /// Level, id and repetition.
    pub transfer: Transfer,
    /// The sender wants it kept for later subscribers.
    pub retain: bool,
}

/// What a client wants published when its connection ends without DISCONNECT (§3.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// A valid topic name.
    pub topic: &'a str,
    /// Any bytes, at most 65,535.
    pub payload: &'a [u8],
    /// Level to publish it with.
    pub qos: Qos,
    /// To be kept for later subscribers.
    pub retain: bool,
}

/// A client's first packet (§3.1), protocol `MQTT`, level 4.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// May be empty; whether that is accepted is the server's decision.
    pub client_id: &'a str,
    /// Forget what was subscribed before, and forget this connection's subscriptions when it ends.
    pub clean_session: bool,
    /// Seconds; 0 means that the client does not promise to send anything.
    pub keep_alive: u16,
    /// What to publish when the connection breaks.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub user_name: Option<&'a str>,
    /// Any bytes; never without a user name.
    pub password: Option<&'a [u8]>,
}

impl fmt::Debug for Connect<'_> {
    /// Without the password.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Connect")
            .field("client_id", &self.client_id)
            .field("clean_session", &self.clean_session)
            .field("keep_alive", &self.keep_alive)
            .field("will", &self.will)
            .field("user_name", &self.user_name)
            .field("password", &self.password.map(|_| "…"))
            .finish()
    }
}

/// A server's answer to CONNECT (§3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectReturn {
    /// 0.
    Accepted,
    /// 1: protocol level not supported.
    UnacceptableProtocol,
    /// 2: the client id is not allowed.
    IdentifierRejected,
    /// 3: not now.
    ServerUnavailable,
    /// 4: user name or password malformed.
    BadUserNameOrPassword,
    /// 5: not authorized.
    NotAuthorized,
}

impl ConnectReturn {
    /// The number on the wire as an answer; numbers above 5 are reserved.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Accepted),
            1 => Some(Self::UnacceptableProtocol),
            2 => Some(Self::IdentifierRejected),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::UnacceptableProtocol => 1,
            Self::IdentifierRejected => 2,
            Self::ServerUnavailable => 3,
            Self::BadUserNameOrPassword => 4,
            Self::NotAuthorized => 5,
        }
    }
}

/// A server's first packet (§3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnAck {
    /// The server has subscriptions of an earlier connection; only ever true with `Accepted`.
    pub session_present: bool,
    /// Whether the client is in.
    pub code: ConnectReturn,
}

/// A request to hear topics (§3.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// To be given back in the SUBACK.
    pub id: PacketId,
    pub(crate) entries: &'a [u8],
}

impl<'a> Subscribe<'a> {
    /// The valid topic filters with the level asked for each; at least one.
    pub fn filters(&self) -> impl Iterator<Item = (&'a str, Qos)> + Clone + use<'a> {
        Filters { entries: self.entries, levels: true }
    }
}

/// A request not to hear topics any more (§3.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// To be given back in the UNSUBACK.
    pub id: PacketId,
    pub(crate) entries: &'a [u8],
}

impl<'a> Unsubscribe<'a> {
    /// The valid topic filters; at least one.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        Filters { entries: self.entries, levels: false }.map(|(filter, _)| filter)
    }
}

/// Walks over the entries of a SUBSCRIBE or UNSUBSCRIBE that the decoder has checked.
#[derive(Debug, Clone)]
pub(crate) struct Filters<'a> {
    entries: &'a [u8],
    levels: bool,
}

impl<'a> Iterator for Filters<'a> {
    type Item = (&'a str, Qos);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.entries.split_first_chunk::<2>()?;
        let (filter, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let filter = std::str::from_utf8(filter).ok()?;
        if !self.levels {
            self.entries = rest;
            return Some((filter, Qos::AtMostOnce));
        }
        let (level, rest) = rest.split_first()?;
        self.entries = rest;
        Some((filter, Qos::from_bits(*level)?))
    }
}

/// The answer for one filter of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Messages come with this level at most.
    Granted(Qos),
    /// 0x80: not subscribed.
    Failure,
}

impl Grant {
    /// The number on the wire as an answer.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        if byte == 0x80 {
            return Some(Self::Failure);
        }
        match Qos::from_bits(byte) {
            Some(qos) => Some(Self::Granted(qos)),
            None => None,
        }
    }

    /// The number on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Granted(qos) => qos.bits(),
            Self::Failure => 0x80,
        }
    }
}

/// A server's answer to SUBSCRIBE (§3.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// Which SUBSCRIBE.
    pub id: PacketId,
    pub(crate) codes: &'a [u8],
}

impl<'a> SubAck<'a> {
    /// One answer for each filter, in their order; at least one.
    pub fn grants(&self) -> impl ExactSizeIterator<Item = Grant> + Clone + use<'a> {
        // The decoder took only bytes that are answers.
        self.codes.iter().map(|code| Grant::from_byte(*code).unwrap_or(Grant::Failure))
    }
}

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// First packet of a client.
    Connect(Connect<'a>),
    /// First packet of a client that speaks another protocol than `MQTT` level 4; what follows the level is not read.
    ForeignConnect {
        /// `MQTT` for version 5, `MQIsdp` for version 3.1.
        protocol: &'a str,
        /// The protocol level.
        level: u8,
    },
    /// First packet of a server.
    ConnAck(ConnAck),
    /// A message.
    Publish(Publish<'a>),
    /// Level 1: the message is taken.
    PubAck(PacketId),
    /// Level 2, part 1: the message has arrived.
    PubRec(PacketId),
    /// Level 2, part 2: the id may be forgotten.
    PubRel(PacketId),
    /// Level 2, part 3: it is.
    PubComp(PacketId),
    /// A client wants to hear topics.
    Subscribe(Subscribe<'a>),
    /// The answer.
    SubAck(SubAck<'a>),
    /// A client does not want to hear topics any more.
    Unsubscribe(Unsubscribe<'a>),
    /// The answer.
    UnsubAck(PacketId),
    /// A client asks whether anybody is there.
    PingReq,
    /// The answer.
    PingResp,
    /// A client leaves in good order.
    Disconnect,
}

impl Packet<'_> {
    /// The packet's type.
    pub const fn kind(&self) -> PacketKind {
        match self {
            Self::Connect(_) | Self::ForeignConnect { .. } => PacketKind::Connect,
            Self::ConnAck(_) => PacketKind::ConnAck,
            Self::Publish(_) => PacketKind::Publish,
            Self::PubAck(_) => PacketKind::PubAck,
            Self::PubRec(_) => PacketKind::PubRec,
            Self::PubRel(_) => PacketKind::PubRel,
            Self::PubComp(_) => PacketKind::PubComp,
            Self::Subscribe(_) => PacketKind::Subscribe,
            Self::SubAck(_) => PacketKind::SubAck,
            Self::Unsubscribe(_) => PacketKind::Unsubscribe,
            Self::UnsubAck(_) => PacketKind::UnsubAck,
            Self::PingReq => PacketKind::PingReq,
            Self::PingResp => PacketKind::PingResp,
            Self::Disconnect => PacketKind::Disconnect,
        }
    }
}

macro_rules! kinds {
    ($($name:ident = $number:literal, $flags:literal, $text:literal;)*) => {
        /// The type of a packet (§2.2.1); displayed as the standard writes it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum PacketKind {
            $(#[doc = $text] $name,)*
        }

        impl PacketKind {
            /// The type with this number; 0 and 15 are reserved.
            pub(crate) const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// First byte of a packet of this type, with the flags that the standard fixes (PUBLISH: none set).
            pub(crate) const fn first_byte(self) -> u8 {
                match self {
                    $(Self::$name => $number << 4 | $flags,)*
                }
            }
        }

        impl fmt::Display for PacketKind {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(match self {
                    $(Self::$name => $text,)*
                })
            }
        }
    };
}

kinds! {
    Connect = 1, 0, "CONNECT";
    ConnAck = 2, 0, "CONNACK";
    Publish = 3, 0, "PUBLISH";
    PubAck = 4, 0, "PUBACK";
    PubRec = 5, 0, "PUBREC";
    PubRel = 6, 2, "PUBREL";
    PubComp = 7, 0, "PUBCOMP";
    Subscribe = 8, 2, "SUBSCRIBE";
    SubAck = 9, 0, "SUBACK";
    Unsubscribe = 10, 2, "UNSUBSCRIBE";
    UnsubAck = 11, 0, "UNSUBACK";
    PingReq = 12, 0, "PINGREQ";
    PingResp = 13, 0, "PINGRESP";
    Disconnect = 14, 0, "DISCONNECT";
}
