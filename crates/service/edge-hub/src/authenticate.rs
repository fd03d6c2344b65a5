//! Whether a client may connect here: its own key from the cached scope, checked again after asking upstream when it fails.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use skerry_gateway::{Actor, ActorId, Claim, Credential, Proof, TokenSigner, signed_with};
use skerry_model::{
    AuthKind, AuthMethod, AuthScope, Authentication, ClientId, Denied, DeviceStatus, Monotonic, SasToken,
};
use tokio::sync::Semaphore;

use crate::hub::Hub;
use crate::identities::Entry;
use crate::scope::ScopeError;

/// Clients whose last question upstream is remembered; one more makes room by forgetting another.
const ASKED_MAX: usize = 10_000;

/// Questions upstream at the same time; who makes up names must not have the hub above flooded with them.
const ASKS_AT_ONCE: usize = 8;

/// When each identity was last asked for upstream.
pub(crate) struct Asked {
    last: Mutex<BTreeMap<ClientId, Monotonic>>,
    turns: Semaphore,
}

impl Default for Asked {
    fn default() -> Self {
        Self { last: Mutex::default(), turns: Semaphore::new(ASKS_AT_ONCE) }
    }
}

impl Hub {
    pub(crate) async fn check_proof(&self, proof: Proof) -> Result<Actor, Denied> {
        let client = match &proof.claim {
            Claim::Client(client) => client.clone(),
            Claim::OnBehalf { .. } => {
                return Err(Denied::unauthorized("edge devices below this one are not served"));
            }
            Claim::Policy => return Err(Denied::unauthorized("policies of the hub are not known here")),
        };
        let (token, signed_by) = match &proof.credential {
            Credential::Token { token, signed_by } => (token, signed_by),
            Credential::Certificate(_) => {
                return Err(Denied::unauthorized("client certificates are not taken here; use a token"));
            }
            Credential::Missing => return Err(Denied::unauthorized("no credential was shown")),
        };
        let first = check(&self.identities.find(&client), &client, token, signed_by);
        let checked = match first {
            Ok(method) => Ok(method),
            // A key may have been changed, or an identity created, since the scope was read.
            Err(denied) => {
                if self.may_ask(&client) && self.ask_for(&client).await {
                    check(&self.identities.find(&client), &client, token, signed_by)
                } else {
                    Err(denied)
                }
            }
        };
        checked.map(|method| Actor { id: ActorId::Client(client), method, expires: Some(token.expiry) })
    }

    /// Whether `client` may be asked for again; counts as asked then.
    fn may_ask(&self, client: &ClientId) -> bool {
        let now = self.clock.now().monotonic;
        let mut asked = self.asked.last.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.get(client).is_some_and(|last| now.since(*last) < self.config.identity_refresh) {
            return false;
        }
        if asked.len() >= ASKED_MAX && !asked.contains_key(client) {
            asked.pop_first();
        }
        asked.insert(client.clone(), now);
        true
    }

    /// Reads single identities from above, one after the other.
    pub(crate) async fn refresh_identities(&self, clients: &[ClientId]) -> Result<(), ScopeError> {
        for client in clients {
            let answer = self.scope.one(client).await?;
            if let Err(error) = self.identities.put(answer).await {
                tracing::error!(%error, "an identity from upstream cannot be stored");
            }
        }
        Ok(())
    }

    /// Asks upstream for one identity, for as long as a connecting client can wait.
    async fn ask_for(&self, client: &ClientId) -> bool {
        let asking = async {
            // The semaphore is never closed.
            let _turn = self.asked.turns.acquire().await;
            self.scope.one(client).await
        };
        match tokio::time::timeout(self.config.identity_wait, asking).await {
            Ok(Ok(answer)) => match self.identities.put(answer).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%error, "an identity from upstream cannot be stored");
                    false
                }
            },
            Ok(Err(error)) => {
                tracing::debug!(%client, %error, "upstream does not tell about the identity");
                false
            }
            Err(_) => false,
        }
    }
}

fn check(entry: &Entry, client: &ClientId, token: &SasToken, signed_by: &TokenSigner) -> Result<AuthMethod, Denied> {
    let own = match client {
        ClientId::Device(_) => entry.device.as_ref().map(|device| &device.authentication),
        ClientId::Module(_) => entry.module.as_ref().map(|module| &module.authentication),
    };
    let Some(own) = own else {
        return Err(Denied::unauthorized(format!("{client} is not in the scope of this edge device")));
    };
    if entry.device.as_ref().is_some_and(|device| device.status == DeviceStatus::Disabled) {
        return Err(Denied::unauthorized(format!("device {} is disabled", client.device())));
    }
    let (keys, scope) = match (signed_by, client) {
        (TokenSigner::Policy(_), _) => return Err(Denied::unauthorized("policies of the hub are not known here")),
        (TokenSigner::Module, ClientId::Device(_)) => {
            return Err(Denied::unauthorized(format!("the token is not one of {client}")));
        }
        (TokenSigner::Module, ClientId::Module(_)) => (own.keys(), AuthScope::Module),
        (TokenSigner::Device, ClientId::Device(_)) => (own.keys(), AuthScope::Device),
        (TokenSigner::Device, ClientId::Module(_)) if *own == Authentication::None => {
            (entry.device.as_ref().and_then(|device| device.authentication.keys()), AuthScope::Device)
        }
        (TokenSigner::Device, ClientId::Module(_)) => {
            return Err(Denied::unauthorized(format!(
                "module {client} has credentials of its own and cannot use its device's token"
            )));
        }
    };
    let keys = keys.ok_or_else(|| Denied::unauthorized(format!("{client} does not use shared keys")))?;
    if !signed_with(keys, token) {
        return Err(Denied::unauthorized(format!("the token was not signed with a key of {client}")));
    }
    Ok(AuthMethod { scope, kind: AuthKind::Sas })
}
