//! A module that lets through what crosses a limit set in its twin.
//!
//! Input `input`, output `output`. Twin: desired `path` (members joined by dots, such as `cpu.percent`), `above` and `below`;
//! reported: what is in force. Method `setLimits` changes the same three until the twin changes next. What passes keeps its body and
//! properties and gets `MessageType` = `Alert`, `limit-value`, `limit` and `limit-side`.

#![forbid(unsafe_code)]

mod limit;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use skerry_sdk::{Failure, InputMessage, Message, MethodAnswer, Module, Verdict};

use crate::limit::{Crossing, Limits, Verdict as Judgement};

const INPUT: &str = "input";
const OUTPUT: &str = "output";
const METHOD: &str = "setLimits";

fn main() -> ExitCode {
    skerry_sdk::run(filter)
}

type Shared = Arc<Mutex<Limits>>;

async fn filter(module: Module) -> Result<(), Failure> {
    let limits = Shared::default();
    let mut desired = module.desired().await?;
    take(&module, &limits, &desired.current()).await?;
    module
        .on_input(INPUT, {
            let (module, limits) = (module.clone(), Arc::clone(&limits));
            move |message| pass(module.clone(), Arc::clone(&limits), message)
        })
        .await?;
    module
        .on_method(METHOD, {
            let (module, limits) = (module.clone(), Arc::clone(&limits));
            move |call| change(module.clone(), Arc::clone(&limits), call.payload)
        })
        .await?;
    loop {
        let wanted = desired.changed().await?;
        take(&module, &limits, &wanted).await?;
    }
}

/// Makes the twin's wishes the limits and says what became of them.
async fn take(module: &Module, limits: &Shared, desired: &Value) -> Result<(), Failure> {
    let (wanted, complaints) = Limits::from_desired(desired);
    for complaint in &complaints {
        tracing::warn!(complaint, "a limit cannot be used");
    }
    tracing::info!(limits = %wanted.to_json(), "filtering");
    lock(limits).clone_from(&wanted);
    module.report(reported(&wanted, &complaints)).await?;
    Ok(())
}

/// Answers with what is in force, or with everything that is wrong; then nothing is changed.
async fn change(module: Module, limits: Shared, wanted: Value) -> MethodAnswer {
    let mut changed = lock(&limits).clone();
    let complaints = if wanted.is_object() { changed.change(&wanted) } else { vec!["an object is needed".to_owned()] };
    if !complaints.is_empty() {
        return MethodAnswer::error(400, &complaints.join("; "));
    }
    lock(&limits).clone_from(&changed);
    tracing::info!(limits = %changed.to_json(), "filtering, as a method asked");
    match module.report(reported(&changed, &[])).await {
        Ok(()) => MethodAnswer::ok(changed.to_json()),
        Err(failure) => MethodAnswer::error(500, &format!("in force, but not reported: {failure}")),
    }
}

async fn pass(module: Module, limits: Shared, message: InputMessage) -> Verdict {
    let judgement = lock(&limits).judge(&message.body);
    let Judgement::Passes(Crossing { value, limit, side }) = judgement else { return Verdict::Done };
    let alert = Message::from_input(&message)
        .property("MessageType", "Alert")
        .property("limit-value", &value.to_string())
        .property("limit", &limit.to_string())
        .property("limit-side", side);
    match module.send(OUTPUT, alert).await {
        Ok(()) => Verdict::Done,
        Err(failure) => {
            tracing::warn!(%failure, "a message that should pass was not taken");
            Verdict::Done
        }
    }
}

fn reported(limits: &Limits, complaints: &[String]) -> Value {
    let mut reported = limits.to_json();
    reported["configurationProblem"] = if complaints.is_empty() { Value::Null } else { json!(complaints.join("; ")) };
    reported
}

fn lock(limits: &Shared) -> MutexGuard<'_, Limits> {
    limits.lock().unwrap_or_else(PoisonError::into_inner)
}
