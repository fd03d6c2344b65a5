//! What a certificate says, read from its bytes, and whether it is time for a new one.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use skerry_model::Timestamp;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{CertificateRequest, PkiError};

/// A certificate is made anew when this part of its life has passed, in percent.
pub const RENEW_AT_PERCENT: u64 = 80;

/// What is inside a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateDetails {
    /// Common name of the subject; empty when there is none.
    pub common_name: String,
    /// DNS names, in order.
    pub dns_names: Vec<String>,
    /// Addresses, in order.
    pub addresses: Vec<IpAddr>,
    /// Not valid before.
    pub not_before: Timestamp,
    /// Not valid after.
    pub not_after: Timestamp,
    /// Whether it may sign others.
    pub is_authority: bool,
    /// Identifies the subject's key.
    pub subject_key_id: Option<Vec<u8>>,
    /// Identifies the issuer's key.
    pub authority_key_id: Option<Vec<u8>>,
    /// The subject's public key, as DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
}

/// Why a certificate should be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReissueReason {
    /// It has other names or addresses than wanted.
    Names,
    /// Most of its life has passed.
    Age,
    /// Its life has not begun: the clock was set back, or was wrong when it was made.
    NotYetValid,
    /// Another authority issued it.
    Issuer,
}

impl CertificateDetails {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn from_pem(pem: &str) -> Result<Self, PkiError> {
        let der = pem_certificates(pem)?;
        let first = der.first().ok_or_else(|| PkiError::certificate("PEM text", "holds no certificate"))?;
        Self::from_der(first)
    }

    /// Reads a DER certificate.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| PkiError::certificate("DER", format!("malformed: {error}")))?;
        let common_name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let mut details = Self {
            common_name: common_name.unwrap_or_default().to_owned(),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            not_before: Timestamp::from_unix_seconds(certificate.validity().not_before.timestamp()),
            not_after: Timestamp::from_unix_seconds(certificate.validity().not_after.timestamp()),
            is_authority: certificate.is_ca(),
            subject_key_id: None,
            authority_key_id: None,
            public_key: certificate.public_key().raw.to_vec(),
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => details.take_names(&names.general_names),
                ParsedExtension::SubjectKeyIdentifier(id) => details.subject_key_id = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    details.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                _ => {}
            }
        }
        Ok(details)
    }

    /// Whether, and why, a certificate for `wanted` should be made in place of this one.
    pub fn needs_reissue(&self, wanted: &CertificateRequest, now: Timestamp) -> Option<ReissueReason> {
        let wanted_names: BTreeSet<_> = wanted.dns_names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let names: BTreeSet<_> = self.dns_names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let wanted_addresses: BTreeSet<_> = wanted.addresses.iter().collect();
        let addresses: BTreeSet<_> = self.addresses.iter().collect();
        if names != wanted_names || addresses != wanted_addresses || self.common_name != wanted.shortened_common_name()
        {
            return Some(ReissueReason::Names);
        }
        if now < self.not_before {
            return Some(ReissueReason::NotYetValid);
        }
        (self.renew_at() <= now).then_some(ReissueReason::Age)
    }

    /// When 80 % of its life will have passed.
    pub fn renew_at(&self) -> Timestamp {
        let life = u64::try_from(self.not_after.since(self.not_before).as_millis()).unwrap_or(u64::MAX);
        self.not_before.plus(Duration::from_millis(life / 100 * RENEW_AT_PERCENT))
    }

    fn take_names(&mut self, names: &[GeneralName<'_>]) {
        for name in names {
            match name {
                GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                    let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                    self.addresses.extend(v4.or(v6).ok());
                }
                _ => {}
            }
        }
    }
}

/// All certificates of a PEM text, in order; other sections are passed over.
///
/// # Errors
/// When a section is malformed.
pub fn pem_certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| PkiError::certificate("PEM text", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_certificate_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = CertificateDetails::from_der(&bytes);
        }

        #[test]
        fn any_text_is_pem_or_an_error(text in "(-----BEGIN CERTIFICATE-----\n)?.{0,80}\n(-----END CERTIFICATE-----)?") {
            let _ = CertificateDetails::from_pem(&text);
        }
    }
}
