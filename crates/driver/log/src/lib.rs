//! A segmented log with group commit, and what lives on it: durable queues for the edge, partitions for the hub's event stream.
//!
//! Many threads append under one short lock to the group being built; one thread writes whole groups durably and then publishes
//! each as one shared batch. See `docs/decisions` for why.

#![forbid(unsafe_code)]

mod buffer;
mod compaction;
#[cfg(feature = "conformance")]
#[doc(hidden)]
pub mod conformance;
pub mod disk;
mod files;
mod format;
mod group;
mod handle;
mod options;
mod partitions;
mod planner;
mod queues;
mod reader;
mod recovery;
mod segment;
mod shared;
mod subscription;
mod tenant;
mod worker;

pub use files::Folder;
pub use group::Batch;
pub use handle::{LogStatus, LogThread, random_salt, system_clock};
pub use options::LogOptions;
pub use partitions::{Appended, Event, Events, PARTITIONS_MAX, Partitions, PartitionsOptions, events};
pub use planner::{DiskOp, Planner, Situation};
pub use queues::{
    Destination, NewMessage, QueueKey, QueueStatus, QueuedMessage, Queues, QueuesOptions, Removal, messages,
};
pub use reader::ReadBatch;
pub use recovery::OpenError;
pub use subscription::{Arrivals, Subscription};
pub use worker::{Clock, Turn, Worker};
