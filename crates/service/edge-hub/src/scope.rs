//! Asking the hub above who is in this edge's scope, with `$edgeHub`'s own token (`edge-hub-specifics` §8).

use std::sync::Arc;

use skerry_dialect::error;
use skerry_dialect::http::ScopeCall;
use skerry_dialect::identity::{ScopeAnswer, ScopeRequest};
use skerry_model::{AuthChain, ClientId, DeviceId, ModuleName, RequestError};
use skerry_net::http::{HttpClient, HttpError, Method, Request, StatusCode, header};
use skerry_uplink::{TokenError, TokenSource};

/// Identities per page; what the original asks for is 10, up to 1,000 is allowed.
const PAGE: usize = 100;
/// Pages of one refresh; a continuation that never ends is given up.
const PAGES_MAX: usize = 1_000;
/// The interface version of the nested calls.
const API_VERSION: &str = "2020-06-30-preview";

/// Asks about the scope.
pub(crate) struct ScopeClient {
    http: HttpClient,
    hub_host: String,
    edge: DeviceId,
    tokens: Arc<dyn TokenSource>,
}

/// Why the hub above did not tell.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScopeError {
    #[error("{0}")]
    Token(#[from] TokenError),
    #[error("{0}")]
    Unreachable(#[from] HttpError),
    #[error("the hub answers {status}: {error}")]
    Refused { status: StatusCode, error: RequestError },
    #[error("the hub's answer cannot be read: {0}")]
    Answer(RequestError),
    #[error("the hub's answer does not end")]
    Endless,
}

impl ScopeClient {
    pub(crate) fn new(http: HttpClient, hub_host: String, edge: DeviceId, tokens: Arc<dyn TokenSource>) -> Self {
        Self { http, hub_host, edge, tokens }
    }

    /// Everybody: this device, its modules, the devices below it and their modules.
    pub(crate) async fn everybody(&self) -> Result<ScopeAnswer, ScopeError> {
        let mut all = ScopeAnswer::default();
        let mut continuation = None;
        for _ in 0..PAGES_MAX {
            let request = ScopeRequest::own_scope(&self.edge, PAGE, continuation.take());
            let page = self.ask(&request, ScopeCall::InTargetScope).await?;
            all.devices.extend(page.devices);
            all.modules.extend(page.modules);
            match page.continuation {
                Some(next) => continuation = Some(next),
                None => return Ok(all),
            }
        }
        Err(ScopeError::Endless)
    }

    /// One identity; a module comes with its device.
    pub(crate) async fn one(&self, client: &ClientId) -> Result<ScopeAnswer, ScopeError> {
        let chain = if client.device() == &self.edge {
            AuthChain::direct(client.clone(), self.edge.clone())
        } else {
            AuthChain::direct(ClientId::Device(client.device().clone()), self.edge.clone())
        };
        self.ask(&ScopeRequest::OnBehalf { chain, target: client.clone() }, ScopeCall::OnBehalf).await
    }

    async fn ask(&self, request: &ScopeRequest, call: ScopeCall) -> Result<ScopeAnswer, ScopeError> {
        let own = ClientId::Module(self.edge.module(ModuleName::edge_hub()));
        let token = self.tokens.token(&self.hub_host, &own).await?;
        let target = format!("{}?api-version={API_VERSION}", call.path(&self.edge));
        let request = Request::new(Method::POST, target)
            .header(header::AUTHORIZATION, &token.text)
            .header(header::HOST, &self.hub_host)
            .json(request.body());
        let response = self.http.request(request).await?;
        if response.status != StatusCode::OK {
            let error = error::read(response.status.as_u16(), &response.body);
            return Err(ScopeError::Refused { status: response.status, error });
        }
        let (answer, unread) = ScopeAnswer::read(&response.body).map_err(ScopeError::Answer)?;
        if unread > 0 {
            tracing::warn!(unread, "identities of the scope could not be read and are left out");
        }
        Ok(answer)
    }
}
