//! Recordings as the commands find them, on the disk or in the object store, and what reading one comes to.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::ProgressBar;

use super::{EXIT_FAULT, EXIT_INTACT, EXIT_INTERRUPTED, EXIT_KEY, EXIT_TAMPERED, Site};
use crate::base::ids::RecordingId;
use crate::record::catalogue::{Query, Whereabouts};
use crate::record::keys::KeyRing;
use crate::record::place;
use crate::record::sealed::{Fault, Item, Report, Verdict, peek, verify};
use crate::rt::catalogue::CatalogueError;
use crate::rt::vault::{Vault, files};

/// A recording.
pub(super) struct Found {
    pub(super) recording: RecordingId,
    /// Its file; not there when it is in the object store only.
    pub(super) file: PathBuf,
    pub(super) bytes: u64,
    /// What fetches it, when it is in the object store only.
    store: Option<Arc<Vault>>,
}

/// What became of judging one recording.
pub(super) enum Judged {
    Report(Box<Report>),
    Fault(Fault),
}

impl Judged {
    pub(super) fn status(&self) -> u8 {
        match self {
            Judged::Report(report) => match report.verdict {
                Verdict::Intact => EXIT_INTACT,
                Verdict::Interrupted { .. } => EXIT_INTERRUPTED,
                Verdict::Tampered { .. } => EXIT_TAMPERED,
            },
            Judged::Fault(Fault::Key(_)) => EXIT_KEY,
            Judged::Fault(Fault::Io(_)) => EXIT_FAULT,
        }
    }
}

/// Every recording under `root`, oldest day first. Files that are not ours are left alone.
pub(super) fn find(root: &Path) -> io::Result<Vec<Found>> {
    let named = |error| io::Error::other(format!("cannot read the recordings directory {}: {error}", root.display()));
    let mut found = Vec::new();
    for day in fs::read_dir(root).map_err(named)? {
        let day = day?;
        // What is being fetched has no place among them yet.
        if !day.file_type()?.is_dir() || day.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        for entry in fs::read_dir(day.path())? {
            let entry = entry?;
            let file = entry.path();
            let Some(recording) = place::recording_of(&file) else { continue };
            let bytes = entry.metadata()?.len();
            found.push((day.file_name(), Found { recording, file, bytes, store: None }));
        }
    }
    found.sort_by(|a, b| (&a.0, a.1.recording).cmp(&(&b.0, b.1.recording)));
    Ok(found.into_iter().map(|(_, found)| found).collect())
}

/// Those that are in the object store only, by the catalogue.
pub(super) fn elsewhere(site: &Site, here: &[Found]) -> io::Result<Vec<Found>> {
    let Some(catalogue) = site.catalogue()? else { return Ok(Vec::new()) };
    let mut stored = Vec::new();
    let each = &mut |entry: crate::record::catalogue::Entry| {
        if entry.whereabouts == Whereabouts::Store && !here.iter().any(|found| found.recording == entry.recording) {
            let bytes = entry.stored.as_ref().map_or(entry.bytes, |stored| stored.bytes);
            stored.push((entry.recording, catalogue.file(&entry), bytes));
        }
        Ok::<(), CatalogueError>(())
    };
    catalogue.for_each(Query::default(), each).map_err(io::Error::other)?;
    if stored.is_empty() {
        return Ok(Vec::new());
    }
    let vault = vault(site)?;
    let found = |(recording, file, bytes)| Found { recording, file, bytes, store: Some(vault.clone()) };
    Ok(stored.into_iter().map(found).collect())
}

/// The recording named `id`: of those found here, or in the object store.
pub(super) fn choose(id: &str, here: &[Found], site: &Site) -> io::Result<Found> {
    let recording: RecordingId = id.parse().map_err(|error| io::Error::other(format!("{id:?} is {error}")))?;
    if let Some(Found { file, bytes, .. }) = here.iter().find(|found| found.recording == recording) {
        return Ok(Found { recording, file: file.clone(), bytes: *bytes, store: None });
    }
    let catalogue = site.catalogue()?;
    let entry = catalogue.as_ref().map(|catalogue| catalogue.get(recording).map_err(io::Error::other));
    match (catalogue.as_ref(), entry.transpose()?.flatten()) {
        (Some(catalogue), Some(entry)) if entry.whereabouts == Whereabouts::Store => {
            let (file, stored) = (catalogue.file(&entry), entry.stored);
            let bytes = stored.map_or(entry.bytes, |stored| stored.bytes);
            Ok(Found { recording, file, bytes, store: Some(vault(site)?) })
        }
        _ => Err(io::Error::other(format!("no recording {recording} in {}", site.root().display()))),
    }
}

fn vault(site: &Site) -> io::Result<Arc<Vault>> {
    let random = crate::rt::random().map_err(|error| io::Error::other(error.to_string()))?;
    Vault::of(&site.storage, site.keys.clone(), random).map(Arc::new).map_err(io::Error::other)
}

/// Reads the whole of a recording; audio goes to `sink`.
pub(super) fn judge(
    found: &Found,
    ring: &KeyRing,
    bar: &ProgressBar,
    sink: &mut dyn FnMut(&Item<'_>) -> io::Result<()>,
) -> Judged {
    let mut read = || -> Result<Report, Fault> {
        let (seal, file): (_, Box<dyn Read>) = match &found.store {
            Some(vault) => {
                let mut reading = vault.open(found.recording).map_err(io::Error::other)?;
                (reading.seal.take(), Box::new(reading))
            }
            None => {
                let seal = match fs::read(place::seal_file(&found.file)) {
                    Ok(seal) => Some(seal),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => return Err(error.into()),
                };
                let opened = files::open(&found.file)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
                (seal, Box::new(opened.file))
            }
        };
        // What is being written while we read is judged as it was when we began.
        let input = bar.wrap_read(BufReader::with_capacity(1 << 16, file).take(found.bytes));
        verify(input, seal.as_deref(), Some(found.recording), ring, sink)
    };
    match read() {
        Ok(report) => Judged::Report(Box::new(report)),
        Err(fault) => Judged::Fault(fault),
    }
}

/// A closed recording by its header, first chunk and seal, without reading the rest; `None` when that is not enough to
/// tell what it is.
pub(super) fn glance(found: &Found, ring: &KeyRing) -> Option<Box<Report>> {
    let seal = fs::read(place::seal_file(&found.file)).ok()?;
    let mut report = peek(File::open(&found.file).ok()?, Some(&seal), ring).ok()?;
    let sealed = report.seal.as_ref()?;
    if report.verdict != Verdict::Intact || sealed.recording != found.recording {
        return None;
    }
    let header = report.header.as_ref().map_or(0, |header| header.bytes);
    if sealed.bytes + header != found.bytes {
        return None;
    }
    report.frames = sealed.frames;
    Some(Box::new(report))
}
