//! From packets to bytes, appended to the caller's buffer; a packet that cannot be written leaves the buffer as it was.

use bytes::BufMut;

use crate::packet::{ConnAck, Connect, Grant, Packet, PacketId, PacketKind, Publish, Qos, Transfer};
use crate::text::{has_forbidden, is_topic_filter};

/// Largest remaining length that four bytes can tell (§2.2.3).
const REMAINING_MAX: usize = 268_435_455;

/// Why a packet cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A text or the will's payload or the password has more than 65,535 bytes.
    #[error("a field of {0} bytes, at most 65535 fit")]
    Field(usize),
    /// The packet has more than 268,435,455 bytes behind its head.
    #[error("a packet of {0} bytes, at most 268435455 fit")]
    Packet(usize),
    /// A topic that is empty, or has a wildcard or a NUL character.
    #[error("a topic that is empty, or has a wildcard or a NUL character")]
    Topic,
    /// A topic filter that is empty or has a wildcard at the wrong place, or no filter at all.
    #[error("a topic filter that is empty or has a wildcard at the wrong place")]
    Filter,
    /// A text with a NUL character.
    #[error("a text with a NUL character")]
    Nul,
    /// A password without a user name.
    #[error("a password without a user name")]
    PasswordAlone,
}

/// Appends a PUBLISH whose topic is the given pieces one behind the other.
///
/// # Errors
/// When topic or packet are too long, or the topic is not a topic name.
pub fn publish(
    out: &mut impl BufMut,
    transfer: Transfer,
    retain: bool,
    topic: &[&str],
    payload: &[u8],
) -> Result<(), EncodeError> {
    publish_head(out, transfer, retain, topic, payload.len())?;
    out.put_slice(payload);
    Ok(())
}

/// Appends a PUBLISH up to where its payload begins; exactly `payload_bytes` bytes must follow.
///
/// # Errors
/// As [`publish`].
pub fn publish_head(
    out: &mut impl BufMut,
    transfer: Transfer,
    retain: bool,
    topic: &[&str],
    payload_bytes: usize,
) -> Result<(), EncodeError> {
    let topic_bytes: usize = topic.iter().map(|piece| piece.len()).sum();
    if topic_bytes == 0 || topic.iter().any(|piece| has_forbidden(piece.as_bytes())) {
        return Err(EncodeError::Topic);
    }
    let topic_length = field_length(topic_bytes)?;
    let (flags, id) = match transfer {
        Transfer::AtMostOnce => (0, None),
        Transfer::AtLeastOnce { id, dup } => (0b0010 | u8::from(dup) << 3, Some(id)),
        Transfer::ExactlyOnce { id, dup } => (0b0100 | u8::from(dup) << 3, Some(id)),
    };
    let id_bytes = if id.is_some() { 2 } else { 0 };
    let remaining = (2 + topic_bytes + id_bytes).saturating_add(payload_bytes);
    head(out, PacketKind::Publish.first_byte() | flags | u8::from(retain), remaining)?;
    out.put_u16(topic_length);
    for piece in topic {
        out.put_slice(piece.as_bytes());
    }
    if let Some(id) = id {
        out.put_u16(id.get());
    }
    Ok(())
}

/// Appends a PUBACK.
pub fn puback(out: &mut impl BufMut, id: PacketId) {
    with_id(out, PacketKind::PubAck, id);
}

/// Appends an UNSUBACK.
pub fn unsuback(out: &mut impl BufMut, id: PacketId) {
    with_id(out, PacketKind::UnsubAck, id);
}

/// Appends a PINGREQ.
pub fn pingreq(out: &mut impl BufMut) {
    bare(out, PacketKind::PingReq);
}

/// Appends a PINGRESP.
pub fn pingresp(out: &mut impl BufMut) {
    bare(out, PacketKind::PingResp);
}

/// Appends a DISCONNECT.
pub fn disconnect(out: &mut impl BufMut) {
    bare(out, PacketKind::Disconnect);
}

/// Appends a CONNACK.
pub fn connack(out: &mut impl BufMut, answer: ConnAck) {
    out.put_slice(&[PacketKind::ConnAck.first_byte(), 2, u8::from(answer.session_present), answer.code.byte()]);
}

/// Appends a CONNECT.
///
/// # Errors
/// When a field is too long or has a NUL, the will's topic is not a topic name, or there is a password without user name.
pub fn connect(out: &mut impl BufMut, connect: &Connect<'_>) -> Result<(), EncodeError> {
    if connect.password.is_some() && connect.user_name.is_none() {
        return Err(EncodeError::PasswordAlone);
    }
    // Protocol name, level, flags, keep-alive.
    let mut remaining = 10 + 2 + text_bytes(connect.client_id)?;
    let mut flags = u8::from(connect.clean_session) << 1;
    if let Some(will) = &connect.will {
        if will.topic.is_empty() || has_forbidden(will.topic.as_bytes()) {
            return Err(EncodeError::Topic);
        }
        field_length(will.payload.len())?;
        remaining += 4 + text_bytes(will.topic)? + will.payload.len();
        flags |= 0b100 | will.qos.bits() << 3 | u8::from(will.retain) << 5;
    }
    if let Some(name) = connect.user_name {
        remaining += 2 + text_bytes(name)?;
        flags |= 0x80;
    }
    if let Some(password) = connect.password {
        field_length(password.len())?;
        remaining += 2 + password.len();
        flags |= 0x40;
    }
    head(out, PacketKind::Connect.first_byte(), remaining)?;
    field(out, b"MQTT");
    out.put_u8(4);
    out.put_u8(flags);
    out.put_u16(connect.keep_alive);
    field(out, connect.client_id.as_bytes());
    if let Some(will) = &connect.will {
        field(out, will.topic.as_bytes());
        field(out, will.payload);
    }
    if let Some(name) = connect.user_name {
        field(out, name.as_bytes());
    }
    if let Some(password) = connect.password {
        field(out, password);
    }
    Ok(())
}

