//! The cloud hub through the gateway's contract and its own methods, on paused time with its drivers in memory, and once
//! with those of the disk.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod authentication;
mod commands;
mod deployment;
mod drivers;
mod methods;
mod registry;
mod scope;
mod sessions;
mod support;
mod telemetry;
mod twins;
