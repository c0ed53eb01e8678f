//! One direction's session keys and what is done with them: encrypt and authenticate one packet in place. Session keys are
//! derived from the master key once (RFC 3711 section 4.3, no re-derivation). Indexes come from outside.
//!
//! ```text
//!  counter mode   IV = salt·2¹⁶ ⊕ SSRC·2⁶⁴ ⊕ index·2¹⁶      tag = HMAC-SHA1(packet ‖ rollover counter)
//!  GCM            IV = (00 00 ‖ SSRC ‖ index) ⊕ salt           tag over header and ciphertext
//! ```

use aes::cipher::{Block, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U16};
use aes::{Aes128Enc, Aes256Enc};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm, Nonce, Tag};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::base::key::MediaKey;
use crate::config::SrtpSuite;

/// Bytes of a GCM tag.
const GCM_TAG: usize = 16;
/// Bytes of the E flag and index of SRTCP.
const INDEX_WORD: usize = 4;
/// The header of an RTCP packet that stays readable.
const RTCP_HEADER: usize = 8;
/// The E flag: this SRTCP packet is encrypted.
const ENCRYPTED: u32 = 0x8000_0000;

/// Labels of key derivation (RFC 3711 section 4.3.1): cipher, authentication, salt.
const RTP: [u8; 3] = [0, 1, 2];
const RTCP: [u8; 3] = [3, 4, 5];

/// A packet cannot be what it should be: too short for its header and tag, or its tag is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// Shorter than header and tag.
    Short,
    /// The tag is not this packet's.
    Tag,
}

/// Session keys of one direction, for RTP and RTCP.
pub(super) struct Cipher {
    rtp: Half,
    rtcp: Half,
}

/// Session keys for RTP or for RTCP.
struct Half {
    mode: Mode,
    salt: Zeroizing<[u8; 14]>,
}

enum Mode {
    Cm128(Aes128Enc, Hmac<Sha1>, usize),
    Cm256(Aes256Enc, Hmac<Sha1>, usize),
    Gcm128(Aes128Gcm),
    Gcm256(Aes256Gcm),
}

impl Cipher {
    /// Derives the session keys; `None` when the master key is not of the suite's length.
    pub(super) fn new(suite: SrtpSuite, master: &MediaKey) -> Option<Self> {
        let (key, salt) = master.expose().split_at_checked(suite.key_len())?;
        if salt.len() != suite.salt_len() {
            return None;
        }
        Some(Self { rtp: Half::derive(suite, key, salt, RTP)?, rtcp: Half::derive(suite, key, salt, RTCP)? })
    }

    /// Encrypts the RTP packet in `room[..length]` and appends its tag; gives the new length.
    pub(super) fn seal_rtp(&self, index: u64, room: &mut [u8], length: usize) -> Option<usize> {
        let half = &self.rtp;
        let packet = room.get(..length)?;
        let start = rtp_header_len(packet)?;
        let ssrc = ssrc_at(packet, 8)?;
        let total = length + half.mode.tag_len();
        let (packet, tag) = room.get_mut(..total)?.split_at_mut(length);
        let (header, payload) = packet.split_at_mut(start);
        match half.mode.stream() {
            Some(_) => {
                half.keystream(half.counter_iv(ssrc, index), payload);
                let mac = half.mode.hmac(packet, &roc(index))?;
                tag.copy_from_slice(&mac[..tag.len()]);
            }
            None => tag.copy_from_slice(&half.gcm_seal(half.gcm_iv(ssrc, index), header, payload)?),
        }
        Some(total)
    }

