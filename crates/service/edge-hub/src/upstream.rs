//! The hub above: one session for each client, opened when the client comes or something of it has to go up.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use skerry_model::{
    AuthChain, Channel, ClientId, Delivery, DeviceId, LockToken, MethodAnswer, MethodCall, MethodInvocation, ModuleId,
    Outcome, Reply, Request, Settled,
};
use skerry_uplink::{State, Uplink, UplinkSession};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::hub::Hub;

/// How long a relayed call may take here; the caller above has a time of its own.
const RELAYED_CALL_MAX: Duration = Duration::from_secs(300);
/// What the hub above did not take over an existing connection is tried again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// What is listened to above; inputs are this hub's own affair.
const CHANNELS_ABOVE: [Channel; 3] = [Channel::Commands, Channel::Methods, Channel::Desired];

/// All sessions upstream.
pub(crate) struct Upstream {
    uplink: Uplink,
    own: ModuleId,
    sessions: Mutex<HashMap<ClientId, Arc<One>>>,
}

/// One client's session upstream.
pub(crate) struct One {
    client: ClientId,
    session: UplinkSession,
    /// The client reported something that has to go up.
    reported: Notify,
    /// Something that was reported is not up yet.
    unsent: AtomicBool,
    /// What the client listens to changed, or it left commands behind.
    listening: Notify,
    /// Commands that the client has and did not settle.
    locks: Mutex<BTreeSet<LockToken>>,
    /// Those are to be given back.
    give_back: AtomicBool,
    /// Changes of desired properties are subscribed to.
    hears: AtomicBool,
    /// Number of the connection on which they surely are; 0 for none.
    hears_on: AtomicU64,
    /// Number of the connection on which the copy of the twin has been current since; 0 for none.
    follows_on: AtomicU64,
    /// Nobody needed the session at the last look.
    idle: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
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
        self.session(client)?.connection()
    }

    /// Whether the hub above can be reached, as seen from `$edgeHub`'s own connection.
    pub(crate) fn is_reachable(&self) -> bool {
        self.connection(&ClientId::Module(self.own.clone())).is_some()
    }

    /// Ends the session of `client`.
    pub(crate) fn close(&self, client: &ClientId) {
        if let Some(one) = self.lock().remove(client) {
            one.end();
        }
    }

    /// Ends sessions that nobody needed at the last look and nobody needs now.
    fn close_idle(&self, is_needed: impl Fn(&ClientId) -> bool) {
        self.lock().retain(|client, one| {
            let idle = !one.unsent.load(Ordering::Acquire) && !is_needed(client);
            let over = idle && one.idle.load(Ordering::Acquire);
            one.idle.store(idle, Ordering::Release);
            if over {
                tracing::debug!(%client, "its connection to the hub is not needed any more");
                one.end();
            }
            !over
        });
    }

    /// What the client listens to changed.
    pub(crate) fn listening_changed(&self, client: &ClientId) {
        if let Some(one) = self.session(client) {
            one.listening.notify_one();
        }
    }

    /// The client settled commands.
    pub(crate) fn settle(&self, client: &ClientId, settled: &[Settled]) {
        let Some(one) = self.session(client) else { return };
        for settled in settled {
            if one.locks().remove(&settled.lock) {
                one.session.settle(settled.lock, settled.outcome);
            }
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.lock().values().for_each(|one| one.end());
    }
}

impl One {
    fn locks(&self) -> MutexGuard<'_, BTreeSet<LockToken>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the current connection.
    pub(crate) fn connection(&self) -> Option<u64> {
        match *self.session.state().borrow() {
            State::Connected { number } => Some(number),
            State::Connecting | State::Disconnected { .. } | State::Refused { .. } | State::Closed => None,
        }
    }

    /// Something that was reported has to go up.
    pub(crate) fn reported_waits(&self) {
        self.unsent.store(true, Ordering::Release);
        self.reported.notify_one();
    }

