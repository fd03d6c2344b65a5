//! The durable copies of twins, those in use kept in memory.

use std::collections::HashMap;
use std::sync::Arc;

use skerry_model::ClientId;
use skerry_state::{Change, Expect, Filter, Key, Kind, Page, StateError, StateStore};
use tokio::sync::Mutex;

use super::copy::Copy;

const TWIN: Kind = Kind::new("edge-twin");
/// Twins kept in memory; the others are read from the store when they are asked for.
const CACHED_MAX: usize = 1_000;
/// Records read at once.
const PAGE: u32 = 200;

/// The copies of twins.
pub(crate) struct Twins {
    state: Arc<dyn StateStore>,
    cached: Mutex<HashMap<ClientId, Arc<Mutex<Copy>>>>,
}

impl Twins {
    pub(crate) fn new(state: Arc<dyn StateStore>) -> Self {
        Self { state, cached: Mutex::default() }
    }

    pub(super) async fn copy(&self, client: &ClientId) -> Result<Arc<Mutex<Copy>>, StateError> {
        let mut cached = self.cached.lock().await;
        if let Some(copy) = cached.get(client) {
            return Ok(copy.clone());
        }
        let stored = self.state.get(&Key::new(TWIN, client.to_string())).await?;
        let copy = stored.map(|record| Copy::from_record(&record.value)).unwrap_or_default();
        let copy = Arc::new(Mutex::new(copy));
        if cached.len() >= CACHED_MAX {
            // One that nobody holds at the moment is as good as any other.
            cached.retain(|_, copy| Arc::strong_count(copy) > 1);
        }
        cached.insert(client.clone(), copy.clone());
        Ok(copy)
    }

    pub(super) async fn store(&self, client: &ClientId, copy: &Copy) -> Result<(), StateError> {
        let key = Key::new(TWIN, client.to_string());
        self.state.commit(vec![Change::put(key, Expect::Any, copy.to_record())]).await.map(|_| ())
    }

    /// Clients that reported something before the last restart that the hub above has not taken yet.
    pub(crate) async fn unsent(&self) -> Result<Vec<ClientId>, StateError> {
        let mut clients = Vec::new();
        let mut page = Page::first(PAGE);
        loop {
            let found = self.state.find(&TWIN, &Filter::all(), page).await?;
            let waits = |record: &&skerry_state::Record| !record.value["pending"].is_null();
            clients
                .extend(found.records.iter().filter(waits).filter_map(|record| ClientId::parse(&record.key.id).ok()));
            match found.next {
                Some(after) => page = Page { after: Some(after), records_max: PAGE },
                None => return Ok(clients),
            }
        }
    }

    /// Forgets the copy of a client that is gone for good.
    pub(crate) async fn forget(&self, client: &ClientId) -> Result<(), StateError> {
        self.cached.lock().await.remove(client);
        let key = Key::new(TWIN, client.to_string());
        self.state.commit(vec![Change::delete(key, Expect::Any)]).await.map(|_| ())
    }
}
