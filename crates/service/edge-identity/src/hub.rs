//! Module identities at the hub, asked for with the device's own key (`device-https` §6).

use std::time::Duration;

use skerry_dialect::http::Route;
use skerry_dialect::identity::{module_draft_body, read_module};
use skerry_dialect::{error, sas};
use skerry_model::{ClientId, ErrorCode, Json, ModuleDraft, ModuleId, ModuleRecord, RequestError, json};
use skerry_net::Clock;
use skerry_net::http::{HttpClient, HttpError, Method, Request, header};
use skerry_pki::SymmetricKey;

use crate::IdentityError;
use crate::config::SharedProvisioning;

/// What the identity service of the original asks with.
const API_VERSION: &str = "2017-11-08-preview";
/// Life of the device's tokens. One is made per request; it outlasts a slow answer and a clock that is a little ahead.
const TOKEN_LIFE: Duration = Duration::from_secs(600);
/// Nesting of an answer, with room to grow.
const ANSWER_DEPTH_MAX: usize = 32;

#[derive(Debug)]
pub(crate) struct HubRegistry {
    pub(crate) http: HttpClient,
    pub(crate) provisioning: SharedProvisioning,
    pub(crate) key: SymmetricKey,
    pub(crate) clock: Clock,
}

impl HubRegistry {
    /// The module; `None` when there is none.
    pub(crate) async fn get(&self, module: &ModuleId) -> Result<Option<ModuleRecord>, IdentityError> {
        let action = format!("read the identity of module `{}`", module.name);
        let route = Route::Module(module.clone());
        match self.ask(&action, Method::GET, &route, None, false).await {
            Ok(answer) => read_record(&action, &answer).map(Some),
            Err(error) if is_missing_module(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All modules of the device.
    pub(crate) async fn list(&self) -> Result<Vec<ModuleRecord>, IdentityError> {
        let action = "list the module identities of this device";
        let route = Route::Modules(self.provisioning.device.clone());
        let answer = self.ask(action, Method::GET, &route, None, false).await?;
        let modules = answer.as_array().ok_or_else(|| not_understood(action, "it is not a JSON array"))?;
        modules.iter().map(|module| read_record(action, module)).collect()
    }

    /// Makes the module; `replace`: changes the one that exists.
    pub(crate) async fn put(&self, draft: &ModuleDraft, replace: bool) -> Result<ModuleRecord, IdentityError> {
        let verb = if replace { "update" } else { "create" };
        let action = format!("{verb} the identity of module `{}`", draft.id.name);
        let body = module_draft_body(draft);
        let route = Route::Module(draft.id.clone());
        let answer = self.ask(&action, Method::PUT, &route, Some(&body), replace).await?;
        read_record(&action, &answer)
    }

    /// Deletes the module; nothing happens when there is none.
    pub(crate) async fn delete(&self, module: &ModuleId) -> Result<(), IdentityError> {
        let action = format!("delete the identity of module `{}`", module.name);
        match self.ask(&action, Method::DELETE, &Route::Module(module.clone()), None, true).await {
            Ok(_) => Ok(()),
            Err(error) if is_missing_module(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn ask(
        &self,
        action: &str,
        method: Method,
        route: &Route,
        body: Option<&Json>,
        any_version: bool,
    ) -> Result<Json, IdentityError> {
        let mut request = Request::new(method, format!("{}?api-version={API_VERSION}", route.path()))
            .header(header::AUTHORIZATION, &self.token());
        if let Some(body) = body {
            request = request.json(body.to_string());
        }
        if any_version {
            request = request.header(header::IF_MATCH, "*");
        }
        let answer = self.http.request(request).await.map_err(|cause| match cause {
            HttpError::TooLarge { .. } => not_understood(action, "it is too large"),
            cause => IdentityError::Offline { action: action.to_owned(), cause },
        })?;
        let status = answer.status.as_u16();
        if answer.status.is_success() {
            if answer.body.is_empty() {
                return Ok(Json::Null);
            }
            return json::parse(&answer.body, ANSWER_DEPTH_MAX).map_err(|error| not_understood(action, error));
        }
        let error = error::read(status, &answer.body);
        Err(if is_passing(status) {
            IdentityError::Unavailable { action: action.to_owned(), error }
        } else {
            IdentityError::Refused { action: action.to_owned(), error }
        })
    }

    fn token(&self) -> String {
        let expiry = self.clock.now().wall.plus(TOKEN_LIFE);
        let device = ClientId::Device(self.provisioning.device.clone());
        let unsigned = sas::Unsigned::for_client(&self.provisioning.hub_host, &device, expiry);
        unsigned.finish(&self.key.sign(unsigned.signed_text().as_bytes()))
    }
}

/// The original takes a 500 for being offline too (`device-https` §6).
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=599)
}

fn is_missing_module(error: &IdentityError) -> bool {
    matches!(error, IdentityError::Refused { error, .. } if matches!(error.code, ErrorCode::ModuleNotFound | ErrorCode::NotFound))
}

fn read_record(action: &str, document: &Json) -> Result<ModuleRecord, IdentityError> {
    read_module(document).map_err(|error| not_understood(action, error))
}

fn not_understood(action: &str, reason: impl std::fmt::Display) -> IdentityError {
    let error = RequestError::new(ErrorCode::Format, format!("its answer cannot be understood: {reason}"));
    IdentityError::Refused { action: action.to_owned(), error }
}
