//! The cloud hub over HTTPS: what operators and services do with a policy, what devices and edge hubs do with their own tokens,
//! and reading events.

#![forbid(unsafe_code)]

mod caller;
mod clients;
mod events;
mod registry;
mod respond;
mod routes;
mod twins;

pub use routes::{ApiConfig, CloudApi};
