//! The writing side: masked blocks in, whole chunks out, each synced before it counts.
//!
//! ```text
//!            block, lost            close
//!   Open ───────────────▶ Open ─────────────▶ Closed
//!    │  append or sync failed
//!    └──────────────────▶ Failed     (for ever: the chunk number is spent)
//! ```

use std::collections::VecDeque;
use std::io;

use zeroize::{Zeroize, Zeroizing};

use super::header::Header;
use super::inside::{self, GapKind, Item, Mark, Start, Summary};
use super::{BLOCKS_PER_CHUNK, CHUNK_FRAMES, CHUNK_OVERHEAD, CHUNK_SIZE, Cipher, Dek, LENGTH, Opened, Seal, TAG};
use crate::base::Random;
use crate::base::time::WallMs;
use crate::media::{BLOCK_FRAMES, Block, MaskedBlock};
use crate::record::keys::{Kek, KeyDown};

/// Marks sealed in one chunk; more wait for the next.
const MARKS_PER_CHUNK: usize = 8;

/// Where sealed bytes go. `rt/` gives a file; tests give one that tears, fills up or is read-only.
pub trait Storage {
    /// Appends all of `bytes`, or fails having appended any part of them.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything appended would survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

/// Memory, for tests and benchmarks: nothing survives anything.
impl Storage for Vec<u8> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a recording could not go on. What was acknowledged before stays readable.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The storage failed.
    #[error("storage failed at chunk {chunk}: {error}")]
    Storage {
        /// Chunk being written; chunks before it are safe.
        chunk: u64,
        /// What the system said.
        error: io::Error,
    },
    /// An earlier write failed; a stream is never continued under its key.
    #[error("the recording failed before and cannot go on")]
    Failed,
    /// The key-encryption key cannot be asked; nothing was written.
    #[error(transparent)]
    Key(#[from] KeyDown),
    /// 2³² chunks.
    #[error("the recording has as many chunks as its cipher allows")]
    Full,
}

/// One recording being written.
pub struct Writer<S: Storage> {
    pub(super) storage: S,
    state: State,
    fixed: Vec<u8>,
    header: Header,
    opened: Opened,
    /// Length field, items and, once sealed in place, tag. Never reallocated: it would leave a copy.
    chunk: Zeroizing<Vec<u8>>,
    open_audio: Option<usize>,
    blocks_in_chunk: usize,
    gap: Option<GapKind>,
    /// Marks that wait for room.
    marks: VecDeque<(u64, Mark)>,
    marks_in_chunk: usize,
    /// Chunks acknowledged: synced and safe.
    chunks: u64,
    bytes: u64,
    frames: u64,
    gaps: u32,
}

enum State {
    Open { cipher: Box<Cipher>, dek: Dek },
    Failed,
    Closed,
}

impl<S: Storage> Writer<S> {
    /// Begins a recording under a new data key wrapped under `kek`. Header and a first chunk that holds `start` are
    /// appended and synced, so even a recording killed at once says what it was of.
    pub fn create(storage: S, kek: &Kek, start: Start, random: &mut Random) -> Result<Self, WriteError> {
        let (header, dek) = Header::draw(start.recording, kek, random)?;
        let mut writer = Self {
            storage,
            state: State::Open { cipher: Box::new(Cipher::new(&dek, header.prefix)), dek },
            fixed: header.fixed().to_vec(),
            opened: header.opened(),
            chunk: Zeroizing::new(Vec::with_capacity(CHUNK_SIZE + CHUNK_OVERHEAD)),
            header,
            open_audio: None,
            blocks_in_chunk: 0,
            gap: None,
            marks: VecDeque::new(),
            marks_in_chunk: 0,
            chunks: 0,
            bytes: 0,
            frames: 0,
            gaps: 0,
        };
        writer.begin_chunk();
        let printed = writer.header.print();
        writer.bytes = printed.len() as u64;
        if let Err(error) = writer.storage.append(&printed) {
            return Err(writer.fail(error));
        }
        inside::put(&mut writer.chunk, &Item::Start(bounded(start)));
        writer.finish_chunk(false)?;
        Ok(writer)
    }

    /// What the header says in the clear.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Chunks that are synced: every one of them reads back after a kill or a power cut.
    pub fn acknowledged(&self) -> u64 {
        self.chunks
    }

    /// Bytes written so far, header included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Stereo frames taken so far, sealed or not yet.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Takes 100 ms of masked media. A paused block is written as silence whatever it holds. Gives the number of
    /// acknowledged chunks when this block filled one.
    pub fn block(&mut self, block: &MaskedBlock) -> Result<Option<u64>, WriteError> {
        let block = block.get();
        self.take(Some(block), block.paused.then_some(GapKind::Paused))
    }

    /// Takes 100 ms that never arrived: silence in a gap marked as lost.
    pub fn lost(&mut self) -> Result<Option<u64>, WriteError> {
        self.take(None, Some(GapKind::Lost))
    }

    /// Takes 100 ms that were heard and taken out before they were sealed: silence in a gap marked as redacted.
    pub fn redacted(&mut self) -> Result<Option<u64>, WriteError> {
        self.take(None, Some(GapKind::Redacted))
    }

    /// Notes what may be heard of keys from `frame` on, or about there. It is sealed with the next sound that has room.
    pub fn mark(&mut self, frame: u64, mark: Mark) {
        self.marks.push_back((frame, mark));
    }

    fn put_marks(&mut self) {
        while self.marks_in_chunk < MARKS_PER_CHUNK
            && let Some((frame, mark)) = self.marks.pop_front()
        {
            self.open_audio = None;
            self.marks_in_chunk += 1;
            inside::put(&mut self.chunk, &Item::Mark { frame, mark });
        }
    }

