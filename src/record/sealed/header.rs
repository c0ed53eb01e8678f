//! The header of a sealed file: the fixed part that every chunk is bound to, and the key slot that holds the
//! recording's data key wrapped under a KEK. Diagram in the parent module.

use rand::Rng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{CHUNK_SIZE, Dek};
use crate::base::Random;
use crate::base::ids::RecordingId;
use crate::record::keys::{Kek, KeyDown, KeyRing, MAX_KEK_ID, WRAPPED};

const MAGIC: [u8; 8] = *b"TWSEALED";
const VERSION: u8 = 1;
/// AES-256-GCM in STREAM-BE32, data key wrapped by AES-256-GCM.
const SUITE: u8 = 1;
const ID: usize = 36;
pub(super) const FIXED: usize = 8 + 1 + 1 + 4 + 7 + ID;
const FINGERPRINT: usize = 8;
const NONCE: usize = 12;
/// The most bytes a header has.
pub(super) const MAX_HEADER: usize = FIXED + 1 + MAX_KEK_ID + FINGERPRINT + NONCE + WRAPPED;

/// Bytes that are not the header of a sealed recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The bytes end inside the header, as after a kill while it was written.
    #[error("the file ends inside its header")]
    Cut,
    /// The first bytes are not those of a sealed file.
    #[error("not a sealed recording, or its first bytes were altered")]
    Magic,
    /// Written by another version.
    #[error("format version {0}, and this program reads version {VERSION}; or the byte was altered")]
    Version(u8),
    /// Another suite of algorithms.
    #[error("cipher suite {0}, and this program reads suite {SUITE}; or the byte was altered")]
    Suite(u8),
    /// A field has a value no writer gives it.
    #[error("the header's {0} is not one a writer gives")]
    Field(&'static str),
}

/// Why a header's data key could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// No key of this id and fingerprint is in the ring.
    #[error("the key-encryption key {id:?} (fingerprint {fingerprint}) is not among the {known} keys given")]
    UnknownKek {
        /// KEK id of the header.
        id: String,
        /// Its fingerprint, hexadecimal.
        fingerprint: String,
        /// Keys in the ring.
        known: usize,
    },
    /// A key of this id is in the ring, and is another one.
    #[error(
        "the key given as {id:?} is not the one this recording was sealed under (fingerprint {found}, wanted {wanted})"
    )]
    WrongKek {
        /// KEK id.
        id: String,
        /// Fingerprint of the key in the ring.
        found: String,
        /// Fingerprint in the header.
        wanted: String,
    },
    /// The key is the right one and the header does not authenticate under it.
    #[error("the header was altered: it does not authenticate under its key")]
    Altered,
    /// The key is known and cannot be asked now.
    #[error(transparent)]
    Down(#[from] KeyDown),
}

/// A header, read or about to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub prefix: [u8; 7],
    pub recording: RecordingId,
    slot: Slot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    kek_id: String,
    fingerprint: [u8; FINGERPRINT],
    nonce: [u8; NONCE],
    wrapped: [u8; WRAPPED],
}

/// What a header says of a recording, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Recording.
    pub recording: RecordingId,
    /// Id of the KEK its data key is wrapped under.
    pub kek_id: String,
    /// Fingerprint of that KEK, hexadecimal.
    pub kek_fingerprint: String,
    /// Bytes of the header.
    pub bytes: u64,
    /// SHA-256 of its fixed part: another data key makes it another, another KEK does not.
    pub hash: [u8; 32],
}

impl Header {
    /// A header for `recording` with a new data key, wrapped under `kek`.
    pub fn draw(recording: RecordingId, kek: &Kek, random: &mut Random) -> Result<(Self, Dek), KeyDown> {
        let mut dek: Dek = Zeroizing::new([0; 32]);
        random.fill_bytes(&mut dek[..]);
        let mut prefix = [0; 7];
        random.fill_bytes(&mut prefix);
        let slot = Slot::wrap(&fixed_part(&prefix, recording), &dek, kek, random)?;
        Ok((Self { prefix, recording, slot }, dek))
    }

    /// The same header, its data key wrapped under `kek`.
    pub fn rewrap(&self, dek: &Dek, kek: &Kek, random: &mut Random) -> Result<Self, KeyDown> {
        let slot = Slot::wrap(&self.fixed(), dek, kek, random)?;
        Ok(Self { prefix: self.prefix, recording: self.recording, slot })
    }

    /// The part of the header every chunk is bound to.
    pub fn fixed(&self) -> [u8; FIXED] {
        fixed_part(&self.prefix, self.recording)
    }

