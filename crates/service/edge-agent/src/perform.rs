//! Does the steps of one module, one after the other.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use skerry_deployment::reconcile::{Action, Step};
use skerry_model::manifest::RegistryCredential;
use skerry_model::{ModuleName, ModuleSpec};
use skerry_module_runtime::RuntimeError;
use tokio::sync::{oneshot, watch};

use crate::binding::{Bound, binding};
use crate::config::{AgentConfig, AgentParts, RuntimePart};
use crate::ports::IdentityFailure;

/// What all tasks of the agent share.
pub(crate) struct Shared {
    pub(crate) config: AgentConfig,
    pub(crate) parts: AgentParts,
    /// Addresses of this machine on the modules' networks, by kind of runtime.
    pub(crate) gateways: watch::Sender<Vec<(&'static str, Vec<IpAddr>)>>,
}

impl Shared {
    pub(crate) fn runtime(&self, kind: &str) -> Option<&RuntimePart> {
        self.parts.runtimes.iter().find(|part| part.runtime.kind() == kind)
    }

    /// Makes sure of a runtime's network and keeps its addresses for whoever listens on them.
    pub(crate) async fn ensure_network(&self, part: &RuntimePart) -> Result<Vec<IpAddr>, RuntimeError> {
        let network = part.runtime.ensure_network().await?;
        let kind = part.runtime.kind();
        self.gateways.send_if_modified(|all| match all.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, known)) if *known == network.gateways => false,
            Some((_, known)) => {
                known.clone_from(&network.gateways);
                true
            }
            None => {
                all.push((kind, network.gateways.clone()));
                true
            }
        });
        Ok(network.gateways)
    }
}

/// The steps of one module.
pub(crate) struct Job {
    pub(crate) module: ModuleName,
    pub(crate) steps: Vec<Step>,
    /// What it is to be; `None` when it is to be gone.
    pub(crate) spec: Option<ModuleSpec>,
    pub(crate) credential: Option<RegistryCredential>,
    /// Shows whether it is still preparing, which can be given up.
    pub(crate) preparing: Arc<AtomicBool>,
    /// Gives it up.
    pub(crate) cancel: oneshot::Receiver<()>,
}

/// What came of a job.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) module: ModuleName,
    pub(crate) outcome: Outcome,
    /// The module was made anew.
    pub(crate) created: bool,
    /// It was restarted by policy.
    pub(crate) restarted: bool,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    GivenUp,
    Failed(Failure),
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("cannot make sure of the identity of module `{0}`: {1}")]
    Identity(ModuleName, IdentityFailure),
    #[error("cannot serve the workload API to module `{0}`: {1}")]
    Socket(ModuleName, String),
    #[error("modules of type `{0}` cannot be run here")]
    NoRuntime(&'static str),
    #[error("module `{0}` has no spec to be made from")]
    NoSpec(ModuleName),
}

impl Failure {
    /// Once the hub can be reached, the same will do.
    pub(crate) fn waits_for_hub(&self) -> bool {
        matches!(self, Self::Identity(_, failure) if failure.is_passing)
    }
}

/// Does a job to its end, to its first failure, or until it is given up.
pub(crate) async fn perform(shared: Arc<Shared>, mut job: Job) -> Finished {
    let mut finished =
        Finished { module: job.module.clone(), outcome: Outcome::Done, created: false, restarted: false };
    let (_never, stays) = oneshot::channel();
    let cancel = std::mem::replace(&mut job.cancel, stays);
    tokio::select! {
        biased;
        outcome = steps(&shared, &job, &mut finished.created, &mut finished.restarted) => {
            finished.outcome = outcome.map_or_else(Outcome::Failed, |()| Outcome::Done);
        }
        Ok(()) = cancel => finished.outcome = Outcome::GivenUp,
    }
    finished
}

async fn steps(shared: &Shared, job: &Job, created: &mut bool, restarted: &mut bool) -> Result<(), Failure> {
    for step in &job.steps {
        let part = shared.runtime(step.kind).ok_or(Failure::NoRuntime(step.kind))?;
        let spec = || job.spec.as_ref().ok_or_else(|| Failure::NoSpec(job.module.clone()));
        tracing::debug!(module = %job.module, action = ?step.action, "step");
        match step.action {
            Action::Prepare => {
                job.preparing.store(true, Ordering::Relaxed);
                let prepared = part.runtime.prepare(&spec()?.artifact, job.credential.as_ref()).await;
                job.preparing.store(false, Ordering::Relaxed);
                prepared?;
            }
            Action::Stop => part.runtime.stop(&job.module, None).await?,
            Action::Remove => part.runtime.remove(&job.module).await?,
            Action::Create => {
                create(shared, part, spec()?).await?;
                *created = true;
            }
            Action::Start { counts } => {
                let socket = shared.parts.identities.open_socket(&job.module, part.access);
                socket.map_err(|reason| Failure::Socket(job.module.clone(), reason))?;
                part.runtime.start(&job.module).await?;
                *restarted |= counts;
            }
            // These are the agent's own; they never get here.
            Action::Abandon | Action::Wait { .. } | Action::Forgive => {}
        }
    }
    Ok(())
}

async fn create(shared: &Shared, part: &RuntimePart, spec: &ModuleSpec) -> Result<(), Failure> {
    let identities = &shared.parts.identities;
    let generation = identities.ensure(&spec.name).await;
    let generation = generation.map_err(|failure| Failure::Identity(spec.name.clone(), failure))?;
    let workload_folder =
        identities.open_socket(&spec.name, part.access).map_err(|reason| Failure::Socket(spec.name.clone(), reason))?;
    let gateways = shared.ensure_network(part).await?;
    let bound = Bound {
        device: identities.device(),
        hub_host: identities.hub_host(),
        generation,
        workload_folder,
        gateways: &gateways,
    };
    let binding = binding(&shared.config, &*part.runtime, spec, bound);
    part.runtime.create(spec, &binding).await?;
    Ok(())
}
