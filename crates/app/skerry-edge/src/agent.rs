//! The agent's duty: identities, the workload API, the module runtimes and the agent itself.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use skerry_container::{ContainerConfig, ContainerRuntime};
use skerry_daemon::{DataFolder, Failure};
use skerry_dialect::management::ManagedModule;
use skerry_edge_agent::{
    AgentConfig, AgentHandle, AgentParts, EdgeAgent, Machine, ManagementSocket, RuntimePart, SessionUpstream,
    StatusDetails, boot_time,
};
use skerry_edge_identity::{
    AuthoritySource, CallerCheck, EdgeIdentity, IdentityConfig, IdentityParts, Lifetimes, ModuleListing, SocketAccess,
};
use skerry_model::ModuleName;
use skerry_module_runtime::ModuleRuntime;
use skerry_net::{Clock, PeerCredentials};
use skerry_pki::files;
use skerry_process::{ProcessConfig, ProcessRuntime};
use tokio::sync::watch;

use crate::SUPERVISE;
use crate::beside::{Heard, HubSocket, write_environment};
use crate::surroundings::{Surroundings, WORKLOAD_API, WORKLOAD_SOCKET};
use crate::view::View;
use crate::wishes::{self, HubWishes};

/// The certificates that leaf devices have to trust are in this file of the data folder.
const CA_FILE: &str = "ca.pem";
/// Whose containers are ours: in this file of the data folder.
const CONTAINER_OWNER_FILE: &str = "container-owner";
/// First and longest wait before the first contact with the hub is tried again.
const FIRST_CONTACT_WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The agent and what serves it.
pub(crate) struct AgentDuty {
    identity: Arc<EdgeIdentity>,
    agent: EdgeAgent,
    _management: ManagementSocket,
    /// What a hub in a process of its own says.
    heard: Heard,
    hub_socket: Option<HubSocket>,
}

impl AgentDuty {
    /// Starts everything; on the very first start waits for the hub, which has to know `$edgeAgent` and `$edgeHub`. `view`: of
    /// the local hub, where it is in this process.
    pub(crate) async fn start(
        around: Arc<Surroundings>,
        folder: &DataFolder,
        view: Option<View>,
        wanted: watch::Sender<HubWishes>,
    ) -> Result<Self, Failure> {
        let runtimes = runtimes(&around, folder).await?;
        let heard = Heard::new(around.clock.now().monotonic);
        let handle: Arc<OnceLock<AgentHandle>> = Arc::default();
        let identity = Arc::new(open_identity(&around, folder, &runtimes, handle.clone())?);
        // What leaf devices have to trust, where an operator looks for it.
        files::write_public(&folder.join(CA_FILE), identity.authority().trust_bundle().as_bytes())?;
        first_contact(&identity).await;
        let own = identity.tokens(&ModuleName::edge_agent());
        let session =
            around.uplink(Arc::new(own)).open(identity.device().module(ModuleName::edge_agent()).into(), None);
        let agent_folder = folder.join("agent");
        files::private_folder(&agent_folder)?;
        let config = AgentConfig {
            host_address: around.settings.mqtt.first().map(std::net::SocketAddr::ip),
            log_level: around.log_level.configured().to_owned(),
            machine: Machine { booted_at: boot_time(), ..Machine::default() },
            ..AgentConfig::new(agent_folder, around.settings.hostname.clone())
        };
        let parts = AgentParts {
            runtimes,
            identities: identity.clone(),
            upstream: SessionUpstream::new(session, around.clock),
            clock: around.clock,
            edge_hub: view.as_ref().map_or_else(|| heard.news(), View::news),
            status: Some(details(view, heard.clone(), around.clock)),
        };
        let agent = EdgeAgent::start(config, parts)?;
        // Set once, here.
        let _ = handle.set(agent.handle());
        tokio::spawn(wishes::follow(agent.edge_hub(), agent.handle().gateways(), wanted));
        let settings = &around.settings;
        let management =
            ManagementSocket::serve(settings.agent_socket.clone(), settings.agent_socket_mode, agent.handle())?;
        Ok(Self { identity, agent, _management: management, heard, hub_socket: None })
    }

