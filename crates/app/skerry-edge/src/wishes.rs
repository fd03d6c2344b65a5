//! What the local hub is to do: it follows from the manifest and from the networks of the modules.

use std::net::IpAddr;

use serde_json::json;
use skerry_edge_agent::{EdgeHubSettings, HubBinding, HubProtocol};
use skerry_model::Json;
use tokio::sync::watch;
use tracing::Level;

/// What the manifest and the modules' networks want of the local hub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HubWishes {
    /// It is not to listen.
    pub(crate) stopped: bool,
    /// Addresses at which modules reach this machine.
    pub(crate) addresses: Vec<IpAddr>,
    /// How much it is to log; `None`: as configured.
    pub(crate) log_level: Option<Level>,
    /// Clients at the same time; `None`: as many as there may be connections.
    pub(crate) clients_max: Option<usize>,
    /// Where it is to listen besides the configured addresses.
    pub(crate) bindings: Vec<HubBinding>,
}

impl HubWishes {
    /// Says them to a hub in another process.
    pub(crate) fn document(&self) -> Json {
        let binding = |binding: &HubBinding| {
            json!({
                "protocol": word(binding.protocol),
                "ip": binding.ip.map(|ip| ip.to_string()),
                "port": binding.port,
            })
        };
        json!({
            "stopped": self.stopped,
            "addresses": self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "logLevel": self.log_level.map(|level| level.to_string()),
            "clientsMax": self.clients_max,
            "bindings": self.bindings.iter().map(binding).collect::<Vec<_>>(),
        })
    }

    /// Reads them; `None` when they are not understood. An agent of before the later ones does not say those.
    pub(crate) fn read(document: &Json) -> Option<Self> {
        let list = |name| document.get(name).and_then(Json::as_array).into_iter().flatten();
        let given = |name| document.get(name).filter(|value| !value.is_null());
        let address = |value: &Json| value.as_str()?.parse::<IpAddr>().ok();
        let binding = |value: &Json| {
            let ip = match value.get("ip")? {
                Json::Null => None,
                ip => Some(address(ip)?),
            };
            let port = u16::try_from(value.get("port")?.as_u64()?).ok()?;
            Some(HubBinding { protocol: protocol(value.get("protocol")?.as_str()?)?, ip, port })
        };
        Some(Self {
            stopped: document.get("stopped")?.as_bool()?,
            addresses: list("addresses").map(address).collect::<Option<_>>()?,
            log_level: match given("logLevel") {
                None => None,
                Some(level) => Some(level.as_str()?.parse().ok()?),
            },
            clients_max: match given("clientsMax") {
                None => None,
                Some(max) => Some(usize::try_from(max.as_u64()?).ok()?),
            },
            bindings: list("bindings").map(binding).collect::<Option<_>>()?,
        })
    }
}

/// The name of a protocol, in logs too.
pub(crate) fn word(protocol: HubProtocol) -> &'static str {
    match protocol {
        HubProtocol::Mqtt => "mqtt",
        HubProtocol::Https => "https",
    }
}

fn protocol(word_said: &str) -> Option<HubProtocol> {
    [HubProtocol::Mqtt, HubProtocol::Https].into_iter().find(|protocol| word(*protocol) == word_said)
}

/// Keeps `wishes` what manifest and networks say, for as long as there is an agent.
pub(crate) async fn follow(
    mut settings: watch::Receiver<EdgeHubSettings>,
    mut gateways: watch::Receiver<Vec<(&'static str, Vec<IpAddr>)>>,
    wishes: watch::Sender<HubWishes>,
) {
    loop {
        let wanted = {
            let settings = settings.borrow_and_update();
            let gateways = gateways.borrow_and_update();
            HubWishes {
                stopped: !settings.runs,
                addresses: gateways.iter().flat_map(|(_, addresses)| addresses.iter().copied()).collect(),
                log_level: settings.log_level,
                clients_max: settings.clients_max,
                bindings: settings.bindings.clone(),
            }
        };
        wishes.send_if_modified(|current| {
            let changed = *current != wanted;
            *current = wanted;
            changed
        });
        tokio::select! {
            changed = settings.changed() => if changed.is_err() { return },
            changed = gateways.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_come_through_another_process_as_they_were() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let all = HubWishes {
            stopped: true,
            addresses: vec![ip("172.18.0.1"), ip("fd00::1")],
            log_level: Some(Level::DEBUG),
            clients_max: Some(7),
            bindings: vec![
                HubBinding { protocol: HubProtocol::Mqtt, ip: None, port: 18_883 },
                HubBinding { protocol: HubProtocol::Https, ip: Some(ip("192.0.2.1")), port: 443 },
            ],
        };
        for wishes in [HubWishes::default(), all] {
            assert_eq!(HubWishes::read(&wishes.document()), Some(wishes));
        }
        let early = json!({ "stopped": false, "addresses": [] });
        assert_eq!(HubWishes::read(&early), Some(HubWishes::default()));
        for wrong in [
            json!({}),
            json!({ "stopped": false, "addresses": ["x"] }),
            json!({ "stopped": false, "logLevel": "loud" }),
            json!({ "stopped": false, "bindings": [{ "protocol": "gopher", "ip": null, "port": 1 }] }),
            json!({ "stopped": false, "bindings": [{ "protocol": "mqtt", "ip": null, "port": 65_536 }] }),
        ] {
            assert_eq!(HubWishes::read(&wrong), None, "{wrong}");
        }
    }
}
