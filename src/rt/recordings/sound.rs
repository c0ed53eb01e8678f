//! Sound out of sealed files: proven chunk by chunk, never written anywhere.

use std::io::{self, BufReader, Seek, Write};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::base::ids::RecordingId;
use crate::control::recordings::{RecordingsError, Stretch, StretchKind, Waveform};
use crate::media::RECORD_RATE;
use crate::record::catalogue::Entry;
use crate::record::keys::KeyRing;
use crate::record::ogg::OggOpus;
use crate::record::sealed::{Fault, GapKind, Item, Mark, Report, Verdict, peek, verify};
use crate::rt::vault::Reading;

/// How long a listener may leave us waiting: players stop reading when they have enough.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Bytes of a piece that goes out.
const PIECE: usize = 32_000;

/// The way out to one listener.
pub(super) struct Out {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
    recording: RecordingId,
    /// The recording that is to be destroyed: who listens to it is left.
    leave: watch::Receiver<Option<RecordingId>>,
}

impl Out {
    pub(super) fn new(
        sender: mpsc::Sender<io::Result<Bytes>>,
        recording: RecordingId,
        leave: watch::Receiver<Option<RecordingId>>,
    ) -> Self {
        Self { sender, piece: Vec::with_capacity(PIECE), recording, leave }
    }

