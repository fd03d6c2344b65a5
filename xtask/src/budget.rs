//! `cargo xtask budget`: size, memory, idle processor time and start of the edge as it ships, held against what was promised.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::background::{Background, anonymous_bytes, family, load_average, median, resident_bytes, threads_seconds};
use crate::dist::install_missing;
use crate::run::{Outcome, Run};
use crate::shipped;
use crate::stage::{DEVICE, EDGE_TLS, Stage, manifest};
use crate::workspace::Workspace;

const SENSOR: &str = "simulated-temperature-sensor";
const SENSORS: usize = 3;
const LEAVES: usize = 2;
const STARTS: usize = 10;
/// How long memory may grow, and how long idleness is watched.
const WATCHED: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_secs(10);
const CONNECTED_MAX: Duration = Duration::from_secs(60);

/// One promise: what was found, and the most it may be.
struct Line {
    what: &'static str,
    found: f64,
    most: f64,
    unit: &'static str,
    how: String,
}

#[derive(Args)]
pub(crate) struct Options {
    /// Measure the programs in this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Outcome {
    install_missing(workspace, &[shipped::MUSL])?;
    let programs = match &options.programs {
        Some(programs) => programs.clone(),
        None => shipped::build(workspace)?,
    };
    let edge = programs.join("skerry-edge");
    let load = load_average();
    let mut lines = vec![Line {
        what: "program",
        found: shipped::check(&edge)? as f64 / 1e6,
        most: 15.0,
        unit: "MB",
        how: format!("stripped, static; allocator: {}", allocator(&edge)?),
    }];
    let mut stage = Stage::new(workspace, "budget", &programs)?;
    let modules = modules(&stage.module_program(SENSOR)?);
    stage.set_up(&manifest(modules, json!({ "up": "FROM /messages/* INTO $upstream" })), 0, LEAVES)?;
    let id = stage.start_edge()?;
    let cli = Cli::log_in(&stage)?;
    lines.push(memory(&stage, &cli, id)?);
    lines.push(idle(&stage, &cli, id)?);
    stage.stop_edge();
    stage.stop_hub();
    lines.push(start(&stage)?);
    println!(
        "\nload average before {load}, after {}: what else runs here makes start and memory worse",
        load_average()
    );
    report(&lines)
}

fn report(lines: &[Line]) -> Outcome {
    let mut broken = Vec::new();
    for Line { what, found, most, unit, how } in lines {
        let verdict = if found <= most { "ok    " } else { "BROKEN" };
        println!("{verdict}  {what:<8} {found:>8.2} {unit:<2} of {most:>6.1} {unit:<2}  {how}");
        if found > most {
            broken.push(format!("{what} {found:.2} {unit}, at most {most} {unit}"));
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(format!("over budget: {}", broken.join("; "))) }
}

/// What hands out memory in a program, told by the words it has in it.
fn allocator(program: &Path) -> Outcome<&'static str> {
    let bytes = fs::read(program).map_err(|cause| format!("cannot read {}: {cause}", program.display()))?;
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    Ok(if has(b"mimalloc") { "mimalloc" } else { "the C library's" })
}

/// Sensors that send ten messages a second, without end.
fn modules(command: &str) -> Value {
    let sensor = json!({
        "type": "process", "status": "running", "restartPolicy": "always",
        "settings": { "command": command },
        "env": { "MessageCount": { "value": "-1" }, "MessageDelay": { "value": "00:00:00.1" } },
    });
    Value::Object((0..SENSORS).map(|at| (format!("sensor{at}"), sensor.clone())).collect())
}

/// Our processes, a minute after everybody sends.
fn memory(stage: &Stage, cli: &Cli, id: u32) -> Outcome<Line> {
    let leaves = leaves(stage, 1_000)?;
    cli.wait_for_clients(SENSORS + LEAVES)?;
    eprintln!("{SENSORS} modules and {LEAVES} leaf devices are connected and send; a minute of that");
    thread::sleep(WATCHED);
    let all = family(id);
    let bytes = all.iter().map(|id| resident_bytes(*id)).sum::<Outcome<u64>>()?;
    let (own, alone) = (resident_bytes(id)? as f64 / 1e6, anonymous_bytes(id)? as f64 / 1e6);
    leaves.stop();
    let how = format!(
        "VmRSS of {} processes ({own:.2} MB the edge, {alone:.2} MB of it not its program's file), {SENSORS} modules at 10 messages/s, {LEAVES} leaf devices, no container engine",
        all.len()
    );
    if all.len() != SENSORS + 1 {
        return Err(format!("{} supervisors were expected: {how}", SENSORS));
    }
    Ok(Line { what: "memory", found: bytes as f64 / 1e6, most: 25.0, unit: "MB", how })
}