    /// SHA-256 of the fixed part: it stays when the data key is rewrapped.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.fixed()).into()
    }

    /// The header's bytes.
    pub fn print(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_HEADER);
        out.extend_from_slice(&self.fixed());
        out.push(self.slot.kek_id.len() as u8);
        out.extend_from_slice(self.slot.kek_id.as_bytes());
        out.extend_from_slice(&self.slot.fingerprint);
        out.extend_from_slice(&self.slot.nonce);
        out.extend_from_slice(&self.slot.wrapped);
        out
    }

    /// Reads a header from the beginning of `bytes`; gives it and its length.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), HeaderError> {
        let mut rest = bytes;
        let magic = take::<8>(&mut rest).ok_or(match MAGIC.starts_with(bytes) {
            true => HeaderError::Cut,
            false => HeaderError::Magic,
        })?;
        if magic != MAGIC {
            return Err(HeaderError::Magic);
        }
        let [version] = take(&mut rest).ok_or(HeaderError::Cut)?;
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let [suite] = take(&mut rest).ok_or(HeaderError::Cut)?;
        if suite != SUITE {
            return Err(HeaderError::Suite(suite));
        }
        let chunk_size = u32::from_be_bytes(take(&mut rest).ok_or(HeaderError::Cut)?);
        if chunk_size as usize != CHUNK_SIZE {
            return Err(HeaderError::Field("chunk size"));
        }
        let prefix = take(&mut rest).ok_or(HeaderError::Cut)?;
        let id: [u8; ID] = take(&mut rest).ok_or(HeaderError::Cut)?;
        let recording = std::str::from_utf8(&id).ok().and_then(|text| text.parse().ok());
        let recording = recording.ok_or(HeaderError::Field("recording id"))?;

        let [id_len] = take(&mut rest).ok_or(HeaderError::Cut)?;
        let id_len = usize::from(id_len);
        if id_len == 0 || id_len > MAX_KEK_ID {
            return Err(HeaderError::Field("length of the KEK id"));
        }
        let (kek_id, after) = rest.split_at_checked(id_len).ok_or(HeaderError::Cut)?;
        rest = after;
        let kek_id = std::str::from_utf8(kek_id).ok().filter(|id| id.bytes().all(|b| b.is_ascii_graphic()));
        let kek_id = kek_id.ok_or(HeaderError::Field("KEK id"))?.to_owned();
        let fingerprint = take(&mut rest).ok_or(HeaderError::Cut)?;
        let nonce = take(&mut rest).ok_or(HeaderError::Cut)?;
        let wrapped = take(&mut rest).ok_or(HeaderError::Cut)?;
        let header = Self { prefix, recording, slot: Slot { kek_id, fingerprint, nonce, wrapped } };
        Ok((header, bytes.len() - rest.len()))
    }

    /// The data key, if the ring has the KEK and the header is as it was written.
    pub fn unwrap(&self, ring: &KeyRing) -> Result<Dek, WrapError> {
        let fingerprint = self.slot.fingerprint;
        if let Some(kek) = ring.by_fingerprint(fingerprint) {
            return self.try_unwrap(kek, fingerprint)?.ok_or(WrapError::Altered);
        }
        let Some(kek) = ring.by_id(&self.slot.kek_id) else {
            // Perhaps the fingerprint and the id are whole and the key is not here; perhaps one of them was altered.
            return Err(WrapError::UnknownKek {
                id: self.slot.kek_id.clone(),
                fingerprint: hex::encode(fingerprint),
                known: ring.len(),
            });
        };
        // The id is known and the fingerprint is not. If the slot opens with the fingerprint put right, the key is the
        // one that sealed it and somebody changed the fingerprint.
        match self.try_unwrap(kek, kek.fingerprint())? {
            Some(_) => Err(WrapError::Altered),
            None => Err(WrapError::WrongKek {
                id: self.slot.kek_id.clone(),
                found: hex::encode(kek.fingerprint()),
                wanted: hex::encode(fingerprint),
            }),
        }
    }

    fn try_unwrap(&self, kek: &Kek, fingerprint: [u8; FINGERPRINT]) -> Result<Option<Dek>, KeyDown> {
        let aad = slot_aad(&self.fixed(), &self.slot.kek_id, fingerprint);
        kek.unwrap(&self.slot.nonce, &aad, &self.slot.wrapped)
    }

    /// What the header says in the clear.
    pub fn opened(&self) -> Opened {
        Opened {
            recording: self.recording,
            kek_id: self.slot.kek_id.clone(),
            kek_fingerprint: hex::encode(self.slot.fingerprint),
            bytes: self.print().len() as u64,
            hash: self.hash(),
        }
    }
}

/// What the header at the beginning of `bytes` says in the clear; no key is needed.
pub fn header_of(bytes: &[u8]) -> Result<Opened, HeaderError> {
    Header::parse(bytes).map(|(header, _)| header.opened())
}

impl Slot {
    fn wrap(fixed: &[u8; FIXED], dek: &Dek, kek: &Kek, random: &mut Random) -> Result<Self, KeyDown> {
        let mut nonce = [0; NONCE];
        random.fill_bytes(&mut nonce);
        let wrapped = kek.wrap(&nonce, &slot_aad(fixed, kek.id(), kek.fingerprint()), dek)?;
        Ok(Self { kek_id: kek.id().to_owned(), fingerprint: kek.fingerprint(), nonce, wrapped })
    }
}

fn fixed_part(prefix: &[u8; 7], recording: RecordingId) -> [u8; FIXED] {
    let mut fixed = [0; FIXED];
    fixed[..8].copy_from_slice(&MAGIC);
    fixed[8] = VERSION;
    fixed[9] = SUITE;
    fixed[10..14].copy_from_slice(&(CHUNK_SIZE as u32).to_be_bytes());
    fixed[14..21].copy_from_slice(prefix);
    fixed[21..].copy_from_slice(recording.to_string().as_bytes());
    fixed
}

fn slot_aad(fixed: &[u8; FIXED], kek_id: &str, fingerprint: [u8; FINGERPRINT]) -> Vec<u8> {
    let mut aad = Vec::with_capacity(FIXED + 1 + kek_id.len() + FINGERPRINT);
    aad.extend_from_slice(fixed);
    aad.push(kek_id.len() as u8);
    aad.extend_from_slice(kek_id.as_bytes());
    aad.extend_from_slice(&fingerprint);
    aad
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}
