//! What is to be seen of the local hub: who is connected, who was refused, what waits to be delivered, what
//! it cannot do.

use std::sync::{Arc, OnceLock};

use skerry_dialect::own::StoreState;
use skerry_edge_agent::EdgeHubNews;
use skerry_gateway::Door;
use skerry_log::{LogStatus, QueueStatus, Queues};
use tokio::sync::watch;

/// A look at a hub in this process. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// Who is connected, who was refused.
    pub(crate) door: Arc<Door>,
    /// The queues, once they are open, and the bytes they may have on disk.
    queues: Arc<OnceLock<(Queues, u64)>>,
    /// What it cannot do that it was told to.
    news: Arc<watch::Sender<EdgeHubNews>>,
}

impl View {
    /// The queues are open now.
    pub(crate) fn opened(&self, queues: Queues, bytes_max: u64) {
        // Set once, by the hub's start.
        let _ = self.queues.set((queues, bytes_max));
    }

    /// What the hub cannot do that it was told to, from now on.
    pub(crate) fn remark(&self, remarks: Vec<String>) {
        self.news.send_if_modified(|news| {
            let is_new = news.remarks != remarks;
            news.remarks = remarks;
            is_new
        });
    }

    /// The same, to be watched.
    pub(crate) fn news(&self) -> watch::Receiver<EdgeHubNews> {
        self.news.subscribe()
    }

    /// What waits; nothing before the queues are open.
    pub(crate) fn store(&self) -> Option<StoreState> {
        let (queues, bytes_max) = self.queues.get()?;
        Some(store(&queues.queues(), &queues.status(), *bytes_max))
    }
}

/// A message that waits in two queues is to be delivered twice and counts twice.
fn store(queues: &[QueueStatus], log: &LogStatus, bytes_max: u64) -> StoreState {
    StoreState {
        messages: queues.iter().map(|queue| queue.waiting.messages).sum(),
        bytes: log.segments.saturating_mul(log.segment_bytes),
        bytes_max,
        full: log.full,
    }
}
