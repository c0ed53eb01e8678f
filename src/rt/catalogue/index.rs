//! Makes the index again from the files: what a crash left without a row gets one, what is gone loses its row.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::{Catalogue, CatalogueError, notes, rows};
use crate::base::ids::RecordingId;
use crate::base::time::WallMs;
use crate::media::RECORD_RATE;
use crate::record::catalogue::{Entry, State, Whereabouts};
use crate::record::keys::KeyRing;
use crate::record::place;
use crate::record::sealed::{Report, Verdict, header_of, peek, verify};
use crate::rt::vault::files;

/// What [`Catalogue::reindex`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reindexed {
    /// Recordings on the disk.
    pub found: u64,
    /// Of them, those that had no row.
    pub added: u64,
    /// Of them, those whose key is not here: only their name is known.
    pub unread: u64,
    /// Rows whose recording is nowhere: removed.
    pub removed: u64,
    /// Tombstones, and recordings that are in the object store only.
    pub noted: u64,
}

/// A recording's files.
struct Found {
    recording: RecordingId,
    directory: PathBuf,
    sealed: bool,
}

impl Catalogue {
    /// Makes every row again from the files under the root. Recordings that are being written now stay so.
    ///
    /// # Errors
    /// When the directory cannot be read or the database not written.
    pub fn reindex(&self, ring: &KeyRing) -> Result<Reindexed, CatalogueError> {
        self.walk(ring, &|_| true)
    }

    /// Looks after an earlier run: files without a row get one, and what that run was writing is told as sealed or
    /// interrupted. What has a row and is over is left as it is.
    ///
    /// # Errors
    /// When the directory cannot be read or the database not written.
    pub fn recover(&self, ring: &KeyRing) -> Result<Reindexed, CatalogueError> {
        let known = rows::all(&self.lock()).map_err(|error| self.failed(error))?;
        let over = |state: &str| State::of(state).is_some_and(State::is_over);
        let settled: HashSet<String> = known.into_iter().filter(|(_, state)| over(state)).map(|(id, _)| id).collect();
        self.walk(ring, &|recording| !settled.contains(&recording.to_string()))
    }

    fn walk(&self, ring: &KeyRing, wanted: &dyn Fn(RecordingId) -> bool) -> Result<Reindexed, CatalogueError> {
        let failed = |error| CatalogueError::File { path: self.root.clone(), error };
        let mut done = Reindexed::default();
        let known = rows::all(&self.lock()).map_err(|error| self.failed(error))?;
        let mut missing: HashSet<String> = known.into_iter().map(|(id, _)| id).collect();
        let every = files(&self.root).map_err(failed)?;
        for found in every {
            done.found += u64::from(found.sealed);
            done.noted += u64::from(!found.sealed);
            let had_row = missing.remove(&found.recording.to_string());
            if !wanted(found.recording) {
                continue;
            }
            match self.read(&found, ring) {
                Ok(Some(entry)) => {
                    done.added += u64::from(!had_row);
                    done.unread += u64::from(entry.call.is_none() && entry.state != State::Destroyed);
                    self.index(entry)?;
                }
                // It went while we looked.
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(recording = %found.recording, %error, "a recording cannot be read for the catalogue");
                }
            }
        }
        for gone in &missing {
            let database = self.lock();
            // A recording may have begun since the directory was read.
            let entry = gone.parse().ok().map(|id| rows::get(&database, id)).transpose();
            let entry = entry.map_err(|error| self.failed(error))?.flatten();
            if entry.is_none_or(|entry| !self.file(&entry).exists()) {
                rows::remove(&database, gone).map_err(|error| self.failed(error))?;
                done.removed += 1;
            }
        }
        Ok(done)
    }

    /// What a recording's files say.
    fn read(&self, found: &Found, ring: &KeyRing) -> io::Result<Option<Entry>> {
        let path = place::sealed_file(&found.directory, found.recording);
        let noted = match notes::read(&place::notes_file(&path)) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(recording = %found.recording, %error, "its notes cannot be read and are left out");
                None
            }
            read => read?,
        };
        if let Some(entry) = &noted
            && (entry.state == State::Destroyed || !found.sealed)
        {
            return Ok(noted);
        }
        let Some(files::Opened { file, live }) = files::open(&path)? else { return Ok(noted) };
        let bytes = file.metadata()?.len();
        let seal = fs::read(place::seal_file(&path)).ok();
        // Without its key the file says less than an earlier row may.
        let row = rows::get(&self.lock(), found.recording).ok().flatten();
        let unread = || Entry::unread(found.recording, day_of(&found.directory));
        let mut entry = noted.clone().or(row).unwrap_or_else(unread);
        entry.bytes = bytes;
        if let Some(header) = read_header(&path)? {
            entry.kek_id = header;
        }
        let report = match (&seal, live) {
            // Closed, or being written: its beginning and its seal say all there is to know.
            (Some(_), _) | (None, true) => peek(BufReader::new(file), seal.as_deref(), ring).ok(),
            (None, false) => verify(BufReader::new(file), None, Some(found.recording), ring, &mut |_| Ok(())).ok(),
        };
        if let Some(report) = report {
            let labels = noted.is_some().then(|| entry.labels.clone());
            tell(&mut entry, &report);
            // Labels that were changed since stand in the notes.
            entry.labels = labels.unwrap_or(entry.labels);
        }
        let state = match (live, entry.ended_ms) {
            (true, _) => State::Recording,
            (false, Some(_)) => State::Sealed,
            (false, None) => State::Interrupted,
        };
        // Notes know of a quarantine and of an audit that is not over; the bytes know the rest.
        if !matches!(noted, Some(Entry { state: State::Quarantined | State::Finalising, .. })) || live {
            entry.state = state;
        }
        entry.whereabouts = if entry.stored.is_some() { Whereabouts::Both } else { Whereabouts::Local };
        Ok(Some(entry))
    }
}

