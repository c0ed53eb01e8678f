//! `tonewall recordings rescan`: the self-audit by hand, of recordings that have a verdict already too.

use std::io;
use std::path::Path;

use super::{EXIT_FAULT, EXIT_INTACT, EXIT_KEY, EXIT_QUARANTINED, Found, Terminal, graver};
use crate::base::ids::RecordingId;
use crate::record::catalogue::{AuditVerdict, Query, Retention, State};
use crate::record::keys::KeyRing;
use crate::rt::catalogue::Catalogue;
use crate::rt::rescan::{self, Outcome};

/// Whether a recording may be given out.
pub(super) enum Clearance {
    /// It was found clean.
    Given,
    /// It was not, and why.
    Withheld(String),
    /// No catalogue knows it, and it could not be heard, for this reason.
    Unheard(String),
}

/// Whether a recording may be given out, by the catalogue under `root`. What nobody has catalogued (a copy without its
/// catalogue) is heard here and now.
pub(super) fn clearance(root: &Path, found: &Found, ring: &KeyRing) -> io::Result<Clearance> {
    if root.join(crate::rt::catalogue::FILE).exists() {
        let catalogue = Catalogue::open(root, Retention::default()).map_err(io::Error::other)?;
        if let Some(entry) = catalogue.get(found.recording).map_err(io::Error::other)? {
            let missed = !entry.is_audited() && !matches!(entry.state, State::Quarantined | State::Destroyed);
            let how = if missed { "; unless it is being written now, `recordings rescan` hears it" } else { "" };
            return Ok(match entry.withheld() {
                Some(why) => Clearance::Withheld(format!("{why}{how}")),
                None => Clearance::Given,
            });
        }
    }
    Ok(match rescan::hear_uncatalogued(&found.file, found.recording, ring) {
        Ok(findings) if findings.is_clean() => Clearance::Given,
        Ok(findings) => Clearance::Withheld(format!(
            "is in no catalogue, and what may be a digit was found in it: {}",
            findings.text()
        )),
        Err(why) => Clearance::Unheard(why),
    })
}

/// Hears recordings again; one line each.
pub(super) fn run(wanted: &[String], root: &Path, ring: &KeyRing, terminal: &mut Terminal<'_>) -> io::Result<u8> {
    let catalogue = Catalogue::open(root, Retention::default()).map_err(io::Error::other)?;
    catalogue.recover(ring).map_err(io::Error::other)?;
    let ids = if wanted.iter().any(|name| name == "all") {
        let mut ids = Vec::new();
        let states = vec![State::Finalising, State::Sealed, State::Interrupted];
        let found = catalogue.for_each(Query { states, ..Query::default() }, &mut |entry| {
            ids.push(entry.recording);
            Ok(())
        });
        found.map_err(io::Error::other)?;
        ids
    } else {
        let parse = |name: &String| name.parse().map_err(|_| io::Error::other(format!("{name} is no recording")));
        wanted.iter().map(parse).collect::<io::Result<Vec<RecordingId>>>()?
    };
    let mut status = EXIT_INTACT;
    for recording in ids {
        let outcome = rescan::audit(&catalogue, ring, recording, &mut || true).map_err(io::Error::other)?;
        let (word, detail, own) = match outcome {
            Some(Outcome { verdict: AuditVerdict::Clean, detail, .. }) => ("clean", detail, EXIT_INTACT),
            Some(Outcome { verdict: AuditVerdict::Hit, detail, .. }) => ("QUARANTINED", detail, EXIT_QUARANTINED),
            Some(Outcome { verdict: AuditVerdict::Failed, detail, .. }) => {
                let own = if detail.contains("cannot be opened") { EXIT_KEY } else { EXIT_FAULT };
                ("NOT HEARD", detail, own)
            }
            None => ("not heard", "it is being written, quarantined already, or destroyed".to_owned(), EXIT_INTACT),
        };
        status = graver(status, own);
        writeln!(terminal.out, "{recording}  {word}: {detail}")?;
    }
    Ok(status)
}