    fn send(&mut self, piece: io::Result<Bytes>) -> io::Result<()> {
        let (sender, recording, leave) = (&self.sender, self.recording, &mut self.leave);
        let sent = async {
            tokio::select! {
                biased;
                Ok(_) = leave.wait_for(|gone| *gone == Some(recording)) => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
                sent = tokio::time::timeout(PATIENCE, sender.send(piece)) => Ok(sent),
            }
        };
        match Handle::current().block_on(sent)? {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Breaks the answer off: the listener must not take it for the whole.
    pub(super) fn fail(&mut self, error: io::Error) {
        if error.kind() != io::ErrorKind::BrokenPipe {
            tracing::error!(%error, "the sound of a recording breaks off");
            let _ = self.send(Err(error));
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.send(Ok(Bytes::from(piece)))
    }
}

/// Reads a recording from end to end: each item goes to `sink` once its chunk is proven.
///
/// # Errors
/// When it cannot be read, or `sink` fails.
pub fn each_item(
    reading: &mut Reading,
    ring: &KeyRing,
    sink: &mut dyn FnMut(&Item<'_>) -> io::Result<()>,
) -> Result<Report, Fault> {
    reading.rewind()?;
    let (seal, recording) = (reading.seal.clone(), reading.entry.recording);
    let input = BufReader::with_capacity(1 << 16, reading);
    verify(input, seal.as_deref(), Some(recording), ring, sink)
}

fn told(entry: &Entry, fault: &Fault) -> RecordingsError {
    match fault {
        Fault::Io(error) => {
            tracing::error!(recording = %entry.recording, %error, "a recording cannot be read");
            RecordingsError::Busy("the disk cannot be read now".into())
        }
        other => RecordingsError::NoSound(format!("cannot be opened: {other}")),
    }
}

fn sound_of(report: Report) -> Result<Report, RecordingsError> {
    match &report.verdict {
        Verdict::Tampered { why, .. } => Err(RecordingsError::NoSound(format!("was tampered with: {why}"))),
        Verdict::Intact | Verdict::Interrupted { .. } => Ok(report),
    }
}

/// Stereo frames of a recording: by its seal, or, without one, by reading it.
///
/// # Errors
/// When it cannot be read, or was tampered with.
pub fn frames_of(reading: &mut Reading, ring: &KeyRing) -> Result<u64, RecordingsError> {
    let entry = reading.entry.clone();
    let told = |fault: Fault| told(&entry, &fault);
    if let Some(seal) = reading.seal.clone() {
        let bytes = reading.bytes().map_err(|error| told(error.into()))?;
        reading.rewind().map_err(|error| told(error.into()))?;
        let report = peek(&mut *reading, Some(&seal), ring).map_err(told)?;
        if let (Verdict::Intact, Some(seal), Some(header)) = (&report.verdict, &report.seal, &report.header)
            && seal.bytes + header.bytes == bytes
            && seal.recording == entry.recording
        {
            return Ok(seal.frames);
        }
    }
    let report = each_item(reading, ring, &mut |_| Ok(())).map_err(told)?;
    sound_of(report).map(|report| report.frames)
}

/// Gives these bytes of the samples out.
pub(super) fn samples(reading: &mut Reading, ring: &KeyRing, bytes: Range<u64>, out: &mut Out) -> io::Result<()> {
    let mut at = 0u64;
    let mut sink = |item: &Item<'_>| {
        let Item::Audio(samples) = item else { return Ok(()) };
        let (from, to) = (at, at + samples.len() as u64);
        at = to;
        let (begin, end) = (bytes.start.clamp(from, to), bytes.end.clamp(from, to));
        out.write_all(&samples[(begin - from) as usize..(end - from) as usize])?;
        // All that was asked for is out: the rest need not be read.
        if to >= bytes.end { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    };
    match each_item(reading, ring, &mut sink) {
        Ok(_) | Err(Fault::Io(_)) if at >= bytes.end => out.flush(),
        Ok(report) => Err(io::Error::other(format!("{:?}", report.verdict))),
        Err(Fault::Io(error)) => Err(error),
        Err(fault) => Err(io::Error::other(fault.to_string())),
    }
}

/// Gives the whole out as Ogg Opus.
pub(super) fn ogg(reading: &mut Reading, ring: &KeyRing, out: &mut Out) -> io::Result<()> {
    let entry = &reading.entry;
    let tags = [
        format!("RECORDING={}", entry.recording),
        format!("CALL={}", entry.call.map(|call| call.to_string()).unwrap_or_default()),
        format!("DATE={}", entry.started_ms.rfc3339()),
    ];
    // The low bits of a random id name the stream well enough.
    let text = entry.recording.to_string();
    let serial = u32::from_str_radix(text.get(text.len() - 8..).unwrap_or("1"), 16).unwrap_or(1);
    let mut stream = OggOpus::new(&mut *out, serial, &tags)?;
    let done = each_item(reading, ring, &mut |item| match item {
        Item::Audio(samples) => stream.audio(samples),
        _ => Ok(()),
    });
    match done {
        Ok(report) => {
            sound_of(report).map_err(|error| io::Error::other(error.to_string()))?;
            stream.finish()?;
            out.flush()
        }
        Err(Fault::Io(error)) => Err(error),
        Err(fault) => Err(io::Error::other(fault.to_string())),
    }
}

/// What a recording looks like.
///
/// # Errors
/// When it cannot be read, or was tampered with.
pub fn waveform_of(reading: &mut Reading, ring: &KeyRing, points: usize) -> Result<Waveform, RecordingsError> {
    let entry = reading.entry.clone();
    let frames = frames_of(reading, ring)?;
    let rate = u64::from(RECORD_RATE);
    let ms = |frame: u64| frame * 1_000 / rate;
    // Whole steps of 10 ms, so that pieces of one chunk do not straddle them.
    let step = (frames.div_ceil(points.max(1) as u64)).div_ceil(rate / 100).max(1) * (rate / 100);
    let steps = frames.div_ceil(step) as usize;
    let mut peaks = [vec![0u16; steps], vec![0u16; steps]];
    let (mut at, mut masked) = (0u64, None);
    let mut stretches = Vec::new();
    let report = each_item(reading, ring, &mut |item| {
        match item {
            Item::Audio(samples) => {
                for frame in samples.as_chunks::<4>().0 {
                    for (side, sample) in frame.as_chunks::<2>().0.iter().enumerate() {
                        let peak = i16::from_le_bytes(*sample).unsigned_abs();
                        if let Some(place) = peaks[side].get_mut((at / step) as usize) {
                            *place = (*place).max(peak);
                        }
                    }
                    at += 1;
                }
            }
            Item::Mark { frame, mark: Mark::CustomerKeysMasked } => {
                masked.get_or_insert(*frame);
            }
            Item::Mark { frame, mark: Mark::CustomerKeysPass } => {
                if let Some(from) = masked.take() {
                    stretches.push(Stretch { kind: StretchKind::Masked, from_ms: ms(from), to_ms: ms(*frame) });
                }
            }
            _ => {}
        }
        Ok(())
    });
    let report = sound_of(report.map_err(|fault| told(&entry, &fault))?)?;
    if let Some(from) = masked {
        stretches.push(Stretch { kind: StretchKind::Masked, from_ms: ms(from), to_ms: ms(report.frames) });
    }
    stretches.extend(report.gaps.iter().map(|gap| Stretch {
        kind: match gap.kind {
            GapKind::Paused => StretchKind::Pause,
            GapKind::Lost => StretchKind::Lost,
            GapKind::Redacted => StretchKind::Redacted,
        },
        from_ms: ms(gap.from),
        to_ms: ms(gap.to.unwrap_or(report.frames)),
    }));
    stretches.retain(|stretch| stretch.from_ms < stretch.to_ms);
    stretches.sort_by_key(|stretch| (stretch.from_ms, stretch.to_ms));
    let share =
        |peaks: &[u16]| peaks.iter().map(|peak| (f32::from(*peak) / 32_768.0 * 1_000.0).round() / 1_000.0).collect();
    let [customer, agent] = &peaks;
    Ok(Waveform {
        id: entry.recording,
        length_ms: ms(report.frames),
        step_ms: ms(step),
        customer: share(customer),
        agent: share(agent),
        stretches,
    })
}
