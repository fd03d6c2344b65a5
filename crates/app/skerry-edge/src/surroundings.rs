//! What both duties share: who the edge is, its hub above, time and chance.

use std::sync::Arc;

use skerry_model::DeviceId;
use skerry_net::http::{ClientLimits, HttpAddress, HttpClient};
use skerry_net::{ClientTls, Clock};
use skerry_pki::Random;
use skerry_uplink::{Parts, TlsDial, TokenSource, Uplink, UplinkConfig};

use crate::config::Settings;
use crate::log_level::LogLevel;

/// Version of the workload API that our own hub speaks.
pub(crate) const WORKLOAD_API: &str = "2022-08-03";
/// The name of a module's workload socket in its folder.
pub(crate) const WORKLOAD_SOCKET: &str = "workload.sock";

/// What both duties share.
pub(crate) struct Surroundings {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) log_level: LogLevel,
    pub(crate) device: DeviceId,
    /// The hub's name without port, as it stands in tokens.
    pub(crate) hub_host: String,
    /// What is connected to: that hub, or the parent that stands for it.
    pub(crate) upstream_name: String,
    pub(crate) tls: ClientTls,
}

impl Surroundings {
    /// A client of the HTTPS head of the hub above.
    pub(crate) fn http(&self) -> HttpClient {
        let address = HttpAddress::Tls {
            host: self.upstream_name.clone(),
            port: self.settings.upstream_https_port,
            tls: self.tls.clone(),
        };
        HttpClient::new(address, ClientLimits::default())
    }

    /// The hub above over MQTT, for whom `tokens` signs.
    pub(crate) fn uplink(&self, tokens: Arc<dyn TokenSource>) -> Uplink {
        let product = concat!("skerry-edge/", env!("CARGO_PKG_VERSION"));
        let config = UplinkConfig::new(self.hub_host.clone(), product);
        let dial = TlsDial {
            host: self.upstream_name.clone(),
            port: self.settings.upstream_mqtt_port,
            tls: self.tls.clone(),
            connect_to: None,
            time_max: config.limits.dial_timeout,
        };
        Uplink::new(config, Parts { dial: Arc::new(dial), tokens, clock: self.clock, seed: self.random.u64() })
    }
}
