//! Looking at the machine and doing what the plan says.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use skerry_deployment::reconcile::{self, Action, Observed, Plan, Step, plan};
use skerry_model::manifest::{Artifact, RuntimeSettings};
use skerry_model::{Manifest, ModuleName, ModuleSpec, Monotonic};
use skerry_module_runtime::{self as runtime, ModuleState};
use tokio::sync::oneshot;

use super::ModuleError;
use super::run::{Agent, Event, Seen, Work};
use crate::perform::{Job, Shared, perform};
use crate::ports::IdentityFailure;

/// How long a runtime may take to say what it has.
const LOOK_MAX: Duration = Duration::from_secs(30);

/// When the machine is looked at.
#[derive(Debug)]
pub(super) struct Look {
    /// Something may have changed.
    pub(super) is_wanted: bool,
    pub(super) runs: bool,
    /// At the latest.
    pub(super) next: Monotonic,
    /// When the last plan has something to do again.
    pub(super) plan_at: Option<Monotonic>,
}

impl Default for Look {
    fn default() -> Self {
        Self { is_wanted: true, runs: false, next: Monotonic::default(), plan_at: None }
    }
}

impl Agent {
    /// Starts whatever is due and not running.
    pub(super) fn begin_what_is_due(&mut self) {
        let now = self.now().monotonic;
        let is_due = self.look.is_wanted || self.look.next <= now || self.look.plan_at.is_some_and(|at| at <= now);
        if is_due && !self.look.runs {
            self.look.is_wanted = false;
            self.look.runs = true;
            self.look.plan_at = None;
            self.look.next = now + self.shared.config.look_every;
            let (shared, changes) = (Arc::clone(&self.shared), self.changes);
            let wanted = self.wanted_kinds();
            self.tasks.spawn(async move { Event::Looked { changes, seen: look(&shared, &wanted).await } });
        }
        self.begin_sync(now);
        self.begin_cleanup();
    }

