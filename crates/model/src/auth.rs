//! Who vouches for whom: tokens as they were read, chains from a subject to its actor, and how somebody was authenticated.

use std::fmt;

use crate::{ClientId, Timestamp};

/// A shared access signature as it was transmitted, read but not checked.
#[derive(Clone, PartialEq, Eq)]
pub struct SasToken {
    /// The value of `sr`, percent-encoding and all, exactly as transmitted: the signature covers this spelling.
    pub resource: String,
    /// The value of `se` exactly as transmitted.
    pub expiry_text: String,
    /// `se` as a moment.
    pub expiry: Timestamp,
    /// The signature, decoded from percent-encoding and base64.
    pub signature: Vec<u8>,
    /// `skn`: the policy whose key signed; `None` when absent or empty.
    pub policy: Option<String>,
}

impl SasToken {
    /// The bytes that were signed: `sr`, a line feed, `se`.
    pub fn signed_text(&self) -> String {
        format!("{}\n{}", self.resource, self.expiry_text)
    }
}

impl fmt::Debug for SasToken {
    /// Without the signature, so that a log line can hold it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SasToken")
            .field("resource", &self.resource)
            .field("expiry", &self.expiry)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// How an identity proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthKind {
    /// Nothing of its own: a module that uses its device's credentials.
    None,
    /// Shared keys.
    Sas,
    /// A certificate known by its thumbprint.
    SelfSigned,
    /// A certificate of a registered authority.
    CertificateAuthority,
}

/// Whose credential was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthScope {
    /// The device's.
    Device,
    /// The module's.
    Module,
    /// A policy of the hub.
    Hub,
}

/// How a sender was authenticated; stamped on its messages (`iothub-connection-auth-method`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthMethod {
    /// Whose credential was used.
    pub scope: AuthScope,
    /// What kind of credential.
    pub kind: AuthKind,
}

impl AuthMethod {
    /// `{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}`: the value of the stamp.
    pub fn to_stamp(self) -> String {
        let scope = match self.scope {
            AuthScope::Device => "device",
            AuthScope::Module => "module",
            AuthScope::Hub => "hub",
        };
        let (kind, issuer) = match self.kind {
            AuthKind::None | AuthKind::Sas => ("sas", "iothub"),
            AuthKind::SelfSigned | AuthKind::CertificateAuthority => ("x509", "external"),
        };
        format!("{{\"scope\":\"{scope}\",\"type\":\"{kind}\",\"issuer\":\"{issuer}\",\"acceptingIpFilterRule\":null}}")
    }
}

/// From a subject to the edge hub that acts for it: `leaf;edge2;edge1`, subject first, actor's device last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthChain(Vec<ClientId>);

/// Longest chain that is taken: a leaf below this many levels of gateways minus one.
const CHAIN_LINKS_MAX: usize = 16;

/// Why a text is not an auth chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChain {
    /// A link is not an id.
    #[error("link {position} of the auth chain: {error}")]
    Link {
        /// Which link, from 1.
        position: usize,
        /// What is wrong with it.
        error: crate::InvalidId,
    },
    /// More than 16 links.
    #[error("an auth chain has at most 16 links, this one has {0}")]
    TooLong(usize),
}

impl AuthChain {
    /// Reads `subject;…;actor device`.
    ///
    /// # Errors
    /// When a link is not an id, or there are more than 16.
    pub fn parse(text: &str) -> Result<Self, InvalidChain> {
        let links: Vec<_> = text
            .split(';')
            .enumerate()
            .map(|(at, link)| ClientId::parse(link).map_err(|error| InvalidChain::Link { position: at + 1, error }))
            .collect::<Result<_, _>>()?;
        if links.len() > CHAIN_LINKS_MAX {
            return Err(InvalidChain::TooLong(links.len()));
        }
        Ok(Self(links))
    }

    /// The chain `subject;actor`.
    pub fn direct(subject: ClientId, actor: crate::DeviceId) -> Self {
        Self(vec![subject, ClientId::Device(actor)])
    }

    /// All links, subject first.
    pub fn links(&self) -> &[ClientId] {
        &self.0
    }

    /// On whose behalf.
    pub fn subject(&self) -> Option<&ClientId> {
        self.0.first()
    }

    /// The edge device whose hub acts.
    pub fn actor(&self) -> Option<&ClientId> {
        self.0.last()
    }
}

impl fmt::Display for AuthChain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, link) in self.0.iter().enumerate() {
            if at > 0 {
                out.write_str(";")?;
            }
            fmt::Display::fmt(link, out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_reads_what_it_writes() {
        let chain = AuthChain::parse("edge2/mod1;edge2;edge1").unwrap();
        assert_eq!(chain.to_string(), "edge2/mod1;edge2;edge1");
        assert_eq!(chain.subject().unwrap().to_string(), "edge2/mod1");
        assert_eq!(chain.actor().unwrap().to_string(), "edge1");
        assert!(matches!(AuthChain::parse("a;;b"), Err(InvalidChain::Link { position: 2, .. })));
        assert_eq!(AuthChain::parse(&vec!["a"; 17].join(";")), Err(InvalidChain::TooLong(17)));
    }
}
