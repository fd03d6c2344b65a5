//! Devices and modules: made, changed, listed and deleted; each change is one commit with everything that belongs to it.

use skerry_gateway::Closed;
use skerry_model::{
    Activity, Authentication, AuthenticationDraft, ClientId, DeviceDraft, DeviceId, DeviceRecord, DeviceStatus,
    ErrorCode, ModuleDraft, ModuleId, ModuleName, ModuleRecord, Precondition, RequestError, STATUS_REASON_CHARS_MAX,
};
use skerry_state::{Change, Expect, Filter, Key, Page, Revision, StateError};

use crate::CloudHub;
use crate::hub::{Hub, unavailable};
use crate::policy::generated_keys;
use crate::records::{self, StoredTwin};

/// Devices of one listing, at most (`limits`: devices returned by `GET /devices`).
const DEVICES_LISTED_MAX: u32 = 1_000;
/// Records of one device read at a time.
const PAGE: u32 = 1_000;
/// Who looks after the modules of a deployment.
pub(crate) const MANAGED_BY_EDGE: &str = "iotEdge";

/// Who asks for a change of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requester {
    /// An operator or service.
    Service,
    /// The device the module belongs to, or an edge hub on its behalf.
    Device,
}

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

    /// The module `id`.
    ///
    /// # Errors
    /// `DeviceNotFound`, `ModuleNotFound`.
    pub async fn get_module(&self, id: &ModuleId) -> Result<ModuleRecord, RequestError> {
        let mut module = self.0.known_module(id).await?;
        module.activity = self.0.activity(&module.id.clone().into()).await;
        Ok(module)
    }

    /// All modules of a device, in the order of their names.
    ///
    /// # Errors
    /// `DeviceNotFound`.
    pub async fn list_modules(&self, device: &DeviceId) -> Result<Vec<ModuleRecord>, RequestError> {
        self.0.known_device(device).await?;
        let mut modules = self.0.modules(device).await?;
        for module in &mut modules {
            module.activity = self.0.activity(&module.id.clone().into()).await;
        }
        Ok(modules)
    }

    /// Creates (no precondition) or replaces (with one) a module.
    ///
    /// # Errors
    /// `DeviceNotFound`, `ModuleNotFound`, `ModuleAlreadyExists`, `PreconditionFailed`, `LimitExceeded`, `ArgumentInvalid`.
    pub async fn put_module(&self, draft: ModuleDraft, when: &Precondition) -> Result<ModuleRecord, RequestError> {
        let module = self.0.put_module(draft, when).await?;
        tracing::info!(module = %module.id, kind = ?module.authentication.kind(), "module written");
        self.get_module(&module.id).await
    }

    /// Deletes a module with its twin; its connection is closed. System modules cannot be deleted.
    ///
    /// # Errors
    /// `DeviceNotFound`, `ModuleNotFound`, `PreconditionFailed`, `Forbidden`.
    pub async fn delete_module(&self, id: &ModuleId, when: &Precondition) -> Result<(), RequestError> {
        self.0.delete_module(id, when).await?;
        tracing::info!(module = %id, "module deleted");
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

    /// How many clients are attached.
    pub fn attached_count(&self) -> usize {
        self.0.sessions.count()
    }
}

impl Hub {
    pub(crate) async fn device(&self, id: &DeviceId) -> Result<Option<DeviceRecord>, StateError> {
        Ok(self.device_with_revision(id).await?.map(|(device, _)| device))
    }

    pub(crate) async fn module(&self, id: &ModuleId) -> Result<Option<ModuleRecord>, StateError> {
        Ok(self.module_with_revision(id).await?.map(|(module, _)| module))
    }

    pub(crate) async fn known_device(&self, id: &DeviceId) -> Result<DeviceRecord, RequestError> {
        self.device(id).await.map_err(unavailable)?.ok_or_else(|| device_not_found(id))
    }

    pub(crate) async fn known_module(&self, id: &ModuleId) -> Result<ModuleRecord, RequestError> {
        match self.module(id).await.map_err(unavailable)? {
            Some(module) => Ok(module),
            None => {
                self.known_device(&id.device).await?;
                Err(module_not_found(id))
            }
        }
    }

