//! Keys kept in files, shared-key signatures, and certificates made here: what both hubs and the edge build identity from.
//!
//! Secrets never appear in `Debug` output or errors; files that hold them have mode 0600.

#![forbid(unsafe_code)]

mod aead;
mod authority;
mod certificate;
mod error;
pub mod files;
mod key_store;
mod random;
mod symmetric_key;

pub use authority::{AuthoritySpec, CertificateAuthority, CertificateRequest, IssuedCertificate, Purpose};
pub use certificate::{CertificateDetails, RENEW_AT_PERCENT, ReissueReason, pem_certificates};
pub use error::PkiError;
pub use key_store::{FileKeyStore, KeyKind, stored_file_name};
pub use random::Random;
pub use symmetric_key::SymmetricKey;
