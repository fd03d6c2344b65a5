//! What the agent keeps on disk: the last good desired properties, and what happened to modules.
//!
//! The manifest is kept as it came, registry passwords included: the files are private (0600) in a private folder.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use skerry_daemon::write_private;
use skerry_deployment::reconcile::{History, ModuleHistory, Policy};
use skerry_model::json::{self, JsonObject};
use skerry_model::{Json, ModuleName, Timestamp};

const MANIFEST: &str = "manifest.json";
const HISTORY: &str = "history.json";
/// Version of both records.
const FORMAT: u64 = 1;
const DEPTH_MAX: usize = 100;

/// What is on disk cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`: {cause}", .path.display())]
pub struct StoreError {
    /// What was attempted: read, write, delete.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub cause: io::Error,
}

/// The folder with both records.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The desired properties that were kept, with their version. A damaged record counts as none, with a log line: the hub has
    /// the original.
    pub(crate) fn manifest(&self) -> Result<Option<(JsonObject, u64)>, StoreError> {
        let Some(record) = self.read(MANIFEST)? else { return Ok(None) };
        let version = record.get("version").and_then(Json::as_u64);
        match (record.get("desired"), version) {
            (Some(Json::Object(desired)), Some(version)) => Ok(Some((desired.clone(), version))),
            _ => Ok(None),
        }
    }

    pub(crate) async fn save_manifest(&self, desired: &JsonObject, version: u64) -> Result<(), StoreError> {
        self.write(MANIFEST, &json!({ "format": FORMAT, "version": version, "desired": desired })).await
    }

    /// Forgets everything: it was another device's.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        for name in [MANIFEST, HISTORY] {
            let path = self.folder.join(name);
            match std::fs::remove_file(&path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError { action: "delete", path, cause });
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn history(&self, policy: Policy) -> Result<History, StoreError> {
        let mut history = History::new(policy);
        let Some(record) = self.read(HISTORY)? else { return Ok(history) };
        let modules = record.get("modules").and_then(Json::as_object);
        for (name, past) in modules.into_iter().flatten() {
            let number = |key: &str| past[key].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
            let moment = |key: &str| past[key].as_str().and_then(|text| Timestamp::parse(text).ok());
            let past = ModuleHistory {
                restarts: number("restarts"),
                restarted_at: moment("restartedAt"),
                failures: number("failures"),
                failed_at: moment("failedAt"),
            };
            if let Ok(name) = ModuleName::parse(name) {
                history.modules.insert(name, past);
            }
        }
        Ok(history)
    }

    pub(crate) async fn save_history(&self, history: &History) -> Result<(), StoreError> {
        let modules: JsonObject = history
            .modules
            .iter()
            .map(|(name, past)| {
                let past = json!({
                    "restarts": past.restarts,
                    "restartedAt": past.restarted_at.map(|at| at.to_string()),
                    "failures": past.failures,
                    "failedAt": past.failed_at.map(|at| at.to_string()),
                });
                (name.to_string(), past)
            })
            .collect();
        self.write(HISTORY, &json!({ "format": FORMAT, "modules": modules })).await
    }

    fn read(&self, name: &str) -> Result<Option<JsonObject>, StoreError> {
        let path = self.folder.join(name);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(StoreError { action: "read", path, cause }),
        };
        match json::parse(&text, DEPTH_MAX) {
            Ok(Json::Object(record)) if record.get("format") == Some(&FORMAT.into()) => Ok(Some(record)),
            _ => {
                tracing::warn!(path = %path.display(), "not a record of this program, it is not used");
                Ok(None)
            }
        }
    }

    async fn write(&self, name: &str, record: &Json) -> Result<(), StoreError> {
        let (path, text) = (self.folder.join(name), record.to_string());
        let failed = |cause| StoreError { action: "write", path: path.clone(), cause };
        let written = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || write_private(&path, text.as_bytes())).await
        };
        written.map_err(|ended| failed(io::Error::other(ended)))?.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_read_back_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        assert!(store.manifest().unwrap().is_none());
        let desired = json!({"schemaVersion": "1.1", "z": 1, "a": 2}).as_object().cloned().unwrap();
        store.save_manifest(&desired, 7).await.unwrap();
        assert_eq!(store.manifest().unwrap(), Some((desired, 7)));
        assert_eq!(std::fs::metadata(folder.path().join(MANIFEST)).unwrap().mode() & 0o777, 0o600);

        let mut history = History::default();
        let module = ModuleName::parse("m").unwrap();
        history.restarted(&module, Timestamp::from_unix_seconds(5));
        history.failed(&module, Timestamp::from_unix_seconds(6));
        store.save_history(&history).await.unwrap();
        assert_eq!(store.history(Policy::default()).unwrap(), history);

        store.clear().unwrap();
        assert!(store.manifest().unwrap().is_none());
        store.clear().unwrap();
    }

    #[test]
    fn a_damaged_record_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        for text in ["", "{\"format\":1,", "[]", "{\"format\":2}", "{\"format\":1,\"version\":\"x\"}"] {
            std::fs::write(folder.path().join(MANIFEST), text).unwrap();
            std::fs::write(folder.path().join(HISTORY), text).unwrap();
            assert!(store.manifest().unwrap().is_none(), "{text}");
            assert!(store.history(Policy::default()).unwrap().modules.is_empty(), "{text}");
        }
    }
}
