//! Who is connected, who was refused and why: what `skerry device connections` and `skerry edge status` show.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use skerry_dialect::error;
use skerry_dialect::own::{ConnectedLine, Connections, RefusedLine};
use skerry_model::{ClientId, Now, RequestError, Timestamp};

use crate::lines::Lines;

/// Refusals are remembered for this many (peer, claimed name) pairs; the one seen least recently makes room.
const REFUSED_MAX: usize = 1_000;

/// A client that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Who.
    pub client: ClientId,
    /// From which address.
    pub peer: IpAddr,
    /// Over which protocol.
    pub protocol: &'static str,
    /// What the client says of itself, cut to a few words.
    pub product: String,
    /// Since when.
    pub since: Timestamp,
}

/// Somebody who was not let in, or was put out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// From which address.
    pub peer: IpAddr,
    /// The name it gave; empty when it gave none.
    pub claimed: String,
    /// Over which protocol.
    pub protocol: &'static str,
    /// What was wrong with what.
    pub reason: String,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
    /// How often.
    pub count: u64,
}

#[derive(Default)]
struct Book {
    next: u64,
    connected: BTreeMap<u64, Connected>,
    refused: BTreeMap<(IpAddr, String), Refused>,
    lines: Lines,
    /// Of requests of their own account, so that these do not keep refusals at the door out of the log.
    request_lines: Lines,
    refusals: u64,
    /// How many connections each client has, from when it has proved who it is.
    admitted: BTreeMap<ClientId, usize>,
    clients_max: Option<usize>,
}

/// The list of who is in and who was kept out; memory is bounded by named limits.
#[derive(Default)]
pub struct Door {
    book: Mutex<Book>,
}

/// Takes a client off the list when dropped.
pub struct Inside<'a> {
    door: &'a Door,
    number: u64,
}

/// A client's right to be connected, given back when dropped.
pub struct Admitted {
    door: Arc<Door>,
    client: ClientId,
}

impl Door {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many clients may be connected at the same time; `None`: as many as there may be connections. Who is inside stays.
    pub fn limit_clients(&self, clients_max: Option<usize>) {
        self.lock().clients_max = clients_max;
    }

    /// Lets a client in that has proved who it is, unless there are as many others as there may be. One that is inside already
    /// comes in again: its connection before may be dead without anybody knowing.
    ///
    /// # Errors
    /// With the reason, when there is no room.
    pub fn admit(self: &Arc<Self>, client: &ClientId) -> Result<Admitted, String> {
        let mut book = self.lock();
        let is_inside = book.admitted.contains_key(client);
        if let Some(max) = book.clients_max.filter(|max| !is_inside && book.admitted.len() >= *max) {
            return Err(format!("as many clients as there may be: {max}"));
        }
        *book.admitted.entry(client.clone()).or_default() += 1;
        drop(book);
        Ok(Admitted { door: Arc::clone(self), client: client.clone() })
    }

