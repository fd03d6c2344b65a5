//! What the operator wants of this hub: routes and times to live from the desired properties of `$edgeHub`, and the report on them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;
use skerry_dialect::manifest;
use skerry_log::QueueKey;
use skerry_model::json::JsonObject;
use skerry_model::manifest::{Route, RoutePriority, StoreAndForward};
use skerry_model::{ClientId, Json};
use skerry_router::{Endpoint, Router};
use tokio::sync::watch;

use crate::hub::Hub;
use crate::sessions::Presence;

/// What cannot stand in a key of the clients' report (`edge-twin-keys`).
const CLIENT_KEY: &AsciiSet = &CONTROLS.add(b'.').add(b'$').add(b' ');

/// The routes in force, with the queues they lead to.
pub(crate) struct Routes {
    pub(crate) router: Router,
    pub(crate) store: StoreAndForward,
    /// Of each endpoint of the router, by its index: the queue for each priority.
    pub(crate) queues: Vec<BTreeMap<RoutePriority, QueueKey>>,
}

/// Holds the routes in force; `None` until there is a configuration.
pub(crate) struct Settings {
    routes: RwLock<Option<Arc<Routes>>>,
    /// Raised with every change; lanes compare it before each batch.
    pub(crate) version: watch::Sender<u64>,
    /// Version of the desired properties that were last looked at.
    seen: AtomicU64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { routes: RwLock::new(None), version: watch::Sender::new(0), seen: AtomicU64::new(0) }
    }
}

impl Settings {
    /// The routes in force.
    pub(crate) fn routes(&self) -> Option<Arc<Routes>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether desired properties of this version were not looked at yet since the start; counts them as looked at.
    pub(crate) fn is_new(&self, version: u64) -> bool {
        self.seen.swap(version, Ordering::Relaxed) != version
    }

    /// Waits until there are any.
    pub(crate) async fn known(&self) {
        let mut version = self.version.subscribe();
        // The sender lives as long as the settings.
        let _ = version.wait_for(|_| self.routes().is_some()).await;
    }
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    code: u16,
    description: String,
}

