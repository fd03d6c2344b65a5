//! Whether a client may connect here: its own key from the cached scope, checked again after asking upstream when it fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use skerry_dialect::identity::ScopeAnswer;
use skerry_gateway::{Actor, ActorId, Claim, Closed, Credential, Proof, TokenSigner, signed_with};
use skerry_model::{
    AuthKind, AuthMethod, AuthScope, Authentication, ClientId, Denied, DeviceId, DeviceStatus, Monotonic, SasToken,
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
        let (method, expires) = (checked?, Some(token.expiry));
        Ok(Actor { id: ActorId::Client(client), method, expires, credential: Some(Arc::new(proof.credential)) })
    }

    /// Why `client`, for whom `credential` was shown when it was let in, would not be let in with it now; that it has expired is
    /// none of this.
    pub(crate) fn unfit(&self, client: &ClientId, credential: Option<&Credential>) -> Option<Closed> {
        let entry = self.identities.find(client);
        if entry.device.as_ref().is_some_and(|device| device.status == DeviceStatus::Disabled) {
            return Some(Closed::Disabled);
        }
        match credential {
            Some(Credential::Token { token, signed_by }) if check(&entry, client, token, signed_by).is_err() => {
                let is_known = entry.authentication(client).is_some();
                Some(if is_known { Closed::Revoked } else { Closed::Deleted })
            }
            _ => None,
        }
    }

    /// Ends sessions of `device` and its modules, or of everybody, that were let in with what would not do any more.
    pub(crate) fn put_out_unfit(&self, device: Option<&DeviceId>) {
        self.sessions.close_unfit(device, |client, credential| {
            let why = self.unfit(client, credential)?;
            tracing::info!(%client, reason = why.as_str(), "is put out");
            Some(why)
        });
    }

    /// Takes over one identity, and what that means for who is connected.
    async fn learn(&self, client: &ClientId, answer: ScopeAnswer) -> bool {
        let stored = self.identities.put(answer).await;
        if let Err(error) = &stored {
            tracing::error!(%client, %error, "an identity from upstream cannot be stored");
        }
        self.put_out_unfit(Some(client.device()));
        stored.is_ok()
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
            self.learn(client, answer).await;
        }
        Ok(())
    }

    /// The hub above does not let `client` in, so what is known here about it may be old: whoever was disabled or deleted there is
    /// put out here too, within seconds where the hub tells about the one, otherwise when the whole scope was read.
    pub(crate) async fn refused_above(&self, client: &ClientId) {
        let is_own = *client == ClientId::Module(self.config.own_module());
        if !is_own && !self.ask_for(client).await {
            self.scope_doubted.notify_one();
        }
    }

    /// Asks upstream for one identity, for as long as a connecting client can wait.
    async fn ask_for(&self, client: &ClientId) -> bool {
        let asking = async {
            // The semaphore is never closed.
            let _turn = self.asked.turns.acquire().await;
            self.scope.one(client).await
        };
        match tokio::time::timeout(self.config.identity_wait, asking).await {
            Ok(Ok(answer)) => self.learn(client, answer).await,
            Ok(Err(error)) => {
                tracing::debug!(%client, %error, "upstream does not tell about the identity");
                false
            }
            Err(_) => false,
        }
    }
}

fn check(entry: &Entry, client: &ClientId, token: &SasToken, signed_by: &TokenSigner) -> Result<AuthMethod, Denied> {
    let Some(own) = entry.authentication(client) else {
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
