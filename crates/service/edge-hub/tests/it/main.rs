//! The edge hub between local clients and a scripted hub above, on paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

mod calls;
mod cloud;
mod routing;
mod settings;
mod storms;
mod twins;
mod upstream;
mod world;
