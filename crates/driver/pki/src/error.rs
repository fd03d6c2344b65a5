//! What can go wrong with keys and certificates; never holds a secret.

use std::path::{Path, PathBuf};

/// Why a key or certificate could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The file system refused.
    #[error("cannot {action} `{path}`")]
    File {
        /// What was attempted: `read`, `write`, `create`…
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A key is missing, malformed or of the wrong kind.
    #[error("key `{name}`: {reason}")]
    Key {
        /// Which key.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate is malformed or does not fit.
    #[error("certificate `{subject}`: {reason}")]
    Certificate {
        /// Which certificate: its common name, file, or role.
        subject: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A text or ciphertext does not have the right form, or was made with other keys.
    #[error("cannot decrypt: {0}")]
    Decrypt(&'static str),
}

impl PkiError {
    pub(crate) fn file(action: &'static str, path: &Path, cause: std::io::Error) -> Self {
        Self::File { action, path: path.to_owned(), cause }
    }

    pub(crate) fn key(name: &str, reason: impl ToString) -> Self {
        Self::Key { name: name.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn certificate(subject: &str, reason: impl ToString) -> Self {
        Self::Certificate { subject: subject.to_owned(), reason: reason.to_string() }
    }
}
