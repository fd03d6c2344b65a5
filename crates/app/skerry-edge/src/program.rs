//! Starts the parts of a role in order, serves until asked to stop, ends them in reverse.

use std::sync::Arc;

use skerry_daemon::{Daemon, DataFolder, Failure};
use skerry_edge_identity::SocketAccess;
use skerry_model::{DeviceId, ModuleName};
use skerry_net::ClientTls;
use skerry_net::Clock;
use skerry_net::http::{ClientLimits, HttpAddress, HttpClient};
use skerry_pki::Random;
use skerry_uplink::{Parts, TlsDial, TokenSource, Uplink, UplinkConfig};
use skerry_workload::{Environment, WorkloadClient};
use tokio::sync::watch;

use crate::Role;
use crate::agent::{AgentDuty, WORKLOAD_SOCKET};
use crate::beside::follow_agent;
use crate::config::Settings;
use crate::local_hub::{HubDuty, HubWishes};
use crate::view::View;

/// Version of the workload API that our own hub speaks.
pub(crate) const WORKLOAD_API: &str = "2022-08-03";

/// What both duties share.
pub(crate) struct Common {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) log_level: String,
    pub(crate) device: DeviceId,
    /// The hub's name without port, as it stands in tokens.
    pub(crate) hub_host: String,
    /// What is connected to: that hub, or the parent that stands for it.
    pub(crate) upstream_name: String,
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
    let environment = match role {
        Role::All | Role::Agent => None,
        Role::Hub => Some(hub_environment()?),
    };
    let folder = DataFolder::open(&settings.data_dir)?;
    let (device, host, upstream) = match (&settings.connection, &environment) {
        (Some(connection), _) => (connection.client.device().clone(), connection.host.as_str(), connection.target()),
        (None, Some(told)) => {
            let host = told.hub_host.as_str();
            (told.module.device.clone(), host, told.gateway_host.as_deref().unwrap_or(host))
        }
        (None, None) => return Err("the edge does not know who it is".into()),
    };
    let without_port = |name| skerry_dialect::connection_string::split_port(name).0.to_owned();
    let common = Arc::new(Common {
        clock: Clock::system(),
        random: Random::system(),
        log_level,
        device,
        hub_host: without_port(host),
        upstream_name: without_port(upstream),
        tls: ClientTls::new(&settings.trust_pem)?,
        settings,
    });
    let view = View::default();
    let (wishes_sender, wishes) = watch::channel(HubWishes::default());

    let (agent, hub) = match environment {
        None => {
            let beside = (role == Role::All).then(|| view.clone());
            let mut agent = AgentDuty::start(common.clone(), &folder, beside, wishes_sender).await?;
            let hub = if role == Role::Agent {
                let environment = agent.serve_hub_beside(&common, wishes)?;
                println!("  environment of the hub   {}", environment.display());
                None
            } else {
                let workload = own_workload(&agent)?;
                Some(HubDuty::start(common.clone(), &folder, workload, &view, wishes).await?)
            };
            (Some(agent), hub)
        }
        Some(told) => {
            let workload = WorkloadClient::from_environment(&told)?;
            let hub = HubDuty::start(common.clone(), &folder, workload, &view, wishes).await?;
            tokio::spawn(follow_agent(told.workload_uri, view, wishes_sender));
            (None, Some(hub))
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

/// What the agent beside this hub has told it through its environment.
fn hub_environment() -> Result<Environment, Failure> {
    let told = Environment::read(|name| std::env::var(name).ok())?;
    if told.module.name != ModuleName::edge_hub() {
        return Err(format!("IOTEDGE_MODULEID is {}, which is not {}", told.module.name, ModuleName::edge_hub()).into());
    }
    Ok(told)
}

/// The workload API as the hub in this process uses it.
fn own_workload(agent: &AgentDuty) -> Result<WorkloadClient, Failure> {
    let edge_hub = ModuleName::edge_hub();
    let (folder, generation) = agent.socket_of_hub(SocketAccess::Owner)?;
    let address = HttpAddress::Unix(folder.join(WORKLOAD_SOCKET));
    Ok(WorkloadClient::new(address, edge_hub, generation, WORKLOAD_API.to_owned()))
}
