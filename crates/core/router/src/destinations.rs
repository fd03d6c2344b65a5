//! The outcome of routing one message.

use std::time::Duration;

use skerry_model::manifest::RoutePriority;
use smallvec::{SmallVec, smallvec};

use crate::EndpointIndex;

/// A set of endpoints of one router, one bit each; up to 128 endpoints need no allocation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointSet(SmallVec<[u64; 2]>);

impl EndpointSet {
    /// Whether `endpoint` is in the set.
    pub fn contains(&self, endpoint: EndpointIndex) -> bool {
        self.0.get(endpoint.get() / 64).is_some_and(|word| word & (1 << (endpoint.get() % 64)) != 0)
    }

    /// No endpoint at all.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// All endpoints of the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = EndpointIndex> + '_ {
        (0_u16..).zip(&self.0).flat_map(|(at, word)| {
            (0..64_u16).filter(move |bit| word & (1 << bit) != 0).map(move |bit| EndpointIndex(at * 64 + bit))
        })
    }

    fn insert(&mut self, endpoint: EndpointIndex) {
        let word = endpoint.get() / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (endpoint.get() % 64);
    }
}

/// One endpoint a message goes to, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Where.
    pub endpoint: EndpointIndex,
    /// Of all routes that match and lead there, the lowest number.
    pub priority: RoutePriority,
    /// That route's own time to live; `None` takes the hub's.
    pub time_to_live: Option<Duration>,
}

/// Every endpoint a message goes to, each once. Up to four need no allocation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Destinations {
    set: EndpointSet,
    chosen: SmallVec<[Destination; 4]>,
}

impl Destinations {
    /// No route matches: the message is acknowledged, dropped and counted.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// The endpoints as a set.
    pub fn set(&self) -> &EndpointSet {
        &self.set
    }

    /// The endpoints with priority and time to live, by priority.
    pub fn iter(&self) -> std::slice::Iter<'_, Destination> {
        self.chosen.iter()
    }

    /// Adds a destination unless its endpoint is there already: routes come by priority, so the first counts.
    pub(crate) fn insert(&mut self, destination: Destination) {
        if !self.set.contains(destination.endpoint) {
            self.set.insert(destination.endpoint);
            self.chosen.push(destination);
        }
    }
}

impl<'a> IntoIterator for &'a Destinations {
    type Item = &'a Destination;
    type IntoIter = std::slice::Iter<'a, Destination>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<EndpointIndex> for EndpointSet {
    fn from_iter<I: IntoIterator<Item = EndpointIndex>>(endpoints: I) -> Self {
        let mut set = Self(smallvec![]);
        for endpoint in endpoints {
            set.insert(endpoint);
        }
        set
    }
}
