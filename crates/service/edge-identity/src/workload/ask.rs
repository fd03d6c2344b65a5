//! What the workload API asks of the rest of the edge: is this process that module, and which modules are there.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use skerry_dialect::management::ManagedModule;
use skerry_model::ModuleName;
use skerry_net::PeerCredentials;

type Asked<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Decides whether a process is a module's; whoever runs the module knows: the container it must be in, the user it must have.
#[derive(Clone)]
pub struct CallerCheck(Arc<dyn Fn(ModuleName, PeerCredentials) -> Asked<bool> + Send + Sync>);

impl CallerCheck {
    /// Asks `check`, once per request that uses a module's keys.
    pub fn new<F, A>(check: F) -> Self
    where
        F: Fn(ModuleName, PeerCredentials) -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        Self(Arc::new(move |module, peer| Box::pin(check(module, peer))))
    }

    pub(crate) async fn is_member(&self, module: &ModuleName, peer: PeerCredentials) -> bool {
        (self.0)(module.clone(), peer).await
    }
}

/// Lists the modules of this edge, for `GET /modules`.
#[derive(Clone)]
pub struct ModuleListing(Arc<dyn Fn() -> Asked<Vec<ManagedModule>> + Send + Sync>);

impl ModuleListing {
    /// Asks `list` for each request.
    pub fn new<F, A>(list: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Vec<ManagedModule>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(list())))
    }

    pub(crate) async fn modules(&self) -> Vec<ManagedModule> {
        (self.0)().await
    }
}

impl fmt::Debug for CallerCheck {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("CallerCheck")
    }
}

impl fmt::Debug for ModuleListing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ModuleListing")
    }
}
