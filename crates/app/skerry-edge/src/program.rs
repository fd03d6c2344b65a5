//! Starts the parts of a role in order, serves until asked to stop, ends them in reverse.

use std::sync::Arc;

use skerry_daemon::{Daemon, DataFolder, Failure};
use skerry_edge_identity::SocketAccess;
use skerry_model::ModuleName;
use skerry_net::http::HttpAddress;
use skerry_net::{ClientTls, Clock};
use skerry_pki::Random;
use skerry_workload::{Environment, WorkloadClient};
use tokio::sync::watch;

use crate::Role;
use crate::agent::AgentDuty;
use crate::beside::follow_agent;
use crate::config::Settings;
use crate::local_hub::HubDuty;
use crate::log_level::LogLevel;
use crate::surroundings::{Surroundings, WORKLOAD_API, WORKLOAD_SOCKET};
use crate::view::View;
use crate::wishes::HubWishes;

/// The edge's life.
pub(crate) async fn run(settings: Settings, role: Role, log_level: LogLevel, daemon: Daemon) -> Result<(), Failure> {
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
    let around = Arc::new(Surroundings {
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
            let mut agent = AgentDuty::start(around.clone(), &folder, beside, wishes_sender).await?;
            let hub = if role == Role::Agent {
                let environment = agent.serve_hub_beside(&around, wishes)?;
                println!("  environment of the hub   {}", environment.display());
                None
            } else {
                let workload = own_workload(&agent)?;
                Some(HubDuty::start(around.clone(), &folder, workload, &view, wishes).await?)
            };
            (Some(agent), hub)
        }
        Some(told) => {
            let workload = WorkloadClient::from_environment(&told)?;
            let hub = HubDuty::start(around.clone(), &folder, workload, &view, wishes).await?;
            tokio::spawn(follow_agent(told.workload_uri, view, wishes_sender));
            (None, Some(hub))
        }
    };

    println!("skerry-edge {} is ready as `{}`", env!("CARGO_PKG_VERSION"), around.settings.hostname);
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
