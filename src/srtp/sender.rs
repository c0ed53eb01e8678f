//! Sealing what one leg is sent. Packets of our one stream go in with room to seal them in; sealed packets come out. A
//! packet index is never used twice under one key, whatever the caller does: a second packet with the same number would
//! give its plaintext away.

use super::cipher::{Cipher, ssrc_at};
use super::index::{Window, nearest};
use crate::base::key::MediaKey;
use crate::config::SrtpSuite;

/// The highest SRTCP index (RFC 3711 section 3.4).
const MAX_RTCP_INDEX: u32 = 0x7fff_ffff;
/// The highest SRTP index.
const MAX_RTP_INDEX: u64 = (1 << 48) - 1;

/// One leg's sending side.
pub struct Sender {
    suite: SrtpSuite,
    master: MediaKey,
    cipher: Cipher,
    /// Our stream's SSRC and the indexes it has used.
    stream: Option<(u32, Window)>,
    next_rtcp: u32,
}

impl Sender {
    /// A sender with a fresh key; `None` when the key is not of the suite's length.
    pub fn new(suite: SrtpSuite, master: &MediaKey) -> Option<Self> {
        let cipher = Cipher::new(suite, master)?;
        Some(Self { suite, master: master.clone(), cipher, stream: None, next_rtcp: 0 })
    }

    /// Whether this is its key.
    pub fn has(&self, suite: SrtpSuite, master: &MediaKey) -> bool {
        self.suite == suite && self.master == *master
    }

    /// Takes another key for the same peer. The rollover counter goes on (RFC 3711 section 3.3.1). The same key again
    /// changes nothing; `None` (and no change) when the key is not of the suite's length.
    pub fn rekey(&mut self, suite: SrtpSuite, master: &MediaKey) -> Option<()> {
        if !self.has(suite, master) {
            self.cipher = Cipher::new(suite, master)?;
            (self.suite, self.master) = (suite, master.clone());
        }
        Some(())
    }

    /// The rollover counter of our stream.
    pub fn rollover(&self) -> u32 {
        self.stream.map_or(0, |(_, window)| (window.highest() >> 16) as u32)
    }

    /// Seals an RTP packet into `room`. `None` when it does not fit, is no RTP, or its index has been used before.
    pub fn seal_rtp<'r>(&mut self, packet: &[u8], room: &'r mut [u8]) -> Option<&'r [u8]> {
        let ssrc = ssrc_at(packet, 8)?;
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let known = self.stream.as_mut().filter(|(known, _)| *known == ssrc).map(|(_, window)| window);
        let index = match &known {
            Some(window) => nearest(window.highest(), sequence).filter(|index| window.is_fresh(*index))?,
            None => u64::from(sequence),
        };
        if index > MAX_RTP_INDEX {
            return None;
        }
        room.get_mut(..packet.len())?.copy_from_slice(packet);
        let length = self.cipher.seal_rtp(index, room, packet.len())?;
        match known {
            Some(window) => window.use_up(index),
            None => self.stream = Some((ssrc, Window::new(index))),
        }
        room.get(..length)
    }

    /// Seals an RTCP compound into `room`. `None` when it does not fit or the key is used up.
    pub fn seal_rtcp<'r>(&mut self, compound: &[u8], room: &'r mut [u8]) -> Option<&'r [u8]> {
        if self.next_rtcp > MAX_RTCP_INDEX {
            return None;
        }
        room.get_mut(..compound.len())?.copy_from_slice(compound);
        let length = self.cipher.seal_rtcp(self.next_rtcp, room, compound.len())?;
        self.next_rtcp += 1;
        room.get(..length)
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("suite", &self.suite).finish_non_exhaustive()
    }
}
