//! Azure IoT's way to say things over MQTT, over HTTP and in REST bodies: both directions of each exchange side by side, to and
//! from the words of `skerry-model`.
//!
//! Nothing here reads a clock, a socket or a file; checking signatures is left to who holds the keys.

#![forbid(unsafe_code)]

pub mod connection_string;
pub mod error;
pub mod mqtt;
mod percent;
pub mod sas;
