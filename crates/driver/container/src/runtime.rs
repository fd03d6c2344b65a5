//! The module runtime on containers.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skerry_model::manifest::{Artifact, RegistryCredential};
use skerry_model::{ModuleName, ModuleSpec};
use skerry_module_runtime::{
    Binding, Changes, Events, LogLines, LogRange, ModuleRuntime, Network, ObservedModule, Problem, Running,
    RuntimeError,
};
use skerry_net::http::{Method, StatusCode};

use crate::create_body::create_body;
use crate::engine::{Engine, EngineError, escape, filters};
use crate::inspect::{self, Listed};
use crate::membership::is_in_container;
use crate::pull::image_of;
use crate::watch::{KnownContainers, listen};
use crate::{ContainerConfig, WORKLOAD_FOLDER, labels};

/// How much longer than its time-out a stop may take, the engine's own work included.
const STOP_SLACK: Duration = Duration::from_secs(60);
/// Longest stop where the create options say how long it may take.
const STOP_MAX: Duration = Duration::from_secs(3600);
/// How often, and how many times, to look whether a removal that the engine already works on is done.
const REMOVAL_LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);
const REMOVAL_LOOKS_MAX: usize = 150;

/// Runs modules of type `docker`. Containers go on when it is dropped.
#[derive(Debug)]
pub struct ContainerRuntime {
    config: ContainerConfig,
    engine: Arc<Engine>,
    known: KnownContainers,
    changes: Changes,
    network_turn: tokio::sync::Mutex<()>,
    listener: tokio::task::JoinHandle<()>,
}

impl Drop for ContainerRuntime {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl ContainerRuntime {
    /// A runtime on the engine at `config.socket`. The engine need not be there yet, and may go and come. Must be called
    /// within an async runtime.
    pub fn new(config: ContainerConfig) -> Self {
        let engine = Arc::new(Engine::new(&config));
        let (known, changes) = (KnownContainers::default(), Changes::new());
        let labels = vec![edge_label(&config)];
        let listener = tokio::spawn(listen(engine.clone(), labels, known.clone(), changes.clone()));
        Self { config, engine, known, changes, network_turn: tokio::sync::Mutex::new(()), listener }
    }

