//! What a cloud hub is told at its start.

use std::time::Duration;

use skerry_model::Limits;

/// How a cloud hub behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudConfig {
    /// Bounds on what clients and services may send and hold.
    pub limits: Limits,
    /// Rules of cloud-to-device messages.
    pub commands: CommandRules,
    /// How long events are kept; what is older may be trimmed. At least an hour.
    pub retention: Duration,
}

impl Default for CloudConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            commands: CommandRules::default(),
            retention: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Rules of cloud-to-device messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandRules {
    /// Life of a message whose sender gave no expiry: 1 minute to 2 days.
    pub time_to_live: Duration,
    /// Deliveries that may end without completion before a message is dropped: 1 to 100.
    pub deliveries_max: u32,
}

impl Default for CommandRules {
    fn default() -> Self {
        Self { time_to_live: Duration::from_secs(60 * 60), deliveries_max: 10 }
    }
}
