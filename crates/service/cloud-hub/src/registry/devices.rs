//! Devices: made, changed, listed, counted and deleted, with their modules, twins and commands.

use skerry_gateway::Closed;
use skerry_model::{
    Activity, Authentication, AuthenticationDraft, ClientId, DeviceDraft, DeviceId, DeviceRecord, DeviceStatus,
    ErrorCode, ModuleName, ModuleRecord, Precondition, RequestError, STATUS_REASON_CHARS_MAX,
};
use skerry_state::{Change, Expect, Filter, Key, Page, Revision, StateError};

use super::{MANAGED_BY_EDGE, PAGE, check_etag, new_module, new_twin, of_device};
use crate::CloudHub;
use crate::hub::{Hub, unavailable};
use crate::records::{self, StoredTwin};

/// Devices of one listing, at most (`limits`: devices returned by `GET /devices`).
const DEVICES_LISTED_MAX: u32 = 1_000;

/// How many devices there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// All.
    pub devices: u64,
    /// Those that may connect.
    pub enabled: u64,
}

impl CloudHub {
    /// The device `id`.
    ///
    /// # Errors
    /// `DeviceNotFound`.
    pub async fn get_device(&self, id: &DeviceId) -> Result<DeviceRecord, RequestError> {
        let mut device = self.0.known_device(id).await?;
        device.activity = self.0.full_activity(&device.id.clone().into()).await?;
        Ok(device)
    }

    /// The first `max` devices in the order of their ids; cut to 1,000.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_devices(&self, max: u32) -> Result<Vec<DeviceRecord>, RequestError> {
        let page = Page::first(max.min(DEVICES_LISTED_MAX));
        let found = self.0.state.find(&records::DEVICE, &Filter::all(), page).await.map_err(unavailable)?;
        let mut devices = Vec::with_capacity(found.records.len());
        for record in found.records {
            let mut device = records::read_device(&record.key.id, &record.value).map_err(unavailable)?;
            device.activity = self.0.full_activity(&device.id.clone().into()).await?;
            devices.push(device);
        }
        Ok(devices)
    }

    /// Creates (no precondition) or replaces (with one) a device. An edge device gets its system modules.
    ///
    /// # Errors
    /// `DeviceAlreadyExists`, `DeviceNotFound`, `PreconditionFailed`, `ArgumentInvalid`.
    pub async fn put_device(&self, draft: DeviceDraft, when: &Precondition) -> Result<DeviceRecord, RequestError> {
        let device = self.0.put_device(draft, when).await?;
        tracing::info!(device = %device.id, status = device.status.as_str(), "device written");
        self.get_device(&device.id).await
    }

    /// Deletes a device with its modules, twins and commands; its connections are closed.
    ///
    /// # Errors
    /// `DeviceNotFound`, `PreconditionFailed`.
    pub async fn delete_device(&self, id: &DeviceId, when: &Precondition) -> Result<(), RequestError> {
        self.0.delete_device(id, when).await?;
        tracing::info!(device = %id, "device deleted");
        Ok(())
    }

    /// Counts devices.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn statistics(&self) -> Result<Statistics, RequestError> {
        let mut statistics = Statistics::default();
        let mut page = Page::first(PAGE);
        loop {
            let found = self.0.state.find(&records::DEVICE, &Filter::all(), page.clone()).await.map_err(unavailable)?;
            for record in &found.records {
                let device = records::read_device(&record.key.id, &record.value).map_err(unavailable)?;
                statistics.devices += 1;
                statistics.enabled += u64::from(device.status == DeviceStatus::Enabled);
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(statistics),
            }
        }
    }
}

impl Hub {
    pub(crate) async fn device(&self, id: &DeviceId) -> Result<Option<DeviceRecord>, StateError> {
        Ok(self.device_with_revision(id).await?.map(|(device, _)| device))
    }

    pub(crate) async fn known_device(&self, id: &DeviceId) -> Result<DeviceRecord, RequestError> {
        self.device(id).await.map_err(unavailable)?.ok_or_else(|| device_not_found(id))
    }

    async fn device_with_revision(&self, id: &DeviceId) -> Result<Option<(DeviceRecord, Revision)>, StateError> {
        match self.state.get(&device_key(id)).await? {
            None => Ok(None),
            Some(record) => Ok(Some((records::read_device(id.as_str(), &record.value)?, record.revision))),
        }
    }

    async fn full_activity(&self, client: &ClientId) -> Result<Activity, RequestError> {
        let mut activity = self.activity(client).await;
        activity.commands_waiting = self.commands_waiting(client.device()).await?;
        Ok(activity)
    }

