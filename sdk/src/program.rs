//! The frame of a module's `main`: log, runtime, signals, and a good end.

use std::process::ExitCode;

use skerry_daemon::{LogConfig, LogFormat};

pub use skerry_daemon::Failure;

use crate::module::Module;

/// The level the edge sets for its modules: .NET's names, as in its manifests.
const LEVEL_VARIABLE: &str = "RuntimeLogLevel";

/// Runs a module on a current-thread runtime until it returns or is asked to stop (SIGTERM, SIGINT); then what is on its way
/// is acknowledged and the connection closed. Logs go to standard error, at the level the edge wants.
pub fn run<F>(body: F) -> ExitCode
where
    F: AsyncFnOnce(Module) -> Result<(), Failure>,
{
    let level = std::env::var(LEVEL_VARIABLE).map_or("info", |name| level(&name));
    let log = LogConfig { format: LogFormat::Human, level: level.to_owned() };
    if let Err(refused) = skerry_daemon::start_logging(&log) {
        return skerry_daemon::refuse(&refused);
    }
    skerry_daemon::run(async |daemon| {
        let module = Module::from_environment().await?;
        tracing::info!(module = %module.id(), "started");
        let ended = tokio::select! {
            ended = body(module.clone()) => ended,
            () = daemon.shutdown.requested() => Ok(()),
        };
        module.close().await;
        ended
    })
}

fn level(name: &str) -> &'static str {
    match name.to_ascii_lowercase().as_str() {
        "verbose" | "trace" => "trace",
        "debug" => "debug",
        "warning" | "warn" => "warn",
        "error" | "fatal" => "error",
        _ => "info",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn levels_have_dot_net_names() {
        for (name, ours) in
            [("Verbose", "trace"), ("Information", "info"), ("warning", "warn"), ("Fatal", "error"), ("?", "info")]
        {
            assert_eq!(super::level(name), ours, "{name}");
        }
    }
}