impl Hub {
    /// Applies the desired properties of `$edgeHub`. A document with a fault changes nothing; the routes before stay in force.
    pub(crate) fn apply_settings(&self, desired: &JsonObject) -> Applied {
        let check = |text: &str| {
            let route = Route {
                name: String::new(),
                text: text.to_owned(),
                priority: RoutePriority::DEFAULT,
                time_to_live: None,
            };
            match Router::compile(&[route]) {
                Ok(_) => Ok(()),
                Err(errors) => Err(errors.first().map_or_else(String::new, |error| error.reason.to_string())),
            }
        };
        let wanted = match manifest::hub(desired, &check) {
            Ok(wanted) => wanted,
            Err(fault) => return Applied::refused(&fault.description()),
        };
        let router = match Router::compile(&wanted.routes) {
            Ok(router) => router,
            Err(errors) => {
                let reasons: Vec<_> = errors.iter().map(ToString::to_string).collect();
                return Applied::refused(&format!("Error while parsing desired properties - {}", reasons.join("; ")));
            }
        };
        let current = self.settings.routes();
        let unchanged = current
            .as_ref()
            .is_some_and(|routes| routes.router.version() == router.version() && routes.store == wanted.store);
        if unchanged {
            return Applied::good();
        }
        match self.queues_for(&router) {
            Ok(queues) => {
                let routes = Routes { router, store: wanted.store, queues };
                let count = wanted.routes.len();
                *self.settings.routes.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(routes));
                self.settings.version.send_modify(|version| *version += 1);
                self.retire_queues();
                tracing::info!(routes = count, "routes are in force");
                Applied::good()
            }
            Err(error) => Applied { code: 500, description: error.to_string() },
        }
    }

    /// The queue of each endpoint and priority; made when it is new.
    fn queues_for(&self, router: &Router) -> Result<Vec<BTreeMap<RoutePriority, QueueKey>>, skerry_model::Refusal> {
        let mut queues = Vec::with_capacity(router.endpoints().len());
        for endpoint in router.endpoints() {
            let index = router.index_of(endpoint);
            let mut of_endpoint = BTreeMap::new();
            for priority in index.map(|index| router.priorities(index)).unwrap_or_default() {
                let key = self.queues.queue(&self.endpoint_name(endpoint), priority.number())?;
                of_endpoint.insert(priority, key);
            }
            queues.push(of_endpoint);
        }
        Ok(queues)
    }

    /// Queues that no route leads to any more live on for their messages' sake, at most for the time to live; those that are in
    /// use again stay.
    fn retire_queues(&self) {
        let Some(routes) = self.settings.routes() else { return };
        let used: Vec<QueueKey> = routes.queues.iter().flat_map(|queues| queues.values().copied()).collect();
        let drop_at = routes.store.time_to_live.map(|time| self.clock.now().wall.plus(time));
        for status in self.queues.queues() {
            let wanted = match (used.contains(&status.queue), status.drop_at) {
                (true, Some(_)) => None,
                (false, None) if drop_at.is_some() => drop_at,
                _ => continue,
            };
            if let Err(refusal) = self.queues.retire(status.queue, wanted) {
                tracing::warn!(%refusal, endpoint = %status.endpoint, "a queue without routes cannot be retired");
            }
        }
    }

    /// The endpoint's name in the store: `iothub`, or `device/module/input`.
    pub(crate) fn endpoint_name(&self, endpoint: &Endpoint) -> String {
        endpoint.id(&self.config.device)
    }

    /// Says upstream what became of the desired properties of `version`.
    pub(crate) async fn report_settings(self: &Arc<Self>, version: u64, applied: &Applied) {
        if applied.code != 200 {
            tracing::warn!(
                version,
                code = applied.code,
                description = applied.description,
                "the configuration is refused"
            );
        }
        let report = json!({
            "schemaVersion": "1.0",
            "version": { "version": env!("CARGO_PKG_VERSION"), "build": "skerry", "commit": "" },
            "lastDesiredVersion": version,
            "lastDesiredStatus": { "code": applied.code, "description": applied.description },
        });
        self.report_own(report).await;
    }

    /// Says upstream who came and went, whenever somebody did.
    pub(crate) async fn report_presence(self: &Arc<Self>) {
        let noted = self.sessions.take_presence();
        let mut clients = JsonObject::new();
        for (client, presence) in noted {
            let leaf = client.device() != &self.config.device;
            let entry = match presence {
                Presence::Connected(at) => json!({ "status": "Connected", "lastConnectedTimeUtc": at.to_string() }),
                // A leaf device that leaves vanishes from the report; a module of this device stays in it.
                Presence::Disconnected(_) if leaf => Json::Null,
                Presence::Disconnected(at) => {
                    json!({ "status": "Disconnected", "lastDisconnectedTimeUtc": at.to_string() })
                }
            };
            clients.insert(client_key(&client), entry);
        }
        if !clients.is_empty() {
            self.report_own(json!({ "clients": clients })).await;
        }
    }

    async fn report_own(self: &Arc<Self>, report: Json) {
        let Json::Object(report) = report else { return };
        let own = ClientId::Module(self.config.own_module());
        if let Err(error) = self.patch_reported(&own, report).await {
            tracing::warn!(%error, "the report of the edge hub cannot be kept");
        }
    }
}

impl Applied {
    fn good() -> Self {
        Self { code: 200, description: String::new() }
    }

    fn refused(description: &str) -> Self {
        Self { code: 400, description: description.to_owned() }
    }
}

/// A client's key in the report: `.`, `$` and space are written as escapes.
fn client_key(client: &ClientId) -> String {
    utf8_percent_encode(&client.to_string(), CLIENT_KEY).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_clients_are_those_of_the_vectors() {
        let vectors: Json = serde_json::from_str(include_str!("../tests/vectors/edge-twin-keys.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let id = case["id"].as_str().unwrap();
            let written = utf8_percent_encode(id, CLIENT_KEY).to_string();
            assert_eq!(written, case["key"].as_str().unwrap());
        }
    }
}
