//! The hub's duty: the local hub with its durable queues, and the gateway in front of it.

use std::sync::Arc;
use std::time::Duration;

use skerry_daemon::{DataFolder, Failure};
use skerry_edge_hub::{EdgeHub, EdgeHubConfig, EdgeParts, EdgeRoutes};
use skerry_gateway::{Gateway, GatewayConfig};
use skerry_log::{Folder, LogOptions, LogThread, Queues, QueuesOptions, random_salt, system_clock};
use skerry_model::ClientId;
use skerry_state::{SqliteOptions, SqliteState};
use skerry_uplink::{Boxed, SignedTokens, TokenSource};
use skerry_workload::WorkloadClient;
use tokio::sync::watch;

use crate::entrances::{Entrances, HUB_NAME};
use crate::surroundings::Surroundings;
use crate::view::View;
use crate::wishes::HubWishes;

/// Life of the tokens shown upstream: that of the device SDKs.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);

/// The local hub and what serves it.
pub(crate) struct HubDuty {
    hub: EdgeHub,
    queues: Queues,
    thread: LogThread,
    listening: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl HubDuty {
    /// Starts everything. Clients are let in once there is a configuration.
    pub(crate) async fn start(
        around: Arc<Surroundings>,
        folder: &DataFolder,
        workload: WorkloadClient,
        view: &View,
        wishes: watch::Receiver<HubWishes>,
    ) -> Result<Self, Failure> {
        let workload = Arc::new(workload);
        let settings = &around.settings;
        let device = around.device.clone();
        let options = QueuesOptions {
            log: LogOptions { bytes_max: settings.store_bytes_max, ..LogOptions::default() },
            ..QueuesOptions::default()
        };
        let disk = Arc::new(Folder::open(folder.join("queues"))?);
        let (queues, worker) = Queues::open(disk, &options, system_clock(), random_salt())?;
        let thread = worker.spawn("queues")?;
        view.opened(queues.clone(), settings.store_bytes_max);
        let door = view.door.clone();
        let state = SqliteState::open(&folder.join("hub.db"), &SqliteOptions::default())?;
        let tokens = tokens(&around, workload.clone());
        let random = around.random.clone();
        let parts = EdgeParts {
            state: Arc::new(state),
            queues: queues.clone(),
            uplink: around.uplink(tokens.clone()),
            http: around.http(),
            hub_host: around.hub_host.clone(),
            tokens,
            door: door.clone(),
            clock: around.clock,
            random: Arc::new(move || random.u128()),
        };
        let mut config = EdgeHubConfig::new(device);
        config.limits.clock_skew = settings.clock_skew;
        let limits = config.limits.clone();
        let hub = EdgeHub::start(config, parts).await?;

        let hosts = vec![around.hub_host.clone(), settings.hostname.clone(), HUB_NAME.to_owned()];
        let gateway_config = GatewayConfig {
            hosts: hosts.clone(),
            limits,
            runtimes: settings.runtimes,
            connections_max: settings.connections_max,
            ..GatewayConfig::new(&around.hub_host)
        };
        let gateway = Gateway::new(Arc::new(hub.clone()), gateway_config, around.clock, door, around.random.u64());
        let serving = gateway.mount_http(Arc::new(EdgeRoutes::new(hub.clone(), hosts))).start()?;
        let (stop, stopping) = watch::channel(false);
        let entrances = Entrances::new(around, workload, serving, view.clone());
        let listening = tokio::spawn(entrances.run(hub.clone(), wishes, stopping));
        Ok(Self { hub, queues, thread, listening, stop })
    }

    /// Closes every connection; what was acknowledged is on disk.
    pub(crate) async fn stop(self) {
        self.hub.stop();
        self.stop.send_replace(true);
        if self.listening.await.is_err() {
            tracing::error!("what listens for clients ended in a panic");
        }
        self.queues.close();
        drop(self.queues);
        drop(self.hub);
        let thread = self.thread;
        // Its end writes what waits, which may take a moment.
        let _ = tokio::task::spawn_blocking(move || drop(thread)).await;
    }
}

/// Tokens of `$edgeHub`, signed through the workload API.
fn tokens(around: &Surroundings, workload: Arc<WorkloadClient>) -> Arc<dyn TokenSource> {
    let sign = signer(move |text: String| {
        let workload = workload.clone();
        async move { workload.sign(text.as_bytes()).await.map_err(|error| error.to_string()) }
    });
    Arc::new(SignedTokens::new(around.clock, TOKEN_LIFE, sign))
}

/// A signing function in the form that tokens want; whose token it is does not matter, there is one key.
fn signer<F, A>(sign: F) -> impl for<'a> Fn(&'a ClientId, String) -> Boxed<'a, Result<Vec<u8>, String>>
where
    F: Fn(String) -> A,
    A: Future<Output = Result<Vec<u8>, String>> + Send + 'static,
{
    move |_, text| Box::pin(sign(text))
}
