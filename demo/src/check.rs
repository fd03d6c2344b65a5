//! `skerry-demo check`: reads everything that arrived at the hub and compares it with what the ledgers say was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use skerry_dialect::own::{EventLine, Start};
use skerry_model::{ModuleName, Timestamp};
use skerry_net::Clock;
use tokio::time::Instant;

use crate::Failure;
use crate::arguments::Check;
use crate::events::Events;
use crate::hub::Hub;
use crate::numbers::{Numbers, spans};
use crate::sender::Numbered;
use crate::{ledger, outcome};

/// How long the hub holds a question open at most.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Missing messages are named in so many spans.
const SPANS_MAX: usize = 8;

/// Different times, and how many came again.
type Times = (BTreeSet<Timestamp>, u64);
type Ledgers = BTreeMap<u32, BTreeMap<String, Numbers>>;

/// What arrived at the hub in time.
struct Arrived {
    /// What the hub took later does not count.
    deadline: Timestamp,
    /// When the hub took the last of what is accounted for.
    last: Timestamp,
    /// Numbered messages, by run and sender.
    load: BTreeMap<u32, BTreeMap<String, Numbers>>,
    /// Times of measurements, and how many came again.
    measured: Times,
    /// Times of measurements that were passed on, and how many came again.
    passed: Times,
    /// From the making of this run's messages to the hub's taking them.
    latencies: Vec<Duration>,
}

/// The modules between which measurements go.
struct Chain {
    source: ModuleName,
    filter: ModuleName,
    /// What was measured later is not asked for.
    until: Timestamp,
}

pub(crate) async fn run(check: Check) -> Result<bool, Failure> {
    let hub = Hub::open(&check.place.hub_dir)?;
    let ledgers = ledger::read_all(&check.run.ledgers)?;
    let until = Clock::system().now().wall;
    let chain = check.source.clone().zip(check.filter.clone());
    let chain = chain.map(|(source, filter)| Chain { source, filter, until });
    let started = Instant::now();
    let patience = Duration::from_secs(check.wait);
    let deadline = started + patience;
    let mut arrived = Arrived::new(until.plus(patience));
    let mut events = Events::new(&hub, &check.place.device, Start::Oldest);
    let mut at_end = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = if at_end { left.min(WAIT_MAX).max(Duration::from_secs(1)) } else { Duration::ZERO };
        let batch = events.read(wait).await?;
        at_end = batch.is_empty() || at_end;
        batch.iter().for_each(|event| arrived.take(event, check.run.run, chain.as_ref()));
        let complete = at_end && arrived.is_complete(&ledgers, chain.as_ref());
        if complete || (at_end && left.is_zero()) {
            break;
        }
    }
    let report = Report::new(&check, &ledgers, arrived, chain.as_ref(), until)?;
    print!("{}", report.text);
    outcome::write(&check.run, outcome::RESULT, &report.document)?;
    Ok(report.good)
}

impl Arrived {
    fn new(deadline: Timestamp) -> Self {
        Self {
            deadline,
            last: Timestamp::default(),
            load: BTreeMap::new(),
            measured: Times::default(),
            passed: Times::default(),
            latencies: Vec::new(),
        }
    }

    fn take(&mut self, event: &EventLine, run: u32, chain: Option<&Chain>) {
        let Some(module) = event.source.module().filter(|_| event.enqueued <= self.deadline) else { return };
        let body = event.body();
        let role = chain.and_then(|chain| match module {
            module if *module == chain.source => Some(&mut self.measured),
            module if *module == chain.filter => Some(&mut self.passed),
            _ => None,
        });
        if let Some((times, repeated)) = role {
            let time = serde_json::from_slice::<Value>(&body).ok().and_then(|body| time(&body));
            *repeated += u64::from(time.is_some_and(|time| !times.insert(time)));
        } else if let Some(numbered) = Numbered::read(&body) {
            let of_run = self.load.entry(numbered.run).or_default();
            of_run.entry(module.to_string()).or_default().take(numbered.number);
            self.last = self.last.max(event.enqueued);
            if numbered.run == run {
                self.latencies.push(event.enqueued.since(numbered.time));
            }
        }
    }

    /// Whether nothing that was acknowledged is missing.
    fn is_complete(&self, ledgers: &Ledgers, chain: Option<&Chain>) -> bool {
        let has_all = |(run, senders): (&u32, &BTreeMap<String, Numbers>)| {
            senders.iter().all(|(sender, own)| own.missing_in(&self.of(*run, sender)).is_empty())
        };
        ledgers.iter().all(has_all) && self.not_passed(chain).is_empty()
    }

    fn of(&self, run: u32, sender: &str) -> Numbers {
        self.load.get(&run).and_then(|senders| senders.get(sender)).cloned().unwrap_or_default()
    }

    /// Measurements at the hub that the filter was to pass on and that did not come.
    fn not_passed(&self, chain: Option<&Chain>) -> Vec<Timestamp> {
        let until = chain.map_or(Timestamp::default(), |chain| chain.until);
        let missing = self.measured.0.iter().filter(|time| **time <= until && !self.passed.0.contains(*time));
        missing.copied().collect()
    }
}

/// When the hub had everything, beside the moment from which on it was waited for.
fn when(last: Timestamp, asked: Timestamp) -> String {
    match last.since(asked) {
        Duration::ZERO => "all was there at the end of the load".to_owned(),
        after => format!("all was there {:.1} s after the end of the load", after.as_secs_f64()),
    }
}

