//! The demo that proves something: load, a hub that is killed, an edge that is killed, and every acknowledged message accounted for.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::manifest::{FILTER, SOURCE};
use super::world::{DEVICE, EDGE, HUB, LOAD_OUTPUT, LOAD_SINK, LOAD_TO_BOTH, LOAD_TO_HUB, Wait, World};
use crate::run::Outcome;

const LOAD: &str = "load";
const CHECK: &str = "check";
/// Messages a second of each sending module.
const RATE: u32 = 100;
const TRAFFIC: Duration = Duration::from_secs(20);
const HUB_AWAY: Duration = Duration::from_secs(15);
/// From the hub's return to the edge's death, in milliseconds, by turns: while senders connect again, while the backlog drains, after.
const EDGE_DIES_AFTER_MS: [u64; 6] = [1_500, 300, 3_000, 800, 50, 6_000];
/// Traffic after the edge's return.
const LAST_TRAFFIC: Duration = Duration::from_secs(5);
const CONNECTED_MAX: Duration = Duration::from_secs(30);
/// Everything that was acknowledged is at the hub by then.
const DRAINED_MAX: Duration = Duration::from_secs(60);
/// For reading and comparing, beyond that.
const COMPARED_MAX: Duration = Duration::from_secs(120);
/// The load waits this long at its end for acknowledgements and for its sink.
const LOAD_END_MAX: Duration = Duration::from_secs(100);

/// How far the load is.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    acknowledged: u64,
    local: u64,
    connected: u64,
}

pub(crate) fn run(world: &mut World, rounds: u32) -> Outcome {
    let mut results = Vec::new();
    for round in 1..=rounds {
        if 1 < rounds {
            println!("\n=== round {round} of {rounds}");
        }
        let result = perform(world, round)?;
        let good = result["good"] == true;
        results.push(result);
        if !good {
            return Err(format!("round {round}: a message that was acknowledged is missing or out of order"));
        }
    }
    if 1 < rounds {
        print!("\n{}", summary(&results));
    }
    Ok(())
}

/// One round; what the comparison found.
fn perform(world: &mut World, round: u32) -> Outcome<Value> {
    let clients = LOAD_TO_HUB.len() + LOAD_TO_BOTH.len() + 1;
    let mut progress = Progress::default();
    start_load(world, round)?;
    wait_until_connected(world, clients, &mut progress)?;
    world.step(&format!("{} s of traffic from the modules and from a load of {clients} more", TRAFFIC.as_secs()));
    go_on(world, TRAFFIC, &mut progress)?;

    let before = progress;
    world.kill(HUB)?;
    go_on(world, HUB_AWAY, &mut progress)?;
    let (taken, delivered) = (progress.acknowledged - before.acknowledged, progress.local - before.local);
    world.step(&format!("while the hub was away the edge took {taken} messages and delivered {delivered} locally"));
    if taken == 0 || delivered == 0 {
        return Err("the edge did not go on without its hub".to_owned());
    }
    world.start_hub()?;

    let turn = usize::try_from(round).unwrap_or_default() % EDGE_DIES_AFTER_MS.len();
    go_on(world, Duration::from_millis(EDGE_DIES_AFTER_MS[turn]), &mut progress)?;
    world.kill(EDGE)?;
    // What the load noticed before does not count as a connection with the new edge.
    progress.connected = 0;
    world.start_edge()?;
    wait_until_connected(world, clients, &mut progress)?;
    go_on(world, LAST_TRAFFIC, &mut progress)?;

    world.close_input(LOAD);
    let wait = Wait { what: "the end of the load", limit: LOAD_END_MAX };
    let ended = world.wait_for_end(LOAD, &wait, |line| hear(LOAD, line, &mut progress))?;
    world.step(&format!("the load has ended; {} messages were acknowledged", progress.acknowledged));
    if !ended.success() {
        return Err(format!("the load ended with {ended}; see {}", world.folder.text("logs/load.log")));
    }
    compare(world, round)
}

