//! The manifest in force: taken, refused, kept; how it fares; what is left to clean up.

use std::collections::BTreeSet;
use std::sync::Arc;

use skerry_deployment::reconcile::{Action, Plan};
use skerry_dialect::management::ManagedModule;
use skerry_dialect::manifest::{self, AgentFault};
use skerry_dialect::own::{DeploymentState, EdgeStatus};
use skerry_model::{Manifest, ModuleSpec};
use skerry_module_runtime as runtime;

use super::run::{Agent, Event};
use crate::edge_hub::edge_hub_settings;
use crate::ports::IdentityFailure;
use crate::report::{DeploymentResult, ModuleView, artifact_name, without_dollar};
use crate::system::{agent_condition, hub_condition};

/// Errors of a refused document that one log line shows.
const ERRORS_SHOWN_MAX: usize = 5;

impl Agent {
    /// What was kept on disk is in force until the hub says something else.
    pub(super) fn take_kept(&mut self) {
        let Some((document, version)) = self.desired.document() else { return };
        match manifest::agent(document, self.shared.config.parent_host.as_deref()) {
            Ok(manifest) => {
                tracing::info!(version, modules = manifest.modules.len(), "the last good manifest is in force");
                self.put_in_force(manifest, version);
            }
            Err(fault) => tracing::warn!(description = fault.description(), "the kept manifest is not usable"),
        }
    }

    /// The desired properties may be others than before.
    pub(super) async fn evaluate(&mut self) {
        let Some((document, version)) = self.desired.document() else { return };
        match manifest::agent(document, self.shared.config.parent_host.as_deref()) {
            Ok(manifest) => {
                self.refused.clear();
                let is_same = self.manifest_version == version && self.manifest.as_deref() == Some(&manifest);
                if is_same {
                    self.look.is_wanted = true;
                    return;
                }
                if let Err(error) = self.store.save_manifest(document, version).await {
                    tracing::error!(%error, "the manifest is not kept: after a restart without a hub the one before is in force");
                }
                tracing::info!(version, modules = manifest.modules.len(), "a new manifest is in force");
                self.history.new_deployment();
                self.history_changed = true;
                self.problems.clear();
                self.put_in_force(manifest, version);
            }
            Err(fault) => self.refuse(&fault, version),
        }
    }

    /// What is in force stays. Why is reported, and logged once.
    fn refuse(&mut self, fault: &AgentFault, version: u64) {
        let description = fault.description();
        let mut wrong: Vec<_> = fault.errors().iter().map(ToString::to_string).collect();
        if wrong.is_empty() {
            wrong.push(description.clone());
        }
        let result = DeploymentResult { version, code: fault.code(), description };
        if (&self.refused, &self.result) == (&wrong, &result) {
            return;
        }
        match fault {
            AgentFault::Empty if self.manifest.is_none() => {
                tracing::info!(version, "there is no deployment for this device yet; the edge waits for one");
            }
            AgentFault::Empty => {
                tracing::warn!(version, "the deployment of this device was emptied, the manifest before stays");
            }
            AgentFault::Format(_) | AgentFault::Version { .. } => {
                let errors = wrong.iter().take(ERRORS_SHOWN_MAX).cloned().collect::<Vec<_>>().join("; ");
                let description = &result.description;
                tracing::warn!(
                    version,
                    description,
                    errors,
                    "desired properties are refused, the manifest before stays"
                );
            }
        }
        (self.refused, self.result) = (wrong, result);
        self.reporting.is_wanted = true;
    }

    fn put_in_force(&mut self, manifest: Manifest, version: u64) {
        let hub = manifest.edge_hub.as_ref().map(edge_hub_settings).unwrap_or_default();
        self.edge_hub.send_if_modified(|known| {
            let is_news = *known != hub;
            if is_news {
                *known = hub;
            }
            is_news
        });
        self.manifest = Some(Arc::new(manifest));
        self.manifest_version = version;
        self.cleanup_wanted = true;
        self.look.is_wanted = true;
    }

    /// Says how the manifest in force fares, once that can be said: it is done, or something is wrong. In between the last word stands.
    pub(super) fn settle_result(&mut self, plan: &Plan, manifest: &Manifest) {
        let is_there =
            |name: &_| manifest.modules.contains_key(name) || self.observed.modules.iter().any(|m| &m.name == name);
        self.problems.retain(|name, _| is_there(name));
        if !self.refused.is_empty() {
            return;
        }
        let mut wrong: Vec<String> = self.missing_runtimes(manifest);
        wrong.extend(self.problems.values().cloned());
        let is_settled = |action: &Action| matches!(action, Action::Wait { .. } | Action::Forgive);
        let result = if !wrong.is_empty() {
            DeploymentResult { version: self.manifest_version, code: 500, description: wrong.join("; ") }
        } else if self.works.is_empty() && plan.steps.iter().all(|step| is_settled(&step.action)) {
            DeploymentResult { version: self.manifest_version, code: 200, description: String::new() }
        } else {
            return;
        };
        if result != self.result {
            tracing::info!(
                version = result.version,
                code = result.code,
                description = result.description,
                "deployment"
            );
            self.result = result;
        }
    }

    /// What is missing for modules whose runtime is not there.
    fn missing_runtimes(&self, manifest: &Manifest) -> Vec<String> {
        let kinds: BTreeSet<_> = manifest.modules.values().map(|spec| spec.artifact.kind()).collect();
        kinds.into_iter().filter_map(|kind| self.missing_runtime(kind)).collect()
    }

