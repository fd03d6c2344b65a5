//! The hub above: one session for each client, opened when the client comes or its messages have to go up.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use skerry_model::{
    AuthChain, Channel, ClientId, Delivery, DeviceId, LockToken, MethodAnswer, MethodCall, MethodInvocation, ModuleId,
    Outcome, Request, Settled,
};
use skerry_uplink::{State, Uplink, UplinkSession};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::hub::Hub;

/// How long a relayed call may take here; the caller above has a time of its own.
const RELAYED_CALL_MAX: Duration = Duration::from_secs(300);

/// All sessions upstream.
pub(crate) struct Upstream {
    uplink: Uplink,
    own: ModuleId,
    sessions: Mutex<HashMap<ClientId, Arc<One>>>,
}

/// One client's session upstream.
pub(crate) struct One {
    pub(crate) session: UplinkSession,
    /// The client reported something that has to go up.
    reported: Notify,
    /// Commands that the client has and did not settle.
    locks: Mutex<BTreeSet<LockToken>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Drop for One {
    fn drop(&mut self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

impl Upstream {
    pub(crate) fn new(uplink: Uplink, own: ModuleId) -> Self {
        Self { uplink, own, sessions: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, Arc<One>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chain(&self, client: &ClientId) -> Option<AuthChain> {
        let device: &DeviceId = &self.own.device;
        match client {
            ClientId::Module(module) if *module == self.own => None,
            _ if client.device() == device => Some(AuthChain::direct(client.clone(), device.clone())),
            ClientId::Device(_) => Some(AuthChain::direct(client.clone(), device.clone())),
            ClientId::Module(module) => {
                // A module of a leaf: module, its device, this device.
                AuthChain::parse(&format!("{module};{};{device}", module.device)).ok()
            }
        }
    }

    /// The session of `client`, when there is one.
    pub(crate) fn session(&self, client: &ClientId) -> Option<Arc<One>> {
        self.lock().get(client).cloned()
    }

    /// The number of the connection that `client` has upstream at the moment.
    pub(crate) fn connection(&self, client: &ClientId) -> Option<u64> {
        let one = self.session(client)?;
        match *one.session.state().borrow() {
            State::Connected { number } => Some(number),
            State::Connecting | State::Disconnected { .. } | State::Refused { .. } | State::Closed => None,
        }
    }

    /// Forgets the session of `client`; its connection ends.
    pub(crate) fn close(&self, client: &ClientId) {
        self.lock().remove(client);
    }

    /// The client reported something.
    pub(crate) fn reported_waits(&self, client: &ClientId) {
        if let Some(one) = self.session(client) {
            one.reported.notify_one();
        }
    }

    /// The client settled commands.
    pub(crate) fn settle(&self, client: &ClientId, settled: &[Settled]) {
        let Some(one) = self.session(client) else { return };
        for settled in settled {
            if one.locks.lock().unwrap_or_else(PoisonError::into_inner).remove(&settled.lock) {
                one.session.settle(settled.lock, settled.outcome);
            }
        }
    }
}

impl One {
    /// Whether the client holds commands that it did not settle.
    fn holds_commands(&self) -> bool {
        !self.locks.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl std::ops::Deref for One {
    type Target = UplinkSession;

    fn deref(&self) -> &UplinkSession {
        &self.session
    }
}

impl Hub {
    /// The session of `client` upstream; opened when there is none.
    pub(crate) fn reach_up(self: &Arc<Self>, client: &ClientId) -> Arc<One> {
        let mut sessions = self.upstream.lock();
        if let Some(one) = sessions.get(client) {
            return one.clone();
        }
        let _runtime = self.runtime.enter();
        let session = self.upstream.uplink.open(client.clone(), self.upstream.chain(client));
        let one = Arc::new(One { session, reported: Notify::new(), locks: Mutex::default(), tasks: Mutex::default() });
        sessions.insert(client.clone(), one.clone());
        drop(sessions);
        let (hub, weak) = (Arc::downgrade(self), Arc::downgrade(&one));
        let tasks = [
            self.runtime.spawn(follow_state(hub.clone(), weak.clone(), client.clone())),
            self.runtime.spawn(take_deliveries(hub.clone(), weak.clone(), client.clone())),
            self.runtime.spawn(send_reported(hub, weak, client.clone())),
        ];
        let handles = tasks.iter().map(tokio::task::JoinHandle::abort_handle);
        one.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(handles);
        one
    }

    /// Passes on that a client listens here, or does not any more.
    pub(crate) fn listen_above(self: &Arc<Self>, client: &ClientId, channel: Channel, on: bool) {
        if channel == Channel::Inputs {
            return;
        }
        let (one, client) = (self.reach_up(client), client.clone());
        self.runtime.spawn(async move {
            let request = if on { Request::Listen(channel) } else { Request::Unlisten(channel) };
            if let skerry_model::Reply::Failed(error) = one.session.submit(request).await {
                tracing::debug!(%client, ?channel, %error, "the hub does not know yet what the client listens to");
            }
        });
    }

    /// The client has left: it listens to nothing above any more, and after a while its connection is closed.
    pub(crate) fn left(self: &Arc<Self>, client: &ClientId) {
        let Some(one) = self.upstream.session(client) else { return };
        if one.holds_commands() {
            // The hub makes what was not settled available again when the connection ends.
            self.upstream.close(client);
            return;
        }
        let (hub, client) = (self.clone(), client.clone());
        self.runtime.spawn(async move {
            for channel in [Channel::Commands, Channel::Methods, Channel::Desired] {
                if !hub.sessions.listens(&client, channel) {
                    one.session.submit(Request::Unlisten(channel)).await;
                }
            }
            drop(one);
            tokio::time::sleep(hub.config.upstream_linger).await;
            let idle = !hub.sessions.is_attached(&client) && !hub.is_forwarding(&client);
            if idle && client != ClientId::Module(hub.config.own_module()) {
                hub.upstream.close(&client);
            }
        });
    }
}

/// Reads the twin anew on every new connection, because nothing is queued there while nobody listens.
async fn follow_state(hub: Weak<Hub>, one: Weak<One>, client: ClientId) {
    let Some(mut state) = one.upgrade().map(|one| one.session.state()) else { return };
    loop {
        let connected = matches!(*state.borrow_and_update(), State::Connected { .. });
        if connected {
            let Some(hub) = hub.upgrade() else { return };
            hub.connected_above(&client).await;
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

async fn take_deliveries(hub: Weak<Hub>, one: Weak<One>, client: ClientId) {
    loop {
        // The session is held while waiting: it is this task that ends with it, by being aborted.
        let Some(session) = one.upgrade() else { return };
        let delivery = tokio::select! {
            delivery = session.session.next_delivery() => delivery,
            () = tokio::time::sleep(Duration::from_secs(60)) => continue,
        };
        let (Some(delivery), Some(hub)) = (delivery, hub.upgrade()) else { return };
        match delivery {
            Delivery::Desired { patch, version } => hub.desired_above(&client, &patch, version).await,
            Delivery::Method(call) => hub.relay_call(&client, call),
            Delivery::Command { lock, command } => {
                session.locks.lock().unwrap_or_else(PoisonError::into_inner).insert(lock);
                if !hub.sessions.deliver(&client, Channel::Commands, Delivery::Command { lock, command }) {
                    session.locks.lock().unwrap_or_else(PoisonError::into_inner).remove(&lock);
                    session.session.settle(lock, Outcome::Released);
                }
            }
            // A hub above has no inputs to deliver to.
            Delivery::Input { lock, .. } => session.session.settle(lock, Outcome::Rejected),
        }
    }
}

/// Sends what the client reported, not more often than configured; what comes meanwhile goes together.
async fn send_reported(hub: Weak<Hub>, one: Weak<One>, client: ClientId) {
    loop {
        let Some(session) = one.upgrade() else { return };
        tokio::select! {
            () = session.reported.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(60)) => continue,
        }
        drop(session);
        let Some(hub) = hub.upgrade() else { return };
        hub.send_reported(&client).await;
        tokio::time::sleep(hub.config.reported_every).await;
    }
}

impl Hub {
    /// Passes a call from above to the client; nobody here to answer means that the caller above waits in vain, as it would with a
    /// device that is silent.
    fn relay_call(self: &Arc<Self>, client: &ClientId, call: MethodCall) {
        let (hub, client) = (self.clone(), client.clone());
        self.runtime.spawn(async move {
            let own = client == ClientId::Module(hub.config.own_module());
            let result = if own {
                hub.own_method(&call.name, &call.payload).await
            } else {
                hub.call(MethodInvocation {
                    target: client.clone(),
                    name: call.name,
                    payload: call.payload,
                    response_timeout: RELAYED_CALL_MAX,
                    connect_timeout: Duration::ZERO,
                })
                .await
            };
            match (result, hub.upstream.session(&client)) {
                (Ok(result), Some(one)) => {
                    let answer = MethodAnswer { id: call.id, status: result.status, payload: result.payload };
                    one.session.submit(Request::AnswerMethod(answer)).await;
                }
                (Err(error), _) => tracing::debug!(%client, %error, "a call from the hub has no answer"),
                (Ok(_), None) => {}
            }
        });
    }
}