    /// Checks the tag of the SRTP packet `room` by `index` and only then decrypts it in place; gives the RTP packet's
    /// length. A packet with a bad tag is left as it came.
    pub(super) fn open_rtp(&self, index: u64, room: &mut [u8]) -> Result<usize, Bad> {
        let half = &self.rtp;
        let length = room.len().checked_sub(half.mode.tag_len()).ok_or(Bad::Short)?;
        let (packet, tag) = room.split_at_mut(length);
        let start = rtp_header_len(packet).ok_or(Bad::Short)?;
        let ssrc = ssrc_at(packet, 8).ok_or(Bad::Short)?;
        match half.mode.stream() {
            Some(_) => {
                let mac = half.mode.hmac(packet, &roc(index)).ok_or(Bad::Tag)?;
                if !bool::from(mac[..tag.len()].ct_eq(tag)) {
                    return Err(Bad::Tag);
                }
                half.keystream(half.counter_iv(ssrc, index), &mut packet[start..]);
            }
            None => {
                let (header, payload) = packet.split_at_mut(start);
                half.gcm_open(half.gcm_iv(ssrc, index), header, payload, tag)?;
            }
        }
        Ok(length)
    }

    /// Encrypts the RTCP compound in `room[..length]`, appends index and tag; gives the new length.
    pub(super) fn seal_rtcp(&self, index: u32, room: &mut [u8], length: usize) -> Option<usize> {
        let half = &self.rtcp;
        let ssrc = ssrc_at(room.get(..length)?, 4)?;
        let total = length + INDEX_WORD + half.mode.rtcp_tag_len();
        let room = room.get_mut(..total)?;
        let word = (ENCRYPTED | index).to_be_bytes();
        match half.mode.stream() {
            Some(_) => {
                half.keystream(half.counter_iv(ssrc, u64::from(index)), &mut room[RTCP_HEADER..length]);
                let (packet, tag) = room.split_at_mut(length + INDEX_WORD);
                packet[length..].copy_from_slice(&word);
                let mac = half.mode.hmac(packet, &[])?;
                tag.copy_from_slice(&mac[..tag.len()]);
            }
            None => {
                let (packet, rest) = room.split_at_mut(length);
                let (header, body) = packet.split_at_mut(RTCP_HEADER);
                let mut associated = [0; RTCP_HEADER + INDEX_WORD];
                associated[..RTCP_HEADER].copy_from_slice(header);
                associated[RTCP_HEADER..].copy_from_slice(&word);
                let tag = half.gcm_seal(half.gcm_iv(ssrc, u64::from(index)), &associated, body)?;
                rest[..GCM_TAG].copy_from_slice(&tag);
                rest[GCM_TAG..].copy_from_slice(&word);
            }
        }
        Some(total)
    }

    /// Checks the tag of the SRTCP packet `room` and only then decrypts it in place; gives the compound's length and the
    /// packet's index. One that is not encrypted is refused: no suite of ours may be spoken so.
    pub(super) fn open_rtcp(&self, room: &mut [u8]) -> Result<(usize, u32), Bad> {
        let half = &self.rtcp;
        let length = room.len().checked_sub(INDEX_WORD + half.mode.rtcp_tag_len()).ok_or(Bad::Short)?;
        let ssrc = ssrc_at(&room[..length], 4).filter(|_| length >= RTCP_HEADER).ok_or(Bad::Short)?;
        let word_at = if half.mode.stream().is_some() { length } else { length + GCM_TAG };
        let word = ssrc_at(room, word_at).ok_or(Bad::Short)?;
        let index = word & !ENCRYPTED;
        if word & ENCRYPTED == 0 {
            return Err(Bad::Tag);
        }
        match half.mode.stream() {
            Some(_) => {
                let (packet, tag) = room.split_at_mut(length + INDEX_WORD);
                let mac = half.mode.hmac(packet, &[]).ok_or(Bad::Tag)?;
                if !bool::from(mac[..tag.len()].ct_eq(tag)) {
                    return Err(Bad::Tag);
                }
                half.keystream(half.counter_iv(ssrc, u64::from(index)), &mut packet[RTCP_HEADER..length]);
            }
            None => {
                let (packet, rest) = room.split_at_mut(length);
                let (header, body) = packet.split_at_mut(RTCP_HEADER);
                let mut associated = [0; RTCP_HEADER + INDEX_WORD];
                associated[..RTCP_HEADER].copy_from_slice(header);
                associated[RTCP_HEADER..].copy_from_slice(&word.to_be_bytes());
                half.gcm_open(half.gcm_iv(ssrc, u64::from(index)), &associated, body, &rest[..GCM_TAG])?;
            }
        }
        Ok((length, index))
    }
}

