//! The outcome of a run in files beside its ledger: what the load knows, and what the comparison found.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::Failure;
use crate::arguments::Run;

/// What the load knows at its end.
pub(crate) const LOAD: &str = "load";
/// What the comparison found.
pub(crate) const RESULT: &str = "result";

fn path(run: &Run, kind: &str) -> PathBuf {
    run.ledgers.join(format!("run-{}.{kind}.json", run.run))
}

pub(crate) fn write(run: &Run, kind: &str, outcome: &Value) -> Result<(), Failure> {
    let path = path(run, kind);
    Ok(fs::write(&path, format!("{outcome:#}\n"))
        .map_err(|cause| format!("cannot write {}: {cause}", path.display()))?)
}

/// Null when the file is missing, because the load died.
pub(crate) fn read(run: &Run, kind: &str) -> Result<Value, Failure> {
    match fs::read(path(run, kind)) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(cause) => Err(cause.into()),
    }
}
