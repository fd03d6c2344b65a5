//! The part of a deployment that the edge hub follows: routes, and how long messages are kept.

use std::time::Duration;

/// The desired properties of `$edgeHub` (`edge-deployment-manifest` §3). Routes are text here; compiling them is the router's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubManifest {
    /// The schema version as it was written: `1.0` to `1.3`.
    pub schema_version: String,
    /// All routes, in the order of the document.
    pub routes: Vec<Route>,
    /// How long and how much is kept.
    pub store: StoreAndForward,
}

/// One route as the operator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its key in the manifest.
    pub name: String,
    /// `FROM … WHERE … INTO …`.
    pub text: String,
    /// Which of several routes to the same endpoint counts.
    pub priority: RoutePriority,
    /// Own time to live; `None` takes the hub's.
    pub time_to_live: Option<Duration>,
}

/// A route's priority: 0 is first, 9 last of those that can be written, and without one a route comes after all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutePriority(u32);

impl RoutePriority {
    /// What a route without priority has; may also be written as this number.
    pub const DEFAULT: Self = Self(2_000_000_000);

    /// Takes 0 to 9 and the default number.
    pub const fn new(number: u32) -> Option<Self> {
        if number <= 9 || number == Self::DEFAULT.0 { Some(Self(number)) } else { None }
    }

    /// The number; a lower one goes first.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl Default for RoutePriority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// `storeAndForwardConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreAndForward {
    /// How long a message may wait; `None` keeps it until it is delivered.
    pub time_to_live: Option<Duration>,
    /// Most bytes of waiting messages, when the operator set one.
    pub bytes_max: Option<u64>,
}

impl Default for StoreAndForward {
    /// Two hours, the value that the documents and tools of the platform use.
    fn default() -> Self {
        Self { time_to_live: Some(Duration::from_secs(7200)), bytes_max: None }
    }
}