    /// Puts a client on the list until the answer is dropped.
    pub fn enter(&self, connected: Connected) -> Inside<'_> {
        let mut book = self.lock();
        book.next += 1;
        let number = book.next;
        book.connected.insert(number, connected);
        Inside { door: self, number }
    }

    /// Remembers a refusal and logs it: a peer with the same name and reason at most once a minute, a peer at all at most ten
    /// times a minute.
    pub fn refuse(&self, now: Now, peer: IpAddr, protocol: &'static str, claimed: &str, reason: &str) {
        let (claimed, reason) = (shortened(claimed), shortened(reason));
        let line = self.lock().note(now, peer, protocol, &claimed, &reason);
        if let Some(unlogged) = line {
            tracing::warn!(%peer, protocol, client = %claimed, reason, unlogged, "refused");
        }
    }

    /// Logs that what a peer asked for was not done, although it was let in: the same reason at most once a minute, a peer at all
    /// at most ten times a minute. The list has nothing of it.
    pub fn refuse_request(&self, now: Now, peer: IpAddr, asked: &str, error: &RequestError, id: &str) {
        let (asked, reason, code) = (shortened(asked), shortened(&error.detail), error::name(error.code));
        let line = self.lock().request_lines.admit(now.monotonic, peer, &[code, &reason]);
        if let Some(unlogged) = line {
            tracing::info!(%peer, request = asked, code, reason, id, unlogged, "request refused");
        }
    }

    /// Who is connected, longest first.
    pub fn connected(&self) -> Vec<Connected> {
        self.lock().connected.values().cloned().collect()
    }

    /// How many are connected.
    pub fn connected_count(&self) -> usize {
        self.lock().connected.len()
    }

    /// Who was refused, the most recent first.
    pub fn refused(&self) -> Vec<Refused> {
        let mut refused: Vec<_> = self.lock().refused.values().cloned().collect();
        refused.sort_by_key(|entry| std::cmp::Reverse(entry.last));
        refused
    }

    /// All refusals since the start, also those whose entry made room.
    pub fn refusals(&self) -> u64 {
        self.lock().refusals
    }

    /// Both lists, as `GET /skerry/connections` of a hub and an edge's status show them.
    pub fn connections(&self) -> Connections {
        let connected = self.connected().into_iter().map(|one| ConnectedLine {
            client: one.client,
            peer: one.peer.to_string(),
            protocol: one.protocol.to_owned(),
            product: one.product,
            since: one.since,
        });
        let refused = self.refused().into_iter().map(|one| RefusedLine {
            peer: one.peer.to_string(),
            claimed: one.claimed,
            protocol: one.protocol.to_owned(),
            reason: one.reason,
            first: one.first,
            last: one.last,
            count: one.count,
        });
        Connections { connected: connected.collect(), refused: refused.collect(), refusals: self.refusals() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Book> {
        // A panic while the list was held leaves it whole: every change is a single insertion or removal.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Counts a refusal. When it is to be logged: with how many of the same peer that were not.
    fn note(&mut self, now: Now, peer: IpAddr, protocol: &'static str, claimed: &str, reason: &str) -> Option<u64> {
        self.refusals += 1;
        let key = (peer, claimed.to_owned());
        if !self.refused.contains_key(&key) && self.refused.len() >= REFUSED_MAX {
            let oldest = self.refused.iter().min_by_key(|(_, entry)| entry.last).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.refused.remove(&oldest);
            }
        }
        let entry = self.refused.entry(key).or_insert_with(|| Refused {
            peer,
            claimed: claimed.to_owned(),
            protocol,
            reason: String::new(),
            first: now.wall,
            last: now.wall,
            count: 0,
        });
        entry.count += 1;
        entry.last = now.wall;
        entry.protocol = protocol;
        reason.clone_into(&mut entry.reason);
        self.lines.admit(now.monotonic, peer, &[claimed, reason])
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.door.lock().connected.remove(&self.number);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut book = self.door.lock();
        if let Some(connections) = book.admitted.get_mut(&self.client) {
            *connections -= 1;
            if *connections == 0 {
                book.admitted.remove(&self.client);
            }
        }
    }
}

/// What a stranger sent, cut to a length that a log line and a table can hold, control characters replaced.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 160;
    text.chars().take(CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use skerry_model::Monotonic;

    use super::*;

    fn now(seconds: u64) -> Now {
        Now {
            monotonic: Monotonic::from_start(Duration::from_secs(seconds)),
            wall: Timestamp::from_unix_seconds(i64::try_from(seconds).unwrap()),
        }
    }

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[test]
    fn who_leaves_is_off_the_list() {
        let door = Door::new();
        let inside = door.enter(Connected {
            client: ClientId::parse("d").unwrap(),
            peer: peer(1),
            protocol: "mqtt",
            product: String::new(),
            since: Timestamp::default(),
        });
        assert_eq!(door.connected().len(), 1);
        drop(inside);
        assert_eq!(door.connected(), []);
    }

    #[test]
    fn as_many_clients_come_in_as_there_may_be() {
        let door = Arc::new(Door::new());
        let admit = |name: &str| door.admit(&ClientId::parse(name).unwrap());
        let first = admit("a").unwrap();
        door.limit_clients(Some(1));
        assert_eq!(admit("b").err().as_deref(), Some("as many clients as there may be: 1"));
        let again = admit("a").unwrap();
        drop(first);
        assert!(admit("b").is_err(), "its second connection is there");
        drop(again);
        let other = admit("b").unwrap();
        assert!(admit("a").is_err());
        door.limit_clients(None);
        assert!(admit("a").is_ok());
        drop(other);
    }

    #[test]
    fn refusals_of_the_same_peer_are_counted_in_one_entry() {
        let door = Door::new();
        for second in 0..5 {
            door.refuse(now(second), peer(1), "mqtt", "d", "wrong key");
        }
        door.refuse(now(9), peer(2), "mqtt", "d\n", "expired");
        let refused = door.refused();
        assert_eq!(
            refused.iter().map(|r| (r.claimed.as_str(), r.count)).collect::<Vec<_>>(),
            [("d\u{fffd}", 1), ("d", 5)]
        );
        assert_eq!((refused[1].first, refused[1].last), (now(0).wall, now(4).wall));
        assert_eq!(door.refusals(), 6);
    }

    #[test]
    fn a_flood_of_names_does_not_grow_the_list_beyond_its_limit() {
        let door = Door::new();
        for n in 0..(REFUSED_MAX as u64 + 10) {
            door.refuse(now(n), peer(1), "mqtt", &format!("d{n}"), "unknown");
        }
        let refused = door.refused();
        assert_eq!(refused.len(), REFUSED_MAX);
        assert_eq!(refused.last().map(|r| r.claimed.as_str()), Some("d10"));
    }
}
