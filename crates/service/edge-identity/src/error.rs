//! What can go wrong with an edge's identities.

use skerry_model::{DeviceId, ModuleName, RequestError};
use skerry_net::BindError;
use skerry_net::http::HttpError;
use skerry_pki::PkiError;

/// Why an edge cannot prove, make or serve an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The connection string is not one of a device with a shared key.
    #[error("this edge needs the connection string of a device with a SharedAccessKey: {0}")]
    Connection(&'static str),
    /// Keys or certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The hub did not answer; the same again later will do.
    #[error("cannot {action}: the hub does not answer")]
    Offline {
        /// What was attempted.
        action: String,
        /// Why.
        #[source]
        cause: HttpError,
    },
    /// The hub answered that it cannot now; the same again later will do.
    #[error("cannot {action}: the hub is not available: {error}")]
    Unavailable {
        /// What was attempted.
        action: String,
        /// What it said.
        error: RequestError,
    },
    /// The hub refused.
    #[error("cannot {action}: the hub refuses: {error}")]
    Refused {
        /// What was attempted.
        action: String,
        /// What it said.
        error: RequestError,
    },
    /// The device has no `$edgeAgent` and `$edgeHub`.
    #[error("device `{0}` is not an edge device at the hub: it has no {1}")]
    NotAnEdge(DeviceId, ModuleName),
    /// Nothing is known of this module.
    #[error("module `{0}` has no identity on this edge")]
    UnknownModule(ModuleName),
    /// A workload socket cannot be made.
    #[error("cannot serve the workload API for module `{module}`")]
    Socket {
        /// For which module.
        module: ModuleName,
        /// Why.
        #[source]
        cause: BindError,
    },
    /// A folder of a workload socket cannot be made.
    #[error("cannot make the folder of the workload socket of module `{module}`")]
    Folder {
        /// For which module.
        module: ModuleName,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

impl IdentityError {
    /// Whether the same may work later without anybody changing anything.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Offline { .. } | Self::Unavailable { .. })
    }
}
