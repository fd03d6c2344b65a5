//! One connection as its user sees it: messages handed over, tickets, and how far the hub has them.

use std::sync::Arc;

use skerry_model::{MessageView, PropertyBag, RequestError, Ticket};
use tokio::sync::watch;

use crate::ended::Ended;
use crate::live::Progress;
use crate::shared::Shared;

/// A connection that is or was there. Its tickets are numbered from 1 and die with it: what the hub has not acknowledged when the
/// connection is lost is not kept here, and is to be appended to the next link. Clones share the tickets.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
    number: u64,
    progress: watch::Receiver<Progress>,
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAppended {
    /// Too much is in flight; see [`Link::room`].
    #[error("too much is in flight")]
    Full,
    /// The connection is lost, or about to be closed in good order; see [`Link::lost`].
    #[error("the connection is ending")]
    Ending,
    /// The hub would never take this message.
    #[error(transparent)]
    Refused(RequestError),
}

/// The connection is lost.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the connection was lost after message {}: {reason}", .acked.0)]
pub struct Lost {
    /// The hub has taken everything up to and including this message. Messages behind it may have arrived or not.
    pub acked: Ticket,
    /// Why.
    pub reason: Arc<Ended>,
}

impl Link {
    pub(crate) fn new(shared: Arc<Shared>, number: u64, progress: watch::Receiver<Progress>) -> Self {
        Self { shared, number, progress }
    }

    /// Number of the connection within its session, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Hands over a message: the text of its property bag, and its body. Never waits.
    ///
    /// # Errors
    /// When there is no room now, the connection is ending, or the hub would never take the message.
    pub fn append(&self, properties: &str, body: &[u8]) -> Result<Ticket, NotAppended> {
        let message = MessageView { properties: PropertyBag::new(properties), body };
        let now = self.shared.now().monotonic;
        let mut inner = self.shared.lock();
        let live = inner.live.as_mut().filter(|live| live.number == self.number).ok_or(NotAppended::Ending)?;
        let idle = live.out.is_empty();
        let ticket = live.append(now, &self.shared.prefix, message, &self.shared.config.limits)?;
        drop(inner);
        if idle {
            self.shared.to_write.notify_one();
        }
        Ok(ticket)
    }

    /// The hub has everything up to and including this ticket; 0 for nothing yet.
    pub fn acked(&self) -> Ticket {
        self.progress.borrow().acked
    }

    /// Waits until the watermark is beyond `ticket`, and answers where it is.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn acked_beyond(&self, ticket: Ticket) -> Result<Ticket, Lost> {
        self.until(|progress| progress.acked > ticket).await
    }

    /// Waits until a message can be appended. While the connection is ending, waits for its loss.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn room(&self) -> Result<(), Lost> {
        let mut progress = self.progress.clone();
        loop {
            if let Some(lost) = lost(&progress.borrow_and_update()) {
                return Err(lost);
            }
            let room = self.shared.lock().live.as_mut().is_some_and(|live| {
                live.number == self.number && live.is_ready() && live.has_room(&self.shared.config.limits)
            });
            if room {
                return Ok(());
            }
            // The sender is only dropped after the loss was told.
            let _ = progress.changed().await;
        }
    }

    /// Waits until the connection is lost.
    pub async fn lost(&self) -> Lost {
        loop {
            if let Err(lost) = self.until(|_| false).await {
                return lost;
            }
        }
    }

    async fn until(&self, enough: impl Fn(&Progress) -> bool) -> Result<Ticket, Lost> {
        let mut progress = self.progress.clone();
        loop {
            {
                let current = progress.borrow_and_update();
                if let Some(lost) = lost(&current) {
                    return Err(lost);
                }
                if enough(&current) {
                    return Ok(current.acked);
                }
            }
            // The sender is only dropped after the loss was told.
            let _ = progress.changed().await;
        }
    }
}

fn lost(progress: &Progress) -> Option<Lost> {
    progress.lost.as_ref().map(|reason| Lost { acked: progress.acked, reason: Arc::clone(reason) })
}
