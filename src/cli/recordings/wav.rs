//! The file of an export, WAV or, by its name (`.ogg`, `.opus`), Ogg Opus: written beside its name, for its owner only, and renamed when whole. Gaps become cue
//! points with labels (RIFF `cue ` and `LIST adtl`), which audio editors show as regions.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavSpec, WavWriter};

use crate::media::RECORD_RATE;
use crate::record::ogg::OggOpus;
use crate::record::sealed::{Gap, GapKind};

const SPEC: WavSpec =
    WavSpec { channels: 2, sample_rate: RECORD_RATE, bits_per_sample: 16, sample_format: SampleFormat::Int };

/// What it is written as.
enum Form {
    Wav(WavWriter<BufWriter<File>>),
    Ogg(Box<OggOpus<BufWriter<File>>>),
}

/// An export being written. Dropped before [`Export::finish`], it leaves nothing.
pub(super) struct Export {
    writer: Option<Form>,
    partial: PathBuf,
    output: PathBuf,
    frames: u64,
}

impl Export {
    pub(super) fn create(output: &Path) -> io::Result<Self> {
        let mut name = output.file_name().ok_or_else(|| io::Error::other("the output has no file name"))?.to_owned();
        name.push(".partial");
        let partial = output.with_file_name(name);
        let named = |error| io::Error::other(format!("cannot write {}: {error}", partial.display()));
        // What an earlier run left, or somebody put there, may be readable by others or lead elsewhere.
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&partial);
        let file = BufWriter::new(file.map_err(named)?);
        let ogg = output.extension().is_some_and(|kind| kind == "ogg" || kind == "opus");
        let writer = if ogg {
            Form::Ogg(Box::new(OggOpus::new(file, 1, &[])?))
        } else {
            Form::Wav(WavWriter::new(file, SPEC).map_err(io_error)?)
        };
        Ok(Self { writer: Some(writer), partial, output: output.to_owned(), frames: 0 })
    }

    /// Appends interleaved 16-bit little-endian samples.
    pub(super) fn audio(&mut self, samples: &[u8]) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        self.frames += samples.len() as u64 / 4;
        let writer = match writer {
            Form::Wav(writer) => writer,
            Form::Ogg(writer) => return writer.audio(samples),
        };
        for sample in samples.as_chunks::<2>().0 {
            writer.write_sample(i16::from_le_bytes(*sample)).map_err(io_error)?;
        }
        Ok(())
    }

    /// Completes the file and gives it its name. Gives the frames written.
    pub(super) fn finish(mut self, gaps: &[Gap]) -> io::Result<u64> {
        let mut cues = false;
        match self.writer.take() {
            Some(Form::Wav(writer)) => {
                writer.finalize().map_err(io_error)?;
                cues = true;
            }
            Some(Form::Ogg(writer)) => writer.finish()?.0.flush()?,
            None => {}
        }
        let mut file = OpenOptions::new().read(true).write(true).open(&self.partial)?;
        if cues && !gaps.is_empty() {
            append_cues(&mut file, gaps, self.frames)?;
        }
        file.sync_all()?;
        fs::rename(&self.partial, &self.output)?;
        self.partial.clear();
        Ok(self.frames)
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.writer = None;
        if !self.partial.as_os_str().is_empty() {
            // Nothing more can be done about a file that cannot be removed; its sound was authentic.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Cue points at the beginning of each gap, each with a label and, as labelled text, its length.
fn append_cues(file: &mut File, gaps: &[Gap], frames: u64) -> io::Result<()> {
    let mut cue = (gaps.len() as u32).to_le_bytes().to_vec();
    let mut list = b"adtl".to_vec();
    for (gap, id) in gaps.iter().zip(1u32..) {
        let from = u32::try_from(gap.from).unwrap_or(u32::MAX);
        let length = u32::try_from(gap.to.unwrap_or(frames) - gap.from).unwrap_or(u32::MAX);
        let id = id.to_le_bytes();
        let label: &[u8] = match gap.kind {
            GapKind::Paused => b"recording paused\0",
            GapKind::Lost => b"lost\0",
            GapKind::Redacted => b"redacted\0",
        };
        for part in [&id, &from.to_le_bytes(), b"data", &[0; 4], &[0; 4], &from.to_le_bytes()] {
            cue.extend_from_slice(part);
        }
        chunk(&mut list, b"labl", &[&id, label].concat());
        chunk(&mut list, b"ltxt", &[&id, &length.to_le_bytes(), &b"rgn "[..], &[0; 8]].concat());
    }
    let mut added = Vec::new();
    chunk(&mut added, b"cue ", &cue);
    chunk(&mut added, b"LIST", &list);
    let end = file.seek(SeekFrom::End(0))?;
    file.write_all(&added)?;
    let riff = u32::try_from(end + added.len() as u64 - 8).map_err(|_| io::Error::other("WAV beyond 4 GiB"))?;
    file.seek(SeekFrom::Start(4))?;
    file.write_all(&riff.to_le_bytes())
}

/// A RIFF chunk, padded to an even length.
fn chunk(out: &mut Vec<u8>, name: &[u8; 4], body: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    if body.len() % 2 == 1 {
        out.push(0);
    }
}

fn io_error(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}
