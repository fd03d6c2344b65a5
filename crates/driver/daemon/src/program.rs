//! The frame of a program: a runtime, signals, readiness and one place that turns a failure into an exit code.

use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::readiness::Readiness;
use crate::shutdown::Shutdown;
use crate::supervisor::{RestartPolicy, Supervisor};

/// Why a program ends with a failure; its causes are printed too.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The exit code for a configuration that was refused (`EX_CONFIG`): starting again does not help.
const REFUSED: u8 = 78;

/// How long tasks get to end after the program's own part is over.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the frame gives to the program.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// Whether to stop.
    pub shutdown: Shutdown,
    /// Starts tasks that come back after a panic.
    pub supervisor: Supervisor,
    /// Tells who started us.
    pub readiness: Readiness,
}

/// Runs a program on a current-thread runtime until it returns; signals ask it to stop through [`Daemon::shutdown`]. The
/// process may then have as many files open as the system lets it.
pub fn run<F>(program: F) -> ExitCode
where
    F: AsyncFnOnce(Daemon) -> Result<(), Failure>,
{
    raise_open_files();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => return refuse(&cause),
    };
    let shutdown = Shutdown::default();
    let readiness = Readiness::from_environment();
    let supervisor = Supervisor::new(shutdown.clone(), RestartPolicy::default());
    let outcome = runtime.block_on(async {
        shutdown.listen()?;
        if let Some(pause) = readiness.alive_every() {
            let readiness = readiness.clone();
            tokio::spawn(async move {
                loop {
                    readiness.alive();
                    tokio::time::sleep(pause).await;
                }
            });
        }
        program(Daemon { shutdown, supervisor, readiness: readiness.clone() }).await
    });
    readiness.stopping();
    runtime.shutdown_timeout(LAST_WORDS);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(cause = with_causes(failure.as_ref()), "stopped by a failure");
            ExitCode::FAILURE
        }
    }
}

/// Raises the soft limit of open files to the hard one. Systems keep the soft one at 1,024 for the sake of `select`, which
/// these programs do not use; each connection needs a file.
fn raise_open_files() {
    let now = getrlimit(Resource::Nofile);
    if now.current == now.maximum {
        return;
    }
    if let Err(cause) = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, ..now }) {
        tracing::warn!(%cause, now = now.current, wanted = now.maximum, "the limit of open files cannot be raised");
    }
}

/// Says on standard error why the program does not start, causes included, and hands back the exit code for it.
pub fn refuse(failure: &dyn Error) -> ExitCode {
    eprintln!("error: {}", with_causes(failure));
    ExitCode::from(REFUSED)
}

fn with_causes(failure: &dyn Error) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(next) = cause {
        let _ = write!(text, ": {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;

    #[test]
    fn as_many_files_may_be_open_as_the_system_lets() {
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(512), ..before }).unwrap();
        raise_open_files();
        let after = getrlimit(Resource::Nofile);
        assert_eq!((after.current, after.maximum), (before.maximum, before.maximum));
    }

    #[test]
    fn a_failure_is_told_with_its_causes() {
        let cause = std::io::Error::other("disk gone");
        let failure = ConfigError::Unreadable { path: "/etc/hub.toml".into(), cause };
        assert_eq!(with_causes(&failure), "cannot read the configuration file /etc/hub.toml: disk gone");
    }

    #[test]
    fn a_program_that_asks_itself_to_stop_ends_well() {
        let code = run(async |daemon| {
            daemon.readiness.ready();
            daemon.shutdown.request();
            daemon.shutdown.requested().await;
            Ok(())
        });
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
        let code = run(async |_| Err("no".into()));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
    }
}
