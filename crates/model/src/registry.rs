//! What the registry knows about devices and modules: who they are, how they prove it, and below which gateway they stand.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use crate::{AuthKind, DeviceId, ModuleId, Timestamp};

/// Shortest shared key, in bytes.
const KEY_BYTES_MIN: usize = 16;
/// Longest shared key, in bytes.
const KEY_BYTES_MAX: usize = 64;
/// Longest `statusReason`, in characters.
pub const STATUS_REASON_CHARS_MAX: usize = 128;
/// Takes base64 with and without padding: connection strings have both (`edge-identity-and-provisioning` §2).
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// What the scope of an edge device begins with.
const SCOPE_PREFIX: &str = "ms-azure-iot-edge://";

/// A secret shared between an identity and its hub: 16 to 64 bytes, written in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey(Arc<[u8]>);

/// Why something is not a shared key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not base64.
    #[error("a shared key is written in base64")]
    NotBase64,
    /// Fewer than 16 or more than 64 bytes.
    #[error("a shared key has 16 to 64 bytes, this one has {0}")]
    Length(usize),
}

impl SharedKey {
    /// Takes the key's bytes.
    ///
    /// # Errors
    /// When there are fewer than 16 or more than 64.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        if (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&bytes.len()) {
            Ok(Self(Arc::from(bytes)))
        } else {
            Err(InvalidKey::Length(bytes.len()))
        }
    }

    /// Reads the key from base64, with or without padding.
    ///
    /// # Errors
    /// When it is not base64, or has fewer than 16 or more than 64 bytes.
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let bytes = LENIENT.decode(text.trim()).map_err(|_| InvalidKey::NotBase64)?;
        Self::from_bytes(&bytes)
    }

    /// The key as base64 with padding; not for logs.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.0)
    }

    /// The key's bytes, as the signature function takes them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SharedKey(..)")
    }
}

/// Two shared keys, so that one can be replaced while the other is in use. Either validates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// Tried first.
    pub primary: SharedKey,
    /// Tried second.
    pub secondary: SharedKey,
}

/// The digest of a certificate: 40 (SHA-1) or 64 (SHA-256) hex digits; compared without regard to case.
#[derive(Debug, Clone)]
pub struct Thumbprint(Arc<str>);

/// The text is not 40 or 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a thumbprint has 40 or 64 hex digits and nothing else")]
pub struct InvalidThumbprint;

impl Thumbprint {
    /// Checks and takes a thumbprint.
    ///
    /// # Errors
    /// When it is not 40 or 64 hex digits.
    pub fn parse(text: &str) -> Result<Self, InvalidThumbprint> {
        let digits = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if digits { Ok(Self(Arc::from(text))) } else { Err(InvalidThumbprint) }
    }

    /// The digits as they were given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Thumbprint {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Thumbprint {}

/// How an identity proves itself, with what is needed to check it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// No credential of its own: a module that uses its device's.
    None,
    /// Shared keys.
    Sas(KeyPair),
    /// A certificate known by its thumbprint.
    SelfSigned {
        /// The certificate in use.
        primary: Thumbprint,
        /// The one to come, or the one before.
        secondary: Option<Thumbprint>,
    },
    /// A certificate of a registered authority.
    CertificateAuthority,
}

impl Authentication {
    /// Which kind it is.
    pub const fn kind(&self) -> AuthKind {
        match self {
            Self::None => AuthKind::None,
            Self::Sas(_) => AuthKind::Sas,
            Self::SelfSigned { .. } => AuthKind::SelfSigned,
            Self::CertificateAuthority => AuthKind::CertificateAuthority,
        }
    }

    /// The shared keys; `None` for every other kind.
    pub const fn keys(&self) -> Option<&KeyPair> {
        match self {
            Self::Sas(keys) => Some(keys),
            Self::None | Self::SelfSigned { .. } | Self::CertificateAuthority => None,
        }
    }
}

/// How an identity shall prove itself, as an operator asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthenticationDraft {
    /// No credential of its own.
    None,
    /// Shared keys. One that is missing is kept on an update, and made by the registry otherwise.
    Sas {
        /// The primary key.
        primary: Option<SharedKey>,
        /// The secondary key.
        secondary: Option<SharedKey>,
    },
    /// A certificate known by its thumbprint.
    SelfSigned {
        /// The certificate in use.
        primary: Thumbprint,
        /// The one to come, or the one before.
        secondary: Option<Thumbprint>,
    },
    /// A certificate of a registered authority.
    CertificateAuthority,
}

impl AuthenticationDraft {
    /// Shared keys that the registry makes.
    pub const fn generated_keys() -> Self {
        Self::Sas { primary: None, secondary: None }
    }
}

/// Whether a device may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceStatus {
    /// It may.
    #[default]
    Enabled,
    /// It may not, and neither may its modules; what is connected is closed.
    Disabled,
}

impl DeviceStatus {
    /// The wire's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

/// Whether somebody is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ConnectionState {
    /// Connected over MQTT or AMQP.
    Connected,
    /// Not connected.
    #[default]
    Disconnected,
}

impl ConnectionState {
    /// The wire's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "Connected",
            Self::Disconnected => "Disconnected",
        }
    }
}

/// The scope an edge device opens for those below it: `ms-azure-iot-edge://{device}-{generation}`.
///
/// A scope that names no device is a value too: the registry takes what operators write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EdgeScope(Arc<str>);

impl EdgeScope {
    /// The scope that `device` opens in its generation `generation`.
    pub fn of(device: &DeviceId, generation: &str) -> Self {
        Self(Arc::from(format!("{SCOPE_PREFIX}{device}-{generation}")))
    }

