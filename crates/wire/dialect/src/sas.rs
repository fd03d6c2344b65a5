//! Shared access signatures: reading a token, which identity its resource names, and writing one around a signature.
//!
//! Source: `device-identity-and-auth` §3. The signature covers `sr` and `se` exactly as transmitted, so both stay untouched here;
//! who holds the keys compares signatures.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use skerry_model::{AuthScope, ClientId, SasToken, Timestamp};

use crate::percent;

/// The word before the fields.
const SCHEME: &str = "SharedAccessSignature";

/// Base64 as clients write it: padding may be missing.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a text is not a token. Never holds a part of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It does not begin with `SharedAccessSignature` and white space.
    #[error("a token begins with the word SharedAccessSignature")]
    Scheme,
    /// A field is not of the form `key=value`.
    #[error("a field of the token has no value")]
    Field,
    /// A field occurs twice.
    #[error("field `{0}` of the token occurs twice")]
    Twice(&'static str),
    /// A required field is missing or empty.
    #[error("field `{0}` of the token is missing")]
    Missing(&'static str),
    /// `se` is not a number.
    #[error("field `se` of the token is not a number of seconds")]
    Expiry,
    /// `sig` is not base64.
    #[error("field `sig` of the token is not base64")]
    Signature,
}

/// Reads a token. The order of fields and the case of their names are free; unknown fields are ignored.
///
/// # Errors
/// When the text does not have the form of a token.
pub fn parse(text: &str) -> Result<SasToken, BadToken> {
    let text = text.trim();
    let (scheme, fields) = text.split_once(|c: char| c.is_ascii_whitespace()).ok_or(BadToken::Scheme)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(BadToken::Scheme);
    }
    let fields = Fields::split(fields.trim_start())?;
    let resource = fields.resource.filter(|text| !text.is_empty()).ok_or(BadToken::Missing("sr"))?;
    let signature = fields.signature.filter(|text| !text.is_empty()).ok_or(BadToken::Missing("sig"))?;
    let expiry_text = fields.expiry.filter(|text| !text.is_empty()).ok_or(BadToken::Missing("se"))?;
    Ok(SasToken {
        resource: resource.to_owned(),
        expiry_text: expiry_text.to_owned(),
        expiry: expiry(expiry_text)?,
        signature: LENIENT
            .decode(percent_decode_str(signature).collect::<Vec<u8>>())
            .map_err(|_| BadToken::Signature)?,
        policy: fields.policy.map(|text| percent::decode(text).into_owned()).filter(|name| !name.is_empty()),
    })
}

#[derive(Default)]
struct Fields<'a> {
    resource: Option<&'a str>,
    signature: Option<&'a str>,
    expiry: Option<&'a str>,
    policy: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn split(text: &'a str) -> Result<Self, BadToken> {
        let mut fields = Self::default();
        for field in text.split('&') {
            let (key, value) = field.split_once('=').ok_or(BadToken::Field)?;
            let (name, place) = match () {
                () if key.eq_ignore_ascii_case("sr") => ("sr", &mut fields.resource),
                () if key.eq_ignore_ascii_case("sig") => ("sig", &mut fields.signature),
                () if key.eq_ignore_ascii_case("se") => ("se", &mut fields.expiry),
                () if key.eq_ignore_ascii_case("skn") => ("skn", &mut fields.policy),
                () => continue,
            };
            if place.replace(value).is_some() {
                return Err(BadToken::Twice(name));
            }
        }
        Ok(fields)
    }
}

/// Seconds since 1970; the platform's edge hub reads a floating-point number, so a decimal point is taken too.
fn expiry(text: &str) -> Result<Timestamp, BadToken> {
    let seconds: f64 = percent::decode(text).parse().map_err(|_| BadToken::Expiry)?;
    if !seconds.is_finite() {
        return Err(BadToken::Expiry);
    }
    // `as` saturates, and the timestamp clamps to the year 9999: tokens that live for thousands of years exist.
    #[expect(clippy::cast_possible_truncation, reason = "saturating is what is wanted")]
    Ok(Timestamp::from_unix_millis((seconds * 1000.0) as i64))
}

