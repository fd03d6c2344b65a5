//! Twins: read, written by clients and by services, and the word to the client when its desired properties changed.

use std::sync::Arc;

use skerry_model::json::JsonObject;
use skerry_model::{
    Channel, ClientId, Delivery, DeviceRecord, ErrorCode, ModuleRecord, Precondition, RequestError, Twin, TwinChange,
    TwinError, TwinUpdate,
};
use skerry_state::{Change, Expect, Key, Revision};

use crate::CloudHub;
use crate::hub::{Hub, unavailable};
use crate::records::{self, StoredTwin};
use crate::registry::check_etag;

/// An identity as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A device.
    Device(DeviceRecord),
    /// A module.
    Module(ModuleRecord),
}

/// A twin with the identity it belongs to: what a service sees.
#[derive(Debug, Clone, PartialEq)]
pub struct TwinView {
    /// Whose twin.
    pub identity: Identity,
    /// The device the identity is, or belongs to; a module's status is its device's.
    pub device: DeviceRecord,
    /// The twin.
    pub twin: Twin,
    /// The plug-and-play model announced last.
    pub model_id: Option<String>,
}

impl CloudHub {
    /// The twin of `client` with its identity.
    ///
    /// # Errors
    /// `DeviceNotFound`, `ModuleNotFound`.
    pub async fn twin(&self, client: &ClientId) -> Result<TwinView, RequestError> {
        let device = self.get_device(client.device()).await?;
        let identity = match client {
            ClientId::Device(_) => Identity::Device(device.clone()),
            ClientId::Module(id) => Identity::Module(self.get_module(id).await?),
        };
        let (stored, _) = self.0.stored_twin(client).await?;
        Ok(TwinView { identity, device, twin: stored.twin, model_id: stored.model_id })
    }

    /// Merges tags and desired properties.
    ///
    /// # Errors
    /// `DeviceNotFound`, `ModuleNotFound`, `PreconditionFailed`, and what [`Twin::patch`] refuses.
    pub async fn patch_twin(
        &self,
        client: &ClientId,
        update: &TwinUpdate,
        when: &Precondition,
    ) -> Result<TwinView, RequestError> {
        let limits = &self.0.config.limits;
        self.0.write_twin(client, when, |twin, now| twin.patch(update, now, limits)).await?;
        self.twin(client).await
    }

    /// Replaces tags and desired properties.
    ///
    /// # Errors
    /// `DeviceNotFound`, `ModuleNotFound`, `PreconditionFailed`, and what [`Twin::replace`] refuses.
    pub async fn replace_twin(
        &self,
        client: &ClientId,
        update: &TwinUpdate,
        when: &Precondition,
    ) -> Result<TwinView, RequestError> {
        let limits = &self.0.config.limits;
        self.0.write_twin(client, when, |twin, now| twin.replace(update, now, limits)).await?;
        self.twin(client).await
    }
}

impl Hub {
    /// The twin of `client` as it is stored.
    pub(crate) async fn stored_twin(&self, client: &ClientId) -> Result<(StoredTwin, Revision), RequestError> {
        match self.state.get(&twin_key(client)).await.map_err(unavailable)? {
            Some(record) => {
                let stored = records::read_twin(&record.key.id, &record.value).map_err(unavailable)?;
                Ok((stored, record.revision))
            }
            None => {
                self.known(client).await?;
                Err(RequestError::new(ErrorCode::NotFound, format!("`{client}` has no twin")))
            }
        }
    }

    /// Merges what the client itself reports; answers with the section's new version.
    pub(crate) async fn patch_reported(
        &self,
        client: &ClientId,
        patch: &JsonObject,
        if_version: Option<u64>,
    ) -> Result<u64, RequestError> {
        let _lock = self.lock(client.device()).await;
        let (mut stored, revision) = self.stored_twin(client).await?;
        let version = stored.twin.patch_reported(patch, if_version, self.now(), &self.config.limits)?;
        self.put_twin(client, &stored, revision).await?;
        Ok(version)
    }

    /// Keeps the model that a client announced, and answers with the one that counts now.
    pub(crate) async fn announce_model(
        &self,
        client: &ClientId,
        announced: Option<&str>,
    ) -> Result<Option<String>, RequestError> {
        let (stored, _) = self.stored_twin(client).await?;
        if announced.is_none() || stored.model_id.as_deref() == announced {
            return Ok(stored.model_id);
        }
        let _lock = self.lock(client.device()).await;
        let (mut stored, revision) = self.stored_twin(client).await?;
        stored.model_id = announced.map(str::to_owned);
        self.put_twin(client, &stored, revision).await?;
        Ok(stored.model_id)
    }

    /// A service's write: the client hears of new desired properties before the next write of the same device begins, so that
    /// it hears of all versions in their order.
    async fn write_twin(
        &self,
        client: &ClientId,
        when: &Precondition,
        write: impl FnOnce(&mut Twin, skerry_model::Timestamp) -> Result<TwinChange, TwinError>,
    ) -> Result<(), RequestError> {
        let _lock = self.lock(client.device()).await;
        let (mut stored, revision) = self.stored_twin(client).await?;
        check_etag(&stored.twin.etag(), when)?;
        let change = write(&mut stored.twin, self.now())?;
        self.put_twin(client, &stored, revision).await?;
        self.announce_desired(client, change);
        Ok(())
    }

    /// Tells the client about new desired properties when it listens; otherwise it reads them when it comes.
    pub(crate) fn announce_desired(&self, client: &ClientId, change: TwinChange) {
        if let Some((patch, version)) = change.desired {
            let delivery = Delivery::Desired { patch: Arc::new(patch), version };
            self.sessions.deliver(client, Channel::Desired, delivery);
        }
    }

    async fn put_twin(&self, client: &ClientId, stored: &StoredTwin, revision: Revision) -> Result<(), RequestError> {
        let change = Change::put(twin_key(client), Expect::Revision(revision), records::write_twin(stored));
        self.state.commit(vec![change]).await.map_err(unavailable)?;
        Ok(())
    }
}

pub(crate) fn twin_key(client: &ClientId) -> Key {
    Key::new(records::TWIN, client.to_string())
}