/// Appends a SUBSCRIBE for at least one filter.
///
/// # Errors
/// When there is no filter, or a text is not one.
pub fn subscribe<'a>(
    out: &mut impl BufMut,
    id: PacketId,
    filters: impl Iterator<Item = (&'a str, Qos)> + Clone,
) -> Result<(), EncodeError> {
    let bytes = filters_bytes(filters.clone().map(|(filter, _)| filter), 1)?;
    head(out, PacketKind::Subscribe.first_byte(), 2 + bytes)?;
    out.put_u16(id.get());
    for (filter, qos) in filters {
        field(out, filter.as_bytes());
        out.put_u8(qos.bits());
    }
    Ok(())
}

/// Appends an UNSUBSCRIBE for at least one filter.
///
/// # Errors
/// When there is no filter, or a text is not one.
pub fn unsubscribe<'a>(
    out: &mut impl BufMut,
    id: PacketId,
    filters: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), EncodeError> {
    let bytes = filters_bytes(filters.clone(), 0)?;
    head(out, PacketKind::Unsubscribe.first_byte(), 2 + bytes)?;
    out.put_u16(id.get());
    for filter in filters {
        field(out, filter.as_bytes());
    }
    Ok(())
}

/// Appends a SUBACK; one answer for each filter of the SUBSCRIBE.
///
/// # Errors
/// When there are more answers than a packet holds.
pub fn suback(
    out: &mut impl BufMut,
    id: PacketId,
    grants: impl Iterator<Item = Grant> + Clone,
) -> Result<(), EncodeError> {
    head(out, PacketKind::SubAck.first_byte(), 2 + grants.clone().count())?;
    out.put_u16(id.get());
    for grant in grants {
        out.put_u8(grant.byte());
    }
    Ok(())
}

/// Appends any packet.
///
/// # Errors
/// As the function for its type.
pub fn packet(out: &mut impl BufMut, packet: &Packet<'_>) -> Result<(), EncodeError> {
    match packet {
        Packet::Connect(packet) => return connect(out, packet),
        Packet::ForeignConnect { protocol, level } => {
            head(out, PacketKind::Connect.first_byte(), 2 + text_bytes(protocol)? + 1)?;
            field(out, protocol.as_bytes());
            out.put_u8(*level);
        }
        Packet::ConnAck(answer) => connack(out, *answer),
        Packet::Publish(Publish { topic, payload, transfer, retain }) => {
            return publish(out, *transfer, *retain, &[topic], payload);
        }
        Packet::PubAck(id) | Packet::PubRec(id) | Packet::PubRel(id) | Packet::PubComp(id) | Packet::UnsubAck(id) => {
            with_id(out, packet.kind(), *id);
        }
        Packet::Subscribe(packet) => return subscribe(out, packet.id, packet.filters()),
        Packet::SubAck(packet) => return suback(out, packet.id, packet.grants()),
        Packet::Unsubscribe(packet) => return unsubscribe(out, packet.id, packet.filters()),
        Packet::PingReq | Packet::PingResp | Packet::Disconnect => bare(out, packet.kind()),
    }
    Ok(())
}

fn head(out: &mut impl BufMut, first: u8, remaining: usize) -> Result<(), EncodeError> {
    if remaining > REMAINING_MAX {
        return Err(EncodeError::Packet(remaining));
    }
    let mut bytes = [first, 0, 0, 0, 0];
    let mut left = remaining;
    let mut used = 1;
    loop {
        let low = (left & 0x7f) as u8;
        left >>= 7;
        bytes[used] = if left == 0 { low } else { low | 0x80 };
        used += 1;
        if left == 0 {
            break;
        }
    }
    out.put_slice(&bytes[..used]);
    Ok(())
}

fn with_id(out: &mut impl BufMut, kind: PacketKind, id: PacketId) {
    let [high, low] = id.get().to_be_bytes();
    out.put_slice(&[kind.first_byte(), 2, high, low]);
}

fn bare(out: &mut impl BufMut, kind: PacketKind) {
    out.put_slice(&[kind.first_byte(), 0]);
}

fn field_length(bytes: usize) -> Result<u16, EncodeError> {
    u16::try_from(bytes).map_err(|_| EncodeError::Field(bytes))
}

fn text_bytes(text: &str) -> Result<usize, EncodeError> {
    if text.as_bytes().contains(&0) {
        return Err(EncodeError::Nul);
    }
    field_length(text.len()).map(usize::from)
}

fn filters_bytes<'a>(filters: impl Iterator<Item = &'a str>, extra_each: usize) -> Result<usize, EncodeError> {
    let mut bytes = 0;
    for filter in filters {
        if !is_topic_filter(filter) {
            return Err(EncodeError::Filter);
        }
        bytes += 2 + filter.len() + extra_each;
    }
    if bytes == 0 { Err(EncodeError::Filter) } else { Ok(bytes) }
}

/// Bytes with their count in front. The count was checked by [`field_length`].
fn field(out: &mut impl BufMut, bytes: &[u8]) {
    out.put_u16(bytes.len() as u16);
    out.put_slice(bytes);
}
