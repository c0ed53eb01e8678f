//! The recorder's ear: both directions as they left, laid out on real time, given out in stereo blocks in steady
//! cadence. Only [`Sent`] packets go in, so a recording holds what the two legs were sent and nothing else; [`Masked`]
//! blocks come out, silent where nothing was sent, silent and flagged while paused. Their length follows real time.
//!
//! ```text
//!             |<-------- 400 ms lag ------->|
//! ---block----|----block----|----block----|-now
//!   given out    still open to late packets
//! ```

use std::time::Instant;

use super::masked::Masked;
use super::stream::{Sent, samples_in, span_of};
use crate::base::ids::Leg;
use crate::config::Codec;
use crate::dsp::g711;

/// Stereo frames in one block: 100 ms.
pub const BLOCK_FRAMES: usize = 800;

/// 100 ms of both legs as recorders get it, customer left, agent right, 8 kHz.
#[derive(Clone)]
pub struct Block {
    /// Interleaved left, right samples; silence while paused.
    pub samples: [i16; BLOCK_FRAMES * 2],
    /// The block is a marked gap.
    pub paused: bool,
}

impl Drop for Block {
    fn drop(&mut self) {
        // It may hold a key that nobody knew of when it was made.
        zeroize::Zeroize::zeroize(&mut self.samples);
    }
}

/// A recorder block on its way out.
pub type MaskedBlock = Masked<Box<Block>>;

/// Blocks kept per side: the lag, the open block, and room for packets a little ahead.
const BLOCKS: usize = 8;
/// How far behind real time blocks are given out, in blocks.
pub const BLOCKS_LAG: u32 = 4;
/// The same in samples.
const LAG: u64 = BLOCKS_LAG as u64 * BLOCK_FRAMES as u64;
/// Samples kept per side.
const RING: usize = BLOCKS * BLOCK_FRAMES;
/// A stream that lies further than this from real time is laid out anew, in samples.
const STRAY: i64 = 640;

/// What the tap does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapState {
    /// Nothing.
    Off,
    /// Gives out what was sent.
    On,
    /// Gives out silence marked as a gap.
    Paused,
}

/// The recorder tap of one session.
#[derive(Default)]
pub struct Tap {
    running: Option<Box<Running>>,
}

struct Running {
    /// When sample 0 was.
    began: Instant,
    paused: bool,
    /// The next block to give out.
    block: u64,
    /// The next block whose gap mark is still to be decided.
    undecided: u64,
    gaps: [bool; BLOCKS],
    sides: [Side; 2],
}

struct Side {
    ring: [i16; RING],
    /// A timestamp and the sample it was laid at.
    anchor: Option<(u32, u64)>,
}

impl Tap {
    /// A tap that is off.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the state at `now`. A pause silences the whole block that is open at `now` and all that follow, up to
    /// and including the one that is open when it ends. Turning off gives out all there is.
    pub fn set(&mut self, now: Instant, state: TapState, out: &mut impl FnMut(MaskedBlock)) {
        match (&mut self.running, state) {
            (None, TapState::Off) => {}
            (running @ None, _) => *running = Some(Box::new(Running::new(now, state == TapState::Paused))),
            (Some(running), TapState::Off) => {
                running.handle_timeout(now, out);
                running.finish(now, out);
                self.running = None;
            }
            (Some(running), _) => {
                running.handle_timeout(now, out);
                // The open block is a gap under either state.
                running.decide(now, true);
                running.paused = state == TapState::Paused;
            }
        }
    }

    /// Takes a packet that was sent at `now` and came from `from`.
    pub fn feed(&mut self, now: Instant, from: Leg, sent: &Sent<'_>) {
        if let (Some(running), Some(codec)) = (&mut self.running, sent.codec) {
            running.feed(now, from, sent, codec);
        }
    }

