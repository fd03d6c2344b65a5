//! What a receiver is sent next: order, priority, expiry, retry, checkpoint. No disks, no clocks.
//!
//! An [`Outbox`] stands between the durable queues of one endpoint and its receiver. Whoever joins the two gives it entries (from
//! what just became durable, or read from the log where [`Outbox::wanted`] says), takes what is to be sent, reports what became
//! of it, and hands the settlements to the log.

#![forbid(unsafe_code)]

mod backoff;
mod lane;
mod line;
mod outbox;

pub use backoff::Backoff;
pub use outbox::{Entry, Offer, Outbox, OutboxLimits, Sent, Wanted};
