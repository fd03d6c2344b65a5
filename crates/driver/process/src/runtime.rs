//! The module runtime on processes: keeps the records, starts supervisors and hears of their end.

mod create;
mod logs;
mod open;
mod start;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skerry_model::manifest::{Artifact, RegistryCredential, SpecDigest};
use skerry_model::{ModuleName, ModuleSpec, Timestamp};
use skerry_module_runtime::{
    Binding, Changes, Events, LogLines, LogRange, ModuleRuntime, ModuleState, Network, ObservedModule, Problem,
    Running, RuntimeError, STOP_TIMEOUT,
};
use tokio::sync::watch;

use crate::config::ProcessConfig;
use crate::folder::ModuleFolder;
use crate::procfs;
use crate::record::{Launch, Run};
use crate::supervisor::STOP;
use crate::users::Users;

pub use open::OpenError;

/// How much longer than its time-out a stop may take before the supervisor itself is taken for broken.
const SUPERVISOR_SLACK: Duration = Duration::from_secs(10);

/// Runs modules of type `process`. Dropping it ends them.
#[derive(Debug, Clone)]
pub struct ProcessRuntime(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: ProcessConfig,
    modules_folder: PathBuf,
    /// Where modules have control groups.
    control_group: Option<String>,
    /// Where modules have users of their own.
    users: Option<Mutex<Users>>,
    modules: Mutex<BTreeMap<ModuleName, Module>>,
    changes: Changes,
    /// Held as long as we live: two runtimes on one folder would end each other's modules.
    _lock: File,
}

#[derive(Debug)]
struct Module {
    spec_digest: Option<SpecDigest>,
    generation: String,
    run: Option<Run>,
    /// The supervisor of a start that is under way: its program runs, and may ask for what is its own, before we hear of it.
    starting: Option<u32>,
    live: Option<Live>,
}

/// A module that runs.
#[derive(Debug, Clone)]
struct Live {
    /// Closing the pipe ends the module.
    control: Arc<PipeWriter>,
    supervisor: u32,
    ended: watch::Receiver<bool>,
}

impl ProcessRuntime {
    fn modules(&self) -> MutexGuard<'_, BTreeMap<ModuleName, Module>> {
        self.0.modules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, module: &ModuleName) -> ModuleFolder {
        ModuleFolder::of(&self.0.modules_folder, module)
    }

    /// What is live of an existing module.
    fn live(&self, attempt: &str, module: &ModuleName) -> Result<Option<Live>, RuntimeError> {
        match self.modules().get(module) {
            Some(module) => Ok(module.live.clone()),
            None => Err(RuntimeError::no_such_module(attempt.to_owned(), module)),
        }
    }

    async fn end(&self, module: &ModuleName, mut live: Live, timeout: Duration) {
        let millis = timeout.as_millis();
        // When the supervisor is gone already, its end is about to be seen.
        let _ = (&*live.control).write_all(format!("{STOP} {millis}\n").as_bytes());
        let ended = live.ended.wait_for(|ended| *ended);
        if tokio::time::timeout(timeout + SUPERVISOR_SLACK, ended).await.is_err() {
            tracing::error!(%module, "the supervisor does not end the module; ending the supervisor");
            procfs::kill(live.supervisor, || true);
            let _ = live.ended.wait_for(|ended| *ended).await;
        }
    }

    async fn remove_module(&self, module: &ModuleName) -> Result<(), RuntimeError> {
        let attempt = format!("cannot remove module `{module}`");
        let Ok(live) = self.live(&attempt, module) else { return Ok(()) };
        if let Some(live) = live {
            self.end(module, live, Duration::ZERO).await;
        }
        let folder = self.folder(module);
        let removed = on_disk(move || {
            // Without this file the rest is not a module, also when we are interrupted.
            fs::remove_file(folder.launch())?;
            fs::remove_dir_all(folder.path())
        });
        removed.await.map_err(|error| RuntimeError::new(Problem::Failed, attempt, error.to_string()))?;
        self.modules().remove(module);
        self.0.changes.announce();
        Ok(())
    }
}

