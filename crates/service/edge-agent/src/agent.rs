//! The agent from outside: start it, ask it, stop it.

mod deployment;
mod look;
mod run;
mod sync;

use std::net::IpAddr;
use std::sync::Arc;

use skerry_dialect::management::ManagedModule;
use skerry_dialect::own::EdgeStatus;
use skerry_model::ModuleName;
use skerry_module_runtime::{LogLines, LogRange, Problem, RuntimeError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle};

use crate::config::{AgentConfig, AgentParts};
use crate::edge_hub::EdgeHubSettings;
use crate::perform::Shared;
use crate::store::{Store, StoreError};

/// Questions to the agent that wait for its loop.
const COMMANDS_WAITING_MAX: usize = 16;

/// A running agent. Dropping it ends the agent and leaves the modules as they are.
pub struct EdgeAgent {
    handle: AgentHandle,
    edge_hub: watch::Receiver<EdgeHubSettings>,
    task: JoinHandle<()>,
}

/// A way to ask a running agent; clones ask the same one.
#[derive(Clone)]
pub struct AgentHandle {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// Why something cannot be done with a module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// There is none of that name in the manifest and on the machine.
    #[error("there is no module `{0}`")]
    NoSuchModule(ModuleName),
    /// Agent and hub are parts of one program.
    #[error("`{0}` is a part of this program and has no process of its own")]
    System(ModuleName),
    /// Something else is being done with it.
    #[error("module `{0}` is being changed just now")]
    Busy(ModuleName),
    /// It was tried and failed.
    #[error("{0}")]
    Failed(String),
    /// The agent ended.
    #[error("the agent is not running")]
    Ended,
}

/// What is asked of the agent's loop.
pub(crate) enum Command {
    List(oneshot::Sender<Vec<ManagedModule>>),
    Status(oneshot::Sender<EdgeStatus>),
    Restart(ModuleName, oneshot::Sender<Result<(), ModuleError>>),
    Stop(oneshot::Sender<()>),
}

impl EdgeAgent {
    /// Reads what is kept on disk and goes to work; needs a tokio runtime. What is kept of another device is forgotten.
    ///
    /// # Errors
    /// When the kept records cannot be read.
    pub fn start(config: AgentConfig, parts: AgentParts) -> Result<Self, StoreError> {
        let store = Store::at(&config.data_folder);
        if parts.identities.provisioning_changed() {
            tracing::warn!("this machine was another device before: its modules are removed");
            store.clear()?;
        }
        let kept = store.manifest()?;
        let history = store.history(config.policy.clone())?;
        let shared = Arc::new(Shared { config, parts, gateways: watch::Sender::new(Vec::new()) });
        let (commands, asked) = mpsc::channel(COMMANDS_WAITING_MAX);
        let (hub_sender, edge_hub) = watch::channel(EdgeHubSettings::default());
        let agent = run::Agent::new(Arc::clone(&shared), store, history, kept, hub_sender);
        let task = tokio::spawn(agent.run(asked));
        Ok(Self { handle: AgentHandle { commands, shared }, edge_hub, task })
    }

    /// A way to ask this agent.
    pub fn handle(&self) -> AgentHandle {
        self.handle.clone()
    }

    /// What the manifest says about the edge hub, to be watched.
    pub fn edge_hub(&self) -> watch::Receiver<EdgeHubSettings> {
        self.edge_hub.clone()
    }

    /// Waits for an end that nobody asked for.
    ///
    /// # Errors
    /// When the agent's task panicked.
    pub async fn ended(&mut self) -> Result<(), JoinError> {
        (&mut self.task).await
    }

    /// Ends the agent in good order: modules that would not outlive us are stopped, and the hub is told.
    pub async fn stop(self) {
        let (done, stopped) = oneshot::channel();
        if self.handle.commands.send(Command::Stop(done)).await.is_ok() {
            // An error means that the agent is gone, which is what is wanted.
            let _ = stopped.await;
        }
    }
}

impl Drop for EdgeAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AgentHandle {
    /// All modules of the manifest, `edgeAgent` and `edgeHub` first.
    pub async fn modules(&self) -> Vec<ManagedModule> {
        self.ask(Command::List).await.unwrap_or_default()
    }

    /// How the edge fares.
    ///
    /// # Errors
    /// When the agent ended.
    pub async fn status(&self) -> Result<EdgeStatus, ModuleError> {
        let mut status = self.ask(Command::Status).await.ok_or(ModuleError::Ended)?;
        if let Some(details) = &self.shared.parts.status {
            details.add_to(&mut status);
        }
        Ok(status)
    }

    /// Stops a module and starts it again; done when both were done.
    ///
    /// # Errors
    /// When there is no such module, something else is being done with it, or it cannot be started.
    pub async fn restart(&self, module: &ModuleName) -> Result<(), ModuleError> {
        self.ask(|answer| Command::Restart(module.clone(), answer)).await.unwrap_or(Err(ModuleError::Ended))
    }

    /// What a module wrote.
    ///
    /// # Errors
    /// When no runtime has such a module, or its output cannot be read.
    pub async fn logs(&self, module: &ModuleName, range: &LogRange) -> Result<LogLines, RuntimeError> {
        let mut failed = RuntimeError::no_such_module("cannot read its output", module);
        for part in &self.shared.parts.runtimes {
            match part.runtime.logs(module, range.clone()).await {
                Ok(lines) => return Ok(lines),
                Err(error) if error.problem == Problem::NoSuchModule => {}
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Addresses of this machine on the modules' networks, by kind of module, to be watched: the edge hub listens there.
    pub fn gateways(&self) -> watch::Receiver<Vec<(&'static str, Vec<IpAddr>)>> {
        self.shared.gateways.subscribe()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.ok()?;
        answered.await.ok()
    }
}
