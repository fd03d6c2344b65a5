//! The local hub of an edge device: cache, durable queues and local broker in front of the hub above.
//!
//! [`EdgeHub`] fulfils the gateway's contract. It works without the hub above: identities, twins and routes are kept, messages wait
//! in durable queues, one per endpoint and priority.

#![forbid(unsafe_code)]

mod authenticate;
mod config;
mod forward;
mod held;
mod http;
mod hub;
mod identities;
mod inputs;
mod lane;
mod methods;
mod queued;
mod routing;
mod scope;
mod sessions;
mod settings;
mod twins;
mod unrouted;
mod upstream;

pub use config::EdgeHubConfig;
pub use http::EdgeRoutes;
pub use hub::{EdgeHub, EdgeParts, Random};
pub use lane::EdgeLane;
