//! The record-store port: keyed, versioned JSON documents, changed all or nothing, found by filter, followed by revision.
//!
//! Registry, twins, queues of commands and jobs are all such documents. Two backends fulfil the port, [`SqliteState`] on disk
//! and [`MemoryState`]; both run the same suite, `conformance_suite!`.

#![forbid(unsafe_code)]

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;
mod port;
mod sqlite;

pub use memory::MemoryState;
pub use port::{
    CHANGES_MAX, Change, ChangeNotice, Changes, Expect, Filter, Found, Key, Kind, PAGE_RECORDS_MAX, Page, Pending,
    Record, Revision, StateError, StateStore, TOMBSTONES_MAX, VALUE_BYTES_MAX,
};
pub use sqlite::{OpenError, SqliteOptions, SqliteState};
