//! Modules: made, changed, listed and deleted.

use skerry_gateway::Closed;
use skerry_model::{
    Activity, Authentication, ClientId, DeviceId, ErrorCode, ModuleDraft, ModuleId, ModuleRecord, Precondition,
    RequestError,
};
use skerry_state::{Change, Expect, Key, Page, Revision, StateError};

use super::{MANAGED_BY_EDGE, PAGE, check_etag, module_key, new_module, of_device};
use crate::CloudHub;
use crate::hub::{Hub, unavailable};
use crate::policy::generated_keys;
use crate::records::{self, StoredTwin};

impl CloudHub {
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
}

impl Hub {
    pub(crate) async fn module(&self, id: &ModuleId) -> Result<Option<ModuleRecord>, StateError> {
        Ok(self.module_with_revision(id).await?.map(|(module, _)| module))
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

    /// All modules of a device; their activity is not looked up.
    pub(crate) async fn modules(&self, device: &DeviceId) -> Result<Vec<ModuleRecord>, RequestError> {
        let found = self.state.find(&records::MODULE, &of_device(device), Page::first(PAGE)).await;
        let found = found.map_err(unavailable)?;
        let read = found.records.iter().map(|record| records::read_module(&record.key.id, &record.value));
        read.collect::<Result<_, _>>().map_err(unavailable)
    }

    async fn module_with_revision(&self, id: &ModuleId) -> Result<Option<(ModuleRecord, Revision)>, StateError> {
        match self.state.get(&module_key(id)).await? {
            None => Ok(None),
            Some(record) => Ok(Some((records::read_module(&record.key.id, &record.value)?, record.revision))),
        }
    }

    async fn put_module(
        self: &std::sync::Arc<Self>,
        draft: ModuleDraft,
        when: &Precondition,
    ) -> Result<ModuleRecord, RequestError> {
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
        let is_changed = stored_module.is_some_and(|before| before.authentication != module.authentication);
        let changes = match stored {
            Some((_, revision)) => {
                let document = records::write_module(&module);
                vec![Change::put(module_key(&module.id), Expect::Revision(revision), document)]
            }
            None => new_module(&module, &StoredTwin::default()),
        };
        self.state.commit(changes).await.map_err(unavailable)?;
        if is_changed {
            self.close_unfit(&draft.id.device).await;
        }
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

fn module_not_found(id: &ModuleId) -> RequestError {
    RequestError::new(ErrorCode::ModuleNotFound, format!("module `{id}` is not registered"))
}