/// Everybody connected, nobody sends.
fn idle(stage: &Stage, cli: &Cli, id: u32) -> Outcome<Line> {
    for at in 0..SENSORS {
        cli.run(&["twin", "update", &format!("{DEVICE}/sensor{at}"), "--desired", r#"{"SendData": false}"#])?;
    }
    let leaves = leaves(stage, 0)?;
    cli.wait_for_clients(SENSORS + LEAVES)?;
    eprintln!("they are silent now; a minute of that");
    thread::sleep(SETTLED);
    let all = family(id);
    let used = || all.iter().map(|id| threads_seconds(*id)).sum::<Outcome<f64>>();
    let (before, begun) = (used()?, Instant::now());
    thread::sleep(WATCHED);
    let share = (used()? - before) / begun.elapsed().as_secs_f64() * 100.0;
    leaves.stop();
    let how = format!("of one core over 60 s, {} processes, everybody connected and silent", all.len());
    Ok(Line { what: "idle", found: share, most: 0.5, unit: "%", how })
}

/// From exec to a completed TLS handshake, with the state of before and without a hub.
fn start(stage: &Stage) -> Outcome<Line> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let trust = stage.edge_trust();
        let printed = Run::new(stage.program("skerry-bench-broker"))
            .args(["start-time", "--address", &EDGE_TLS.to_string(), "--trust", &trust.to_string_lossy(), "--"])
            .args(stage.edge_command())
            .text()?;
        let found: Value = serde_json::from_str(&printed).map_err(|cause| format!("start time: {cause}: {printed}"))?;
        times.push(found["milliseconds"].as_f64().ok_or_else(|| format!("start time: {printed}"))?);
    }
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let how = format!("exec to TLS handshake, hub unreachable, median of {STARTS}; slowest {slowest:.0} ms");
    let found = median(times).ok_or("no start was measured")?;
    Ok(Line { what: "start", found, most: 300.0, unit: "ms", how })
}

/// Leaf devices that are connected, each with a message so often (milliseconds, 0 for never).
fn leaves(stage: &Stage, every: u32) -> Outcome<Background> {
    let mut command = Command::new(stage.program("skerry-bench-broker"));
    let address: SocketAddr = EDGE_TLS;
    command.args(["hold", "--address", &address.to_string(), "--every", &every.to_string()]);
    command.arg("--trust").arg(stage.edge_trust()).arg("--credentials").arg(stage.credentials());
    let name = format!("leaves-{every}");
    let mut leaves = Background::start(&name, command, &stage.folder)?;
    leaves.wait_for("ready", CONNECTED_MAX)?;
    Ok(leaves)
}

/// The command line program, logged in to the stage's hub.
struct Cli<'a>(&'a Stage);

impl Cli<'_> {
    fn log_in(stage: &Stage) -> Outcome<Cli<'_>> {
        let cli = Cli(stage);
        cli.run(&["login", "--hub-dir", &stage.hub_folder().to_string_lossy()])?;
        Ok(cli)
    }

    fn run(&self, arguments: &[&str]) -> Outcome<String> {
        Run::new(self.0.program("skerry")).args(arguments).env("SKERRY_CONFIG_DIR", self.0.folder.join("cli")).text()
    }

    /// Waits until so many are connected to the edge.
    fn wait_for_clients(&self, count: usize) -> Outcome {
        let socket = self.0.agent_socket();
        let started = Instant::now();
        loop {
            let status = self.run(&["--json", "edge", "--socket", &socket.to_string_lossy(), "status"]);
            let connected = status.as_deref().ok().and_then(|text| serde_json::from_str::<Value>(text).ok());
            let connected = connected.and_then(|status| Some(status["connections"]["connected"].as_array()?.len()));
            if connected == Some(count) {
                return Ok(());
            }
            if CONNECTED_MAX < started.elapsed() {
                return Err(format!("{connected:?} clients are connected to the edge, not {count}: {status:?}"));
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_budget_is_told() {
        let line = |found| Line { what: "memory", found, most: 25.0, unit: "MB", how: String::new() };
        assert!(report(&[line(25.0)]).is_ok());
        assert_eq!(report(&[line(24.0), line(25.5)]).unwrap_err(), "over budget: memory 25.50 MB, at most 25 MB");
    }

    #[test]
    fn sensors_send_ten_times_a_second_without_end() {
        let modules = modules("/sensor");
        assert_eq!(modules.as_object().unwrap().len(), SENSORS);
        assert_eq!(modules["sensor2"]["env"]["MessageDelay"]["value"], "00:00:00.1");
    }
}
