//! The authority behind the cloud's protocol heads: who exists and may speak, what they sent, their twins, methods and commands.
//!
//! [`CloudHub`] fulfils the gateway's contract; services and operators use its methods. It knows neither HTTP nor wire shapes.

#![forbid(unsafe_code)]

mod activity;
mod authenticate;
mod chain;
mod commands;
mod config;
mod deploy;
mod hub;
mod lane;
mod methods;
mod policy;
mod records;
mod registry;
mod scope;
mod sessions;
mod telemetry;
mod twins;

pub use commands::CommandDraft;
pub use config::{CloudConfig, CommandRules};
pub use hub::{CloudHub, CloudParts, INDEXED_MEMBERS, StartError};
pub use lane::CloudLane;
pub use policy::{Policy, Rights};
pub use registry::Statistics;
pub use scope::ScopePage;
pub use twins::{Identity, TwinView};
