//! Tokens of the edge's own modules, for its connections to the hub.

use std::fmt;
use std::sync::Arc;

use skerry_dialect::sas;
use skerry_model::{ClientId, ModuleName, Timestamp};

use crate::IdentityError;
use crate::config::SharedProvisioning;
use crate::identities::Identities;
use crate::keys::EdgeKeys;

/// Signs tokens for one module of this edge, always with its current generation's key.
#[derive(Clone)]
pub struct TokenSigner {
    pub(crate) module: ModuleName,
    pub(crate) provisioning: SharedProvisioning,
    pub(crate) identities: Arc<Identities>,
    pub(crate) keys: Arc<EdgeKeys>,
}

impl TokenSigner {
    /// Whose tokens.
    pub fn client(&self) -> ClientId {
        ClientId::Module(self.provisioning.device.module(self.module.clone()))
    }

    /// A token that is good until `expiry`.
    ///
    /// # Errors
    /// When the module has no identity yet, or the master key cannot be read.
    pub fn token(&self, expiry: Timestamp) -> Result<String, IdentityError> {
        let known = self.identities.known(&self.module);
        let identity = known.ok_or_else(|| IdentityError::UnknownModule(self.module.clone()))?;
        let unsigned = sas::Unsigned::for_client(&self.provisioning.hub_host, &self.client(), expiry);
        let signature = self.keys.sign(&self.module, &identity.generation, unsigned.signed_text().as_bytes())?;
        Ok(unsigned.finish(&signature))
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TokenSigner").field("module", &self.module).finish_non_exhaustive()
    }
}
