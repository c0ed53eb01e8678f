//! A recording's file under another key, and gone for good. Whoever reads holds a shared lock on the file, whoever writes
//! or changes it an exclusive one, so nobody reads half of a change; a crash in between is finished by who comes next.
//!
//! ```text
//!  same length of header        another length                re-encrypted
//!  1 journal: the new header    1 copy with the new header    1 copy and seal, synced
//!  2 over the old, synced       2 renamed over the file       2 journal; old key slot overwritten
//!  3 journal removed            3 old key slot overwritten    3 both renamed, journal removed
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::Rng;
use rustix::fs::{FlockOperation, flock};

use crate::audit::Proof;
use crate::base::Random;
use crate::record::keys::{Kek, KeyRing};
use crate::record::place;
use crate::record::sealed::{self, RewrapError, header_of};
use crate::rt::recorder::files::sync_directory;

/// The most bytes a header has, and more.
pub(super) const HEAD: usize = 1_024;

/// How often a lock that is held is asked for again, and how long to wait in between: a change of a header takes
/// milliseconds, a recording that is being written minutes.
const TRIES: (u32, Duration) = (40, Duration::from_millis(5));

/// What the journal of a re-encryption says.
const REENCRYPTED: &[u8] = b"tonewall re-encrypted\n";

/// A sealed file, open for reading.
pub struct Opened {
    /// The file; while it is open nobody changes it.
    pub file: File,
    /// Whether it is being written now.
    pub live: bool,
}

/// Opens a sealed file for reading; `None` when it is not there.
///
/// # Errors
/// When it cannot be read.
pub fn open(path: &Path) -> io::Result<Option<Opened>> {
    let mut live = true;
    for _ in 0..TRIES.0 {
        finish(path)?;
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            // Renamed over, or its journal came, between opening and locking: once more.
            Ok(()) if !is_at(&file, path)? || journal(path).exists() => {}
            Ok(()) => return Ok(Some(Opened { file, live: false })),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                // A writer appends to it all the while; who rewraps it is done soon.
                live = !journal(path).exists();
                std::thread::sleep(TRIES.1);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if live {
        return File::open(path).map(|file| Some(Opened { file, live }));
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, format!("{} is being changed", path.display())))
}

/// Locked for a change.
struct Locked {
    file: File,
    head: Vec<u8>,
}

/// The file, locked, and its header; `None` when somebody reads or writes it, or it is gone.
fn lock(path: &Path) -> io::Result<Option<Locked>> {
    finish(path)?;
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) if is_at(&file, path)? => {}
        Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(HEAD as u64).read_to_end(&mut head)?;
    Ok(Some(Locked { file, head }))
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let here = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((here.dev(), here.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What became of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is under the key now.
    Done,
    /// It was already.
    Already,
    /// Somebody reads or writes it, or it is gone; later.
    Busy,
}

/// Puts a recording under `kek`: its header only.
///
/// # Errors
/// When a key cannot be had, the header is not authentic, or the disk fails; the file is readable as before.
pub fn rewrap(path: &Path, ring: &KeyRing, kek: &Kek, random: &mut Random) -> Result<Changed, RewrapError> {
    let Some(mut locked) = lock(path)? else { return Ok(Changed::Busy) };
    let Some(new) = sealed::rewrap(&locked.head, ring, kek, random)? else { return Ok(Changed::Already) };
    if new.header.len() == new.old_len {
        write_journal(path, &new.header)?;
        locked.file.write_all_at(&new.header, 0)?;
        locked.file.sync_data()?;
        fs::remove_file(journal(path))?;
        sync_directory(directory(path))?;
        return Ok(Changed::Done);
    }
    let copy = beside(path, "sealed.new");
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&copy)?;
    out.write_all(&new.header)?;
    locked.file.seek(SeekFrom::Start(new.old_len as u64))?;
    io::copy(&mut locked.file, &mut out)?;
    out.sync_all()?;
    fs::rename(&copy, path)?;
    sync_directory(directory(path))?;
    // The blocks of the old file are free, not empty.
    wipe_head(&locked.file, new.old_len, random)?;
    Ok(Changed::Done)
}

/// Gives a recording another data key, wrapped under `kek`, so that its old header opens nothing any more.
///
/// # Errors
/// When a key cannot be had, anything in it is not authentic, or the disk fails; the file is readable as before.
pub fn reencrypt(path: &Path, ring: &KeyRing, kek: &Kek, random: &mut Random) -> Result<Changed, RewrapError> {
    let Some(mut locked) = lock(path)? else { return Ok(Changed::Busy) };
    locked.file.seek(SeekFrom::Start(0))?;
    let seal = match fs::read(place::seal_file(path)) {
        Ok(seal) => Some(seal),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let copy = beside(path, "sealed.new");
    let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&copy)?;
    let mut out = io::BufWriter::with_capacity(1 << 18, out);
    let input = io::BufReader::with_capacity(1 << 18, &locked.file);
    let done = match sealed::reencrypt(input, seal.as_deref(), ring, kek, &mut out, random) {
        Ok(done) => done,
        Err(error) => {
            fs::remove_file(&copy)?;
            return Err(error);
        }
    };
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    if let Some(text) = &done.seal {
        let mut seal =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(beside(path, "seal.new"))?;
        seal.write_all(text.as_bytes())?;
        seal.sync_all()?;
    }
    write_journal(path, REENCRYPTED)?;
    let old_len = header_of(&locked.head).map(|opened| opened.bytes as usize).unwrap_or(HEAD);
    wipe_head(&locked.file, old_len, random)?;
    put_reencrypted(path)?;
    Ok(Changed::Done)
}

