//! `cargo xtask bench broker`: the edge hub beside Debian's mosquitto, on the same machine, in turns.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::background::{Background, load_average, median, processor_seconds, resident_bytes};
use crate::dist::install_missing;
use crate::run::{Outcome, Run};
use crate::shipped;
use crate::stage::{EDGE_PLAIN, EDGE_TLS, Stage, manifest};
use crate::workspace::Workspace;

const PAIRS_MAX: usize = 10;
const MOSQUITTO_PROGRAM: &str = "/usr/sbin/mosquitto";
const MOSQUITTO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 41, 7, 3));
const MOSQUITTO_PLAIN: SocketAddr = SocketAddr::new(MOSQUITTO, 1883);
const MOSQUITTO_TLS: SocketAddr = SocketAddr::new(MOSQUITTO, 8883);
/// On a disk that is slower than this, in microseconds a durable write, the floor says nothing about the program.
const DISK_MAX: f64 = 300.0;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Messages through the edge hub, durable before they are acknowledged, beside mosquitto in memory
    Broker(Options),
}

#[derive(Args)]
pub(crate) struct Options {
    /// Runs of each kind; medians are shown
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Measured seconds of each run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Measure the programs in this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Only these kinds
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
}

/// What is measured: with or without TLS, so many publishers and receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    #[value(name = "plaintext-1")]
    PlaintextOne,
    #[value(name = "plaintext-10")]
    PlaintextTen,
    #[value(name = "tls-1")]
    TlsOne,
    #[value(name = "tls-10")]
    TlsTen,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::PlaintextOne, Kind::PlaintextTen, Kind::TlsOne, Kind::TlsTen];

    fn tls(self) -> bool {
        matches!(self, Kind::TlsOne | Kind::TlsTen)
    }

    fn pairs(self) -> usize {
        if matches!(self, Kind::PlaintextOne | Kind::TlsOne) { 1 } else { PAIRS_MAX }
    }

    /// The least ratio to mosquitto that is accepted.
    fn floor(self) -> Option<f64> {
        match self {
            Kind::PlaintextOne => Some(1.0),
            Kind::PlaintextTen => Some(2.0),
            Kind::TlsOne | Kind::TlsTen => None,
        }
    }
}

/// What one run found; times in microseconds, memory in bytes.
#[derive(Debug, Clone, Default)]
struct Figures {
    rate: f64,
    ack_p50: f64,
    ack_p99: f64,
    duplicated: f64,
    broker_cpu: f64,
    generator_cpu: f64,
    resident: f64,
}

/// The line the load generator prints, as far as it is shown.
#[derive(Deserialize)]
struct Printed {
    messages_per_second: f64,
    ack_p50: Option<f64>,
    ack_p99: Option<f64>,
    received: f64,
    duplicated: f64,
    generator_cpu_per_message: f64,
}

#[derive(Deserialize)]
struct Disk {
    direct: bool,
    median_4k: f64,
    median_18k: f64,
}

/// A broker under load.
struct Contestant {
    name: &'static str,
    target: &'static str,
    id: u32,
    plain: SocketAddr,
    tls: SocketAddr,
    trust: PathBuf,
    credentials: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, bench: &Bench) -> Outcome {
    let Bench::Broker(options) = bench;
    install_missing(workspace, &[MOSQUITTO_PROGRAM, shipped::MUSL])?;
    let programs = match &options.programs {
        Some(programs) => programs.clone(),
        None => shipped::build(workspace)?,
    };
    let mut stage = Stage::new(workspace, "bench", &programs)?;
    stage.set_up(&manifest(json!({}), routes()), PAIRS_MAX, 0)?;
    let edge = stage.start_edge()?;
    let mosquitto = start_mosquitto(&stage)?;
    let contestants = [
        Contestant {
            name: "skerry",
            target: "skerry",
            id: edge,
            plain: EDGE_PLAIN,
            tls: EDGE_TLS,
            trust: stage.edge_trust(),
            credentials: Some(stage.credentials()),
        },
        Contestant {
            name: "mosquitto",
            target: "mosquitto",
            id: mosquitto.id(),
            plain: MOSQUITTO_PLAIN,
            tls: MOSQUITTO_TLS,
            trust: stage.folder.join("mosquitto/ca.pem"),
            credentials: None,
        },
    ];
    let wanted: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| options.only.is_empty() || options.only.contains(kind)).collect();
    let mut tables: Vec<[Vec<Figures>; 2]> = vec![Default::default(); wanted.len()];
    let (mut disks, load) = (Vec::new(), load_average());
    for number in 1..=options.runs {
        disks.push(measure_disk(&stage)?);
        for (kind, table) in wanted.iter().zip(&mut tables) {
            for (contestant, found) in contestants.iter().zip(table.iter_mut()) {
                let figures = measure(&stage, contestant, *kind, options.seconds)?;
                let name = contestant.name;
                eprintln!("run {number}, {kind:?}: {name} {:.0} messages/s", figures.rate);
                found.push(figures);
            }
        }
    }
    report(&wanted, &tables, &disks, &load)
}

