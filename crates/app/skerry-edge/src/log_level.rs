//! How much is logged: as configured, or as the manifest wants its hub to log.

use skerry_daemon::LogControl;
use tracing::Level;

/// What of this program is the hub, where agent and hub are one process.
const PLACES_OF_HUB: [&str; 7] = [
    "skerry_edge::entrances",
    "skerry_edge::local_hub",
    "skerry_edge_hub",
    "skerry_gateway",
    "skerry_listening",
    "skerry_log",
    "skerry_uplink",
];

/// The level of the running program.
pub(crate) struct LogLevel {
    control: LogControl,
    configured: String,
    /// The whole process is the hub.
    is_hub: bool,
}

impl LogLevel {
    /// As `configured`, until somebody wants something else.
    pub(crate) fn new(control: LogControl, configured: String, is_hub: bool) -> Self {
        Self { control, configured, is_hub }
    }

    /// As the operator configured it.
    pub(crate) fn configured(&self) -> &str {
        &self.configured
    }

    /// The hub logs at `level` from now on; `None`: as configured.
    pub(crate) fn hub_logs_at(&self, level: Option<Level>) {
        match (self.control.set_level(&directives(&self.configured, level, self.is_hub)), level) {
            (Err(error), _) => tracing::warn!(%error, "the log level stays as it was"),
            (Ok(()), Some(level)) => tracing::info!(%level, "the hub logs as its manifest says"),
            (Ok(()), None) => tracing::info!("the hub logs as configured"),
        }
    }
}

fn directives(configured: &str, level: Option<Level>, is_hub: bool) -> String {
    match level {
        None => configured.to_owned(),
        Some(level) if is_hub => level.to_string(),
        Some(level) => {
            let hub = PLACES_OF_HUB.map(|place| format!("{place}={level}"));
            format!("{configured},{}", hub.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_in_one_process_with_its_agent_leaves_the_agent_as_configured() {
        let one_process = directives("warn,skerry_log=debug", Some(Level::TRACE), false);
        assert!(one_process.starts_with("warn,skerry_log=debug,skerry_edge::entrances=TRACE,"), "{one_process}");
        assert!(
            one_process.ends_with("skerry_log=TRACE,skerry_uplink=TRACE"),
            "the manifest has the last word: {one_process}"
        );
        assert!(!one_process.contains("agent"));
        assert_eq!(directives("warn", Some(Level::TRACE), true), "TRACE");
        assert_eq!(directives("warn", None, true), "warn");
    }
}
