//! The reading side: bytes in, authenticated items and a verdict out. An item is given out only after its whole chunk
//! authenticated; nothing that somebody changed is ever played.

use std::io::{self, Read};

use zeroize::Zeroizing;

use super::header::{FIXED, Header, HeaderError, MAX_HEADER, Opened, WrapError};
use super::inside::{self, Gap, Item, Start, Summary};
use super::seal::{Seal, SealError};
use super::{CHUNK_SIZE, Cipher, Dek, LAST, LENGTH, SIZE, TAG};
use crate::base::ids::RecordingId;
use crate::record::keys::KeyRing;

/// What a sealed file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Complete, from header to last chunk, as it was sealed.
    Intact,
    /// Its writer was killed or its disk failed: the last chunk is missing. Every chunk before it is sound.
    Interrupted {
        /// Chunks that authenticate; the first holds the description, each other one up to a second.
        good_chunks: u64,
        /// How it ends.
        tear: Tear,
    },
    /// Somebody changed it, or the disk did.
    Tampered {
        /// Where.
        at: Place,
        /// What is wrong.
        why: Why,
    },
}

/// How an interrupted file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tear {
    /// Inside the header.
    InHeader,
    /// After a whole chunk.
    BetweenChunks,
    /// Inside a chunk.
    InChunk,
    /// In blocks the disk gave to the file and never filled (zeros after a power cut).
    Unwritten,
}

/// Where a file was tampered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The header.
    Header,
    /// This chunk, from 0.
    Chunk(u64),
    /// After the last chunk.
    AfterEnd,
    /// The seal beside the file.
    Seal,
    /// The file's name.
    Name,
}

/// What is wrong with a tampered file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The header cannot be read.
    #[error("{0}")]
    Header(HeaderError),
    /// The header does not authenticate.
    #[error("the header does not authenticate under its key")]
    HeaderAltered,
    /// The chunk does not authenticate: altered, moved, repeated or taken from another recording.
    #[error("the chunk does not authenticate: altered, moved, repeated or from another recording")]
    ChunkAltered,
    /// The chunk authenticates and holds what no writer of this version seals.
    #[error("the chunk holds what this version does not write")]
    Inside,
    /// There are bytes after the last chunk.
    #[error("bytes were added after the last chunk")]
    Appended,
    /// The seal says there was more: the file was cut after it was closed.
    #[error("the file was cut after it was closed: {sealed} chunks were sealed, {left} are left")]
    Cut {
        /// Chunks in the seal.
        sealed: u64,
        /// Chunks left.
        left: u64,
    },
    /// The audit log says there was more: the file was cut after it was closed, and its seal removed.
    #[error("the file was cut after it was closed: the audit log has {sealed} chunks, {left} are left")]
    CutByLog {
        /// Chunks in the log.
        sealed: u64,
        /// Chunks left.
        left: u64,
    },
    /// It is sound, and not the file that the audit log says was closed.
    #[error("this is not the file that was closed under this name: the audit log has another")]
    NotWhatWasSealed,
    /// The seal and the file do not say the same.
    #[error("the seal and the file differ")]
    SealDiffers,
    /// The seal itself.
    #[error("{0}")]
    Seal(SealError),
    /// The file bears another recording's name.
    #[error("the file's name is not that of the recording in it ({0})")]
    Name(RecordingId),
}

/// Why no verdict could be had.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No key, or not the right one.
    #[error("{0}")]
    Key(WrapError),
    /// The file could not be read.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
}

/// What was found in a sealed file.
#[derive(Debug, Clone)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// The header, when it could be read.
    pub header: Option<Opened>,
    /// What the recording is of, when chunk 0 is sound.
    pub start: Option<Start>,
    /// How it ended, when it was closed.
    pub summary: Option<Summary>,
    /// The seal, when there is one and it authenticates.
    pub seal: Option<Seal>,
    /// Chunks that authenticated.
    pub chunks: u64,
    /// Stereo frames in them.
    pub frames: u64,
    /// Gaps in them.
    pub gaps: Vec<Gap>,
}

