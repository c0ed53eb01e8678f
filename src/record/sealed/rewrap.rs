//! Under another key. [`rewrap`] gives a recording's header anew, its data key wrapped under another KEK: the chunks stay,
//! so it costs nothing. [`reencrypt`] is for a KEK that somebody else may have: the recording gets another data key, so
//! that the old header opens nothing any more; every chunk is opened and sealed again, and the seal with it.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use super::header::{Header, HeaderError, WrapError};
use super::reader::{Chunks, Input, Next, read_header};
use super::seal::{Seal, SealError};
use super::{CHUNK_OVERHEAD, CHUNK_SIZE, Cipher, LENGTH};
use crate::base::Random;
use crate::base::ids::RecordingId;
use crate::record::keys::{Kek, KeyDown, KeyRing};

/// Why a recording stays under its key.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// Its header cannot be read.
    #[error("{0}")]
    Header(#[from] HeaderError),
    /// Its present key cannot be had.
    #[error("{0}")]
    Old(#[from] WrapError),
    /// The key it is to be under cannot be asked.
    #[error("{0}")]
    New(#[from] KeyDown),
    /// A chunk or the seal is not what was written: it is left as it is, for whoever looks into it.
    #[error("it was tampered with ({0}) and is left as it is")]
    Tampered(String),
    /// It cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A header under another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrapped {
    /// Recording.
    pub recording: RecordingId,
    /// The new header's bytes.
    pub header: Vec<u8>,
    /// Length of the header it replaces.
    pub old_len: usize,
}

/// The header at the beginning of `head`, its data key wrapped under `kek`; `None` when it is under `kek` already.
///
/// # Errors
/// When one of the keys cannot be had or the header is not authentic.
pub fn rewrap(head: &[u8], ring: &KeyRing, kek: &Kek, random: &mut Random) -> Result<Option<Rewrapped>, RewrapError> {
    let (header, old_len) = Header::parse(head)?;
    if header.opened().kek_fingerprint == hex::encode(kek.fingerprint()) && header.opened().kek_id == kek.id() {
        return Ok(None);
    }
    let dek = header.unwrap(ring)?;
    let new = header.rewrap(&dek, kek, random)?;
    Ok(Some(Rewrapped { recording: header.recording, header: new.print(), old_len }))
}

/// What [`reencrypt`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reencrypted {
    /// Recording.
    pub recording: RecordingId,
    /// The new seal's text, if there was a seal.
    pub seal: Option<String>,
    /// Bytes written.
    pub bytes: u64,
}

/// Writes the recording of `input` to `out`, under a new data key wrapped under `kek`. An interrupted recording stays
/// interrupted: its whole chunks are taken over.
///
/// # Errors
/// When a key cannot be had, or anything in it is not authentic; what was written to `out` is then worth nothing.
pub fn reencrypt(
    input: impl Read,
    seal: Option<&[u8]>,
    ring: &KeyRing,
    kek: &Kek,
    out: &mut impl Write,
    random: &mut Random,
) -> Result<Reencrypted, RewrapError> {
    let mut input = Input { inner: input, bytes: 0 };
    let header = read_header(&mut input)??;
    let dek = header.unwrap(ring)?;
    let forged = |error: SealError| RewrapError::Tampered(error.to_string());
    let seal = seal.map(|text| Seal::read(text, &dek)).transpose().map_err(forged)?;
    let (new, new_dek) = Header::draw(header.recording, kek, random)?;
    let (cipher, fixed) = (Cipher::new(&new_dek, new.prefix), new.fixed());
    let printed = new.print();
    out.write_all(&printed)?;
    let mut bytes = 0;
    let mut chunks = Chunks::new(input, &header, &dek);
    let mut buffer = Zeroizing::new(Vec::with_capacity(CHUNK_SIZE + CHUNK_OVERHEAD));
    let mut number = 0u32;
    let whole = loop {
        let last = match chunks.next()? {
            Next::Chunk { inside, last } => {
                buffer.clear();
                buffer.extend_from_slice(&[0; LENGTH]);
                buffer.extend_from_slice(inside);
                last
            }
            Next::End => break true,
            Next::Torn(_) => break false,
            Next::Bad { why, .. } => return Err(RewrapError::Tampered(why.to_string())),
        };
        let tampered = || RewrapError::Tampered("a chunk is longer than any writer makes it".into());
        let tag = cipher.seal(&fixed, number, last, &mut buffer[LENGTH..]).ok_or_else(tampered)?;
        buffer.extend_from_slice(&tag);
        let length = cipher.length(number, last, buffer.len() - LENGTH);
        buffer[..LENGTH].copy_from_slice(&length.to_be_bytes());
        out.write_all(&buffer)?;
        bytes += buffer.len() as u64;
        number += 1;
    };
    let seal = match seal {
        None => None,
        Some(seal) => {
            let same = whole && seal.chunks == u64::from(number) && seal.bytes == bytes && seal.header == header.hash();
            if !same {
                return Err(RewrapError::Tampered("its seal and its chunks differ".into()));
            }
            Some(Seal { header: new.hash(), ..seal }.print(&new_dek))
        }
    };
    Ok(Reencrypted { recording: header.recording, seal, bytes: bytes + printed.len() as u64 })
}