    /// Takes a scope's text; `None` when it is empty.
    pub fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(Arc::from(text)))
    }

    /// The scope as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The device that opens this scope: what stands before the last dash, as the platform's own tools read it.
    pub fn device(&self) -> Option<DeviceId> {
        let (device, _generation) = self.0.strip_prefix(SCOPE_PREFIX)?.rsplit_once('-')?;
        DeviceId::parse(device).ok()
    }
}

impl fmt::Display for EdgeScope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A device in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Its id.
    pub id: DeviceId,
    /// Made new whenever an id is created; digits.
    pub generation: Arc<str>,
    /// Changes with every change of the identity; opaque, without quotes.
    pub etag: String,
    /// Whether it may connect.
    pub status: DeviceStatus,
    /// Why, in the operator's words; at most 128 characters.
    pub status_reason: Option<String>,
    /// When the status last changed.
    pub status_updated: Option<Timestamp>,
    /// How it proves itself.
    pub authentication: Authentication,
    /// It runs modules and is a gateway.
    pub iot_edge: bool,
    /// The scope of the gateway it stands below.
    pub parent: Option<EdgeScope>,
    /// Whether it is connected; only ever told, never written.
    pub activity: Activity,
}

impl DeviceRecord {
    /// The scope it opens itself; `None` unless it is an edge device.
    pub fn own_scope(&self) -> Option<EdgeScope> {
        self.iot_edge.then(|| EdgeScope::of(&self.id, &self.generation))
    }
}

/// A module in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleRecord {
    /// Its id.
    pub id: ModuleId,
    /// Made new whenever an id is created; digits.
    pub generation: Arc<str>,
    /// Changes with every change of the identity; opaque, without quotes.
    pub etag: String,
    /// Who looks after it: `iotEdge` for modules of a deployment; may be empty.
    pub managed_by: String,
    /// How it proves itself.
    pub authentication: Authentication,
    /// Whether it is connected; only ever told, never written.
    pub activity: Activity,
}

/// What an identity has been doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// Whether it is connected.
    pub state: ConnectionState,
    /// When that last changed.
    pub state_updated: Option<Timestamp>,
    /// Last connect, or message sent or received.
    pub last: Option<Timestamp>,
    /// Cloud-to-device messages that wait for it.
    pub commands_waiting: u32,
}

/// A device as an operator asks for it. A full document: what is left out takes its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceDraft {
    /// Its id.
    pub id: DeviceId,
    /// Whether it may connect.
    pub status: DeviceStatus,
    /// Why, in the operator's words; at most 128 characters.
    pub status_reason: Option<String>,
    /// How it shall prove itself.
    pub authentication: AuthenticationDraft,
    /// It runs modules and is a gateway.
    pub iot_edge: bool,
    /// The scope of the gateway it shall stand below.
    pub parent: Option<EdgeScope>,
}

impl DeviceDraft {
    /// An enabled device with keys that the registry makes, below no gateway.
    pub fn new(id: DeviceId) -> Self {
        Self {
            id,
            status: DeviceStatus::Enabled,
            status_reason: None,
            authentication: AuthenticationDraft::generated_keys(),
            iot_edge: false,
            parent: None,
        }
    }
}

/// A module as an operator, or the edge it runs on, asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleDraft {
    /// Its id.
    pub id: ModuleId,
    /// Who looks after it; `None` keeps what is stored on an update.
    pub managed_by: Option<String>,
    /// How it shall prove itself.
    pub authentication: AuthenticationDraft,
}

impl ModuleDraft {
    /// A module with keys that the registry makes.
    pub const fn new(id: ModuleId) -> Self {
        Self { id, managed_by: None, authentication: AuthenticationDraft::generated_keys() }
    }
}

/// Under which condition a change shall be made (`If-Match`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Precondition {
    /// None was given: a PUT of an identity creates, everything else applies.
    #[default]
    Absent,
    /// `*`: whatever is stored is replaced.
    Any,
    /// Only when the stored etag is this one (without quotes).
    Etag(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_never_shown() {
        let key = SharedKey::from_base64("MDEyMzQ1Njc4OWFiY2RlZg==").unwrap();
        assert_eq!(key.as_bytes(), b"0123456789abcdef");
        assert_eq!(key.to_base64(), "MDEyMzQ1Njc4OWFiY2RlZg==");
        assert_eq!(format!("{key:?}"), "SharedKey(..)");
        assert_eq!(SharedKey::from_base64("MDEy"), Err(InvalidKey::Length(3)));
        assert_eq!(SharedKey::from_base64("MDEyMzQ1Njc4OWFiY2RlZg"), Ok(key));
        assert_eq!(SharedKey::from_base64("not base64!"), Err(InvalidKey::NotBase64));
    }

    #[test]
    fn a_scope_names_its_device_even_when_the_id_has_dashes() {
        let edge = DeviceId::parse("edge-1").unwrap();
        let scope = EdgeScope::of(&edge, "638678901234567890");
        assert_eq!(scope.as_str(), "ms-azure-iot-edge://edge-1-638678901234567890");
        assert_eq!(scope.device(), Some(edge));
        assert_eq!(EdgeScope::parse("elsewhere").and_then(|scope| scope.device()), None);
        assert_eq!(EdgeScope::parse(""), None);
    }

    #[test]
    fn thumbprints_are_compared_without_regard_to_case() {
        let digits = "ABCDEF0123456789abcdef0123456789ABCDEF01";
        assert_eq!(Thumbprint::parse(digits).unwrap(), Thumbprint::parse(&digits.to_lowercase()).unwrap());
        assert!(Thumbprint::parse("ab:cd").is_err());
        assert!(Thumbprint::parse(&"g".repeat(40)).is_err());
    }
}
