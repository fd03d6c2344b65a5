//! The reported properties of `$edgeAgent`: everything the machine is, as one document (`edge-agent` §4).

use serde_json::json;
use skerry_deployment::reconcile::{History, Observed, ObservedModule, effective_status};
use skerry_dialect::manifest::{env, settings};
use skerry_model::json::JsonObject;
use skerry_model::manifest::{Artifact, RuntimeSettings, RuntimeStatus, StartupOrder};
use skerry_model::{Json, Manifest, ModuleName, ModuleSpec, Timestamp};
use skerry_module_runtime as runtime;

use crate::AgentConfig;
use crate::edge_hub::EdgeHubNews;
use crate::system::{Condition, agent_condition, hub_condition};

/// What stands in place of a registry's password.
const MASKED: &str = "***";
/// A moment that never was, as the original writes it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// How the last desired properties fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeploymentResult {
    /// Which version of them.
    pub(crate) version: u64,
    /// 200, or what is wrong.
    pub(crate) code: u16,
    /// What is wrong; empty when nothing is.
    pub(crate) description: String,
}

impl DeploymentResult {
    /// Nothing is known yet.
    pub(crate) const fn none_yet() -> Self {
        Self { version: 0, code: 406, description: String::new() }
    }
}

/// Everything that is reported.
pub(crate) struct Reported<'a> {
    pub(crate) config: &'a AgentConfig,
    pub(crate) edge_hub: &'a EdgeHubNews,
    pub(crate) started_at: Timestamp,
    pub(crate) manifest: Option<&'a Manifest>,
    pub(crate) modules: &'a [ModuleView<'a>],
    pub(crate) result: &'a DeploymentResult,
}

/// One wanted module, what is there of it, and what happened to it.
pub(crate) struct ModuleView<'a> {
    pub(crate) spec: &'a ModuleSpec,
    pub(crate) status: RuntimeStatus,
    pub(crate) observed: Option<&'a runtime::ObservedModule>,
    pub(crate) restarts: u32,
    pub(crate) restarted_at: Option<Timestamp>,
    /// Why it is not as it should be.
    pub(crate) problem: Option<&'a str>,
    /// Something is being done with it.
    pub(crate) is_busy: bool,
}

impl<'a> ModuleView<'a> {
    /// Puts together what is known of `spec`.
    pub(crate) fn new(
        spec: &'a ModuleSpec,
        observed: &Observed,
        seen: Option<&'a runtime::ObservedModule>,
        history: &History,
        problem: Option<&'a str>,
        is_busy: bool,
    ) -> Self {
        let kind = spec.artifact.kind();
        let is_this = |module: &&ObservedModule| module.name == spec.name && module.kind == kind;
        let planned = observed.modules.iter().find(is_this);
        let past = history.of(&spec.name);
        let status = match planned {
            _ if observed.unreachable.contains(&kind) => RuntimeStatus::Unknown,
            Some(module) => effective_status(spec, module, history),
            None if problem.is_some() => RuntimeStatus::Backoff,
            None => RuntimeStatus::Unknown,
        };
        Self {
            spec,
            status,
            observed: seen,
            restarts: past.restarts,
            restarted_at: past.restarted_at,
            problem,
            is_busy,
        }
    }

    /// A sentence about its status.
    pub(crate) fn description(&self) -> String {
        if let Some(problem) = self.problem {
            return problem.to_owned();
        }
        let Some(observed) = self.observed else {
            return if self.is_busy { "is being made".to_owned() } else { String::new() };
        };
        match (&observed.exit_reason, observed.exit_code) {
            (Some(reason), _) if self.status != RuntimeStatus::Running => reason.clone(),
            (None, Some(code)) if self.status != RuntimeStatus::Running => format!("ended with {code}"),
            _ => self.status.as_str().to_owned(),
        }
    }
}

/// The whole document.
pub(crate) fn document(reported: &Reported<'_>) -> JsonObject {
    let Reported { config, manifest, result, .. } = reported;
    let settings = manifest.map(|manifest| runtime_settings(&manifest.runtime));
    let modules: JsonObject = reported.modules.iter().map(|view| (view.spec.name.to_string(), module(view))).collect();
    let document = json!({
        "schemaVersion": "1.0",
        "version": { "version": config.machine.version, "build": "", "commit": "" },
        "lastDesiredVersion": result.version,
        "lastDesiredStatus": { "code": result.code, "description": result.description },
        "runtime": {
            "type": "docker",
            "settings": settings.unwrap_or_else(|| json!({})),
            "platform": { "os": "linux", "architecture": config.machine.architecture, "version": config.machine.version },
        },
        "systemModules": system_modules(reported),
        "modules": modules,
    });
    match document {
        Json::Object(document) => document,
        _ => JsonObject::new(),
    }
}

