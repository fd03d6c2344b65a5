//! A shared key: signs, checks and derives; shows itself only where an interface demands it.

use std::fmt;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use ring::hmac;
use skerry_model::{InvalidKey, SharedKey};
use zeroize::Zeroizing;

use crate::{PkiError, Random};

/// Bytes of a key that is made here.
const KEY_BYTES: usize = 32;
/// Longest shared key that is taken, in bytes (IoT Hub takes 16 to 64; a TPM or an operator may have others).
const KEY_BYTES_MAX: usize = 1024;

/// Takes base64 with and without padding (`edge-identity-and-provisioning` §2).
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A shared secret for HMAC-SHA256. Wiped from memory when dropped; `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SymmetricKey(Zeroizing<Vec<u8>>);

impl SymmetricKey {
    /// Takes these bytes as the key.
    ///
    /// # Errors
    /// When there are none, or more than 1024.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, PkiError> {
        let bytes = Zeroizing::new(bytes);
        if bytes.is_empty() || bytes.len() > KEY_BYTES_MAX {
            return Err(PkiError::key(
                "shared key",
                format!("has {} bytes, expected 1 to {KEY_BYTES_MAX}", bytes.len()),
            ));
        }
        Ok(Self(bytes))
    }

    /// Reads base64, with or without padding.
    ///
    /// # Errors
    /// When the text is not base64, or the key is empty or longer than 1024 bytes.
    pub fn from_base64(text: &str) -> Result<Self, PkiError> {
        let bytes = LENIENT.decode(text.trim()).map_err(|_| PkiError::key("shared key", "is not base64"))?;
        Self::from_bytes(bytes)
    }

    /// A new key of 32 random bytes.
    pub fn generate(random: &Random) -> Self {
        Self(Zeroizing::new(random.bytes::<KEY_BYTES>().to_vec()))
    }

    /// HMAC-SHA256 over `data`.
    pub fn sign(&self, data: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.hmac(), data);
        let mut digest = [0; 32];
        digest.copy_from_slice(tag.as_ref());
        digest
    }

    /// The signature over `text` in base64: the `sig` of a shared access signature, before percent-encoding.
    pub fn sign_text(&self, text: &str) -> String {
        STANDARD.encode(self.sign(text.as_bytes()))
    }

    /// Whether `signature` is the HMAC-SHA256 over `data`; takes the same time wherever they differ.
    pub fn verify(&self, data: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.hmac(), data, signature).is_ok()
    }

    /// The key derived by signing `text` with this one.
    pub fn derive(&self, text: &str) -> Self {
        Self(Zeroizing::new(self.sign(text.as_bytes()).to_vec()))
    }

    /// The secret in base64, for interfaces that carry it (registering it at the hub, showing it to its operator).
    pub fn expose_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }

    /// The secret itself, to be stored.
    pub fn expose_bytes(&self) -> &[u8] {
        &self.0
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

impl From<&SharedKey> for SymmetricKey {
    fn from(key: &SharedKey) -> Self {
        Self(Zeroizing::new(key.as_bytes().to_vec()))
    }
}

impl TryFrom<&SymmetricKey> for SharedKey {
    type Error = InvalidKey;

    /// The key as the registry has it: 16 to 64 bytes.
    fn try_from(key: &SymmetricKey) -> Result<Self, InvalidKey> {
        Self::from_bytes(&key.0)
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SymmetricKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64_is_taken_with_and_without_padding() {
        for text in ["AQIDBA==", "AQIDBA", " AQIDBA==\n"] {
            assert_eq!(SymmetricKey::from_base64(text).unwrap().expose_bytes(), [1, 2, 3, 4]);
        }
        for text in ["", "A", "*", "AQIDBA==="] {
            assert!(SymmetricKey::from_base64(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_of_the_key_shows() {
        let key = SymmetricKey::from_base64("AQIDBA==").unwrap();
        assert_eq!(format!("{key:?}"), "SymmetricKey(…)");
        let error = SymmetricKey::from_base64("c2VjcmV0*").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("c2Vj"));
    }

    #[test]
    fn a_generated_key_has_32_bytes() {
        let key = SymmetricKey::generate(&Random::seeded(1));
        assert_eq!(key.expose_bytes().len(), 32);
        assert_eq!(SymmetricKey::from_base64(&key.expose_base64()).unwrap(), key);
        assert_eq!(SymmetricKey::from(&SharedKey::try_from(&key).unwrap()), key);
        assert!(SharedKey::try_from(&SymmetricKey::from_base64("AQID").unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn only_the_right_signature_is_accepted(key in proptest::collection::vec(any::<u8>(), 1..80), text in ".{0,60}", flip in 0usize..256) {
            let key = SymmetricKey::from_bytes(key).unwrap();
            let mut signature = key.sign(text.as_bytes());
            prop_assert!(key.verify(text.as_bytes(), &signature));
            signature[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(!key.verify(text.as_bytes(), &signature));
            prop_assert!(!key.verify(text.as_bytes(), &signature[..31]));
        }

        #[test]
        fn any_text_is_base64_or_an_error(text in ".{0,80}") {
            let _ = SymmetricKey::from_base64(&text);
        }
    }
}
