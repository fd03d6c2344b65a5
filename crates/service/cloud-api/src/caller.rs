//! Who asks: a policy of the hub, or a device or module with its own token. Whoever is refused learns that, the log learns why.

use skerry_cloud_hub::Rights;
use skerry_dialect::{http, sas};
use skerry_gateway::{Actor, ActorId, Backend as _, Claim, Credential, HttpRefusal, Proof, TokenSigner, proof};
use skerry_model::{ClientId, Denied, DeviceId, ErrorCode, RequestError, SasToken};

use crate::CloudApi;
use crate::routes::Call;

/// The rights of a policy, by name, that an operation needs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right {
    RegistryRead,
    RegistryWrite,
    ServiceConnect,
}

impl CloudApi {
    /// Requires the token of a policy that has `right`.
    pub(crate) async fn service(&self, call: &Call<'_>, right: Right) -> Result<(), HttpRefusal> {
        let checked = self.check_service(call, right).await;
        checked.map_err(|(claimed, denied)| self.refused(call, &claimed, denied))
    }

    /// Requires the token of `client` itself, or of a policy (whose rights the hub checks).
    pub(crate) async fn client(&self, call: &Call<'_>, client: &ClientId) -> Result<Actor, HttpRefusal> {
        let checked = self.check_client(call, client).await;
        checked.map_err(|denied| self.refused(call, &client.to_string(), denied))
    }

    /// Requires the device's own token, or that of a policy with `right`.
    pub(crate) async fn service_or_device(
        &self,
        call: &Call<'_>,
        right: Right,
        device: &DeviceId,
    ) -> Result<(), HttpRefusal> {
        if token(call).is_ok_and(|token| token.policy.is_some()) {
            return self.service(call, right).await;
        }
        self.client(call, &device.clone().into()).await.map(drop)
    }

    async fn check_service(&self, call: &Call<'_>, right: Right) -> Result<(), (String, Denied)> {
        let token = token(call).map_err(|denied| (String::new(), denied))?;
        let Some(name) = token.policy.clone() else {
            let denied = Denied::unauthorized("the token is not one of a policy");
            return Err((token.resource, denied));
        };
        let allowed = async {
            self.check_policy_token(call, token, &name).await?;
            let rights = self.hub.policy(&name).map(|policy| policy.rights).unwrap_or_default();
            require(rights, right).map_err(|error| Denied { code: error.code, detail: error.detail })
        };
        allowed.await.map_err(|denied| (name.clone(), denied))
    }

    /// Checks reach and expiry of a policy's token here, its signature in the hub.
    async fn check_policy_token(&self, call: &Call<'_>, token: SasToken, name: &str) -> Result<(), Denied> {
        let path = http::route(call.method.as_str(), call.request.path()).map(|route| route.path()).unwrap_or_default();
        if !sas::policy_covers(&token, &self.hosts(), &path) {
            let text = format!("the token's resource {:?} does not cover {path}", token.resource);
            return Err(Denied::unauthorized(text));
        }
        if token.expiry.plus(self.hub.limits().clock_skew) <= self.hub.clock().now().wall {
            return Err(Denied::unauthorized(format!("the token expired at {}", token.expiry)));
        }
        let signed_by = TokenSigner::Policy(name.to_owned());
        let proof = Proof { claim: Claim::Policy, credential: Credential::Token { token, signed_by } };
        match self.hub.authenticate(proof).await?.id {
            ActorId::Policy(_) => Ok(()),
            ActorId::Client(_) | ActorId::EdgeHub(_) => Err(Denied::unauthorized("the token is not one of a policy")),
        }
    }

    async fn check_client(&self, call: &Call<'_>, client: &ClientId) -> Result<Actor, Denied> {
        let shown = call.request.header_text("authorization");
        let now = self.hub.clock().now().wall;
        let skew = self.hub.limits().clock_skew;
        let claim = Claim::Client(client.clone());
        let proof = proof(claim, shown, &call.peer.certificates, &self.hosts(), now, skew)?;
        self.hub.authenticate(proof).await
    }

    /// Puts the refusal on the list, with its reason; the caller is told no more than that it is refused.
    fn refused(&self, call: &Call<'_>, claimed: &str, denied: Denied) -> HttpRefusal {
        let now = self.hub.clock().now();
        self.door.refuse(now, call.peer.address.ip(), "https", claimed, &denied.detail);
        HttpRefusal::Sender(match denied.code {
            ErrorCode::Unauthorized => RequestError::new(ErrorCode::Unauthorized, "Unauthorized"),
            code => RequestError { code, detail: denied.detail },
        })
    }

    fn hosts(&self) -> Vec<&str> {
        self.config.hosts.iter().map(String::as_str).collect()
    }
}

fn token(call: &Call<'_>) -> Result<SasToken, Denied> {
    let shown = call.request.header_text("authorization");
    let shown = shown.ok_or_else(|| Denied::unauthorized("no token was shown"))?;
    sas::parse(shown).map_err(|error| Denied::unauthorized(format!("the token is malformed: {error}")))
}

fn require(rights: Rights, right: Right) -> Result<(), RequestError> {
    match right {
        Right::RegistryRead => Rights::require(rights.registry_read, "RegistryRead"),
        Right::RegistryWrite => Rights::require(rights.registry_write, "RegistryWrite"),
        Right::ServiceConnect => Rights::require(rights.service_connect, "ServiceConnect"),
    }
}
