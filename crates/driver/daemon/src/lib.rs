//! What each long-running program needs: configuration, logs, signals, supervision, its data folder, readiness.
//!
//! A program's `main` reads its arguments, calls [`load`], [`start_logging`] and [`DataFolder::open`], and hands the
//! rest to [`run`]:
//!
//! ```no_run
//! # use std::process::ExitCode;
//! # #[derive(serde::Deserialize, serde::Serialize, Default)] struct Config { log: skerry_daemon::LogConfig }
//! # const FIELDS: &[skerry_daemon::Field] = &[];
//! fn main() -> ExitCode {
//!     let loaded = match skerry_daemon::load::<Config>(None, FIELDS, std::env::vars()) {
//!         Ok(loaded) => loaded,
//!         Err(refused) => return skerry_daemon::refuse(&refused),
//!     };
//!     if let Err(refused) = skerry_daemon::start_logging(&loaded.config.log) {
//!         return skerry_daemon::refuse(&refused);
//!     }
//!     skerry_daemon::run(async |daemon| {
//!         daemon.readiness.ready();
//!         daemon.shutdown.requested().await;
//!         Ok(())
//!     })
//! }
//! ```

#![forbid(unsafe_code)]

mod config;
mod data_folder;
mod fields;
mod logging;
mod program;
mod readiness;
mod repeats;
mod shutdown;
mod supervisor;
mod usage;

pub use config::{ConfigError, Loaded, load};
pub use data_folder::{DataFolder, DataFolderError, write_private};
pub use fields::{Field, Kind, disagreements, sample};
pub use logging::{LogConfig, LogControl, LogFormat, start_logging};
pub use program::{Daemon, Failure, refuse, run};
pub use readiness::Readiness;
pub use repeats::{Repeats, Turn};
pub use shutdown::Shutdown;
pub use supervisor::{RestartPolicy, Supervisor};
pub use usage::Usage;