/// The SSRC an RTP (at 8) or RTCP (at 4) packet names.
pub(super) fn ssrc_at(packet: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*packet.get(at..)?.first_chunk()?))
}

/// Where the payload begins: after contributing sources and extension. `None` when the packet is no RTP of that length.
fn rtp_header_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first().filter(|first| **first >> 6 == 2)?;
    let mut length = 12 + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 {
        let words = packet.get(length + 2..length + 4)?;
        length += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    (length <= packet.len()).then_some(length)
}

/// The rollover counter of an index, as it is authenticated.
fn roc(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

impl Mode {
    fn stream(&self) -> Option<&Hmac<Sha1>> {
        match self {
            Mode::Cm128(_, mac, _) | Mode::Cm256(_, mac, _) => Some(mac),
            Mode::Gcm128(_) | Mode::Gcm256(_) => None,
        }
    }

    fn tag_len(&self) -> usize {
        match self {
            Mode::Cm128(.., tag) | Mode::Cm256(.., tag) => *tag,
            Mode::Gcm128(_) | Mode::Gcm256(_) => GCM_TAG,
        }
    }

    /// RTCP keeps the long tag whatever RTP's is (RFC 4568 section 6.2.2).
    fn rtcp_tag_len(&self) -> usize {
        self.tag_len().max(10)
    }

    fn hmac(&self, packet: &[u8], more: &[u8]) -> Option<[u8; 20]> {
        let mut mac = self.stream()?.clone();
        mac.update(packet);
        mac.update(more);
        Some(mac.finalize().into_bytes().into())
    }
}

impl Half {
    fn derive(suite: SrtpSuite, key: &[u8], master_salt: &[u8], labels: [u8; 3]) -> Option<Self> {
        let mut session_key = Zeroizing::new([0u8; 32]);
        let session_key = &mut session_key[..suite.key_len()];
        let mut auth = Zeroizing::new([0u8; 20]);
        let mut salt = Zeroizing::new([0u8; 14]);
        prf(key, master_salt, labels[0], session_key)?;
        prf(key, master_salt, labels[1], &mut auth[..])?;
        prf(key, master_salt, labels[2], &mut salt[..suite.salt_len()])?;
        Self::with(suite, session_key, &auth, &salt)
    }

    /// From session keys; the salt of GCM is the first 12 bytes.
    fn with(suite: SrtpSuite, key: &[u8], auth: &[u8; 20], salt: &[u8; 14]) -> Option<Self> {
        let mac = || <Hmac<Sha1> as KeyInit>::new_from_slice(auth).ok();
        let mode = match suite {
            SrtpSuite::AesCm128Sha1_80 => Mode::Cm128(Aes128Enc::new_from_slice(key).ok()?, mac()?, 10),
            SrtpSuite::AesCm128Sha1_32 => Mode::Cm128(Aes128Enc::new_from_slice(key).ok()?, mac()?, 4),
            SrtpSuite::AesCm256Sha1_80 => Mode::Cm256(Aes256Enc::new_from_slice(key).ok()?, mac()?, 10),
            SrtpSuite::AesCm256Sha1_32 => Mode::Cm256(Aes256Enc::new_from_slice(key).ok()?, mac()?, 4),
            SrtpSuite::AesGcm128 => Mode::Gcm128(Aes128Gcm::new_from_slice(key).ok()?),
            SrtpSuite::AesGcm256 => Mode::Gcm256(Aes256Gcm::new_from_slice(key).ok()?),
        };
        Some(Self { mode, salt: Zeroizing::new(*salt) })
    }

    /// RFC 3711 section 4.1.1.
    fn counter_iv(&self, ssrc: u32, index: u64) -> [u8; 16] {
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(&self.salt[..]);
        xor(&mut iv[4..8], &ssrc.to_be_bytes());
        xor(&mut iv[8..14], &index.to_be_bytes()[2..]);
        iv
    }

    /// RFC 7714 sections 8.1 and 9.1: an SRTCP index is short enough to fall into the same six bytes.
    fn gcm_iv(&self, ssrc: u32, index: u64) -> [u8; 12] {
        let mut iv = [0; 12];
        iv[2..6].copy_from_slice(&ssrc.to_be_bytes());
        iv[6..12].copy_from_slice(&index.to_be_bytes()[2..]);
        xor(&mut iv, &self.salt[..12]);
        iv
    }

    fn keystream(&self, iv: [u8; 16], data: &mut [u8]) {
        match &self.mode {
            Mode::Cm128(aes, ..) => counter_mode(aes, iv, data),
            Mode::Cm256(aes, ..) => counter_mode(aes, iv, data),
            Mode::Gcm128(_) | Mode::Gcm256(_) => {}
        }
    }

    fn gcm_seal(&self, iv: [u8; 12], associated: &[u8], data: &mut [u8]) -> Option<[u8; GCM_TAG]> {
        let iv = Nonce::from(iv);
        let tag = match &self.mode {
            Mode::Gcm128(gcm) => gcm.encrypt_inout_detached(&iv, associated, data.into()),
            Mode::Gcm256(gcm) => gcm.encrypt_inout_detached(&iv, associated, data.into()),
            Mode::Cm128(..) | Mode::Cm256(..) => return None,
        };
        tag.ok().map(Into::into)
    }

    fn gcm_open(&self, iv: [u8; 12], associated: &[u8], data: &mut [u8], tag: &[u8]) -> Result<(), Bad> {
        let iv = Nonce::from(iv);
        let tag = Tag::from(*tag.first_chunk::<GCM_TAG>().ok_or(Bad::Short)?);
        let done = match &self.mode {
            Mode::Gcm128(gcm) => gcm.decrypt_inout_detached(&iv, associated, data.into(), &tag),
            Mode::Gcm256(gcm) => gcm.decrypt_inout_detached(&iv, associated, data.into(), &tag),
            Mode::Cm128(..) | Mode::Cm256(..) => return Err(Bad::Tag),
        };
        done.map_err(|_| Bad::Tag)
    }
}

/// AES-CM as key derivation (RFC 3711 section 4.3.3; with AES-256 RFC 6188 section 3). The 12-byte salt of GCM counts as
/// if two zero bytes followed it (RFC 7714 section 11).
fn prf(key: &[u8], salt: &[u8], label: u8, out: &mut [u8]) -> Option<()> {
    let mut iv = [0; 16];
    iv.get_mut(..salt.len())?.copy_from_slice(salt);
    iv[7] ^= label;
    match key.len() {
        16 => counter_mode(&Aes128Enc::new_from_slice(key).ok()?, iv, out),
        _ => counter_mode(&Aes256Enc::new_from_slice(key).ok()?, iv, out),
    }
    iv.zeroize();
    Some(())
}

/// Adds the keystream that begins at `iv` to `data`, many blocks at a time so that they go through the processor's AES
/// unit side by side.
fn counter_mode<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>>(aes: &C, iv: [u8; 16], data: &mut [u8]) {
    const BLOCKS: usize = 16;
    let mut counter = u128::from_be_bytes(iv);
    let mut stream: [Block<C>; BLOCKS] = Default::default();
    for chunk in data.chunks_mut(16 * BLOCKS) {
        let blocks = &mut stream[..chunk.len().div_ceil(16)];
        for block in blocks.iter_mut() {
            block.copy_from_slice(&counter.to_be_bytes());
            counter = counter.wrapping_add(1);
        }
        aes.encrypt_blocks(blocks);
        for (bytes, block) in chunk.chunks_mut(16).zip(blocks) {
            xor(bytes, block);
        }
    }
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    for (byte, other) in bytes.iter_mut().zip(with) {
        *byte ^= other;
    }
}

#[cfg(test)]
#[path = "cipher_tests.rs"]
mod tests;
