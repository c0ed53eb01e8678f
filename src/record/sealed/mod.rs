//! The sealed file: a stereo recording as a chain of authenticated chunks, readable to the last whole chunk after a
//! kill, and telling a crash from a hand. [`Writer`] takes masked blocks and puts out bytes; [`verify`] takes bytes and
//! puts out items and a [`Verdict`]. Neither opens a file. Nothing but [`crate::media::MaskedBlock`] gets in.
//!
//! ```text
//!  file    = header, chunk 0, chunk 1, … , chunk n (last)
//!
//!  header  = fixed part                              key slot
//!            +--------+---+---+------+-------+-----+ +----+-----+----+-------+---------+
//!            |TWSEALED| 1 | 1 | size |prefix | id  | | n  | KEK | fp | nonce | wrapped |
//!            +--------+---+---+------+-------+-----+ +----+-----+----+-------+---------+
//!    bytes    8        ver sui 4      7       36      1    n     8    12      32 + 16
//!
//!  chunk   = length, ciphertext + tag        length: bit 31 last chunk, bits 16–30 check, bits 0–15 bytes that follow
//!    key   = the recording's own data key (DEK), wrapped in the key slot under the KEK
//!    nonce = prefix (7) | chunk number (u32) | 1 if last else 0        STREAM-BE32
//!    AAD   = the fixed part of the header
//!
//!  inside  = items: kind (u8), length (u16), body        start | audio | gap start | gap end | summary
//! ```
//!
//! All numbers are big-endian, audio samples little-endian. The key slot stands outside the chunks' AAD, so that a
//! recording can be rewrapped under a new KEK without being re-encrypted; the slot is authenticated by its own tag,
//! which binds the fixed part, so no byte of the header can change unseen.
//!
//! The check in the length is keyed, so that a length altered to reach beyond the end of the file is not taken for a
//! chunk torn by a crash.
//!
//! A data key seals one stream, once: after a failed write, a crash or a restart a stream is never continued.

mod header;
mod inside;
mod noted;
mod reader;
mod rewrap;
mod seal;
mod writer;

#[cfg(test)]
mod tests;

pub use header::{HeaderError, Opened, WrapError, header_of};
pub use inside::{Gap, GapKind, Item, Mark, Start, Summary};
pub use noted::Noted;
pub use reader::{Fault, Place, Report, Tear, Verdict, Why, peek, verify};
pub use rewrap::{Reencrypted, RewrapError, Rewrapped, reencrypt, rewrap};
pub use seal::{Seal, SealError};
pub use writer::{Storage, WriteError, Writer};

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use hmac::Mac;
use zeroize::Zeroizing;

use super::keys;
use crate::media::{BLOCK_FRAMES, RECORD_RATE};

/// Stereo frames in a full chunk: one second. It is what a kill can cost.
pub const CHUNK_FRAMES: usize = RECORD_RATE as usize;

/// Most bytes inside a chunk: one second of 16-bit stereo and room for items.
pub const CHUNK_SIZE: usize = 36_864;

/// Bytes a chunk adds to what is inside it: length and tag.
pub const CHUNK_OVERHEAD: usize = LENGTH + TAG;

const LENGTH: usize = 4;
const TAG: usize = 16;
const LAST: u32 = 1 << 31;
const SIZE: u32 = 0xffff;
const _: () = assert!(CHUNK_SIZE + TAG <= SIZE as usize);
const BLOCKS_PER_CHUNK: usize = CHUNK_FRAMES / BLOCK_FRAMES;

/// A recording's data key.
type Dek = Zeroizing<[u8; 32]>;

/// The chunk cipher of one recording.
struct Cipher {
    aes: Aes256Gcm,
    prefix: [u8; 7],
    length_key: Zeroizing<[u8; 32]>,
}

impl Cipher {
    fn new(dek: &Dek, prefix: [u8; 7]) -> Self {
        let length_key = keys::derive(dek, b"tonewall chunk length v1");
        Self { aes: Aes256Gcm::new((&**dek).into()), prefix, length_key }
    }

    /// The length field of a chunk of `size` bytes (tag included).
    fn length(&self, chunk: u32, last: bool, size: usize) -> u32 {
        let plain = size as u32 & SIZE | if last { LAST } else { 0 };
        let mut mac = keys::mac(&self.length_key);
        mac.update(&chunk.to_be_bytes());
        mac.update(&plain.to_be_bytes());
        let check = mac.finalize().into_bytes();
        let check = u32::from(u16::from_be_bytes([check[0], check[1]])) & 0x7fff;
        plain | check << 16
    }

    fn nonce(&self, chunk: u32, last: bool) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..7].copy_from_slice(&self.prefix);
        nonce[7..11].copy_from_slice(&chunk.to_be_bytes());
        nonce[11] = u8::from(last);
        nonce
    }

    /// Encrypts in place and gives the tag; `None` only beyond the cipher's own limits (64 GiB).
    fn seal(&self, aad: &[u8], chunk: u32, last: bool, text: &mut [u8]) -> Option<[u8; TAG]> {
        let nonce = self.nonce(chunk, last);
        let tag = self.aes.encrypt_inout_detached(&nonce.into(), aad, InOutBuf::from(text)).ok()?;
        Some(tag.into())
    }

    /// Decrypts in place what `sealed` (ciphertext and tag) holds; `None` if it is not what was sealed there.
    fn open<'a>(&self, aad: &[u8], chunk: u32, last: bool, sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (text, tag) = sealed.split_at_mut_checked(sealed.len().checked_sub(TAG)?)?;
        let tag: [u8; TAG] = (&*tag).try_into().ok()?;
        let nonce = self.nonce(chunk, last);
        self.aes.decrypt_inout_detached(&nonce.into(), aad, InOutBuf::from(&mut *text), &tag.into()).ok()?;
        Some(text)
    }
}
