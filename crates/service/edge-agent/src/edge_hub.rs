//! What a manifest says about the edge hub, which is a program of ours and not a container.

use std::collections::BTreeMap;

use skerry_model::manifest::{Artifact, DesiredStatus};
use skerry_model::{Json, ModuleSpec};

/// What a manifest says about the edge hub, as far as it can mean something for ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeHubSettings {
    /// Whether it is to listen at all.
    pub runs: bool,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Ports: what it would listen on in a container (443, 5671, 8883), and the ports of this machine that are bound to it.
    pub ports: Vec<(u16, u16)>,
}

impl Default for EdgeHubSettings {
    fn default() -> Self {
        Self { runs: true, env: BTreeMap::new(), ports: Vec::new() }
    }
}

/// Reads the part of `spec` that can mean something for our hub: status, environment, `HostConfig.PortBindings`.
pub fn edge_hub_settings(spec: &ModuleSpec) -> EdgeHubSettings {
    let ports = match &spec.artifact {
        Artifact::Image(image) => image
            .create_options
            .get("HostConfig")
            .and_then(|host| host.get("PortBindings"))
            .and_then(Json::as_object)
            .into_iter()
            .flatten()
            .flat_map(|(inside, bindings)| port_pairs(inside, bindings))
            .collect(),
        Artifact::Process(_) => Vec::new(),
    };
    EdgeHubSettings { runs: spec.status != DesiredStatus::Stopped, env: spec.env.clone(), ports }
}

fn port_pairs(inside: &str, bindings: &Json) -> Vec<(u16, u16)> {
    let (port, protocol) = inside.split_once('/').unwrap_or((inside, "tcp"));
    let Ok(inside) = port.parse::<u16>() else { return Vec::new() };
    if !protocol.eq_ignore_ascii_case("tcp") {
        return Vec::new();
    }
    let host_ports = bindings.as_array().into_iter().flatten().filter_map(|binding| match binding.get("HostPort")? {
        Json::String(port) => port.parse().ok(),
        Json::Number(port) => port.as_u64().and_then(|port| u16::try_from(port).ok()),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    });
    host_ports.filter(|port: &u16| *port != 0).map(|port| (inside, port)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use skerry_model::ModuleName;
    use skerry_model::manifest::{ImageArtifact, PullPolicy, RestartPolicy, StartupOrder};

    use super::*;

    #[test]
    fn ports_and_status_are_read() {
        let options = json!({"HostConfig": {"PortBindings": {
            "8883/tcp": [{"HostPort": "8883"}, {"HostPort": 18883}], "443": [{"HostPort": "x"}], "53/udp": [{"HostPort": "53"}]}}});
        let spec = ModuleSpec {
            name: ModuleName::edge_hub(),
            artifact: Artifact::Image(ImageArtifact {
                image: "hub:1".to_owned(),
                digest: None,
                create_options: options.as_object().cloned().unwrap(),
                pull: PullPolicy::OnCreate,
            }),
            env: BTreeMap::from([("RuntimeLogLevel".to_owned(), "debug".to_owned())]),
            status: DesiredStatus::Stopped,
            restart: RestartPolicy::Always,
            startup_order: StartupOrder::LAST,
            version: String::new(),
        };
        let settings = edge_hub_settings(&spec);
        assert!(!settings.runs);
        assert_eq!(settings.ports, [(8883, 8883), (8883, 18883)]);
        assert_eq!(settings.env["RuntimeLogLevel"], "debug");
    }
}
