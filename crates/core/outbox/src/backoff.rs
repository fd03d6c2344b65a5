//! How long to wait after failures: longer each time, not in step with others, never longer than the limit.

use std::time::Duration;

/// Waits of an exponential back-off: `first`, then twice as long each time up to `longest`, each scaled by 0.8 to 1.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Begins with `first` after the first failure.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Something failed: how long to wait now. `dice` is any number, evenly spread.
    pub fn failed(&mut self, dice: u64) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(self.failures.min(30)).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let share = 800 + u32::try_from(dice % 401).unwrap_or(0);
        (doubled.min(self.longest).saturating_mul(share) / 1000).min(self.longest)
    }

    /// Something went well: the next failure is a first one again.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_spread() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let waits: Vec<u128> = (0..8).map(|_| backoff.failed(200).as_millis()).collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        backoff.succeeded();
        assert_eq!(backoff.failed(0), Duration::from_millis(800));
        assert_eq!(backoff.failed(400), Duration::from_millis(2400));
        for _ in 0..100 {
            backoff.failed(400);
        }
        assert_eq!(backoff.failed(400), Duration::from_secs(60));
    }
}
