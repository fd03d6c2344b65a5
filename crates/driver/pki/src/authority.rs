//! An authority that issues certificates: a root, or one below another; made here or read from an operator's files.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use skerry_model::Timestamp;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{CertificateDetails, PkiError, Random, ReissueReason, files};

/// Longest common name X.509 allows, in characters; longer ones are cut (`edge-identity-and-provisioning` §4).
const COMMON_NAME_CHARS_MAX: usize = 64;
/// A new certificate is valid this long before it was made, for peers whose clock is behind.
const BACKDATE: Duration = Duration::from_secs(300);

/// What an authority shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthoritySpec {
    /// Common name; cut at 64 characters.
    pub common_name: String,
    /// How long it is valid.
    pub lifetime: Duration,
    /// How many authorities may stand between it and what is issued in the end; `None`: any number.
    pub path_length: Option<u8>,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A TLS server.
    Server,
    /// A TLS client.
    Client,
}

/// What a certificate shall say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    /// What it is for.
    pub purpose: Purpose,
    /// Common name; cut at 64 characters.
    pub common_name: String,
    /// Host names.
    pub dns_names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// URIs that name the subject.
    pub uris: Vec<String>,
}

impl CertificateRequest {
    /// For a TLS server known by `names`: each is a host name or an address; the first is the common name too.
    pub fn server<I: IntoIterator<Item: Into<String>>>(names: I) -> Self {
        let mut request = Self {
            purpose: Purpose::Server,
            common_name: String::new(),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            uris: Vec::new(),
        };
        for name in names {
            let name = name.into();
            if request.common_name.is_empty() {
                request.common_name.clone_from(&name);
            }
            match name.parse::<IpAddr>() {
                Ok(address) if request.addresses.contains(&address) => {}
                Ok(address) => request.addresses.push(address),
                Err(_) if request.dns_names.iter().any(|known| known.eq_ignore_ascii_case(&name)) => {}
                Err(_) => request.dns_names.push(name),
            }
        }
        request
    }

    /// For a TLS client called `common_name`.
    pub fn client(common_name: impl Into<String>) -> Self {
        Self {
            purpose: Purpose::Client,
            common_name: common_name.into(),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            uris: Vec::new(),
        }
    }

    pub(crate) fn shortened_common_name(&self) -> String {
        shortened(&self.common_name)
    }
}

/// A new certificate with its key.
#[derive(Clone)]
pub struct IssuedCertificate {
    /// PEM: the certificate, its issuer, and so on up to the root.
    pub chain_pem: String,
    /// PEM (PKCS#8) of the private key.
    pub key_pem: Zeroizing<String>,
    /// What is inside.
    pub details: CertificateDetails,
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("IssuedCertificate").field("details", &self.details).finish_non_exhaustive()
    }
}

/// An authority with its private key. All keys made here are P-256.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    details: CertificateDetails,
    chain_pem: String,
    random: Random,
}

impl CertificateAuthority {
    /// A new self-signed authority.
    ///
    /// # Errors
    /// When the names cannot be written in a certificate.
    pub fn create(spec: &AuthoritySpec, now: Timestamp, random: &Random) -> Result<Self, PkiError> {
        Self::self_signed(spec, new_key(&spec.common_name)?, now, random)
    }

    fn self_signed(spec: &AuthoritySpec, key: KeyPair, now: Timestamp, random: &Random) -> Result<Self, PkiError> {
        let params = authority_params(spec, now.minus(BACKDATE), now.plus(spec.lifetime), random);
        let certificate = params.self_signed(&key).map_err(|error| PkiError::certificate(&spec.common_name, error))?;
        Self::with_key(certificate.pem(), key, random)
    }

    /// A new authority below this one, not valid longer than it.
    ///
    /// # Errors
    /// When the names cannot be written in a certificate.
    pub fn create_below(&self, spec: &AuthoritySpec, now: Timestamp) -> Result<Self, PkiError> {
        let key = new_key(&spec.common_name)?;
        let mut params =
            authority_params(spec, now.minus(BACKDATE), self.capped(now.plus(spec.lifetime)), &self.random);
        params.use_authority_key_identifier_extension = true;
        let certificate =
            params.signed_by(&key, &self.issuer).map_err(|error| PkiError::certificate(&spec.common_name, error))?;
        Self::with_key(certificate.pem() + &self.chain_pem, key, &self.random)
    }

    /// Reads an authority from PEM: its certificate first, then those above it; and its private key (PKCS#8).
    ///
    /// # Errors
    /// When either is malformed, the certificate is not an authority's, or the key is not its key.
    pub fn from_pem(chain_pem: &str, key_pem: &str, random: &Random) -> Result<Self, PkiError> {
        let name = CertificateDetails::from_pem(chain_pem)?.common_name;
        let key = KeyPair::from_pem(key_pem).map_err(|error| PkiError::certificate(&name, format!("key: {error}")))?;
        Self::with_key(chain_pem.to_owned(), key, random)
    }

    /// Reads the authority from its two files; `None` when neither exists.
    ///
    /// # Errors
    /// When one cannot be read, only one exists, or as in [`Self::from_pem`].
    pub fn load(chain_path: &Path, key_path: &Path, random: &Random) -> Result<Option<Self>, PkiError> {
        match (files::read_text(chain_path)?, files::read_text(key_path)?) {
            (None, None) => Ok(None),
            (Some(chain), Some(key)) => Self::from_pem(&chain, &key, random).map(Some),
            (None, Some(_)) => Err(gone(chain_path)),
            (Some(_), None) => Err(PkiError::key(&key_path.display().to_string(), "the file is missing")),
        }
    }

