//! How long a module waits after it ended or a step failed (`edge-agent` §2).

use std::time::Duration;

use skerry_model::manifest::{RestartPolicy, RuntimeStatus};

/// The figures of restarting. The default is ours; [`Policy::original`] is the original's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// First wait; doubles with each restart. 0 to 300 seconds.
    pub unit: Duration,
    /// Longest wait after an end.
    pub restart_wait_max: Duration,
    /// Restarts after which a module counts as failed and is left alone; `None` never gives up.
    pub restarts_max: Option<u32>,
    /// A module that ran this long is well again.
    pub well_after: Duration,
    /// Longest wait after a failed step; `None` goes on doubling.
    pub failure_wait_max: Option<Duration>,
    /// Failed steps in a row after which a module is left alone until there is a new deployment; `None` never gives up.
    pub failures_max: Option<u32>,
    /// Least time between two starts of a module that ends without error and is started again at once.
    pub rest: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            unit: Duration::from_secs(10),
            restart_wait_max: Duration::from_secs(300),
            restarts_max: None,
            well_after: Duration::from_secs(600),
            failure_wait_max: Some(Duration::from_secs(3_600)),
            failures_max: None,
            rest: Duration::from_secs(5),
        }
    }
}

impl Policy {
    /// Gives up after 20 restarts or 20 failed steps; waits after failed steps double without end.
    pub fn original() -> Self {
        Self { restarts_max: Some(20), failure_wait_max: None, failures_max: Some(20), ..Self::default() }
    }

    /// How long a module that was restarted `restarts` times waits after its last end.
    pub fn restart_wait(&self, restarts: u32) -> Duration {
        doubled(self.unit, restarts).min(self.restart_wait_max)
    }

    /// How long nothing is tried after `failures` failed steps in a row.
    pub fn failure_wait(&self, failures: u32) -> Duration {
        let wait = doubled(self.unit, failures);
        self.failure_wait_max.map_or(wait, |longest| wait.min(longest))
    }

    /// Whether a wait is over `elapsed_millis` after it began. Time that did not pass forward means that the clock was moved.
    pub fn is_over(wait: Duration, elapsed_millis: i64) -> bool {
        elapsed_millis <= 0 || i128::from(elapsed_millis) > i128::try_from(wait.as_millis()).unwrap_or(i128::MAX)
    }

    /// What a module's status counts as, given what it is told to do when it ends.
    pub fn effective(&self, restart: RestartPolicy, status: RuntimeStatus, restarts: u32) -> RuntimeStatus {
        let restarts_max = self.restarts_max.unwrap_or(u32::MAX);
        match (restarts_by_policy(restart, status), restarts < restarts_max) {
            (false, _) => status,
            (true, true) => RuntimeStatus::Backoff,
            (true, false) => RuntimeStatus::Failed,
        }
    }
}

fn doubled(unit: Duration, times: u32) -> Duration {
    unit.checked_mul(2_u32.checked_pow(times).unwrap_or(u32::MAX)).unwrap_or(Duration::MAX)
}

/// Whether the policy restarts a module that is like that.
const fn restarts_by_policy(restart: RestartPolicy, status: RuntimeStatus) -> bool {
    match restart {
        RestartPolicy::Never => false,
        RestartPolicy::OnFailure | RestartPolicy::OnUnhealthy => {
            matches!(status, RuntimeStatus::Failed | RuntimeStatus::Unhealthy)
        }
        RestartPolicy::Always => !matches!(status, RuntimeStatus::Running | RuntimeStatus::Dead),
    }
}
