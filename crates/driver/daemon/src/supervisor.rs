//! Keeps the tasks of a program alive: one that panics is started again, after a pause that grows.

use std::any::Any;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::shutdown::Shutdown;

/// How a task that panicked comes back.
#[derive(Debug, Clone, Copy)]
pub struct RestartPolicy {
    /// The first pause; it doubles with each further panic.
    pub pause_first: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// A task that ran this long begins with the first pause again.
    pub calm_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        RestartPolicy {
            pause_first: Duration::from_millis(100),
            pause_max: Duration::from_secs(30),
            calm_after: Duration::from_secs(60),
        }
    }
}

/// Starts tasks and watches over them. Clones share their counts.
#[derive(Debug, Clone)]
pub struct Supervisor {
    shutdown: Shutdown,
    policy: RestartPolicy,
    restarts: Arc<AtomicU64>,
}

impl Supervisor {
    /// Watches until `shutdown` is requested; from then on nothing is started again.
    pub fn new(shutdown: Shutdown, policy: RestartPolicy) -> Self {
        Supervisor { shutdown, policy, restarts: Arc::default() }
    }

    /// Runs what `make` makes, again after each panic. A task that returns is done; one that returns an error asks the
    /// whole program to stop, because it knows that it cannot go on.
    pub fn spawn<F, E>(
        &self,
        name: &'static str,
        mut make: impl FnMut() -> F + Send + 'static,
    ) -> JoinHandle<Result<(), E>>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let supervisor = self.clone();
        tokio::spawn(async move {
            let mut pause = supervisor.policy.pause_first;
            loop {
                let started = Instant::now();
                let panic = match tokio::spawn(make()).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(failure)) => {
                        tracing::error!(task = name, %failure, "a task cannot go on: stopping");
                        supervisor.shutdown.request();
                        return Err(failure);
                    }
                    Err(ended) if ended.is_panic() => ended.into_panic(),
                    // The runtime is going away.
                    Err(_) => return Ok(()),
                };
                if supervisor.policy.calm_after <= started.elapsed() {
                    pause = supervisor.policy.pause_first;
                }
                let what = panic_text(panic.as_ref());
                tracing::error!(task = name, what, ?pause, "a task panicked: starting it again");
                supervisor.restarts.fetch_add(1, Ordering::Relaxed);
                tokio::select! {
                    () = sleep(pause) => {}
                    () = supervisor.shutdown.requested() => return Ok(()),
                }
                pause = (pause * 2).min(supervisor.policy.pause_max);
            }
        })
    }

    /// How often a task was started again.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor() -> (Supervisor, Shutdown) {
        let shutdown = Shutdown::default();
        (Supervisor::new(shutdown.clone(), RestartPolicy::default()), shutdown)
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_comes_back_after_growing_pauses() {
        let (supervisor, shutdown) = supervisor();
        let started = Instant::now();
        let mut turns = 0;
        let task = supervisor.spawn("flaky", move || {
            turns += 1;
            let turn = turns;
            async move {
                assert!(3 < turn, "turn {turn}");
                Ok::<(), String>(())
            }
        });
        task.await.unwrap().unwrap();
        assert_eq!(supervisor.restarts(), 3);
        assert_eq!(started.elapsed().as_millis(), 100 + 200 + 400);
        assert!(!shutdown.is_requested());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_gives_up_stops_the_program() {
        let (supervisor, shutdown) = supervisor();
        let task = supervisor.spawn("hopeless", || async { Err("disk gone") });
        assert_eq!(task.await.unwrap(), Err("disk gone"));
        assert!(shutdown.is_requested());
        assert_eq!(supervisor.restarts(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_comes_back_once_the_program_stops() {
        let (supervisor, shutdown) = supervisor();
        shutdown.request();
        let task = supervisor.spawn("late", || async {
            assert!(std::hint::black_box(false), "panics");
            Ok::<(), String>(())
        });
        task.await.unwrap().unwrap();
    }
}
