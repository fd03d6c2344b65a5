//! A manifest applied to one device: desired properties of its modules replaced in one step, missing modules made.

use skerry_model::json::JsonObject;
use skerry_model::{ClientId, DeviceId, ErrorCode, ModuleName, RequestError};
use skerry_state::{Change, Expect};

use crate::CloudHub;
use crate::hub::unavailable;
use crate::records::{self, StoredTwin};
use crate::registry::new_module;
use crate::twins::twin_key;

impl CloudHub {
    /// Replaces the desired properties of the modules in `desired`. Modules that do not exist yet are made, also those that are
    /// only `listed`; modules that are not named stay as they are.
    ///
    /// # Errors
    /// `DeviceNotFound`, `ArgumentInvalid` when the device is no edge device or a name cannot be a module's, `LimitExceeded`,
    /// and what twins refuse. Nothing is changed then.
    pub async fn apply_configuration(
        &self,
        device: &DeviceId,
        desired: &[(ModuleName, JsonObject)],
        listed: &[ModuleName],
    ) -> Result<(), RequestError> {
        let hub = &self.0;
        let _lock = hub.lock(device).await;
        if !hub.known_device(device).await?.iot_edge {
            let text = format!("`{device}` is not an edge device");
            return Err(RequestError::new(ErrorCode::ArgumentInvalid, text));
        }
        let known: Vec<_> = hub.modules(device).await?.into_iter().map(|module| module.id.name).collect();
        let mut made: Vec<_> = desired.iter().map(|(name, _)| name).chain(listed).cloned().collect();
        made.retain(|name| !known.contains(name));
        made.sort();
        made.dedup();
        if let Some(name) = made.iter().find(|name| name.is_system()) {
            let text = format!("`{name}` is no module that an edge device has");
            return Err(RequestError::new(ErrorCode::ArgumentInvalid, text));
        }
        hub.check_room_for(known.iter().filter(|name| !name.is_system()).count() + made.len(), device)?;

        let mut changes = Vec::new();
        let mut announcements = Vec::new();
        for name in made.iter().filter(|name| !desired.iter().any(|(with_section, _)| with_section == *name)) {
            changes.extend(new_module(&hub.deployed_module(device.module(name.clone())), &StoredTwin::default()));
        }
        for (name, section) in desired {
            let id = device.module(name.clone());
            let client = ClientId::from(id.clone());
            let stored = if made.contains(name) { None } else { Some(hub.stored_twin(&client).await?) };
            let (mut twin, revision) = match stored {
                Some((twin, revision)) => (twin, Some(revision)),
                None => (StoredTwin::default(), None),
            };
            let change = twin
                .twin
                .replace_desired(section, hub.now(), &hub.config.limits)
                .map_err(|error| RequestError::new(error.code(), format!("module `{name}`: {error}")))?;
            match revision {
                Some(revision) => {
                    let document = records::write_twin(&twin);
                    changes.push(Change::put(twin_key(&client), Expect::Revision(revision), document));
                }
                None => changes.extend(new_module(&hub.deployed_module(id), &twin)),
            }
            announcements.push((client, change));
        }
        hub.state.commit(changes).await.map_err(unavailable)?;
        tracing::info!(%device, modules = desired.len(), made = made.len(), "configuration applied");
        for (client, change) in announcements {
            hub.announce_desired(&client, change);
        }
        Ok(())
    }
}
