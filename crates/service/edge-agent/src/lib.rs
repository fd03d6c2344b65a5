//! Makes a machine run what its manifest says, and reports what is.
//!
//! [`EdgeAgent::start`] runs one task that owns everything: it takes the desired properties of `$edgeAgent` over an uplink of its
//! own, keeps the last good ones on disk, looks at the runtimes, plans ([`skerry_deployment::reconcile`]), lets modules go their
//! ways side by side, and reports. Without a hub it does all of that but the reporting.

#![forbid(unsafe_code)]

mod adapters;
mod agent;
mod binding;
mod boot;
mod config;
mod desired;
mod edge_hub;
mod management;
mod methods;
mod perform;
mod ports;
mod report;
mod store;
mod system;

pub use adapters::SessionUpstream;
pub use agent::{AgentHandle, EdgeAgent, ModuleError};
pub use boot::boot_time;
pub use config::{AgentConfig, AgentParts, Machine, RuntimePart, StatusDetails};
pub use edge_hub::{EdgeHubNews, EdgeHubSettings, HubBinding, HubProtocol, edge_hub_settings};
pub use management::ManagementSocket;
pub use ports::{Asked, Identities, IdentityFailure, Upstream, UpstreamState};
pub use store::StoreError;
