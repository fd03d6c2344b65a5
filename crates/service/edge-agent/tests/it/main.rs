//! The agent beside a hub, identities and runtimes that are made up, on time that stands still until something waits.

#![allow(clippy::unwrap_used, reason = "it is a test")]

mod deployments;
mod hub_manifests;
mod local_socket;
mod methods;
mod restarts;
mod world;
