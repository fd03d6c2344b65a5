//! What clients listened to when they left, for those that want their session kept (`CleanSession` 0).
//!
//! Lives in memory: after a restart of the hub a client is told that no session is present and subscribes anew.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use skerry_model::{Channel, ClientId};
use skerry_mqtt::Qos;

/// Clients that are remembered; one more makes room by forgetting another, which then subscribes anew.
const CLIENTS_MAX: usize = 100_000;

/// What one client listens to, and how sure the deliveries are.
pub(crate) type Subscriptions = BTreeMap<Channel, Qos>;

/// The subscriptions of clients that keep their session.
#[derive(Default)]
pub(crate) struct Remembered {
    clients: Mutex<BTreeMap<ClientId, Subscriptions>>,
}

impl Remembered {
    /// What `client` listened to; empty when nothing is known.
    pub(crate) fn recall(&self, client: &ClientId) -> Subscriptions {
        self.lock().get(client).cloned().unwrap_or_default()
    }

    /// Keeps what `client` listens to; nothing is kept for a client that listens to nothing.
    pub(crate) fn keep(&self, client: &ClientId, subscriptions: &Subscriptions) {
        let mut clients = self.lock();
        if subscriptions.is_empty() {
            clients.remove(client);
            return;
        }
        if clients.len() >= CLIENTS_MAX && !clients.contains_key(client) {
            clients.pop_first();
        }
        clients.insert(client.clone(), subscriptions.clone());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ClientId, Subscriptions>> {
        // Every change is a single insertion or removal, so a panic elsewhere leaves the map whole.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
