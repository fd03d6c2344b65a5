//! When identities were connected and last active. Kept in memory, written down every few seconds in one commit.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use skerry_model::{Activity, ClientId, ConnectionState, Timestamp};
use skerry_state::{Change, Expect, Key};

use crate::hub::Hub;
use crate::records;

/// Identities written down in one commit, at most.
const COMMIT_MAX: usize = 500;

/// What is known about identities that are connected, or were until a moment ago.
#[derive(Default)]
pub(crate) struct Activities {
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    known: HashMap<ClientId, Activity>,
    /// Not written down yet.
    changed: HashSet<ClientId>,
}

impl Activities {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connected(&self, client: &ClientId, now: Timestamp) {
        self.note(client, ConnectionState::Connected, now, now);
    }

    pub(crate) fn disconnected(&self, client: &ClientId, last_active: Timestamp, now: Timestamp) {
        self.note(client, ConnectionState::Disconnected, last_active, now);
    }

    /// Forgets a deleted identity.
    pub(crate) fn forget(&self, client: &ClientId) {
        let mut book = self.lock();
        book.known.remove(client);
        book.changed.remove(client);
    }

    fn note(&self, client: &ClientId, state: ConnectionState, last: Timestamp, now: Timestamp) {
        let mut book = self.lock();
        let activity = book.known.entry(client.clone()).or_default();
        *activity = Activity { state, state_updated: Some(now), last: Some(last), commands_waiting: 0 };
        book.changed.insert(client.clone());
    }
}

impl Hub {
    /// What `client` has been doing; commands that wait are counted by who knows them.
    pub(crate) async fn activity(&self, client: &ClientId) -> Activity {
        let known = self.activities.lock().known.get(client).copied();
        let mut activity = match known {
            Some(activity) => activity,
            None => {
                let id = client.to_string();
                let stored = self.state.get(&Key::new(records::ACTIVITY, id.clone())).await.ok().flatten();
                stored.and_then(|record| records::read_activity(&id, &record.value).ok()).unwrap_or_default()
            }
        };
        if let Some(last) = self.sessions.with(client, |live| live.shared.last_active()) {
            activity.last = activity.last.max(Some(last));
        }
        activity
    }

    /// Writes down what changed; what fails is tried again the next time.
    pub(crate) async fn write_activities(&self) {
        loop {
            let taken: Vec<(ClientId, Activity)> = {
                let mut book = self.activities.lock();
                let clients: Vec<_> = book.changed.iter().take(COMMIT_MAX).cloned().collect();
                for client in &clients {
                    book.changed.remove(client);
                }
                clients.into_iter().filter_map(|client| book.known.get(&client).map(|a| (client.clone(), *a))).collect()
            };
            if taken.is_empty() {
                return;
            }
            // An identity deleted meanwhile gets no document back: its twin is what tells that it exists.
            let mut changes = Vec::with_capacity(taken.len());
            for (client, activity) in &taken {
                let id = client.to_string();
                if let Ok(Some(_)) = self.state.get(&Key::new(records::TWIN, id.clone())).await {
                    let key = Key::new(records::ACTIVITY, id);
                    changes.push(Change::put(key, Expect::Any, records::write_activity(activity)));
                }
            }
            let written = self.state.commit(changes).await;
            let mut book = self.activities.lock();
            if let Err(error) = written {
                tracing::warn!(%error, "cannot write down when clients were connected");
                book.changed.extend(taken.into_iter().map(|(client, _)| client));
                return;
            }
            for (client, activity) in taken {
                let gone = activity.state == ConnectionState::Disconnected;
                if gone && !book.changed.contains(&client) && book.known.get(&client) == Some(&activity) {
                    book.known.remove(&client);
                }
            }
        }
    }
}
