//! The hub over HTTPS, as its owner: module identities, and reading events.

use std::path::Path;
use std::time::Duration;

use skerry_dialect::connection_string::{Credential, ServiceConnection, split_port};
use skerry_dialect::http::Route;
use skerry_dialect::identity::{module_draft_body, read_module};
use skerry_dialect::own::EventQuery;
use skerry_dialect::{error, sas};
use skerry_model::{ErrorCode, Json, ModuleDraft, ModuleId, RequestError, json};
use skerry_net::http::{ClientLimits, HttpAddress, HttpClient, Method, Request, Response, header};
use skerry_net::{ClientTls, Clock};
use skerry_pki::SymmetricKey;

use crate::Failure;

const API_VERSION: &str = "2021-04-12";
/// How long a token lives; each request has one of its own.
const TOKEN_LIFETIME: Duration = Duration::from_secs(600);
const HTTPS: u16 = 443;
/// Nesting of answers that is read.
const DEPTH_MAX: usize = 100;
/// Ten thousand events of the largest size that the load sends, and more.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A hub whose data folder can be read.
pub(crate) struct Hub {
    http: HttpClient,
    host: String,
    policy: String,
    key: SymmetricKey,
    clock: Clock,
}

impl Hub {
    /// The hub that keeps its data in `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self, Failure> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|cause| format!("cannot read {}: {cause}", path.display()))
        };
        let connection = ServiceConnection::parse(read("connection-string")?.trim())?;
        let (host, port) = split_port(&connection.host);
        let Credential::Key(key) = &connection.credential else { return Err("the hub's owner has no key".into()) };
        let tls = ClientTls::new(&read("ca.pem")?)?;
        let address = HttpAddress::Tls { host: host.to_owned(), port: port.unwrap_or(HTTPS), tls };
        let limits = ClientLimits { body_bytes_max: ANSWER_BYTES_MAX, ..ClientLimits::default() };
        Ok(Self {
            http: HttpClient::new(address, limits),
            host: host.to_owned(),
            policy: connection.policy.clone(),
            key: SymmetricKey::from_bytes(key.as_bytes().to_vec())?,
            clock: Clock::system(),
        })
    }

    /// The hub's name as it stands in tokens.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The key of a module, which is made when it is missing.
    pub(crate) async fn module_key(&self, id: &ModuleId) -> Result<SymmetricKey, Failure> {
        let route = Route::Module(id.clone());
        let known = match self.json(Request::new(Method::GET, target(&route, ""))).await {
            Err(failure) if is_missing(&failure) => {
                let draft = module_draft_body(&ModuleDraft::new(id.clone())).to_string();
                self.json(Request::new(Method::PUT, target(&route, "")).json(draft)).await?
            }
            answer => answer?,
        };
        let module = read_module(&known)?;
        let keys = module.authentication.keys().ok_or_else(|| format!("{id} does not prove itself with keys"))?;
        Ok(SymmetricKey::from_bytes(keys.primary.as_bytes().to_vec())?)
    }

    /// The answer to one question for events, as lines.
    pub(crate) async fn events(&self, query: &EventQuery) -> Result<Vec<u8>, Failure> {
        let answer = self.send(Request::new(Method::GET, target(&Route::Events, &query.to_string()))).await?;
        Ok(answer.body.into())
    }

    async fn json(&self, request: Request) -> Result<Json, Failure> {
        let answer = self.send(request).await?;
        Ok(json::parse(&answer.body, DEPTH_MAX)?)
    }

    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let expiry = self.clock.now().wall.plus(TOKEN_LIFETIME);
        let unsigned = sas::Unsigned::for_policy(&self.host, &self.policy, expiry);
        let token = unsigned.finish(&self.key.sign(unsigned.signed_text().as_bytes()));
        let answer = self.http.request(request.header(header::AUTHORIZATION, &token)).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(error::read(answer.status.as_u16(), &answer.body).into())
    }
}

fn target(route: &Route, query: &str) -> String {
    let divider = if query.is_empty() { "" } else { "&" };
    format!("{}?api-version={API_VERSION}{divider}{query}", route.path())
}

fn is_missing(failure: &Failure) -> bool {
    let error = failure.downcast_ref::<RequestError>();
    error.is_some_and(|error| matches!(error.code, ErrorCode::ModuleNotFound | ErrorCode::NotFound))
}
