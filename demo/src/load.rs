//! `skerry-demo load`: modules that send numbered messages to an edge hub, outlive it, and note what was acknowledged.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use skerry_model::{ClientId, DeviceId, ModuleName};
use skerry_net::{ClientTls, Clock};
use skerry_pki::{Random, SymmetricKey};
use skerry_uplink::{Boxed, Limits, Parts, SignedTokens, State, TlsDial, Uplink, UplinkConfig, UplinkSession};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::Failure;
use crate::arguments::Load;
use crate::board::Board;
use crate::hub::Hub;
use crate::sender::{Order, Sender};
use crate::{ledger, outcome, sink};

/// Life of a token: long enough that a run needs one.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);
/// Waits between attempts to connect while the edge is away.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// How long what is in flight at the end may take to be acknowledged.
const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(30);
/// How long the sink may take to get the rest at the end.
const LAST_DELIVERIES: Duration = Duration::from_secs(60);
/// Time between two progress lines.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

pub(crate) async fn run(load: Load) -> Result<(), Failure> {
    let uplink = uplink(&load).await?;
    let board = Board::default();
    let (notes, ledger) = ledger::start(&load.run.ledgers, load.run.run, board.clone())?;
    let (stopper, stopped) = watch::channel(false);
    std::thread::Builder::new().name("input".to_owned()).spawn(move || wait_for_end_of_input(&stopper))?;
    tokio::spawn(show_progress(board.clone()));

    let client = |name: &ModuleName| ClientId::Module(load.place.device.module(name.clone()));
    let sink_session = Arc::new(uplink.open(client(&load.sink), None));
    tokio::spawn(sink::run(sink_session.clone(), load.run.run, board.clone()));
    let mut senders = tokio::task::JoinSet::new();
    tokio::spawn(count_connection(sink_session.clone(), board.clone()));
    let mut sessions = vec![sink_session];
    for name in &load.senders {
        let session = Arc::new(uplink.open(client(name), None));
        tokio::spawn(count_connection(session.clone(), board.clone()));
        let order = Order { run: load.run.run, rate: load.rate, bytes: load.bytes, output: load.output.clone() };
        let sender = Sender::new(name.to_string(), order, session.clone(), notes.clone(), board.clone());
        senders.spawn(sender.run(stopped.clone()));
        sessions.push(session);
    }
    drop(notes);

    let mut stop = stopped.clone();
    // Whatever way the sender of this goes, the input has ended.
    let _ = stop.wait_for(|stopped| *stopped).await;
    let deadline = Instant::now() + LAST_ACKNOWLEDGEMENTS;
    while let Ok(Some(ended)) = timeout_at(deadline, senders.join_next()).await {
        ended??;
    }
    senders.shutdown().await;
    tokio::task::spawn_blocking(move || ledger.join()).await?.map_err(|_| "the ledger's thread died")?;
    let local: Vec<String> = load.local.iter().map(ModuleName::to_string).collect();
    all_delivered(&board, &local).await;
    for session in sessions {
        session.close().await;
    }
    println!("{}", board.progress().line());
    outcome::write(&load.run, outcome::LOAD, &board.outcome(&local))?;
    board.failure().map_or(Ok(()), |reason| Err(reason.into()))
}

/// One connection for each module, to the edge in place of the hub.
async fn uplink(load: &Load) -> Result<Uplink, Failure> {
    let hub = Hub::open(&load.place.hub_dir)?;
    let names = load.senders.iter().chain([&load.sink]);
    let keys = Arc::new(keys(&hub, &load.place.device, names).await?);
    let clock = Clock::system();
    let tokens =
        SignedTokens::new(clock, TOKEN_LIFE, move |client: &ClientId, text: String| sign(&keys, client, &text));
    let trust = std::fs::read_to_string(&load.trust)
        .map_err(|cause| format!("cannot read {}: {cause}", load.trust.display()))?;
    let limits = Limits { backoff_base: BACKOFF.0, backoff_max: BACKOFF.1, ..Limits::default() };
    let dial = TlsDial {
        host: load.edge.clone(),
        port: load.port,
        tls: ClientTls::new(&trust)?,
        connect_to: None,
        time_max: limits.dial_timeout,
    };
    let product = concat!("skerry-demo/", env!("CARGO_PKG_VERSION"));
    let config = UplinkConfig { limits, ..UplinkConfig::new(hub.host(), product) };
    let seed = Random::system().u64();
    Ok(Uplink::new(config, Parts { dial: Arc::new(dial), tokens: Arc::new(tokens), clock, seed }))
}

async fn keys(
    hub: &Hub,
    device: &DeviceId,
    names: impl Iterator<Item = &ModuleName>,
) -> Result<BTreeMap<ClientId, SymmetricKey>, Failure> {
    let mut keys = BTreeMap::new();
    for name in names {
        let id = device.module(name.clone());
        let key = hub.module_key(&id).await?;
        keys.insert(ClientId::Module(id), key);
    }
    Ok(keys)
}

fn sign<'a>(
    keys: &BTreeMap<ClientId, SymmetricKey>,
    client: &'a ClientId,
    text: &str,
) -> Boxed<'a, Result<Vec<u8>, String>> {
    let signature = keys.get(client).map(|key| key.sign(text.as_bytes()).to_vec());
    Box::pin(async move { signature.ok_or_else(|| format!("there is no key of {client}")) })
}

/// Whoever started the load ends it by closing its standard input, also by dying.
fn wait_for_end_of_input(stopper: &watch::Sender<bool>) {
    let mut input = std::io::stdin().lock();
    let mut bytes = [0; 64];
    while matches!(input.read(&mut bytes), Ok(1..)) {}
    stopper.send_replace(true);
}

async fn show_progress(board: Board) {
    let mut changes = board.changes();
    while changes.changed().await.is_ok() {
        println!("{}", board.progress().line());
        tokio::time::sleep(PROGRESS_EVERY).await;
    }
}

async fn count_connection(session: Arc<UplinkSession>, board: Board) {
    let mut state = session.state();
    let mut before = false;
    loop {
        let now = matches!(*state.borrow_and_update(), State::Connected { .. });
        if now != before {
            board.connected(now);
            before = now;
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until the sink has everything that was acknowledged, for a while.
async fn all_delivered(board: &Board, local: &[String]) {
    let mut changes = board.changes();
    let deadline = Instant::now() + LAST_DELIVERIES;
    while local.iter().any(|sender| !board.missing_locally(sender).is_empty()) {
        tokio::select! {
            _ = changes.changed() => {}
            () = sleep_until(deadline) => return,
        }
    }
}
