//! The seal: a small text file beside a closed recording that says how much was sealed. A sealed file that was cut at
//! a chunk boundary looks like one whose writer was killed; with the seal it is told as cut. Authenticated under the
//! recording's data key, so it can neither be made nor moved by who has no key.

use hmac::Mac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Dek;
use crate::base::ids::RecordingId;
use crate::base::time::WallMs;
use crate::record::keys;

const FIRST_LINE: &str = "tonewall-seal 1";

/// What was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Recording.
    pub recording: RecordingId,
    /// Chunks of the file.
    pub chunks: u64,
    /// Bytes of the chunks: the file without its header, which another key id makes longer or shorter.
    pub bytes: u64,
    /// Stereo frames.
    pub frames: u64,
    /// Gaps.
    pub gaps: u32,
    /// When it was closed.
    pub ended_at: WallMs,
    /// SHA-256 of the fixed part of the file's header.
    pub header: [u8; 32],
}

/// A seal that cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not the text a writer makes.
    #[error("line {line} of the seal is not what a writer makes")]
    Malformed {
        /// Line, from 1.
        line: usize,
    },
    /// The text does not authenticate under the recording's key.
    #[error("the seal does not authenticate: it was altered, or belongs to another recording")]
    Forged,
}

impl Seal {
    /// The seal's text, authenticated under `dek`.
    pub(super) fn print(&self, dek: &Dek) -> String {
        let body = self.body();
        let mac = hex::encode(tag(dek, body.as_bytes()));
        format!("{body}mac {mac}\n")
    }

    fn body(&self) -> String {
        format!(
            "{FIRST_LINE}\nrecording {}\nchunks {}\nbytes {}\nframes {}\ngaps {}\nended-ms {}\nheader {}\n",
            self.recording,
            self.chunks,
            self.bytes,
            self.frames,
            self.gaps,
            self.ended_at.0,
            hex::encode(self.header)
        )
    }

    /// Reads a seal's text and checks it under `dek`.
    pub(super) fn read(text: &[u8], dek: &Dek) -> Result<Self, SealError> {
        let text = std::str::from_utf8(text).map_err(|_| SealError::Malformed { line: 1 })?;
        let mut lines = text.split('\n');
        let mut number = 0;
        let mut field = |name: &str| -> Result<&str, SealError> {
            number += 1;
            let line = lines.next().unwrap_or_default();
            line.strip_prefix(name).ok_or(SealError::Malformed { line: number })
        };
        field(FIRST_LINE)?;
        let recording = parse(field("recording ")?, 2)?;
        let chunks = parse(field("chunks ")?, 3)?;
        let bytes = parse(field("bytes ")?, 4)?;
        let frames = parse(field("frames ")?, 5)?;
        let gaps = parse(field("gaps ")?, 6)?;
        let ended_at = WallMs(parse(field("ended-ms ")?, 7)?);
        let mut header = [0; 32];
        hex::decode_to_slice(field("header ")?, &mut header).map_err(|_| SealError::Malformed { line: 8 })?;
        let mut mac = [0; 32];
        hex::decode_to_slice(field("mac ")?, &mut mac).map_err(|_| SealError::Malformed { line: 9 })?;
        let seal = Self { recording, chunks, bytes, frames, gaps, ended_at, header };
        // Exactly the text a writer makes: the printed form again, and nothing after it.
        let body = seal.body();
        if !bool::from(tag(dek, body.as_bytes()).ct_eq(&mac)) {
            return Err(SealError::Forged);
        }
        if text != format!("{body}mac {}\n", hex::encode(mac)) {
            return Err(SealError::Malformed { line: 9 });
        }
        Ok(seal)
    }
}

fn parse<T: std::str::FromStr>(text: &str, line: usize) -> Result<T, SealError> {
    text.parse().map_err(|_| SealError::Malformed { line })
}

fn tag(dek: &Dek, body: &[u8]) -> [u8; 32] {
    let key: Zeroizing<[u8; 32]> = keys::derive(dek, b"tonewall seal v1");
    let mut mac = keys::mac(&key);
    mac.update(body);
    mac.finalize().into_bytes().into()
}
