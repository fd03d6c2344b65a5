//! Azure IoT's way to say things over MQTT, over HTTP and in REST bodies: both directions of each exchange side by side, to and
//! from the words of `skerry-model`.
//!
//! Nothing here reads a clock, a socket or a file; checking signatures is left to who holds the keys.

#![forbid(unsafe_code)]

mod body;
pub mod connection_string;
pub mod error;
pub mod http;
pub mod identity;
pub mod management;
pub mod manifest;
pub mod mqtt;
pub mod own;
mod percent;
pub mod rest;
pub mod sas;
