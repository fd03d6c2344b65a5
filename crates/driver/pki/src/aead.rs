//! AES-256-GCM with an initialization vector of any length, in the layout of the edge workload API.
//!
//! The agent and the edge hub of the original send 32 bytes of IV, so a library that takes 12 alone will not do
//! (`edge-workload-and-management-api` §3). NIST SP 800-38D, sections 7.1 and 7.2.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;

use crate::PkiError;

/// First byte of a ciphertext made now: `0x02 | ciphertext | tag`.
const LAYOUT_NOW: u8 = 2;
/// First byte of a ciphertext of version 1.1: `0x01 | tag | ciphertext`. Read, never written.
const LAYOUT_OLD: u8 = 1;
const TAG_BYTES: usize = 16;
const BLOCK_BYTES: usize = 16;

/// `0x02 | ciphertext | tag`.
///
/// # Errors
/// When the IV is empty.
pub(crate) fn encrypt(key: &[u8; 32], iv: &[u8], associated: &[u8], plain: &[u8]) -> Result<Vec<u8>, PkiError> {
    let gcm = Gcm::new(key, iv)?;
    let mut out = Vec::with_capacity(1 + plain.len() + TAG_BYTES);
    out.push(LAYOUT_NOW);
    out.extend_from_slice(plain);
    gcm.apply_key_stream(&mut out[1..]);
    let tag = gcm.tag(associated, &out[1..]);
    out.extend_from_slice(&tag);
    Ok(out)
}

