//! MQTT 3.1.1: packets, and both ends of a connection as state machines. No socket, no clock, no meaning of topics.
//!
//! Reading: [`decode()`] takes whole packets off the front of a read buffer and borrows from it; [`head`] tells how many bytes the
//! packet at the front needs. Writing: [`encode`] appends to a `Vec<u8>` or `BytesMut`. [`server::Connection`] and
//! [`client::Connection`] keep what has to be remembered between packets.
//!
//! Section numbers in comments are those of the OASIS standard "MQTT Version 3.1.1".

#![forbid(unsafe_code)]

pub mod client;
mod decode;
pub mod encode;
mod packet;
pub mod server;
mod text;
mod unacked;
mod window;

pub use decode::{DecodeError, Fault, Head, WireLimits, decode, head};
pub use packet::{
    ConnAck, Connect, ConnectReturn, Grant, Packet, PacketId, PacketKind, Publish, Qos, SubAck, Subscribe, Transfer,
    Unsubscribe, Will,
};
pub use text::{is_topic_filter, is_topic_name};