    /// The folder of the hub's workload socket, and the hub's generation.
    pub(crate) fn socket_of_hub(&self, access: SocketAccess) -> Result<(PathBuf, String), Failure> {
        let module = ModuleName::edge_hub();
        let folder = self.identity.open_socket(&module, access)?;
        let known = self.identity.known(&module).ok_or_else(|| format!("there is no identity of {module} yet"))?;
        Ok((folder, known.generation))
    }

    /// Serves a hub that is a process of its own: its identity, and `wishes`. Tells the file with the environment it is to be
    /// started with.
    pub(crate) fn serve_hub_beside(
        &mut self,
        around: &Surroundings,
        wishes: watch::Receiver<HubWishes>,
    ) -> Result<PathBuf, Failure> {
        let uid = around.settings.hub_uid;
        let access = match (uid, own_gid()) {
            (Some(uid), Some(gid)) => SocketAccess::User { uid, gid },
            _ => SocketAccess::Owner,
        };
        let (folder, generation) = self.socket_of_hub(access)?;
        self.hub_socket = Some(HubSocket::serve(&folder, uid, wishes, self.heard.clone(), around.clock)?);
        let mut variables = vec![
            ("IOTEDGE_WORKLOADURI", format!("unix://{}", folder.join(WORKLOAD_SOCKET).display())),
            ("IOTEDGE_APIVERSION", WORKLOAD_API.to_owned()),
            ("IOTEDGE_AUTHSCHEME", "sasToken".to_owned()),
            ("IOTEDGE_DEVICEID", around.device.to_string()),
            ("IOTEDGE_MODULEID", ModuleName::edge_hub().to_string()),
            ("IOTEDGE_MODULEGENERATIONID", generation),
            ("IOTEDGE_IOTHUBHOSTNAME", around.hub_host.clone()),
            ("EdgeDeviceHostName", around.settings.hostname.clone()),
        ];
        if around.upstream_name != around.hub_host {
            variables.push(("IOTEDGE_GATEWAYHOSTNAME", around.upstream_name.clone()));
        }
        write_environment(&folder, &variables)
    }

    /// Ends the agent in good order.
    pub(crate) async fn stop(self) {
        self.agent.stop().await;
    }
}

async fn runtimes(around: &Surroundings, folder: &DataFolder) -> Result<Vec<RuntimePart>, Failure> {
    let settings = &around.settings;
    let program = std::env::current_exe()?;
    let mut config =
        ProcessConfig::new(settings.modules_dir.join("process"), vec![program.into_os_string(), SUPERVISE.into()]);
    config.users = Some(settings.users.clone());
    config.control_group.clone_from(&settings.control_group);
    config.output_bytes_max = settings.output_bytes_max;
    let mut runtimes: Vec<RuntimePart> = Vec::new();
    if let Some(engine) = &settings.engine {
        let config = ContainerConfig {
            socket: engine.clone(),
            name_prefix: settings.name_prefix.clone(),
            network: settings.network.clone(),
            elevated: settings.elevated,
            ..ContainerConfig::new(container_owner(folder, around.device.as_str())?)
        };
        runtimes
            .push(RuntimePart { runtime: Arc::new(ContainerRuntime::new(config)), access: SocketAccess::Everybody });
    }
    // Modules have users of their own only where we may give them some; the folder then has to let them pass.
    let access = if own_uid() == Some(0) { SocketAccess::Everybody } else { SocketAccess::Owner };
    runtimes.push(RuntimePart { runtime: Arc::new(ProcessRuntime::open(config).await?), access });
    Ok(runtimes)
}

/// The name on our containers: that of the device this machine was first. Should it be another one later, it still knows what
/// it made before, and removes it; should this folder be lost, the same device finds its containers again.
fn container_owner(folder: &DataFolder, device: &str) -> Result<String, Failure> {
    let file = folder.join(CONTAINER_OWNER_FILE);
    let kept = files::read_text(&file)?.map(|kept| kept.trim().to_owned()).filter(|kept| !kept.is_empty());
    if let Some(kept) = kept {
        return Ok(kept);
    }
    files::write_private(&file, device.as_bytes())?;
    Ok(device.to_owned())
}

