//! Module identities: made at the hub as they are needed, remembered here, deleted when the manifest drops them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skerry_model::{
    AuthenticationDraft, ErrorCode, KeyPair, ModuleDraft, ModuleId, ModuleName, ModuleRecord, Monotonic, SharedKey,
};
use skerry_net::Clock;
use skerry_pki::PkiError;

use crate::IdentityError;
use crate::cache::{Cache, Known, Loaded};
use crate::config::SharedProvisioning;
use crate::hub::HubRegistry;
use crate::keys::EdgeKeys;

/// Who looks after identities that are made here; compared without regard to case (`edge-agent` §2).
const MANAGED_BY: &str = "iotEdge";
/// An identity that was checked at the hub is not checked again for this long.
const CHECKED_FOR: Duration = Duration::from_secs(60);
/// After a failed attempt to reach the hub, known identities are used without trying again for this long, so that many modules
/// do not wait one after the other.
const OFFLINE_FOR: Duration = Duration::from_secs(30);

/// A module of this edge as the hub knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleIdentity {
    /// Which module.
    pub id: ModuleId,
    /// Its generation: changes when it is deleted and made again, and its key with it.
    pub generation: String,
    /// Who looks after it; `iotEdge` for modules of a deployment.
    pub managed_by: String,
}

#[derive(Debug)]
pub(crate) struct Identities {
    hub: HubRegistry,
    keys: Arc<EdgeKeys>,
    provisioning: SharedProvisioning,
    cache: Cache,
    clock: Clock,
    known: Mutex<BTreeMap<ModuleName, Known>>,
    /// Held while the hub is asked, so that two callers never make one module twice.
    talk: tokio::sync::Mutex<Talk>,
}

#[derive(Debug, Default)]
struct Talk {
    checked: BTreeMap<ModuleName, Monotonic>,
    offline_since: Option<Monotonic>,
}

impl Identities {
    /// Reads what is remembered; also tells whether it was another device's or hub's and is forgotten.
    pub(crate) fn open(hub: HubRegistry, keys: Arc<EdgeKeys>, cache: Cache) -> Result<(Self, bool), PkiError> {
        let provisioning = Arc::clone(&hub.provisioning);
        let (known, changed) = match cache.load(&provisioning)? {
            Loaded::Nothing => (BTreeMap::new(), false),
            Loaded::Other => (BTreeMap::new(), true),
            Loaded::Modules(known) => (known, false),
        };
        let clock = hub.clock;
        let known = Mutex::new(known);
        Ok((Self { hub, keys, provisioning, cache, clock, known, talk: tokio::sync::Mutex::default() }, changed))
    }

    /// What is remembered of a module.
    pub(crate) fn known(&self, module: &ModuleName) -> Option<ModuleIdentity> {
        self.lock().get(module).map(|known| self.identity(module, known))
    }

    /// The names of all modules that are remembered.
    pub(crate) fn names(&self) -> Vec<ModuleName> {
        self.lock().keys().cloned().collect()
    }

