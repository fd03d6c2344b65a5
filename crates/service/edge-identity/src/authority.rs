//! The edge's authority: issues the certificates of the edge hub and of modules, and says whom modules shall trust.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use skerry_model::{DeviceId, Timestamp};
use skerry_pki::{
    AuthoritySpec, CertificateAuthority, CertificateDetails, CertificateRequest, IssuedCertificate, PkiError, Random,
    ReissueReason, files,
};

use crate::{AuthoritySource, IdentityConfig, Lifetimes};

/// Issues certificates below the edge's authority.
///
/// Made here, it is an authority of some months below a root of some years: it can be renewed without anybody having to trust
/// something new, so no module needs a restart for it.
#[derive(Debug)]
pub struct EdgeAuthority {
    current: Mutex<Current>,
    extra_trust: String,
    lifetimes: Lifetimes,
}

#[derive(Debug)]
struct Current {
    authority: CertificateAuthority,
    /// The root above it; `None` when an operator gave the authority.
    own: Option<OwnRoot>,
}

#[derive(Debug)]
struct OwnRoot {
    root: CertificateAuthority,
    made: MadeHere,
}

#[derive(Debug, Clone)]
struct MadeHere {
    folder: PathBuf,
    device: DeviceId,
    random: Random,
}

impl EdgeAuthority {
    pub(crate) fn open(
        config: &IdentityConfig,
        device: &DeviceId,
        now: Timestamp,
        random: &Random,
    ) -> Result<Self, PkiError> {
        let extra_trust = match &config.extra_trust {
            None => String::new(),
            Some(path) => read_trust(path)?,
        };
        let current = match &config.authority {
            AuthoritySource::MadeHere => {
                let folder = config.data_folder.join("certificates");
                files::private_folder(&folder)?;
                MadeHere { folder, device: device.clone(), random: random.clone() }.load(&config.lifetimes, now)?
            }
            AuthoritySource::Files { certificate, key } => {
                let authority =
                    CertificateAuthority::load(certificate, key, random)?.ok_or_else(|| missing(certificate))?;
                Current { authority, own: None }
            }
        };
        Ok(Self { current: Mutex::new(current), extra_trust, lifetimes: config.lifetimes.clone() })
    }

    /// Issues a certificate to a module or the edge hub, for at most the configured life of module certificates.
    ///
    /// # Errors
    /// When a name cannot be written in a certificate, the authority has expired, or a new one cannot be written to disk.
    pub fn issue(&self, request: &CertificateRequest, now: Timestamp) -> Result<IssuedCertificate, PkiError> {
        let mut current = self.lock();
        current.renew_when_due(&self.lifetimes, now)?;
        current.authority.issue(request, now, self.lifetimes.module_certificate)
    }

    /// Whether, and why, the certificate `existing` should be made anew for `wanted`.
    pub fn needs_reissue(
        &self,
        existing: &CertificateDetails,
        wanted: &CertificateRequest,
        now: Timestamp,
    ) -> Option<ReissueReason> {
        let current = self.lock();
        match current.authority.needs_reissue(existing, wanted, now) {
            // The authority below the same root was renewed: what the one before issued is good until it ages.
            Some(ReissueReason::Issuer) if current.own.is_some() => existing.needs_reissue(wanted, now),
            reason => reason,
        }
    }

    /// PEM of what modules and leaf devices shall trust when they connect to the edge hub.
    pub fn trust_bundle(&self) -> String {
        let current = self.lock();
        let own = current.own.as_ref().map_or(&current.authority, |own| &own.root).chain_pem();
        format!("{own}{}", self.extra_trust)
    }

    /// When the authority's certificate expires.
    pub fn expires(&self) -> Timestamp {
        self.lock().authority.details().not_after
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn renew_when_due(&mut self, lifetimes: &Lifetimes, now: Timestamp) -> Result<(), PkiError> {
        let Some(OwnRoot { root, made }) = &self.own else { return Ok(()) };
        if !is_fresh(root, now) {
            tracing::warn!("the root of this edge is renewed: modules and leaf devices must fetch their trust again");
            *self = made.clone().make(lifetimes, now)?;
        } else if !is_fresh(&self.authority, now) {
            tracing::info!("the authority of this edge is renewed");
            self.authority = made.make_below(root, lifetimes, now)?;
        }
        Ok(())
    }
}

impl MadeHere {
    fn load(self, lifetimes: &Lifetimes, now: Timestamp) -> Result<Current, PkiError> {
        let (root_chain, root_key) = self.paths("root");
        let root = CertificateAuthority::load_or_create(
            &root_chain,
            &root_key,
            &self.root_spec(lifetimes),
            now,
            &self.random,
        )?;
        if !is_fresh(&root, now) {
            return self.make(lifetimes, now);
        }
        let (chain, key) = self.paths("edge-ca");
        // One that cannot be read, or is another root's, is the trace of a crash while it was written: nothing hangs on it.
        let loaded = CertificateAuthority::load(&chain, &key, &self.random).ok().flatten();
        let usable = loaded.filter(|authority| {
            is_fresh(authority, now) && authority.details().authority_key_id == root.details().subject_key_id
        });
        let authority = match usable {
            Some(authority) => authority,
            None => self.make_below(&root, lifetimes, now)?,
        };
        Ok(Current { authority, own: Some(OwnRoot { root, made: self }) })
    }

    fn make(self, lifetimes: &Lifetimes, now: Timestamp) -> Result<Current, PkiError> {
        let root = CertificateAuthority::create(&self.root_spec(lifetimes), now, &self.random)?;
        let (chain, key) = self.paths("root");
        root.save(&chain, &key)?;
        let authority = self.make_below(&root, lifetimes, now)?;
        Ok(Current { authority, own: Some(OwnRoot { root, made: self }) })
    }

    fn make_below(
        &self,
        root: &CertificateAuthority,
        lifetimes: &Lifetimes,
        now: Timestamp,
    ) -> Result<CertificateAuthority, PkiError> {
        let spec = AuthoritySpec {
            common_name: format!("Skerry edge CA {}", self.device),
            lifetime: lifetimes.authority,
            path_length: Some(0),
        };
        let authority = root.create_below(&spec, now)?;
        let (chain, key) = self.paths("edge-ca");
        authority.save(&chain, &key)?;
        Ok(authority)
    }

    fn root_spec(&self, lifetimes: &Lifetimes) -> AuthoritySpec {
        AuthoritySpec {
            common_name: format!("Skerry edge root {}", self.device),
            lifetime: lifetimes.root,
            path_length: Some(1),
        }
    }

    fn paths(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}.key.pem")))
    }
}

/// A clock that was wrong when the certificate was made leaves one that is not valid yet, or too soon not any more.
fn is_fresh(authority: &CertificateAuthority, now: Timestamp) -> bool {
    authority.details().not_before <= now && now < authority.details().renew_at()
}

fn read_trust(path: &Path) -> Result<String, PkiError> {
    let text = files::read_text(path)?.ok_or_else(|| missing(path))?;
    if skerry_pki::pem_certificates(&text)?.is_empty() {
        return Err(PkiError::Certificate {
            subject: path.display().to_string(),
            reason: "the file holds no certificate".to_owned(),
        });
    }
    Ok(format!("{}\n", text.trim_end()))
}

fn missing(path: &Path) -> PkiError {
    PkiError::Certificate { subject: path.display().to_string(), reason: "the file is missing".to_owned() }
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