/// A route from each publisher to its receiver.
fn routes() -> Value {
    let route = |at: usize| {
        let text = format!(
            "FROM /messages/modules/publisher{at}/outputs/out INTO BrokeredEndpoint(\"/modules/receiver{at}/inputs/in\")"
        );
        (format!("pair{at}"), Value::from(text))
    };
    Value::Object((0..PAIRS_MAX).map(route).collect())
}

/// QoS 1 in memory, nothing written, nothing held back.
fn start_mosquitto(stage: &Stage) -> Outcome<Background> {
    let folder = stage.folder.join("mosquitto");
    let shown = folder.to_string_lossy().into_owned();
    Run::new(stage.program("skerry-bench-broker"))
        .args(["certificate", "--out", &shown, "--name", &MOSQUITTO.to_string()])
        .go()?;
    let settings = format!(
        "user root\npersistence false\nallow_anonymous true\nlog_dest stderr\nlog_type error\nlog_type warning\n\
         max_inflight_messages 1000\nmax_queued_messages 0\nmax_queued_bytes 0\nset_tcp_nodelay true\n\
         listener {} {MOSQUITTO}\nlistener {} {MOSQUITTO}\ncertfile {shown}/server.pem\nkeyfile {shown}/server.key\n",
        MOSQUITTO_PLAIN.port(),
        MOSQUITTO_TLS.port(),
    );
    let file = folder.join("mosquitto.conf");
    fs::write(&file, settings).map_err(|cause| format!("cannot write {}: {cause}", file.display()))?;
    let mut command = Command::new(MOSQUITTO_PROGRAM);
    command.arg("-c").arg(&file);
    let mut mosquitto = Background::start("mosquitto", command, &stage.folder)?;
    mosquitto.wait_for_listener(MOSQUITTO_TLS, Duration::from_secs(20))?;
    Ok(mosquitto)
}

fn measure(stage: &Stage, contestant: &Contestant, kind: Kind, seconds: u32) -> Outcome<Figures> {
    let address = if kind.tls() { contestant.tls } else { contestant.plain };
    let mut load = Command::new(stage.program("skerry-bench-broker"));
    load.args(["run", "--target", contestant.target, "--address", &address.to_string()]);
    load.args(["--pairs", &kind.pairs().to_string(), "--warm-up", "1.5", "--seconds", &seconds.to_string()]);
    if kind.tls() {
        load.arg("--trust").arg(&contestant.trust);
    }
    if let Some(credentials) = &contestant.credentials {
        load.arg("--credentials").arg(credentials);
    }
    let before = processor_seconds(contestant.id)?;
    let output = load.output().map_err(|cause| format!("cannot start the load generator: {cause}"))?;
    let used = processor_seconds(contestant.id)? - before;
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        // What it printed tells how many messages are missing.
        return Err(format!("load on {} ({kind:?}) failed: {printed}{said}", contestant.name));
    }
    let found: Printed =
        serde_json::from_str(&printed).map_err(|cause| format!("the load generator: {cause}: {printed}"))?;
    Ok(Figures {
        rate: found.messages_per_second,
        ack_p50: found.ack_p50.unwrap_or(f64::NAN),
        ack_p99: found.ack_p99.unwrap_or(f64::NAN),
        duplicated: found.duplicated,
        broker_cpu: used * 1e6 / found.received.max(1.0),
        generator_cpu: found.generator_cpu_per_message,
        resident: resident_bytes(contestant.id)? as f64,
    })
}

/// How long durable writes take in the folder that the edge writes to.
fn measure_disk(stage: &Stage) -> Outcome<Disk> {
    let folder = stage.folder.join("edge");
    let printed =
        Run::new(stage.program("skerry-bench-broker")).args(["disk", "--folder", &folder.to_string_lossy()]).text()?;
    serde_json::from_str(&printed).map_err(|cause| format!("the disk's figures: {cause}: {printed}"))
}