/// The user this process runs as, as the kernel shows it.
fn own_uid() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|own| own.uid())
}

/// Its group.
fn own_gid() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|own| own.gid())
}

fn open_identity(
    around: &Arc<Surroundings>,
    folder: &DataFolder,
    runtimes: &[RuntimePart],
    handle: Arc<OnceLock<AgentHandle>>,
) -> Result<EdgeIdentity, Failure> {
    let config = IdentityConfig {
        connection: around.settings.connection.clone().ok_or("the edge does not know who it is")?,
        data_folder: folder.join("identity"),
        workload_folder: around.settings.modules_dir.join("workload"),
        authority: AuthoritySource::MadeHere,
        extra_trust: None,
        lifetimes: Lifetimes::default(),
    };
    let runtimes: Vec<_> = runtimes.iter().map(|part| part.runtime.clone()).collect();
    let hub_uid = around.settings.hub_uid;
    let parts = IdentityParts {
        clock: around.clock,
        random: around.random.clone(),
        hub: around.http(),
        caller_check: CallerCheck::new(move |module, peer| is_caller(runtimes.clone(), hub_uid, module, peer)),
        modules: ModuleListing::new(move || list_modules(handle.clone())),
    };
    Ok(EdgeIdentity::open(&config, parts)?)
}

/// Whether the process at the other end is the module's: this program for system modules, or the user that runs the hub beside
/// it, else what its runtime says.
async fn is_caller(
    runtimes: Vec<Arc<dyn ModuleRuntime>>,
    hub_uid: Option<u32>,
    module: ModuleName,
    peer: PeerCredentials,
) -> bool {
    if module.is_system() {
        let is_hub = module == ModuleName::edge_hub() && hub_uid == Some(peer.uid);
        return is_hub || own_uid() == Some(peer.uid);
    }
    let Some(process) = peer.pid.and_then(|pid| u32::try_from(pid).ok()) else { return false };
    for runtime in runtimes {
        // A runtime that does not know the module, or cannot be reached, does not vouch for it.
        if runtime.is_member(&module, process).await.unwrap_or(false) {
            return true;
        }
    }
    false
}

async fn list_modules(handle: Arc<OnceLock<AgentHandle>>) -> Vec<ManagedModule> {
    match handle.get() {
        Some(handle) => handle.modules().await,
        None => Vec::new(),
    }
}

/// Tries until the hub knows our system modules; an edge that was here before goes on without.
async fn first_contact(identity: &EdgeIdentity) {
    let known =
        identity.known(&ModuleName::edge_agent()).is_some() && identity.known(&ModuleName::edge_hub()).is_some();
    if known {
        return;
    }
    let mut wait = FIRST_CONTACT_WAITS.0;
    loop {
        match identity.first_contact().await {
            Ok(()) => return,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, cause, wait_seconds = wait.as_secs(), "the hub does not know this edge yet");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(FIRST_CONTACT_WAITS.1);
    }
}

/// Adds who is connected, who was refused and what waits to the edge's status, as far as that is known.
fn details(view: Option<View>, heard: Heard, clock: Clock) -> StatusDetails {
    StatusDetails::new(move |status| {
        (status.connections, status.store) = match &view {
            Some(view) => (Some(view.door.connections()), view.store()),
            None => heard.told(clock.now().monotonic).map_or((None, None), |told| (Some(told.connections), told.store)),
        };
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn system_modules_are_we_ourselves_and_the_hub_also_its_user() {
        let own = own_uid().unwrap();
        let (hub, other) = (own + 1, own + 2);
        for (module, uid, is_it) in [
            (ModuleName::edge_hub(), own, true),
            (ModuleName::edge_hub(), hub, true),
            (ModuleName::edge_hub(), other, false),
            (ModuleName::edge_agent(), own, true),
            (ModuleName::edge_agent(), hub, false),
        ] {
            let peer = PeerCredentials { pid: None, uid, gid: 0 };
            assert_eq!(is_caller(Vec::new(), Some(hub), module.clone(), peer).await, is_it, "{module} {uid}");
        }
    }
}