    fn missing_runtime(&self, kind: &str) -> Option<String> {
        match self.seen.iter().find(|seen| seen.kind == kind) {
            Some(seen) => seen.modules.as_ref().err().cloned(),
            None => Some(format!("modules of type `{kind}` cannot be run here")),
        }
    }

    /// All wanted modules as they are.
    pub(super) fn views<'a>(&'a self, manifest: &'a Manifest, missing: &'a [(String, String)]) -> Vec<ModuleView<'a>> {
        let view = |spec: &'a ModuleSpec| {
            let kind = spec.artifact.kind();
            let problem = self
                .problems
                .get(&spec.name)
                .or_else(|| missing.iter().find(|(known, _)| known == kind).map(|(_, reason)| reason));
            let is_busy = self.works.contains_key(&spec.name);
            let problem = problem.map(String::as_str);
            ModuleView::new(spec, &self.observed, self.seen_module(spec), &self.history, problem, is_busy)
        };
        manifest.modules.values().map(view).collect()
    }

    /// Kinds of modules that cannot be run, with the reason.
    pub(super) fn missing_kinds(&self, manifest: &Manifest) -> Vec<(String, String)> {
        let kinds: BTreeSet<_> = manifest.modules.values().map(|spec| spec.artifact.kind()).collect();
        kinds.into_iter().filter_map(|kind| Some((kind.to_owned(), self.missing_runtime(kind)?))).collect()
    }

    fn seen_module(&self, spec: &ModuleSpec) -> Option<&runtime::ObservedModule> {
        let seen = self.seen.iter().find(|seen| seen.kind == spec.artifact.kind())?;
        seen.modules.as_ref().ok()?.iter().find(|module| module.name == spec.name)
    }

    /// The modules for the management API.
    pub(super) fn list(&self) -> Vec<ManagedModule> {
        let Some(manifest) = &self.manifest else { return Vec::new() };
        let mut list = Vec::new();
        let news = self.shared.parts.edge_hub.borrow().clone();
        let agent = manifest.edge_agent.as_ref().map(|spec| (spec, agent_condition(Some(spec))));
        let hub = manifest.edge_hub.as_ref().map(|spec| (spec, hub_condition(Some(spec), &news)));
        for (spec, condition) in [agent, hub].into_iter().flatten() {
            list.push(ManagedModule {
                name: without_dollar(&spec.name),
                kind: spec.artifact.kind().to_owned(),
                image: artifact_name(&spec.artifact),
                status: condition.status.as_str().to_owned(),
                description: condition.remarks.join("; "),
                started: Some(self.started_at),
                exited: None,
                exit_code: None,
            });
        }
        let missing = self.missing_kinds(manifest);
        list.extend(self.views(manifest, &missing).iter().map(|view| ManagedModule {
            name: view.spec.name.to_string(),
            kind: view.spec.artifact.kind().to_owned(),
            image: artifact_name(&view.spec.artifact),
            status: view.status.as_str().to_owned(),
            description: view.description(),
            started: view.observed.and_then(|module| module.started_at),
            exited: view.observed.and_then(|module| module.finished_at),
            exit_code: view.observed.and_then(|module| module.exit_code),
        }));
        list
    }

    /// The edge's status, as far as the agent knows it.
    pub(super) fn status(&self) -> EdgeStatus {
        let upstream = self.shared.parts.upstream.state().borrow().clone();
        let description =
            if self.refused.is_empty() { self.result.description.clone() } else { self.refused.join("; ") };
        EdgeStatus {
            device: self.shared.parts.identities.device().to_string(),
            hub: self.shared.parts.identities.hub_host().to_owned(),
            version: self.shared.config.machine.version.clone(),
            upstream_connected: upstream.connection.is_some(),
            upstream_since: upstream.since,
            upstream_error: upstream.problem,
            deployment: Some(DeploymentState {
                version: self.result.version,
                code: u64::from(self.result.code),
                description,
            }),
            ..EdgeStatus::default()
        }
    }

    /// Deletes identities of modules that are gone, once they are, and only on the word of the hub in this life.
    pub(super) fn begin_cleanup(&mut self) {
        let Some(manifest) = &self.manifest else { return };
        let is_gone = |name| manifest.modules.contains_key(name);
        let all_gone =
            self.observed.modules.iter().all(|module| is_gone(&module.name)) && self.works.keys().all(is_gone);
        let is_due = self.cleanup_wanted && !self.cleanup_runs && self.heard_from_hub && self.connection.is_some();
        if !is_due || !all_gone || self.look.is_wanted || self.look.runs {
            return;
        }
        self.cleanup_wanted = false;
        self.cleanup_runs = true;
        let wanted: BTreeSet<_> = manifest.modules.keys().cloned().collect();
        let identities = Arc::clone(&self.shared.parts.identities);
        self.tasks.spawn(async move { Event::Cleaned(identities.retain(&wanted).await) });
    }

    pub(super) fn cleaned(&mut self, outcome: Result<(), IdentityFailure>) {
        self.cleanup_runs = false;
        if let Err(failure) = outcome {
            tracing::warn!(%failure, "identities of removed modules are left at the hub for now");
            // Again when the hub has been away, or with the next manifest.
            self.cleanup_after_reconnect = true;
        }
    }
}