/// Does what blocks on the disk where it does not hold up others.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => Err(io::Error::other(stopped)),
    }
}

impl Module {
    fn observe(&self, name: &ModuleName) -> ObservedModule {
        let run = self.run.as_ref();
        let state = match (&self.live, run) {
            (Some(_), _) => ModuleState::Running,
            (None, Some(_)) => ModuleState::Exited,
            (None, None) => ModuleState::Created,
        };
        let ended = run.filter(|_| state == ModuleState::Exited);
        ObservedModule {
            state,
            exit_code: ended.and_then(|run| run.exit_code).map(i64::from),
            exit_reason: ended.and_then(|run| run.reason.clone()),
            started_at: run.map(|run| Timestamp::from_unix_millis(run.started_at)),
            finished_at: run.and_then(|run| run.finished_at).map(Timestamp::from_unix_millis),
            was_stopped: ended.is_some_and(|run| run.was_stopped),
            spec_digest: self.spec_digest,
            generation: Some(self.generation.clone()),
            process_id: run.filter(|_| state == ModuleState::Running).map(|run| run.process),
            ..ObservedModule::created(name.clone())
        }
    }

    fn of(launch: &Launch, run: Option<Run>) -> Self {
        let spec_digest = SpecDigest::parse(&launch.spec_digest);
        Self { spec_digest, generation: launch.generation.clone(), run, starting: None, live: None }
    }
}

impl ModuleRuntime for ProcessRuntime {
    fn kind(&self) -> &'static str {
        "process"
    }

    fn observe(&self) -> Running<'_, Vec<ObservedModule>> {
        Box::pin(async { Ok(self.modules().iter().map(|(name, module)| module.observe(name)).collect()) })
    }

    fn events(&self) -> Events {
        self.0.changes.listen()
    }

    fn prepare<'a>(&'a self, artifact: &'a Artifact, _: Option<&'a RegistryCredential>) -> Running<'a, ()> {
        Box::pin(async move { create::check_program("cannot prepare a program", artifact).map(drop) })
    }

    fn create<'a>(&'a self, spec: &'a ModuleSpec, binding: &'a Binding) -> Running<'a, ()> {
        Box::pin(self.create_module(spec, binding))
    }

    fn start<'a>(&'a self, module: &'a ModuleName) -> Running<'a, ()> {
        Box::pin(self.start_module(module))
    }

    fn stop<'a>(&'a self, module: &'a ModuleName, timeout: Option<Duration>) -> Running<'a, ()> {
        Box::pin(async move {
            if let Some(live) = self.live(&format!("cannot stop module `{module}`"), module)? {
                self.end(module, live, timeout.unwrap_or(STOP_TIMEOUT)).await;
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, module: &'a ModuleName) -> Running<'a, ()> {
        Box::pin(self.remove_module(module))
    }

    fn logs<'a>(&'a self, module: &'a ModuleName, range: LogRange) -> Running<'a, LogLines> {
        Box::pin(async move { self.read_logs(module, range) })
    }

    fn ensure_network(&self) -> Running<'_, Network> {
        Box::pin(async { Ok(Network::default()) })
    }

    fn outlives_us(&self) -> bool {
        false
    }

    fn is_member<'a>(&'a self, module: &'a ModuleName, process_id: u32) -> Running<'a, bool> {
        Box::pin(async move {
            let supervisor = self.modules().get(module).and_then(|module| match &module.live {
                Some(live) => Some(live.supervisor),
                None => module.starting,
            });
            Ok(supervisor.is_some_and(|supervisor| procfs::descends(process_id, supervisor)))
        })
    }

    fn seen_by_module(&self, on_host: &Path) -> PathBuf {
        on_host.to_owned()
    }
}
