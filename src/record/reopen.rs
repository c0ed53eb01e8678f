//! Sealed sound, opened again to be played to a recorder: the only way out of a file by which sound becomes a
//! [`MaskedBlock`] once more. A catalogue's entry, sealed bytes and keys go in; masked blocks come out, proven chunk by chunk.
//! It opens no file, and gives out nothing that is quarantined, was never audited, was tampered with, or is for somebody else.
//!
//! ```text
//!  Entry ── over, audit clean, a spill ──► Cleared ── every byte proven, sealed for that recorder ──► Proven ──► MaskedBlock …
//!    └── anything else: nothing               └── tampered, no key, another's: nothing
//! ```
//!
//! What was paused, lost or taken out comes as the silence that stands in the file, so that the timeline holds.

use std::io::{self, Read};

use zeroize::Zeroize;

use super::catalogue::Entry;
use super::keys::KeyRing;
use super::sealed::{Fault, Item, Start, Verdict, verify};
use crate::base::ids::RecordingId;
use crate::base::time::WallMs;
use crate::media::{BLOCK_FRAMES, MaskedBlock, RECORD_RATE};

/// Why a recording cannot be opened for a recorder.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is no spill that waits: quarantined, not audited, destroyed, forwarded already.
    #[error("{0}")]
    Withheld(String),
    /// Its seal in the file says that it is no spill for this recorder, whatever its labels say.
    #[error("it was not sealed as a spill for {0}")]
    Foreign(String),
    /// Somebody changed it, or the disk did.
    #[error("it was tampered with: {0}")]
    Tampered(String),
    /// No key, or it cannot be read.
    #[error("{0}")]
    Fault(#[from] Fault),
}

/// A spill that may be opened for its recorder, as far as the catalogue knows.
#[derive(Debug)]
pub struct Cleared {
    recording: RecordingId,
    recorder: String,
    call_ended: Option<WallMs>,
}

impl Cleared {
    /// Clears what `entry` tells of; ask with an entry as it is now.
    ///
    /// # Errors
    /// [`Unfit::Withheld`].
    pub fn of(entry: &Entry) -> Result<Self, Unfit> {
        let Some(recorder) = entry.waits_for() else {
            let why = entry.withheld().unwrap_or("is no spill whose self-audit was clean, or was forwarded");
            return Err(Unfit::Withheld(format!("it {why}")));
        };
        Ok(Self { recording: entry.recording, recorder: recorder.to_owned(), call_ended: entry.call_ended_ms })
    }

    /// Proves every byte, and that it was sealed as a spill for that recorder.
    ///
    /// # Errors
    /// When it is not, or cannot be read.
    pub fn prove(self, input: impl Read, seal: Option<&[u8]>, ring: &KeyRing) -> Result<Proven, Unfit> {
        let report = verify(input, seal, Some(self.recording), ring, &mut |_| Ok(()))?;
        let cut = match report.verdict {
            Verdict::Intact => false,
            Verdict::Interrupted { .. } => true,
            Verdict::Tampered { why, .. } => return Err(Unfit::Tampered(why.to_string())),
        };
        let start = report.start.ok_or_else(|| Unfit::Withheld("it holds nothing".to_owned()))?;
        if start.labels.get(super::catalogue::SPILL) != Some(&self.recorder) {
            return Err(Unfit::Foreign(self.recorder));
        }
        let lasted = report.frames * 1_000 / u64::from(RECORD_RATE);
        let ended = WallMs(start.started_at_ms.0.saturating_add(lasted));
        // The call of a node that was killed ended with it.
        let call_ended = self.call_ended.or(cut.then_some(ended));
        Ok(Proven { recording: self.recording, start, frames: report.frames, ended, call_ended })
    }
}

/// A spill, every byte of which was proven.
#[derive(Debug)]
pub struct Proven {
    recording: RecordingId,
    start: Start,
    frames: u64,
    ended: WallMs,
    call_ended: Option<WallMs>,
}

impl Proven {
    /// What it is of.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// Stereo frames in it.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// When its sound ended.
    pub fn ended(&self) -> WallMs {
        self.ended
    }

    /// When its call ended, where that is known and nothing of the call follows it.
    pub fn call_ended(&self) -> Option<WallMs> {
        self.call_ended
    }

    /// Gives its sound to `sink`, in blocks of 100 ms, each once its chunk has authenticated again. The last is filled up with
    /// silence.
    ///
    /// # Errors
    /// When it cannot be read, is not as it was proven, or `sink` fails.
    pub fn play(
        &self,
        input: impl Read,
        seal: Option<&[u8]>,
        ring: &KeyRing,
        sink: &mut dyn FnMut(MaskedBlock) -> io::Result<()>,
    ) -> Result<(), Unfit> {
        let mut open = Open { samples: [0; BLOCK_FRAMES * 2], filled: 0 };
        let report = verify(input, seal, Some(self.recording), ring, &mut |item| match item {
            Item::Audio(bytes) => open.push(bytes, sink),
            _ => Ok(()),
        })?;
        if let Verdict::Tampered { why, .. } = report.verdict {
            return Err(Unfit::Tampered(why.to_string()));
        }
        open.finish(sink).map_err(Fault::Io)?;
        Ok(())
    }
}

/// The block that is being filled.
struct Open {
    samples: [i16; BLOCK_FRAMES * 2],
    filled: usize,
}

impl Open {
    fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(MaskedBlock) -> io::Result<()>) -> io::Result<()> {
        for sample in bytes.as_chunks::<2>().0 {
            self.samples[self.filled] = i16::from_le_bytes(*sample);
            self.filled += 1;
            if self.filled == self.samples.len() {
                self.give(sink)?;
            }
        }
        Ok(())
    }

    fn give(&mut self, sink: &mut dyn FnMut(MaskedBlock) -> io::Result<()>) -> io::Result<()> {
        let block = MaskedBlock::reopened(self.samples);
        self.samples.zeroize();
        self.filled = 0;
        sink(block)
    }

    fn finish(&mut self, sink: &mut dyn FnMut(MaskedBlock) -> io::Result<()>) -> io::Result<()> {
        if self.filled > 0 { self.give(sink) } else { Ok(()) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.samples.zeroize();
    }
}

#[cfg(test)]
#[path = "reopen_tests.rs"]
mod tests;