    fn wanted_kinds(&self) -> Vec<&'static str> {
        let modules = self.manifest.iter().flat_map(|manifest| manifest.modules.values());
        modules.map(|spec| spec.artifact.kind()).collect()
    }

    /// What the runtimes said; what they said before something changed is not believed.
    pub(super) fn looked(&mut self, changes: u64, seen: Vec<Seen>) {
        self.look.runs = false;
        if changes != self.changes {
            self.look.is_wanted = true;
            return;
        }
        self.seen = seen;
        self.observed = self.in_planners_words();
        let removes_all = self.shared.parts.identities.provisioning_changed() && !self.heard_from_hub;
        let manifest = match &self.manifest {
            Some(manifest) => Arc::clone(manifest),
            None if removes_all => Arc::new(nothing_wanted()),
            None => {
                self.reporting.is_wanted = true;
                return;
            }
        };
        self.open_sockets(&manifest);
        let now = self.now();
        let plan = plan(&manifest, &self.observed, &self.history, now);
        self.look.plan_at = plan.next_at().map(|at| now.monotonic + at.since(now.wall));
        self.follow(&plan, &manifest);
        self.settle_result(&plan, &manifest);
        self.reporting.is_wanted = true;
    }

    fn in_planners_words(&self) -> Observed {
        let mut observed = Observed { booted_at: self.shared.config.machine.booted_at, ..Observed::default() };
        for seen in &self.seen {
            match &seen.modules {
                Err(_) => observed.unreachable.push(seen.kind),
                Ok(modules) => {
                    observed.modules.extend(modules.iter().map(|module| self.planners_view(seen.kind, module)))
                }
            }
        }
        for kind in self.wanted_kinds() {
            if self.shared.runtime(kind).is_none() && !observed.unreachable.contains(&kind) {
                observed.unreachable.push(kind);
            }
        }
        observed.underway = self.works.iter().map(|(module, work)| work.underway(module)).collect();
        observed
    }

    fn planners_view(&self, kind: &'static str, module: &runtime::ObservedModule) -> reconcile::ObservedModule {
        let known = self.shared.parts.identities.known(&module.name);
        reconcile::ObservedModule {
            name: module.name.clone(),
            kind,
            status: module.status(),
            is_new: module.state == ModuleState::Created,
            digest: module.spec_digest,
            has_old_identity: known.is_some() && known != module.generation,
            started_at: module.started_at,
            finished_at: module.finished_at,
            was_stopped: module.was_stopped,
        }
    }

    /// Modules that were here before us get their workload socket again.
    fn open_sockets(&mut self, manifest: &Manifest) {
        let identities = Arc::clone(&self.shared.parts.identities);
        self.sockets.retain(|module| manifest.modules.contains_key(module));
        let present: Vec<_> = self.observed.modules.iter().map(|module| (module.name.clone(), module.kind)).collect();
        for (module, kind) in present {
            let is_ours = manifest.modules.contains_key(&module) && !self.works.contains_key(&module);
            if !is_ours || self.sockets.contains(&module) {
                continue;
            }
            let Some(part) = self.shared.runtime(kind) else { continue };
            if identities.known(&module).is_none() {
                let identities = Arc::clone(&identities);
                self.sockets.insert(module.clone());
                self.tasks.spawn(async move {
                    let outcome = identities.ensure(&module).await.map(drop);
                    Event::Adopted(module, outcome)
                });
                continue;
            }
            match identities.open_socket(&module, part.access) {
                Ok(_) => {
                    self.sockets.insert(module);
                }
                Err(reason) => tracing::warn!(%module, reason, "the workload API is not served"),
            }
        }
    }

    pub(super) fn adopted(&mut self, module: &ModuleName, outcome: Result<(), IdentityFailure>) {
        self.sockets.remove(module);
        match outcome {
            Ok(()) => self.look.is_wanted = true,
            // Tried again at the next look.
            Err(failure) => tracing::warn!(%module, %failure, "a running module has no identity"),
        }
    }

    fn follow(&mut self, plan: &Plan, manifest: &Manifest) {
        for steps in plan.steps.chunk_by(|left, right| left.module == right.module) {
            let Some(first) = steps.first() else { continue };
            match first.action {
                Action::Wait { .. } => {}
                Action::Abandon => {
                    let work = self.works.get_mut(&first.module);
                    work.and_then(|work| work.cancel.take()).map(|cancel| cancel.send(()));
                }
                Action::Forgive => {
                    self.history.forgive(&first.module);
                    self.history_changed = true;
                }
                Action::Prepare | Action::Stop | Action::Remove | Action::Create | Action::Start { .. } => {
                    self.begin_work(&first.module, steps.to_vec(), manifest, None);
                }
            }
        }
    }

    fn begin_work(
        &mut self,
        module: &ModuleName,
        steps: Vec<Step>,
        manifest: &Manifest,
        waiting: Option<oneshot::Sender<Result<(), ModuleError>>>,
    ) {
        let spec = manifest.modules.get(module).cloned();
        let is_removal = steps.last().is_some_and(|step| step.action == Action::Remove);
        let will_start = steps.iter().any(|step| matches!(step.action, Action::Start { .. }));
        let (cancel, cancelled) = oneshot::channel();
        // What begins with preparing counts as preparing before its task has run.
        let preparing = Arc::new(AtomicBool::new(steps.first().is_some_and(|step| step.action == Action::Prepare)));
        let digest = spec.as_ref().filter(|_| !is_removal).map(ModuleSpec::digest);
        let work = Work { digest, preparing: Arc::clone(&preparing), will_start, cancel: Some(cancel), waiting };
        self.works.insert(module.clone(), work);
        self.changes += 1;
        let credential = spec.as_ref().and_then(|spec| match &spec.artifact {
            Artifact::Image(image) => manifest.runtime.credential_for(&image.image).cloned(),
            Artifact::Process(_) => None,
        });
        let job = Job { module: module.clone(), steps, spec, credential, preparing, cancel: cancelled };
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move { Event::Worked(perform(shared, job).await) });
    }

    /// Somebody wants a module restarted.
    pub(super) fn restart(&mut self, module: ModuleName, answer: oneshot::Sender<Result<(), ModuleError>>) {
        let present = self.observed.modules.iter().find(|present| present.name == module).map(|present| present.kind);
        let is_system = module.is_system() || matches!(module.as_str(), "edgeAgent" | "edgeHub") && present.is_none();
        let refusal = match (&self.manifest, present) {
            _ if is_system => Some(ModuleError::System(module.clone())),
            _ if self.works.contains_key(&module) => Some(ModuleError::Busy(module.clone())),
            (Some(manifest), Some(_)) if manifest.modules.contains_key(&module) => None,
            _ => Some(ModuleError::NoSuchModule(module.clone())),
        };
        match (refusal, present, self.manifest.clone()) {
            (None, Some(kind), Some(manifest)) => {
                tracing::info!(%module, "module is restarted on request");
                let step = |action| Step { module: module.clone(), kind, action };
                let steps = vec![step(Action::Stop), step(Action::Start { counts: false })];
                self.begin_work(&module, steps, &manifest, Some(answer));
            }
            (refusal, ..) => {
                // Whoever asked may have gone.
                let _ = answer.send(Err(refusal.unwrap_or(ModuleError::NoSuchModule(module))));
            }
        }
    }
}

async fn look(shared: &Shared, wanted: &[&'static str]) -> Vec<Seen> {
    let mut all = Vec::new();
    for part in &shared.parts.runtimes {
        let kind = part.runtime.kind();
        let modules = match tokio::time::timeout(LOOK_MAX, part.runtime.observe()).await {
            Ok(Ok(modules)) => Ok(modules),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("modules of type `{kind}` cannot be looked at: no answer within {LOOK_MAX:?}")),
        };
        // The edge hub is to listen on the modules' network before the first of them starts.
        let is_known = shared.gateways.borrow().iter().any(|(known, _)| *known == kind);
        if modules.is_ok()
            && wanted.contains(&kind)
            && !is_known
            && let Err(error) = shared.ensure_network(part).await
        {
            tracing::warn!(%error, "the modules' network is not there");
        }
        all.push(Seen { kind, modules });
    }
    all
}

fn nothing_wanted() -> Manifest {
    Manifest {
        schema_version: String::new(),
        runtime: RuntimeSettings::default(),
        edge_agent: None,
        edge_hub: None,
        modules: std::collections::BTreeMap::new(),
    }
}
