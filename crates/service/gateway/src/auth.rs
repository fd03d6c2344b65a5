//! From what a peer shows to a [`Proof`]: everything about a credential that can be checked without knowing a key.

use std::time::Duration;

use skerry_dialect::sas;
use skerry_model::{AuthScope, ClientId, Denied, KeyPair, ModuleName, SasToken, Timestamp};
use skerry_pki::SymmetricKey;

use crate::{Claim, Credential, Proof, TokenSigner};

/// Checks form, resource and expiry of a token against what is claimed.
///
/// `hosts` are the names this hub answers to; `token` is the text as transmitted; `certificates` the peer's chain from the
/// TLS handshake. A token wins over a certificate.
///
/// # Errors
/// When the token is malformed, names somebody else or has expired by more than `clock_skew`, or nothing is shown.
pub fn proof(
    claim: Claim,
    token: Option<&str>,
    certificates: &[Vec<u8>],
    hosts: &[&str],
    now: Timestamp,
    clock_skew: Duration,
) -> Result<Proof, Denied> {
    let Some(text) = token else {
        if certificates.is_empty() {
            return Err(Denied::unauthorized("neither a token nor a client certificate was shown"));
        }
        return Ok(Proof { claim, credential: Credential::Certificate(certificates.to_vec()) });
    };
    let token = sas::parse(text).map_err(|error| Denied::unauthorized(format!("the token is malformed: {error}")))?;
    if token.expiry.plus(clock_skew) <= now {
        return Err(Denied::unauthorized(format!("the token expired at {}", token.expiry)));
    }
    let signed_by = signer(&claim, &token, hosts)?;
    Ok(Proof { claim, credential: Credential::Token { token, signed_by } })
}

/// Whether one of `keys` signed `token`; the comparison takes the same time wherever they differ.
pub fn signed_with(keys: &KeyPair, token: &SasToken) -> bool {
    [&keys.primary, &keys.secondary].into_iter().any(|key| {
        SymmetricKey::from_bytes(key.as_bytes().to_vec())
            .is_ok_and(|key| key.verify(token.signed_text().as_bytes(), &token.signature))
    })
}

fn signer(claim: &Claim, token: &SasToken, hosts: &[&str]) -> Result<TokenSigner, Denied> {
    let policy = || token.policy.clone().ok_or_else(|| Denied::unauthorized("the token names the hub but no policy"));
    let speaker = match claim {
        Claim::Policy => {
            return if sas::policy_covers(token, hosts, "/") {
                policy().map(TokenSigner::Policy)
            } else {
                Err(Denied::unauthorized(format!("the token's resource {:?} does not name this hub", token.resource)))
            };
        }
        Claim::Client(client) => client.clone(),
        Claim::OnBehalf { chain } => match chain.actor() {
            Some(ClientId::Device(device)) => device.module(ModuleName::edge_hub()).into(),
            _ => return Err(Denied::unauthorized("an auth chain ends in the id of an edge device")),
        },
    };
    match sas::resource_matches(token, hosts, &speaker) {
        Some(AuthScope::Device) => Ok(TokenSigner::Device),
        Some(AuthScope::Module) => Ok(TokenSigner::Module),
        Some(AuthScope::Hub) => policy().map(TokenSigner::Policy),
        None => Err(Denied::unauthorized(format!("the token's resource {:?} is not about {speaker}", token.resource))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_model::AuthChain;

    const HOSTS: &[&str] = &["hub.example"];

    fn check(claim: &str, resource: &str, now: i64) -> Result<TokenSigner, String> {
        let claim = match claim {
            "policy" => Claim::Policy,
            chain if chain.contains(';') => Claim::OnBehalf { chain: AuthChain::parse(chain).unwrap() },
            client => Claim::Client(ClientId::parse(client).unwrap()),
        };
        let token = format!("SharedAccessSignature sr={resource}&sig=c2ln&se=1000");
        let now = Timestamp::from_unix_seconds(now);
        match proof(claim, Some(&token), &[], HOSTS, now, Duration::from_secs(5)) {
            Ok(Proof { credential: Credential::Token { signed_by, .. }, .. }) => Ok(signed_by),
            Ok(other) => Err(format!("{other:?}")),
            Err(denied) => Err(denied.to_string()),
        }
    }

    #[test]
    fn the_signer_follows_from_claim_and_resource() {
        assert_eq!(check("d", "hub.example%2Fdevices%2Fd", 0), Ok(TokenSigner::Device));
        assert_eq!(check("d/m", "hub.example/devices/d/modules/m", 0), Ok(TokenSigner::Module));
        assert_eq!(check("d/m", "hub.example/devices/d", 0), Ok(TokenSigner::Device));
        assert_eq!(check("policy", "hub.example&skn=owner", 0), Ok(TokenSigner::Policy("owner".to_owned())));
        assert_eq!(check("leaf;edge", "hub.example/devices/edge/modules/%24edgeHub", 0), Ok(TokenSigner::Module));
    }

    #[test]
    fn a_token_about_somebody_else_is_refused_with_the_reason() {
        for (claim, resource) in [
            ("d", "hub.example/devices/e"),
            ("d", "other.example/devices/d"),
            ("leaf;edge", "hub.example/devices/leaf"),
            ("policy", "hub.example/devices/d"),
        ] {
            assert!(check(claim, resource, 0).unwrap_err().contains("resource"), "{claim} {resource}");
        }
    }

    #[test]
    fn expiry_is_checked_with_skew() {
        assert_eq!(check("d", "hub.example/devices/d", 1004), Ok(TokenSigner::Device));
        assert!(check("d", "hub.example/devices/d", 1005).unwrap_err().contains("expired at 1970-01-01T00:16:40"));
    }

    #[test]
    fn a_certificate_counts_only_without_a_token() {
        let claim = Claim::Client(ClientId::parse("d").unwrap());
        let shown = proof(claim.clone(), None, &[vec![1]], HOSTS, Timestamp::default(), Duration::ZERO);
        assert!(matches!(shown, Ok(Proof { credential: Credential::Certificate(_), .. })));
        assert!(proof(claim, None, &[], HOSTS, Timestamp::default(), Duration::ZERO).is_err());
    }
}
