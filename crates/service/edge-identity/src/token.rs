//! Tokens of the edge's own modules, for its connections to the hub.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use skerry_dialect::sas;
use skerry_model::{ClientId, ModuleName, Timestamp};
use skerry_net::Clock;
use skerry_uplink::{Boxed, Token, TokenError, TokenSource};

use crate::IdentityError;
use crate::config::SharedProvisioning;
use crate::identities::Identities;
use crate::keys::EdgeKeys;

/// Life of tokens that an uplink asks for: that of the device SDKs.
const LIFE: Duration = Duration::from_secs(3_600);

/// Signs tokens for one module of this edge, always with its current generation's key.
#[derive(Clone)]
pub struct TokenSigner {
    pub(crate) module: ModuleName,
    pub(crate) provisioning: SharedProvisioning,
    pub(crate) identities: Arc<Identities>,
    pub(crate) keys: Arc<EdgeKeys>,
    pub(crate) clock: Clock,
}

impl TokenSigner {
    /// Whose tokens.
    pub fn client(&self) -> ClientId {
        ClientId::Module(self.provisioning.device.module(self.module.clone()))
    }

    /// A token for the hub that is good until `expiry`.
    ///
    /// # Errors
    /// When the module has no identity yet, or the master key cannot be read.
    pub fn token(&self, expiry: Timestamp) -> Result<String, IdentityError> {
        self.token_for(&self.provisioning.hub_host, expiry)
    }

    fn token_for(&self, host: &str, expiry: Timestamp) -> Result<String, IdentityError> {
        let known = self.identities.known(&self.module);
        let identity = known.ok_or_else(|| IdentityError::UnknownModule(self.module.clone()))?;
        let unsigned = sas::Unsigned::for_client(host, &self.client(), expiry);
        let signature = self.keys.sign(&self.module, &identity.generation, unsigned.signed_text().as_bytes())?;
        Ok(unsigned.finish(&signature))
    }
}

impl TokenSource for TokenSigner {
    fn token<'a>(&'a self, host: &'a str, identity: &'a ClientId) -> Boxed<'a, Result<Token, TokenError>> {
        let refused = |reason| TokenError { identity: identity.clone(), reason };
        let token = if *identity == self.client() {
            // A token holds whole seconds.
            let expires = Timestamp::from_unix_seconds(self.clock.now().wall.plus(LIFE).unix_seconds());
            self.token_for(host, expires)
                .map(|text| Token { text, expires })
                .map_err(|error| refused(error.to_string()))
        } else {
            Err(refused(format!("only tokens of `{}` are signed here", self.client())))
        };
        Box::pin(std::future::ready(token))
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TokenSigner").field("module", &self.module).finish_non_exhaustive()
    }
}
