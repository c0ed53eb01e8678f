//! What the audit log knows of closed recordings: how many chunks were sealed, under which header. `verify` holds it
//! against the files; whether the log itself is as it was written is for `tonewall audit verify` to say.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use memchr::memmem;

use super::found::{Found, Judged};
use crate::base::ids::RecordingId;
use crate::record::sealed::Noted;
use crate::rt::audit::book::pages;

/// Recordings that the log says were closed.
#[derive(Default)]
pub(super) struct Known(HashMap<RecordingId, Noted>);

impl Known {
    /// Reads the log in `directory`; one that was never begun knows nothing.
    pub(super) fn read(directory: &Path) -> io::Result<Self> {
        let named =
            |error| io::Error::other(format!("the audit log in {} cannot be read: {error}", directory.display()));
        let mut known = Self::default();
        if !directory.exists() {
            return Ok(known);
        }
        for page in pages(directory).map_err(named)? {
            let file = File::open(directory.join(page)).map_err(named)?;
            for line in BufReader::with_capacity(1 << 16, file).split(b'\n') {
                known.take(&line.map_err(named)?);
            }
        }
        Ok(known)
    }

    fn take(&mut self, line: &[u8]) {
        let is = |word: &[u8]| memmem::find(line, word).is_some();
        let sealed = is(b"\"action\":\"recording-sealed\"");
        let rotated = !sealed && is(b"\"action\":\"keys-rotated\"") && is(b"\"purpose\":\"encrypted anew\"");
        if rotated {
            // From here on each may have another data key; those that got one are told again.
            self.0.values_mut().for_each(|noted| noted.header = None);
        }
        if !sealed {
            return;
        }
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(line) else { return };
        let object = &value["object"];
        let recording = object["recording"].as_str().and_then(|id| id.parse().ok());
        let (Some(recording), Some(chunks)) = (recording, object["chunks"].as_u64()) else { return };
        let mut header = [0; 32];
        let read = object["header"].as_str().is_some_and(|hash| hex::decode_to_slice(hash, &mut header).is_ok());
        self.0.insert(recording, Noted { chunks, header: read.then_some(header) });
    }

    /// What was found, in the light of the log.
    pub(super) fn light(&self, found: &Found, judged: Judged) -> Judged {
        match (judged, self.0.get(&found.recording)) {
            (Judged::Report(report), Some(noted)) => Judged::Report(Box::new(report.against(*noted))),
            (judged, _) => judged,
        }
    }
}
