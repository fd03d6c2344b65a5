//! What time it is: the machine's clocks, or tokio's paused time with a wall clock that follows it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use skerry_model::{Monotonic, Now, Timestamp};
use tokio::time::Instant;

/// Tells the time and waits. Monotonic time counts from the clock's making; copies share that start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    wall: Wall,
}

#[derive(Debug, Clone, Copy)]
enum Wall {
    System,
    Follows(Timestamp),
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self { start: Instant::now(), wall: Wall::System }
    }

    /// A wall clock that shows `wall` now and follows tokio's time from here, so that pausing tokio's time pauses both.
    pub fn simulated(wall: Timestamp) -> Self {
        Self { start: Instant::now(), wall: Wall::Follows(wall) }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let since_start = Instant::now().saturating_duration_since(self.start);
        let wall = match self.wall {
            Wall::System => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_unix_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
            }
            Wall::Follows(begin) => begin.plus(since_start),
        };
        Now { monotonic: Monotonic::from_start(since_start), wall }
    }

    /// The moment `at` as tokio's timers have it.
    pub fn instant(&self, at: Monotonic) -> Instant {
        // A deadline beyond what the timer can hold counts as 30 years from the start.
        self.start.checked_add(at.since_start()).unwrap_or_else(|| self.start + Duration::from_secs(86_400 * 365 * 30))
    }

    /// Waits until `at`; for ever when there is no such moment.
    pub async fn sleep_until(&self, at: Option<Monotonic>) {
        match at {
            Some(at) => tokio::time::sleep_until(self.instant(at)).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_stands_still_until_something_waits() {
        let clock = Clock::simulated(Timestamp::from_unix_seconds(1_000));
        let before = clock.now();
        assert_eq!(before.wall, Timestamp::from_unix_seconds(1_000));
        clock.sleep_until(Some(before.monotonic + Duration::from_secs(90))).await;
        let after = clock.now();
        assert_eq!(after.wall, Timestamp::from_unix_seconds(1_090));
        assert_eq!(after.monotonic.since(before.monotonic), Duration::from_secs(90));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_time_can_be_waited_for() {
        let clock = Clock::simulated(Timestamp::default());
        let far = Monotonic::from_start(Duration::MAX);
        assert!(tokio::time::timeout(Duration::from_secs(1), clock.sleep_until(Some(far))).await.is_err());
        assert!(tokio::time::timeout(Duration::from_secs(1), clock.sleep_until(None)).await.is_err());
    }

    #[test]
    fn the_system_clock_is_in_this_century() {
        assert!(Clock::system().now().wall > Timestamp::parse("2024-01-01T00:00:00Z").unwrap());
    }
}
