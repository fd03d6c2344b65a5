//! A module that measures its machine: processor, memory, disks, network, temperatures.
//!
//! Output `metrics`: one JSON body per measurement. Twin: desired `intervalSeconds` and `metrics` (a switch for each group);
//! reported: what is in force, and `configurationProblem`. In a container, `HOST_PROC`, `HOST_SYS` and `HOST_ROOT` say where the
//! machine's own folders are mounted.

#![forbid(unsafe_code)]

mod counters;
mod machine;
mod measurement;
mod settings;

use std::process::ExitCode;

use skerry_sdk::{Failure, Json, Message, Module};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::machine::Machine;
use crate::settings::Settings;

const OUTPUT: &str = "metrics";

fn main() -> ExitCode {
    skerry_sdk::run(measure)
}

async fn measure(module: Module) -> Result<(), Failure> {
    let machine = Machine::from_environment(|name| std::env::var(name).ok());
    let host = machine.host_name().unwrap_or_default();
    let mut desired = module.desired().await?;
    let mut settings = take(&module, &desired.current()).await?;
    let mut next = ticks(&settings);
    let started = Instant::now();
    let mut before = None;
    loop {
        tokio::select! {
            changed = desired.changed() => {
                settings = take(&module, &changed?).await?;
                next = ticks(&settings);
            }
            _ = next.tick() => {
                let now = machine.read(started.elapsed().as_secs_f64());
                let body = measurement::body(&module.now().to_string(), &host, before.as_ref(), &now, &settings);
                before = Some(now);
                module.send(OUTPUT, Message::json(&body)).await?;
            }
        }
    }
}

/// Makes the twin's wishes the settings and says what became of them.
async fn take(module: &Module, desired: &Json) -> Result<Settings, Failure> {
    let (settings, complaints) = Settings::from_desired(desired);
    for complaint in &complaints {
        tracing::warn!(complaint, "a setting cannot be used");
    }
    tracing::info!(interval = ?settings.interval, "measuring");
    module.report(settings.to_reported(&complaints)).await?;
    Ok(settings)
}

fn ticks(settings: &Settings) -> Interval {
    let mut ticks = interval(settings.interval);
    // What was missed while the edge was away says nothing new.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