    /// The module's identity, made or corrected at the hub when needed; as remembered when the hub cannot be reached.
    pub(crate) async fn ensure(&self, module: &ModuleName) -> Result<ModuleIdentity, IdentityError> {
        let mut talk = self.talk.lock().await;
        let now = self.clock.now().monotonic;
        let known = self.known(module);
        if let Some(known) = &known {
            let recent = |at: Option<Monotonic>, span| at.is_some_and(|at| now.since(at) < span);
            if recent(talk.checked.get(module).copied(), CHECKED_FOR) || recent(talk.offline_since, OFFLINE_FOR) {
                return Ok(known.clone());
            }
        }
        match self.ensure_at_hub(module).await {
            Ok(identity) => {
                talk.offline_since = None;
                talk.checked.insert(module.clone(), self.clock.now().monotonic);
                Ok(identity)
            }
            Err(error) if error.is_passing() => {
                talk.offline_since = Some(self.clock.now().monotonic);
                tracing::debug!(%module, %error, "identity not checked at the hub");
                known.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn ensure_at_hub(&self, module: &ModuleName) -> Result<ModuleIdentity, IdentityError> {
        let id = self.provisioning.device.module(module.clone());
        let record = match self.hub.get(&id).await? {
            Some(record) => record,
            None if module.is_system() => {
                return Err(IdentityError::NotAnEdge(self.provisioning.device.clone(), module.clone()));
            }
            None => self.create(&id).await?,
        };
        let keys = self.keys_of(module, &record.generation)?;
        let record = if record.authentication.keys() == Some(&keys) {
            record
        } else {
            self.register_keys(&record, keys).await?
        };
        self.remember(&record)
    }

    async fn create(&self, id: &ModuleId) -> Result<ModuleRecord, IdentityError> {
        let draft = ModuleDraft {
            id: id.clone(),
            managed_by: Some(MANAGED_BY.to_owned()),
            authentication: AuthenticationDraft::generated_keys(),
        };
        match self.hub.put(&draft, false).await {
            // An operator made it just now.
            Err(IdentityError::Refused { action, error }) if error.code == ErrorCode::ModuleAlreadyExists => {
                self.hub.get(id).await?.ok_or(IdentityError::Refused { action, error })
            }
            made => made,
        }
    }

    /// Only with the generation known can the keys be derived, so they are registered with a second request. What the hub says
    /// of `managedBy` is kept by sending it back.
    async fn register_keys(&self, record: &ModuleRecord, keys: KeyPair) -> Result<ModuleRecord, IdentityError> {
        let draft = ModuleDraft {
            id: record.id.clone(),
            managed_by: (!record.managed_by.is_empty()).then(|| record.managed_by.clone()),
            authentication: AuthenticationDraft::Sas { primary: Some(keys.primary), secondary: Some(keys.secondary) },
        };
        let updated = self.hub.put(&draft, true).await?;
        tracing::info!(module = %record.id.name, generation = %updated.generation, "module identity registered");
        Ok(updated)
    }

    fn keys_of(&self, module: &ModuleName, generation: &str) -> Result<KeyPair, PkiError> {
        let key = |which| {
            let key = self.keys.module_key(module, generation, which)?;
            SharedKey::try_from(&key)
                .map_err(|error| PkiError::Key { name: which.to_owned(), reason: error.to_string() })
        };
        Ok(KeyPair { primary: key("primary")?, secondary: key("secondary")? })
    }

    fn remember(&self, record: &ModuleRecord) -> Result<ModuleIdentity, IdentityError> {
        let known = Known { generation: record.generation.to_string(), managed_by: record.managed_by.clone() };
        let mut all = self.lock();
        if all.get(&record.id.name) != Some(&known) {
            all.insert(record.id.name.clone(), known.clone());
            self.cache.save(&self.provisioning, &all)?;
        }
        Ok(self.identity(&record.id.name, &known))
    }

    /// Deletes all identities at the hub that an edge looks after and that are not `wanted`; `$edgeAgent` and `$edgeHub` stay.
    /// Tells which were deleted.
    pub(crate) async fn retain(&self, wanted: &BTreeSet<ModuleName>) -> Result<Vec<ModuleName>, IdentityError> {
        let mut talk = self.talk.lock().await;
        let mut deleted = Vec::new();
        for record in self.hub.list().await? {
            let name = &record.id.name;
            if name.is_system() || wanted.contains(name) || !record.managed_by.eq_ignore_ascii_case(MANAGED_BY) {
                continue;
            }
            self.hub.delete(&record.id).await?;
            tracing::info!(module = %name, "module identity deleted");
            talk.checked.remove(name);
            deleted.push(name.clone());
        }
        let mut all = self.lock();
        let before = all.len();
        all.retain(|name, _| name.is_system() || wanted.contains(name));
        if all.len() != before {
            self.cache.save(&self.provisioning, &all)?;
        }
        Ok(deleted)
    }

    fn identity(&self, module: &ModuleName, known: &Known) -> ModuleIdentity {
        ModuleIdentity {
            id: self.provisioning.device.module(module.clone()),
            generation: known.generation.clone(),
            managed_by: known.managed_by.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ModuleName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
