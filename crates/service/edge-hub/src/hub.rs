//! The edge hub itself: its parts, its start and its end.

use std::sync::{Arc, Weak};
use std::time::Duration;

use skerry_gateway::{Calls, Closed, Door};
use skerry_log::Queues;
use skerry_model::ClientId;
use skerry_model::json::JsonObject;
use skerry_net::Clock;
use skerry_net::http::HttpClient;
use skerry_state::{StateError, StateStore};
use skerry_uplink::{TokenSource, Uplink};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::EdgeHubConfig;
use crate::authenticate::Asked;
use crate::forward::Forwarding;
use crate::identities::Identities;
use crate::scope::{ScopeClient, ScopeError};
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::twins::Twins;
use crate::unrouted::Unrouted;
use crate::upstream::Upstream;

/// How long to wait before the whole scope is asked for again: after a failure, and when the hub above refused somebody of it.
const SCOPE_RETRY: Duration = Duration::from_secs(30);
/// How long comings and goings are gathered before they are reported.
const PRESENCE_EVERY: Duration = Duration::from_secs(5);

/// A source of random numbers.
pub type Random = Arc<dyn Fn() -> u128 + Send + Sync>;

/// The drivers handed to an edge hub.
pub struct EdgeParts {
    /// Twins and identities.
    pub state: Arc<dyn StateStore>,
    /// The durable queues.
    pub queues: Queues,
    /// The hub above.
    pub uplink: Uplink,
    /// The hub above, over HTTPS.
    pub http: HttpClient,
    /// The name of the hub above, as it stands in tokens.
    pub hub_host: String,
    /// Tokens of `$edgeHub`.
    pub tokens: Arc<dyn TokenSource>,
    /// Who is connected, who was refused.
    pub door: Arc<Door>,
    /// What time it is.
    pub clock: Clock,
    /// Random numbers: names of method calls and jitter are made from them.
    pub random: Random,
}

/// The local hub of an edge device. Cloning shares it.
#[derive(Clone)]
pub struct EdgeHub(pub(crate) Arc<Hub>);

/// What all faces of the hub share.
pub(crate) struct Hub {
    pub(crate) config: EdgeHubConfig,
    pub(crate) identities: Identities,
    pub(crate) asked: Asked,
    pub(crate) scope: ScopeClient,
    /// The whole scope is to be read before its time.
    pub(crate) scope_doubted: Arc<Notify>,
    pub(crate) sessions: Sessions,
    pub(crate) settings: Settings,
    pub(crate) queues: Queues,
    pub(crate) twins: Twins,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) calls: Calls,
    pub(crate) upstream: Upstream,
    pub(crate) forwarding: Forwarding,
    pub(crate) unrouted: Unrouted,
    pub(crate) door: Arc<Door>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) runtime: Handle,
}

impl EdgeHub {
    /// Starts on the current tokio runtime, which does the control work and sends upstream. What the stores hold is in force at
    /// once, so that an edge without its hub works as it did before.
    ///
    /// # Errors
    /// When the record store cannot be read.
    pub async fn start(config: EdgeHubConfig, parts: EdgeParts) -> Result<Self, StateError> {
        let own = ClientId::Module(config.own_module());
        let identities = Identities::load(parts.state.clone()).await?;
        let hub = Arc::new(Hub {
            scope: ScopeClient::new(parts.http, parts.hub_host, config.device.clone(), parts.tokens),
            scope_doubted: Arc::default(),
            upstream: Upstream::new(parts.uplink, config.own_module()),
            identities,
            asked: Asked::default(),
            sessions: Sessions::default(),
            settings: Settings::default(),
            queues: parts.queues,
            twins: Twins::new(parts.state.clone()),
            state: parts.state,
            calls: Calls::default(),
            forwarding: Forwarding::default(),
            unrouted: Unrouted::default(),
            door: parts.door,
            clock: parts.clock,
            random: parts.random,
            runtime: Handle::current(),
            config,
        });
        hub.apply_stored_settings().await;
        hub.reach_up(&own);
        hub.send_what_was_reported().await;
        tokio::spawn(keep_scope(Arc::downgrade(&hub)));
        tokio::spawn(keep_presence(Arc::downgrade(&hub)));
        tokio::spawn(Hub::close_idle_upstream(Arc::downgrade(&hub)));
        hub.start_forwarding();
        Ok(Self(hub))
    }

