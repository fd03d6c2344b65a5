//! What clients report: kept at once, sent on when the hub above is there.

use std::sync::Arc;

use skerry_model::json::JsonObject;
use skerry_model::{ClientId, Reply, Request, RequestError, merge};
use skerry_uplink::is_final;

use super::pending::{unite, without};
use super::unavailable;
use crate::hub::Hub;
use crate::upstream::One;

impl Hub {
    /// Keeps what the client reports, answers at once, and sends it on when the hub above is there.
    pub(crate) async fn patch_reported(
        self: &Arc<Self>,
        client: &ClientId,
        patch: JsonObject,
    ) -> Result<Reply, RequestError> {
        let copy = self.twins.copy(client).await.map_err(unavailable)?;
        {
            let mut copy = copy.lock().await;
            let before = copy.clone();
            copy.report(&patch, self.clock.now().wall, &self.config.limits)?;
            if let Err(error) = self.twins.store(client, &copy).await {
                *copy = before;
                return Err(unavailable(error));
            }
        }
        self.notify_twin_change(client, &patch);
        self.reach_up(client).reported_waits();
        Ok(Reply::Reported { version: None })
    }

    /// Sends what waits to the hub above; what is reported meanwhile waits for the next turn. Answers whether something is left.
    pub(crate) async fn send_reported(self: &Arc<Self>, client: &ClientId, one: &One) -> bool {
        let Ok(copy) = self.twins.copy(client).await.map_err(unavailable) else { return true };
        let patch = {
            let mut copy = copy.lock().await;
            let Some(patch) = copy.pending.clone() else { return false };
            if one.connection().is_some() {
                unite(&mut copy.perhaps_sent, &patch);
            }
            patch
        };
        let reply = one.submit(Request::PatchReported { patch: patch.clone(), if_version: None }).await;
        let mut copy = copy.lock().await;
        match reply {
            Reply::Reported { version } => {
                merge(&mut copy.reported, &patch);
                copy.reported_version = version.unwrap_or(copy.reported_version);
            }
            Reply::Failed(error) if is_final(error.code) => {
                tracing::warn!(%client, %error, "the hub does not take reported properties; they are dropped");
            }
            Reply::Failed(error) => {
                tracing::debug!(%client, %error, "the hub does not take reported properties now");
                return true;
            }
            Reply::Twin(_) | Reply::Done | Reply::MethodResult { .. } => return true,
        }
        copy.perhaps_sent = JsonObject::new();
        copy.pending = copy.pending.take().and_then(|pending| without(pending, &patch));
        if let Err(error) = self.twins.store(client, &copy).await {
            tracing::error!(%client, %error, "a twin cannot be stored");
        }
        copy.pending.is_some()
    }

    /// Connects clients above whose reports have waited there since before the restart.
    pub(crate) async fn send_what_was_reported(self: &Arc<Self>) {
        match self.twins.unsent().await {
            Ok(clients) => clients.iter().for_each(|client| self.reach_up(client).reported_waits()),
            Err(error) => tracing::error!(%error, "reported properties that wait cannot be looked up"),
        }
    }
}
