//! Whether a proof holds: whose key signed, whether that identity may connect, and for whom an edge hub may speak.

use std::collections::BTreeSet;
use std::sync::Arc;

use skerry_gateway::{Actor, ActorId, Claim, Closed, Credential, Proof, TokenSigner, signed_with};
use skerry_model::{
    AuthChain, AuthKind, AuthMethod, AuthScope, Authentication, ClientId, Denied, DeviceId, DeviceRecord, DeviceStatus,
    ErrorCode, ModuleName, SasToken,
};
use skerry_state::StateError;

use crate::hub::Hub;

/// A device, and the module of it that is meant.
pub(crate) struct Found {
    pub(crate) device: DeviceRecord,
    pub(crate) module: Option<skerry_model::ModuleRecord>,
}

impl Hub {
    pub(crate) async fn check_proof(&self, proof: Proof) -> Result<Actor, Denied> {
        let (token, signed_by) = match &proof.credential {
            Credential::Token { token, signed_by } => (token, signed_by),
            Credential::Certificate(_) => {
                return Err(Denied::unauthorized("client certificates are not taken here; use a token"));
            }
            Credential::Missing => return Err(Denied::unauthorized("no credential was shown")),
        };
        let (id, method) = match (&proof.claim, signed_by) {
            (Claim::Policy, TokenSigner::Policy(name)) => (self.check_policy(name, token)?, HUB_POLICY),
            (Claim::Policy, TokenSigner::Device | TokenSigner::Module) => {
                return Err(Denied::unauthorized("a policy was claimed, but the token is not one of a policy"));
            }
            (Claim::Client(_) | Claim::OnBehalf { .. }, TokenSigner::Policy(name)) => {
                let id = self.check_policy(name, token)?;
                if !self.policy(name).is_some_and(|policy| policy.rights.device_connect) {
                    return Err(Denied::unauthorized(format!("policy `{name}` has no right to act for devices")));
                }
                (id, HUB_POLICY)
            }
            (Claim::Client(client), TokenSigner::Device | TokenSigner::Module) => {
                let method = self.check_client(client, signed_by, token).await?;
                (ActorId::Client(client.clone()), method)
            }
            (Claim::OnBehalf { chain }, TokenSigner::Device | TokenSigner::Module) => {
                let edge = acting_device(chain)?;
                let hub = ClientId::Module(edge.module(ModuleName::edge_hub()));
                let method = self.check_client(&hub, signed_by, token).await?;
                self.check_chain(chain, &edge).await?;
                (ActorId::EdgeHub(edge), method)
            }
        };
        let expires = Some(token.expiry);
        Ok(Actor { id, method, expires, credential: Some(Arc::new(proof.credential)) })
    }

    /// Refuses `actor` where what it showed would not let it in any more; that it has expired is none of this.
    pub(crate) async fn check_again(&self, actor: &ActorId, credential: Option<&Credential>) -> Result<(), Denied> {
        let client = match actor {
            ActorId::Client(client) => client.clone(),
            ActorId::EdgeHub(edge) => edge.module(ModuleName::edge_hub()).into(),
            // The keys of policies do not change while the hub runs.
            ActorId::Policy(_) => return Ok(()),
        };
        match credential {
            Some(Credential::Token { token, signed_by }) => {
                self.check_client(&client, signed_by, token).await.map(drop)
            }
            Some(Credential::Certificate(_) | Credential::Missing) | None => Ok(()),
        }
    }

    /// Ends the sessions of whoever came in as `device` or one of its modules with a key that is not theirs any more.
    pub(crate) async fn close_unfit(self: &Arc<Self>, device: &DeviceId) {
        let mut unfit = BTreeSet::new();
        for (serial, actor, credential) in self.sessions.let_in_as(device) {
            if self
                .check_again(&actor, Some(&credential))
                .await
                .is_err_and(|denied| denied.code == ErrorCode::Unauthorized)
            {
                unfit.insert(serial);
            }
        }
        self.close_sessions(Closed::Revoked, |_, live| unfit.contains(&live.key.serial));
    }

