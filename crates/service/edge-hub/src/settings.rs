//! What the operator wants of this hub: routes and times to live from the desired properties of `$edgeHub`, and the report on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;
use skerry_dialect::manifest;
use skerry_log::{QueueKey, QueueStatus};
use skerry_model::json::JsonObject;
use skerry_model::manifest::{Route, RoutePriority, StoreAndForward};
use skerry_model::{ClientId, Json, Refusal};
use skerry_router::{Endpoint, Router};
use skerry_state::{Change, Expect, Key, Kind};
use tokio::sync::watch;

use crate::hub::Hub;
use crate::sessions::Presence;

/// What cannot stand in a key of the clients' report (`edge-twin-keys`).
const CLIENT_KEY: &AsciiSet = &CONTROLS.add(b'.').add(b'$').add(b' ');

/// Clients in the report at most: a twin has room for about twice as many.
const CLIENTS_REPORTED_MAX: usize = 150;

/// The routes in force, with the queues they lead to.
pub(crate) struct Routes {
    pub(crate) router: Router,
    pub(crate) store: StoreAndForward,
    /// Of each endpoint of the router, by its index: the queue for each priority.
    pub(crate) queues: Vec<BTreeMap<RoutePriority, QueueKey>>,
}

const SETTINGS: Kind = Kind::new("edge-settings");

/// Where the last document without a fault is kept.
fn last_good() -> Key {
    Key::new(SETTINGS, "last-good")
}

/// Holds the routes in force; `None` until there is a configuration.
pub(crate) struct Settings {
    routes: RwLock<Option<Arc<Routes>>>,
    /// Raised with every change; lanes compare it before each batch.
    pub(crate) version: watch::Sender<u64>,
    /// Version of the desired properties that were last reported on, and the report.
    reported: Mutex<Option<(u64, Applied)>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { routes: RwLock::new(None), version: watch::Sender::new(0), reported: Mutex::default() }
    }
}

impl Settings {
    /// The routes in force.
    pub(crate) fn routes(&self) -> Option<Arc<Routes>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this was not said yet since the start; counts as said then.
    pub(crate) fn is_news(&self, version: u64, applied: &Applied) -> bool {
        let said = Some((version, applied.clone()));
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *reported, said.clone()) != said
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
    /// Applies what was known before the restart; where that has a fault, the last document that had none.
    pub(crate) async fn apply_stored_settings(&self) {
        let own = ClientId::Module(self.config.own_module());
        // An empty document is what the hub above has for an edge without a deployment.
        if let Some((desired, version)) = self.known_desired(&own).await.filter(|(desired, _)| !desired.is_empty()) {
            let applied = self.apply_settings(&desired);
            tracing::info!(version, ?applied, "the stored configuration is applied");
        }
        if self.settings.routes().is_some() {
            return;
        }
        match self.state.get(&last_good()).await {
            Ok(Some(record)) => {
                let applied = record.value.as_object().map(|desired| self.apply_settings(desired));
                tracing::info!(?applied, "the last configuration without a fault is applied");
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the last configuration without a fault cannot be read"),
        }
    }

    /// Keeps a document without a fault, for a restart while a later one has some.
    pub(crate) async fn keep_settings(&self, desired: &JsonObject) {
        let change = Change::put(last_good(), Expect::Any, Json::Object(desired.clone()));
        if let Err(error) = self.state.commit(vec![change]).await {
            tracing::error!(%error, "the configuration cannot be kept for a restart");
        }
    }

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
            Err(error) => {
                // Some queues may have been taken back into use for nothing.
                self.retire_queues();
                Applied { code: 500, description: error.to_string() }
            }
        }
    }

    /// The queue of each endpoint and priority; made when it is new.
    fn queues_for(&self, router: &Router) -> Result<Vec<BTreeMap<RoutePriority, QueueKey>>, Refusal> {
        let mut queues = Vec::with_capacity(router.endpoints().len());
        for endpoint in router.endpoints() {
            let index = router.index_of(endpoint);
            let mut of_endpoint = BTreeMap::new();
            for priority in index.map(|index| router.priorities(index)).unwrap_or_default() {
                let key = self.queue_in_use(&self.endpoint_name(endpoint), priority.number())?;
                of_endpoint.insert(priority, key);
            }
            queues.push(of_endpoint);
        }
        Ok(queues)
    }

    /// A queue that is not about to be dropped: messages are going to be put into it.
    fn queue_in_use(&self, endpoint: &str, priority: u32) -> Result<QueueKey, Refusal> {
        let key = self.queues.queue(endpoint, priority)?;
        match self.queues.retire(key, None) {
            Ok(_) => Ok(key),
            // Its time was over just now; this makes a new one.
            Err(Refusal::Message { .. }) => self.queues.queue(endpoint, priority),
            Err(refusal) => Err(refusal),
        }
    }

    /// Queues that no route leads to any more live on for their messages' sake, at most for the time to live.
    fn retire_queues(&self) {
        let Some(routes) = self.settings.routes() else { return };
        let used: Vec<QueueKey> = routes.queues.iter().flat_map(|queues| queues.values().copied()).collect();
        let drop_at = routes.store.time_to_live.map(|time| self.clock.now().wall.plus(time));
        let unused = |queue: &QueueStatus| !used.contains(&queue.queue) && queue.drop_at.is_none();
        for status in self.queues.queues().into_iter().filter(unused) {
            if let Err(refusal) = self.queues.retire(status.queue, drop_at) {
                tracing::warn!(%refusal, endpoint = %status.endpoint, "a queue without routes cannot be retired");
            }
        }
    }

    /// The endpoint's name in the store: `iothub`, or `device/module/input`.
    pub(crate) fn endpoint_name(&self, endpoint: &Endpoint) -> String {
        endpoint.id(&self.config.device)
    }

    /// Says upstream and in the log what became of the desired properties of `version`.
    pub(crate) async fn report_settings(self: &Arc<Self>, desired: &JsonObject, version: u64, applied: &Applied) {
        let (code, description) = (applied.code, applied.description.as_str());
        if desired.is_empty() && self.settings.routes().is_none() {
            tracing::info!(version, "there is no configuration for this hub yet; clients are let in when there is");
        } else if !applied.is_good() {
            tracing::warn!(version, code, description, "the configuration is refused, the one before stays");
        }
        let report = json!({
            "schemaVersion": "1.0",
            "version": { "version": env!("CARGO_PKG_VERSION"), "build": "skerry", "commit": "" },
            "lastDesiredVersion": version,
            "lastDesiredStatus": { "code": code, "description": description },
        });
        self.report_own(report).await;
    }

    /// Takes back what was said of clients before the start: they have to come again.
    pub(crate) async fn forget_reported_presence(self: &Arc<Self>) {
        self.report_own(json!({ "clients": null })).await;
    }

    /// Says upstream who came and went, whenever somebody did.
    pub(crate) async fn report_presence(self: &Arc<Self>) {
        let noted = self.sessions.take_presence();
        let own = ClientId::Module(self.config.own_module());
        let mut reported = self.reported_clients(&own).await;
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
            let key = client_key(&client);
            if entry.is_null() {
                reported.remove(&key);
            } else if reported.len() < CLIENTS_REPORTED_MAX || reported.contains(&key) {
                reported.insert(key.clone());
            } else {
                tracing::debug!(%client, clients_reported_max = CLIENTS_REPORTED_MAX, "is left out of the report");
                continue;
            }
            clients.insert(key, entry);
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
    pub(crate) fn is_good(&self) -> bool {
        self.code == 200
    }

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