/// Reads a whole sealed file: every item goes to `sink` once its chunk has authenticated.
///
/// `seal` is the text of the seal beside the file, if there is one; `name` the recording the file's name claims.
pub fn verify(
    input: impl Read,
    seal: Option<&[u8]>,
    name: Option<RecordingId>,
    ring: &KeyRing,
    sink: &mut dyn FnMut(&Item<'_>) -> io::Result<()>,
) -> Result<Report, Fault> {
    run(input, seal, name, ring, sink, u64::MAX)
}

/// Reads the header and first chunk only, and the seal: what a list shows. The verdict is that of the bytes read; a
/// recording that is open or long is not judged.
pub fn peek(input: impl Read, seal: Option<&[u8]>, ring: &KeyRing) -> Result<Report, Fault> {
    run(input, seal, None, ring, &mut |_| Ok(()), 1)
}

fn run(
    input: impl Read,
    seal: Option<&[u8]>,
    name: Option<RecordingId>,
    ring: &KeyRing,
    sink: &mut dyn FnMut(&Item<'_>) -> io::Result<()>,
    most_chunks: u64,
) -> Result<Report, Fault> {
    let mut report = Report {
        verdict: Verdict::Intact,
        header: None,
        start: None,
        summary: None,
        seal: None,
        chunks: 0,
        frames: 0,
        gaps: Vec::new(),
    };
    let mut input = Input { inner: input, bytes: 0 };
    let header = match read_header(&mut input)? {
        Ok(header) => header,
        Err(error) => {
            report.verdict = match error {
                HeaderError::Cut if seal.is_none() => Verdict::Interrupted { good_chunks: 0, tear: Tear::InHeader },
                error => Verdict::Tampered { at: Place::Header, why: Why::Header(error) },
            };
            return Ok(report);
        }
    };
    report.header = Some(header.opened());
    let dek = match header.unwrap(ring) {
        Ok(dek) => dek,
        Err(WrapError::Altered) => {
            report.verdict = Verdict::Tampered { at: Place::Header, why: Why::HeaderAltered };
            return Ok(report);
        }
        Err(error) => return Err(Fault::Key(error)),
    };
    if let Some(name) = name
        && name != header.recording
    {
        report.verdict = Verdict::Tampered { at: Place::Name, why: Why::Name(header.recording) };
        return Ok(report);
    }
    let seal = seal.map(|text| Seal::read(text, &dek));
    report.seal = seal.as_ref().and_then(|seal| seal.as_ref().ok().cloned());
    let mut chunks = Chunks::new(input, &header, &dek);
    report.verdict = loop {
        if report.chunks == most_chunks {
            return Ok(report);
        }
        match chunks.next()? {
            Next::Chunk { inside, last } => {
                let number = report.chunks;
                if !absorb(&mut report, inside, last, header.recording, sink)? {
                    break Verdict::Tampered { at: Place::Chunk(number), why: Why::Inside };
                }
            }
            Next::End => break Verdict::Intact,
            Next::Torn(tear) => break Verdict::Interrupted { good_chunks: report.chunks, tear },
            Next::Bad { at, why } => break Verdict::Tampered { at, why },
        }
    };
    report.verdict = judge(&report, seal, &header, chunks.input.bytes);
    Ok(report)
}

/// The verdict of the file alone, in the light of its seal.
fn judge(report: &Report, seal: Option<Result<Seal, SealError>>, header: &Header, bytes: u64) -> Verdict {
    let alone = report.verdict.clone();
    let seal = match (&alone, seal) {
        (Verdict::Tampered { .. }, _) | (_, None) => return alone,
        (_, Some(Err(error))) => return Verdict::Tampered { at: Place::Seal, why: Why::Seal(error) },
        (_, Some(Ok(seal))) => seal,
    };
    if let Verdict::Interrupted { good_chunks, .. } = alone {
        let why = Why::Cut { sealed: seal.chunks, left: good_chunks };
        return Verdict::Tampered { at: Place::Chunk(good_chunks), why };
    }
    let same = seal.recording == header.recording
        && seal.header == header.hash()
        && seal.chunks == report.chunks
        && seal.frames == report.frames
        && seal.bytes + header.opened().bytes == bytes;
    if same { alone } else { Verdict::Tampered { at: Place::Seal, why: Why::SealDiffers } }
}

/// Takes the items of a sound chunk into the report and gives them out; `false` when they are not a writer's.
fn absorb(
    report: &mut Report,
    mut inside: &[u8],
    last: bool,
    recording: RecordingId,
    sink: &mut dyn FnMut(&Item<'_>) -> io::Result<()>,
) -> io::Result<bool> {
    let first = report.chunks == 0;
    let mut items = 0usize;
    while !inside.is_empty() {
        let Some(item) = inside::take(&mut inside) else { return Ok(false) };
        match &item {
            Item::Start(start) => {
                if !first || items != 0 || start.recording != recording {
                    return Ok(false);
                }
                report.start = Some(start.clone());
            }
            Item::Mark { .. } if first => return Ok(false),
            Item::Mark { .. } => {}
            Item::Audio(samples) => report.frames += samples.len() as u64 / 4,
            Item::GapStart { frame, kind } => {
                let open = report.gaps.last().is_some_and(|gap| gap.to.is_none());
                if open || *frame != report.frames {
                    return Ok(false);
                }
                report.gaps.push(Gap { kind: *kind, from: *frame, to: None });
            }
            Item::GapEnd { frame } => match report.gaps.last_mut() {
                Some(gap) if gap.to.is_none() && *frame == report.frames => gap.to = Some(*frame),
                _ => return Ok(false),
            },
            Item::Summary(summary) => {
                let same = summary.chunks == report.chunks + 1
                    && summary.frames == report.frames
                    && summary.gaps as usize == report.gaps.len();
                if !last || !inside.is_empty() || !same {
                    return Ok(false);
                }
                report.summary = Some(summary.clone());
            }
        }
        items += 1;
        sink(&item)?;
    }
    report.chunks += 1;
    Ok(!(first && report.start.is_none() || last && report.summary.is_none()))
}

pub(super) fn read_header(input: &mut Input<impl Read>) -> io::Result<Result<Header, HeaderError>> {
    // The fixed part and the length of the KEK id tell how long the whole is.
    let mut bytes = Vec::with_capacity(MAX_HEADER);
    input.fill(&mut bytes, FIXED + 1)?;
    let id_len = usize::from(bytes.get(FIXED).copied().unwrap_or(0));
    let rest = (id_len + MAX_HEADER - FIXED - 1).saturating_sub(crate::record::keys::MAX_KEK_ID);
    input.fill(&mut bytes, rest.min(MAX_HEADER - FIXED - 1))?;
    Ok(Header::parse(&bytes).map(|(header, _)| header))
}

pub(super) struct Input<R> {
    pub(super) inner: R,
    pub(super) bytes: u64,
}

impl<R: Read> Input<R> {
    /// Appends up to `most` bytes to `out`; fewer only at the end of the input.
    fn fill(&mut self, out: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        let got = self.inner.by_ref().take(most as u64).read_to_end(out)?;
        self.bytes += got as u64;
        Ok(got)
    }
}

pub(super) enum Next<'a> {
    Chunk { inside: &'a [u8], last: bool },
    End,
    Torn(Tear),
    Bad { at: Place, why: Why },
}

pub(super) struct Chunks<R> {
    input: Input<R>,
    cipher: Cipher,
    fixed: Vec<u8>,
    number: u64,
    ended: bool,
    buffer: Zeroizing<Vec<u8>>,
}

impl<R: Read> Chunks<R> {
    pub(super) fn new(input: Input<R>, header: &Header, dek: &Dek) -> Self {
        Self {
            input,
            cipher: Cipher::new(dek, header.prefix),
            fixed: header.fixed().to_vec(),
            number: 0,
            ended: false,
            buffer: Zeroizing::new(Vec::with_capacity(LENGTH + CHUNK_SIZE + TAG)),
        }
    }

    pub(super) fn next(&mut self) -> io::Result<Next<'_>> {
        self.buffer.clear();
        let got = self.input.fill(&mut self.buffer, LENGTH)?;
        if self.ended {
            let more = Next::Bad { at: Place::AfterEnd, why: Why::Appended };
            return Ok(if got == 0 { Next::End } else { more });
        }
        if got == 0 {
            return Ok(Next::Torn(Tear::BetweenChunks));
        }
        let here = Place::Chunk(self.number);
        let Some(length) = self.buffer.first_chunk::<LENGTH>().copied() else { return Ok(Next::Torn(Tear::InChunk)) };
        let length = u32::from_be_bytes(length);
        let last = length & LAST != 0;
        let size = (length & SIZE) as usize;
        let Ok(number) = u32::try_from(self.number) else {
            return Ok(Next::Bad { at: here, why: Why::ChunkAltered });
        };
        if length != self.cipher.length(number, last, size) || !(TAG..=CHUNK_SIZE + TAG).contains(&size) {
            let unwritten = length == 0 && self.rest_is_zero()?;
            let bad = Next::Bad { at: here, why: Why::ChunkAltered };
            return Ok(if unwritten { Next::Torn(Tear::Unwritten) } else { bad });
        }
        if self.input.fill(&mut self.buffer, size)? < size {
            return Ok(Next::Torn(Tear::InChunk));
        }
        // Authentication works in place; what a crash left half filled is looked at before.
        let zeros = self.buffer.iter().rev().take_while(|b| **b == 0).count();
        let sealed = &mut self.buffer[LENGTH..];
        let sound = self.cipher.open(&self.fixed, number, last, sealed).is_some();
        if !sound {
            let unwritten = zeros >= UNWRITTEN && self.input.fill(&mut Vec::new(), 1)? == 0;
            let bad = Next::Bad { at: here, why: Why::ChunkAltered };
            return Ok(if unwritten { Next::Torn(Tear::Unwritten) } else { bad });
        }
        self.number += 1;
        self.ended = last;
        Ok(Next::Chunk { inside: &self.buffer[LENGTH..LENGTH + size - TAG], last })
    }

    fn rest_is_zero(&mut self) -> io::Result<bool> {
        loop {
            self.buffer.clear();
            if self.input.fill(&mut self.buffer, CHUNK_SIZE)? == 0 {
                return Ok(true);
            }
            if self.buffer.iter().any(|b| *b != 0) {
                return Ok(false);
            }
        }
    }
}

/// Zeros at the end of a file that are taken for blocks never filled: half of the smallest disk sector. Sealed bytes
/// end in so many zeros with a chance of 2⁻²⁰⁴⁸.
const UNWRITTEN: usize = 256;
