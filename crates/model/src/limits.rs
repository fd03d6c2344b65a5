//! Every bound that a wire protocol of the platform sets, by name.

use std::time::Duration;

/// Bounds on what clients may send and hold. The defaults are the platform's published limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Body plus property names and values of one telemetry message, in bytes.
    pub message_bytes_max: usize,
    /// What an MQTT packet may have on top of a message, for its topic, in bytes.
    pub topic_bytes_max: usize,
    /// Body plus properties of one cloud-to-device message, in bytes.
    pub command_bytes_max: usize,
    /// Cloud-to-device messages that wait for one device.
    pub commands_waiting_max: usize,
    /// A method's payload, each way, in bytes.
    pub method_payload_bytes_max: usize,
    /// Characters of a method's name.
    pub method_name_chars_max: usize,
    /// Method calls that wait for an answer of one client.
    pub methods_in_flight_max: usize,
    /// The desired, and the reported, section of a twin, in bytes as the platform counts them.
    pub twin_section_bytes_max: usize,
    /// The tags of a twin, in bytes as the platform counts them.
    pub twin_tags_bytes_max: usize,
    /// Levels of nesting in a twin section.
    pub twin_depth_max: usize,
    /// A key of a twin, in bytes.
    pub twin_key_bytes_max: usize,
    /// A string value of a twin, in bytes.
    pub twin_string_bytes_max: usize,
    /// Modules of one device.
    pub modules_per_device_max: usize,
    /// Body of a request to the HTTPS head, in bytes.
    pub http_body_bytes_max: usize,
    /// Subscriptions of one MQTT connection.
    pub subscriptions_max: usize,
    /// From accepting a connection to its first complete packet or request.
    pub handshake_timeout: Duration,
    /// Longest keep-alive that is honoured; 0 in CONNECT counts as this.
    pub keep_alive_max: Duration,
    /// How far a token's expiry may lie in the past.
    pub clock_skew: Duration,
    /// Messages in flight to one client before it settles some.
    pub window_messages: u32,
    /// How long a client may leave everything in flight unsettled before its connection is closed.
    pub ack_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 262_144,
            topic_bytes_max: 65_536,
            command_bytes_max: 65_536,
            commands_waiting_max: 50,
            method_payload_bytes_max: 131_072,
            method_name_chars_max: 100,
            methods_in_flight_max: 100,
            twin_section_bytes_max: 32_768,
            twin_tags_bytes_max: 8_192,
            twin_depth_max: 10,
            twin_key_bytes_max: 1_024,
            twin_string_bytes_max: 4_096,
            modules_per_device_max: 50,
            http_body_bytes_max: 1_048_576,
            subscriptions_max: 64,
            handshake_timeout: Duration::from_secs(60),
            keep_alive_max: Duration::from_secs(1_177),
            clock_skew: Duration::from_secs(300),
            window_messages: 1_000,
            ack_timeout: Duration::from_secs(30),
        }
    }
}
