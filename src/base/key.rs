//! Keys of encrypted media. A [`MediaKey`] is one master key with its salt (RFC 3711 section 3.2.1), as it stands in
//! SDP or comes out of a DTLS handshake. Bytes go in; nothing that prints comes out. It lives in memory of fixed size
//! and wipes itself. The value comes out by `expose` only, which reviewers search for.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The longest master key with its salt: AES-256 in counter mode (RFC 6188).
pub const MAX_MEDIA_KEY: usize = 32 + 14;

/// A master key followed by its master salt. Secret.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MediaKey {
    bytes: [u8; MAX_MEDIA_KEY],
    length: u8,
}

impl MediaKey {
    /// Takes key and salt; `None` for nothing and for more than [`MAX_MEDIA_KEY`] bytes.
    pub fn new(key_and_salt: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_MEDIA_KEY];
        bytes.get_mut(..key_and_salt.len()).filter(|room| !room.is_empty())?.copy_from_slice(key_and_salt);
        Some(Self { bytes, length: key_and_salt.len() as u8 })
    }

    /// A key of `length` bytes (at least 1, at most [`MAX_MEDIA_KEY`]) that `fill` draws.
    pub fn drawn(length: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let length = length.clamp(1, MAX_MEDIA_KEY);
        let mut key = Self { bytes: [0; MAX_MEDIA_KEY], length: length as u8 };
        fill(&mut key.bytes[..length]);
        key
    }

    /// Key and salt. Exposes the secret.
    pub fn expose(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl PartialEq for MediaKey {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for MediaKey {}

impl fmt::Debug for MediaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MediaKey(_)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_nothing_and_equals_itself_only() {
        let key = MediaKey::new(&[0xab; 30]).expect("a key");
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "MediaKey(_) Some(MediaKey(_))");
        assert_eq!(key, key.clone());
        assert_ne!(key, MediaKey::new(&[0xab; 29]).expect("a key"));
        assert_ne!(key, MediaKey::new(&[0xac; 30]).expect("a key"));
        assert!(MediaKey::new(&[]).is_none() && MediaKey::new(&[1; 47]).is_none());
    }
}
