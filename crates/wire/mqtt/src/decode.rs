//! From bytes to packets: strict, without copying, never more than one packet ahead.

use crate::packet::{
    ConnAck, Connect, ConnectReturn, Grant, Packet, PacketId, PacketKind, Publish, Qos, SubAck, Subscribe, Transfer,
    Unsubscribe, Will,
};
use crate::text::{has_forbidden, is_topic_filter};

/// How large packets may be, header included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireLimits {
    /// Largest packet, in bytes.
    pub packet_bytes_max: usize,
    /// Largest CONNECT, in bytes: what a peer that nobody knows yet can make us keep in memory.
    pub connect_bytes_max: usize,
}

impl WireLimits {
    /// Default of [`WireLimits::connect_bytes_max`]: id, user name and token take about 1 KiB, the rest is for a will.
    pub const CONNECT_BYTES_MAX: usize = 65_536;
}

impl From<&skerry_model::Limits> for WireLimits {
    /// A message of the largest size with a topic of the largest size fits.
    fn from(limits: &skerry_model::Limits) -> Self {
        let packet_bytes_max = limits.message_bytes_max.saturating_add(limits.topic_bytes_max);
        Self { packet_bytes_max, connect_bytes_max: Self::CONNECT_BYTES_MAX.min(packet_bytes_max) }
    }
}

/// Why bytes are not a packet that we take. The connection cannot go on: where the next packet begins is unknown or the peer does
/// not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Packet types 0 and 15 do not exist.
    #[error("packet type {0} is reserved")]
    ReservedType(u8),
    /// The low four bits of the first byte are fixed for every type but PUBLISH.
    #[error("{kind} with the flags {flags:#06b}")]
    Flags {
        /// Type of the packet.
        kind: PacketKind,
        /// What was there.
        flags: u8,
    },
    /// The remaining length has more than four bytes.
    #[error("{0} whose length has more than four bytes")]
    LengthEncoding(PacketKind),
    /// Seen as soon as the length is, before the rest has arrived.
    #[error("{kind} of {bytes} bytes, at most {bytes_max} are taken")]
    TooLarge {
        /// Type of the packet.
        kind: PacketKind,
        /// The size it announces, header included.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// What is inside is wrong.
    #[error("{kind}: {fault}")]
    Malformed {
        /// Type of the packet.
        kind: PacketKind,
        /// What is wrong.
        fault: Fault,
    },
}

/// What is wrong inside a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A field goes on behind the end of the packet.
    #[error("ends inside a field")]
    Ends,
    /// Bytes follow the last field.
    #[error("{0} bytes behind the last field")]
    Trailing(usize),
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// Text with the character U+0000.
    #[error("text with a NUL character")]
    Nul,
    /// A topic name that is empty, or has a wildcard or a NUL character.
    #[error("a topic that is empty, or has a wildcard or a NUL character")]
    Topic,
    /// A topic filter that is empty or has a wildcard at the wrong place.
    #[error("a topic filter that is empty or has a wildcard at the wrong place")]
    Filter,
    /// No filter, or no answer to one.
    #[error("an empty list")]
    EmptyList,
    /// Packet id 0.
    #[error("packet id 0")]
    PacketIdZero,
    /// QoS 3, or a QoS byte with other bits.
    #[error("an unknown QoS")]
    Qos,
    /// A repetition of a message of QoS 0.
    #[error("DUP with QoS 0")]
    DupWithoutQos,
    /// CONNECT flags that contradict each other or are reserved.
    #[error("the connect flags {0:#010b}")]
    ConnectFlags(u8),
    /// CONNACK flags that are reserved.
    #[error("the acknowledge flags {0:#010b}")]
    AckFlags(u8),
    /// A return code that does not exist.
    #[error("the return code {0:#04x}")]
    ReturnCode(u8),
}

/// What the first bytes of a packet tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The packet's type.
    pub kind: PacketKind,
    /// Bytes of the whole packet, this head included: what a buffer for it must hold.
    pub packet_bytes: usize,
    flags: u8,
    head_bytes: usize,
}