    /// The connection on which no change of the twin can be missed.
    pub(crate) fn hears_on(&self) -> u64 {
        self.hears_on.load(Ordering::Acquire)
    }

    /// The twin was read on this connection, on which no change of it can have been missed since.
    pub(crate) fn twin_is_current_on(&self, connection: u64) {
        if self.hears_on() == connection {
            self.follows_on.store(connection, Ordering::Release);
        }
    }

    /// Whether the copy of the twin is what the hub above has.
    pub(crate) fn follows_twin(&self) -> bool {
        self.connection() == Some(self.follows_on.load(Ordering::Acquire))
    }

    /// The tasks hold the session; when they are gone, so is it.
    fn end(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
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
            one.idle.store(false, Ordering::Release);
            return one.clone();
        }
        let _runtime = self.runtime.enter();
        let one = Arc::new(One {
            client: client.clone(),
            session: self.upstream.uplink.open(client.clone(), self.upstream.chain(client)),
            reported: Notify::new(),
            unsent: AtomicBool::new(false),
            listening: Notify::new(),
            locks: Mutex::default(),
            give_back: AtomicBool::new(false),
            hears: AtomicBool::new(false),
            hears_on: AtomicU64::new(0),
            follows_on: AtomicU64::new(0),
            idle: AtomicBool::new(false),
            tasks: Mutex::default(),
        });
        sessions.insert(client.clone(), one.clone());
        let hub = Arc::downgrade(self);
        let tasks = [
            self.runtime.spawn(follow_state(hub.clone(), one.clone())),
            self.runtime.spawn(take_deliveries(hub.clone(), one.clone())),
            self.runtime.spawn(follow_listening(hub.clone(), one.clone())),
            self.runtime.spawn(send_reported(hub, one.clone())),
        ];
        let handles = tasks.iter().map(tokio::task::JoinHandle::abort_handle);
        one.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(handles);
        one
    }

    /// A session of the client ended here, or a newer one took over: it listens to nothing above until it says so again, and what
    /// it did not settle is for the next one.
    pub(crate) fn left(&self, client: &ClientId) {
        let Some(one) = self.upstream.session(client) else { return };
        if !one.locks().is_empty() {
            one.give_back.store(true, Ordering::Release);
        }
        one.listening.notify_one();
    }

    /// Ends connections upstream of clients that left, when nothing of them waits either.
    pub(crate) async fn close_idle_upstream(hub: Weak<Self>) {
        loop {
            let pause = {
                let Some(hub) = hub.upgrade() else { return };
                let own = ClientId::Module(hub.config.own_module());
                hub.upstream.close_idle(|client| {
                    *client == own || hub.sessions.is_attached(client) || hub.is_forwarding(client)
                });
                hub.config.upstream_linger
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether somebody here wants what comes on `channel`: the client itself, or this hub where it is the client.
    fn wants(&self, client: &ClientId, channel: Channel) -> bool {
        let own = *client == ClientId::Module(self.config.own_module());
        (own && matches!(channel, Channel::Desired | Channel::Methods)) || self.sessions.listens(client, channel)
    }

    /// Listens above to what is listened to here. `has` is what is listened to above; answers whether all is as it should be.
    async fn agree_on_listening(self: &Arc<Self>, one: &One, has: &mut BTreeSet<Channel>) -> bool {
        let mut agreed = true;
        for channel in CHANNELS_ABOVE {
            let wanted = self.wants(&one.client, channel);
            if wanted == has.contains(&channel) {
                continue;
            }
            if channel == Channel::Desired && !wanted {
                one.hears.store(false, Ordering::Release);
                one.hears_on.store(0, Ordering::Release);
                one.follows_on.store(0, Ordering::Release);
            }
            let request = if wanted { Request::Listen(channel) } else { Request::Unlisten(channel) };
            if let Reply::Failed(error) = one.session.submit(request).await {
                tracing::debug!(client = %one.client, ?channel, %error, "the hub does not know yet what the client listens to");
                agreed = false;
                continue;
            }
            if wanted {
                has.insert(channel);
            } else {
                has.remove(&channel);
            }
            if channel == Channel::Desired && wanted {
                one.hears.store(true, Ordering::Release);
                if let Some(connection) = one.connection() {
                    // What changed before the subscription was not heard.
                    one.hears_on.store(connection, Ordering::Release);
                    let (hub, client) = (self.clone(), one.client.clone());
                    self.runtime.spawn(async move { hub.refresh_twin(&client).await });
                }
            }
        }
        if one.give_back.swap(false, Ordering::AcqRel) {
            let left = std::mem::take(&mut *one.locks());
            // One is enough: the hub above offers all of them again.
            if let Some(newest) = left.last() {
                one.session.settle(*newest, Outcome::Released);
            }
        }
        agreed
    }
}

/// Reads the twin anew on every new connection, because nothing is queued there while nobody listens; looks at the identity again
/// when it is refused there.
async fn follow_state(hub: Weak<Hub>, one: Arc<One>) {
    let mut state = one.session.state();
    loop {
        let (number, is_refused) = match *state.borrow_and_update() {
            State::Connected { number } => (Some(number), false),
            State::Refused { .. } => (None, true),
            State::Connecting | State::Disconnected { .. } | State::Closed => (None, false),
        };
        if is_refused {
            let Some(hub) = hub.upgrade() else { return };
            hub.refused_above(&one.client).await;
        }
        if let Some(number) = number {
            let Some(hub) = hub.upgrade() else { return };
            if one.hears.load(Ordering::Acquire) {
                one.hears_on.store(number, Ordering::Release);
            }
            hub.connected_above(&one.client).await;
            one.reported.notify_one();
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Brings what is listened to above into line with what is listened to here, one change after the other.
async fn follow_listening(hub: Weak<Hub>, one: Arc<One>) {
    let mut has = BTreeSet::new();
    loop {
        let agreed = match hub.upgrade() {
            Some(hub) => hub.agree_on_listening(&one, &mut has).await,
            None => return,
        };
        if agreed {
            one.listening.notified().await;
        } else {
            let _ = tokio::time::timeout(AGAIN_AFTER, one.listening.notified()).await;
        }
    }
}

async fn take_deliveries(hub: Weak<Hub>, one: Arc<One>) {
    let client = &one.client;
    while let Some(delivery) = one.session.next_delivery().await {
        let Some(hub) = hub.upgrade() else { return };
        match delivery {
            Delivery::Desired { patch, version } => hub.desired_above(client, &patch, version).await,
            Delivery::Method(call) => hub.relay_call(client, call),
            Delivery::Command { lock, command } => {
                one.locks().insert(lock);
                if !hub.sessions.deliver(client, Channel::Commands, Delivery::Command { lock, command }) {
                    one.locks().remove(&lock);
                    one.session.settle(lock, Outcome::Released);
                }
            }
            // A hub above has no inputs to deliver to.
            Delivery::Input { lock, .. } => one.session.settle(lock, Outcome::Rejected),
        }
    }
}

/// Sends what the client reported, not more often than configured; what comes meanwhile goes together.
async fn send_reported(hub: Weak<Hub>, one: Arc<One>) {
    loop {
        // Without a connection, the next one is what to wait for.
        if one.unsent.load(Ordering::Acquire) && one.connection().is_some() {
            let _ = tokio::time::timeout(AGAIN_AFTER, one.reported.notified()).await;
        } else {
            one.reported.notified().await;
        }
        let Some(hub) = hub.upgrade() else { return };
        let left = hub.send_reported(&one.client, &one).await;
        one.unsent.store(left, Ordering::Release);
        let pause = hub.config.reported_every;
        drop(hub);
        tokio::time::sleep(pause).await;
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
