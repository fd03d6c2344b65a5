//! The desired properties of `$edgeAgent`.

use std::collections::BTreeMap;

use skerry_model::json::JsonObject;
use skerry_model::manifest::{RegistryCredential, RuntimeSettings};
use skerry_model::{Json, Manifest};

use super::image::address;
use super::reader::{Reader, member};
use super::{ManifestError, module};

/// The newest schema we take, as it is written in the answer to others.
const SCHEMA_EXPECTED: &str = "1.1.0";

/// Why desired properties of `$edgeAgent` are not taken (`edge-deployment-manifest` §4). The last good ones stay in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentFault {
    /// There are none: 417.
    Empty,
    /// They have not the right form: 400, and everything that is wrong.
    Format(Vec<ManifestError>),
    /// Their schema is one we do not take: 412, and the version as written.
    Version {
        /// As written.
        version: String,
        /// Whether it is a version at all.
        is_version: bool,
    },
}

impl AgentFault {
    /// The code for `lastDesiredStatus`.
    pub const fn code(&self) -> u16 {
        match self {
            Self::Empty => 417,
            Self::Format(_) => 400,
            Self::Version { .. } => 412,
        }
    }

    /// The description for `lastDesiredStatus`, in the original's words.
    pub fn description(&self) -> String {
        match self {
            Self::Empty => {
                "This device has an empty configuration for the edge agent. Please set a deployment manifest."
                    .to_owned()
            }
            Self::Format(_) => "Agent configuration format is invalid.".to_owned(),
            Self::Version { version, is_version: true } => format!(
                "The desired properties schema version {version} is not compatible with the expected version {SCHEMA_EXPECTED}"
            ),
            Self::Version { version, is_version: false } => {
                format!("Invalid desired properties schema version {version}")
            }
        }
    }

    /// Everything that is wrong with the form, for logs and people.
    pub fn errors(&self) -> &[ManifestError] {
        match self {
            Self::Format(errors) => errors,
            Self::Empty | Self::Version { .. } => &[],
        }
    }
}

/// Reads the desired properties of `$edgeAgent`; members that begin with `$` are not theirs and are left out.
/// `parent` is the host name that `$upstream` in image names stands for.
///
/// # Errors
/// When there are none, they have not the right form (looked at first), or their schema is not ours.
pub fn agent(desired: &JsonObject, parent: Option<&str>) -> Result<Manifest, AgentFault> {
    if desired.keys().all(|key| key.starts_with('$')) {
        return Err(AgentFault::Empty);
    }
    let mut reader = Reader::default();
    match read(&mut reader, desired, parent) {
        Some(manifest) if reader.errors.is_empty() => check_version(manifest),
        _ => Err(AgentFault::Format(reader.errors)),
    }
}

/// Reads what `$edgeAgent` gets out of a larger document.
pub(super) fn agent_at(
    path: &[&str],
    desired: &JsonObject,
    parent: Option<&str>,
) -> Result<Manifest, Vec<ManifestError>> {
    let mut reader = Reader::at(path);
    let manifest = read(&mut reader, desired, parent);
    if !reader.errors.is_empty() {
        return Err(reader.errors);
    }
    let checked = manifest.ok_or(AgentFault::Empty).and_then(check_version);
    checked.map_err(|fault| {
        reader.within("schemaVersion", |reader| reader.fail::<()>(fault.description()));
        reader.errors
    })
}

fn read(reader: &mut Reader, desired: &JsonObject, parent: Option<&str>) -> Option<Manifest> {
    let schema_version = reader.required(desired, "schemaVersion", Reader::filled_text);
    let runtime = reader.required(desired, "runtime", |reader, value| {
        let object = reader.object(value)?;
        runtime(reader, object, parent)
    });
    let system = reader.required(desired, "systemModules", |reader, value| {
        let object = reader.object(value)?;
        let agent =
            reader.optional(object, "edgeAgent", |reader, value| module::read_edge_agent(reader, value, parent));
        let hub = reader.optional(object, "edgeHub", |reader, value| module::read_edge_hub(reader, value, parent));
        Some((agent?, hub?))
    });
    let modules = reader.optional(desired, "modules", |reader, value| {
        let members = reader.object(value)?;
        let specs: Vec<_> = members
            .iter()
            .map(|(name, value)| reader.within(name, |reader| module::read(reader, name, value, parent)))
            .collect();
        let specs = specs.into_iter().map(|spec| spec.map(|spec| (spec.name.clone(), spec)));
        specs.collect::<Option<BTreeMap<_, _>>>()
    });
    let (edge_agent, edge_hub) = system?;
    Some(Manifest {
        schema_version: schema_version?,
        runtime: runtime?,
        edge_agent,
        edge_hub,
        modules: modules?.unwrap_or_default(),
    })
}

fn runtime(reader: &mut Reader, object: &JsonObject, parent: Option<&str>) -> Option<RuntimeSettings> {
    let kind = reader.required(object, "type", |reader, value| {
        reader.word(value, |word| word.eq_ignore_ascii_case("docker").then_some(()), "docker")
    });
    let settings = reader.optional(object, "settings", |reader, value| {
        let object = reader.object(value)?;
        let min_docker_version = reader.optional(object, "minDockerVersion", Reader::text);
        let logging_options = reader.optional(object, "loggingOptions", Reader::text);
        let registries = reader.optional(object, "registryCredentials", |reader, value| {
            let members = reader.object(value)?;
            let read: Vec<_> = members
                .iter()
                .map(|(name, value)| reader.within(name, |reader| credential(reader, name, value, parent)))
                .collect();
            read.into_iter().collect::<Option<Vec<_>>>()
        });
        Some(RuntimeSettings {
            min_docker_version: min_docker_version?.unwrap_or_default(),
            logging_options: logging_options?.unwrap_or_default(),
            registries: registries?.unwrap_or_default(),
        })
    });
    kind?;
    settings.map(Option::unwrap_or_default)
}

fn credential(reader: &mut Reader, name: &str, value: &Json, parent: Option<&str>) -> Option<RegistryCredential> {
    let object = reader.object(value)?;
    let address = reader.required(object, "address", |reader, value| {
        let text = reader.filled_text(value)?;
        address(text.trim(), parent).map_or_else(|error| reader.fail(error.to_string()), Some)
    });
    let username = reader.required(object, "username", Reader::filled_text);
    let password = reader.required(object, "password", Reader::filled_text);
    Some(RegistryCredential::new(name, address?, username?, password?))
}

/// Version numbers as the original compares them: two to four parts, a missing part is less than zero.
fn check_version(manifest: Manifest) -> Result<Manifest, AgentFault> {
    let parts = version_parts(&manifest.schema_version);
    let is_taken = parts.as_deref().is_some_and(|parts| parts[0] == 1 && parts <= &[1, 1, 0][..]);
    if is_taken {
        return Ok(manifest);
    }
    Err(AgentFault::Version { version: manifest.schema_version, is_version: parts.is_some() })
}

/// The parts of a version number: two to four, each a whole number.
pub(super) fn version_parts(text: &str) -> Option<Vec<u32>> {
    let parts: Vec<u32> = text.trim().split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    (2..=4).contains(&parts.len()).then_some(parts)
}

/// The member `name` of a desired document, without regard to case.
pub(super) fn document_member<'a>(desired: &'a JsonObject, name: &str) -> Option<&'a Json> {
    member(desired, name).map(|(_, value)| value)
}
