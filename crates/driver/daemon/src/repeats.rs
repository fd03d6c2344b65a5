//! Keeps repeated warnings from flooding the log: one line per key and period, the rest counted, memory bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Decides whether an event about one key (a peer's address, a client) is said now or only counted.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use skerry_daemon::{Repeats, Turn};
/// let refused: Repeats<std::net::IpAddr> = Repeats::new(Duration::from_secs(60), 1_000);
/// # let peer = std::net::IpAddr::from([127, 0, 0, 1]);
/// if let Turn::Say { held_back } = refused.turn(&peer, Instant::now()) {
///     tracing::warn!(%peer, held_back, "connection refused");
/// }
/// ```
#[derive(Debug)]
pub struct Repeats<K> {
    period: Duration,
    keys_max: usize,
    seen: Mutex<Seen<K>>,
}

/// The answer for one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Say it, and how many of the same key were held back since the last line.
    Say {
        /// Events not said since then.
        held_back: u64,
    },
    /// Count it only.
    Hold,
}

#[derive(Debug)]
struct Seen<K> {
    keys: HashMap<K, Entry>,
    /// All keys that found no room share one line.
    others: Option<Entry>,
    held_back: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    said: Instant,
    held_back: u64,
}

impl<K: Hash + Eq + Clone> Repeats<K> {
    /// At most one line per key in `period`, for at most `keys_max` keys at a time; further keys share one line.
    pub fn new(period: Duration, keys_max: usize) -> Self {
        Repeats { period, keys_max, seen: Mutex::new(Seen { keys: HashMap::new(), others: None, held_back: 0 }) }
    }

    /// Whether an event about `key` is said at `now`.
    pub fn turn(&self, key: &K, now: Instant) -> Turn {
        // A panic elsewhere leaves the counts usable.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |entry: &Entry| self.period <= now.saturating_duration_since(entry.said);
        let turn = if let Some(entry) = seen.keys.get_mut(key) {
            entry.turn(now, over(entry))
        } else {
            if self.keys_max <= seen.keys.len() {
                // Keys with something left to tell keep their place for one more period.
                let twice = |entry: &Entry| self.period * 2 <= now.saturating_duration_since(entry.said);
                seen.keys.retain(|_, entry| !(twice(entry) || (over(entry) && entry.held_back == 0)));
            }
            let fresh = Entry { said: now, held_back: 0 };
            if seen.keys.len() < self.keys_max {
                seen.keys.insert(key.clone(), fresh);
                Turn::Say { held_back: 0 }
            } else if let Some(others) = &mut seen.others {
                others.turn(now, over(others))
            } else {
                seen.others = Some(fresh);
                Turn::Say { held_back: 0 }
            }
        };
        if turn == Turn::Hold {
            seen.held_back += 1;
        }
        turn
    }

    /// Events not said since the start, over all keys.
    pub fn held_back(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).held_back
    }
}

impl Entry {
    fn turn(&mut self, now: Instant, over: bool) -> Turn {
        if !over {
            self.held_back += 1;
            return Turn::Hold;
        }
        let held_back = std::mem::take(&mut self.held_back);
        self.said = now;
        Turn::Say { held_back }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(60);

    #[test]
    fn one_line_per_key_and_period_and_the_rest_counted() {
        let repeats = Repeats::new(PERIOD, 10);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(repeats.turn(&"a", at(0)), Turn::Say { held_back: 0 });
        assert_eq!(repeats.turn(&"a", at(1)), Turn::Hold);
        assert_eq!(repeats.turn(&"a", at(59)), Turn::Hold);
        assert_eq!(repeats.turn(&"b", at(59)), Turn::Say { held_back: 0 });
        assert_eq!(repeats.turn(&"a", at(60)), Turn::Say { held_back: 2 });
        assert_eq!(repeats.held_back(), 2);
    }

    #[test]
    fn memory_is_bounded_and_the_overflow_shares_a_line() {
        let repeats = Repeats::new(PERIOD, 2);
        let start = Instant::now();
        let said = (0..1_000).filter(|key| repeats.turn(key, start) != Turn::Hold).count();
        assert_eq!(said, 3, "two keys and the line the others share");
        assert_eq!(repeats.seen.lock().unwrap().keys.len(), 2);
        assert_eq!(repeats.turn(&5_000, start + PERIOD), Turn::Say { held_back: 0 }, "old keys make room");
    }

    #[test]
    fn a_key_with_something_to_tell_keeps_its_place() {
        let repeats = Repeats::new(PERIOD, 1);
        let start = Instant::now();
        repeats.turn(&"a", start);
        repeats.turn(&"a", start);
        assert_eq!(repeats.turn(&"b", start + PERIOD), Turn::Say { held_back: 0 }, "from the shared line");
        assert_eq!(repeats.turn(&"a", start + PERIOD), Turn::Say { held_back: 1 });
    }
}
