//! Who is attached here, on which lane, and what they listen to.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skerry_gateway::{Closed, Credential, LaneMailbox, SessionKey};
use skerry_listening::Listening;
use skerry_model::{Channel, ClientId, Delivery, DeviceId, Timestamp};
use tokio::sync::watch;

/// One attached session.
pub(crate) struct Live {
    pub(crate) key: SessionKey,
    pub(crate) lane: Arc<LaneMailbox>,
    pub(crate) listening: Listening,
    pub(crate) since: Timestamp,
    /// What was shown for it.
    pub(crate) credential: Option<Arc<Credential>>,
    /// Raised when a newer session of the same client took over; the lane looks at it without asking anybody.
    pub(crate) over: Arc<AtomicBool>,
}

/// Whether a client is here, for the reported properties of `$edgeHub`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Connected(Timestamp),
    Disconnected(Timestamp),
}

/// All attached sessions, one for each client; and who was here since the start.
pub(crate) struct Sessions {
    live: Mutex<HashMap<ClientId, Live>>,
    next_serial: AtomicU64,
    /// Raised whenever somebody begins to listen for methods.
    method_listeners: watch::Sender<u64>,
    /// Who came and went since this was last taken.
    presence: Mutex<BTreeMap<ClientId, Presence>>,
    presence_changed: watch::Sender<u64>,
}

/// Clients whose coming and going is remembered until it is reported.
const PRESENCE_MAX: usize = 20_000;

impl Default for Sessions {
    fn default() -> Self {
        Self {
            live: Mutex::default(),
            next_serial: AtomicU64::new(1),
            method_listeners: watch::Sender::new(0),
            presence: Mutex::default(),
            presence_changed: watch::Sender::new(0),
        }
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn new_serial(&self) -> u64 {
        self.next_serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets `client` live here; the session it had is fenced off, its connection closed and its serial answered.
    pub(crate) fn take_over(&self, client: &ClientId, live: Live) -> Option<u64> {
        let since = live.since;
        let older = {
            let mut sessions = self.lock();
            let older = sessions.insert(client.clone(), live);
            if let Some(older) = &older {
                older.over.store(true, Ordering::Release);
                older.lane.close(older.key, Closed::Superseded);
            }
            older
        };
        self.note(client, Presence::Connected(since));
        older.map(|older| older.key.serial)
    }

    /// The connection with this serial is gone; says whether it was the client's newest.
    pub(crate) fn detach(&self, client: &ClientId, serial: u64, now: Timestamp) -> bool {
        let mut sessions = self.lock();
        if sessions.get(client).is_none_or(|live| live.key.serial != serial) {
            return false;
        }
        sessions.remove(client);
        drop(sessions);
        self.note(client, Presence::Disconnected(now));
        true
    }

    /// Ends the session of `client`, whoever's connection that is.
    pub(crate) fn close(&self, client: &ClientId, why: Closed) {
        self.with(client, |live| live.lane.close(live.key, why));
    }

    /// Ends those sessions of `device` and its modules, or of everybody, for which `judge` finds a reason in what was shown for them.
    pub(crate) fn close_unfit(
        &self,
        device: Option<&DeviceId>,
        judge: impl Fn(&ClientId, Option<&Credential>) -> Option<Closed>,
    ) {
        let is_meant = |client: &ClientId| device.is_none_or(|device| client.device() == device);
        // Judging takes a while for many; nobody is to wait for it.
        let meant: Vec<_> = {
            let live = self.lock();
            let meant = live.iter().filter(|(client, _)| is_meant(client));
            meant.map(|(client, live)| (client.clone(), live.key, live.lane.clone(), live.credential.clone())).collect()
        };
        for (client, key, lane, credential) in meant {
            if let Some(why) = judge(&client, credential.as_deref()) {
                lane.close(key, why);
            }
        }
    }

    /// Ends all sessions.
    pub(crate) fn close_all(&self, why: Closed) {
        for live in self.lock().values() {
            live.lane.close(live.key, why);
        }
    }

    /// Looks at the session of `client`.
    pub(crate) fn with<R>(&self, client: &ClientId, look: impl FnOnce(&mut Live) -> R) -> Option<R> {
        self.lock().get_mut(client).map(look)
    }

    pub(crate) fn is_attached(&self, client: &ClientId) -> bool {
        self.lock().contains_key(client)
    }

    pub(crate) fn listens(&self, client: &ClientId, channel: Channel) -> bool {
        self.with(client, |live| live.listening.to(channel)).unwrap_or(false)
    }

    /// Sends to whoever listens on `channel` as `client`. Says whether anybody does.
    pub(crate) fn deliver(&self, client: &ClientId, channel: Channel, delivery: Delivery) -> bool {
        self.with(client, |live| {
            let listens = live.listening.to(channel);
            if listens {
                live.lane.deliver(live.key, delivery);
            }
            listens
        })
        .unwrap_or(false)
    }

    /// Begins or ends listening; says whether that session is still the newest.
    pub(crate) fn listen(&self, client: &ClientId, serial: u64, channel: Channel, on: bool) -> bool {
        let current = self
            .with(client, |live| {
                let current = live.key.serial == serial;
                if current {
                    live.listening.set(channel, on);
                }
                current
            })
            .unwrap_or(false);
        if current && on && channel == Channel::Methods {
            self.method_listeners.send_modify(|count| *count += 1);
        }
        current
    }

    /// To wait for somebody who begins to listen for methods.
    pub(crate) fn method_listeners(&self) -> watch::Receiver<u64> {
        self.method_listeners.subscribe()
    }

    fn note(&self, client: &ClientId, presence: Presence) {
        let mut noted = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < PRESENCE_MAX || noted.contains_key(client) {
            noted.insert(client.clone(), presence);
        }
        drop(noted);
        self.presence_changed.send_modify(|count| *count += 1);
    }

    /// Who came and went since the last call.
    pub(crate) fn take_presence(&self) -> BTreeMap<ClientId, Presence> {
        std::mem::take(&mut *self.presence.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Told whenever somebody comes or goes.
    pub(crate) fn presence_changes(&self) -> watch::Receiver<u64> {
        self.presence_changed.subscribe()
    }
}
