//! What the audit log noted when a recording was closed, held against the file as it is: a closed file that was cut back to
//! a whole chunk and whose seal was removed looks like one whose writer was killed, and a killed writer notes nothing.

use super::reader::{Place, Report, Verdict, Why};

/// What the log has of a closed recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// Chunks sealed.
    pub chunks: u64,
    /// SHA-256 of the fixed part of its header; `None` where it may have got another data key since.
    pub header: Option<[u8; 32]>,
}

impl Report {
    /// The report in the light of the log.
    #[must_use]
    pub fn against(mut self, noted: Noted) -> Self {
        let header = self.header.as_ref().map(|header| header.hash);
        let other = noted.header.is_some_and(|noted| header.is_some_and(|header| header != noted));
        match self.verdict {
            Verdict::Interrupted { good_chunks, .. } => {
                let why = Why::CutByLog { sealed: noted.chunks, left: good_chunks };
                self.verdict = Verdict::Tampered { at: Place::Chunk(good_chunks), why };
            }
            Verdict::Intact if other || noted.chunks != self.chunks => {
                self.verdict = Verdict::Tampered { at: Place::Header, why: Why::NotWhatWasSealed };
            }
            Verdict::Intact | Verdict::Tampered { .. } => {}
        }
        self
    }
}
