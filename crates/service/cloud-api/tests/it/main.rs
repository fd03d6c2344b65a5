//! The API's routes driven without a network: requests in, answers out, a hub in memory behind them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod clients;
mod conventions;
mod events;
mod registry;
mod support;
mod twins;
