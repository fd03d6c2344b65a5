//! What a process runtime has to be told.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`ProcessRuntime`](crate::ProcessRuntime).
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// Where modules, their output and their private folders are kept. Made when missing. As root, every folder above it
    /// must be searchable for all (`o+x`), because modules run as users of their own.
    pub folder: PathBuf,
    /// Program and first arguments that lead to [`supervisor_main`](crate::supervisor_main).
    pub supervisor: Vec<OsString>,
    /// User ids for modules; only used as root. `None` runs all modules as root: for tests of a single program, not for use.
    pub users: Option<RangeInclusive<u32>>,
    /// Path of our control group below the root of each hierarchy; only used as root. Two runtimes need two.
    pub control_group: String,
    /// Most bytes of output that are kept of each module, at least 64 KiB.
    pub output_bytes_max: u64,
    /// How long modules may take to end after this runtime has gone.
    pub grace: Duration,
}

impl ProcessConfig {
    /// The usual settings for modules kept in `folder`, with `supervisor` as the command that leads to
    /// [`supervisor_main`](crate::supervisor_main): users 59000 to 59999, control group `skerry`, 8 MiB of output a module,
    /// 5 seconds of grace.
    pub fn new(folder: impl Into<PathBuf>, supervisor: Vec<OsString>) -> Self {
        Self {
            folder: folder.into(),
            supervisor,
            users: Some(59_000..=59_999),
            control_group: "skerry".to_owned(),
            output_bytes_max: 8 << 20,
            grace: Duration::from_secs(5),
        }
    }
}