    async fn put_device(
        self: &std::sync::Arc<Self>,
        draft: DeviceDraft,
        when: &Precondition,
    ) -> Result<DeviceRecord, RequestError> {
        let _lock = self.lock(&draft.id).await;
        let stored = self.device_with_revision(&draft.id).await.map_err(unavailable)?;
        let id = &draft.id;
        match (&stored, when) {
            (Some(_), Precondition::Absent) => {
                let text = format!("a device with the id `{id}` is already registered");
                return Err(RequestError::new(ErrorCode::DeviceAlreadyExists, text));
            }
            (None, Precondition::Any | Precondition::Etag(_)) => return Err(device_not_found(id)),
            (Some((device, _)), when) => check_etag(&device.etag, when)?,
            (None, Precondition::Absent) => {}
        }
        let stored_device = stored.as_ref().map(|(device, _)| device);
        let device = self.drafted_device(&draft, stored_device)?;
        let mut changes = Vec::new();
        match &stored {
            Some((_, revision)) => {
                let expect = Expect::Revision(*revision);
                changes.push(Change::put(device_key(id), expect, records::write_device(&device)));
            }
            None => {
                changes.push(Change::put(device_key(id), Expect::Absent, records::write_device(&device)));
                changes.extend(new_twin(&id.clone().into(), &StoredTwin::default()));
                if device.iot_edge {
                    for name in [ModuleName::edge_agent(), ModuleName::edge_hub()] {
                        let module = ModuleRecord {
                            id: id.module(name),
                            generation: self.new_generation(),
                            etag: self.new_etag(),
                            managed_by: MANAGED_BY_EDGE.to_owned(),
                            authentication: Authentication::None,
                            activity: Activity::default(),
                        };
                        changes.extend(new_module(&module, &StoredTwin::default()));
                    }
                }
            }
        }
        self.state.commit(changes).await.map_err(unavailable)?;
        if let Some(before) = stored_device {
            if device.status == DeviceStatus::Disabled && before.status == DeviceStatus::Enabled {
                self.close_device(id, Closed::Disabled);
            } else if device.parent != before.parent {
                // Whoever spoke for it or by way of it has to show that it still may.
                self.close_sessions(Closed::Revoked, |_, live| {
                    live.chain.as_ref().is_some_and(|chain| chain.links().iter().any(|link| link.device() == id))
                });
            }
            if device.authentication != before.authentication {
                self.close_unfit(id).await;
            }
        }
        Ok(device)
    }

    fn drafted_device(&self, draft: &DeviceDraft, stored: Option<&DeviceRecord>) -> Result<DeviceRecord, RequestError> {
        let invalid = |text: &'static str| RequestError::new(ErrorCode::ArgumentInvalid, text);
        if draft.status_reason.as_ref().is_some_and(|reason| reason.chars().count() > STATUS_REASON_CHARS_MAX) {
            return Err(invalid("`statusReason` has at most 128 characters"));
        }
        if draft.authentication == AuthenticationDraft::None {
            return Err(invalid("a device needs an authentication type of its own; `none` is for modules"));
        }
        if stored.is_some_and(|device| device.iot_edge != draft.iot_edge) {
            return Err(invalid("`capabilities.iotEdge` is chosen when a device is created and cannot be changed"));
        }
        let generation = stored.map_or_else(|| self.new_generation(), |device| device.generation.clone());
        let status_updated = match stored {
            Some(device) if device.status == draft.status => device.status_updated,
            Some(_) => Some(self.now()),
            None => None,
        };
        let device = DeviceRecord {
            id: draft.id.clone(),
            generation,
            etag: self.new_etag(),
            status: draft.status,
            status_reason: draft.status_reason.clone().filter(|reason| !reason.is_empty()),
            status_updated,
            authentication: self.drafted_authentication(&draft.authentication, stored.map(|d| &d.authentication)),
            iot_edge: draft.iot_edge,
            parent: draft.parent.clone(),
            activity: Activity::default(),
        };
        if device.parent.is_some() && device.parent == device.own_scope() {
            return Err(invalid("a device cannot stand below itself"));
        }
        Ok(device)
    }

    async fn delete_device(
        self: &std::sync::Arc<Self>,
        id: &DeviceId,
        when: &Precondition,
    ) -> Result<(), RequestError> {
        let _lock = self.lock(id).await;
        let (device, revision) =
            self.device_with_revision(id).await.map_err(unavailable)?.ok_or_else(|| device_not_found(id))?;
        check_etag(&device.etag, when)?;
        let modules = self.modules(id).await?;
        let mut changes = vec![Change::delete(device_key(id), Expect::Revision(revision))];
        for client in std::iter::once(id.clone().into()).chain(modules.iter().map(|m| ClientId::from(m.id.clone()))) {
            let name = client.to_string();
            changes.push(Change::delete(Key::new(records::TWIN, name.clone()), Expect::Any));
            changes.push(Change::delete(Key::new(records::ACTIVITY, name.clone()), Expect::Any));
            if client.module().is_some() {
                changes.push(Change::delete(Key::new(records::MODULE, name), Expect::Any));
            }
        }
        let commands = self.state.find(&records::COMMAND, &of_device(id), Page::first(PAGE)).await;
        let commands = commands.map_err(unavailable)?;
        changes.extend(commands.records.into_iter().map(|record| Change::delete(record.key, Expect::Any)));
        changes.push(Change::delete(Key::new(records::COMMAND_QUEUE, id.as_str()), Expect::Any));
        self.state.commit(changes).await.map_err(unavailable)?;
        self.close_device(id, Closed::Deleted);
        self.activities.forget(&id.clone().into());
        for module in modules {
            self.activities.forget(&module.id.into());
        }
        Ok(())
    }
}

fn device_key(id: &DeviceId) -> Key {
    Key::new(records::DEVICE, id.as_str())
}

fn device_not_found(id: &DeviceId) -> RequestError {
    RequestError::new(ErrorCode::DeviceNotFound, format!("device `{id}` is not registered"))
}
