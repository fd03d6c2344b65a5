//! Keys in files, one each: they are used by name, and their secret does not come out.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use zeroize::Zeroizing;

use crate::{PkiError, Random, SymmetricKey, aead, files};

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// A shared secret: HMAC-SHA256, derivation, AES-256-GCM when it has 32 bytes.
    Symmetric,
    /// A P-256 key pair: ECDSA with SHA-256.
    EcdsaP256,
}

/// Keys in the files of one private folder. Nothing is held in memory between calls.
#[derive(Debug, Clone)]
pub struct FileKeyStore {
    folder: PathBuf,
    random: Random,
}

impl FileKeyStore {
    /// Opens the store in `folder`, which is made when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: &Path, random: Random) -> Result<Self, PkiError> {
        files::private_folder(folder)?;
        Ok(Self { folder: folder.to_owned(), random })
    }

    /// Makes the key `name` unless it exists.
    ///
    /// # Errors
    /// When it exists with another kind, or the file cannot be written.
    pub fn create(&self, name: &str, kind: KeyKind) -> Result<(), PkiError> {
        match (self.kind(name)?, kind) {
            (Some(existing), _) if existing == kind => Ok(()),
            (Some(existing), _) => Err(PkiError::key(name, format!("exists as {existing:?}, not {kind:?}"))),
            (None, KeyKind::Symmetric) => self.import(name, &SymmetricKey::generate(&self.random)),
            (None, KeyKind::EcdsaP256) => {
                let pair = KeyPair::generate().map_err(|error| PkiError::key(name, error))?;
                files::write_private(&self.path(name), Zeroizing::new(pair.serialize_pem()).as_bytes())
            }
        }
    }

    /// Stores a shared key under `name`, in place of any other.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn import(&self, name: &str, key: &SymmetricKey) -> Result<(), PkiError> {
        files::write_private(&self.path(name), key.expose_bytes())
    }

    /// Forgets the key; nothing happens when there is none.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn delete(&self, name: &str) -> Result<(), PkiError> {
        files::remove(&self.path(name))
    }

    /// The kind of the key `name`; `None` when there is none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn kind(&self, name: &str) -> Result<Option<KeyKind>, PkiError> {
        Ok(files::read_private(&self.path(name))?.map(|bytes| kind_of(&bytes)))
    }

    /// HMAC-SHA256 over `data` with the shared key `name`.
    ///
    /// # Errors
    /// When there is no such shared key.
    pub fn sign(&self, name: &str, data: &[u8]) -> Result<[u8; 32], PkiError> {
        Ok(self.symmetric(name)?.sign(data))
    }

    /// Whether `signature` is that of `data` with the shared key `name`.
    ///
    /// # Errors
    /// When there is no such shared key.
    pub fn verify(&self, name: &str, data: &[u8], signature: &[u8]) -> Result<bool, PkiError> {
        Ok(self.symmetric(name)?.verify(data, signature))
    }

    /// The key made by signing `text` with the shared key `name`, such as `module:generation:primary`.
    ///
    /// # Errors
    /// When there is no such shared key.
    pub fn derive(&self, name: &str, text: &str) -> Result<SymmetricKey, PkiError> {
        Ok(self.symmetric(name)?.derive(text))
    }

    /// AES-256-GCM: `0x02 | ciphertext | tag`. The vector may have any length but zero, and must not be used twice.
    ///
    /// # Errors
    /// When there is no such key of 32 bytes, or the vector is empty.
    pub fn encrypt(&self, name: &str, iv: &[u8], associated: &[u8], plain: &[u8]) -> Result<Vec<u8>, PkiError> {
        aead::encrypt(&*self.cipher_key(name)?, iv, associated, plain)
    }

    /// Opens what [`Self::encrypt`] sealed, and the older layout `0x01 | tag | ciphertext`.
    ///
    /// # Errors
    /// When there is no such key of 32 bytes, or the text was sealed with anything else.
    pub fn decrypt(&self, name: &str, iv: &[u8], associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, PkiError> {
        aead::decrypt(&*self.cipher_key(name)?, iv, associated, sealed)
    }

    /// ECDSA signature (DER) over the SHA-256 of `data` with the key pair `name`.
    ///
    /// # Errors
    /// When there is no such key pair.
    pub fn sign_ecdsa(&self, name: &str, data: &[u8]) -> Result<Vec<u8>, PkiError> {
        self.pair(name)?.sign(data).map_err(|error| PkiError::key(name, error))
    }

    /// The public half of the key pair `name`, as DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// When there is no such key pair.
    pub fn public_key(&self, name: &str) -> Result<Vec<u8>, PkiError> {
        Ok(self.pair(name)?.subject_public_key_info())
    }

    fn symmetric(&self, name: &str) -> Result<SymmetricKey, PkiError> {
        let bytes = self.read(name)?;
        match kind_of(&bytes) {
            KeyKind::Symmetric => SymmetricKey::from_bytes(bytes.to_vec()),
            KeyKind::EcdsaP256 => Err(PkiError::key(name, "is a key pair, not a shared key")),
        }
    }

    fn cipher_key(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, PkiError> {
        let key = self.symmetric(name)?;
        let bytes = key.expose_bytes();
        let bytes = bytes.try_into().map_err(|_| PkiError::key(name, format!("has {} bytes, not 32", bytes.len())))?;
        Ok(Zeroizing::new(bytes))
    }

    fn pair(&self, name: &str) -> Result<KeyPair, PkiError> {
        let bytes = self.read(name)?;
        let pem = std::str::from_utf8(&bytes).map_err(|_| PkiError::key(name, "is a shared key, not a key pair"))?;
        KeyPair::from_pem(pem).map_err(|_| PkiError::key(name, "is not a key pair"))
    }

    fn read(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, PkiError> {
        files::read_private(&self.path(name))?.ok_or_else(|| PkiError::key(name, "does not exist"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(stored_file_name(name, "key"))
    }
}

fn kind_of(bytes: &[u8]) -> KeyKind {
    if bytes.starts_with(b"-----BEGIN") { KeyKind::EcdsaP256 } else { KeyKind::Symmetric }
}

/// The file of a stored key or certificate: letters and digits of its id, `-`, SHA-256 of the id in hex, `.`, the extension
/// (`edge-identity-and-provisioning` §3).
pub fn stored_file_name(id: &str, extension: &str) -> String {
    // File systems take 255 bytes; the digest alone makes the name unique.
    let mut name: String = id.chars().filter(char::is_ascii_alphanumeric).take(150).collect();
    name.push('-');
    for byte in ring::digest::digest(&ring::digest::SHA256, id.as_bytes()).as_ref() {
        let _ = write!(name, "{byte:02x}");
    }
    name.push('.');
    name.push_str(extension);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use std::os::unix::fs::PermissionsExt;

    fn store() -> (tempfile::TempDir, FileKeyStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = FileKeyStore::open(&folder.path().join("keys"), Random::seeded(1)).unwrap();
        (folder, store)
    }

    #[test]
    fn every_fact_of_the_vector() {
        let vector: serde_json::Value = serde_json::from_str(include_str!("../tests/vectors/edge-keys.json")).unwrap();
        let text = |path: &str| vector.pointer(path).unwrap().as_str().unwrap().to_owned();
        let bytes = |path: &str| STANDARD.decode(text(path)).unwrap();
        let (_folder, store) = store();
        store.import("master", &SymmetricKey::from_base64(&text("/identityMasterKeyBase64")).unwrap()).unwrap();
        let (module, generation) = (text("/moduleId"), text("/generationId"));
        for which in ["primary", "secondary"] {
            let derivation = format!("{module}:{generation}:{which}");
            assert_eq!(derivation, text(&format!("/derivationText/{which}")));
            let key = store.derive("master", &derivation).unwrap();
            assert_eq!(*key.expose_base64(), text(&format!("/moduleKeyBase64/{which}")));
        }
        let key = store.derive("master", &text("/derivationText/primary")).unwrap();
        assert_eq!(bytes("/sign/requestDataBase64"), text("/sign/requestDataText").as_bytes());
        assert_eq!(key.sign_text(&text("/sign/requestDataText")), text("/sign/digestBase64"));

        let cipher = SymmetricKey::from_base64(&text("/encrypt/encryptionMasterKeyBase64")).unwrap();
        store.import("cipher", &cipher).unwrap();
        let aad = text("/encrypt/aadText");
        assert_eq!(aad, format!("{module}{generation}"));
        let (iv, plain) = (bytes("/encrypt/ivBase64"), bytes("/encrypt/plaintextBase64"));
        let sealed = store.encrypt("cipher", &iv, aad.as_bytes(), &plain).unwrap();
        assert_eq!(sealed, bytes("/encrypt/ciphertextBase64"));
        assert_eq!(store.decrypt("cipher", &iv, aad.as_bytes(), &sealed).unwrap(), plain);

        assert_eq!(stored_file_name(&text("/certFileName/certId"), "cer"), text("/certFileName/fileName"));
    }

    #[test]
    fn a_key_is_made_once_and_kept() {
        let (folder, store) = store();
        store.create("a", KeyKind::Symmetric).unwrap();
        let signed = store.sign("a", b"x").unwrap();
        store.create("a", KeyKind::Symmetric).unwrap();
        assert_eq!(store.sign("a", b"x").unwrap(), signed);
        assert!(store.verify("a", b"x", &signed).unwrap());
        assert!(store.create("a", KeyKind::EcdsaP256).is_err());
        let path = folder.path().join("keys").join(stored_file_name("a", "key"));
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        store.delete("a").unwrap();
        assert_eq!(store.kind("a").unwrap(), None);
        assert_eq!(store.sign("a", b"x").unwrap_err().to_string(), "key `a`: does not exist");
    }

    #[test]
    fn a_key_pair_signs_what_its_public_key_verifies() {
        let (_folder, store) = store();
        store.create("pair", KeyKind::EcdsaP256).unwrap();
        let signature = store.sign_ecdsa("pair", b"data").unwrap();
        let public = store.public_key("pair").unwrap();
        // The last 65 bytes of a P-256 SubjectPublicKeyInfo are the point.
        let key = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ECDSA_P256_SHA256_ASN1,
            &public[public.len() - 65..],
        );
        assert!(key.verify(b"data", &signature).is_ok());
        assert!(key.verify(b"datA", &signature).is_err());
        assert!(store.sign("pair", b"x").is_err());
    }
}
