//! The hub's duty: the local hub with its durable queues, and the gateway in front of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use skerry_daemon::{DataFolder, Failure};
use skerry_edge_hub::{EdgeHub, EdgeHubConfig, EdgeParts, EdgeRoutes};
use skerry_gateway::{Entrance, Gateway, GatewayConfig, Head, Open, Serving};
use skerry_log::{Folder, LogOptions, LogThread, Queues, QueuesOptions, random_salt, system_clock};
use skerry_model::{ClientId, Timestamp};
use skerry_net::{HandshakeLimits, ListenAddress, Listener, ServerTls, TlsAcceptor};
use skerry_state::{SqliteOptions, SqliteState};
use skerry_uplink::{Boxed, SignedTokens, TokenSource};
use skerry_workload::WorkloadClient;
use tokio::sync::watch;

use crate::config::Settings;
use crate::program::Common;
use crate::view::View;

/// What modules and devices call the local hub besides its host name.
const HUB_NAME: &str = "edgeHub";
/// How long the server certificate is asked for; the authority gives less.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// The certificate is asked for anew when this part of its life is left, in percent.
const RENEW_AT_PERCENT_LEFT: u32 = 20;
/// How long to wait after a certificate could not be had, or an address could not be listened on.
const RETRY: Duration = Duration::from_secs(10);

/// Life of the tokens shown upstream: that of the device SDKs.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);

/// What the manifest and the modules' networks want of the local hub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HubWishes {
    /// It is not to listen.
    pub(crate) stopped: bool,
    /// Addresses at which modules reach this machine.
    pub(crate) addresses: Vec<IpAddr>,
}

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
        common: Arc<Common>,
        folder: &DataFolder,
        workload: WorkloadClient,
        view: &View,
        wishes: watch::Receiver<HubWishes>,
    ) -> Result<Self, Failure> {
        let workload = Arc::new(workload);
        let settings = &common.settings;
        let device = common.device.clone();
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
        let tokens = tokens(&common, workload.clone());
        let random = common.random.clone();
        let parts = EdgeParts {
            state: Arc::new(state),
            queues: queues.clone(),
            uplink: common.uplink(tokens.clone()),
            http: common.http(),
            hub_host: common.hub_host.clone(),
            tokens,
            door: door.clone(),
            clock: common.clock,
            random: Arc::new(move || random.u128()),
        };
        let mut config = EdgeHubConfig::new(device);
        config.limits.clock_skew = settings.clock_skew;
        let limits = config.limits.clone();
        let hub = EdgeHub::start(config, parts).await?;

        let hosts = vec![common.hub_host.clone(), settings.hostname.clone(), HUB_NAME.to_owned()];
        let gateway_config = GatewayConfig {
            hosts: hosts.clone(),
            limits,
            runtimes: settings.runtimes,
            connections_max: settings.connections_max,
            ..GatewayConfig::new(&common.hub_host)
        };
        let gateway = Gateway::new(Arc::new(hub.clone()), gateway_config, common.clock, door, common.random.u64());
        let serving = gateway.mount_http(Arc::new(EdgeRoutes::new(hub.clone(), hosts))).start()?;
        let (stop, stopping) = watch::channel(false);
        let front = Front { common, workload, serving, tls: None, open: BTreeMap::new() };
        let listening = tokio::spawn(front.run(hub.clone(), wishes, stopping));
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
fn tokens(common: &Common, workload: Arc<WorkloadClient>) -> Arc<dyn TokenSource> {
    let sign = signer(move |text: String| {
        let workload = workload.clone();
        async move { workload.sign(text.as_bytes()).await.map_err(|error| error.to_string()) }
    });
    Arc::new(SignedTokens::new(common.clock, TOKEN_LIFE, sign))
}

/// A signing function in the form that tokens want; whose token it is does not matter, there is one key.
fn signer<F, A>(sign: F) -> impl for<'a> Fn(&'a ClientId, String) -> Boxed<'a, Result<Vec<u8>, String>>
where
    F: Fn(String) -> A,
    A: Future<Output = Result<Vec<u8>, String>> + Send + 'static,
{
    move |_, text| Box::pin(sign(text))
}

