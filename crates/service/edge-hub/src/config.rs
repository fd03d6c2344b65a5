//! What an edge hub is told at its start.

use std::time::Duration;

use skerry_model::{DeviceId, Limits, ModuleId, ModuleName};

/// Who this edge hub is and which bounds it keeps.
#[derive(Debug, Clone)]
pub struct EdgeHubConfig {
    /// The edge device.
    pub device: DeviceId,
    /// Bounds on what clients may send and hold.
    pub limits: Limits,
    /// The cached scope is read anew this often while the hub above can be reached.
    pub scope_refresh: Duration,
    /// An identity that fails to prove itself is asked for upstream at most once in this time.
    pub identity_refresh: Duration,
    /// How long a client that connects may wait for that.
    pub identity_wait: Duration,
    /// How long a twin may take to come from upstream before the stored copy is served.
    pub twin_wait: Duration,
    /// Reported properties go upstream at most this often per client.
    pub reported_every: Duration,
    /// The connection upstream of a client that has left is kept this long.
    pub upstream_linger: Duration,
}

impl EdgeHubConfig {
    /// The defaults for the edge device `device` (`edge-hub-routing-and-store` §8).
    pub fn new(device: DeviceId) -> Self {
        Self {
            device,
            limits: Limits { keep_alive_max: Duration::from_secs(600), ..Limits::default() },
            scope_refresh: Duration::from_secs(3_600),
            identity_refresh: Duration::from_secs(120),
            identity_wait: Duration::from_secs(10),
            twin_wait: Duration::from_secs(10),
            reported_every: Duration::from_secs(1),
            upstream_linger: Duration::from_secs(60),
        }
    }

    /// `$edgeHub` of this device: who this hub is upstream.
    pub fn own_module(&self) -> ModuleId {
        self.device.module(ModuleName::edge_hub())
    }
}
