//! Doing what a module asks, after making sure that it is that module.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use skerry_dialect::management::{failure_body, modules_body};
use skerry_model::ModuleName;
use skerry_net::http::{Request, Response, StatusCode};
use skerry_net::{Clock, PeerCredentials};
use skerry_pki::{CertificateRequest, IssuedCertificate, PkiError};
use tokio::sync::Semaphore;

use super::call::{Call, ModuleCall, Refusal, read};
use super::{CallerCheck, ModuleListing};
use crate::EdgeAuthority;
use crate::config::SharedProvisioning;
use crate::identities::Identities;
use crate::keys::EdgeKeys;

/// Requests of one module that are worked on at the same time; more wait for their turn.
const REQUESTS_MAX: usize = 10;

/// What all sockets share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) provisioning: SharedProvisioning,
    pub(crate) identities: Arc<Identities>,
    pub(crate) keys: Arc<EdgeKeys>,
    pub(crate) authority: Arc<EdgeAuthority>,
    pub(crate) caller_check: CallerCheck,
    pub(crate) modules: ModuleListing,
    pub(crate) clock: Clock,
}

/// The API as one module sees it.
#[derive(Debug)]
pub(crate) struct ModuleApi {
    module: ModuleName,
    shared: Arc<Shared>,
    turns: Semaphore,
}

impl ModuleApi {
    pub(crate) fn new(module: ModuleName, shared: Arc<Shared>) -> Self {
        Self { module, shared, turns: Semaphore::new(REQUESTS_MAX) }
    }

    pub(crate) async fn answer(&self, peer: PeerCredentials, request: &Request) -> Response {
        let _turn = self.turns.acquire().await;
        self.done(peer, request)
            .await
            .unwrap_or_else(|refusal| Response::json(refusal.status, failure_body(&refusal.message)))
    }

    async fn done(&self, peer: PeerCredentials, request: &Request) -> Result<Response, Refusal> {
        match read(request)? {
            Call::Modules => {
                let modules = self.shared.modules.modules().await;
                Ok(Response::json(StatusCode::OK, modules_body(&modules)))
            }
            Call::TrustBundle => Ok(ok(&json!({ "certificate": self.shared.authority.trust_bundle() }))),
            Call::ManifestTrustBundle => Ok(ok(&json!({ "certificate": "" }))),
            Call::OfModule { module, call } => {
                self.authorize(&module, peer).await?;
                self.done_for_module(call)
            }
        }
    }

    /// The socket is one module's, and so must be the process at its other end and the path it asks for.
    async fn authorize(&self, asked: &ModuleName, peer: PeerCredentials) -> Result<(), Refusal> {
        if *asked == self.module && self.shared.caller_check.is_member(asked, peer).await {
            return Ok(());
        }
        tracing::warn!(socket = %self.module, %asked, pid = ?peer.pid, uid = peer.uid, "a process asked for what is another module's");
        Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden"))
    }

    fn done_for_module(&self, call: ModuleCall) -> Result<Response, Refusal> {
        let (module, keys) = (&self.module, &self.shared.keys);
        let identity = self
            .shared
            .identities
            .known(module)
            .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("module {module} has no identity")))?;
        let current = |asked: &str| self.check_generation(asked, &identity.generation);
        match call {
            ModuleCall::Sign { data } => {
                let digest = keys.sign(module, &identity.generation, &data).map_err(failed)?;
                Ok(ok(&json!({ "digest": STANDARD.encode(digest) })))
            }
            ModuleCall::Encrypt { generation, plain, vector } => {
                current(&generation)?;
                let sealed = keys.encrypt(module, &generation, &vector, &plain).map_err(failed)?;
                Ok(ok(&json!({ "ciphertext": STANDARD.encode(sealed) })))
            }
            ModuleCall::Decrypt { generation, sealed, vector } => {
                current(&generation)?;
                let plain = keys.decrypt(module, &generation, &vector, &sealed).map_err(failed)?;
                Ok(ok(&json!({ "plaintext": STANDARD.encode(plain) })))
            }
            ModuleCall::ServerCertificate { common_name, names } => {
                let own = module.as_str().trim_start_matches('$').to_owned();
                let names = [common_name, own].into_iter().chain(names);
                self.issue(&CertificateRequest::server(names))
            }
            ModuleCall::IdentityCertificate => {
                let mut request = CertificateRequest::client(module.as_str());
                let provisioning = &self.shared.provisioning;
                let (hub, device) = (&provisioning.hub_host, &provisioning.device);
                request.uris = vec![format!("azureiot://{hub}/devices/{device}/modules/{module}")];
                self.issue(&request)
            }
        }
    }

    /// A module that was deleted and made again must not read what the one before it sealed.
    fn check_generation(&self, asked: &str, current: &str) -> Result<(), Refusal> {
        if asked == current {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::NOT_FOUND, format!("module {} has no generation {asked}", self.module)))
    }

    fn issue(&self, request: &CertificateRequest) -> Result<Response, Refusal> {
        let issued = self.shared.authority.issue(request, self.shared.clock.now().wall).map_err(failed)?;
        tracing::info!(module = %self.module, purpose = ?request.purpose, expires = %issued.details.not_after, "certificate issued");
        Ok(Response::json(StatusCode::CREATED, certificate_body(&issued)))
    }
}

fn certificate_body(issued: &IssuedCertificate) -> String {
    // Certificates know whole seconds; the original writes the zone as an offset.
    let expiration = issued.details.not_after.to_string();
    let expiration = expiration.split_once('.').map_or(expiration.as_str(), |(seconds, _)| seconds);
    json!({
        "privateKey": { "type": "key", "bytes": issued.key_pem.as_str() },
        "certificate": issued.chain_pem,
        "expiration": format!("{expiration}+00:00"),
    })
    .to_string()
}

fn ok(body: &skerry_model::Json) -> Response {
    Response::json(StatusCode::OK, body.to_string())
}

fn failed(error: PkiError) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
