//! Being asked to stop: by SIGTERM, SIGINT or the program itself. A second signal stops at once.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

/// Everybody's view of whether the program was asked to stop. Clones share it.
#[derive(Debug, Clone)]
pub struct Shutdown {
    asked: watch::Sender<bool>,
    reload: Arc<Notify>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { asked: watch::Sender::new(false), reload: Arc::default() }
    }
}

impl Shutdown {
    /// Asks everybody to stop.
    pub fn request(&self) {
        self.asked.send_replace(true);
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits until somebody asks.
    pub async fn requested(&self) {
        let mut asked = self.asked.subscribe();
        // The sender lives in `self`, so this cannot fail while we wait.
        let _ = asked.wait_for(|asked| *asked).await;
    }

    /// Waits for the next SIGHUP: read what is reloadable again. One waiter at a time is told.
    pub async fn reload_requested(&self) {
        self.reload.notified().await;
    }

    /// Listens to the process's signals from now on; needs a running runtime.
    pub(crate) fn listen(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                    _ = hangup.recv() => {
                        shutdown.reload.notify_one();
                        continue;
                    }
                };
                if shutdown.is_requested() {
                    tracing::warn!(signal = name, "asked a second time: stopping at once");
                    std::process::exit(130);
                }
                tracing::info!(signal = name, "stopping");
                shutdown.request();
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_reaches_who_waits_and_who_comes_later() {
        let shutdown = Shutdown::default();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.requested().await }
        });
        assert!(!shutdown.is_requested());
        shutdown.clone().request();
        waiting.await.unwrap();
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }
}
