//! Whole parts of the platform in a simulated world.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where something unexpected happens")]

mod crash;
mod store;
