//! One measured run: pairs are connected, warmed up, measured and drained; one line of JSON says what came out.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;
use skerry_daemon::Usage;
use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use crate::credentials::{Credentials, Login, Pair};
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::load::{Progress, Publisher, Receiver, Shared};
use crate::peer::{Peer, Target};

/// How long what is under way may take to arrive when nothing more is sent.
const DRAIN_MAX: Duration = Duration::from_secs(60);
const DRAIN_STEP: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// An edge hub: clients are modules, a route leads from each publisher to its receiver.
    Skerry,
    /// Any other broker: clients are anonymous, topics are `bench/{pair}`.
    Mosquitto,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What kind of broker it is.
    #[arg(long, value_enum)]
    target: Kind,
    /// Where it listens.
    #[arg(long)]
    address: SocketAddr,
    /// PEM file with the authority of its certificate; without it, no TLS is spoken.
    #[arg(long)]
    trust: Option<PathBuf>,
    /// The name in its certificate, when that is not the address.
    #[arg(long, requires = "trust")]
    host: Option<String>,
    /// The file that `prepare` has written.
    #[arg(long, required_if_eq("target", "skerry"))]
    credentials: Option<PathBuf>,
    /// Publishers, and receivers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pairs: u16,
    /// Unacknowledged messages of each publisher.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    window: u16,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(12..=200_000))]
    payload: u32,
    /// Seconds before measuring.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds of measuring.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// What a run found; times are microseconds unless said otherwise.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    target: Kind,
    tls: bool,
    pairs: u16,
    window: u16,
    payload_bytes: u32,
    measured_seconds: f64,
    messages_per_second: f64,
    acks_measured: u64,
    ack_p50: Option<f64>,
    ack_p99: Option<f64>,
    sent: u64,
    acknowledged: u64,
    received: u64,
    /// Acknowledged and never received.
    lost: u64,
    duplicated: u64,
    received_out_of_turn: u64,
    acknowledged_out_of_turn: u64,
    /// Arrivals at the wrong receiver, or of no message that was sent.
    foreign: u64,
    drain_seconds: f64,
    generator_cpu_per_message: f64,
    errors: Vec<String>,
}

impl Outcome {
    /// Whether every acknowledged message arrived where it belongs and no connection failed.
    pub(crate) fn is_good(&self) -> bool {
        self.errors.is_empty() && self.lost == 0 && self.foreign == 0 && self.sent == self.acknowledged
    }
}

/// A publisher and a receiver, connected.
struct Connected {
    publisher: Peer,
    receiver: Peer,
    topic: String,
}

pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    let target = Target::new(options.address, options.trust.as_deref(), options.host.as_deref())?;
    let connected = connect(&options, &target).await?;
    let shared = Rc::new(Shared {
        start: Instant::now(),
        sending: Cell::new(true),
        measuring: Cell::new(false),
        acks: RefCell::new(Histogram::new()),
    });
    LocalSet::new().run_until(drive(options, target.is_tls(), connected, shared)).await
}

async fn connect(options: &Options, target: &Target) -> Result<Vec<Connected>, Failure> {
    let known = options.credentials.as_deref().map(Credentials::load).transpose()?;
    let mut connected = Vec::new();
    for at in 0..usize::from(options.pairs) {
        let (pair, filter, topic) = match options.target {
            Kind::Mosquitto => {
                let login = |side| Login::anonymous(format!("{side}{at}"));
                let pair = Pair { publisher: login("publisher"), receiver: login("receiver") };
                (pair, format!("bench/{at}"), format!("bench/{at}"))
            }
            Kind::Skerry => {
                let pair = known.as_ref().and_then(|known| known.pairs.get(at)).cloned();
                let pair = pair.ok_or_else(|| Failure::Other(format!("there are credentials for {at} pairs only")))?;
                let filter = format!("{}/inputs/#", pair.receiver.topic_prefix());
                let topic = format!("{}/messages/events/%24.on=out", pair.publisher.topic_prefix());
                (pair, filter, topic)
            }
        };
        let mut receiver = Peer::connect(target, &pair.receiver).await?;
        receiver.subscribe(&filter).await?;
        let publisher = Peer::connect(target, &pair.publisher).await?;
        connected.push(Connected { publisher, receiver, topic });
    }
    Ok(connected)
}

