//! `skerry-demo watch`: shows what arrives at the hub as it does, with the time since it was measured.

use std::time::Duration;

use serde_json::Value;
use skerry_dialect::own::{EventLine, Start};
use skerry_model::Timestamp;
use skerry_net::Clock;

use crate::arguments::Watch;
use crate::events::Events;
use crate::hub::Hub;
use crate::{Failure, with_causes};

/// How long the hub holds a question open.
const WAIT: Duration = Duration::from_secs(20);
/// Pause before the hub is asked again after it could not be reached.
const PAUSE: Duration = Duration::from_secs(1);
const SOURCE_WIDTH: usize = 28;
/// Characters of a message that are shown.
const MESSAGE_WIDTH: usize = 100;

pub(crate) async fn run(watch: Watch) -> Result<(), Failure> {
    let hub = Hub::open(&watch.place.hub_dir)?;
    let clock = Clock::system();
    let mut events = Events::new(&hub, &watch.place.device, Start::Now);
    println!("{:24}  {:>9}  {:SOURCE_WIDTH$}  MESSAGE", "TAKEN BY THE HUB", "LATENCY", "FROM");
    loop {
        match events.read(WAIT).await {
            Ok(arrived) => arrived.iter().for_each(|event| println!("{}", row(event, clock.now().wall))),
            Err(failure) => {
                println!("-- {}; trying again", with_causes(failure.as_ref()));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The latency is from the measurement to here: module, route, edge, hub and reading it back.
fn row(event: &EventLine, now: Timestamp) -> String {
    let body = event.body();
    let parsed: Option<Value> = serde_json::from_slice(&body).ok();
    let measured = parsed.as_ref().and_then(|body| Timestamp::parse(body.get("time")?.as_str()?).ok());
    let latency = measured.map_or_else(|| "-".to_owned(), |time| format!("{} ms", now.since(time).as_millis()));
    let text = match &parsed {
        Some(body) => in_short(body).unwrap_or_else(|| body.to_string()),
        None => format!("({} bytes)", body.len()),
    };
    let alert = event.document.get("properties").is_some_and(|properties| properties["MessageType"] == "Alert");
    let text = if alert { format!("ALERT {text}") } else { text };
    let text: String = text.chars().filter(|c| !c.is_control()).take(MESSAGE_WIDTH).collect();
    format!("{:24}  {latency:>9}  {:SOURCE_WIDTH$}  {text}", event.enqueued.to_string(), event.source.to_string())
}

/// The figures of a measurement that a person looks at first.
fn in_short(body: &Value) -> Option<String> {
    let percent = |part: &Value, name: &str| part.get(name).and_then(Value::as_f64);
    let processor = percent(body.get("cpu")?, "percent");
    let memory = percent(body.get("memory")?, "usedPercent")?;
    let disk = body.get("disks").and_then(|disks| percent(disks.get(0)?, "usedPercent"));
    let warmest = body.get("temperatures").and_then(Value::as_array).into_iter().flatten();
    let warmest = warmest
        .filter_map(|one| percent(one, "celsius"))
        .fold(None, |most: Option<f64>, celsius| Some(most.map_or(celsius, |most| most.max(celsius))));
    let parts = [
        processor.map(|value| format!("cpu {value:.1} %")),
        Some(format!("memory {memory:.1} %")),
        disk.map(|value| format!("disk {value:.1} %")),
        warmest.map(|value| format!("warmest {value:.1} °C")),
    ];
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_measurement_is_shown_in_short() {
        let body = json!({
            "time": "2026-01-01T00:00:00Z", "cpu": { "percent": 12.34 }, "memory": { "usedPercent": 50 },
            "temperatures": [{ "celsius": 40.0 }, { "celsius": 55.5 }],
        });
        assert_eq!(in_short(&body).unwrap(), "cpu 12.3 %, memory 50.0 %, warmest 55.5 °C");
        assert_eq!(in_short(&json!({ "value": 1 })), None);
    }
}
