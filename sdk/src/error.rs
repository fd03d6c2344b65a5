//! What can go wrong, in words a module's author can do something with.

use skerry_dialect::connection_string::BadConnectionString;
use skerry_model::RequestError;
use skerry_net::TlsError;
use skerry_net::http::HttpError;
use skerry_workload::{EnvironmentError, WorkloadError};

/// Why a module cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not started by an edge.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The variables name no gateway to connect to.
    #[error("IOTEDGE_GATEWAYHOSTNAME is not set: there is no edge hub to connect to")]
    NoGateway,
    /// A port in the environment is none.
    #[error("{variable}: `{text}` is no port")]
    Port {
        /// The variable.
        variable: &'static str,
        /// Its text.
        text: String,
    },
    /// The edge did not say whom to trust.
    #[error("cannot learn from the edge whom to trust")]
    Trust(#[from] WorkloadError),
    /// The edge has nothing to say about whom to trust.
    #[error("the edge has no trust bundle")]
    NoTrust,
    /// What the edge said about whom to trust cannot be used.
    #[error("cannot use the certificates to trust")]
    Certificates(#[from] TlsError),
    /// The address of the workload API cannot be used.
    #[error("cannot use the workload API")]
    Workload(#[from] HttpError),
    /// The connection string is none.
    #[error(transparent)]
    ConnectionString(#[from] BadConnectionString),
    /// The connection string proves itself in a way that is not offered here.
    #[error("a connection string needs a shared key here")]
    NoKey,
}

/// Why a question stays without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The hub said no.
    #[error(transparent)]
    Refused(#[from] RequestError),
    /// The module was closed.
    #[error("the module was closed")]
    Closed,
    /// The hub answered something else than was asked.
    #[error("the hub's answer to `{0}` cannot be used")]
    Answer(&'static str),
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It never will be: too large, or with an id that cannot be.
    #[error(transparent)]
    Refused(#[from] RequestError),
    /// The module was closed before.
    #[error("the module was closed")]
    Closed,
}