    /// Refuses what is not registered.
    pub(crate) async fn known(&self, client: &ClientId) -> Result<(), RequestError> {
        match client {
            ClientId::Device(device) => self.known_device(device).await.map(drop),
            ClientId::Module(module) => self.known_module(module).await.map(drop),
        }
    }

    /// All modules of a device; their activity is not looked up.
    pub(crate) async fn modules(&self, device: &DeviceId) -> Result<Vec<ModuleRecord>, RequestError> {
        let found = self.state.find(&records::MODULE, &of_device(device), Page::first(PAGE)).await;
        let found = found.map_err(unavailable)?;
        let read = found.records.iter().map(|record| records::read_module(&record.key.id, &record.value));
        read.collect::<Result<_, _>>().map_err(unavailable)
    }

    async fn device_with_revision(&self, id: &DeviceId) -> Result<Option<(DeviceRecord, Revision)>, StateError> {
        match self.state.get(&device_key(id)).await? {
            None => Ok(None),
            Some(record) => Ok(Some((records::read_device(id.as_str(), &record.value)?, record.revision))),
        }
    }

    async fn module_with_revision(&self, id: &ModuleId) -> Result<Option<(ModuleRecord, Revision)>, StateError> {
        match self.state.get(&module_key(id)).await? {
            None => Ok(None),
            Some(record) => Ok(Some((records::read_module(&record.key.id, &record.value)?, record.revision))),
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

    fn drafted_authentication(&self, draft: &AuthenticationDraft, stored: Option<&Authentication>) -> Authentication {
        match draft {
            AuthenticationDraft::None => Authentication::None,
            AuthenticationDraft::CertificateAuthority => Authentication::CertificateAuthority,
            AuthenticationDraft::SelfSigned { primary, secondary } => {
                Authentication::SelfSigned { primary: primary.clone(), secondary: secondary.clone() }
            }
            AuthenticationDraft::Sas { primary, secondary } => {
                let mut keys = match stored.and_then(Authentication::keys) {
                    Some(keys) => keys.clone(),
                    None => generated_keys(&self.random),
                };
                if let Some(primary) = primary {
                    keys.primary = primary.clone();
                }
                if let Some(secondary) = secondary {
                    keys.secondary = secondary.clone();
                }
                Authentication::Sas(keys)
            }
        }
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

    async fn put_module(&self, draft: ModuleDraft, when: &Precondition) -> Result<ModuleRecord, RequestError> {
        let _lock = self.lock(&draft.id.device).await;
        self.known_device(&draft.id.device).await?;
        let stored = self.module_with_revision(&draft.id).await.map_err(unavailable)?;
        match (&stored, when) {
            (Some(_), Precondition::Absent) => {
                let text = format!("a module with the id `{}` is already registered", draft.id);
                return Err(RequestError::new(ErrorCode::ModuleAlreadyExists, text));
            }
            (None, Precondition::Any | Precondition::Etag(_)) => return Err(module_not_found(&draft.id)),
            (Some((module, _)), when) => check_etag(&module.etag, when)?,
            (None, Precondition::Absent) => self.check_new_module(&draft.id).await?,
        }
        let stored_module = stored.as_ref().map(|(module, _)| module);
        let module = ModuleRecord {
            id: draft.id.clone(),
            generation: stored_module.map_or_else(|| self.new_generation(), |module| module.generation.clone()),
            etag: self.new_etag(),
            managed_by: match (draft.managed_by, stored_module) {
                (Some(by), _) => by,
                (None, Some(module)) => module.managed_by.clone(),
                (None, None) => String::new(),
            },
            authentication: self
                .drafted_authentication(&draft.authentication, stored_module.map(|module| &module.authentication)),
            activity: Activity::default(),
        };
        let changes = match stored {
            Some((_, revision)) => {
                let document = records::write_module(&module);
                vec![Change::put(module_key(&module.id), Expect::Revision(revision), document)]
            }
            None => new_module(&module, &StoredTwin::default()),
        };
        self.state.commit(changes).await.map_err(unavailable)?;
        Ok(module)
    }

    async fn check_new_module(&self, id: &ModuleId) -> Result<(), RequestError> {
        if id.name.is_system() {
            let text = format!("`{}` is reserved: system modules come with their edge device", id.name);
            return Err(RequestError::new(ErrorCode::ArgumentInvalid, text));
        }
        let modules = self.modules(&id.device).await?;
        self.check_room_for(modules.iter().filter(|module| !module.id.name.is_system()).count() + 1, &id.device)
    }

    /// Refuses `count` modules beside the system's own ones where that is too many.
    pub(crate) fn check_room_for(&self, count: usize, device: &DeviceId) -> Result<(), RequestError> {
        let max = self.config.limits.modules_per_device_max;
        if count > max {
            let text = format!("device `{device}` has at most {max} modules");
            return Err(RequestError::new(ErrorCode::LimitExceeded, text));
        }
        Ok(())
    }

    /// A module as a deployment makes it.
    pub(crate) fn deployed_module(&self, id: ModuleId) -> ModuleRecord {
        ModuleRecord {
            id,
            generation: self.new_generation(),
            etag: self.new_etag(),
            managed_by: MANAGED_BY_EDGE.to_owned(),
            authentication: Authentication::Sas(generated_keys(&self.random)),
            activity: Activity::default(),
        }
    }

    async fn delete_module(
        self: &std::sync::Arc<Self>,
        id: &ModuleId,
        when: &Precondition,
    ) -> Result<(), RequestError> {
        let _lock = self.lock(&id.device).await;
        let Some((module, revision)) = self.module_with_revision(id).await.map_err(unavailable)? else {
            self.known_device(&id.device).await?;
            return Err(module_not_found(id));
        };
        check_etag(&module.etag, when)?;
        if id.name.is_system() {
            let text = format!("`{id}` is a system module: it goes with its device");
            return Err(RequestError::new(ErrorCode::Forbidden, text));
        }
        let name = id.to_string();
        let changes = vec![
            Change::delete(module_key(id), Expect::Revision(revision)),
            Change::delete(Key::new(records::TWIN, name.clone()), Expect::Any),
            Change::delete(Key::new(records::ACTIVITY, name), Expect::Any),
        ];
        self.state.commit(changes).await.map_err(unavailable)?;
        let client = ClientId::from(id.clone());
        self.close_sessions(Closed::Deleted, |attached, _| *attached == client);
        self.activities.forget(&client);
        Ok(())
    }
}

/// The changes that make a module with this twin.
pub(crate) fn new_module(module: &ModuleRecord, twin: &StoredTwin) -> Vec<Change> {
    let mut changes = vec![Change::put(module_key(&module.id), Expect::Absent, records::write_module(module))];
    changes.extend(new_twin(&module.id.clone().into(), twin));
    changes
}

fn new_twin(client: &ClientId, twin: &StoredTwin) -> [Change; 2] {
    let name = client.to_string();
    let document = records::write_twin(twin);
    [
        // Whatever is left of an identity of the same name is not the new one's.
        Change::put(Key::new(records::TWIN, name.clone()), Expect::Any, document),
        Change::delete(Key::new(records::ACTIVITY, name), Expect::Any),
    ]
}

/// Refuses when `when` asks for another etag than the stored one.
pub(crate) fn check_etag(stored: &str, when: &Precondition) -> Result<(), RequestError> {
    match when {
        Precondition::Etag(asked) if asked != stored => {
            let text = format!("the etag is `{stored}`, not `{asked}`: it was changed meanwhile");
            Err(RequestError::new(ErrorCode::PreconditionFailed, text))
        }
        Precondition::Absent | Precondition::Any | Precondition::Etag(_) => Ok(()),
    }
}

/// Everything whose id begins with the device's id and a slash, which ids cannot contain.
pub(crate) fn of_device(device: &DeviceId) -> Filter {
    Filter::id_prefix(format!("{device}/"))
}

fn device_key(id: &DeviceId) -> Key {
    Key::new(records::DEVICE, id.as_str())
}

fn module_key(id: &ModuleId) -> Key {
    Key::new(records::MODULE, id.to_string())
}

fn device_not_found(id: &DeviceId) -> RequestError {
    RequestError::new(ErrorCode::DeviceNotFound, format!("device `{id}` is not registered"))
}

fn module_not_found(id: &ModuleId) -> RequestError {
    RequestError::new(ErrorCode::ModuleNotFound, format!("module `{id}` is not registered"))
}
