//! What an edge hub may know and do on behalf of those below it.

use skerry_model::{
    AuthChain, ClientId, Denied, DeviceId, DeviceRecord, ErrorCode, ModuleDraft, ModuleId, ModuleName, ModuleRecord,
    Precondition, RequestError,
};
use skerry_state::{Filter, Page};

use crate::CloudHub;
use crate::hub::unavailable;
use crate::records;

/// Devices of one page, at most.
const DEVICES_PER_PAGE_MAX: u32 = 1_000;
/// Devices of a page when the asker does not say.
const DEVICES_PER_PAGE: u32 = 100;

/// Identities below a gateway, keys included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopePage {
    /// Devices.
    pub devices: Vec<DeviceRecord>,
    /// Modules of these devices.
    pub modules: Vec<ModuleRecord>,
    /// What to give as `after` for the next page; `None` after the last one.
    pub next: Option<DeviceId>,
}

impl CloudHub {
    /// The device at the beginning of `chain` with its modules, and its children with theirs, one level. `edge` is the edge
    /// device whose `$edgeHub` asks. The first page begins with the device itself; `devices_max` 0 means the default.
    ///
    /// # Errors
    /// `Unauthorized` when the chain does not hold.
    pub async fn scope(
        &self,
        edge: &DeviceId,
        chain: &AuthChain,
        devices_max: u32,
        after: Option<&DeviceId>,
    ) -> Result<ScopePage, RequestError> {
        let target = self.subject_device(edge, chain).await?;
        let devices_max = if devices_max == 0 { DEVICES_PER_PAGE } else { devices_max.min(DEVICES_PER_PAGE_MAX) };
        let mut page = ScopePage::default();
        let target = self.0.known_device(&target).await?;
        let scope = target.own_scope();
        if after.is_none() {
            page.devices.push(target);
        }
        if let Some(scope) = scope {
            let filter = Filter::member(records::PARENT, scope.as_str());
            let wanted = Page { after: after.map(|id| id.as_str().to_owned()), records_max: devices_max };
            let found = self.0.state.find(&records::DEVICE, &filter, wanted).await.map_err(unavailable)?;
            for record in &found.records {
                page.devices.push(records::read_device(&record.key.id, &record.value).map_err(unavailable)?);
            }
            page.next = found.next.and_then(|id| DeviceId::parse(&id).ok());
        }
        for device in &page.devices {
            page.modules.extend(self.0.modules(&device.id).await?);
        }
        Ok(page)
    }

    /// One identity at or below the beginning of `chain`: a device alone, or a module together with its device.
    ///
    /// # Errors
    /// `Unauthorized` when the chain does not hold or the target is not its subject, `DeviceNotFound`, `ModuleNotFound`.
    pub async fn identity_on_behalf(
        &self,
        edge: &DeviceId,
        chain: &AuthChain,
        target: &ClientId,
    ) -> Result<ScopePage, RequestError> {
        let subject = self.subject_device(edge, chain).await?;
        if subject != *target.device() {
            return Err(not_subject(target));
        }
        let device = self.0.known_device(target.device()).await?;
        let modules = match target {
            ClientId::Device(_) => Vec::new(),
            ClientId::Module(id) => vec![self.0.known_module(id).await?],
        };
        Ok(ScopePage { devices: vec![device], modules, next: None })
    }

    /// The modules of the device at the beginning of `chain`.
    ///
    /// # Errors
    /// `Unauthorized` when the chain does not hold.
    pub async fn modules_on_behalf(
        &self,
        edge: &DeviceId,
        chain: &AuthChain,
    ) -> Result<Vec<ModuleRecord>, RequestError> {
        let device = self.subject_device(edge, chain).await?;
        self.0.modules(&device).await
    }

    /// Creates or replaces a module of the device at the beginning of `chain`.
    ///
    /// # Errors
    /// `Unauthorized` when the chain does not hold, else as [`CloudHub::put_module`].
    pub async fn put_module_on_behalf(
        &self,
        edge: &DeviceId,
        chain: &AuthChain,
        draft: ModuleDraft,
        when: &Precondition,
    ) -> Result<ModuleRecord, RequestError> {
        if self.subject_device(edge, chain).await? != draft.id.device {
            return Err(not_subject(&draft.id.into()));
        }
        self.put_module(draft, when).await
    }

    /// Deletes a module of the device at the beginning of `chain`.
    ///
    /// # Errors
    /// `Unauthorized` when the chain does not hold, else as [`CloudHub::delete_module`].
    pub async fn delete_module_on_behalf(
        &self,
        edge: &DeviceId,
        chain: &AuthChain,
        name: ModuleName,
    ) -> Result<(), RequestError> {
        let device = self.subject_device(edge, chain).await?;
        self.delete_module(&ModuleId { device, name }, &Precondition::Any).await
    }

    async fn subject_device(&self, edge: &DeviceId, chain: &AuthChain) -> Result<DeviceId, RequestError> {
        self.0.check_chain(chain, edge).await.map_err(|Denied { code, detail }| RequestError { code, detail })?;
        match chain.subject() {
            Some(subject) => Ok(subject.device().clone()),
            None => Err(RequestError::new(ErrorCode::Unauthorized, "the auth chain is empty")),
        }
    }
}

fn not_subject(target: &ClientId) -> RequestError {
    RequestError::new(ErrorCode::Unauthorized, format!("the auth chain does not begin with the device of `{target}`"))
}