/// Puts what a file says into its entry.
fn tell(entry: &mut Entry, report: &Report) {
    if let Some(start) = &report.start {
        entry.call = Some(start.call);
        entry.node.clone_from(&start.node);
        entry.from_trunk.clone_from(&start.from_trunk);
        entry.to_trunk.clone_from(&start.to_trunk);
        entry.started_ms = start.started_at_ms;
        entry.caller.clone_from(&start.caller);
        entry.called.clone_from(&start.called);
        entry.agent.clone_from(&start.agent);
        entry.sip_call_ids.clone_from(&start.sip_call_ids);
        for (key, value) in &start.labels {
            entry.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if let Some(header) = &report.header {
        entry.kek_id.clone_from(&header.kek_id);
    }
    let frames = match (&report.seal, &report.summary) {
        (Some(seal), _) => {
            entry.ended_ms = Some(seal.ended_at);
            (entry.chunks, entry.gaps) = (seal.chunks, seal.gaps);
            seal.frames
        }
        (None, summary) => {
            if let (Some(summary), Verdict::Intact) = (summary, &report.verdict) {
                entry.ended_ms = Some(summary.ended_at_ms);
            }
            (entry.chunks, entry.gaps) = (report.chunks, report.gaps.len() as u32);
            report.frames
        }
    };
    entry.length_ms = frames * 1_000 / u64::from(RECORD_RATE);
}

/// Id of the KEK in the header, which is readable without any key.
fn read_header(path: &Path) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(path)?, 1_024), &mut head)?;
    Ok(header_of(&head).ok().map(|opened| opened.kek_id))
}

/// Midnight of the day a directory is named after.
fn day_of(directory: &Path) -> WallMs {
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // The calendar is asked, not computed a second time: days are tried near where they must be.
    let mut parts = name.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (Some(Some(year)), Some(Some(month)), Some(Some(day))) = (parts.next(), parts.next(), parts.next()) else {
        return WallMs(0);
    };
    let guess = year.saturating_sub(1970).min(10_000) * 365 + (month * 30) + day;
    let near = guess.saturating_sub(45)..guess + year.saturating_sub(1970).min(10_000) / 4 + 45;
    let midnight = |day: &u64| WallMs(day * 86_400_000);
    near.into_iter().map(|day| midnight(&day)).find(|at| place::Utc::of(*at).date() == name).unwrap_or(WallMs(0))
}

/// Every recording that has a sealed file or notes, oldest day first.
fn files(root: &Path) -> io::Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    for day in fs::read_dir(root)? {
        let day = day?;
        // What is being fetched from the object store has no place among them yet.
        if !day.file_type()?.is_dir() || day.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let directory = day.path();
        let (mut sealed, mut noted) = (HashSet::new(), HashSet::new());
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            sealed.extend(place::recording_of(&path));
            noted.extend(place::recording_of_notes(&path));
        }
        let both = sealed.union(&noted).copied().collect::<HashSet<_>>();
        found.extend(both.into_iter().map(|recording| Found {
            recording,
            directory: directory.clone(),
            sealed: sealed.contains(&recording),
        }));
    }
    found.sort_by(|a, b| (&a.directory, a.recording).cmp(&(&b.directory, b.recording)));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_a_day_tells_its_midnight() {
        for day in ["1970-01-01", "2000-02-29", "2026-11-22", "2100-12-31"] {
            let at = day_of(Path::new(day));
            assert_eq!((place::Utc::of(at).date().as_str(), at.0 % 86_400_000), (day, 0));
        }
        assert_eq!(day_of(Path::new("lost+found")), WallMs(0));
    }
}
