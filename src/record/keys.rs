//! Key-encryption keys (KEK). The text of a key file goes in; a [`KeyRing`] that wraps new recordings under the
//! current key and unwraps those of older ones comes out. Keys are wiped when dropped and never printed.

use std::fmt;
use std::sync::Arc;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The longest KEK id, in bytes; it stands in each recording's header.
pub const MAX_KEK_ID: usize = 64;

/// Why a key-encryption key was refused. Never shows the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not 64 hexadecimal digits.
    #[error("key {id:?}: expected 64 hexadecimal digits (32 bytes) and nothing else, found {found}")]
    NotHex {
        /// KEK id.
        id: String,
        /// What was found, in words; never the text.
        found: String,
    },
    /// All bytes are the same: a placeholder, not a key.
    #[error("key {id:?}: all 32 bytes are the same; make one with `openssl rand -hex 32`")]
    Placeholder {
        /// KEK id.
        id: String,
    },
    /// The id cannot stand in a header.
    #[error("key id {id:?}: expected 1 to {MAX_KEK_ID} letters, digits, `.`, `_` or `-`")]
    BadId {
        /// KEK id as given.
        id: String,
    },
    /// Two keys have one id.
    #[error("key id {id:?} is given twice")]
    Twice {
        /// KEK id.
        id: String,
    },
}

/// A key-encryption key could not be asked: its token or service does not answer. Says why; never shows a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key {id:?}: {why}")]
pub struct KeyDown {
    /// KEK id.
    pub id: String,
    /// Why.
    pub why: String,
}

/// Bytes of a data key and its tag.
pub const WRAPPED: usize = 48;

/// What can wrap and unwrap data keys: the one thing that every source of key-encryption keys comes down to. A key in
/// memory does it here; a token does it inside itself, and its key never leaves it.
pub trait Wrapper: Send + Sync {
    /// Encrypts `dek` under AES-256-GCM with this nonce; the tag comes last.
    ///
    /// # Errors
    /// Why the key cannot be used now.
    fn wrap(&self, nonce: &[u8; 12], aad: &[u8], dek: &[u8; 32]) -> Result<[u8; WRAPPED], String>;

    /// Decrypts what [`Wrapper::wrap`] made; `None` when it is not authentic.
    ///
    /// # Errors
    /// Why the key cannot be used now.
    fn unwrap(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        wrapped: &[u8; WRAPPED],
    ) -> Result<Option<Zeroizing<[u8; 32]>>, String>;
}

/// A key-encryption key: the id by which headers name it, a fingerprint, and what wraps with it.
#[derive(Clone)]
pub struct Kek {
    id: String,
    fingerprint: [u8; 8],
    wrapper: Arc<dyn Wrapper>,
}

impl Kek {
    /// Reads a key from its text: 64 hexadecimal digits, white space around them allowed.
    pub fn parse(id: &str, text: &str) -> Result<Self, KeyError> {
        let hex_text = text.trim();
        let mut key = Zeroizing::new([0u8; 32]);
        if hex::decode_to_slice(hex_text, &mut key[..]).is_err() {
            check_id(id)?;
            let found = match hex_text.len() {
                64 => "64 characters, not all of them hexadecimal".to_owned(),
                n => format!("{n} characters"),
            };
            return Err(KeyError::NotHex { id: id.to_owned(), found });
        }
        Self::from_bytes(id, key)
    }

    /// A key of these bytes.
    pub fn from_bytes(id: &str, key: Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        check_id(id)?;
        if key.iter().all(|b| *b == key[0]) {
            return Err(KeyError::Placeholder { id: id.to_owned() });
        }
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&derive(&key, b"tonewall kek fingerprint v1")[..8]);
        // A key of its own for wrapping, so that the KEK itself never meets two algorithms.
        let wrapper = Arc::new(InMemory(derive(&key, b"tonewall data key wrap v1")));
        Ok(Self { id: id.to_owned(), fingerprint, wrapper })
    }

    /// A key that is elsewhere. `fingerprint` tells it from another of the same id and reveals nothing of it.
    pub fn elsewhere(id: &str, fingerprint: [u8; 8], wrapper: Arc<dyn Wrapper>) -> Result<Self, KeyError> {
        check_id(id)?;
        Ok(Self { id: id.to_owned(), fingerprint, wrapper })
    }

    /// The id headers name it by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Eight bytes that tell this key from another of the same id; they reveal nothing of it.
    pub fn fingerprint(&self) -> [u8; 8] {
        self.fingerprint
    }

    /// Wraps a data key.
    pub(super) fn wrap(&self, nonce: &[u8; 12], aad: &[u8], dek: &[u8; 32]) -> Result<[u8; WRAPPED], KeyDown> {
        self.wrapper.wrap(nonce, aad, dek).map_err(|why| self.down(why))
    }

    /// Unwraps a data key; `None` when it is not authentic.
    pub(super) fn unwrap(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        wrapped: &[u8; WRAPPED],
    ) -> Result<Option<Zeroizing<[u8; 32]>>, KeyDown> {
        self.wrapper.unwrap(nonce, aad, wrapped).map_err(|why| self.down(why))
    }

    fn down(&self, why: String) -> KeyDown {
        KeyDown { id: self.id.clone(), why }
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({})", self.id)
    }
}

