//! Hearing from the engine what happens to our containers, and noticing when it goes and comes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skerry_model::Json;
use skerry_module_runtime::{Changes, ObservedModule};
use skerry_net::http::{BodyReader, Method, Request};

use crate::engine::{Engine, filters};

/// Shortest and longest time between two attempts to reach an engine that is away.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Longest event that is taken, in bytes.
const EVENT_BYTES_MAX: usize = 256 * 1024;
/// What changes how a container is observed; health checks and the like are left out.
const ACTIONS: [&str; 9] = ["create", "start", "die", "destroy", "pause", "unpause", "restart", "oom", "rename"];

/// What is known of containers without asking again: right as long as events are heard.
#[derive(Debug, Default)]
pub(crate) struct Known {
    listening: bool,
    /// By container id, for the state in which a list showed it.
    containers: BTreeMap<String, (String, ObservedModule)>,
    /// Grows with every event, so that an answer asked for before an event is not kept after it.
    round: u64,
}

/// Shared between the one who listens and the one who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownContainers(Arc<Mutex<Known>>);

impl KnownContainers {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the container in this state.
    pub(crate) fn get(&self, id: &str, state: &str) -> Option<ObservedModule> {
        let known = self.known();
        known.containers.get(id).filter(|(known_state, _)| known_state == state).map(|(_, module)| module.clone())
    }

    /// To be asked before the engine is, and given to [`keep`](Self::keep) with its answer.
    pub(crate) fn round(&self) -> u64 {
        self.known().round
    }

    pub(crate) fn keep(&self, round: u64, id: &str, state: &str, module: &ObservedModule) {
        let mut known = self.known();
        if known.listening && known.round == round {
            known.containers.insert(id.to_owned(), (state.to_owned(), module.clone()));
        }
    }

    /// Forgets containers that are not in a list any more.
    pub(crate) fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.known().containers.retain(|id, _| exists(id));
    }

    pub(crate) fn forget(&self, id: &str) {
        let mut known = self.known();
        known.round += 1;
        known.containers.remove(id);
    }

    fn set_listening(&self, listening: bool) {
        let mut known = self.known();
        known.listening = listening;
        known.round += 1;
        known.containers.clear();
    }
}

/// Listens for ever. Every event, and every going and coming of the engine, is announced.
pub(crate) async fn listen(engine: Arc<Engine>, labels: Vec<String>, known: KnownContainers, changes: Changes) {
    let kinds = ["container".to_owned()];
    let actions = ACTIONS.map(str::to_owned);
    let target = format!("/events?filters={}", filters(&[("type", &kinds), ("label", &labels), ("event", &actions)]));
    let mut retry = RETRY_MIN;
    loop {
        match engine.open(Request::new(Method::GET, target.clone())).await {
            Ok(body) => {
                retry = RETRY_MIN;
                known.set_listening(true);
                tracing::info!("the container engine is there");
                // What happened before is seen by looking again.
                changes.announce();
                hear(body, &known, &changes).await;
                known.set_listening(false);
                tracing::warn!("the container engine went away");
                changes.announce();
            }
            Err(error) => tracing::debug!(?error, "the container engine is away"),
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_MAX);
    }
}

async fn hear(mut body: BodyReader, known: &KnownContainers, changes: &Changes) {
    let mut unread = Vec::new();
    while let Ok(Some(piece)) = body.piece().await {
        unread.extend_from_slice(&piece);
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let event: Vec<u8> = unread.drain(..=end).collect();
            if let Some(id) = container_of(&event) {
                known.forget(&id);
                changes.announce();
            }
        }
        if EVENT_BYTES_MAX < unread.len() {
            return;
        }
    }
}

fn container_of(event: &[u8]) -> Option<String> {
    let event: Json = serde_json::from_slice(event).ok()?;
    event["Actor"]["ID"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_model::ModuleName;

    #[test]
    fn what_was_asked_before_an_event_is_not_kept_after_it() {
        let module = ObservedModule::created(ModuleName::parse("m").unwrap());
        let known = KnownContainers::default();
        known.keep(known.round(), "id", "created", &module);
        assert_eq!(known.get("id", "created"), None, "nobody listens");
        known.set_listening(true);
        let round = known.round();
        known.forget("id");
        known.keep(round, "id", "created", &module);
        assert_eq!(known.get("id", "created"), None);
        known.keep(known.round(), "id", "created", &module);
        assert_eq!(known.get("id", "created"), Some(module));
        assert_eq!(known.get("id", "running"), None);
        known.set_listening(false);
        assert_eq!(known.get("id", "created"), None);
    }

    #[test]
    fn events_name_their_container() {
        assert_eq!(container_of(b"{\"Actor\":{\"ID\":\"x\"}}\n").as_deref(), Some("x"));
        assert_eq!(container_of(b"{}"), None);
        assert_eq!(container_of(b"\xff"), None);
    }
}
