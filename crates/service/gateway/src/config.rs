//! What a gateway is told at its start.

use std::time::Duration;

use skerry_model::Limits;

/// How a gateway names itself and what it allows.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The names that tokens and user names may name this hub by, the own name first. At an edge: the hub's and its own.
    pub hosts: Vec<String>,
    /// Bounds on what clients may send and hold.
    pub limits: Limits,
    /// Connection runtimes, each on a thread of its own; at least 1.
    pub runtimes: usize,
    /// Connections at the same time, on all listeners together. What comes beyond is closed at once and listed as refused.
    pub connections_max: usize,
    /// How long finding out who a client is may take before it is asked to come again.
    pub authenticate_timeout: Duration,
}

impl GatewayConfig {
    /// Default of [`GatewayConfig::connections_max`]; leaves room for files below the usual limit of 20,000.
    pub const CONNECTIONS_MAX: usize = 16_000;

    /// The defaults for a hub of the name `host`.
    pub fn new(host: &str) -> Self {
        Self {
            hosts: vec![host.to_owned()],
            limits: Limits::default(),
            runtimes: 1,
            connections_max: Self::CONNECTIONS_MAX,
            // Clients wait 30 s for CONNACK at the least.
            authenticate_timeout: Duration::from_secs(20),
        }
    }
}
