//! The hub itself: its parts, its start and its end.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use skerry_gateway::{Calls, Closed};
use skerry_model::{DeviceId, ErrorCode, RequestError, Timestamp};
use skerry_net::Clock;
use skerry_pki::Random;
use skerry_state::{StateError, StateStore};
use skerry_stream::{EventStream, PartitionId, Position};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};

use crate::activity::Activities;
use crate::commands::Queues;
use crate::sessions::Sessions;
use crate::telemetry::Line;
use crate::{CloudConfig, Policy, policy, records};

/// Locks that devices share by hash; writes about one device happen one after the other.
const DEVICE_LOCKS: usize = 64;
/// How often what clients did is written down.
const ACTIVITY_EVERY: Duration = Duration::from_secs(2);
/// How often old events are trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(5 * 60);
/// .NET ticks of 100 ns at 1970: generation ids look like moments of that clock.
const TICKS_AT_1970: i64 = 621_355_968_000_000_000;

/// Members of documents that the hub finds them by; a record store should have an index on each.
pub const INDEXED_MEMBERS: [&str; 1] = [records::PARENT];

/// The drivers handed to a hub.
#[derive(Clone)]
pub struct CloudParts {
    /// Registry, twins, commands. Documents are asked for by [`INDEXED_MEMBERS`].
    pub state: Arc<dyn StateStore>,
    /// Telemetry.
    pub stream: Arc<dyn EventStream>,
    /// What time it is.
    pub clock: Clock,
    /// Keys and tokens are made from it.
    pub random: Random,
}

/// Why a hub cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the hub's policies")]
pub struct StartError(#[source] StateError);

/// The authority. Cloning shares it.
#[derive(Clone)]
pub struct CloudHub(pub(crate) Arc<Hub>);

/// What all faces of the hub share.
pub(crate) struct Hub {
    pub(crate) config: CloudConfig,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) stream: Arc<dyn EventStream>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) policies: Vec<Policy>,
    pub(crate) sessions: Sessions,
    pub(crate) lines: Vec<Line>,
    pub(crate) calls: Calls,
    pub(crate) queues: Queues,
    pub(crate) activities: Activities,
    runtime: Handle,
    locks: Vec<Mutex<()>>,
    last_generation: AtomicI64,
}

impl CloudHub {
    /// Starts a hub on the current tokio runtime, which does its control work. A store without policies gets the default
    /// ones with new keys.
    ///
    /// # Errors
    /// When the record store cannot be read or written.
    pub async fn start(config: CloudConfig, parts: CloudParts) -> Result<Self, StartError> {
        let policies = policy::load_or_create(&*parts.state, &parts.random).await.map_err(StartError)?;
        let hub = Arc::new(Hub {
            config,
            policies,
            sessions: Sessions::default(),
            lines: (0..parts.stream.partitions()).map(|_| Line::default()).collect(),
            calls: Calls::default(),
            queues: Queues::default(),
            activities: Activities::default(),
            runtime: Handle::current(),
            locks: (0..DEVICE_LOCKS).map(|_| Mutex::new(())).collect(),
            last_generation: AtomicI64::new(0),
            state: parts.state,
            stream: parts.stream,
            clock: parts.clock,
            random: parts.random,
        });
        let weak = Arc::downgrade(&hub);
        hub.stream.on_commit(Arc::new(move |partition, committed| {
            if let Some(hub) = weak.upgrade() {
                hub.committed(partition, committed);
            }
        }));
        every(ACTIVITY_EVERY, Arc::downgrade(&hub), Chore::WriteActivities);
        every(TRIM_EVERY, Arc::downgrade(&hub), Chore::Trim);
        Ok(Self(hub))
    }

    /// Ends all sessions and writes down what clients did last.
    pub async fn stop(&self) {
        self.0.close_sessions(Closed::Stopping, |_, _| true);
        self.0.write_activities().await;
    }

    /// The hub's policies.
    pub fn policies(&self) -> &[Policy] {
        &self.0.policies
    }

    /// The policy of this name.
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.0.policy(name)
    }

    /// The bounds this hub keeps.
    pub fn limits(&self) -> &skerry_model::Limits {
        &self.0.config.limits
    }

    /// Where telemetry goes.
    pub fn stream(&self) -> &Arc<dyn EventStream> {
        &self.0.stream
    }

    /// The clock this hub goes by.
    pub fn clock(&self) -> Clock {
        self.0.clock
    }
}

/// What a hub does again and again.
#[derive(Clone, Copy)]
enum Chore {
    WriteActivities,
    Trim,
}

/// Does `chore` again and again until the hub is gone.
fn every(period: Duration, hub: Weak<Hub>, chore: Chore) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(period).await;
            let Some(hub) = hub.upgrade() else { return };
            match chore {
                Chore::WriteActivities => hub.write_activities().await,
                Chore::Trim => hub.trim().await,
            }
        }
    });
}

impl Hub {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    pub(crate) fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.name == name)
    }

    /// Waits for everybody else who writes about `device` (and a few more devices).
    pub(crate) async fn lock(&self, device: &DeviceId) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        device.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % DEVICE_LOCKS as u64).unwrap_or(0);
        self.locks[at].lock().await
    }

    /// Does `work` on the hub's own runtime; the caller does not wait.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// A generation id that was never given before: rises with time, and by one where time stands still.
    pub(crate) fn new_generation(&self) -> Arc<str> {
        let ticks = self.now().unix_millis().saturating_mul(10_000).saturating_add(TICKS_AT_1970);
        let rise = |last: i64| Some(ticks.max(last + 1));
        let before = self.last_generation.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rise).unwrap_or_default();
        Arc::from(ticks.max(before + 1).to_string())
    }

    /// An etag that differs from the one before: base64 of a decimal number, as the platform's look.
    pub(crate) fn new_etag(&self) -> String {
        use base64::Engine as _;
        let number = 100_000_000 + self.random.u64() % 900_000_000;
        base64::engine::general_purpose::STANDARD.encode(number.to_string())
    }

    async fn trim(&self) {
        let before = self.now().minus(self.config.retention.max(Duration::from_secs(60 * 60)));
        for index in 0..self.stream.partitions() {
            let partition = PartitionId(index);
            let trimmed = async {
                let first_kept = self.stream.read(partition, Position::Enqueued(before), 1).await?;
                let keep_from = first_kept.events.first().map_or(first_kept.next, |event| event.sequence);
                self.stream.trim(partition, keep_from).await
            };
            if let Err(error) = trimmed.await {
                tracing::warn!(%partition, %error, "old events cannot be trimmed");
            }
        }
    }
}

/// What a failing store means to who asked.
pub(crate) fn unavailable(error: StateError) -> RequestError {
    match error {
        StateError::Conflict { .. } => RequestError::new(ErrorCode::Unavailable, "somebody else changed it just now"),
        StateError::Invalid { reason, .. } => RequestError::new(ErrorCode::ArgumentInvalid, reason),
        StateError::Forgotten { .. } | StateError::Failed(_) => {
            tracing::error!(%error, "the record store failed");
            RequestError::new(ErrorCode::Unavailable, "the record store cannot be used at the moment")
        }
    }
}
