//! Twins of local clients: a durable copy that serves them while the hub above is away, and reported patches that wait for it.

mod copy;
mod pending;
mod report;
mod store;

use std::collections::BTreeSet;
use std::sync::Arc;

use skerry_model::json::JsonObject;
use skerry_model::{Channel, ClientId, Delivery, ErrorCode, Reply, Request, RequestError, merge};
use skerry_state::StateError;
use skerry_uplink::State;
use tokio::sync::Mutex;

use crate::hub::Hub;
use crate::upstream::One;
use copy::Copy;
pub(crate) use store::Twins;

impl Hub {
    /// The twin as its client sees it: from above when that is possible in time, else the copy.
    pub(crate) async fn get_twin(self: &Arc<Self>, client: &ClientId) -> Result<Reply, RequestError> {
        let copy = self.twins.copy(client).await.map_err(unavailable)?;
        if let Some(one) = self.upstream.session(client) {
            let in_time = async {
                if self.upstream.is_reachable() {
                    // A client that has just come is about to be connected above.
                    let connecting = |state: &State| matches!(state, State::Connecting);
                    let _ = one.state().wait_for(|state| !connecting(state)).await;
                }
                if one.connection().is_some() && !one.follows_twin() {
                    self.read_twin(&one, client, &copy).await;
                }
            };
            // Late is as good as never: then the copy is served.
            let _ = tokio::time::timeout(self.config.twin_wait, in_time).await;
        }
        let mut copy = copy.lock().await;
        copy.served_empty |= copy.desired_version == 0;
        Ok(Reply::Twin(copy.view()))
    }

    /// Reads the twin from above into the copy, and tells the client how its desired properties changed when it listens.
    async fn read_twin(self: &Arc<Self>, one: &One, client: &ClientId, copy: &Mutex<Copy>) {
        let Some(connection) = one.connection() else { return };
        let hears = one.hears_on() == connection;
        let known = copy.lock().await.versions();
        let asked = tokio::time::timeout(self.config.twin_wait, one.submit(Request::GetTwin)).await;
        let twin = match asked {
            Ok(Reply::Twin(twin)) => twin,
            Ok(other) => {
                tracing::debug!(%client, ?other, "upstream does not give the twin");
                return;
            }
            Err(_) => return,
        };
        let mut copy = copy.lock().await;
        let change = copy.take(&twin, known);
        if hears {
            one.twin_is_current_on(connection);
        }
        if let Err(error) = self.twins.store(client, &copy).await {
            tracing::error!(%client, %error, "a twin cannot be stored");
        }
        if let Some((patch, version)) = change {
            self.sessions.deliver(client, Channel::Desired, Delivery::Desired { patch: patch.into(), version });
        }
    }

    /// Reads the twin because something may have been missed.
    pub(crate) async fn refresh_twin(self: &Arc<Self>, client: &ClientId) {
        let Ok(copy) = self.twins.copy(client).await.map_err(unavailable) else { return };
        let Some(one) = self.upstream.session(client) else { return };
        self.read_twin(&one, client, &copy).await;
        self.own_desired_changed(client).await;
    }

    /// Desired properties changed above.
    pub(crate) async fn desired_changed(self: &Arc<Self>, client: &ClientId, patch: &JsonObject, version: u64) {
        let Ok(copy) = self.twins.copy(client).await.map_err(unavailable) else { return };
        {
            let mut known = copy.lock().await;
            if version <= known.desired_version {
                return;
            }
            if version == known.desired_version + 1 {
                merge(&mut known.desired, patch);
                known.desired_version = version;
                if let Err(error) = self.twins.store(client, &known).await {
                    tracing::error!(%client, %error, "a twin cannot be stored");
                }
                let delivery = Delivery::Desired { patch: Arc::new(patch.clone()), version };
                self.sessions.deliver(client, Channel::Desired, delivery);
                return;
            }
        }
        // Something was missed in between.
        if let Some(one) = self.upstream.session(client) {
            self.read_twin(&one, client, &copy).await;
        }
    }

    /// Keys of the clients that the report of this hub names at the moment.
    pub(crate) async fn reported_clients(&self, own: &ClientId) -> BTreeSet<String> {
        let Ok(copy) = self.twins.copy(own).await.map_err(unavailable) else { return BTreeSet::new() };
        let view = copy.lock().await.view();
        view["reported"]["clients"].as_object().map(|clients| clients.keys().cloned().collect()).unwrap_or_default()
    }

    /// Whether somebody here wants to know of changes: the client itself, or this hub when it is its own twin.
    fn follows_desired(&self, client: &ClientId) -> bool {
        *client == ClientId::Module(self.config.own_module()) || self.sessions.listens(client, Channel::Desired)
    }

    /// The desired properties of the copy and their version; `None` when nothing was ever heard from above.
    pub(crate) async fn known_desired(&self, client: &ClientId) -> Option<(JsonObject, u64)> {
        let copy = self.twins.copy(client).await.map_err(unavailable).ok()?;
        let copy = copy.lock().await;
        (copy.desired_version > 0).then(|| (copy.desired.clone(), copy.desired_version))
    }

    /// The client's connection above is new: what was missed is read.
    pub(crate) async fn twin_reconnected(self: &Arc<Self>, client: &ClientId) {
        if self.follows_desired(client) {
            self.refresh_twin(client).await;
        }
    }
}

/// What a failing store means to a client.
fn unavailable(error: StateError) -> RequestError {
    tracing::error!(%error, "a twin cannot be read or written");
    RequestError::new(ErrorCode::Unavailable, "the store of twins cannot be used at the moment")
}
