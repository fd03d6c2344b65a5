//! What one machine should run: an edge device's manifest as it is after reading, with nothing left that could be wrong.

mod hub;
mod spec;

use std::collections::BTreeMap;
use std::fmt;

pub use hub::{HubManifest, Route, RoutePriority, StoreAndForward};
pub use spec::{
    Artifact, DesiredStatus, ImageArtifact, ModuleSpec, ProcessArtifact, ProcessLimits, PullPolicy, RestartPolicy,
    RuntimeStatus, SpecDigest, StartupOrder,
};

use crate::ModuleName;

/// The desired properties of `$edgeAgent` (`edge-deployment-manifest` §2).
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The schema version as it was written: `1.0`, `1.1` or `1.1.0`.
    pub schema_version: String,
    /// What holds for all modules.
    pub runtime: RuntimeSettings,
    /// `systemModules.edgeAgent`; always wanted running.
    pub edge_agent: Option<ModuleSpec>,
    /// `systemModules.edgeHub`.
    pub edge_hub: Option<ModuleSpec>,
    /// `modules`, by name.
    pub modules: BTreeMap<ModuleName, ModuleSpec>,
}

/// `runtime.settings` of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeSettings {
    /// Kept and reported, never compared.
    pub min_docker_version: String,
    /// Kept and reported; JSON text.
    pub logging_options: String,
    /// Who we are at which image registry, in the order of the document.
    pub registries: Vec<RegistryCredential>,
}

impl RuntimeSettings {
    /// The credentials that fit the registry of `image`, which is a normalised image name.
    ///
    /// Names of one component (`ubuntu:1`) get none; registries are compared without regard to case.
    pub fn credential_for(&self, image: &str) -> Option<&RegistryCredential> {
        let registry = registry_of(image)?;
        self.registries.iter().find(|credential| credential.address.eq_ignore_ascii_case(registry))
    }
}

/// Where images without a registry in their name come from, as credentials name it.
pub const DEFAULT_REGISTRY: &str = "https://index.docker.io/v1/";

/// The registry whose credentials an image needs: the first of several components if it looks like a host, else
/// [`DEFAULT_REGISTRY`]; `None` for names of one component.
pub fn registry_of(image: &str) -> Option<&str> {
    let (first, _) = image.split_once('/')?;
    Some(if first.contains(['.', ':']) { first } else { DEFAULT_REGISTRY })
}

/// Who we are at one image registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryCredential {
    /// The key in the manifest.
    pub name: String,
    /// The registry's address, `$upstream` already replaced.
    pub address: String,
    /// The user.
    pub username: String,
    password: String,
}

impl RegistryCredential {
    /// Credentials for the registry at `address`.
    pub fn new(
        name: impl Into<String>,
        address: impl Into<String>,
        username: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), address: address.into(), username: username.into(), password: password.into() }
    }

    /// The password; not to be logged, reported or put into an error.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for RegistryCredential {
    /// Without the password, so that a log line can hold it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RegistryCredential")
            .field("name", &self.name)
            .field("address", &self.address)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_chosen_by_the_registry_in_the_name() {
        let settings = RuntimeSettings {
            registries: vec![
                RegistryCredential::new("hub", DEFAULT_REGISTRY, "h", "secret"),
                RegistryCredential::new("own", "Reg.Example:5000", "o", "secret"),
            ],
            ..RuntimeSettings::default()
        };
        let user = |image: &str| settings.credential_for(image).map(|credential| credential.username.as_str());
        assert_eq!(user("ubuntu:1"), None);
        assert_eq!(user("library/ubuntu:1"), Some("h"));
        assert_eq!(user("reg.example:5000/a/b:1"), Some("o"));
        assert_eq!(user("other.example/a:1"), None);
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