/// Waits until the program is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Without a sender nobody is left to serve either.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The gateway's entrances: certificate and addresses follow what is wanted.
struct Front {
    common: Arc<Common>,
    workload: Arc<WorkloadClient>,
    serving: Serving,
    tls: Option<Certified>,
    open: BTreeMap<(SocketAddr, &'static str), Open>,
}

struct Certified {
    server: ServerTls,
    acceptor: TlsAcceptor,
    names: Vec<String>,
    renew_at: Timestamp,
}

impl Front {
    async fn run(mut self, hub: EdgeHub, mut wishes: watch::Receiver<HubWishes>, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = hub.configured() => {}
            () = stopped(&mut stop) => return self.close().await,
        }
        loop {
            let wanted = wishes.borrow_and_update().clone();
            let again = self.turn(&wanted).await;
            tokio::select! {
                // Without anybody to wish something else, what was wished last stands.
                Ok(()) = wishes.changed() => {}
                () = tokio::time::sleep(again) => {}
                () = stopped(&mut stop) => return self.close().await,
            }
        }
    }

    async fn close(mut self) {
        self.open.clear();
        let serving = self.serving;
        let _ = tokio::task::spawn_blocking(move || serving.stop()).await;
    }

    /// Makes entrances and certificate what they should be; answers when to look again at the latest.
    async fn turn(&mut self, wishes: &HubWishes) -> Duration {
        if wishes.stopped {
            self.open.clear();
            return RETRY;
        }
        let wanted = addresses(&self.common.settings, wishes);
        if let Err(error) = self.certify(&wanted).await {
            tracing::warn!(%error, "there is no server certificate yet");
            return RETRY;
        }
        let Some(tls) = &self.tls else { return RETRY };
        self.open.retain(|place, _| wanted.contains_key(place));
        let mut again = tls.renew_at.since(self.common.clock.now().wall).min(Duration::from_secs(3_600));
        for ((address, head), with_tls) in wanted {
            if self.open.contains_key(&(address, head)) {
                continue;
            }
            match Listener::bind(&ListenAddress::Tcp(address)) {
                Ok(listener) => {
                    let entrance = Entrance {
                        listener,
                        tls: with_tls.then(|| tls.acceptor.clone()),
                        head: if head == "https" { Head::Http } else { Head::Mqtt },
                    };
                    tracing::info!(%address, head, "listening");
                    self.open.insert((address, head), self.serving.open(entrance));
                }
                Err(error) => {
                    let cause = error.cause.to_string();
                    tracing::warn!(%error, cause, "clients cannot come in there");
                    again = RETRY;
                }
            }
        }
        again
    }

    /// Has a certificate for all names and addresses, and a new one in time.
    async fn certify(&mut self, wanted: &BTreeMap<(SocketAddr, &'static str), bool>) -> Result<(), Failure> {
        let settings = &self.common.settings;
        let mut names = vec![settings.hostname.clone(), HUB_NAME.to_owned()];
        names.extend(settings.also_known_as.iter().cloned());
        names.extend(wanted.keys().map(|(address, _)| address.ip().to_string()));
        names.dedup();
        let now = self.common.clock.now().wall;
        if self.tls.as_ref().is_some_and(|tls| tls.names == names && now < tls.renew_at) {
            return Ok(());
        }
        let others = names.get(1..).unwrap_or_default();
        let issued =
            self.workload.server_certificate(&settings.hostname, others, now.plus(CERTIFICATE_LIFETIME)).await?;
        let left = issued.expiration.since(now) * RENEW_AT_PERCENT_LEFT / 100;
        let renew_at = issued.expiration.minus(left);
        match &mut self.tls {
            Some(tls) => {
                tls.server.replace_certificate(&issued.chain_pem, &issued.key_pem)?;
                (tls.names, tls.renew_at) = (names, renew_at);
            }
            none => {
                let server = ServerTls::new(&issued.chain_pem, &issued.key_pem)?;
                let acceptor = TlsAcceptor::new(server.clone(), HandshakeLimits::default());
                *none = Some(Certified { server, acceptor, names, renew_at });
            }
        }
        Ok(())
    }
}

/// Where to listen, for what, and whether with TLS.
fn addresses(settings: &Settings, wishes: &HubWishes) -> BTreeMap<(SocketAddr, &'static str), bool> {
    let mut wanted = BTreeMap::new();
    wanted.extend(settings.mqtt.iter().map(|address| ((*address, "mqtt"), true)));
    wanted.extend(settings.https.iter().map(|address| ((*address, "https"), true)));
    wanted.extend(settings.plaintext_mqtt.iter().map(|address| ((*address, "mqtt"), false)));
    // Modules on a network of their own reach us there, at the ports everybody uses.
    for ip in &wishes.addresses {
        let ports = [(settings.mqtt.first(), "mqtt"), (settings.https.first(), "https")];
        for (port, head) in ports.into_iter().filter_map(|(address, head)| Some((address?.port(), head))) {
            wanted.insert((SocketAddr::new(*ip, port), head), true);
        }
    }
    wanted
}
