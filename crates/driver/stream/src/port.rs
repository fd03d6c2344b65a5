//! The port itself: append without waiting, learn what is durable, read from a position, trim what is old.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use skerry_model::{MessageView, Refusal, Stamp, Timestamp};
use tokio::sync::watch;

use crate::PartitionId;

/// Bytes of one read, at most; a larger wish is cut to this. One event is always read, whatever its size.
pub const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a call of the port answers with, later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StreamError>> + Send + 'a>>;

/// Called after each durable write of a partition, and when a batch that was refused with `Full` may be offered again, from
/// whatever thread did it: it must be quick and must not call the stream.
pub type CommitListener = Arc<dyn Fn(PartitionId, Committed) + Send + Sync>;

/// A fixed number of partitions of events. Within one, sequence numbers rise by one and moments of taking never fall.
pub trait EventStream: Send + Sync + 'static {
    /// How many partitions there are; fixed for the life of the stream.
    fn partitions(&self) -> u16;

    /// Takes messages of one sender in order, all or none, and never waits. Returns the sequence number behind the last one:
    /// the messages are durable once [`Committed::next`] has reached it. The stamp's `enqueued` is raised where it would fall.
    ///
    /// # Errors
    /// `Full` when what waits to be written has no room: offer the batch again when the listener is called. `Failed` when the
    /// stream cannot be written any more. An unknown partition is `Failed`.
    fn append(&self, partition: PartitionId, stamp: &Stamp, messages: &[MessageView<'_>]) -> Result<u64, Refusal>;

    /// Has `listener` called after each durable write, when there is room again after a refusal, and once when the stream fails
    /// for good. One listener; the newest counts.
    fn on_commit(&self, listener: CommitListener);

    /// What of a partition is durable, to wait for more.
    ///
    /// # Errors
    /// `NoSuchPartition`.
    fn commits(&self, partition: PartitionId) -> Result<watch::Receiver<Committed>, StreamError>;

    /// What a partition holds that can be read.
    ///
    /// # Errors
    /// `NoSuchPartition`.
    fn bounds(&self, partition: PartitionId) -> Result<Bounds, StreamError>;

    /// Durable events from `from` on, about `bytes_max` bytes of them; none when there is nothing there yet. A position before
    /// the first event that is kept reads from that one on.
    fn read(&self, partition: PartitionId, from: Position, bytes_max: usize) -> Pending<'_, Span>;

    /// Forgets events before the sequence number `before`, where that is cheap: some may stay.
    fn trim(&self, partition: PartitionId, before: u64) -> Pending<'_, ()>;
}

/// How far a partition is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// Everything before this sequence number is.
    pub next: u64,
    /// Nothing more will be: the stream cannot be written any more.
    pub failed: bool,
}

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Sequence number of the first event that is kept.
    pub first: u64,
    /// Sequence number that the next durable event will have.
    pub next: u64,
    /// When the last event was taken; `None` when there never was one.
    pub last_enqueued: Option<Timestamp>,
}

/// Where to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The first event that is kept.
    Start,
    /// Behind the last durable event.
    End,
    /// The event of this sequence number.
    Sequence(u64),
    /// The first event taken at this moment or later.
    Enqueued(Timestamp),
}

/// Events that follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Span {
    /// In order.
    pub events: Vec<Event>,
    /// Where to read on: the sequence number behind the last event.
    pub next: u64,
}

/// An event as it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the partition, from 0.
    pub sequence: u64,
    /// Where it comes from and when it was taken.
    pub stamp: Stamp,
    /// The sender's property bag as text.
    pub properties: String,
    /// The payload.
    pub body: Bytes,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// There are fewer partitions.
    #[error("there is no partition {0}")]
    NoSuchPartition(PartitionId),
    /// The stream cannot be read.
    #[error("the event stream failed: {0}")]
    Failed(String),
}
