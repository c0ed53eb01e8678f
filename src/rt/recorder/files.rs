//! Files and directories of the recordings store: made private, whole or not at all, and synced. Paths and bytes go in;
//! nothing here knows a key or a sample.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::record::place;

/// The seal appears whole or not at all: written beside, synced, renamed.
pub(in crate::rt) fn write_seal(sealed: &Path, text: &str) -> io::Result<()> {
    let seal = place::seal_file(sealed);
    let new = sealed.with_extension("seal.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &seal)?;
    sync_directory(seal.parent().unwrap_or(Path::new(".")))
}

pub(in crate::rt) fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}

pub(in crate::rt) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether a file of so many bytes can be made here: better to learn at start than at the first call. It is gone when this
/// returns.
pub(in crate::rt) fn probe(root: &Path, bytes: usize) -> io::Result<()> {
    let path = root.join(format!(".probe-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    // Not nulls: a file system that packs or leaves them out would have room for any number.
    let written = file.write_all(&vec![0xa5; bytes]).and_then(|()| file.sync_all());
    fs::remove_file(&path)?;
    written
}