/// Errors of connections; the first ends the run early.
#[derive(Default)]
struct Errors {
    texts: RefCell<Vec<String>>,
    first: Notify,
}

impl Errors {
    fn add(&self, failure: &Failure) {
        self.texts.borrow_mut().push(failure.to_string());
        self.first.notify_one();
    }

    /// Waits, but not any longer than until the first error.
    async fn or_pause(&self, seconds: f64) {
        if self.texts.borrow().is_empty() {
            // Time up is the usual end.
            let _ = timeout(Duration::from_secs_f64(seconds.max(0.0)), self.first.notified()).await;
        }
    }
}

async fn drive(options: Options, tls: bool, connected: Vec<Connected>, shared: Rc<Shared>) -> Result<Outcome, Failure> {
    let errors = Rc::new(Errors::default());
    let mut pairs = Vec::new();
    let mut clients = JoinSet::new();
    let (payload, window) = (options.payload as usize, usize::from(options.window));
    for (pair, Connected { publisher, receiver, topic }) in (0_u32..).zip(connected) {
        let progress = Rc::new(Progress::default());
        pairs.push(progress.clone());
        let role = Receiver { progress: progress.clone(), pair };
        let at_end = errors.clone();
        clients.spawn_local(async move { at_end.add(&receiver.play(role).await) });
        let role = Publisher::new(shared.clone(), progress, pair, topic, payload, window);
        let at_end = errors.clone();
        clients.spawn_local(async move { at_end.add(&publisher.play(role).await) });
    }
    errors.or_pause(options.warm_up).await;
    let (before, begun) = (received(&pairs), Instant::now());
    shared.measuring.set(true);
    errors.or_pause(options.seconds).await;
    shared.measuring.set(false);
    let (measured, took) = (received(&pairs) - before, begun.elapsed().as_secs_f64());
    shared.sending.set(false);
    let draining = Instant::now();
    while !settled(&pairs) && draining.elapsed() < DRAIN_MAX && errors.texts.borrow().is_empty() {
        sleep(DRAIN_STEP).await;
    }
    let drain_seconds = draining.elapsed().as_secs_f64();
    // What is there twice may come after what was missing.
    sleep(DRAIN_STEP * 20).await;
    clients.abort_all();
    let processor = Usage::read().map_err(Failure::io("reading /proc/self"))?.processor;
    let sum = |of: &dyn Fn(&Progress) -> u64| pairs.iter().map(|pair| of(pair)).sum::<u64>();
    let acks = shared.acks.borrow();
    let micros = |nanos: u64| nanos as f64 / 1_000.0;
    let all = received(&pairs);
    let texts = errors.texts.borrow().clone();
    Ok(Outcome {
        target: options.target,
        tls,
        pairs: options.pairs,
        window: options.window,
        payload_bytes: options.payload,
        measured_seconds: took,
        messages_per_second: measured as f64 / took,
        acks_measured: acks.total(),
        ack_p50: acks.quantile(0.5).map(micros),
        ack_p99: acks.quantile(0.99).map(micros),
        sent: sum(&|pair| pair.sent.get()),
        acknowledged: sum(&|pair| pair.acknowledged.get()),
        received: all,
        lost: sum(&|pair| pair.acknowledged.get().saturating_sub(pair.received.borrow().distinct())),
        duplicated: sum(&|pair| pair.received.borrow().duplicates),
        received_out_of_turn: sum(&|pair| pair.received.borrow().out_of_turn),
        acknowledged_out_of_turn: sum(&|pair| pair.acknowledged_out_of_turn.get()),
        foreign: sum(&|pair| pair.foreign.get()),
        drain_seconds,
        generator_cpu_per_message: processor.as_secs_f64() * 1e6 / all.max(1) as f64,
        errors: texts,
    })
}

fn received(pairs: &[Rc<Progress>]) -> u64 {
    pairs.iter().map(|pair| pair.received.borrow().distinct()).sum()
}

/// Everything sent is acknowledged, and has arrived.
fn settled(pairs: &[Rc<Progress>]) -> bool {
    pairs.iter().all(|pair| {
        let sent = pair.sent.get();
        pair.acknowledged.get() == sent && pair.received.borrow().distinct() == sent
    })
}
