//! What is remembered of module identities, so that an edge starts its modules when its hub cannot be reached.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skerry_model::ModuleName;
use skerry_pki::{PkiError, files};

use crate::config::Provisioning;

/// Shape of the record that is written.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    hub: String,
    device: String,
    modules: Vec<StoredModule>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredModule {
    name: String,
    generation: String,
    managed_by: String,
}

/// A module's identity as remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) generation: String,
    pub(crate) managed_by: String,
}

/// What the file says about this device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// Nothing: a first start.
    Nothing,
    /// It is about another device or hub: everything here was made for somebody else.
    Other,
    /// The modules.
    Modules(BTreeMap<ModuleName, Known>),
}

#[derive(Debug)]
pub(crate) struct Cache(PathBuf);

impl Cache {
    pub(crate) fn at(folder: &Path) -> Self {
        Self(folder.join("module-identities.json"))
    }

    /// A file that cannot be understood counts as nothing, with a log line: the hub knows everything that stands in it.
    pub(crate) fn load(&self, provisioning: &Provisioning) -> Result<Loaded, PkiError> {
        let Some(text) = files::read_private(&self.0)? else { return Ok(Loaded::Nothing) };
        let stored: Stored = match serde_json::from_slice(&text) {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(path = %self.0.display(), %error, "remembered identities cannot be read and are forgotten");
                return Ok(Loaded::Nothing);
            }
        };
        if stored.version != VERSION {
            tracing::warn!(path = %self.0.display(), version = stored.version, "remembered identities have an unknown version");
            return Ok(Loaded::Nothing);
        }
        if stored.hub != provisioning.hub_host || stored.device != provisioning.device.as_str() {
            return Ok(Loaded::Other);
        }
        let modules = stored.modules.into_iter().filter_map(|module| {
            let known = Known { generation: module.generation, managed_by: module.managed_by };
            ModuleName::parse(&module.name).ok().map(|name| (name, known))
        });
        Ok(Loaded::Modules(modules.collect()))
    }

    pub(crate) fn save(
        &self,
        provisioning: &Provisioning,
        modules: &BTreeMap<ModuleName, Known>,
    ) -> Result<(), PkiError> {
        let stored = Stored {
            version: VERSION,
            hub: provisioning.hub_host.clone(),
            device: provisioning.device.to_string(),
            modules: modules
                .iter()
                .map(|(name, known)| StoredModule {
                    name: name.to_string(),
                    generation: known.generation.clone(),
                    managed_by: known.managed_by.clone(),
                })
                .collect(),
        };
        let text = serde_json::to_vec_pretty(&stored).unwrap_or_default();
        files::write_private(&self.0, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_model::DeviceId;

    fn provisioning(hub: &str, device: &str) -> Provisioning {
        Provisioning { device: DeviceId::parse(device).unwrap(), hub_host: hub.to_owned() }
    }

    #[test]
    fn what_is_remembered_is_for_one_device_of_one_hub() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let own = provisioning("hub", "edge1");
        assert_eq!(cache.load(&own).unwrap(), Loaded::Nothing);
        let known = Known { generation: "638".into(), managed_by: "iotEdge".into() };
        let modules = BTreeMap::from([(ModuleName::parse("m").unwrap(), known)]);
        cache.save(&own, &modules).unwrap();
        assert_eq!(cache.load(&own).unwrap(), Loaded::Modules(modules));
        assert_eq!(cache.load(&provisioning("hub2", "edge1")).unwrap(), Loaded::Other);
        assert_eq!(cache.load(&provisioning("hub", "edge2")).unwrap(), Loaded::Other);
    }

    #[test]
    fn the_first_shape_stays_readable_and_rubbish_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let own = provisioning("hub", "edge1");
        let first =
            r#"{"version":1,"hub":"hub","device":"edge1","modules":[{"name":"m","generation":"1","managed_by":""}]}"#;
        std::fs::write(&cache.0, first).unwrap();
        assert!(matches!(cache.load(&own).unwrap(), Loaded::Modules(modules) if modules.len() == 1));
        for text in ["", "[", r#"{"version":2,"hub":"hub","device":"edge1","modules":[]}"#] {
            std::fs::write(&cache.0, text).unwrap();
            assert_eq!(cache.load(&own).unwrap(), Loaded::Nothing);
        }
    }
}
