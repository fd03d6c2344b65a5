//! What a manifest wants of the edge hub, which is a program of ours and not a container, and what that hub says of itself.

use std::net::IpAddr;

use skerry_model::manifest::{Artifact, DesiredStatus};
use skerry_model::{Json, ModuleSpec};
use tracing::Level;

/// Port bindings that are read; a manifest has two or three.
const BINDINGS_MAX: usize = 32;

/// What a manifest wants of the edge hub, as far as it can mean something for ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeHubSettings {
    /// Whether it is to listen at all.
    pub runs: bool,
    /// How much it is to log; `None`: as configured.
    pub log_level: Option<Level>,
    /// Clients that may be connected at the same time, at least 1; `None`: as many as there may be connections.
    pub clients_max: Option<usize>,
    /// Where it is to listen besides the configured addresses.
    pub bindings: Vec<HubBinding>,
    /// What in the manifest means nothing here, one phrase each.
    pub remarks: Vec<String>,
}

impl Default for EdgeHubSettings {
    fn default() -> Self {
        Self { runs: true, log_level: None, clients_max: None, bindings: Vec::new(), remarks: Vec::new() }
    }
}

/// A port of this machine at which the hub is to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HubBinding {
    /// What is spoken there.
    pub protocol: HubProtocol,
    /// The address; `None`: all that the hub listens on anyway.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// What the hub speaks; always with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HubProtocol {
    /// MQTT: port 8883 of the hub's container.
    Mqtt,
    /// HTTPS: port 443 of the hub's container.
    Https,
}

/// What the edge hub says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeHubNews {
    /// It is a process of its own, and does not answer.
    pub is_away: bool,
    /// What it cannot do that it was told to, one phrase each.
    pub remarks: Vec<String>,
}

/// Reads the part of `spec` that can mean something for our hub: status, environment, `HostConfig.PortBindings`.
pub fn edge_hub_settings(spec: &ModuleSpec) -> EdgeHubSettings {
    let mut settings = EdgeHubSettings { runs: spec.status != DesiredStatus::Stopped, ..EdgeHubSettings::default() };
    settings.take_env(spec);
    if let Artifact::Image(image) = &spec.artifact {
        let bindings = image.create_options.get("HostConfig").and_then(|host| host.get("PortBindings"));
        for (inside, bindings) in bindings.and_then(Json::as_object).into_iter().flatten() {
            settings.take_port(inside, bindings);
        }
    }
    settings.bindings.sort_unstable();
    settings.bindings.dedup();
    if settings.bindings.len() > BINDINGS_MAX {
        settings.bindings.truncate(BINDINGS_MAX);
        settings.remarks.push(format!("port bindings beyond {BINDINGS_MAX} are ignored"));
    }
    settings
}

impl EdgeHubSettings {
    /// Names are compared without regard to case, as the original does (`edge-hub-routing-and-store` §8).
    fn take_env(&mut self, spec: &ModuleSpec) {
        let mut ignored = Vec::new();
        for (name, value) in &spec.env {
            let understood = match name.to_ascii_lowercase().as_str() {
                "runtimeloglevel" => {
                    self.log_level = log_level(value);
                    self.log_level.is_some()
                }
                "maxconnectedclients" => {
                    self.clients_max = value.trim().parse().ok().filter(|max| *max > 0);
                    self.clients_max.is_some()
                }
                "upstreamprotocol" => value.trim().eq_ignore_ascii_case("mqtt"),
                _ => {
                    ignored.push(name.as_str());
                    continue;
                }
            };
            if !understood {
                self.remarks.push(format!("{name}={value} means nothing here"));
            }
        }
        if !ignored.is_empty() {
            self.remarks.push(format!("ignored environment: {}", ignored.join(", ")));
        }
    }

    fn take_port(&mut self, inside: &str, bindings: &Json) {
        let protocol = match inside.to_ascii_lowercase().trim_end_matches("/tcp") {
            "8883" => HubProtocol::Mqtt,
            "443" => HubProtocol::Https,
            _ => return self.remarks.push(format!("the hub serves no port {inside}")),
        };
        for binding in bindings.as_array().into_iter().flatten() {
            match hub_binding(protocol, binding) {
                Ok(binding) => self.bindings.push(binding),
                Err(wrong) => self.remarks.push(format!("the binding of port {inside}: {wrong}")),
            }
        }
    }
}

/// The names that the original's logger knows (`edge-agent` §7).
fn log_level(value: &str) -> Option<Level> {
    Some(match value.trim().to_ascii_lowercase().as_str() {
        "fatal" | "error" => Level::ERROR,
        "warning" | "warn" => Level::WARN,
        "information" | "info" => Level::INFO,
        "debug" => Level::DEBUG,
        "verbose" => Level::TRACE,
        _ => return None,
    })
}