    fn check_policy(&self, name: &str, token: &SasToken) -> Result<ActorId, Denied> {
        let policy = self.policy(name).ok_or_else(|| Denied::unauthorized(format!("there is no policy `{name}`")))?;
        if !signed_with(&policy.keys, token) {
            return Err(Denied::unauthorized(format!("the token was not signed with a key of policy `{name}`")));
        }
        Ok(ActorId::Policy(name.to_owned()))
    }

    /// The key of the identity that connects decides; its status is looked at afterwards, since only whoever holds a key has
    /// a status to be told about in the log.
    async fn check_client(
        &self,
        client: &ClientId,
        signed_by: &TokenSigner,
        token: &SasToken,
    ) -> Result<AuthMethod, Denied> {
        let found = self.find_for_connection(client).await?;
        let (owner, authentication, scope) = match (signed_by, &found.module) {
            (TokenSigner::Device, None) => ("device", &found.device.authentication, AuthScope::Device),
            (TokenSigner::Module, Some(module)) => ("module", &module.authentication, AuthScope::Module),
            (TokenSigner::Device, Some(module)) if module.authentication == Authentication::None => {
                ("device", &found.device.authentication, AuthScope::Device)
            }
            (TokenSigner::Device, Some(_)) => {
                return Err(Denied::unauthorized(format!(
                    "module {client} has credentials of its own and cannot use its device's token"
                )));
            }
            (TokenSigner::Module | TokenSigner::Policy(_), _) => {
                return Err(Denied::unauthorized(format!("the token is not one of {client}")));
            }
        };
        let Some(keys) = authentication.keys() else {
            return Err(Denied::unauthorized(format!("the {owner} of {client} does not use shared keys")));
        };
        if !signed_with(keys, token) {
            return Err(Denied::unauthorized(format!(
                "the token was not signed with a key of the {owner} of {client}"
            )));
        }
        check_status(&found.device)?;
        Ok(AuthMethod { scope, kind: AuthKind::Sas })
    }

    /// The identity behind `client`, with reasons for the log when it is not there.
    pub(crate) async fn find_for_connection(&self, client: &ClientId) -> Result<Found, Denied> {
        let device = self.device(client.device()).await.map_err(store_failed)?;
        let device = device.ok_or_else(|| Denied::unauthorized(format!("device {} is unknown", client.device())))?;
        let module = match client {
            ClientId::Device(_) => None,
            ClientId::Module(id) => {
                let module = self.module(id).await.map_err(store_failed)?;
                Some(module.ok_or_else(|| Denied::unauthorized(format!("module {id} is unknown")))?)
            }
        };
        Ok(Found { device, module })
    }
}

const HUB_POLICY: AuthMethod = AuthMethod { scope: AuthScope::Hub, kind: AuthKind::Sas };

/// Refuses a disabled device.
pub(crate) fn check_status(device: &DeviceRecord) -> Result<(), Denied> {
    match device.status {
        DeviceStatus::Enabled => Ok(()),
        DeviceStatus::Disabled => Err(Denied::unauthorized(format!("device {} is disabled", device.id))),
    }
}

/// The edge device at the end of a chain.
pub(crate) fn acting_device(chain: &AuthChain) -> Result<DeviceId, Denied> {
    match chain.actor() {
        Some(ClientId::Device(device)) => Ok(device.clone()),
        Some(ClientId::Module(_)) | None => Err(Denied::unauthorized("an auth chain ends in the id of an edge device")),
    }
}

pub(crate) fn store_failed(error: StateError) -> Denied {
    tracing::error!(%error, "the record store failed");
    Denied { code: ErrorCode::Unavailable, detail: "the record store cannot be used at the moment".into() }
}
