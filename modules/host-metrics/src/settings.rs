//! What the operator wants, from the module's twin: how often, and which measurements.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// Groups of measurements, each a switch in the twin and a member of the body.
const GROUPS: [&str; 5] = ["cpu", "memory", "disks", "network", "temperatures"];

const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
/// Tighter would measure the measuring.
const INTERVAL_SECONDS_MIN: f64 = 0.1;
const INTERVAL_SECONDS_MAX: f64 = 86_400.0;

/// Settings that are in force.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) interval: Duration,
    pub(crate) cpu: bool,
    pub(crate) memory: bool,
    pub(crate) disks: bool,
    pub(crate) network: bool,
    pub(crate) temperatures: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { interval: INTERVAL_DEFAULT, cpu: true, memory: true, disks: true, network: true, temperatures: true }
    }
}

impl Settings {
    /// From the whole desired section, with one complaint for each member that cannot be used; such a member keeps its
    /// default, the others apply.
    pub(crate) fn from_desired(desired: &Value) -> (Settings, Vec<String>) {
        let mut settings = Settings::default();
        let mut complaints = Vec::new();
        for (name, value) in desired.as_object().into_iter().flatten() {
            match (name.as_str(), value) {
                ("intervalSeconds", value) => match value.as_f64().filter(|seconds| interval_fits(*seconds)) {
                    Some(seconds) => settings.interval = Duration::from_secs_f64(seconds),
                    None => complaints.push(format!(
                        "intervalSeconds: {value} is no number from {INTERVAL_SECONDS_MIN} to {INTERVAL_SECONDS_MAX}"
                    )),
                },
                ("metrics", Value::Object(switches)) => settings.switch(switches, &mut complaints),
                ("metrics", value) => complaints.push(format!("metrics: {value} is no object of switches")),
                // The version, and what belongs to other readers of the twin.
                _ => {}
            }
        }
        (settings, complaints)
    }

    fn switch(&mut self, switches: &Map<String, Value>, complaints: &mut Vec<String>) {
        for (name, value) in switches {
            let (Some(on), true) = (value.as_bool(), GROUPS.contains(&name.as_str())) else {
                complaints.push(format!("metrics.{name}: must be one of {} with true or false", GROUPS.join(", ")));
                continue;
            };
            match name.as_str() {
                "cpu" => self.cpu = on,
                "memory" => self.memory = on,
                "disks" => self.disks = on,
                "network" => self.network = on,
                _ => self.temperatures = on,
            }
        }
    }

    /// For the reported section: what is in force and what was not understood (null takes an older complaint away).
    pub(crate) fn to_reported(&self, complaints: &[String]) -> Value {
        let problem = if complaints.is_empty() { Value::Null } else { json!(complaints.join("; ")) };
        json!({
            "intervalSeconds": self.interval.as_secs_f64(),
            "metrics": {
                "cpu": self.cpu, "memory": self.memory, "disks": self.disks,
                "network": self.network, "temperatures": self.temperatures,
            },
            "configurationProblem": problem,
        })
    }
}

fn interval_fits(seconds: f64) -> bool {
    (INTERVAL_SECONDS_MIN..=INTERVAL_SECONDS_MAX).contains(&seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_twin_means_everything_every_five_seconds() {
        assert_eq!(Settings::from_desired(&json!({ "$version": 1 })), (Settings::default(), Vec::new()));
    }

    #[test]
    fn what_is_said_applies_and_the_rest_stays() {
        let (settings, complaints) =
            Settings::from_desired(&json!({ "intervalSeconds": 0.5, "metrics": { "disks": false, "cpu": true } }));
        assert_eq!(settings, Settings { interval: Duration::from_millis(500), disks: false, ..Settings::default() });
        assert!(complaints.is_empty());
        assert_eq!(settings.to_reported(&complaints)["metrics"]["disks"], false);
        assert_eq!(settings.to_reported(&complaints)["configurationProblem"], Value::Null);
    }

    #[test]
    fn what_cannot_be_used_is_named_and_changes_nothing() {
        for bad in [json!(0), json!(-1), json!("5"), json!(1e9), Value::Null] {
            let (settings, complaints) =
                Settings::from_desired(&json!({ "intervalSeconds": bad, "metrics": { "gpu": true } }));
            assert_eq!((settings.interval, complaints.len()), (INTERVAL_DEFAULT, 2), "{bad}");
            assert!(
                settings.to_reported(&complaints)["configurationProblem"].as_str().unwrap().contains("metrics.gpu")
            );
        }
    }
}
