//! The port through which the agent runs modules: what it can ask of a runtime, and what a runtime tells it.
//!
//! An implementation runs one kind of artifact for one edge device. It touches only what it made itself, and a module
//! carries its spec digest, so that a restarted agent can take over what runs without a memory of its own.

#![forbid(unsafe_code)]

mod act;
mod error;
mod events;
mod logs;
mod observed;

#[cfg(feature = "conformance")]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "it is a test")]
pub mod conformance;
pub mod fake;

use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

pub use act::Act;
pub use error::{Problem, RuntimeError};
pub use events::{Changes, Events};
pub use logs::{LogLine, LogLines, LogRange, LogSender, LogStream};
pub use observed::{ModuleState, ObservedModule};
use skerry_model::manifest::{Artifact, RegistryCredential};
use skerry_model::{ModuleName, ModuleSpec};

/// A future of the port; boxed, because which runtime is behind it is decided by a manifest.
pub type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, RuntimeError>> + Send + 'a>>;

/// How long a module may take to stop when neither the caller nor its spec says.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What runs modules of one kind. All calls may be made at the same time for different modules; calls for one module are
/// made one after the other. Dropping a future of a call leaves the module in a state that `observe` tells.
pub trait ModuleRuntime: Send + Sync + 'static {
    /// Which artifacts this runtime takes, in the manifest's word ([`Artifact::kind`]).
    fn kind(&self) -> &'static str;

    /// Every module that this runtime made and that still exists, sorted by name.
    ///
    /// # Errors
    /// [`Problem::Unavailable`] when what runs the modules cannot be reached; the reason says what is missing.
    fn observe(&self) -> Running<'_, Vec<ObservedModule>>;

    /// Told whenever `observe` may have a new answer: a module ended, what runs the modules went away or came back.
    fn events(&self) -> Events;

    /// Makes the artifact ready to run, so that `create` and `start` are quick. May take minutes. What runs is not disturbed.
    ///
    /// # Errors
    /// [`Problem::ArtifactNotFound`], [`Problem::CredentialRefused`], [`Problem::Unavailable`] and others.
    fn prepare<'a>(&'a self, artifact: &'a Artifact, credential: Option<&'a RegistryCredential>) -> Running<'a, ()>;

    /// Makes the module, not yet running. It carries `spec.digest()` and the binding's generation.
    ///
    /// # Errors
    /// [`Problem::NameTaken`] when something of that name exists, ours or not; [`Problem::SpecRefused`] when the spec
    /// cannot be run; [`Problem::ArtifactNotFound`] when `prepare` was not called and nothing is there to run.
    fn create<'a>(&'a self, spec: &'a ModuleSpec, binding: &'a Binding) -> Running<'a, ()>;

    /// Starts the module; nothing happens when it runs. Done means "start was attempted and did not fail at once".
    ///
    /// # Errors
    /// [`Problem::NoSuchModule`], [`Problem::SpecRefused`] when the program cannot be run.
    fn start<'a>(&'a self, module: &'a ModuleName) -> Running<'a, ()>;

    /// Asks the module to end and ends it with all its processes when `timeout` has passed; done when it has ended.
    /// Nothing happens when it does not run. Without `timeout`: what its spec says, else [`STOP_TIMEOUT`].
    ///
    /// # Errors
    /// [`Problem::NoSuchModule`].
    fn stop<'a>(&'a self, module: &'a ModuleName, timeout: Option<Duration>) -> Running<'a, ()>;

    /// Removes the module and what it stored privately, ending it first if it runs. Nothing happens when it does not exist.
    ///
    /// # Errors
    /// [`Problem::Unavailable`] and failures of the machine.
    fn remove<'a>(&'a self, module: &'a ModuleName) -> Running<'a, ()>;

    /// What the module wrote to its standard output and error, oldest first. With `range.follow` the lines go on until
    /// the module ends.
    ///
    /// # Errors
    /// [`Problem::NoSuchModule`].
    fn logs<'a>(&'a self, module: &'a ModuleName, range: LogRange) -> Running<'a, LogLines>;

    /// Makes sure that the network of the modules exists, and tells at which addresses of this machine they reach us.
    fn ensure_network(&self) -> Running<'_, Network>;

    /// Whether modules go on when this process ends.
    fn outlives_us(&self) -> bool;

    /// Whether the process `process_id` of this machine belongs to the running module: the caller check of the workload API.
    /// A module that does not exist or does not run has no processes.
    fn is_member<'a>(&'a self, module: &'a ModuleName, process_id: u32) -> Running<'a, bool>;

    /// Where a module finds the folder that is `on_host` for us and was bound to it as [`Binding::workload_folder`].
    fn seen_by_module(&self, on_host: &Path) -> PathBuf;
}

/// What a module gets from the platform beside its spec: who it is, and how it reaches us. Not part of the spec digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// Environment variables of the platform; they win over the manifest's `env` of the same name, and an image's own.
    /// Only the create options of a container win over them (`edge-module-environment` §1).
    pub env: Vec<(String, String)>,
    /// The generation of the module's identity: carried by the module and observed, because a new identity needs a new module.
    pub generation: String,
    /// Existing folder on this machine with the module's workload socket; the module finds it at
    /// [`ModuleRuntime::seen_by_module`].
    pub workload_folder: PathBuf,
    /// Names that must resolve inside the module, each to one address.
    pub host_names: Vec<(String, IpAddr)>,
}

/// The network that modules are in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Addresses of this machine on that network. Empty: modules share the machine's network, any local address will do.
    pub gateways: Vec<IpAddr>,
}
