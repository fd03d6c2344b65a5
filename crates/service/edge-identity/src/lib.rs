//! Who an edge and its modules are: identities at the hub, keys that never leave, certificates, and the workload API.
//!
//! One [`EdgeIdentity`] per edge device. Module keys are derived from a master key and the module's generation, so the only
//! thing remembered per module is its generation, and an edge that boots without its hub still knows its modules.

#![forbid(unsafe_code)]

mod authority;
mod cache;
mod config;
mod error;
mod hub;
mod identities;
mod identity;
mod keys;
mod sockets;
mod token;
mod workload;

pub use authority::EdgeAuthority;
pub use config::{AuthoritySource, IdentityConfig, IdentityParts, Lifetimes, hub_client};
pub use error::IdentityError;
pub use identities::ModuleIdentity;
pub use identity::EdgeIdentity;
pub use sockets::{SocketAccess, workload_folder_name};
pub use token::TokenSigner;
pub use workload::{CallerCheck, ModuleListing};