/// Reads the fixed header at the front of `input`, so that a caller knows how many bytes to gather. `None`: more bytes are needed
/// to tell.
///
/// A length in more bytes than it needs is taken: version 3.1.1 does not forbid it, and some small clients reserve four bytes.
///
/// # Errors
/// When no packet begins like this, or it is larger than the limits allow.
pub fn head(input: &[u8], limits: &WireLimits) -> Result<Option<Head>, DecodeError> {
    let Some((first, rest)) = input.split_first() else {
        return Ok(None);
    };
    let flags = first & 0x0f;
    let kind = PacketKind::from_number(first >> 4).ok_or(DecodeError::ReservedType(first >> 4))?;
    if !matches!(kind, PacketKind::Publish) && *first != kind.first_byte() {
        return Err(DecodeError::Flags { kind, flags });
    }
    let mut remaining = 0_usize;
    for at in 0..4_usize {
        let Some(byte) = rest.get(at) else {
            return Ok(None);
        };
        remaining |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let head_bytes = at + 2;
            let packet_bytes = head_bytes + remaining;
            let bytes_max = match kind {
                PacketKind::Connect => limits.connect_bytes_max,
                _ => limits.packet_bytes_max,
            };
            if packet_bytes > bytes_max {
                return Err(DecodeError::TooLarge { kind, bytes: packet_bytes, bytes_max });
            }
            return Ok(Some(Head { kind, packet_bytes, flags, head_bytes }));
        }
    }
    Err(DecodeError::LengthEncoding(kind))
}

/// Takes the packet at the front of `input` and moves `input` behind it. `None`: the packet is not complete, nothing was taken.
///
/// # Errors
/// When the bytes are not a packet that we take; nothing was taken, and the connection should be closed.
pub fn decode<'a>(input: &mut &'a [u8], limits: &WireLimits) -> Result<Option<Packet<'a>>, DecodeError> {
    let Some(head) = head(input, limits)? else {
        return Ok(None);
    };
    let Some((packet, rest)) = input.split_at_checked(head.packet_bytes) else {
        return Ok(None);
    };
    let mut body = Body(&packet[head.head_bytes..]);
    let packet = read(&head, &mut body).map_err(|fault| DecodeError::Malformed { kind: head.kind, fault })?;
    if !body.0.is_empty() {
        return Err(DecodeError::Malformed { kind: head.kind, fault: Fault::Trailing(body.0.len()) });
    }
    *input = rest;
    Ok(Some(packet))
}

fn read<'a>(head: &Head, body: &mut Body<'a>) -> Result<Packet<'a>, Fault> {
    Ok(match head.kind {
        PacketKind::Publish => Packet::Publish(publish(head.flags, body)?),
        PacketKind::PubAck => Packet::PubAck(body.packet_id()?),
        PacketKind::PubRec => Packet::PubRec(body.packet_id()?),
        PacketKind::PubRel => Packet::PubRel(body.packet_id()?),
        PacketKind::PubComp => Packet::PubComp(body.packet_id()?),
        PacketKind::UnsubAck => Packet::UnsubAck(body.packet_id()?),
        PacketKind::PingReq => Packet::PingReq,
        PacketKind::PingResp => Packet::PingResp,
        PacketKind::Disconnect => Packet::Disconnect,
        PacketKind::Connect => connect(body)?,
        PacketKind::ConnAck => Packet::ConnAck(conn_ack(body)?),
        PacketKind::Subscribe => {
            let id = body.packet_id()?;
            Packet::Subscribe(Subscribe { id, entries: body.filters(true)? })
        }
        PacketKind::Unsubscribe => {
            let id = body.packet_id()?;
            Packet::Unsubscribe(Unsubscribe { id, entries: body.filters(false)? })
        }
        PacketKind::SubAck => Packet::SubAck(sub_ack(body)?),
    })
}

fn publish<'a>(flags: u8, body: &mut Body<'a>) -> Result<Publish<'a>, Fault> {
    let dup = flags & 0b1000 != 0;
    let qos = Qos::from_bits((flags >> 1) & 0b11).ok_or(Fault::Qos)?;
    let topic = body.topic()?;
    let transfer = match qos {
        Qos::AtMostOnce if dup => return Err(Fault::DupWithoutQos),
        Qos::AtMostOnce => Transfer::AtMostOnce,
        Qos::AtLeastOnce => Transfer::AtLeastOnce { id: body.packet_id()?, dup },
        Qos::ExactlyOnce => Transfer::ExactlyOnce { id: body.packet_id()?, dup },
    };
    Ok(Publish { topic, payload: body.rest(), transfer, retain: flags & 1 != 0 })
}