fn check_id(id: &str) -> Result<(), KeyError> {
    let usable = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if id.is_empty() || id.len() > MAX_KEK_ID || !id.bytes().all(usable) {
        return Err(KeyError::BadId { id: id.chars().take(MAX_KEK_ID).collect() });
    }
    Ok(())
}

/// A wrapping key in memory.
struct InMemory(Zeroizing<[u8; 32]>);

impl Wrapper for InMemory {
    fn wrap(&self, nonce: &[u8; 12], aad: &[u8], dek: &[u8; 32]) -> Result<[u8; WRAPPED], String> {
        let mut wrapped = [0; WRAPPED];
        let (text, tag) = wrapped.split_at_mut(32);
        text.copy_from_slice(dek);
        let made = Aes256Gcm::new((&*self.0).into()).encrypt_inout_detached(nonce.into(), aad, InOutBuf::from(text));
        tag.copy_from_slice(&made.map_err(|_| "AES-GCM refused 32 bytes".to_owned())?);
        Ok(wrapped)
    }

    fn unwrap(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        wrapped: &[u8; WRAPPED],
    ) -> Result<Option<Zeroizing<[u8; 32]>>, String> {
        let mut dek = Zeroizing::new([0; 32]);
        let (text, tag) = wrapped.split_at(32);
        dek.copy_from_slice(text);
        let Ok(tag) = <[u8; 16]>::try_from(tag) else { return Ok(None) };
        let text = InOutBuf::from(&mut dek[..]);
        let opened = Aes256Gcm::new((&*self.0).into()).decrypt_inout_detached(nonce.into(), aad, text, &tag.into());
        Ok(opened.is_ok().then_some(dek))
    }
}

/// HMAC-SHA-256 of `label` under `key`: a key or tag for one purpose only.
pub(super) fn derive(key: &[u8; 32], label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = mac(key);
    mac.update(label);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// HMAC-SHA-256 under `key`.
pub(super) fn mac(key: &[u8; 32]) -> Hmac<Sha256> {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes a key of any length"),
    }
}

/// The keys a node knows: the one new recordings are wrapped under and the older ones it can still read.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    keys: Vec<Kek>,
    has_current: bool,
}

impl KeyRing {
    /// A ring of the current key, if the node records, and older ones.
    pub fn new(current: Option<Kek>, old: Vec<Kek>) -> Result<Self, KeyError> {
        let has_current = current.is_some();
        let keys: Vec<Kek> = current.into_iter().chain(old).collect();
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].iter().any(|other| other.id == key.id) {
                return Err(KeyError::Twice { id: key.id.clone() });
            }
        }
        Ok(Self { keys, has_current })
    }

    /// The key new recordings are wrapped under.
    pub fn current(&self) -> Option<&Kek> {
        if self.has_current { self.keys.first() } else { None }
    }

    /// Every key, the current one first.
    pub fn keys(&self) -> &[Kek] {
        &self.keys
    }

    /// The key of this id.
    pub fn by_id(&self, id: &str) -> Option<&Kek> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The key of this fingerprint.
    pub fn by_fingerprint(&self, fingerprint: [u8; 8]) -> Option<&Kek> {
        self.keys.iter().find(|key| key.fingerprint == fingerprint)
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is known.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn a_key_file_with_a_line_end_reads() {
        let kek = Kek::parse("2026-a", &format!("{TEXT}\n")).expect("a key");
        assert_eq!(hex::encode(kek.fingerprint()), hex::encode(Kek::parse("b", TEXT).expect("a key").fingerprint()));
        assert_eq!(format!("{kek:?}"), "Kek(2026-a)");
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_being_shown() {
        for text in ["", "abc", &TEXT[..62], &format!("{TEXT}00"), &TEXT.replace('1', "x")] {
            let error = Kek::parse("k", text).expect_err("refused").to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        assert!(matches!(Kek::parse("k", &"0".repeat(64)), Err(KeyError::Placeholder { .. })));
        for id in ["", "a b", "../k", &"k".repeat(65)] {
            assert!(matches!(Kek::parse(id, TEXT), Err(KeyError::BadId { .. })), "{id:?}");
        }
    }

    #[test]
    fn a_ring_finds_keys_by_id_and_fingerprint_and_refuses_twins() {
        let a = Kek::parse("a", TEXT).expect("a key");
        let b = Kek::parse("b", &TEXT.replace("00", "ff")).expect("a key");
        assert_ne!(a.fingerprint(), b.fingerprint());
        let ring = KeyRing::new(Some(a.clone()), vec![b.clone()]).expect("a ring");
        assert_eq!(ring.current().map(Kek::id), Some("a"));
        assert_eq!(ring.by_fingerprint(b.fingerprint()).map(Kek::id), Some("b"));
        assert!(KeyRing::new(Some(a.clone()), vec![a]).is_err());
        let read_only = KeyRing::new(None, vec![b]).expect("a ring");
        assert!(read_only.current().is_none() && read_only.by_id("b").is_some());
    }
}
