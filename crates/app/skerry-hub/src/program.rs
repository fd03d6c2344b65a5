//! Starts the hub's parts in order, serves until asked to stop, ends them in reverse.

use std::sync::Arc;

use skerry_cloud_api::{ApiConfig, CloudApi};
use skerry_cloud_hub::{CloudConfig, CloudHub, CloudParts, INDEXED_MEMBERS};
use skerry_daemon::{Daemon, DataFolder, Failure};
use skerry_gateway::{Door, Entrance, Gateway, GatewayConfig, Head};
use skerry_model::Limits;
use skerry_net::{Clock, HandshakeLimits, ListenAddress, Listener, ServerTls, TlsAcceptor};
use skerry_pki::{Random, files};
use skerry_state::{SqliteOptions, SqliteState};
use skerry_stream::{LocalStream, LocalStreamOptions};

use crate::config::Settings;
use crate::greeting::{CONNECTION_STRING_FILE, connection_string, greeting};
use crate::identity::server_identity;

/// The policy whose connection string is written for the owner.
const OWNER: &str = "iothubowner";

/// The hub's life.
pub(crate) async fn run(settings: Settings, daemon: Daemon) -> Result<(), Failure> {
    let folder = DataFolder::open(&settings.data_dir)?;
    let (clock, random) = (Clock::system(), Random::system());
    let identity = server_identity(folder.path(), &settings, clock.now().wall, &random)?;
    let tls = TlsAcceptor::new(ServerTls::new(&identity.chain_pem, &identity.key_pem)?, HandshakeLimits::default());

    let sqlite = SqliteOptions { indexed_members: INDEXED_MEMBERS.to_vec() };
    let state = SqliteState::open(&folder.join("registry.db"), &sqlite)?;
    let options = LocalStreamOptions {
        partitions: settings.partitions,
        bytes_max: settings.event_bytes_max,
        keep_for: Some(settings.keep),
    };
    let stream = LocalStream::open(&folder.join("events"), &options)?;
    let limits = Limits { clock_skew: settings.clock_skew, ..Limits::default() };
    let config = CloudConfig { limits: limits.clone(), retention: settings.keep, ..CloudConfig::default() };
    let parts = CloudParts { state: Arc::new(state), stream: Arc::new(stream), clock, random: random.clone() };
    let hub = CloudHub::start(config, parts).await?;
    if let Some(owner) = hub.policy(OWNER) {
        let text = connection_string(&settings, owner) + "\n";
        files::write_private(&folder.join(CONNECTION_STRING_FILE), text.as_bytes())?;
    }

    let door = Arc::new(Door::new());
    let hosts = vec![settings.name.clone()];
    let api = CloudApi::new(hub.clone(), ApiConfig { hosts: hosts.clone() }, door.clone(), random.clone());
    let config = GatewayConfig { hosts, limits, runtimes: settings.runtimes, ..GatewayConfig::new(&settings.name) };
    let gateway = Gateway::new(Arc::new(hub.clone()), config, clock, door, random.u64());
    let serving = gateway.mount_http(Arc::new(api)).start()?;
    let mut entrances = Vec::new();
    for (addresses, head) in [(&settings.mqtt, Head::Mqtt), (&settings.https, Head::Http)] {
        for address in addresses {
            let listener = Listener::bind(&ListenAddress::Tcp(*address))?;
            entrances.push(serving.open(Entrance { listener, tls: Some(tls.clone()), head }));
        }
    }

    print!("{}", greeting(&settings, folder.path()));
    daemon.readiness.ready();
    daemon.shutdown.requested().await;
    tracing::info!("stopping");
    drop(entrances);
    hub.stop().await;
    tokio::task::spawn_blocking(move || serving.stop()).await?;
    Ok(())
}