/// Prints both tables; fails when a floor is broken.
fn report(kinds: &[Kind], tables: &[[Vec<Figures>; 2]], disks: &[Disk], load: &str) -> Outcome {
    let of_disks = |of: fn(&Disk) -> f64| median(disks.iter().map(of).collect()).unwrap_or(f64::NAN);
    let disk = of_disks(|disk| disk.median_4k);
    let direct = if disks.iter().all(|disk| disk.direct) { "O_DIRECT|O_DSYNC" } else { "O_DSYNC" };
    println!(
        "\nQoS 1, 256 bytes, window 64; skerry acknowledges what is on disk, mosquitto what is in memory; medians"
    );
    println!("durable write ({direct}): 4 KiB {disk:.0} µs, 18 KB {:.0} µs", of_disks(|disk| disk.median_18k));
    println!(
        "load average before {load}, after {}: what else runs here makes figures smaller and unsteady",
        load_average()
    );
    let mut broken = Vec::new();
    for tls in [false, true] {
        let rows: Vec<_> = kinds.iter().zip(tables).filter(|(kind, _)| kind.tls() == tls).collect();
        if rows.is_empty() {
            continue;
        }
        println!("\n{}", if tls { "TLS" } else { "plaintext" });
        println!(
            "                     messages/s   ack p50   ack p99  resident  broker CPU  load CPU  twice  ratio  (of single runs)"
        );
        for (kind, [ours, theirs]) in rows {
            let ratio = print_kind(*kind, ours, theirs);
            match kind.floor() {
                Some(floor) if ratio < floor => {
                    broken.push(format!(
                        "{0}→{0} is {ratio:.2} times mosquitto, at least {floor:.1} is asked for",
                        kind.pairs()
                    ));
                }
                _ => {}
            }
        }
    }
    match broken.as_slice() {
        [] => Ok(()),
        _ if DISK_MAX < disk => {
            println!("\nbelow the floor, which does not hold on a disk this slow: {}", broken.join("; "));
            Ok(())
        }
        _ => Err(broken.join("; ")),
    }
}

/// Prints the two lines of a kind; the ratio of the rates.
fn print_kind(kind: Kind, ours: &[Figures], theirs: &[Figures]) -> f64 {
    let middle = |all: &[Figures], of: fn(&Figures) -> f64| median(all.iter().map(of).collect()).unwrap_or(f64::NAN);
    let line = |name: &str, all: &[Figures]| {
        format!(
            "{0:>3}→{0:<3} {name:<10} {1:>12.0} {2:>6.2} ms {3:>6.2} ms {4:>6.1} MB {5:>8.2} µs {6:>6.2} µs {7:>6.0}",
            kind.pairs(),
            middle(all, |run| run.rate),
            middle(all, |run| run.ack_p50) / 1e3,
            middle(all, |run| run.ack_p99) / 1e3,
            middle(all, |run| run.resident) / 1e6,
            middle(all, |run| run.broker_cpu),
            middle(all, |run| run.generator_cpu),
            all.iter().map(|run| run.duplicated).sum::<f64>(),
        )
    };
    let ratio = middle(ours, |run| run.rate) / middle(theirs, |run| run.rate);
    let single: Vec<String> = ours.iter().zip(theirs).map(|(a, b)| format!("{:.2}", a.rate / b.rate)).collect();
    println!("{} {ratio:>6.2}  ({})", line("skerry", ours), single.join(" "));
    println!("{}", line("mosquitto", theirs));
    ratio
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rate: f64) -> Figures {
        Figures { rate, ..Figures::default() }
    }

    fn disk(micros: f64) -> Vec<Disk> {
        vec![Disk { direct: true, median_4k: micros, median_18k: micros }]
    }

    #[test]
    fn a_floor_holds_for_plaintext_on_a_fast_disk() {
        let report = |kind, ours, micros| {
            let tables = [[vec![figures(ours)], vec![figures(100.0)]]];
            super::report(&[kind], &tables, &disk(micros), "")
        };
        assert!(report(Kind::PlaintextOne, 100.0, 90.0).is_ok());
        let failure = report(Kind::PlaintextOne, 99.0, 90.0).unwrap_err();
        assert_eq!(failure, "1→1 is 0.99 times mosquitto, at least 1.0 is asked for");
        assert!(report(Kind::PlaintextTen, 199.0, 90.0).unwrap_err().starts_with("10→10 is 1.99"));
        assert!(report(Kind::PlaintextTen, 1.0, 301.0).is_ok());
        assert!(report(Kind::TlsTen, 1.0, 90.0).is_ok());
    }

    #[test]
    fn every_pair_has_a_route() {
        let routes = routes();
        assert_eq!(routes.as_object().unwrap().len(), PAIRS_MAX);
        assert!(routes["pair3"].as_str().unwrap().contains("/modules/receiver3/inputs/in"));
    }
}