    /// Reads the authority from its two files, or makes it and writes them.
    ///
    /// # Errors
    /// When a file cannot be read or written, or as in [`Self::from_pem`].
    pub fn load_or_create(
        chain_path: &Path,
        key_path: &Path,
        spec: &AuthoritySpec,
        now: Timestamp,
        random: &Random,
    ) -> Result<Self, PkiError> {
        let made = match (files::read_text(chain_path)?, files::read_text(key_path)?) {
            // The key is written first: a key alone is the trace of a crash between the two.
            (None, Some(key)) => {
                let key = KeyPair::from_pem(&key).map_err(|error| PkiError::certificate(&spec.common_name, error))?;
                Self::self_signed(spec, key, now, random)?
            }
            (None, None) => Self::create(spec, now, random)?,
            (Some(_), _) => return Self::load(chain_path, key_path, random)?.ok_or_else(|| gone(chain_path)),
        };
        made.save(chain_path, key_path)?;
        Ok(made)
    }

    /// Writes the key (mode 0600), then the chain.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, chain_path: &Path, key_path: &Path) -> Result<(), PkiError> {
        files::write_private(key_path, Zeroizing::new(self.issuer.key().serialize_pem()).as_bytes())?;
        files::write_public(chain_path, self.chain_pem.as_bytes())
    }

    /// Issues a certificate with a new key, valid for `lifetime` but not longer than this authority.
    ///
    /// # Errors
    /// When a name cannot be written in a certificate, or this authority has expired.
    pub fn issue(
        &self,
        request: &CertificateRequest,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<IssuedCertificate, PkiError> {
        if self.details.not_after <= now {
            return Err(PkiError::certificate(&self.details.common_name, "has expired, so it can issue nothing"));
        }
        let wrong = |error| PkiError::certificate(&request.common_name, error);
        let key = new_key(&request.common_name)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&request.common_name);
        params.subject_alt_names = alternative_names(request).map_err(wrong)?;
        params.not_before = moment(now.minus(BACKDATE));
        params.not_after = moment(self.capped(now.plus(lifetime)));
        params.serial_number = Some(serial(&self.random));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match request.purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(wrong)?;
        let details = CertificateDetails::from_der(certificate.der())?;
        Ok(IssuedCertificate {
            chain_pem: certificate.pem() + &self.chain_pem,
            key_pem: Zeroizing::new(key.serialize_pem()),
            details,
        })
    }

    /// Whether, and why, the certificate `existing` should be made anew for `wanted`.
    pub fn needs_reissue(
        &self,
        existing: &CertificateDetails,
        wanted: &CertificateRequest,
        now: Timestamp,
    ) -> Option<ReissueReason> {
        if existing.authority_key_id != self.details.subject_key_id {
            return Some(ReissueReason::Issuer);
        }
        existing.needs_reissue(wanted, now)
    }

    /// What the authority's certificate says.
    pub fn details(&self) -> &CertificateDetails {
        &self.details
    }

    /// PEM: the authority's certificate, its issuer, and so on.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    fn with_key(chain_pem: String, key: KeyPair, random: &Random) -> Result<Self, PkiError> {
        let details = CertificateDetails::from_pem(&chain_pem)?;
        let wrong = |reason: &str| PkiError::certificate(&details.common_name, reason);
        if !details.is_authority {
            return Err(wrong("is not the certificate of an authority"));
        }
        if details.public_key != key.subject_public_key_info() {
            return Err(wrong("does not belong to the given private key"));
        }
        let issuer = Issuer::from_ca_cert_pem(&chain_pem, key)
            .map_err(|error| PkiError::certificate(&details.common_name, error))?;
        let mut chain_pem = chain_pem;
        if !chain_pem.ends_with('\n') {
            chain_pem.push('\n');
        }
        Ok(Self { issuer, details, chain_pem, random: random.clone() })
    }

    fn capped(&self, end: Timestamp) -> Timestamp {
        end.min(self.details.not_after)
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("CertificateAuthority").field("details", &self.details).finish_non_exhaustive()
    }
}

fn gone(path: &Path) -> PkiError {
    PkiError::certificate(&path.display().to_string(), "the file is missing")
}

fn new_key(subject: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(|error| PkiError::certificate(subject, error))
}

fn authority_params(spec: &AuthoritySpec, begin: Timestamp, end: Timestamp, random: &Random) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&spec.common_name);
    params.not_before = moment(begin);
    params.not_after = moment(end);
    params.serial_number = Some(serial(random));
    params.is_ca = IsCa::Ca(spec.path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, shortened(common_name));
    name
}

fn shortened(common_name: &str) -> String {
    common_name.chars().take(COMMON_NAME_CHARS_MAX).collect()
}

fn alternative_names(request: &CertificateRequest) -> Result<Vec<SanType>, rcgen::Error> {
    let mut names = Vec::new();
    for name in &request.dns_names {
        names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    names.extend(request.addresses.iter().map(|address| SanType::IpAddress(*address)));
    for uri in &request.uris {
        names.push(SanType::URI(uri.as_str().try_into()?));
    }
    Ok(names)
}

/// 16 random bytes, positive and without a leading zero.
fn serial(random: &Random) -> SerialNumber {
    let mut bytes: [u8; 16] = random.bytes();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn moment(at: Timestamp) -> OffsetDateTime {
    // A timestamp is always within the years 0 to 9999, which `time` can hold.
    OffsetDateTime::from_unix_timestamp(at.unix_seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