/// The settings of the runtime, without passwords.
fn runtime_settings(settings: &RuntimeSettings) -> Json {
    let registries: JsonObject = settings
        .registries
        .iter()
        .map(|registry| {
            let shown = json!({ "address": registry.address, "username": registry.username, "password": MASKED });
            (registry.name.clone(), shown)
        })
        .collect();
    json!({
        "minDockerVersion": settings.min_docker_version,
        "loggingOptions": settings.logging_options,
        "registryCredentials": registries,
    })
}

/// Agent and hub are parts of this program: their images are reported and never pulled.
fn system_modules(reported: &Reported<'_>) -> Json {
    let started = moment(Some(reported.started_at));
    let common = |spec: Option<&ModuleSpec>, condition: Condition| {
        let mut entry = json!({
            "exitCode": 0,
            "statusDescription": condition.sentence(),
            "lastStartTimeUtc": started,
            "lastExitTimeUtc": NEVER,
            "runtimeStatus": condition.status.as_str(),
        });
        if let Some(spec) = spec {
            entry["type"] = spec.artifact.kind().into();
            entry["settings"] = settings(&spec.artifact, None).into();
            entry["env"] = env(spec).into();
            if let Artifact::Image(image) = &spec.artifact {
                entry["imagePullPolicy"] = image.pull.as_str().into();
            }
        }
        entry
    };
    let agent = reported.manifest.and_then(|manifest| manifest.edge_agent.as_ref());
    let hub = reported.manifest.and_then(|manifest| manifest.edge_hub.as_ref());
    let mut hub_entry = common(hub, hub_condition(hub, reported.edge_hub));
    if let Some(spec) = hub {
        hub_entry["restartCount"] = 0.into();
        hub_entry["lastRestartTimeUtc"] = NEVER.into();
        hub_entry["status"] = spec.status.as_str().into();
        hub_entry["restartPolicy"] = spec.restart.as_str().into();
        if spec.startup_order != StartupOrder::LAST {
            hub_entry["startupOrder"] = spec.startup_order.0.into();
        }
    }
    json!({ "edgeAgent": common(agent, agent_condition(agent)), "edgeHub": hub_entry })
}

fn module(view: &ModuleView<'_>) -> Json {
    let spec = view.spec;
    let observed = view.observed;
    let hash = observed.and_then(|module| module.artifact_digest.as_deref());
    let mut entry = json!({
        "exitCode": observed.and_then(|module| module.exit_code).unwrap_or(0),
        "statusDescription": view.description(),
        "lastStartTimeUtc": moment(observed.and_then(|module| module.started_at)),
        "lastExitTimeUtc": moment(observed.and_then(|module| module.finished_at)),
        "restartCount": view.restarts,
        "lastRestartTimeUtc": moment(view.restarted_at),
        "runtimeStatus": view.status.as_str(),
        "version": spec.version,
        "status": spec.status.as_str(),
        "restartPolicy": spec.restart.as_str(),
        "type": spec.artifact.kind(),
        "settings": settings(&spec.artifact, hash),
        "env": env(spec),
    });
    if let Artifact::Image(image) = &spec.artifact {
        entry["imagePullPolicy"] = image.pull.as_str().into();
    }
    if spec.startup_order != StartupOrder::LAST {
        entry["startupOrder"] = spec.startup_order.0.into();
    }
    entry
}

fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(|| NEVER.to_owned(), |at| at.to_string())
}

/// What names an artifact in a list.
pub(crate) fn artifact_name(artifact: &Artifact) -> String {
    match artifact {
        Artifact::Image(image) => image.image.clone(),
        Artifact::Process(process) => process.command.clone(),
    }
}

/// The names of system modules on the management API.
pub(crate) fn without_dollar(name: &ModuleName) -> String {
    name.as_str().trim_start_matches('$').to_owned()
}
