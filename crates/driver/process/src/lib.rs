//! Runs modules as processes of this machine, each below a small supervisor of ours.
//!
//! The supervisor is the same program executed again (see [`supervisor_main`]). It holds a pipe to the runtime: when the
//! runtime ends, however it ends, the pipe closes and the supervisor ends the module with everything the module started.
//! It is the reaper of orphans among its descendants, so it knows when really nothing is left.
//!
//! As root every module gets its own user, control group and hosts file. Without root it runs as our user: modules can then
//! read each other's files and signal each other, limits hold for each process instead of for the group, names of the
//! platform must resolve by the machine's own means, and when somebody kills a supervisor, what left the module's session
//! stays.

mod cgroup;
mod config;
mod ended;
mod folder;
mod output;
mod procfs;
mod record;
mod runtime;
mod supervisor;
mod users;

pub use config::ProcessConfig;
pub use runtime::{OpenError, ProcessRuntime};
pub use supervisor::supervisor_main;
