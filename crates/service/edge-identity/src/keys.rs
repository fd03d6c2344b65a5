//! The edge's keys: a master key that module keys are derived from, and one that seals modules' data.

use std::path::Path;

use skerry_model::ModuleName;
use skerry_pki::{FileKeyStore, KeyKind, PkiError, Random, SymmetricKey};

/// Master key of module keys; the name is the original's (`edge-identity-and-provisioning` §3).
const IDENTITY_MASTER: &str = "aziot_identityd_master_id";
/// Key of the workload API's encryption; the name is the original's.
const ENCRYPTION_MASTER: &str = "iotedge_master_encryption_id";

#[derive(Debug)]
pub(crate) struct EdgeKeys(FileKeyStore);

impl EdgeKeys {
    /// Opens the store in `folder` and makes what is missing.
    pub(crate) fn open(folder: &Path, random: Random) -> Result<Self, PkiError> {
        let store = FileKeyStore::open(folder, random)?;
        store.create(IDENTITY_MASTER, KeyKind::Symmetric)?;
        store.create(ENCRYPTION_MASTER, KeyKind::Symmetric)?;
        Ok(Self(store))
    }

    /// The module's shared key: signed `module:generation:primary` or `:secondary`.
    pub(crate) fn module_key(
        &self,
        module: &ModuleName,
        generation: &str,
        which: &str,
    ) -> Result<SymmetricKey, PkiError> {
        self.0.derive(IDENTITY_MASTER, &format!("{module}:{generation}:{which}"))
    }

    /// HMAC-SHA256 over `data` with the module's primary key.
    pub(crate) fn sign(&self, module: &ModuleName, generation: &str, data: &[u8]) -> Result<[u8; 32], PkiError> {
        Ok(self.module_key(module, generation, "primary")?.sign(data))
    }

    pub(crate) fn encrypt(
        &self,
        module: &ModuleName,
        generation: &str,
        vector: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, PkiError> {
        self.0.encrypt(ENCRYPTION_MASTER, vector, format!("{module}{generation}").as_bytes(), plain)
    }

    pub(crate) fn decrypt(
        &self,
        module: &ModuleName,
        generation: &str,
        vector: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, PkiError> {
        self.0.decrypt(ENCRYPTION_MASTER, vector, format!("{module}{generation}").as_bytes(), sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn modules_sign_and_seal_as_the_vector_says() {
        let vector: serde_json::Value = serde_json::from_str(include_str!("../tests/vectors/edge-keys.json")).unwrap();
        let text = |path: &str| vector.pointer(path).unwrap().as_str().unwrap();
        let bytes = |path: &str| STANDARD.decode(text(path)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = FileKeyStore::open(folder.path(), Random::seeded(1)).unwrap();
        let import = |name, path| store.import(name, &SymmetricKey::from_base64(text(path)).unwrap()).unwrap();
        import(IDENTITY_MASTER, "/identityMasterKeyBase64");
        import(ENCRYPTION_MASTER, "/encrypt/encryptionMasterKeyBase64");
        let keys = EdgeKeys::open(folder.path(), Random::seeded(1)).unwrap();
        let (module, generation) = (ModuleName::parse(text("/moduleId")).unwrap(), text("/generationId"));

        for which in ["primary", "secondary"] {
            let key = keys.module_key(&module, generation, which).unwrap();
            assert_eq!(*key.expose_base64(), text(&format!("/moduleKeyBase64/{which}")));
        }
        let digest = keys.sign(&module, generation, &bytes("/sign/requestDataBase64")).unwrap();
        assert_eq!(STANDARD.encode(digest), text("/sign/digestBase64"));
        let vector = bytes("/encrypt/ivBase64");
        let sealed = keys.encrypt(&module, generation, &vector, &bytes("/encrypt/plaintextBase64")).unwrap();
        assert_eq!(sealed, bytes("/encrypt/ciphertextBase64"));
        assert_eq!(keys.decrypt(&module, generation, &vector, &sealed).unwrap(), bytes("/encrypt/plaintextBase64"));
        assert!(keys.decrypt(&module, "2", &vector, &sealed).is_err());
    }
}