    pub(crate) fn config(&self) -> &ContainerConfig {
        &self.config
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn network_turn(&self) -> &tokio::sync::Mutex<()> {
        &self.network_turn
    }

    /// The container of a module.
    pub(crate) async fn id_of(&self, attempt: &str, module: &ModuleName) -> Result<String, RuntimeError> {
        let found = self.find(module).await.map_err(|error| error.failed(attempt))?;
        found.map(|container| container.id).ok_or_else(|| RuntimeError::no_such_module(attempt.to_owned(), module))
    }

    async fn find(&self, module: &ModuleName) -> Result<Option<Listed>, EngineError> {
        let labels = [edge_label(&self.config), format!("{}={module}", labels::MODULE)];
        Ok(self.list(&labels).await?.into_iter().find(|container| container.module == *module))
    }

    async fn list(&self, labels: &[String]) -> Result<Vec<Listed>, EngineError> {
        let target = format!("/containers/json?all=1&filters={}", filters(&[("label", labels)]));
        Ok(inspect::listed(&self.engine.get(&target).await?))
    }

    async fn observe_all(&self) -> Result<Vec<ObservedModule>, EngineError> {
        let listed = self.list(&[edge_label(&self.config)]).await?;
        self.known.retain(|id| listed.iter().any(|container| container.id == id));
        let mut modules = Vec::with_capacity(listed.len());
        for Listed { id, module, state } in listed {
            if let Some(module) = self.known.get(&id, &state) {
                modules.push(module);
                continue;
            }
            let round = self.known.round();
            match self.engine.get(&format!("/containers/{id}/json")).await {
                Ok(answer) => {
                    let observed = inspect::observed(module, &answer);
                    self.known.keep(round, &id, &state, &observed);
                    modules.push(observed);
                }
                // Removed between the list and now.
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {}
                Err(error) => return Err(error),
            }
        }
        modules.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(modules)
    }

    async fn create_container(&self, spec: &ModuleSpec, binding: &Binding) -> Result<(), RuntimeError> {
        let attempt = format!("cannot create module `{}`", spec.name);
        let image = image_of(&attempt, &spec.artifact)?;
        let (body, networked) = create_body(&self.config, spec, image, binding)
            .map_err(|wrong| RuntimeError::new(Problem::SpecRefused, attempt.clone(), wrong.to_string()))?;
        if networked {
            self.make_network().await?;
        }
        open_to_all(&binding.workload_folder)
            .map_err(|error| RuntimeError::new(Problem::Failed, attempt.clone(), error.to_string()))?;
        let name = format!("{}{}", self.config.name_prefix, spec.name);
        let target = format!("/containers/create?name={}", escape(&name));
        let answer = self.engine.post(&target, &body).await.map_err(|error| error.of(&attempt, create_problem))?;
        for warning in answer["Warnings"].as_array().into_iter().flatten() {
            tracing::warn!(module = %spec.name, %warning, "the engine warns about a container");
        }
        self.changes.announce();
        Ok(())
    }

    async fn start_container(&self, module: &ModuleName) -> Result<(), RuntimeError> {
        let attempt = format!("cannot start module `{module}`");
        let id = self.id_of(&attempt, module).await?;
        let started = self.engine.wait_for(Method::POST, &format!("/containers/{id}/start")).await;
        self.known.forget(&id);
        started.map(drop).map_err(|error| error.of(&attempt, start_problem))
    }

    async fn stop_container(&self, module: &ModuleName, timeout: Option<Duration>) -> Result<(), RuntimeError> {
        let attempt = format!("cannot stop module `{module}`");
        let id = self.id_of(&attempt, module).await?;
        let (query, longest) = match timeout {
            // The engine counts whole seconds.
            Some(timeout) => (format!("?t={}", timeout.as_millis().div_ceil(1000)), timeout + STOP_SLACK),
            None => (String::new(), STOP_MAX),
        };
        let target = format!("/containers/{id}/stop{query}");
        let stopped = tokio::time::timeout(longest, self.engine.wait_for(Method::POST, &target)).await;
        self.known.forget(&id);
        let stopped = stopped.map_err(|_| {
            RuntimeError::new(Problem::Failed, attempt.clone(), "the engine does not get the container stopped")
        })?;
        stopped.map(drop).map_err(|error| error.failed(&attempt))
    }

    async fn remove_container(&self, module: &ModuleName) -> Result<(), RuntimeError> {
        let attempt = format!("cannot remove module `{module}`");
        for _ in 0..REMOVAL_LOOKS_MAX {
            let Some(Listed { id, .. }) = self.find(module).await.map_err(|error| error.failed(&attempt))? else {
                return Ok(());
            };
            let target = format!("/containers/{id}?force=1&v=1");
            let removed = self.engine.wait_for(Method::DELETE, &target).await;
            self.known.forget(&id);
            match removed {
                Ok(_) => {}
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {}
                // The engine removes it already.
                Err(error) if error.status() == Some(StatusCode::CONFLICT) => {
                    tokio::time::sleep(REMOVAL_LOOK_AGAIN_AFTER).await;
                }
                Err(error) => return Err(error.failed(&attempt)),
            }
        }
        Err(RuntimeError::new(Problem::Failed, attempt, "the engine does not get the container removed"))
    }

    async fn check_member(&self, module: &ModuleName, process_id: u32) -> Result<bool, RuntimeError> {
        let Some(container) = self.find(module).await.map_err(|error| error.failed("cannot check a caller"))? else {
            return Ok(false);
        };
        let groups = |of: &str| std::fs::read_to_string(format!("/proc/{of}/cgroup")).unwrap_or_default();
        Ok(is_in_container(&groups(&process_id.to_string()), &groups("self"), &container.id))
    }
}

fn edge_label(config: &ContainerConfig) -> String {
    format!("{}={}", labels::EDGE, config.edge)
}

/// Containers run as any user, and each has only its own folder mounted.
fn open_to_all(folder: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

fn create_problem(status: StatusCode, message: &str) -> Problem {
    match status {
        StatusCode::CONFLICT => Problem::NameTaken,
        StatusCode::NOT_FOUND if message.to_ascii_lowercase().contains("no such image") => Problem::ArtifactNotFound,
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => Problem::SpecRefused,
        _ => Problem::Failed,
    }
}

fn start_problem(status: StatusCode, _: &str) -> Problem {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => Problem::SpecRefused,
        _ => Problem::Failed,
    }
}

impl ModuleRuntime for ContainerRuntime {
    fn kind(&self) -> &'static str {
        "docker"
    }

    fn observe(&self) -> Running<'_, Vec<ObservedModule>> {
        Box::pin(async { self.observe_all().await.map_err(|error| error.failed("cannot list containers")) })
    }

    fn events(&self) -> Events {
        self.changes.listen()
    }

    fn prepare<'a>(&'a self, artifact: &'a Artifact, credential: Option<&'a RegistryCredential>) -> Running<'a, ()> {
        Box::pin(self.pull(artifact, credential))
    }

    fn create<'a>(&'a self, spec: &'a ModuleSpec, binding: &'a Binding) -> Running<'a, ()> {
        Box::pin(self.create_container(spec, binding))
    }

    fn start<'a>(&'a self, module: &'a ModuleName) -> Running<'a, ()> {
        Box::pin(self.start_container(module))
    }

    fn stop<'a>(&'a self, module: &'a ModuleName, timeout: Option<Duration>) -> Running<'a, ()> {
        Box::pin(self.stop_container(module, timeout))
    }

    fn remove<'a>(&'a self, module: &'a ModuleName) -> Running<'a, ()> {
        Box::pin(self.remove_container(module))
    }

    fn logs<'a>(&'a self, module: &'a ModuleName, range: LogRange) -> Running<'a, LogLines> {
        Box::pin(self.read_logs(module, range))
    }

    fn ensure_network(&self) -> Running<'_, Network> {
        Box::pin(self.make_network())
    }

    fn outlives_us(&self) -> bool {
        true
    }

    fn is_member<'a>(&'a self, module: &'a ModuleName, process_id: u32) -> Running<'a, bool> {
        Box::pin(self.check_member(module, process_id))
    }

    fn seen_by_module(&self, _: &Path) -> PathBuf {
        PathBuf::from(WORKLOAD_FOLDER)
    }
}
