//! The event-stream port: what devices sent, in partitions that only grow at one end, kept for a while, read by position.
//!
//! [`LocalStream`] keeps them in a log on disk, [`MemoryStream`] in memory. Both run the same suite, `conformance_suite!`.

#![forbid(unsafe_code)]

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod local;
mod memory;
mod partition;
mod port;
mod record;

pub use local::{LocalStream, LocalStreamOptions, OpenStreamError};
pub use memory::MemoryStream;
pub use partition::PartitionId;
pub use port::{
    Bounds, CommitListener, Committed, Event, EventStream, Pending, Position, READ_BYTES_MAX, Span, StreamError,
};
pub use record::{InvalidRecord, RecordHead, decode};
