//! The hub's REST interface: requests with a fresh token of the policy, answers or failures.

use std::time::Duration;

use bytes::Bytes;
use skerry_dialect::connection_string::{Credential, split_port};
use skerry_dialect::http::Route;
use skerry_dialect::{error, sas};
use skerry_model::{ErrorCode, Json, RequestError, SharedKey, json};
use skerry_net::http::{
    BodyReader, ClientLimits, HeaderName, HttpAddress, HttpClient, Method, Request, Response, header,
};
use skerry_net::{ClientTls, Clock};
use skerry_pki::SymmetricKey;

use crate::failure::Failure;
use crate::profile::Profile;

/// Which edition of the interface is asked for.
const API_VERSION: &str = "2021-04-12";
/// How long a token lives; each request has one of its own.
const TOKEN_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// Where HTTPS is found when the connection string has no port.
const PORT: u16 = 443;
/// Nesting of answers that is read.
const DEPTH_MAX: usize = 100;
/// Bytes of an answer that is read whole: a thousand devices with everything.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A hub one is logged in to.
pub(crate) struct Hub {
    http: HttpClient,
    profile: Profile,
    /// The hub's name without port: what tokens are for.
    host: String,
    clock: Clock,
}

/// A request to the hub.
pub(crate) struct Call {
    request: Request,
    /// In place of the policy's.
    authorization: Option<String>,
}

impl Call {
    /// A request for what `route` names.
    pub(crate) fn new(method: Method, route: &Route) -> Self {
        Self::with_query(method, route, "")
    }

    /// The same with parameters.
    pub(crate) fn with_query(method: Method, route: &Route, query: &str) -> Self {
        let divider = if query.is_empty() { "" } else { "&" };
        let target = format!("{}?api-version={API_VERSION}{divider}{query}", route.path());
        Self { request: Request::new(method, target), authorization: None }
    }

    /// With a JSON body.
    pub(crate) fn json(mut self, body: &str) -> Self {
        self.request = self.request.json(body.to_owned());
        self
    }

    /// With a body of its own kind.
    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.request.body = body;
        self
    }

    /// With a header; a name that is none is a failure.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Result<Self, Failure> {
        let known = HeaderName::try_from(name)
            .map_err(|_| Failure::usage(format!("`{name}` cannot be the name of a property")))?;
        self.request = self.request.header(known, value);
        Ok(self)
    }

    /// Replaces whatever is stored.
    pub(crate) fn if_any(mut self) -> Self {
        self.request = self.request.header(header::IF_MATCH, "*");
        self
    }

    /// With a token of somebody else.
    pub(crate) fn authorized_by(mut self, token: String) -> Self {
        self.authorization = Some(token);
        self
    }
}

impl Hub {
    /// The hub of a profile; nothing is sent yet. An answer may take `timeout`.
    pub(crate) fn new(profile: Profile, timeout: Duration) -> Result<Self, Failure> {
        let (host, port) = split_port(&profile.connection.host);
        let tls = ClientTls::new(&profile.roots()?)
            .map_err(|cause| Failure::failed("the trusted certificates cannot be used").because(cause))?;
        let address = HttpAddress::Tls { host: host.to_owned(), port: port.unwrap_or(PORT), tls };
        let limits = ClientLimits { answer_max: timeout, body_bytes_max: ANSWER_BYTES_MAX, ..ClientLimits::default() };
        let host = host.to_owned();
        Ok(Self { http: HttpClient::new(address, limits), profile, host, clock: Clock::system() })
    }

    /// The hub's name without port.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The hub's clock is taken to be ours.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Sends a request and gives the answer's body.
    pub(crate) async fn send(&self, call: Call) -> Result<Bytes, Failure> {
        let response = self.http.request(self.authorized(call)?).await?;
        if response.status.is_success() { Ok(response.body) } else { Err(self.refused(&response)) }
    }

    /// Sends a request and gives the answer's body as JSON.
    pub(crate) async fn json(&self, call: Call) -> Result<Json, Failure> {
        let body = self.send(call).await?;
        json::parse(&body, DEPTH_MAX)
            .map_err(|cause| Failure::failed("the hub's answer is not understood").because(cause))
    }

    /// Sends a request and gives the answer's body piece by piece.
    pub(crate) async fn open(&self, call: Call) -> Result<BodyReader, Failure> {
        let mut response = self.http.open(self.authorized(call)?).await?;
        if response.status.is_success() {
            return Ok(response.body);
        }
        let mut body = Vec::new();
        while let Some(piece) = response.body.piece().await? {
            body.extend_from_slice(&piece);
            if body.len() > ANSWER_BYTES_MAX {
                break;
            }
        }
        Err(self.refused(&Response { status: response.status, headers: response.headers, body: Bytes::from(body) }))
    }

    fn authorized(&self, call: Call) -> Result<Request, Failure> {
        let token = match call.authorization {
            Some(token) => token,
            None => self.policy_token()?,
        };
        Ok(call.request.header(header::AUTHORIZATION, &token))
    }

    fn policy_token(&self) -> Result<String, Failure> {
        let expiry = self.clock.now().wall.plus(TOKEN_LIFETIME);
        match &self.profile.connection.credential {
            Credential::Key(key) => {
                signed(&sas::Unsigned::for_policy(&self.host, &self.profile.connection.policy, expiry), key)
            }
            Credential::Token(token) => Ok(token.clone()),
            Credential::Certificate => Err(Failure::unauthorised("a policy has no certificate")),
        }
    }

    fn refused(&self, response: &Response) -> Failure {
        let mut error = error::read(response.status.as_u16(), &response.body);
        if error.code == ErrorCode::Unauthorized {
            let policy = &self.profile.connection.policy;
            error = RequestError::new(
                error.code,
                format!("hub `{}` does not let policy `{policy}` do this: {}", self.host, error.detail),
            );
        }
        Failure::from(error)
    }
}

/// The token with its signature.
pub(crate) fn signed(unsigned: &sas::Unsigned, key: &SharedKey) -> Result<String, Failure> {
    let key = SymmetricKey::from_bytes(key.as_bytes().to_vec())
        .map_err(|cause| Failure::failed("the key cannot sign").because(cause))?;
    Ok(unsigned.finish(&key.sign(unsigned.signed_text().as_bytes())))
}
