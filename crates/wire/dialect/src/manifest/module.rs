//! One module of a manifest: a container image, or a program of the machine.

use std::collections::BTreeMap;

use skerry_model::json::JsonObject;
use skerry_model::manifest::{
    Artifact, DesiredStatus, ImageArtifact, ModuleSpec, ProcessArtifact, ProcessLimits, PullPolicy, RestartPolicy,
    StartupOrder,
};
use skerry_model::{Json, ModuleName};

use super::create_options;
use super::image::image;
use super::reader::{Reader, member, spelled};

/// Most a number in JSON may be for us: it is kept exactly up to here.
const NUMBER_MAX: i64 = skerry_model::json::INTEGER_MAX;

/// A module under `modules`.
pub(super) fn read(reader: &mut Reader, name: &str, value: &Json, parent: Option<&str>) -> Option<ModuleSpec> {
    let object = reader.object(value)?;
    let name = match ModuleName::parse(name) {
        Ok(name) if !name.is_system() => Some(name),
        Ok(_) => reader.fail("a module's name must not begin with $"),
        Err(error) => reader.fail(error.to_string()),
    };
    let artifact = artifact(reader, object, parent, true);
    let rest = common(reader, object, RestartPolicy::default());
    let (artifact, (env, status, restart, startup_order, version)) = (artifact?, rest?);
    Some(ModuleSpec { name: name?, artifact, env, status, restart, startup_order, version })
}

/// `systemModules.edgeHub`.
pub(super) fn read_edge_hub(reader: &mut Reader, value: &Json, parent: Option<&str>) -> Option<ModuleSpec> {
    let object = reader.object(value)?;
    let artifact = artifact(reader, object, parent, false);
    let rest = common(reader, object, RestartPolicy::Always);
    let (artifact, (env, status, restart, startup_order, version)) = (artifact?, rest?);
    Some(ModuleSpec { name: ModuleName::edge_hub(), artifact, env, status, restart, startup_order, version })
}

/// `systemModules.edgeAgent`: whatever it says about status, restart, version and order, it runs, always, first.
pub(super) fn read_edge_agent(reader: &mut Reader, value: &Json, parent: Option<&str>) -> Option<ModuleSpec> {
    let object = reader.object(value)?;
    let artifact = artifact(reader, object, parent, false);
    let env = env(reader, object);
    Some(ModuleSpec {
        name: ModuleName::edge_agent(),
        artifact: artifact?,
        env: env?,
        status: DesiredStatus::Running,
        restart: RestartPolicy::Always,
        startup_order: StartupOrder(0),
        version: String::new(),
    })
}

type Common = (BTreeMap<String, String>, DesiredStatus, RestartPolicy, StartupOrder, String);

fn common(reader: &mut Reader, object: &JsonObject, restart: RestartPolicy) -> Option<Common> {
    let status =
        reader.required(object, "status", |reader, value| reader.word(value, DesiredStatus::parse, "running, stopped"));
    let restart = reader
        .optional(object, "restartPolicy", |reader, value| {
            reader.word(value, RestartPolicy::parse, "never, on-failure, on-unhealthy, always")
        })
        .map(|given| given.unwrap_or(restart));
    // Unlike elsewhere null is not "left out" here, as in the original.
    let startup_order = match member(object, "startupOrder") {
        None => Some(StartupOrder::LAST),
        Some((key, value)) => reader.within(key, |reader| {
            let number = reader.whole(value, 0..=i64::from(u32::MAX))?;
            u32::try_from(number).ok().map(StartupOrder)
        }),
    };
    let version = reader.optional(object, "version", Reader::text).map(Option::unwrap_or_default);
    let env = env(reader, object);
    Some((env?, status?, restart?, startup_order?, version?))
}

fn env(reader: &mut Reader, object: &JsonObject) -> Option<BTreeMap<String, String>> {
    let env = reader.optional(object, "env", |reader, value| {
        let members = reader.object(value)?;
        let read: Vec<_> = members
            .iter()
            .map(|(name, value)| {
                reader.within(name, |reader| env_value(reader, value)).map(|value| (name.clone(), value))
            })
            .collect();
        read.into_iter().collect::<Option<BTreeMap<_, _>>>()
    });
    env.map(Option::unwrap_or_default)
}

fn env_value(reader: &mut Reader, value: &Json) -> Option<String> {
    let object = reader.object(value)?;
    Some(match member(object, "value") {
        None | Some((_, Json::Null)) => String::new(),
        Some((_, Json::String(text))) => text.clone(),
        Some((_, Json::Bool(truth))) => spelled(*truth).to_owned(),
        Some((_, other @ (Json::Number(_) | Json::Array(_) | Json::Object(_)))) => other.to_string(),
    })
}

