//! Decisions about deployments. [`reconcile`]: which steps make one machine match its manifest.

#![forbid(unsafe_code)]

pub mod reconcile;
