//! When to try again: at once, then after 1, 3, 7, 15, … times the base up to a maximum, each time ±20 %.

use std::time::Duration;

/// Doublings after which the wait cannot grow in any sensible configuration.
const DOUBLINGS_MAX: u32 = 20;

/// Counts attempts in vain and tells how long to wait after them.
#[derive(Debug)]
pub(crate) struct Backoff {
    base: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// Equal seeds wait equally long.
    pub(crate) fn new(base: Duration, seed: u64) -> Self {
        Self { base, failures: 0, random: seed }
    }

    /// Forgets all attempts in vain: the next wait is none.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait before the next attempt, which counts as in vain until [`Self::reset`].
    pub(crate) fn next_wait(&mut self, max: Duration) -> Duration {
        let steps = (1_u32 << self.failures.min(DOUBLINGS_MAX)) - 1;
        self.failures = self.failures.saturating_add(1);
        let wait = self.base.saturating_mul(steps).min(max);
        let percent = 80 + u32::try_from(self.next_random() % 41).unwrap_or(0);
        wait * percent / 100
    }

    /// SplitMix64: enough to keep a fleet from knocking in step.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(60);

    #[test]
    fn waits_grow_to_the_maximum_with_a_fifth_of_jitter() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(Duration::from_secs(1), seed);
            for seconds in [0, 1, 3, 7, 15, 31, 60, 60, 60] {
                let wait = backoff.next_wait(MAX);
                let exact = Duration::from_secs(seconds);
                assert!(exact * 4 / 5 <= wait && wait <= exact * 6 / 5, "{wait:?} for {exact:?}");
            }
            backoff.reset();
            assert_eq!(backoff.next_wait(MAX), Duration::ZERO);
        }
    }

    #[test]
    fn seeds_make_a_difference_and_nothing_else_does() {
        let waits = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(1), seed);
            std::array::from_fn::<_, 6, _>(|_| backoff.next_wait(MAX))
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), 1);
        backoff.failures = u32::MAX;
        assert!(backoff.next_wait(MAX) >= Duration::from_secs(48));
    }
}
