//! Client of the workload API: signatures, certificates, trust and sealed data for a module, from the edge it runs on.
//!
//! The module's key stays with the edge; a module that runs elsewhere, or was made anew, cannot use it.

#![forbid(unsafe_code)]

mod client;
mod environment;

pub use client::{IssuedCertificate, ModuleStatus, WorkloadClient, WorkloadError};
pub use environment::{Environment, EnvironmentError};