fn hub_binding(protocol: HubProtocol, binding: &Json) -> Result<HubBinding, String> {
    let port = match binding.get("HostPort") {
        Some(Json::String(port)) => port.parse().ok(),
        Some(Json::Number(port)) => port.as_u64().and_then(|port| u16::try_from(port).ok()),
        _ => None,
    };
    let port = port.filter(|port: &u16| *port != 0).ok_or("its HostPort is not a port from 1 to 65535")?;
    let ip = match binding.get("HostIp").and_then(Json::as_str).unwrap_or_default() {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| format!("its HostIp is not an address: {text}"))?),
    };
    Ok(HubBinding { protocol, ip: ip.filter(|ip| !ip.is_unspecified()), port })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use skerry_model::ModuleName;
    use skerry_model::manifest::{ImageArtifact, PullPolicy, RestartPolicy, StartupOrder};

    use super::*;

    fn spec(env: &[(&str, &str)], bindings: &Json) -> ModuleSpec {
        let options = json!({ "HostConfig": { "PortBindings": bindings } });
        ModuleSpec {
            name: ModuleName::edge_hub(),
            artifact: Artifact::Image(ImageArtifact {
                image: "hub:1".to_owned(),
                digest: None,
                create_options: options.as_object().cloned().unwrap(),
                pull: PullPolicy::OnCreate,
            }),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
            status: DesiredStatus::Running,
            restart: RestartPolicy::Always,
            startup_order: StartupOrder::LAST,
            version: String::new(),
        }
    }

    #[test]
    fn a_stopped_hub_does_not_run() {
        let running = spec(&[], &Json::Null);
        assert_eq!(edge_hub_settings(&running), EdgeHubSettings::default());
        assert!(!edge_hub_settings(&ModuleSpec { status: DesiredStatus::Stopped, ..running }).runs);
    }

    #[test]
    fn port_bindings_say_where_to_listen() {
        let bindings = json!({
            "8883/tcp": [{"HostPort": "8883"}, {"HostPort": 18883, "HostIp": "192.0.2.1"}, {"HostPort": "8883", "HostIp": "0.0.0.0"}],
            "443": [{"HostPort": "x"}, {"HostPort": "443", "HostIp": "::"}, {"HostPort": "443", "HostIp": "here"}],
            "5671/tcp": [{"HostPort": "5671"}], "8883/udp": [{"HostPort": "53"}]});
        let settings = edge_hub_settings(&spec(&[], &bindings));
        let at = |protocol, ip: Option<&str>, port| HubBinding { protocol, ip: ip.map(|ip| ip.parse().unwrap()), port };
        let expected = [
            at(HubProtocol::Mqtt, None, 8883),
            at(HubProtocol::Mqtt, Some("192.0.2.1"), 18883),
            at(HubProtocol::Https, None, 443),
        ];
        assert_eq!(settings.bindings, expected);
        let remarks = [
            "the binding of port 443: its HostPort is not a port from 1 to 65535",
            "the binding of port 443: its HostIp is not an address: here",
            "the hub serves no port 5671/tcp",
            "the hub serves no port 8883/udp",
        ];
        assert!(remarks.iter().all(|remark| settings.remarks.iter().any(|said| said == remark)), "{settings:?}");
        assert_eq!(settings.remarks.len(), remarks.len());
        let many: Vec<_> = (1..=40).map(|port| json!({"HostPort": port})).collect();
        let settings = edge_hub_settings(&spec(&[], &json!({ "8883/tcp": many })));
        assert_eq!((settings.bindings.len(), settings.remarks.len()), (BINDINGS_MAX, 1));
    }

    #[test]
    fn the_environment_is_honoured_or_said_to_mean_nothing() {
        let env = [("runtimeLogLevel", "Verbose"), ("MAXCONNECTEDCLIENTS", "7"), ("UpstreamProtocol", "Mqtt")];
        let settings = edge_hub_settings(&spec(&env, &Json::Null));
        assert_eq!((settings.log_level, settings.clients_max), (Some(Level::TRACE), Some(7)));
        assert!(settings.remarks.is_empty(), "{settings:?}");

        let env =
            [("RuntimeLogLevel", "loud"), ("MaxConnectedClients", "0"), ("UpstreamProtocol", "AmqpWs"), ("b", "1")];
        let settings = edge_hub_settings(&spec(&env, &Json::Null));
        assert_eq!((settings.log_level, settings.clients_max), (None, None));
        let remarks = [
            "MaxConnectedClients=0 means nothing here",
            "RuntimeLogLevel=loud means nothing here",
            "UpstreamProtocol=AmqpWs means nothing here",
            "ignored environment: b",
        ];
        assert_eq!(settings.remarks, remarks);
    }
}
