//! What is kept on disk about a module: what to run, written by the runtime, and how it went, written by its supervisor.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Everything a supervisor needs; no `Debug`, because the environment holds secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub name: String,
    pub spec_digest: String,
    pub generation: String,
    pub command: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Names that must resolve, where the module has a user of its own.
    pub host_names: Vec<(String, IpAddr)>,
    pub working_directory: PathBuf,
    /// User and group; `None` keeps ours.
    pub user: Option<u32>,
    /// The module's control group below the root of each hierarchy.
    pub control_group: Option<String>,
    pub limits: Limits,
    pub output_bytes_max: u64,
    pub grace_millis: u64,
}

/// What the module may use; `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub memory_bytes: Option<u64>,
    pub cpu_millis: Option<u32>,
    pub open_files: Option<u64>,
    pub processes: Option<u64>,
}

/// The last run of a module. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub started_at: i64,
    pub process: u32,
    pub finished_at: Option<i64>,
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    /// It was asked to end, by its runtime or because that has gone. Records of earlier versions do not say.
    #[serde(default)]
    pub was_stopped: bool,
}

/// Writes `value` so that a reader sees either the old or the new text, readable for our user alone.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = private_file(&new, OpenOptions::new().write(true).create(true).truncate(true))?;
    file.write_all(&serde_json::to_vec(value)?)?;
    fs::rename(&new, path)
}

/// The value in the file; `None` when there is no file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a file that our user alone may read.
pub(crate) fn private_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.mode(0o600).open(path)
}