/// What was seen of a file that was destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wiped {
    /// Its key slot is overwritten and opening it failed, as told; the files are unlinked.
    Gone(Proof),
    /// Somebody reads or writes it.
    Busy,
}

/// Destroys a recording's files: the key slot overwritten and synced, opening it again seen to fail, everything of it
/// unlinked. Notes stay.
///
/// # Errors
/// When the disk fails; what is left can be destroyed again.
pub fn destroy(path: &Path, ring: &KeyRing, random: &mut Random) -> io::Result<Wiped> {
    let unlink = || -> io::Result<u64> {
        let mut gone = 0;
        let rests = ["sealed.new", "seal.new", "rewrap", "rewrap.new", place::SEAL].map(|name| beside(path, name));
        for file in rests.iter().map(PathBuf::as_path).chain([path]) {
            gone += u64::from(file.exists());
            remove(file)?;
        }
        sync_directory(directory(path))?;
        Ok(gone)
    };
    if !path.exists() {
        let files_deleted = if directory(path).exists() { unlink()? } else { 0 };
        return Ok(Wiped::Gone(Proof { files_deleted, ..Proof::default() }));
    }
    let Some(mut locked) = lock(path)? else { return Ok(Wiped::Busy) };
    let opened = header_of(&locked.head);
    let len = opened.as_ref().map_or(locked.head.len(), |opened| opened.bytes as usize);
    wipe_head(&locked.file, len, random)?;
    // Seen, not assumed: the file as it is on the disk now, with every key there is.
    locked.file.seek(SeekFrom::Start(0))?;
    let seen = sealed::verify(io::BufReader::new(&locked.file), None, None, ring, &mut |_| Ok(()));
    let why = match seen {
        Ok(sealed::Report {
            verdict: sealed::Verdict::Tampered { at: sealed::Place::Header, why }, chunks: 0, ..
        }) => why.to_string(),
        Ok(sealed::Report { verdict: sealed::Verdict::Interrupted { good_chunks: 0, .. }, .. }) => {
            "it ends inside its header".to_owned()
        }
        Ok(report) => return Err(io::Error::other(format!("it still opens after it was wiped: {:?}", report.verdict))),
        Err(error) => error.to_string(),
    };
    let files_deleted = unlink()?;
    let keys_tried = ring.keys().iter().map(|kek| kek.id().into()).collect();
    Ok(Wiped::Gone(Proof { keys_tried, opened: false, told: Some(why.into()), files_deleted, store: None }))
}

/// Finishes what a crash left of a change.
fn finish(path: &Path) -> io::Result<()> {
    let text = match fs::read(journal(path)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(file) = &file {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            // Whoever has it is at it.
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        // Done by somebody else while we waited for the lock.
        if !is_at(file, path)? || !journal(path).exists() {
            return Ok(());
        }
    }
    if text == REENCRYPTED {
        return put_reencrypted(path);
    }
    if let (Some(file), Ok(opened)) = (&file, header_of(&text)) {
        // Only over the recording it was made for: id and stream prefix stand before the key slot.
        let mut fixed = vec![0; text.len().min(57)];
        file.read_exact_at(&mut fixed, 0)?;
        if text.starts_with(&fixed) && opened.bytes as usize == text.len() {
            file.write_all_at(&text, 0)?;
            file.sync_data()?;
        }
    }
    remove(&journal(path))?;
    sync_directory(directory(path))
}

/// Both files of a re-encryption take their places; those that have already are not there any more.
fn put_reencrypted(path: &Path) -> io::Result<()> {
    for (new, old) in [("seal.new", place::seal_file(path)), ("sealed.new", path.to_owned())] {
        match fs::rename(beside(path, new), old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_directory(directory(path))?;
    remove(&journal(path))?;
    sync_directory(directory(path))
}

fn write_journal(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = beside(path, "rewrap.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, journal(path))?;
    sync_directory(directory(path))
}

/// Random bytes over the header, synced.
pub(super) fn wipe_head(file: &File, len: usize, random: &mut Random) -> io::Result<()> {
    let len = len.min(usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX));
    let mut noise = vec![0; len];
    random.fill_bytes(&mut noise);
    file.write_all_at(&noise, 0)?;
    file.sync_all()
}

fn journal(path: &Path) -> PathBuf {
    beside(path, "rewrap")
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    path.with_extension(extension)
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
