//! Which complaints about a peer are worth a log line, and how many were held back: nobody fills the log by being refused.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::time::Duration;

use skerry_model::Monotonic;

/// The same thing about a peer is logged at most once in this time; what came between is counted.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Lines about one peer in that time, whatever it comes up with.
const LINES_MAX: usize = 10;
/// Peers that are told apart.
const PEERS_MAX: usize = 1_000;

/// What was logged lately, by peer.
#[derive(Default)]
pub(crate) struct Lines {
    peers: BTreeMap<IpAddr, Lately>,
}

/// What was logged about one peer.
#[derive(Default)]
struct Lately {
    /// When, and a number that stands for what was said.
    told: Vec<(Monotonic, u64)>,
    held_back: u64,
}

impl Lines {
    /// Whether a line that says `what` about `peer` is written, and how many about it were held back since the last one.
    pub(crate) fn admit(&mut self, now: Monotonic, peer: IpAddr, what: &[&str]) -> Option<u64> {
        if !self.peers.contains_key(&peer) && self.peers.len() >= PEERS_MAX {
            self.peers.retain(|_, lately| lately.told.iter().any(|(at, _)| now.since(*at) < LOG_EVERY));
            if self.peers.len() >= PEERS_MAX {
                // More peers than can be told apart: nobody could read so many lines.
                return None;
            }
        }
        let what = digest(what);
        let lately = self.peers.entry(peer).or_default();
        lately.told.retain(|(at, _)| now.since(*at) < LOG_EVERY);
        if lately.told.len() >= LINES_MAX || lately.told.iter().any(|(_, told)| *told == what) {
            lately.held_back += 1;
            return None;
        }
        lately.told.push((now, what));
        Some(std::mem::take(&mut lately.held_back))
    }
}

/// Stands for `what`; where two things share a number one of them is held back for a minute.
fn digest(what: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of complaints at the given seconds: how many were held back before each one that is logged.
    fn lines(complaints: &[(u64, u8, &str, &str)]) -> Vec<Option<u64>> {
        let mut lines = Lines::default();
        let admit = |&(at, peer, name, reason): &(u64, u8, &str, &str)| {
            let now = Monotonic::from_start(Duration::from_secs(at));
            lines.admit(now, IpAddr::from([127, 0, 0, peer]), &[name, reason])
        };
        complaints.iter().map(admit).collect()
    }

    #[test]
    fn one_line_a_minute_for_the_same_peer_name_and_reason() {
        let told = lines(&[(0, 1, "d", "key"), (1, 1, "d", "key"), (59, 1, "d", "key"), (60, 1, "d", "key")]);
        assert_eq!(told, [Some(0), None, None, Some(2)]);
        let told = lines(&[(0, 1, "d", "key"), (1, 1, "d", "expired"), (2, 1, "d", "key"), (3, 1, "d", "expired")]);
        assert_eq!(told, [Some(0), Some(0), None, None], "reasons that take turns are no news");
        let told = lines(&[(0, 1, "d", "key"), (1, 2, "d", "key"), (2, 1, "e", "key"), (3, 1, "dk", "ey")]);
        assert_eq!(told, [Some(0); 4], "another peer or name is news");
    }

    #[test]
    fn a_minute_begins_with_its_line_and_not_with_the_first_about_the_peer() {
        let told = lines(&[(0, 1, "d", "key"), (50, 1, "e", "key"), (61, 1, "e", "key"), (110, 1, "e", "key")]);
        assert_eq!(told, [Some(0), Some(0), None, Some(1)]);
    }

    #[test]
    fn a_peer_that_invents_names_does_not_flood_the_log() {
        let names: Vec<String> = (0..1_000).map(|n| format!("d{n}")).collect();
        let flood: Vec<_> = names.iter().map(|name| (0, 1, name.as_str(), "unknown")).collect();
        let told = lines(&flood);
        assert_eq!(told.iter().flatten().count(), LINES_MAX);
        let later = [flood, vec![(60, 1, "again", "unknown")]].concat();
        assert_eq!(lines(&later).last(), Some(&Some(990)), "and it is told how many there were");
    }

    #[test]
    fn more_peers_than_can_be_told_apart_get_no_lines_until_others_are_quiet() {
        let mut lines = Lines::default();
        let mut admit = |second: u64, peer: u32| {
            let now = Monotonic::from_start(Duration::from_secs(second));
            lines.admit(now, IpAddr::from(peer.to_be_bytes()), &["key"])
        };
        assert!((0..1_000).all(|peer| admit(0, peer) == Some(0)));
        assert_eq!((admit(1, 1_000), admit(60, 1_000)), (None, Some(0)));
    }
}
