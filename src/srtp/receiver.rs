//! Opening what one leg's peer sends. Datagrams go in; plain packets, opened in place, or a reason for dropping them come
//! out. Nothing of a packet is believed, and no state changes, before its tag is good: a stranger can neither move the
//! rollover counter nor take a source's place.
//!
//! ```text
//!  key given ──► Receiver ── re-key ──► Receiver (new key)
//!                                        └─ former key: still tried for packets on their way,
//!                                           gone after SETTLED packets under the new one
//! ```

use super::cipher::{Bad, Cipher, ssrc_at};
use super::index::{Window, nearest};
use crate::base::key::MediaKey;
use crate::config::SrtpSuite;

/// Sources of one peer told apart: the present one, the one before, and two more.
const SOURCES: usize = 4;
/// Packets under a new key after which the former one is forgotten: two seconds of 20 ms packets.
const SETTLED: u32 = 100;

/// Why a packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Too short to be what it should be, or no RTP at all.
    #[error("too short for header and tag")]
    Malformed,
    /// The tag is wrong: another's key, or altered on the way.
    #[error("the authentication tag is wrong")]
    Unauthentic,
    /// A true packet, seen before or too old to tell.
    #[error("the packet has been seen before or is too old")]
    Replayed,
}

/// One leg's receiving side.
pub struct Receiver {
    keyed: Keyed,
    former: Option<Box<Keyed>>,
    /// Packets opened under the key of now.
    settled: u32,
}

/// A key and what came under it.
struct Keyed {
    suite: SrtpSuite,
    master: MediaKey,
    cipher: Cipher,
    rtp: Sources,
    rtcp: Sources,
}

/// The newest indexes per source; a source enters with its first true packet, in place of the one longest unheard.
#[derive(Clone, Copy, Default)]
struct Sources {
    list: [Option<(u32, Window)>; SOURCES],
}

impl Sources {
    fn find(&self, ssrc: u32) -> Option<&Window> {
        self.list.iter().flatten().find(|(known, _)| *known == ssrc).map(|(_, window)| window)
    }

    /// Notes a true packet; its source moves to the front.
    fn note(&mut self, ssrc: u32, index: u64) {
        let known = self.list.iter().position(|entry| entry.is_some_and(|(known, _)| known == ssrc));
        let place = known.unwrap_or(SOURCES - 1);
        let window = match self.list[place].filter(|_| known.is_some()) {
            Some((_, mut window)) => {
                window.use_up(index);
                window
            }
            None => Window::new(index),
        };
        self.list[..=place].rotate_right(1);
        self.list[0] = Some((ssrc, window));
    }
}

impl Keyed {
    fn new(suite: SrtpSuite, master: &MediaKey) -> Option<Self> {
        let (rtp, rtcp) = Default::default();
        Some(Self { suite, master: master.clone(), cipher: Cipher::new(suite, master)?, rtp, rtcp })
    }

    /// Opens by the one index that a known source's packet can have, or else by the likely ones: a source is met at its
    /// beginning, after one wrap that we were not there for, or (`before`, after a re-key) where it was.
    fn open_rtp(&mut self, ssrc: u32, sequence: u16, room: &mut [u8], before: Option<u64>) -> Result<usize, Rejected> {
        if let Some(window) = self.rtp.find(ssrc) {
            // Before the first cycle there is nothing.
            let index = nearest(window.highest(), sequence).ok_or(Rejected::Unauthentic)?;
            let fresh = window.is_fresh(index);
            let length = self.cipher.open_rtp(index, room).map_err(reason)?;
            if !fresh {
                return Err(Rejected::Replayed);
            }
            self.rtp.note(ssrc, index);
            return Ok(length);
        }
        let first = u64::from(sequence);
        let continued = before.and_then(|highest| nearest(highest, sequence)).filter(|index| *index > first + 0x1_0000);
        for index in continued.into_iter().chain([first, first + 0x1_0000]) {
            match self.cipher.open_rtp(index, room) {
                Ok(length) => {
                    self.rtp.note(ssrc, index);
                    return Ok(length);
                }
                Err(Bad::Short) => return Err(Rejected::Malformed),
                Err(Bad::Tag) => {}
            }
        }
        Err(Rejected::Unauthentic)
    }

    fn open_rtcp(&mut self, ssrc: u32, room: &mut [u8]) -> Result<usize, Rejected> {
        let (length, index) = self.cipher.open_rtcp(room).map_err(reason)?;
        let index = u64::from(index);
        if self.rtcp.find(ssrc).is_some_and(|window| !window.is_fresh(index)) {
            return Err(Rejected::Replayed);
        }
        self.rtcp.note(ssrc, index);
        Ok(length)
    }
}

fn reason(bad: Bad) -> Rejected {
    match bad {
        Bad::Short => Rejected::Malformed,
        Bad::Tag => Rejected::Unauthentic,
    }
}

impl Receiver {
    /// A receiver with a fresh key; `None` when the key is not of the suite's length.
    pub fn new(suite: SrtpSuite, master: &MediaKey) -> Option<Self> {
        Some(Self { keyed: Keyed::new(suite, master)?, former: None, settled: 0 })
    }

    /// Takes another key. Packets under the former one are still opened until the new one has settled, so that none is
    /// lost while the peer changes over. The same key again changes nothing; `None` (and no change) when the key is not
    /// of the suite's length.
    pub fn rekey(&mut self, suite: SrtpSuite, master: &MediaKey) -> Option<()> {
        if self.keyed.suite != suite || self.keyed.master != *master {
            // A key that comes back goes on where it was: what came under it once is still known.
            let back = self.former.take_if(|former| former.suite == suite && former.master == *master);
            let next = match back {
                Some(back) => *back,
                None => Keyed::new(suite, master)?,
            };
            self.former = Some(Box::new(std::mem::replace(&mut self.keyed, next)));
            self.settled = 0;
        }
        Some(())
    }

    /// Opens an SRTP packet in place; gives the length of the RTP packet. What is dropped is left as it came.
    pub fn open_rtp(&mut self, room: &mut [u8]) -> Result<usize, Rejected> {
        let ssrc = ssrc_at(room, 8).ok_or(Rejected::Malformed)?;
        let sequence = u16::from_be_bytes([room[2], room[3]]);
        let before = self.former.as_ref().and_then(|former| former.rtp.find(ssrc)).map(Window::highest);
        match (self.keyed.open_rtp(ssrc, sequence, room, before), &mut self.former) {
            (Err(Rejected::Unauthentic), Some(former)) => former.open_rtp(ssrc, sequence, room, None),
            (Ok(length), former) => {
                self.settled = self.settled.saturating_add(1);
                if self.settled >= SETTLED {
                    *former = None;
                }
                Ok(length)
            }
            (rejected, _) => rejected,
        }
    }

    /// Opens an SRTCP packet in place; gives the length of the RTCP compound. What is dropped is left as it came.
    pub fn open_rtcp(&mut self, room: &mut [u8]) -> Result<usize, Rejected> {
        let ssrc = ssrc_at(room, 4).ok_or(Rejected::Malformed)?;
        match (self.keyed.open_rtcp(ssrc, room), &mut self.former) {
            (Err(Rejected::Unauthentic), Some(former)) => former.open_rtcp(ssrc, room),
            (done, _) => done,
        }
    }

    /// The rollover counter of a source; `None` when none of its packets has come.
    pub fn rollover(&self, ssrc: u32) -> Option<u32> {
        self.keyed.rtp.find(ssrc).map(|window| (window.highest() >> 16) as u32)
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("suite", &self.keyed.suite).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "pair_tests.rs"]
mod tests;
