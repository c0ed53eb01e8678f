//! The notes beside a recording: its entry as JSON, whole or not at all. They exist as soon as something is known of the
//! recording that its sealed bytes do not say, and outlive it as its tombstone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::record::catalogue::Entry;

/// Writes notes beside, syncs and renames them.
pub(super) fn write(path: &Path, entry: &Entry) -> io::Result<()> {
    let new = path.with_extension("notes.new");
    let mut text = serde_json::to_vec_pretty(entry)?;
    text.push(b'\n');
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads notes; `None` when there are none.
pub(super) fn read(path: &Path) -> io::Result<Option<Entry>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
