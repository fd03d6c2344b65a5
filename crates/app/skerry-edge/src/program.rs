//! Starts the parts of a role in order, serves until asked to stop, ends them in reverse.

use std::sync::Arc;

use skerry_daemon::{Daemon, DataFolder, Failure};
use skerry_gateway::Door;
use skerry_model::ModuleName;
use skerry_net::ClientTls;
use skerry_net::Clock;
use skerry_net::http::{ClientLimits, HttpAddress, HttpClient};
use skerry_pki::Random;
use skerry_uplink::{Parts, TlsDial, TokenSource, Uplink, UplinkConfig};
use skerry_workload::{Environment, WorkloadClient};
use tokio::sync::watch;

use crate::Role;
use crate::agent::AgentDuty;
use crate::config::Settings;
use crate::local_hub::{HubDuty, HubWishes};

/// Version of the workload API that our own hub speaks.
const WORKLOAD_API: &str = "2022-08-03";

/// What both duties share.
pub(crate) struct Common {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) log_level: String,
    /// The hub's name without port, as it stands in tokens.
    pub(crate) hub_host: String,
    upstream_name: String,
    tls: ClientTls,
}

impl Common {
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

/// The edge's life.
pub(crate) async fn run(settings: Settings, role: Role, log_level: String, daemon: Daemon) -> Result<(), Failure> {
    let folder = DataFolder::open(&settings.data_dir)?;
    let host = skerry_dialect::connection_string::split_port(&settings.connection.host).0.to_owned();
    let target = skerry_dialect::connection_string::split_port(settings.connection.target()).0.to_owned();
    let tls = ClientTls::new(&settings.trust_pem)?;
    let common = Arc::new(Common {
        clock: Clock::system(),
        random: Random::system(),
        log_level,
        hub_host: host,
        upstream_name: target,
        tls,
        settings,
    });
    let door = Arc::new(Door::new());
    let (wishes_sender, wishes) = watch::channel(HubWishes::default());

    let agent = match role {
        Role::All | Role::Agent => Some(AgentDuty::start(common.clone(), &folder, door.clone(), wishes_sender).await?),
        Role::Hub => None,
    };
    let hub = match (role, &agent) {
        (Role::Agent, _) => None,
        (Role::All, Some(agent)) => {
            let edge_hub = ModuleName::edge_hub();
            let (socket, generation) = agent.own_socket(&edge_hub)?;
            let address = HttpAddress::parse(&format!("unix://{}", socket.display()), None)?;
            let workload = WorkloadClient::new(address, edge_hub, generation, WORKLOAD_API.to_owned());
            Some(HubDuty::start(common.clone(), &folder, workload, door, wishes).await?)
        }
        (Role::All | Role::Hub, _) => {
            let environment = Environment::read(|name| std::env::var(name).ok())?;
            let workload = WorkloadClient::from_environment(&environment)?;
            Some(HubDuty::start(common.clone(), &folder, workload, door, wishes).await?)
        }
    };

    println!("skerry-edge {} is ready as `{}`", env!("CARGO_PKG_VERSION"), common.settings.hostname);
    daemon.readiness.ready();
    daemon.shutdown.requested().await;
    tracing::info!("stopping");
    if let Some(hub) = hub {
        hub.stop().await;
    }
    if let Some(agent) = agent {
        agent.stop().await;
    }
    Ok(())
}
