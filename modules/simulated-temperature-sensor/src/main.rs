//! A module that plays a machine getting warm: schema, settings and behaviour of Azure's sensor of that name.
//!
//! Output `temperatureOutput`, input `control` (`{"command":"reset"}`), method `reset`, twin `SendData` and `SendInterval`. The
//! environment says how many messages, how often and between which ends; see `settings.rs`.

#![forbid(unsafe_code)]

mod sensor;
mod settings;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use skerry_sdk::{Failure, Message, MethodAnswer, Module, Verdict};
use tokio::time::{Instant, sleep_until};

use crate::sensor::{Random, Sensor, batch_id};
use crate::settings::{Start, Switches, asks_for_reset};

const OUTPUT: &str = "temperatureOutput";
const CONTROL: &str = "control";

fn main() -> ExitCode {
    skerry_sdk::run(simulate)
}

type Shared = Arc<Mutex<Sensor>>;

async fn simulate(module: Module) -> Result<(), Failure> {
    let start = Start::from_environment(|name| std::env::var(name).ok())?;
    let seed = RandomState::new().build_hasher().finish();
    let batch = batch_id(&mut Random::new(!seed));
    let sensor: Shared = Arc::new(Mutex::new(Sensor::new(start.scales, seed)));
    listen(&module, &sensor).await?;

    let mut desired = module.desired().await?;
    let mut switches = Switches::new(start.delay);
    take(&module, &mut switches, &desired.current()).await?;
    let mut sent = 0_u64;
    let mut next = Instant::now();
    loop {
        let more = switches.send && start.count.is_none_or(|count| sent < count);
        tokio::select! {
            changed = desired.changed() => {
                take(&module, &mut switches, &changed?).await?;
                next = Instant::now();
            }
            () = sleep_until(next), if more => {
                next = Instant::now() + switches.interval;
                let body = lock(&sensor).next_body(&module.now().to_round_trip());
                sent += 1;
                let message = Message::json(&body)
                    .property("sequenceNumber", &sent.to_string())
                    .property("batchId", &batch);
                module.send(OUTPUT, message).await?;
                if start.count == Some(sent) {
                    tracing::info!(sent, "that was the last message; staying up");
                }
            }
        }
    }
}

/// Both ways to reset it.
async fn listen(module: &Module, sensor: &Shared) -> Result<(), Failure> {
    let by_message = Arc::clone(sensor);
    module
        .on_input(CONTROL, move |message| {
            match asks_for_reset(&message.body) {
                Ok(true) => reset(&by_message),
                Ok(false) => {}
                Err(what) => tracing::warn!(what, "ignored"),
            }
            std::future::ready(Verdict::Done)
        })
        .await?;
    let by_method = Arc::clone(sensor);
    module
        .on_method("reset", move |_| {
            reset(&by_method);
            std::future::ready(MethodAnswer::ok(json!(null)))
        })
        .await?;
    Ok(())
}

fn reset(sensor: &Shared) {
    lock(sensor).reset();
    tracing::info!("reset");
}

async fn take(module: &Module, switches: &mut Switches, desired: &serde_json::Value) -> Result<(), Failure> {
    for complaint in switches.change(desired) {
        tracing::warn!(complaint, "a setting cannot be used");
    }
    module.report(switches.to_reported()).await?;
    Ok(())
}

fn lock(sensor: &Shared) -> MutexGuard<'_, Sensor> {
    sensor.lock().unwrap_or_else(PoisonError::into_inner)
}
