//! The identities in this edge's scope: who may connect here and with which key, also while the hub above is away.
//!
//! What was last heard from above is kept in the record store, so that a restarted edge lets its clients in without asking.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use skerry_dialect::identity::{ScopeAnswer, device_body, module_body, read_device, read_module};
use skerry_model::{Authentication, ClientId, DeviceId, DeviceRecord, ModuleId, ModuleRecord};
use skerry_state::{Change, Expect, Filter, Key, Kind, Page, StateError, StateStore};

const DEVICE: Kind = Kind::new("scope-device");
const MODULE: Kind = Kind::new("scope-module");
/// Records read at once.
const PAGE: u32 = 200;
/// Identities that are kept; a scope with more is cut, and the log says so.
const IDENTITIES_MAX: usize = 50_000;

/// Everybody known, in memory and in the store.
pub(crate) struct Identities {
    known: RwLock<Known>,
    state: Arc<dyn StateStore>,
}

#[derive(Default)]
struct Known {
    devices: BTreeMap<DeviceId, DeviceRecord>,
    modules: BTreeMap<ModuleId, ModuleRecord>,
}

/// What is known about one client.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) device: Option<DeviceRecord>,
    pub(crate) module: Option<ModuleRecord>,
}

impl Entry {
    /// How `client`, whose entry this is, proves who it is; `None` when it is not known.
    pub(crate) fn authentication(&self, client: &ClientId) -> Option<&Authentication> {
        match client {
            ClientId::Device(_) => self.device.as_ref().map(|device| &device.authentication),
            ClientId::Module(_) => self.module.as_ref().map(|module| &module.authentication),
        }
    }
}

impl Identities {
    /// Reads what was stored.
    pub(crate) async fn load(state: Arc<dyn StateStore>) -> Result<Self, StateError> {
        let mut known = Known::default();
        for record in all(&*state, &DEVICE).await? {
            // A record of a later version is passed over; the next refresh brings it again.
            if let Ok(device) = read_device(&record) {
                known.devices.insert(device.id.clone(), device);
            }
        }
        for record in all(&*state, &MODULE).await? {
            if let Ok(module) = read_module(&record) {
                known.modules.insert(module.id.clone(), module);
            }
        }
        Ok(Self { known: RwLock::new(known), state })
    }

    /// What is known about `client`; a device is `None` where only its modules are known.
    pub(crate) fn find(&self, client: &ClientId) -> Entry {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let module = match client {
            ClientId::Device(_) => None,
            ClientId::Module(id) => known.modules.get(id).cloned(),
        };
        Entry { device: known.devices.get(client.device()).cloned(), module }
    }

    /// Takes over a whole scope; who is not in it any more is forgotten. Answers who that is.
    pub(crate) async fn replace(&self, scope: ScopeAnswer) -> Result<Vec<ClientId>, StateError> {
        if scope.devices.len() + scope.modules.len() > IDENTITIES_MAX {
            tracing::warn!(identities_max = IDENTITIES_MAX, "the scope is larger than what is kept");
        }
        let mut new = Known::default();
        new.devices.extend(scope.devices.into_iter().take(IDENTITIES_MAX).map(|device| (device.id.clone(), device)));
        let room = IDENTITIES_MAX - new.devices.len();
        new.modules.extend(scope.modules.into_iter().take(room).map(|module| (module.id.clone(), module)));
        let (changes, gone) = {
            let old = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let mut gone: Vec<ClientId> = Vec::new();
            gone.extend(old.devices.keys().filter(|id| !new.devices.contains_key(*id)).cloned().map(ClientId::Device));
            gone.extend(old.modules.keys().filter(|id| !new.modules.contains_key(*id)).cloned().map(ClientId::Module));
            let changed_devices = new.devices.values().filter(|device| old.devices.get(&device.id) != Some(*device));
            let changed_modules = new.modules.values().filter(|module| old.modules.get(&module.id) != Some(*module));
            let mut changes: Vec<Change> =
                changed_devices.map(put_device).chain(changed_modules.map(put_module)).collect();
            changes.extend(gone.iter().map(|client| Change::delete(key(client), Expect::Any)));
            (changes, gone)
        };
        if !changes.is_empty() {
            self.state.commit(changes).await?;
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(gone)
    }

    /// Takes over single identities.
    pub(crate) async fn put(&self, answer: ScopeAnswer) -> Result<(), StateError> {
        let changes: Vec<_> =
            answer.devices.iter().map(put_device).chain(answer.modules.iter().map(put_module)).collect();
        if !changes.is_empty() {
            self.state.commit(changes).await?;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.devices.extend(answer.devices.into_iter().map(|device| (device.id.clone(), device)));
        known.modules.extend(answer.modules.into_iter().map(|module| (module.id.clone(), module)));
        Ok(())
    }
}

async fn all(state: &dyn StateStore, kind: &Kind) -> Result<Vec<skerry_model::Json>, StateError> {
    let mut values = Vec::new();
    let mut page = Page::first(PAGE);
    loop {
        let found = state.find(kind, &Filter::all(), page).await?;
        values.extend(found.records.into_iter().map(|record| record.value));
        match found.next {
            Some(after) => page = Page { after: Some(after), records_max: PAGE },
            None => return Ok(values),
        }
    }
}

fn key(client: &ClientId) -> Key {
    match client {
        ClientId::Device(id) => Key::new(DEVICE, id.as_str()),
        ClientId::Module(id) => Key::new(MODULE, id.to_string()),
    }
}

fn put_device(device: &DeviceRecord) -> Change {
    Change::put(key(&ClientId::Device(device.id.clone())), Expect::Any, device_body(device))
}

fn put_module(module: &ModuleRecord) -> Change {
    Change::put(key(&ClientId::Module(module.id.clone())), Expect::Any, module_body(module))
}