fn time(body: &Value) -> Option<Timestamp> {
    Timestamp::parse(body.get("time")?.as_str()?).ok()
}

/// The figures of one row.
#[derive(Debug, Clone, Default)]
struct Row {
    sent: Option<u64>,
    acknowledged: Option<u64>,
    received: u64,
    duplicates: u64,
    missing: u64,
    disordered: u64,
}

impl Row {
    fn text(&self, name: &str) -> String {
        let known = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let Self { received, duplicates, missing, disordered, .. } = self;
        let (sent, acknowledged) = (known(self.sent), known(self.acknowledged));
        format!("{name:26}{sent:>9}{acknowledged:>14}{received:>10}{duplicates:>12}{missing:>9}{disordered:>12}\n")
    }

    fn add(&mut self, other: &Self) {
        let sum = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).reduce(|a, b| a + b);
        self.sent = sum(self.sent, other.sent);
        self.acknowledged = sum(self.acknowledged, other.acknowledged);
        self.received += other.received;
        self.duplicates += other.duplicates;
        self.missing += other.missing;
        self.disordered += other.disordered;
    }

    fn to_json(&self) -> Value {
        let Self { sent, acknowledged, received, duplicates, missing, disordered } = self;
        json!({
            "sent": sent, "acknowledged": acknowledged, "received": received, "duplicates": duplicates,
            "missing": missing, "disordered": disordered,
        })
    }
}

struct Report {
    text: String,
    document: Value,
    good: bool,
}

impl Report {
    fn new(
        check: &Check,
        ledgers: &Ledgers,
        mut arrived: Arrived,
        chain: Option<&Chain>,
        asked: Timestamp,
    ) -> Result<Self, Failure> {
        let run = check.run.run;
        let load = outcome::read(&check.run, outcome::LOAD)?;
        let mut text = format!(
            "{:26}{:>9}{:>14}{:>10}{:>12}{:>9}{:>12}\n",
            "SENDER", "SENT", "ACKNOWLEDGED", "RECEIVED", "DUPLICATES", "MISSING", "DISORDERED"
        );
        let mut notes = String::new();
        let (mut total, mut all_runs) = (Row::default(), Row::default());
        for (number, senders) in ledgers {
            for (sender, own) in senders {
                let received = arrived.of(*number, sender);
                let missing = own.missing_in(&received);
                if !missing.is_empty() {
                    notes += &format!("missing of {sender} in run {number}: {}\n", spans(&missing, SPANS_MAX));
                }
                let row = Row {
                    sent: if *number == run { load["sent"][sender].as_u64() } else { None },
                    acknowledged: Some(own.distinct()),
                    received: received.distinct(),
                    duplicates: received.repeated(),
                    missing: missing.len() as u64,
                    disordered: received.disordered(),
                };
                all_runs.add(&row);
                if *number == run {
                    text += &row.text(&format!("{sender} → hub"));
                    total.add(&row);
                }
            }
        }
        for (sender, local) in load["local"].as_object().into_iter().flatten() {
            let own = ledgers.get(&run).and_then(|senders| senders.get(sender)).cloned().unwrap_or_default();
            let missing: Vec<u64> =
                local["missing"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
            if !missing.is_empty() {
                notes += &format!("missing of {sender} at the sink: {}\n", spans(&missing, SPANS_MAX));
            }
            let count = |name: &str| local[name].as_u64().unwrap_or_default();
            let row = Row {
                sent: load["sent"][sender].as_u64(),
                acknowledged: Some(own.distinct()),
                received: count("received"),
                duplicates: count("duplicates"),
                missing: missing.len() as u64,
                disordered: count("disordered"),
            };
            text += &row.text(&format!("{sender} → sink"));
            total.add(&row);
        }
        if let Some(chain) = chain {
            let (measured, passed) = (&arrived.measured, &arrived.passed);
            let not_passed = arrived.not_passed(Some(chain));
            if let (Some(first), Some(last)) = (not_passed.first(), not_passed.last()) {
                notes += &format!("measurements that {} did not pass on: from {first} to {last}\n", chain.filter);
            }
            let not_passed = not_passed.len() as u64;
            let one = |(times, repeated): &Times, missing| Row {
                received: times.len() as u64,
                duplicates: *repeated,
                missing,
                ..Row::default()
            };
            text += &one(measured, 0).text(&format!("{} → hub", chain.source));
            text += &one(passed, not_passed).text(&format!("{} → hub", chain.filter));
            total.missing += not_passed;
        }
        if 1 < ledgers.len() {
            text += &all_runs.text("all runs → hub");
        }
        let good = total.missing + all_runs.missing + total.disordered + all_runs.disordered == 0;
        arrived.latencies.sort_unstable();
        let at = |percent: usize| {
            let index = (arrived.latencies.len() * percent / 100).min(arrived.latencies.len().saturating_sub(1));
            arrived.latencies.get(index).copied().unwrap_or_default().as_millis()
        };
        text += &notes;
        text += &format!(
            "from sender to hub: median {} ms, 99 of 100 within {} ms, longest {} ms; {}\n",
            at(50),
            at(99),
            at(100),
            when(arrived.last, asked),
        );
        let mut document = total.to_json();
        document["good"] = json!(good);
        document["medianMs"] = json!(u64::try_from(at(50)).unwrap_or(u64::MAX));
        Ok(Self { text, document, good })
    }
}
