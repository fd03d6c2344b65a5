//! The HTTPS face of an edge hub: method invocation by its modules, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skerry_dialect::http::{Route, calling_module, invocation, method_result, route};
use skerry_gateway::{Answer, Backend, Claim, HttpRefusal, HttpRoutes, Peer, proof};
use skerry_model::{ClientId, ErrorCode, RequestError};
use skerry_net::http::{Body, Request, Response, StatusCode, header};

use crate::EdgeHub;
use crate::hub::lowest_bits;

/// Who calls, by name; which key proves it is the token's affair (`device-https` §7).
const CALLER: &str = "x-ms-edge-moduleid";

/// What is mounted on the HTTPS head of an edge hub.
pub struct EdgeRoutes {
    hub: EdgeHub,
    hosts: Vec<String>,
    failures: AtomicU64,
}

impl EdgeRoutes {
    /// Routes in front of `hub`, which tokens may name by each of `hosts`.
    pub fn new(hub: EdgeHub, hosts: Vec<String>) -> Self {
        let first = lowest_bits((hub.0.random)());
        Self { hub, hosts, failures: AtomicU64::new(first) }
    }

    async fn answer(&self, request: &Request, peer: &Peer) -> Result<Response, HttpRefusal> {
        let target = match route(request.method.as_str(), request.path())? {
            Route::Methods(target) if request.method == "POST" => target,
            _ => {
                let text = "an edge hub serves method invocation only";
                return Err(RequestError::new(ErrorCode::NotFound, text).into());
            }
        };
        let caller = self.caller(request, peer).await?;
        let invocation = invocation(target, &request.body, &self.hub.0.config.limits)?;
        let result = self.hub.0.invoke_as(&caller, invocation).await?;
        Ok(Response::json(StatusCode::OK, method_result(result.status, &result.payload)?))
    }

    async fn caller(&self, request: &Request, peer: &Peer) -> Result<ClientId, HttpRefusal> {
        let named = request
            .header_text(CALLER)
            .ok_or_else(|| RequestError::new(ErrorCode::BadRequest, "the header x-ms-edge-moduleId is missing"))?;
        let caller = calling_module(named)
            .map_err(|error| RequestError::new(ErrorCode::BadRequest, format!("x-ms-edge-moduleId: {error}")))?;
        let caller = ClientId::Module(caller);
        let hub = &self.hub.0;
        let hosts: Vec<&str> = self.hosts.iter().map(String::as_str).collect();
        let token = request.header_text(header::AUTHORIZATION);
        let now = hub.clock.now();
        let checked = proof(
            Claim::Client(caller.clone()),
            token,
            &peer.certificates,
            &hosts,
            now.wall,
            hub.config.limits.clock_skew,
        );
        let outcome = match checked {
            Ok(proof) => self.hub.authenticate(proof).await,
            Err(denied) => Err(denied),
        };
        match outcome {
            Ok(_) => Ok(caller),
            Err(denied) => {
                hub.door.refuse(now, peer.address.ip(), "https", &caller.to_string(), &denied.detail);
                // Why is for the log; the peer learns that it is not let in.
                Err(HttpRefusal::Sender(RequestError::new(denied.code, "the request is not authorized")))
            }
        }
    }
}

impl HttpRoutes for EdgeRoutes {
    fn handle(&self, request: Request, peer: Arc<Peer>) -> Answer<'_> {
        Box::pin(async move {
            let response: Response = match self.answer(&request, &peer).await {
                Ok(response) => response,
                Err(refusal) => {
                    let hub = &self.hub.0;
                    let id = format!("{:016x}", self.failures.fetch_add(1, Ordering::Relaxed));
                    let asked = format!("{} {}", request.method, request.path());
                    refusal.answer(&hub.door, hub.clock.now(), &peer, &asked, &id)
                }
            };
            Response::<Body>::from(response)
        })
    }
}
