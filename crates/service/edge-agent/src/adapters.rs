//! The real neighbours behind the agent's narrow view of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use skerry_edge_identity::{EdgeIdentity, IdentityError, SocketAccess};
use skerry_model::{Delivery, DeviceId, ModuleName, Reply, Request};
use skerry_net::{Clock, with_causes};
use skerry_uplink::{State, UplinkSession};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::ports::{Asked, Identities, IdentityFailure, Upstream, UpstreamState};

impl Identities for EdgeIdentity {
    fn device(&self) -> &DeviceId {
        self.device()
    }

    fn hub_host(&self) -> &str {
        self.hub_host()
    }

    fn provisioning_changed(&self) -> bool {
        self.provisioning_changed()
    }

    fn known(&self, module: &ModuleName) -> Option<String> {
        self.known(module).map(|identity| identity.generation)
    }

    fn ensure<'a>(&'a self, module: &'a ModuleName) -> Asked<'a, Result<String, IdentityFailure>> {
        Box::pin(async move {
            let identity = EdgeIdentity::ensure(self, module).await;
            identity.map(|identity| identity.generation).map_err(|error| failure(&error))
        })
    }

    fn retain<'a>(&'a self, wanted: &'a BTreeSet<ModuleName>) -> Asked<'a, Result<(), IdentityFailure>> {
        Box::pin(async move { EdgeIdentity::retain(self, wanted).await.map(drop).map_err(|error| failure(&error)) })
    }

    fn open_socket(&self, module: &ModuleName, access: SocketAccess) -> Result<PathBuf, String> {
        EdgeIdentity::open_socket(self, module, access).map_err(|error| with_causes(&error))
    }
}

fn failure(error: &IdentityError) -> IdentityFailure {
    IdentityFailure { reason: with_causes(error), is_passing: error.is_passing() }
}

/// An uplink session as the agent sees it.
pub struct SessionUpstream {
    session: UplinkSession,
    state: watch::Receiver<UpstreamState>,
    watcher: AbortHandle,
}

impl SessionUpstream {
    /// Watches `session`, which is that of `$edgeAgent`. Needs a tokio runtime.
    pub fn new(session: UplinkSession, clock: Clock) -> Arc<Self> {
        let mut states = session.state();
        let (sender, state) = watch::channel(upstream_state(&states.borrow_and_update(), clock));
        let watcher = tokio::spawn(async move {
            while states.changed().await.is_ok() {
                let next = upstream_state(&states.borrow_and_update(), clock);
                sender.send_if_modified(|current| {
                    let is_news = current.connection != next.connection || current.problem != next.problem;
                    if is_news {
                        *current = next;
                    }
                    is_news
                });
            }
        });
        Arc::new(Self { session, state, watcher: watcher.abort_handle() })
    }
}

fn upstream_state(state: &State, clock: Clock) -> UpstreamState {
    let (connection, problem) = match state {
        State::Connecting => (None, None),
        State::Connected { number } => (Some(*number), None),
        State::Disconnected { reason, .. } => (None, Some(with_causes(&**reason))),
        State::Refused { code, .. } => (None, Some(format!("the hub does not let $edgeAgent in: {code:?}"))),
        State::Closed => (None, Some("the session was closed".to_owned())),
    };
    UpstreamState { connection, since: Some(clock.now().wall), problem }
}

impl Drop for SessionUpstream {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Upstream for SessionUpstream {
    fn state(&self) -> watch::Receiver<UpstreamState> {
        self.state.clone()
    }

    fn submit(&self, request: Request) -> Asked<'_, Reply> {
        Box::pin(self.session.submit(request))
    }

    fn next_delivery(&self) -> Asked<'_, Option<Delivery>> {
        Box::pin(self.session.next_delivery())
    }
}
