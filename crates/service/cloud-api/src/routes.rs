//! From a request to its answer: the path decides what is asked, the token who asks.

use std::sync::Arc;

use skerry_cloud_hub::CloudHub;
use skerry_dialect::http::{self, Route};
use skerry_gateway::{Answer, Door, HttpRoutes, Peer};
use skerry_model::{ErrorCode, RequestError};
use skerry_net::http::{HeaderName, Method, Request};
use skerry_pki::Random;

use crate::respond::Answered;

/// The name of the header that names an answer, for both sides' logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
/// Java's HTTP client has no PATCH: it sends POST and says so here.
const METHOD_OVERRIDE: &str = "x-http-method-override";

/// How the API names its hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// The names that tokens may name the hub by, without port.
    pub hosts: Vec<String>,
}

/// The routes of a cloud hub.
pub struct CloudApi {
    pub(crate) hub: CloudHub,
    pub(crate) config: ApiConfig,
    pub(crate) door: Arc<Door>,
    random: Random,
}

/// A request on its way to its answer.
pub(crate) struct Call<'a> {
    pub(crate) request: &'a Request,
    pub(crate) peer: &'a Peer,
    /// The method that is meant.
    pub(crate) method: Method,
}

impl CloudApi {
    /// Routes to `hub`. Who is refused is put on the list of `door`, which also tells who is connected.
    pub fn new(hub: CloudHub, config: ApiConfig, door: Arc<Door>, random: Random) -> Self {
        Self { hub, config, door, random }
    }

    async fn answer(&self, call: &Call<'_>) -> Answered {
        let route = http::route(call.method.as_str(), call.request.path())?;
        call.check_version(&route)?;
        match route {
            Route::Devices => self.devices(call).await,
            Route::Device(id) => self.device(call, &id).await,
            Route::Modules(device) => self.modules(call, &device).await,
            Route::Module(id) => self.module(call, &id).await,
            Route::ApplyConfiguration(device) => self.apply_configuration(call, &device).await,
            Route::Telemetry(client) => self.telemetry(call, &client).await,
            Route::Commands { to, twice_decoded } => self.send_command(call, to, twice_decoded).await,
            Route::CommandQueue(device) => self.purge_commands(call, &device).await,
            Route::Twin(client) => self.twin(call, &client).await,
            Route::Methods(target) => self.invoke_method(call, target).await,
            Route::Scope { actor, call: question } => self.scope(call, &actor, question).await,
            Route::DeviceStatistics => self.device_statistics(call).await,
            Route::ServiceStatistics => self.service_statistics(call).await,
            Route::Events => self.events(call).await,
            Route::Connections => self.connections(call).await,
            Route::Unbuilt(what) => Err(not_built(what).into()),
        }
    }
}

impl HttpRoutes for CloudApi {
    fn handle(&self, request: Request, peer: Arc<Peer>) -> Answer<'_> {
        Box::pin(async move {
            let method = meant_method(&request);
            let call = Call { request: &request, peer: &peer, method };
            let id = format!("{:032x}", self.random.u128());
            let answer = match self.answer(&call).await {
                Ok(response) => response,
                Err(refusal) => {
                    let asked = format!("{} {}", call.method, request.path());
                    refusal.answer(&self.door, self.hub.clock().now(), &peer, &asked, &id)
                }
            };
            answer.header(REQUEST_ID, &id).into()
        })
    }
}

impl Call<'_> {
    /// Refuses a request without `api-version`; any value will do. Our own routes have none, and some device SDKs leave it out
    /// when a module calls a method.
    fn check_version(&self, route: &Route) -> Result<(), RequestError> {
        let exempt = match route {
            Route::Events | Route::Connections => true,
            Route::Methods(_) => self.request.header_text(http::CALLING_MODULE_HEADER).is_some(),
            _ => false,
        };
        if exempt || self.request.query_value("api-version").is_some_and(|version| !version.is_empty()) {
            return Ok(());
        }
        Err(RequestError::new(ErrorCode::BadRequest, "the query has no `api-version`"))
    }

    /// The refusal of a method that means nothing at this address.
    pub(crate) fn no_such_method(&self) -> RequestError {
        let text = format!("there is no {} at `{}`", self.method, self.request.path());
        RequestError::new(ErrorCode::NotFound, text)
    }

    /// What `If-Match` says.
    pub(crate) fn precondition(&self) -> skerry_model::Precondition {
        http::precondition(self.request.header_text("if-match"))
    }
}

/// The refusal of what belongs to the platform's interface but is not there yet.
pub(crate) fn not_built(what: &str) -> RequestError {
    RequestError::new(ErrorCode::NotImplemented, format!("{what}: this part of the interface is not built yet"))
}

fn meant_method(request: &Request) -> Method {
    if request.method == Method::POST
        && let Some(meant) = request.header_text(METHOD_OVERRIDE)
        && let Ok(meant) = Method::from_bytes(meant.trim().to_ascii_uppercase().as_bytes())
    {
        return meant;
    }
    request.method.clone()
}
