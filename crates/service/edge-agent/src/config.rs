//! What the agent is told, and what it works with.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skerry_deployment::reconcile::Policy;
use skerry_dialect::own::EdgeStatus;
use skerry_edge_identity::SocketAccess;
use skerry_model::Timestamp;
use skerry_module_runtime::ModuleRuntime;
use skerry_net::Clock;
use tokio::sync::watch;

use crate::edge_hub::EdgeHubNews;
use crate::ports::{Identities, Upstream};

/// What an operator decides, and what the program knows.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Keeps the last good manifest and what happened to modules; private to this process.
    pub data_folder: PathBuf,
    /// The name under which modules reach the edge hub.
    pub host_name: String,
    /// Where modules that share this machine's network reach it, should the name not resolve here.
    pub host_address: Option<IpAddr>,
    /// The host name of the edge above this one.
    pub parent_host: Option<String>,
    /// Given to modules as `RuntimeLogLevel`, unless the manifest says otherwise.
    pub log_level: String,
    /// Given to modules as `UpstreamProtocol`, unless the manifest says otherwise.
    pub upstream_protocol: Option<String>,
    /// The figures of restarting.
    pub policy: Policy,
    /// What is reported of the machine and this program.
    pub machine: Machine,
    /// How often everything is looked at although nothing seems to have happened.
    pub look_every: Duration,
    /// How often the whole twin is read although no patch seems to be missed.
    pub twin_every: Duration,
}

impl AgentConfig {
    /// The usual figures for an edge called `host_name`.
    pub fn new(data_folder: impl Into<PathBuf>, host_name: impl Into<String>) -> Self {
        Self {
            data_folder: data_folder.into(),
            host_name: host_name.into(),
            host_address: None,
            parent_host: None,
            log_level: "info".to_owned(),
            upstream_protocol: None,
            policy: Policy::default(),
            machine: Machine::default(),
            look_every: Duration::from_secs(60),
            twin_every: Duration::from_secs(3_600),
        }
    }
}

/// What is reported of the machine and this program.
#[derive(Debug, Clone)]
pub struct Machine {
    /// This program's version.
    pub version: String,
    /// The processor's architecture.
    pub architecture: String,
    /// When the machine started, where that is known; see [`crate::boot_time`].
    pub booted_at: Option<Timestamp>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            booted_at: None,
        }
    }
}

/// One way to run modules.
#[derive(Clone)]
pub struct RuntimePart {
    /// What runs them.
    pub runtime: Arc<dyn ModuleRuntime>,
    /// Who may open the workload sockets of its modules.
    pub access: SocketAccess,
}

/// What the agent works with.
#[derive(Clone)]
pub struct AgentParts {
    /// One for each type of module.
    pub runtimes: Vec<RuntimePart>,
    /// Who the edge and its modules are.
    pub identities: Arc<dyn Identities>,
    /// The session of `$edgeAgent`.
    pub upstream: Arc<dyn Upstream>,
    /// What time it is.
    pub clock: Clock,
    /// What the edge hub says of itself.
    pub edge_hub: watch::Receiver<EdgeHubNews>,
    /// Adds what others know to the edge's status.
    pub status: Option<StatusDetails>,
}

/// Adds what others know (the store, the connections) to the edge's status.
#[derive(Clone)]
pub struct StatusDetails(Arc<dyn Fn(&mut EdgeStatus) + Send + Sync>);

impl StatusDetails {
    /// Asks `add` each time somebody asks for the status.
    pub fn new(add: impl Fn(&mut EdgeStatus) + Send + Sync + 'static) -> Self {
        Self(Arc::new(add))
    }

    pub(crate) fn add_to(&self, status: &mut EdgeStatus) {
        (self.0)(status);
    }
}

impl fmt::Debug for StatusDetails {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("StatusDetails")
    }
}
