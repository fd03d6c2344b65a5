//! The `authentication` member of devices and modules.

use serde_json::json;
use skerry_model::{
    Authentication, AuthenticationDraft, Json, KeyPair, RequestError, SharedKey, Thumbprint, json::JsonObject,
};

use crate::body::{invalid, member, text};

/// How an identity proves itself, keys included.
pub(super) fn body(authentication: &Authentication) -> Json {
    match authentication {
        Authentication::None => written("none", [None; 2], [None; 2]),
        Authentication::CertificateAuthority => written("certificateAuthority", [None; 2], [None; 2]),
        Authentication::Sas(KeyPair { primary, secondary }) => {
            written("sas", [Some(primary), Some(secondary)], [None; 2])
        }
        Authentication::SelfSigned { primary, secondary } => {
            written("selfSigned", [None; 2], [Some(primary), secondary.as_ref()])
        }
    }
}

/// How an identity shall prove itself; keys that are to be made are left empty.
pub(super) fn draft_body(draft: &AuthenticationDraft) -> Json {
    match draft {
        AuthenticationDraft::None => written("none", [None; 2], [None; 2]),
        AuthenticationDraft::CertificateAuthority => written("certificateAuthority", [None; 2], [None; 2]),
        AuthenticationDraft::Sas { primary, secondary } => {
            written("sas", [primary.as_ref(), secondary.as_ref()], [None; 2])
        }
        AuthenticationDraft::SelfSigned { primary, secondary } => {
            written("selfSigned", [None; 2], [Some(primary), secondary.as_ref()])
        }
    }
}

fn written(kind: &str, keys: [Option<&SharedKey>; 2], thumbprints: [Option<&Thumbprint>; 2]) -> Json {
    let [primary_key, secondary_key] = keys.map(|key| key.map(SharedKey::to_base64));
    let [primary, secondary] = thumbprints.map(|thumbprint| thumbprint.map(Thumbprint::as_str));
    json!({
        "symmetricKey": { "primaryKey": primary_key, "secondaryKey": secondary_key },
        "x509Thumbprint": { "primaryThumbprint": primary, "secondaryThumbprint": secondary },
        "type": kind,
    })
}

/// Reads what is wanted. Without a type, thumbprints mean a certificate and everything else keys; empty keys are to be made.
pub(super) fn draft(identity: &JsonObject) -> Result<AuthenticationDraft, RequestError> {
    let nothing = JsonObject::new();
    let authentication = member(identity, "authentication")?.unwrap_or(&nothing);
    let keys = member(authentication, "symmetricKey")?.unwrap_or(&nothing);
    let thumbprints = member(authentication, "x509Thumbprint")?.unwrap_or(&nothing);
    let primary = thumbprint(thumbprints, "primaryThumbprint")?;
    let secondary = thumbprint(thumbprints, "secondaryThumbprint")?;
    // The identity service of edge devices has a spelling of its own for the type.
    let kind = match text(authentication, "type")? {
        Some(kind) => Some(kind),
        None => text(authentication, "type_")?,
    };
    let is = |word: &str| kind.is_some_and(|kind| kind.eq_ignore_ascii_case(word));
    if is("none") {
        return Ok(AuthenticationDraft::None);
    }
    if is("certificateAuthority") {
        return Ok(AuthenticationDraft::CertificateAuthority);
    }
    if is("selfSigned") || (kind.is_none() && primary.is_some()) {
        let primary = primary.ok_or_else(|| invalid("`primaryThumbprint` is missing"))?;
        return Ok(AuthenticationDraft::SelfSigned { primary, secondary });
    }
    if kind.is_none() || is("sas") {
        return Ok(AuthenticationDraft::Sas {
            primary: key(keys, "primaryKey")?,
            secondary: key(keys, "secondaryKey")?,
        });
    }
    Err(invalid("`authentication.type` is none of `sas`, `selfSigned`, `certificateAuthority` and `none`"))
}

fn key(keys: &JsonObject, name: &str) -> Result<Option<SharedKey>, RequestError> {
    match text(keys, name)? {
        None | Some("") => Ok(None),
        Some(key) => SharedKey::from_base64(key).map(Some).map_err(|error| invalid(format!("`{name}`: {error}"))),
    }
}

fn thumbprint(thumbprints: &JsonObject, name: &str) -> Result<Option<Thumbprint>, RequestError> {
    match text(thumbprints, name)? {
        None | Some("") => Ok(None),
        Some(digits) => Thumbprint::parse(digits).map(Some).map_err(|error| invalid(format!("`{name}`: {error}"))),
    }
}

/// Reads what is. An identity that is said to have keys but shows none is an error: nothing could be checked with it.
pub(super) fn read(identity: &JsonObject) -> Result<Authentication, RequestError> {
    Ok(match draft(identity)? {
        AuthenticationDraft::None => Authentication::None,
        AuthenticationDraft::CertificateAuthority => Authentication::CertificateAuthority,
        AuthenticationDraft::SelfSigned { primary, secondary } => Authentication::SelfSigned { primary, secondary },
        AuthenticationDraft::Sas { primary: Some(primary), secondary } => {
            let secondary = secondary.unwrap_or_else(|| primary.clone());
            Authentication::Sas(KeyPair { primary, secondary })
        }
        AuthenticationDraft::Sas { primary: None, .. } => return Err(invalid("`primaryKey` is missing")),
    })
}
