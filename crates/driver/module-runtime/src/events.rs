//! "Something changed": a signal without content, because whoever hears it looks at the whole truth again.

use tokio::sync::watch;

/// The sending end, kept by a runtime.
#[derive(Debug, Clone)]
pub struct Changes(watch::Sender<()>);

/// The receiving end; several changes before one look count once.
#[derive(Debug, Clone)]
pub struct Events(watch::Receiver<()>);

impl Changes {
    /// A signal that nobody listens to yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    /// Wakes everybody who listens.
    pub fn announce(&self) {
        self.0.send_replace(());
    }

    /// A new listener; it hears what is announced from now on.
    pub fn listen(&self) -> Events {
        Events(self.0.subscribe())
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self::new()
    }
}

impl Events {
    /// Waits until something was announced since the last call, or since this listener was made. Never returns when the
    /// runtime is gone. Safe to drop and call again.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn announcements_before_a_look_count_once() {
        let changes = Changes::new();
        changes.announce();
        let mut events = changes.listen();
        assert!(tokio::time::timeout(Duration::from_secs(1), events.changed()).await.is_err());
        changes.announce();
        changes.announce();
        events.changed().await;
        assert!(tokio::time::timeout(Duration::from_secs(1), events.changed()).await.is_err());
        drop(changes);
        assert!(tokio::time::timeout(Duration::from_secs(1), events.changed()).await.is_err());
    }
}