/// Whose credential the token is, when its resource covers `client`: the device's, the module's, or a policy's of the hub.
///
/// `hosts` are the names this server answers to, without port. Hosts and ids are compared without regard to case, because some
/// tools lower-case both before they sign; nothing is gained by that, since the key of the identity that connects is what counts.
/// A device's token covers its modules: whether that is allowed is decided by who knows the module (`AuthScope::Device` for a
/// module is the sign). A segment is compared after one decoding and, because some clients encode twice, after a second one.
pub fn resource_matches(token: &SasToken, hosts: &[&str], client: &ClientId) -> Option<AuthScope> {
    let resource = percent::decode(&token.resource);
    let mut segments = resource.split('/');
    let host = segments.next()?;
    if !hosts.iter().any(|name| same_host(host, name)) {
        return None;
    }
    let named = match (segments.next(), segments.next()) {
        (None | Some(""), None) => Named::Hub,
        (Some(word), Some(device))
            if word.eq_ignore_ascii_case("devices") && same_id(device, client.device().as_str()) =>
        {
            below_device(segments, client)?
        }
        _ => return None,
    };
    match (&token.policy, named) {
        (Some(_), _) => Some(AuthScope::Hub),
        (None, Named::Hub) => None,
        (None, Named::Device) => Some(AuthScope::Device),
        (None, Named::Module) => Some(AuthScope::Module),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Hub,
    Device,
    Module,
}

/// What the path behind the device's id names. What follows an identity is ignored: an editor's tool appends the API version.
fn below_device<'a>(mut segments: impl Iterator<Item = &'a str>, client: &ClientId) -> Option<Named> {
    match segments.next() {
        Some(word) if word.eq_ignore_ascii_case("modules") => {
            let named = segments.next()?;
            let own = client.module()?;
            same_id(named, own.as_str()).then_some(Named::Module)
        }
        Some(_) | None => Some(Named::Device),
    }
}

/// Whether a token of a hub policy covers `path` (`/devices/d1`, `/`) at one of `hosts`: its resource is the host, or the path's
/// beginning in whole segments. Tokens without a policy never do.
pub fn policy_covers(token: &SasToken, hosts: &[&str], path: &str) -> bool {
    if token.policy.is_none() {
        return false;
    }
    let resource = percent::decode(&token.resource);
    let mut segments = resource.trim_end_matches('/').split('/');
    if !segments.next().is_some_and(|host| hosts.iter().any(|name| same_host(host, name))) {
        return false;
    }
    let mut asked = path.split('/').filter(|segment| !segment.is_empty());
    segments.all(|segment| asked.next().is_some_and(|asked| same_id(segment, asked)))
}

fn same_host(named: &str, own: &str) -> bool {
    let without_port = match named.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => named,
    };
    without_port.eq_ignore_ascii_case(own) || named.eq_ignore_ascii_case(own)
}

fn same_id(named: &str, own: &str) -> bool {
    named.eq_ignore_ascii_case(own) || percent::decode(named).eq_ignore_ascii_case(own)
}

/// A token that lacks only its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    resource: String,
    expiry: Timestamp,
    policy: Option<String>,
}

impl Unsigned {
    /// A token of `client`'s own key; `host` is the hub's name.
    pub fn for_client(host: &str, client: &ClientId, expiry: Timestamp) -> Self {
        let resource = match client {
            ClientId::Device(device) => format!("{host}/devices/{device}"),
            ClientId::Module(module) => format!("{host}/devices/{}/modules/{}", module.device, module.name),
        };
        Self { resource: percent::encode(&resource), expiry, policy: None }
    }

    /// A token of the hub policy `policy`; `host` is the hub's name.
    pub fn for_policy(host: &str, policy: &str, expiry: Timestamp) -> Self {
        Self { resource: percent::encode(host), expiry, policy: Some(policy.to_owned()) }
    }

    /// What HMAC-SHA256 is to be made over.
    pub fn signed_text(&self) -> String {
        format!("{}\n{}", self.resource, self.expiry.unix_seconds())
    }

    /// The complete token.
    pub fn finish(&self, signature: &[u8]) -> String {
        let signature = percent::encode(&STANDARD.encode(signature));
        let mut text = format!("{SCHEME} sr={}&sig={signature}&se={}", self.resource, self.expiry.unix_seconds());
        if let Some(policy) = &self.policy {
            text.push_str("&skn=");
            text.push_str(&percent::encode(policy));
        }
        text
    }
}

#[cfg(test)]
mod tests;