fn artifact(reader: &mut Reader, object: &JsonObject, parent: Option<&str>, may_be_process: bool) -> Option<Artifact> {
    let words = if may_be_process { "docker, process" } else { "docker" };
    let is_process = reader.required(object, "type", |reader, value| {
        let parse = |word: &str| match word {
            _ if word.eq_ignore_ascii_case("docker") => Some(false),
            _ if may_be_process && word.eq_ignore_ascii_case("process") => Some(true),
            _ => None,
        };
        reader.word(value, parse, words)
    });
    let pull = reader
        .optional(object, "imagePullPolicy", |reader, value| reader.word(value, PullPolicy::parse, "on-create, never"))
        .map(Option::unwrap_or_default);
    let artifact = reader.required(object, "settings", |reader, value| {
        let settings = reader.object(value)?;
        match is_process? {
            true => process(reader, settings).map(Artifact::Process),
            false => container(reader, settings, parent, pull).map(Artifact::Image),
        }
    });
    pull?;
    artifact
}

fn container(
    reader: &mut Reader,
    settings: &JsonObject,
    parent: Option<&str>,
    pull: Option<PullPolicy>,
) -> Option<ImageArtifact> {
    let name = reader.required(settings, "image", |reader, value| {
        let text = reader.text(value)?;
        image(&text, parent).map_or_else(|error| reader.fail(error.to_string()), Some)
    });
    let create_options = create_options::read(reader, settings);
    let digest =
        reader.optional(settings, "digest", Reader::text).map(|text| text.filter(|text| !text.trim().is_empty()));
    Some(ImageArtifact { image: name?, digest: digest?, create_options: create_options?, pull: pull? })
}

fn process(reader: &mut Reader, settings: &JsonObject) -> Option<ProcessArtifact> {
    for key in settings.keys() {
        let lower = key.to_ascii_lowercase();
        if create_options::is_piece(key) || matches!(lower.as_str(), "image" | "artifact") {
            reader.within(key, |reader| reader.fail::<()>("has no meaning for a module of type process"));
        }
    }
    let command = reader.required(settings, "command", absolute_path);
    let args = reader.optional(settings, "args", |reader, value| match value {
        Json::Array(items) => {
            let items: Vec<_> = items
                .iter()
                .enumerate()
                .map(|(at, item)| reader.within(&at.to_string(), |reader| without_nul(reader, item)))
                .collect();
            items.into_iter().collect()
        }
        _ => reader.fail("expected an array of texts"),
    });
    let working_directory = reader.optional(settings, "workingDirectory", absolute_path);
    let limits = reader.optional(settings, "limits", |reader, value| {
        let object = reader.object(value)?;
        limits(reader, object)
    });
    Some(ProcessArtifact {
        command: command?,
        args: args?.unwrap_or_default(),
        working_directory: working_directory?,
        limits: limits?.unwrap_or_default(),
    })
}

fn absolute_path(reader: &mut Reader, value: &Json) -> Option<String> {
    let path = without_nul(reader, value)?;
    let path = path.trim();
    if path.starts_with('/') {
        Some(path.to_owned())
    } else {
        reader.fail("expected an absolute path, such as /usr/bin/module")
    }
}

fn without_nul(reader: &mut Reader, value: &Json) -> Option<String> {
    let text = reader.text(value)?;
    if text.contains('\0') { reader.fail("must not contain a zero character") } else { Some(text) }
}

fn limits(reader: &mut Reader, object: &JsonObject) -> Option<ProcessLimits> {
    let mut whole = |name: &str| {
        let number = reader.optional(object, name, |reader, value| reader.whole(value, 1..=NUMBER_MAX));
        number.map(|number| number.and_then(|number| u64::try_from(number).ok()))
    };
    let (memory_bytes, open_files, processes) = (whole("memoryBytes"), whole("openFiles"), whole("processes"));
    let cpu_millis = reader.optional(object, "cpus", cpu_millis);
    Some(ProcessLimits {
        memory_bytes: memory_bytes?,
        cpu_millis: cpu_millis?,
        open_files: open_files?,
        processes: processes?,
    })
}

/// Processors as a decimal number, kept in thousandths.
fn cpu_millis(reader: &mut Reader, value: &Json) -> Option<u32> {
    const CPUS_MAX: f64 = 4_096.0;
    let cpus = value.as_f64().filter(|cpus| (0.001..=CPUS_MAX).contains(cpus));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    cpus.map(|cpus| (cpus * 1_000.0).round() as u32)
        .or_else(|| reader.fail("expected a number of processors from 0.001 to 4096"))
}
