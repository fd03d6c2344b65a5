//! Sessions against a scripted hub, over streams in memory, on paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

mod deliveries;
mod messages;
mod reconnect;
mod requests;
mod tls;
mod world;
