//! Who is attached, where, and what they listen to. Everything that reaches a client goes through here.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skerry_gateway::{ActorId, Closed, Credential, LaneMailbox, SessionKey};
use skerry_listening::Listening;
use skerry_model::{AuthChain, Channel, ClientId, Delivery, DeviceId, LockToken, Timestamp};
use tokio::sync::watch;

use crate::hub::Hub;

/// All attached sessions, one for each client.
pub(crate) struct Sessions {
    live: Mutex<HashMap<ClientId, Live>>,
    next_serial: AtomicU64,
    /// Raised before sessions are closed because the registry changed, so that who attaches meanwhile looks again.
    registry_changes: AtomicU64,
    /// Raised whenever somebody begins to listen for methods.
    method_listeners: watch::Sender<u64>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            live: Mutex::default(),
            next_serial: AtomicU64::new(1),
            registry_changes: AtomicU64::new(0),
            method_listeners: watch::Sender::new(0),
        }
    }
}

/// One attached session.
pub(crate) struct Live {
    pub(crate) key: SessionKey,
    pub(crate) lane: Arc<LaneMailbox>,
    pub(crate) shared: Arc<SessionShared>,
    /// Who came in, and what they showed.
    pub(crate) actor: ActorId,
    pub(crate) credential: Option<Arc<Credential>>,
    pub(crate) chain: Option<AuthChain>,
    pub(crate) window: usize,
    pub(crate) listening: Listening,
    /// Commands in flight to the client: which lock holds which sequence number.
    pub(crate) locked: BTreeMap<LockToken, u64>,
}

/// What the lane's thread and the rest of the hub both look at.
#[derive(Debug)]
pub(crate) struct SessionShared {
    ended: AtomicBool,
    /// Last message, in milliseconds since 1970.
    last_active: AtomicI64,
}

impl SessionShared {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { ended: AtomicBool::new(false), last_active: AtomicI64::new(now.unix_millis()) }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn touch(&self, now: Timestamp) {
        self.last_active.store(now.unix_millis(), Ordering::Relaxed);
    }

    pub(crate) fn last_active(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.last_active.load(Ordering::Relaxed))
    }
}

impl Live {
    /// Sends to the client.
    pub(crate) fn deliver(&self, delivery: Delivery) {
        self.lane.deliver(self.key, delivery);
    }

    fn close(&self, why: Closed) {
        self.shared.ended.store(true, Ordering::Release);
        self.lane.close(self.key, why);
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn new_serial(&self) -> u64 {
        self.next_serial.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn registry_changes(&self) -> u64 {
        self.registry_changes.load(Ordering::SeqCst)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Sessions that came in with a credential of `device` or one of its modules, by serial. Who is about to be attached looks again.
    pub(crate) fn let_in_as(&self, device: &DeviceId) -> Vec<(u64, ActorId, Arc<Credential>)> {
        self.registry_changes.fetch_add(1, Ordering::SeqCst);
        let is_meant = |actor: &ActorId| match actor {
            ActorId::Client(client) => client.device() == device,
            ActorId::EdgeHub(edge) => edge == device,
            ActorId::Policy(_) => false,
        };
        let live = self.lock();
        let meant = live.values().filter(|live| is_meant(&live.actor));
        meant.filter_map(|live| Some((live.key.serial, live.actor.clone(), live.credential.clone()?))).collect()
    }

    /// Looks at the session of `client`.
    pub(crate) fn with<R>(&self, client: &ClientId, look: impl FnOnce(&mut Live) -> R) -> Option<R> {
        self.lock().get_mut(client).map(look)
    }

    /// Looks at the session of `client` when it is the one with this serial.
    pub(crate) fn with_serial<R>(
        &self,
        client: &ClientId,
        serial: u64,
        look: impl FnOnce(&mut Live) -> R,
    ) -> Option<R> {
        self.lock().get_mut(client).filter(|live| live.key.serial == serial).map(look)
    }

    /// Sends to whoever listens on `channel` as `client`. Says whether anybody does.
    pub(crate) fn deliver(&self, client: &ClientId, channel: Channel, delivery: Delivery) -> bool {
        self.with(client, |live| {
            let listens = live.listening.to(channel);
            if listens {
                live.deliver(delivery);
            }
            listens
        })
        .unwrap_or(false)
    }

    /// Begins or ends listening; says whether that session is still attached.
    pub(crate) fn listen(&self, client: &ClientId, serial: u64, channel: Channel, on: bool) -> bool {
        let attached = self.with_serial(client, serial, |live| live.listening.set(channel, on)).is_some();
        if attached && on && channel == Channel::Methods {
            self.method_listeners.send_modify(|count| *count += 1);
        }
        attached
    }

    /// To wait for somebody who begins to listen for methods.
    pub(crate) fn method_listeners(&self) -> watch::Receiver<u64> {
        self.method_listeners.subscribe()
    }
}

impl Hub {
    /// Lets `client` live here. A session it had is fenced off and its connection closed.
    pub(crate) fn take_over(self: &Arc<Self>, client: &ClientId, live: Live) {
        let older = {
            let mut sessions = self.sessions.lock();
            let older = sessions.insert(client.clone(), live);
            if let Some(older) = &older {
                older.close(Closed::Superseded);
            }
            older
        };
        if let Some(older) = older {
            self.ended(client, older);
        }
        self.activities.connected(client, self.now());
    }

    /// The client's connection is gone.
    pub(crate) fn detach(self: &Arc<Self>, client: &ClientId, serial: u64) {
        let live = {
            let mut sessions = self.sessions.lock();
            if sessions.get(client).is_none_or(|live| live.key.serial != serial) {
                return;
            }
            sessions.remove(client)
        };
        if let Some(live) = live {
            live.shared.ended.store(true, Ordering::Release);
            self.activities.disconnected(client, live.shared.last_active(), self.now());
            self.ended(client, live);
        }
    }

    /// Ends the sessions that `pick` picks.
    pub(crate) fn close_sessions(self: &Arc<Self>, why: Closed, pick: impl Fn(&ClientId, &Live) -> bool) {
        self.sessions.registry_changes.fetch_add(1, Ordering::SeqCst);
        let closed: Vec<_> = {
            let mut sessions = self.sessions.lock();
            sessions.extract_if(|client, live| pick(client, live)).collect()
        };
        for (client, live) in closed {
            live.close(why);
            self.activities.disconnected(&client, live.shared.last_active(), self.now());
            self.ended(&client, live);
        }
    }

    /// Ends the sessions of `device`, its modules, and all that were attached by way of it.
    pub(crate) fn close_device(self: &Arc<Self>, device: &DeviceId, why: Closed) {
        self.close_sessions(why, |client, live| {
            let by_way_of = |chain: &AuthChain| chain.links().iter().any(|link| link.device() == device);
            client.device() == device || live.chain.as_ref().is_some_and(by_way_of)
        });
    }

    /// What a session leaves behind: its callers learn that it is gone, its commands are available again.
    fn ended(self: &Arc<Self>, client: &ClientId, live: Live) {
        self.calls.abandon(client, live.key.serial);
        self.release_commands(client, live.locked.into_values().collect());
    }
}
