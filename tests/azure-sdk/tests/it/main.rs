//! Azure's own SDKs from PyPI, unmodified, against our programs.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod actors;
mod edge_module;
mod hub_connection;
mod hub_device;
mod hub_module;
mod leaf;
mod outages;
mod scenarios;
mod service;
