//! What an uplink is told, and every bound it keeps.

use std::time::Duration;

/// Which hub, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct UplinkConfig {
    /// The hub's name as it stands in user names and tokens, also when a gateway is dialled.
    pub hub_host: String,
    /// What the client says of itself, for diagnostics at the hub.
    pub product: String,
    /// The bounds.
    pub limits: Limits,
}

impl UplinkConfig {
    /// The hub `hub_host` with the default bounds.
    pub fn new(hub_host: impl Into<String>, product: impl Into<String>) -> Self {
        Self { hub_host: hub_host.into(), product: product.into(), limits: Limits::default() }
    }
}

/// Bounds of each session, but for [`Limits::dials_at_once`], which all sessions of an uplink share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Messages in flight: handed to a link and not acknowledged. At most 30,000.
    pub window_messages: u16,
    /// Bytes that wait to be written to the socket before a link says that it is full.
    pub out_bytes_max: usize,
    /// Body plus properties of one message, in bytes; a hub closes the connection for more.
    pub message_bytes_max: usize,
    /// Deliveries that wait to be taken or settled before the socket is not read any more.
    pub deliveries_max: usize,
    /// Bytes of deliveries that wait to be taken before the socket is not read any more.
    pub delivery_bytes_max: usize,
    /// How long the socket may stay unread for those reasons before the connection is closed, so that somebody who waits for an
    /// acknowledgement instead of taking deliveries does not wait for ever.
    pub stall_max: Duration,
    /// Twin requests that wait for an answer.
    pub requests_max: usize,
    /// Method calls that wait to be answered.
    pub methods_max: usize,
    /// How long a request waits for its answer.
    pub request_timeout: Duration,
    /// How long messages may stay unacknowledged without any progress before the connection is closed.
    pub ack_timeout: Duration,
    /// Whole seconds between two signs of life.
    pub keep_alive: Duration,
    /// For name resolution, TCP and TLS together.
    pub dial_timeout: Duration,
    /// From CONNECT to its answer, and from a ping to any sign of life.
    pub answer_timeout: Duration,
    /// How long a token may take to be signed.
    pub token_timeout: Duration,
    /// How long an orderly end waits for acknowledgements.
    pub drain_max: Duration,
    /// A connection that held this long makes the next loss count as the first.
    pub stable_after: Duration,
    /// Unit of the back-off.
    pub backoff_base: Duration,
    /// Longest wait between attempts, before jitter is added.
    pub backoff_max: Duration,
    /// The same for an identity that the hub refuses.
    pub backoff_refused_max: Duration,
    /// Connections of one uplink that are being made at the same time.
    pub dials_at_once: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_messages: 1_000,
            out_bytes_max: 1 << 20,
            message_bytes_max: 262_144,
            deliveries_max: 1_024,
            delivery_bytes_max: 8 << 20,
            stall_max: Duration::from_secs(30),
            requests_max: 64,
            methods_max: 100,
            request_timeout: Duration::from_secs(60),
            ack_timeout: Duration::from_secs(120),
            keep_alive: Duration::from_secs(60),
            dial_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(30),
            token_timeout: Duration::from_secs(30),
            drain_max: Duration::from_secs(5),
            stable_after: Duration::from_secs(30),
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            backoff_refused_max: Duration::from_secs(300),
            dials_at_once: 8,
        }
    }
}