    fn take(&mut self, block: Option<&Block>, gap: Option<GapKind>) -> Result<Option<u64>, WriteError> {
        let State::Open { .. } = self.state else { return Err(WriteError::Failed) };
        self.put_marks();
        self.set_gap(gap);
        let at = match self.open_audio {
            Some(at) => at,
            None => inside::open_audio(&mut self.chunk),
        };
        self.open_audio = Some(at);
        match block {
            Some(block) if gap.is_none() => {
                for sample in &block.samples {
                    self.chunk.extend_from_slice(&sample.to_le_bytes());
                }
            }
            _ => {
                let silent = self.chunk.len() + BLOCK_FRAMES * 4;
                self.chunk.resize(silent, 0);
            }
        }
        inside::grow_audio(&mut self.chunk, at);
        self.frames += BLOCK_FRAMES as u64;
        self.blocks_in_chunk += 1;
        if self.blocks_in_chunk < BLOCKS_PER_CHUNK {
            return Ok(None);
        }
        self.finish_chunk(false)?;
        Ok(Some(self.chunks))
    }

    fn set_gap(&mut self, gap: Option<GapKind>) {
        if gap == self.gap {
            return;
        }
        self.open_audio = None;
        if self.gap.is_some() {
            inside::put(&mut self.chunk, &Item::GapEnd { frame: self.frames });
        }
        if let Some(kind) = gap {
            self.gaps += 1;
            inside::put(&mut self.chunk, &Item::GapStart { frame: self.frames, kind });
        }
        self.gap = gap;
    }

    /// Seals what is left with the last-chunk flag. Gives the seal's text, to be stored beside the file
    /// ([`crate::record::place::seal_file`]), and the seal itself.
    pub fn close(&mut self, ended_at: WallMs) -> Result<(Seal, String), WriteError> {
        let State::Open { .. } = self.state else { return Err(WriteError::Failed) };
        while self.chunks > 0 && !self.marks.is_empty() {
            self.put_marks();
            if !self.marks.is_empty() {
                self.finish_chunk(false)?;
            }
        }
        if self.gap.take().is_some() {
            inside::put(&mut self.chunk, &Item::GapEnd { frame: self.frames });
        }
        let summary = Summary { chunks: self.chunks + 1, frames: self.frames, gaps: self.gaps, ended_at_ms: ended_at };
        inside::put(&mut self.chunk, &Item::Summary(summary));
        self.finish_chunk(true)?;
        let seal = Seal {
            recording: self.opened.recording,
            chunks: self.chunks,
            bytes: self.bytes - self.opened.bytes,
            frames: self.frames,
            gaps: self.gaps,
            ended_at,
            header: self.header.hash(),
        };
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open { dek, .. } => {
                let text = seal.print(&dek);
                Ok((seal, text))
            }
            State::Failed | State::Closed => Err(WriteError::Failed),
        }
    }

    /// The storage, with whatever was written to it.
    pub fn into_storage(self) -> S {
        self.storage
    }

    fn begin_chunk(&mut self) {
        self.chunk.clear();
        self.chunk.extend_from_slice(&[0; LENGTH]);
        self.open_audio = None;
        self.blocks_in_chunk = 0;
        self.marks_in_chunk = 0;
    }

    fn finish_chunk(&mut self, last: bool) -> Result<(), WriteError> {
        let Ok(number) = u32::try_from(self.chunks) else { return Err(WriteError::Full) };
        let State::Open { cipher, .. } = &self.state else { return Err(WriteError::Failed) };
        let Some(tag) = cipher.seal(&self.fixed, number, last, &mut self.chunk[LENGTH..]) else {
            return Err(WriteError::Full);
        };
        self.chunk.extend_from_slice(&tag);
        let length = cipher.length(number, last, self.chunk.len() - LENGTH);
        self.chunk[..LENGTH].copy_from_slice(&length.to_be_bytes());
        let written = self.storage.append(&self.chunk).and_then(|()| self.storage.sync());
        if let Err(error) = written {
            return Err(self.fail(error));
        }
        self.chunks += 1;
        self.bytes += self.chunk.len() as u64;
        self.begin_chunk();
        Ok(())
    }

    /// Some of the chunk may be on the disk: its number is spent, so nothing may be sealed again under this key.
    fn fail(&mut self, error: io::Error) -> WriteError {
        self.state = State::Failed;
        self.chunk.zeroize();
        WriteError::Storage { chunk: self.chunks, error }
    }
}

/// Names so long that they would not fit are cut; the configuration keeps them far shorter.
fn bounded(mut start: Start) -> Start {
    let Start { node, from_trunk, to_trunk, caller, called, agent, sip_call_ids, .. } = &mut start;
    sip_call_ids.truncate(8);
    let names = [node, from_trunk, to_trunk, caller, called, agent].into_iter().chain(sip_call_ids);
    for name in names {
        if name.len() > 256 {
            *name = name.chars().take(64).collect();
        }
    }
    if serde_json::to_vec(&start).is_ok_and(|text| text.len() > CHUNK_SIZE / 2) {
        (start.sip_call_ids, start.labels) = Default::default();
    }
    start
}

// Ten blocks, a gap that begins or ends before each, marks and a summary fit into one chunk.
const _: () = assert!(CHUNK_FRAMES * 4 + BLOCKS_PER_CHUNK * 64 + MARKS_PER_CHUNK * 16 + 4 * 1024 <= CHUNK_SIZE);
const _: () = assert!(TAG + LENGTH == CHUNK_OVERHEAD);