    /// Gives out the blocks that are due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl FnMut(MaskedBlock)) {
        if let Some(running) = &mut self.running {
            running.handle_timeout(now, out);
        }
    }

    /// When the next block is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.running.as_ref().map(|running| running.began + span_of(running.due_at()))
    }
}

impl Running {
    fn new(now: Instant, paused: bool) -> Self {
        let side = || Side { ring: [0; RING], anchor: None };
        Self { began: now, paused, block: 0, undecided: 0, gaps: [false; BLOCKS], sides: [side(), side()] }
    }

    fn position(&self, now: Instant) -> u64 {
        u64::from(samples_in(now.saturating_duration_since(self.began)))
    }

    fn due_at(&self) -> u64 {
        (self.block + 1) * BLOCK_FRAMES as u64 + LAG
    }

    /// Settles for every block up to the one open at `now` whether it is a gap.
    fn decide(&mut self, now: Instant, gap: bool) {
        let open = self.position(now) / BLOCK_FRAMES as u64;
        while self.undecided <= open && self.undecided < self.block + BLOCKS as u64 {
            self.gaps[self.undecided as usize % BLOCKS] = self.paused;
            self.undecided += 1;
        }
        self.gaps[open as usize % BLOCKS] |= gap && open >= self.block;
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut impl FnMut(MaskedBlock)) {
        let position = self.position(now);
        self.decide(now, false);
        while self.due_at() <= position {
            self.give(out);
            self.decide(now, false);
        }
    }

    fn finish(&mut self, now: Instant, out: &mut impl FnMut(MaskedBlock)) {
        // A last block that is at least half full counts, so that the length is right to 50 ms.
        let end = (self.position(now) + BLOCK_FRAMES as u64 / 2) / BLOCK_FRAMES as u64;
        while self.block < end {
            self.give(out);
        }
    }

    fn give(&mut self, out: &mut impl FnMut(MaskedBlock)) {
        let slot = self.block as usize % BLOCKS;
        let paused = std::mem::take(&mut self.gaps[slot]);
        let span = slot * BLOCK_FRAMES..(slot + 1) * BLOCK_FRAMES;
        let mut block = Box::new(Block { samples: [0; BLOCK_FRAMES * 2], paused });
        for (channel, side) in self.sides.iter_mut().enumerate() {
            let kept = &mut side.ring[span.clone()];
            if !paused {
                for (frame, sample) in block.samples.as_chunks_mut::<2>().0.iter_mut().zip(kept.iter()) {
                    frame[channel] = *sample;
                }
            }
            kept.fill(0);
        }
        self.block += 1;
        self.undecided = self.undecided.max(self.block);
        out(Masked::new(block));
    }

    fn feed(&mut self, now: Instant, from: Leg, sent: &Sent<'_>, codec: Codec) {
        if self.paused {
            return;
        }
        let here = self.position(now);
        let oldest = self.block * BLOCK_FRAMES as u64;
        let side = &mut self.sides[from.index()];
        let laid = side.anchor.and_then(|(timestamp, at)| {
            let ahead = i64::from(sent.timestamp.wrapping_sub(timestamp) as i32);
            let at = at.checked_add_signed(ahead)?;
            (at.abs_diff(here) <= STRAY.unsigned_abs()).then_some(at)
        });
        let at = laid.unwrap_or(here);
        side.anchor = Some((sent.timestamp, at));
        let mut lay = |sounds: &mut dyn Iterator<Item = i16>| {
            for (place, sample) in (at..oldest + RING as u64).zip(sounds) {
                if place >= oldest {
                    side.ring[place as usize % RING] = sample;
                }
            }
        };
        match codec {
            Codec::Pcmu => lay(&mut sent.payload().iter().map(|byte| g711::ulaw_decode(*byte))),
            Codec::Pcma => lay(&mut sent.payload().iter().map(|byte| g711::alaw_decode(*byte))),
            Codec::G722 | Codec::Opus | Codec::Foreign(_) => lay(&mut sent.sound.iter().copied()),
        }
    }
}
