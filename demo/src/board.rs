//! What a load has done so far, for those who do it and for the progress line.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::ledger::Acknowledged;
use crate::numbers::Numbers;

/// Counts of one run; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Board {
    counts: Arc<Mutex<Counts>>,
    changes: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Counts {
    sent: BTreeMap<String, u64>,
    /// On the disk.
    acknowledged: BTreeMap<String, Numbers>,
    /// Received by the sink, by sender.
    local: BTreeMap<String, Numbers>,
    connected: usize,
    failure: Option<String>,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) local: u64,
    pub(crate) connected: usize,
}

impl Progress {
    /// One line for a program.
    pub(crate) fn line(&self) -> String {
        let Self { sent, acknowledged, local, connected } = self;
        json!({ "sent": sent, "acknowledged": acknowledged, "local": local, "connected": connected }).to_string()
    }
}

impl Board {
    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock());
        self.changes.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn sent(&self, sender: &str, last: u64) {
        self.change(|counts| {
            counts.sent.insert(sender.to_owned(), last);
        });
    }

    pub(crate) fn acknowledged(&self, new: &Acknowledged) {
        self.change(|counts| {
            counts.acknowledged.entry(new.sender.clone()).or_default().take_range(new.first, new.last);
        });
    }

    pub(crate) fn received(&self, sender: &str, number: u64) {
        self.change(|counts| counts.local.entry(sender.to_owned()).or_default().take(number));
    }

    pub(crate) fn connected(&self, more: bool) {
        self.change(|counts| {
            counts.connected = if more { counts.connected + 1 } else { counts.connected.saturating_sub(1) };
        });
    }

    /// The run is void.
    pub(crate) fn fail(&self, reason: String) {
        self.change(|counts| {
            counts.failure.get_or_insert(reason);
        });
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    pub(crate) fn progress(&self) -> Progress {
        let counts = self.lock();
        Progress {
            sent: counts.sent.values().sum(),
            acknowledged: counts.acknowledged.values().map(Numbers::distinct).sum(),
            local: counts.local.values().map(Numbers::distinct).sum(),
            connected: counts.connected,
        }
    }

    /// Acknowledged numbers of `sender` that the sink did not receive.
    pub(crate) fn missing_locally(&self, sender: &str) -> Vec<u64> {
        let counts = self.lock();
        let received = counts.local.get(sender).cloned().unwrap_or_default();
        counts.acknowledged.get(sender).map(|acknowledged| acknowledged.missing_in(&received)).unwrap_or_default()
    }

    /// The outcome of a run, as far as the load knows it: what each sender sent, and what of it the sink received.
    pub(crate) fn outcome(&self, local: &[String]) -> Value {
        let sent = json!(self.lock().sent);
        let mut received = serde_json::Map::new();
        for sender in local {
            let missing = self.missing_locally(sender);
            let mut of_sender = self.lock().local.get(sender).cloned().unwrap_or_default().to_json();
            of_sender["missing"] = json!(missing);
            received.insert(sender.clone(), of_sender);
        }
        json!({ "sent": sent, "local": received })
    }
}
