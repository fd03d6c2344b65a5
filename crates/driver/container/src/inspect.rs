//! What the engine says about a container, in the words of the port.

use skerry_model::manifest::SpecDigest;
use skerry_model::{Json, ModuleName, Timestamp};
use skerry_module_runtime::{ModuleState, ObservedModule};

use crate::labels;

/// A container of ours as a list tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) module: ModuleName,
    pub(crate) state: String,
}

/// The containers in the answer to a list; what does not say which module it is, is left out.
pub(crate) fn listed(answer: &Json) -> Vec<Listed> {
    let containers = answer.as_array().into_iter().flatten();
    let listed = containers.filter_map(|container| {
        Some(Listed {
            id: container["Id"].as_str()?.to_owned(),
            module: ModuleName::parse(container["Labels"][labels::MODULE].as_str()?).ok()?,
            state: container["State"].as_str()?.to_owned(),
        })
    });
    listed.collect()
}

/// One container as the answer to an inspection tells it.
pub(crate) fn observed(module: ModuleName, answer: &Json) -> ObservedModule {
    let state = &answer["State"];
    let labels = &answer["Config"]["Labels"];
    let ended = matches!(state["Status"].as_str(), Some("exited" | "removing" | "dead"));
    let started_at = moment(&state["StartedAt"]);
    let finished_at = moment(&state["FinishedAt"]);
    ObservedModule {
        state: module_state(state["Status"].as_str().unwrap_or_default()),
        exit_code: state["ExitCode"].as_i64().filter(|_| ended),
        exit_reason: exit_reason(state),
        started_at,
        // The engine notes the start when it hears of it: for a module that ends at once that is after the end.
        finished_at: if ended { finished_at.max(started_at) } else { finished_at },
        spec_digest: labels[labels::SPEC_DIGEST].as_str().and_then(SpecDigest::parse),
        generation: labels[labels::GENERATION].as_str().map(str::to_owned),
        artifact_digest: answer["Image"].as_str().map(str::to_owned),
        process_id: state["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0),
        ..ObservedModule::created(module)
    }
}

fn module_state(status: &str) -> ModuleState {
    match status {
        "created" => ModuleState::Created,
        "running" => ModuleState::Running,
        "paused" | "restarting" => ModuleState::Held,
        "exited" | "removing" => ModuleState::Exited,
        "dead" => ModuleState::Dead,
        _ => ModuleState::Unknown,
    }
}

fn exit_reason(state: &Json) -> Option<String> {
    let error = state["Error"].as_str().unwrap_or_default();
    if state["OOMKilled"] == true {
        Some("it, or a process of it, was ended because of its memory limit".to_owned())
    } else if error.is_empty() {
        None
    } else {
        Some(error.to_owned())
    }
}

/// The engine writes the year 1 for "never".
fn moment(value: &Json) -> Option<Timestamp> {
    Timestamp::parse(value.as_str()?).ok().filter(|moment| moment.unix_millis() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn observe(state: Json) -> ObservedModule {
        let labels = json!({"io.skerry.spec-digest": "6c62272e07bb014262b821756295c58d", "io.skerry.generation": "g"});
        let answer = json!({"Image": "sha256:aa", "State": state, "Config": {"Labels": labels}});
        observed(ModuleName::parse("m").unwrap(), &answer)
    }

    #[test]
    fn a_running_container_is_told() {
        let module = observe(json!({
            "Status": "running", "Pid": 42, "ExitCode": 0, "Error": "", "OOMKilled": false,
            "StartedAt": "2026-05-01T10:00:00.123456789Z", "FinishedAt": "0001-01-01T00:00:00Z",
        }));
        let expected = ObservedModule {
            state: ModuleState::Running,
            started_at: Timestamp::parse("2026-05-01T10:00:00.123Z").ok(),
            spec_digest: Some(SpecDigest::of("")),
            generation: Some("g".to_owned()),
            artifact_digest: Some("sha256:aa".to_owned()),
            process_id: Some(42),
            ..ObservedModule::created(ModuleName::parse("m").unwrap())
        };
        assert_eq!(module, expected);
    }

    #[test]
    fn an_ended_container_is_told() {
        let module = observe(json!({
            "Status": "exited", "Pid": 0, "ExitCode": 137, "Error": "", "OOMKilled": true,
            "StartedAt": "2026-05-01T10:00:00Z", "FinishedAt": "2026-05-01T10:00:09Z",
        }));
        assert_eq!((module.state, module.exit_code, module.process_id), (ModuleState::Exited, Some(137), None));
        assert!(module.exit_reason.unwrap().contains("memory limit"));
        assert_eq!(module.finished_at, Timestamp::parse("2026-05-01T10:00:09Z").ok());
    }

    #[test]
    fn an_end_is_not_before_its_start() {
        let moments = json!({"StartedAt": "2026-05-01T10:00:00.020Z", "FinishedAt": "2026-05-01T10:00:00.010Z"});
        let observe = |status: &str| {
            let mut state = moments.clone();
            state["Status"] = json!(status);
            observe(state)
        };
        assert_eq!(observe("exited").finished_at, observe("exited").started_at);
        assert!(observe("running").finished_at < observe("running").started_at, "that is the end of the run before");
    }

    #[test]
    fn a_container_that_could_not_be_started_says_why() {
        let module = observe(json!({"Status": "created", "ExitCode": 127, "Error": "no such file"}));
        assert_eq!((module.state, module.exit_code), (ModuleState::Created, None));
        assert_eq!(module.exit_reason.as_deref(), Some("no such file"));
    }

    #[test]
    fn containers_without_a_module_name_are_not_listed() {
        let answer = json!([
            {"Id": "1", "State": "running", "Labels": {"io.skerry.module": "m"}},
            {"Id": "2", "State": "running", "Labels": {}},
            {"Id": "3", "State": "running"},
            {"Id": "4", "State": "running", "Labels": {"io.skerry.module": "a b"}},
            5,
        ]);
        let one = Listed { id: "1".to_owned(), module: ModuleName::parse("m").unwrap(), state: "running".to_owned() };
        assert_eq!(listed(&answer), [one]);
        assert_eq!(listed(&Json::Null), []);
    }
}