fn start_load(world: &mut World, round: u32) -> Outcome {
    let mut command = world.command("skerry-demo");
    command.args([LOAD, "--device", DEVICE, "--hub-dir", &world.folder.text("hub")]);
    command.args(["--edge", &world.edge_host(), "--trust", &world.folder.text("edge/identity/certificates/root.pem")]);
    command.args(["--senders", &[LOAD_TO_HUB, LOAD_TO_BOTH].concat().join(","), "--local", &LOAD_TO_BOTH.join(",")]);
    command.args(["--sink", LOAD_SINK, "--output", LOAD_OUTPUT, "--rate", &RATE.to_string()]);
    command.args(["--ledgers", &world.folder.text("ledgers"), "--run", &round.to_string()]);
    world.start(LOAD, &mut command)
}

fn wait_until_connected(world: &mut World, clients: usize, progress: &mut Progress) -> Outcome {
    let wait = Wait { what: "the load's modules being connected to the edge", limit: CONNECTED_MAX };
    world.wait(&wait, |who, line| {
        hear(who, line, progress);
        who == LOAD && progress.connected == clients as u64
    })?;
    world.step("the load's modules are connected");
    Ok(())
}

fn go_on(world: &mut World, time: Duration, progress: &mut Progress) -> Outcome {
    world.pause(time, |who, line| hear(who, line, progress))
}

fn hear(who: &str, line: &str, progress: &mut Progress) {
    let told = Some(line).filter(|_| who == LOAD).and_then(|line| serde_json::from_str::<Value>(line).ok());
    if let Some(told) = told {
        let count = |name: &str| told[name].as_u64().unwrap_or_default();
        *progress =
            Progress { acknowledged: count("acknowledged"), local: count("local"), connected: count("connected") };
    }
}

fn compare(world: &mut World, round: u32) -> Outcome<Value> {
    let mut command = world.command("skerry-demo");
    command.args([CHECK, "--device", DEVICE, "--hub-dir", &world.folder.text("hub")]);
    command.args(["--ledgers", &world.folder.text("ledgers"), "--run", &round.to_string()]);
    command.args(["--source", SOURCE, "--filter", FILTER, "--wait", &DRAINED_MAX.as_secs().to_string()]);
    let wait = Wait { what: "reading back and comparing", limit: DRAINED_MAX + COMPARED_MAX };
    println!();
    world.run_to_end(CHECK, &mut command, &wait, |line| println!("{line}"))?;
    let path = world.folder.path(&format!("ledgers/run-{round}.result.json"));
    let text = fs::read(&path).map_err(|cause| format!("nothing was compared: {}: {cause}", path.display()))?;
    serde_json::from_slice(&text).map_err(|cause| format!("{}: {cause}", path.display()))
}

fn summary(results: &[Value]) -> String {
    const COLUMNS: [(&str, &str, usize); 6] = [
        ("sent", "SENT", 9),
        ("acknowledged", "ACKNOWLEDGED", 14),
        ("received", "RECEIVED", 10),
        ("duplicates", "DUPLICATES", 12),
        ("missing", "MISSING", 9),
        ("disordered", "DISORDERED", 12),
    ];
    let mut text = format!("{:6}", "ROUND");
    for (_, title, width) in COLUMNS {
        text += &format!("{title:>width$}");
    }
    let mut totals = [0; COLUMNS.len()];
    let row = |name: &str, counts: &[u64]| {
        let counts = counts.iter().zip(COLUMNS).map(|(count, (_, _, width))| format!("{count:>width$}"));
        format!("\n{name:6}{}", counts.collect::<String>())
    };
    for (index, result) in results.iter().enumerate() {
        let counts = COLUMNS.map(|(name, ..)| result[name].as_u64().unwrap_or_default());
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        text += &row(&(index + 1).to_string(), &counts);
    }
    text += &row("all", &totals);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn progress_is_read_from_the_load_alone() {
        let mut progress = Progress::default();
        let line = r#"{"sent":3,"acknowledged":2,"local":1,"connected":5}"#;
        hear("skerry-hub", line, &mut progress);
        assert_eq!(progress.connected, 0);
        hear(LOAD, line, &mut progress);
        hear(LOAD, "not a progress line", &mut progress);
        assert_eq!((progress.acknowledged, progress.local, progress.connected), (2, 1, 5));
    }

    #[test]
    fn rounds_are_summed_up() {
        let round = json!({ "sent": 10, "acknowledged": 9, "received": 10, "duplicates": 1, "missing": 0 });
        let text = summary(&[round.clone(), round]);
        let all: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(all, ["all", "20", "18", "20", "2", "0", "0"]);
    }
}
