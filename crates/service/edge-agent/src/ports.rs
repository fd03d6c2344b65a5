//! What the agent needs of its neighbours, narrow enough that a test can stand in for them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::Pin;

use skerry_edge_identity::SocketAccess;
use skerry_model::{Delivery, DeviceId, ModuleName, Reply, Request, Timestamp};
use tokio::sync::watch;

/// A future that a neighbour answers with.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The agent's own session with the hub, as `$edgeAgent`.
pub trait Upstream: Send + Sync + 'static {
    /// Whether the hub is there, to be watched.
    fn state(&self) -> watch::Receiver<UpstreamState>;
    /// Asks the hub; a request without a connection fails at once.
    fn submit(&self, request: Request) -> Asked<'_, Reply>;
    /// The next thing the hub sent; `None` at the end.
    fn next_delivery(&self) -> Asked<'_, Option<Delivery>>;
}

/// Whether the hub is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamState {
    /// Number of the connection; a new one means that something may have been missed. `None` while there is none.
    pub connection: Option<u64>,
    /// Since when it is like that.
    pub since: Option<Timestamp>,
    /// Why there is none.
    pub problem: Option<String>,
}

/// Who the edge and its modules are.
pub trait Identities: Send + Sync + 'static {
    /// The edge device.
    fn device(&self) -> &DeviceId;
    /// The hub's name.
    fn hub_host(&self) -> &str;
    /// What is on this machine was made for another device or hub.
    fn provisioning_changed(&self) -> bool;
    /// The generation of a module's identity, as far as it is known without asking.
    fn known(&self, module: &ModuleName) -> Option<String>;
    /// The generation of a module's identity, which is made when needed.
    fn ensure<'a>(&'a self, module: &'a ModuleName) -> Asked<'a, Result<String, IdentityFailure>>;
    /// Deletes the identities of modules that are not wanted.
    fn retain<'a>(&'a self, wanted: &'a BTreeSet<ModuleName>) -> Asked<'a, Result<(), IdentityFailure>>;
    /// Serves the workload API to a module and tells the folder its socket is in.
    ///
    /// # Errors
    /// With a sentence, when socket or folder cannot be made.
    fn open_socket(&self, module: &ModuleName, access: SocketAccess) -> Result<PathBuf, String>;
}

/// Why there is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct IdentityFailure {
    /// A sentence for a person.
    pub reason: String,
    /// The hub cannot be reached: once it can, the same will do.
    pub is_passing: bool,
}