/// Reads both layouts.
///
/// # Errors
/// When the layout is unknown, the IV empty, or the text was made with another key, IV or associated data.
pub(crate) fn decrypt(key: &[u8; 32], iv: &[u8], associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, PkiError> {
    let (layout, rest) = sealed.split_first().ok_or(PkiError::Decrypt("the ciphertext is empty"))?;
    if rest.len() < TAG_BYTES {
        return Err(PkiError::Decrypt("the ciphertext is too short"));
    }
    let (ciphertext, tag) = match *layout {
        LAYOUT_NOW => rest.split_at(rest.len() - TAG_BYTES),
        LAYOUT_OLD => {
            let (tag, ciphertext) = rest.split_at(TAG_BYTES);
            (ciphertext, tag)
        }
        _ => return Err(PkiError::Decrypt("the ciphertext has an unknown layout")),
    };
    let gcm = Gcm::new(key, iv)?;
    if !gcm.has_tag(associated, ciphertext, tag) {
        return Err(PkiError::Decrypt("the ciphertext was not made with this key, vector, module and generation"));
    }
    let mut plain = ciphertext.to_vec();
    gcm.apply_key_stream(&mut plain);
    Ok(plain)
}

struct Gcm {
    cipher: Aes256,
    hash_key: ghash::Key,
    first_counter: [u8; BLOCK_BYTES],
}

impl Gcm {
    fn new(key: &[u8; 32], iv: &[u8]) -> Result<Self, PkiError> {
        if iv.is_empty() {
            return Err(PkiError::Decrypt("the initialization vector is empty"));
        }
        let cipher = Aes256::new(key.into());
        let mut hash_key = ghash::Key::default();
        cipher.encrypt_block(&mut hash_key);
        let mut first_counter = [0; BLOCK_BYTES];
        if iv.len() == 12 {
            first_counter[..12].copy_from_slice(iv);
            first_counter[15] = 1;
        } else {
            let mut hash = GHash::new(&hash_key);
            hash.update_padded(iv);
            hash.update(&[lengths(0, iv.len())]);
            first_counter.copy_from_slice(&hash.finalize());
        }
        Ok(Self { cipher, hash_key, first_counter })
    }

    fn apply_key_stream(&self, bytes: &mut [u8]) {
        let (prefix, number) = self.first_counter.split_at(12);
        let mut counter = u32::from_be_bytes([number[0], number[1], number[2], number[3]]);
        for chunk in bytes.chunks_mut(BLOCK_BYTES) {
            counter = counter.wrapping_add(1);
            let mut block = [0; BLOCK_BYTES];
            block[..12].copy_from_slice(prefix);
            block[12..].copy_from_slice(&counter.to_be_bytes());
            let mut block = block.into();
            self.cipher.encrypt_block(&mut block);
            chunk.iter_mut().zip(block).for_each(|(byte, mask)| *byte ^= mask);
        }
    }

    fn tag(&self, associated: &[u8], ciphertext: &[u8]) -> [u8; TAG_BYTES] {
        self.masked(self.hash(associated, ciphertext).finalize().into())
    }

    /// Compares in constant time.
    fn has_tag(&self, associated: &[u8], ciphertext: &[u8], tag: &[u8]) -> bool {
        let Ok(tag) = <[u8; TAG_BYTES]>::try_from(tag) else { return false };
        self.hash(associated, ciphertext).verify(&self.masked(tag).into()).is_ok()
    }

    fn hash(&self, associated: &[u8], ciphertext: &[u8]) -> GHash {
        let mut hash = GHash::new(&self.hash_key);
        hash.update_padded(associated);
        hash.update_padded(ciphertext);
        hash.update(&[lengths(associated.len(), ciphertext.len())]);
        hash
    }

    fn masked(&self, mut tag: [u8; TAG_BYTES]) -> [u8; TAG_BYTES] {
        let mut mask = self.first_counter.into();
        self.cipher.encrypt_block(&mut mask);
        tag.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        tag
    }
}

/// Two lengths in bits, 64 bits each.
fn lengths(first: usize, second: usize) -> ghash::Block {
    let mut block = [0; BLOCK_BYTES];
    block[..8].copy_from_slice(&(first as u64 * 8).to_be_bytes());
    block[8..].copy_from_slice(&(second as u64 * 8).to_be_bytes());
    block.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// Test cases 16, 17 and 18 of the GCM specification (McGrew and Viega): IVs of 12, 8 and 60 bytes.
    #[test]
    fn the_specification_s_examples() {
        let key: [u8; 32] = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308").try_into().unwrap();
        let plain = hex(concat!(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
        ));
        let associated = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        for (iv, tag) in [
            ("cafebabefacedbaddecaf888", "76fc6ece0f4e1768cddf8853bb2d551b"),
            ("cafebabefacedbad", "3a337dbf46a792c45e454913fe2ea8f2"),
            (
                concat!(
                    "9313225df88406e555909c5aff5269aa6a7a9538534f7da1e4c303d2a318a728",
                    "c3c0c95156809539fcf0e2429a6b525416aedbf5a0de6a57a637b39b"
                ),
                "a44a8266ee1c8eb0c8b5d4cf5ae9f19a",
            ),
        ] {
            let sealed = encrypt(&key, &hex(iv), &associated, &plain).unwrap();
            assert_eq!(sealed[sealed.len() - 16..], hex(tag));
            assert_eq!(decrypt(&key, &hex(iv), &associated, &sealed).unwrap(), plain);
        }
    }

    #[test]
    fn the_old_layout_is_read() {
        let key = [7; 32];
        let sealed = encrypt(&key, b"iv", b"who", b"text").unwrap();
        let (ciphertext, tag) = sealed[1..].split_at(4);
        let old = [&[1], tag, ciphertext].concat();
        assert_eq!(decrypt(&key, b"iv", b"who", &old).unwrap(), b"text");
    }

    #[test]
    fn wrong_keys_vectors_and_owners_are_refused() {
        let sealed = encrypt(&[7; 32], b"iv", b"who", b"text").unwrap();
        for (key, iv, who) in [(8, "iv", "who"), (7, "vi", "who"), (7, "iv", "who2"), (7, "", "who")] {
            assert!(decrypt(&[key; 32], iv.as_bytes(), who.as_bytes(), &sealed).is_err());
        }
        for text in [&b""[..], b"\x02", b"\x03aaaaaaaaaaaaaaaaaaaa"] {
            assert!(decrypt(&[7; 32], b"iv", b"who", text).is_err());
        }
        assert!(encrypt(&[7; 32], b"", b"who", b"text").is_err());
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_nothing_else_does(
            iv in proptest::collection::vec(any::<u8>(), 1..70),
            plain in proptest::collection::vec(any::<u8>(), 0..100),
            flip in any::<proptest::sample::Index>(),
        ) {
            let mut sealed = encrypt(&[1; 32], &iv, b"a", &plain).unwrap();
            prop_assert_eq!(decrypt(&[1; 32], &iv, b"a", &sealed).unwrap(), plain);
            let at = flip.index(sealed.len());
            sealed[at] ^= 0x80;
            prop_assert!(decrypt(&[1; 32], &iv, b"a", &sealed).is_err());
        }
    }
}