    /// Waits until there is a configuration, from above or from an earlier run: before, it is not known where messages go, and
    /// nobody is to be let in.
    pub async fn configured(&self) {
        self.0.settings.known().await;
    }

    /// Ends all sessions.
    pub fn stop(&self) {
        self.0.sessions.close_all(Closed::Stopping);
    }

    /// Who is connected, who was refused.
    pub fn door(&self) -> &Arc<Door> {
        &self.0.door
    }
}

impl Hub {
    /// Desired properties of `client` changed above.
    pub(crate) async fn desired_above(self: &Arc<Self>, client: &ClientId, patch: &JsonObject, version: u64) {
        self.desired_changed(client, patch, version).await;
        self.own_desired_changed(client).await;
    }

    /// The client's connection above is new.
    pub(crate) async fn connected_above(self: &Arc<Self>, client: &ClientId) {
        self.twin_reconnected(client).await;
        self.own_desired_changed(client).await;
        self.forwarding.reconnected();
    }

    /// Applies the desired properties of `$edgeHub` when `client` is that.
    pub(crate) async fn own_desired_changed(self: &Arc<Self>, client: &ClientId) {
        if *client != ClientId::Module(self.config.own_module()) {
            return;
        }
        let Some((desired, version)) = self.known_desired(client).await else { return };
        let applied = self.apply_settings(&desired);
        if self.settings.is_news(version, &applied) {
            if applied.is_good() {
                self.keep_settings(&desired).await;
            }
            self.report_settings(&desired, version, &applied).await;
        }
    }

    /// Reads the whole scope from above. Who is not in it any more, or may not come in as they did, is put out.
    pub(crate) async fn refresh_scope(self: &Arc<Self>) -> Result<(), ScopeError> {
        let scope = self.scope.everybody().await?;
        match self.identities.replace(scope).await {
            Ok(gone) => {
                for client in gone {
                    tracing::info!(%client, "is not in the scope any more");
                    self.sessions.close(&client, Closed::Deleted);
                    self.upstream.close(&client);
                    if let Err(error) = self.twins.forget(&client).await {
                        tracing::error!(%client, %error, "a twin cannot be removed from the store");
                    }
                }
                self.put_out_unfit(None);
            }
            Err(error) => tracing::error!(%error, "the scope cannot be stored"),
        }
        Ok(())
    }
}

async fn keep_scope(hub: Weak<Hub>) {
    loop {
        let (doubted, at_least, rest) = {
            let Some(hub) = hub.upgrade() else { return };
            let at_least = SCOPE_RETRY.min(hub.config.scope_refresh);
            let rest = match hub.refresh_scope().await {
                Ok(()) => hub.config.scope_refresh - at_least,
                Err(error) => {
                    tracing::debug!(%error, "the scope cannot be read");
                    Duration::ZERO
                }
            };
            (hub.scope_doubted.clone(), at_least, rest)
        };
        tokio::time::sleep(at_least).await;
        let _ = tokio::time::timeout(rest, doubted.notified()).await;
    }
}

async fn keep_presence(hub: Weak<Hub>) {
    let Some(mut changes) = hub.upgrade().map(|hub| hub.sessions.presence_changes()) else { return };
    // Somebody may have come before this task began.
    changes.mark_changed();
    match hub.upgrade() {
        Some(hub) => hub.forget_reported_presence().await,
        None => return,
    }
    while changes.changed().await.is_ok() {
        tokio::time::sleep(PRESENCE_EVERY).await;
        let Some(hub) = hub.upgrade() else { return };
        changes.mark_unchanged();
        hub.report_presence().await;
    }
}

/// A random number of 64 bits from one of 128.
pub(crate) fn lowest_bits(random: u128) -> u64 {
    u64::try_from(random & u128::from(u64::MAX)).unwrap_or_default()
}