fn connect<'a>(body: &mut Body<'a>) -> Result<Packet<'a>, Fault> {
    let protocol = body.text()?;
    let level = body.byte()?;
    if (protocol, level) != ("MQTT", 4) {
        body.rest();
        return Ok(Packet::ForeignConnect { protocol, level });
    }
    let flags = body.byte()?;
    let set = |bit: u8| flags & bit != 0;
    let (clean, has_will, will_retain, has_password, has_user) = (set(2), set(4), set(0x20), set(0x40), set(0x80));
    let will_qos = Qos::from_bits((flags >> 3) & 0b11).ok_or(Fault::Qos)?;
    let stray_will = !has_will && (will_retain || will_qos != Qos::AtMostOnce);
    if set(1) || stray_will || (has_password && !has_user) {
        return Err(Fault::ConnectFlags(flags));
    }
    let keep_alive = body.number()?;
    let client_id = body.text()?;
    let will = if has_will {
        Some(Will { topic: body.topic()?, payload: body.counted()?, qos: will_qos, retain: will_retain })
    } else {
        None
    };
    let user_name = if has_user { Some(body.text()?) } else { None };
    let password = if has_password { Some(body.counted()?) } else { None };
    Ok(Packet::Connect(Connect { client_id, clean_session: clean, keep_alive, will, user_name, password }))
}

fn conn_ack(body: &mut Body<'_>) -> Result<ConnAck, Fault> {
    let flags = body.byte()?;
    let code = body.byte()?;
    if flags > 1 {
        return Err(Fault::AckFlags(flags));
    }
    let code = ConnectReturn::from_byte(code).ok_or(Fault::ReturnCode(code))?;
    // A refusal with the flag set is against §3.2.2.2, but why we are refused matters more than the flag.
    Ok(ConnAck { session_present: flags == 1 && code == ConnectReturn::Accepted, code })
}

fn sub_ack<'a>(body: &mut Body<'a>) -> Result<SubAck<'a>, Fault> {
    let id = body.packet_id()?;
    let codes = body.rest();
    if codes.is_empty() {
        return Err(Fault::EmptyList);
    }
    match codes.iter().find(|code| Grant::from_byte(**code).is_none()) {
        Some(wrong) => Err(Fault::ReturnCode(*wrong)),
        None => Ok(SubAck { id, codes }),
    }
}

/// What of a packet is not read yet.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let (byte, rest) = self.0.split_first().ok_or(Fault::Ends)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn number(&mut self) -> Result<u16, Fault> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Fault::Ends)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    fn packet_id(&mut self) -> Result<PacketId, Fault> {
        PacketId::new(self.number()?).ok_or(Fault::PacketIdZero)
    }

    /// Bytes with their count in front.
    fn counted(&mut self) -> Result<&'a [u8], Fault> {
        let count = self.number()?;
        let (bytes, rest) = self.0.split_at_checked(usize::from(count)).ok_or(Fault::Ends)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<&'a str, Fault> {
        let text = std::str::from_utf8(self.counted()?).map_err(|_| Fault::NotUtf8)?;
        if text.as_bytes().contains(&0) { Err(Fault::Nul) } else { Ok(text) }
    }

    fn topic(&mut self) -> Result<&'a str, Fault> {
        let bytes = self.counted()?;
        if bytes.is_empty() || has_forbidden(bytes) {
            return Err(Fault::Topic);
        }
        std::str::from_utf8(bytes).map_err(|_| Fault::NotUtf8)
    }

    /// Checks the filters up to the end of the packet and returns them as they are.
    fn filters(&mut self, with_levels: bool) -> Result<&'a [u8], Fault> {
        let entries = self.0;
        if entries.is_empty() {
            return Err(Fault::EmptyList);
        }
        while !self.0.is_empty() {
            if !is_topic_filter(self.text()?) {
                return Err(Fault::Filter);
            }
            if with_levels {
                Qos::from_bits(self.byte()?).ok_or(Fault::Qos)?;
            }
        }
        Ok(entries)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests;
