//! What is done with recordings after they are closed: given out for reading, put under another key, copied to an object
//! store, destroyed. A [`Vault`] does each on demand (commands, the API); its rounds, on a thread of their own, do what is
//! due without being asked, one recording at a time, and take up again what a crash left.
//!
//! ```text
//!            ┌─ destroyed, and something of it left ─► wiped, removed from the store, seen to be gone
//!   a round ─┼─ deadline past, not held ─────────────► the same, told to the audit log
//!            ├─ under an old key ────────────────────► rewrapped
//!            ├─ closed, not in the store ────────────► put there, seen to be there
//!            └─ in the store long enough ────────────► the copy here removed
//! ```
//!
//! Everything here waits for disks and networks: not for async tasks. Nothing here decides who may do it.

mod fetched;
pub mod files;
mod rounds;
pub mod store;
mod versions;

#[cfg(test)]
mod s3_tests;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use rounds::{Done, Rounds};

use self::fetched::{Fetched, Lent};
use self::files::{Changed, Wiped};
use self::store::{Store, StoreError};
use super::catalogue::{Catalogue, CatalogueError};
use super::keys::Keys;
use super::recorder::wall;
use crate::audit::Proof;
use crate::base::Random;
use crate::base::ids::RecordingId;
use crate::config;
use crate::record::catalogue::{Entry, Retention, Rule, State, Stored, Tombstone, Whereabouts};
use crate::record::keys::KeyDown;
use crate::record::place;
use crate::record::sealed::RewrapError;

/// It could not be done.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The catalogue, or what it forbids.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The object store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key, or a recording that is not as it was written.
    #[error(transparent)]
    Key(#[from] RewrapError),
    /// No key to put it under.
    #[error(transparent)]
    Down(#[from] KeyDown),
    /// A file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Somebody reads or writes it now.
    #[error("recording {0} is being read or written; try again later")]
    Busy(RecordingId),
    /// It is in the object store, and none is configured.
    #[error("recording {0} is in an object store, and [storage.s3] names none")]
    Elsewhere(RecordingId),
    /// So much is being read from the object store that there is no place for more.
    #[error("too many recordings are being read from the object store at once; try again later")]
    Full,
    /// The disk has no room for what would be fetched.
    #[error("the recordings' disk has no room for {bytes} bytes from the object store")]
    NoRoom {
        /// Bytes wanted.
        bytes: u64,
    },
}

impl VaultError {
    /// Whether the object store could not be asked: another try later may succeed.
    pub fn is_away(&self) -> bool {
        matches!(self, VaultError::Store(StoreError::Store(error)) if !matches!(error, object_store::Error::NotFound { .. }))
    }
}

/// Room that a fetched recording leaves on the disk.
const LEAVES: u64 = 64 << 20;

/// How old a place for fetched files is that a killed process left.
const LEFT_OVER: Duration = Duration::from_secs(3_600);

/// What the names of such places begin with.
const PLACES: &str = ".fetched-";

/// A recording, open for reading. While this lives, nobody changes or destroys it.
pub struct Reading {
    /// What the catalogue says of it.
    pub entry: Entry,
    /// The text of its seal, if there is one.
    pub seal: Option<Vec<u8>>,
    file: Arc<std::fs::File>,
    at: u64,
}

impl Reading {
    /// Bytes of the sealed file.
    ///
    /// # Errors
    /// When the file cannot be asked.
    pub fn bytes(&self) -> io::Result<u64> {
        self.file.metadata().map(|found| found.len())
    }
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A place of its own: others read the same open file.
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl io::Seek for Reading {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let from = |base: u64, by: i64| {
            base.checked_add_signed(by).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
        };
        self.at = match to {
            io::SeekFrom::Start(at) => at,
            io::SeekFrom::Current(by) => from(self.at, by)?,
            io::SeekFrom::End(by) => from(self.file.metadata()?.len(), by)?,
        };
        Ok(self.at)
    }
}

/// What was destroyed, and how it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destroyed {
    /// Recording.
    pub recording: RecordingId,
    /// How it was seen that nothing opens it any more; for the audit log.
    pub proof: Proof,
}

/// Recordings after their end. Share it by `Arc`.
pub struct Vault {
    catalogue: Arc<Catalogue>,
    keys: Arc<Keys>,
    store: Option<Store>,
    keep_local: Option<Duration>,
    random: Mutex<Random>,
    fetched: Fetched,
}

impl Vault {
    /// A vault of the recordings of `catalogue`. `keep_local`: how long the copy here stays once the store has a recording.
    pub fn new(
        catalogue: Arc<Catalogue>,
        keys: Arc<Keys>,
        store: Option<Store>,
        keep_local: Option<Duration>,
        random: Random,
    ) -> Self {
        Self { catalogue, keys, store, keep_local, random: Mutex::new(random), fetched: Fetched::default() }
    }

    /// The vault that `[storage]` describes.
    ///
    /// # Errors
    /// When its directory or its object store cannot be used.
    pub fn of(storage: &config::Storage, keys: Arc<Keys>, random: Random) -> Result<Self, VaultError> {
        let rule = |rule: &config::KeepRule| {
            let config::KeepRule { trunk, label, keep_days } = rule.clone();
            Rule { trunk, label, keep_days }
        };
        let retention = Retention { rules: storage.retention.iter().map(rule).collect() };
        let catalogue = Catalogue::open(&storage.recordings, retention)?;
        catalogue.reckon()?;
        let store = storage.s3.as_ref().map(Store::s3).transpose()?;
        let keep_local = storage.s3.as_ref().and_then(|s3| s3.keep_local);
        clear_places(catalogue.root());
        Ok(Self::new(Arc::new(catalogue), keys, store, keep_local, random))
    }

    /// Brings a recording that is in the object store only back to this disk, so that it is in both.
    ///
    /// # Errors
    /// When it is in none, or cannot be had whole.
    pub fn fetch(&self, recording: RecordingId) -> Result<Entry, VaultError> {
        let entry = self.entry(recording)?;
        let path = self.catalogue.file(&entry);
        let stored = entry.stored.clone().ok_or(CatalogueError::Unknown(recording))?;
        if !path.exists() {
            let store = self.store.as_ref().ok_or(VaultError::Elsewhere(recording))?;
            super::recorder::files::make_directory(path.parent().unwrap_or(Path::new(".")))?;
            self.room_for(stored.bytes)?;
            store.fetch(&stored, &path)?;
        }
        // From now, so that the next round does not remove it again at once.
        Ok(self.catalogue.stored(recording, Stored { at_ms: wall(), ..stored })?)
    }

    /// The catalogue.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// The keys in force.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Opens a recording for reading, fetched from the object store if it is only there; then it is kept for some minutes
    /// for who reads it next. Feed it to [`crate::record::sealed::verify`] with [`Reading::seal`] and [`Keys::ring`]. Whether
    /// it may be given out is the caller's to ask ([`Entry::withheld`]).
    ///
    /// # Errors
    /// When it is not there (any more) or cannot be read.
    pub fn open(&self, recording: RecordingId) -> Result<Reading, VaultError> {
        let entry = self.entry(recording)?;
        let path = self.catalogue.file(&entry);
        if let Some(opened) = files::open(&path)? {
            let seal = read_seal(&path)?;
            return Ok(Reading { entry, seal, file: Arc::new(opened.file), at: 0 });
        }
        let Some(stored) = &entry.stored else { return Err(CatalogueError::Unknown(recording).into()) };
        let store = self.store.as_ref().ok_or(VaultError::Elsewhere(recording))?;
        let lent = self.fetched.lend(recording, stored, || self.bring(recording, stored, store))?;
        // Destroyed while it was fetched: nobody hears it, and no copy is kept.
        if let Err(gone) = self.entry(recording) {
            self.fetched.forget(recording);
            return Err(gone);
        }
        Ok(Reading { entry, seal: lent.seal, file: lent.file, at: 0 })
    }

    /// Fetches a recording into a place of its own, which is unlinked at once.
    fn bring(&self, recording: RecordingId, stored: &Stored, store: &Store) -> Result<Lent, VaultError> {
        self.room_for(stored.bytes)?;
        let own = self.catalogue.root().join(format!("{PLACES}{}-{recording}", self.draw()));
        super::recorder::files::make_directory(&own)?;
        let to = place::sealed_file(&own, recording);
        let fetched = store.fetch(stored, &to).map_err(VaultError::from).and_then(|()| {
            // To be written as well: when the recording is destroyed, its key slot is overwritten here too.
            let file = std::fs::OpenOptions::new().read(true).write(true).open(&to)?;
            Ok(Lent { file: Arc::new(file), seal: read_seal(&to)? })
        });
        std::fs::remove_dir_all(&own)?;
        fetched
    }

    fn room_for(&self, bytes: u64) -> Result<(), VaultError> {
        let disk = rustix::fs::statvfs(self.catalogue.root()).map_err(io::Error::from)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free >= bytes.saturating_add(LEAVES) { Ok(()) } else { Err(VaultError::NoRoom { bytes }) }
    }

    /// Puts a recording under the current key: its header only.
    ///
    /// # Errors
    /// When a key cannot be had or the file not be changed; it is readable as before.
    pub fn rewrap(&self, recording: RecordingId) -> Result<Changed, VaultError> {
        self.change(recording, files::rewrap)
    }

    /// Gives a recording another data key under the current key: for a key-encryption key that somebody else may have.
    ///
    /// # Errors
    /// As [`Vault::rewrap`].
    pub fn reencrypt(&self, recording: RecordingId) -> Result<Changed, VaultError> {
        self.change(recording, files::reencrypt)
    }

    fn change(
        &self,
        recording: RecordingId,
        how: impl FnOnce(
            &Path,
            &crate::record::keys::KeyRing,
            &crate::record::keys::Kek,
            &mut Random,
        ) -> Result<Changed, RewrapError>,
    ) -> Result<Changed, VaultError> {
        let entry = self.entry(recording)?;
        let kek = self.keys.current()?;
        let path = self.catalogue.file(&entry);
        if entry.whereabouts == Whereabouts::Store {
            let stored = entry.stored.as_ref().ok_or(CatalogueError::Unknown(recording))?;
            let store = self.store.as_ref().ok_or(VaultError::Elsewhere(recording))?;
            super::recorder::files::make_directory(path.parent().unwrap_or(Path::new(".")))?;
            self.room_for(stored.bytes)?;
            store.fetch(stored, &path)?;
        }
        let mut random = self.fork();
        let changed = how(&path, &self.keys.ring(), &kek, &mut random)?;
        if changed != Changed::Busy {
            // What the store has is under the old key: the next round puts it there anew, over the old.
            self.catalogue.rewrapped(recording, kek.id(), changed == Changed::Done)?;
        }
        Ok(changed)
    }

    /// Destroys a recording everywhere: nothing opens it any more, whoever has which key. A tombstone remains.
    ///
    /// # Errors
    /// [`CatalogueError::Refused`] under legal hold; [`VaultError::Busy`] while it is read or written. When the disk or the
    /// store fails half way, nobody is given it any more, and the next round goes on.
    pub fn destroy(&self, recording: RecordingId, by: &str, why: &str) -> Result<Destroyed, VaultError> {
        let entry = self.entry(recording)?;
        if entry.state == State::Recording || entry.state == State::Finalising {
            return Err(VaultError::Busy(recording));
        }
        // Asked before the tombstone is written; what is held is refused as that below, used or not.
        if entry.hold.is_none() && self.is_used(&entry) {
            return Err(VaultError::Busy(recording));
        }
        let stone = Tombstone { by: by.to_owned(), why: why.to_owned(), at_ms: wall() };
        let buried = self.catalogue.bury(recording, stone)?;
        self.wipe(&buried)
    }

    /// Whether somebody reads or writes it now: who reads it holds it.
    fn is_used(&self, entry: &Entry) -> bool {
        use rustix::fs::{FlockOperation, flock};
        let locked = std::fs::File::open(self.catalogue.file(entry))
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err());
        locked || self.fetched.is_read(entry.recording)
    }

    /// Wipes what is left of a buried recording.
    fn wipe(&self, buried: &Entry) -> Result<Destroyed, VaultError> {
        let recording = buried.recording;
        let mut random = self.fork();
        for copy in self.fetched.forget(recording) {
            files::wipe_head(&copy, files::HEAD, &mut random)?;
        }
        let mut proof = match files::destroy(&self.catalogue.file(buried), &self.keys.ring(), &mut random)? {
            Wiped::Gone(proof) => proof,
            Wiped::Busy => return Err(VaultError::Busy(recording)),
        };
        match (&self.store, &buried.stored) {
            (None, None) => {}
            (None, Some(_)) => return Err(VaultError::Elsewhere(recording)),
            // Also where only the row says that it was never stored: an upload may have been cut off by a crash.
            (Some(store), stored) => {
                let key = store.key(recording, buried.started_ms);
                let unsaid = Stored { key, bytes: 0, sha256: String::new(), at_ms: wall() };
                proof.store = Some(store.remove(stored.as_ref().unwrap_or(&unsaid))?);
            }
        }
        self.catalogue.gone(recording)?;
        Ok(Destroyed { recording, proof })
    }

    fn entry(&self, recording: RecordingId) -> Result<Entry, VaultError> {
        let entry = self.catalogue.get(recording)?.ok_or(CatalogueError::Unknown(recording))?;
        if entry.state == State::Destroyed {
            let why = "was destroyed".to_owned();
            return Err(CatalogueError::Refused { recording, why }.into());
        }
        Ok(entry)
    }

    fn draw(&self) -> u64 {
        rand::Rng::next_u64(&mut *self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A generator of its own for one piece of work.
    fn fork(&self) -> Random {
        use rand::{RngExt, SeedableRng};
        Random::from_seed(self.random.lock().unwrap_or_else(PoisonError::into_inner).random())
    }
}

/// Removes places for fetched files that a killed process left. What cannot be removed is sealed, and is left.
fn clear_places(root: &Path) {
    for place in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let ours = place.file_name().to_string_lossy().starts_with(PLACES);
        let age = place.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
        if ours
            && age.is_some_and(|age| age > LEFT_OVER)
            && let Err(error) = std::fs::remove_dir_all(place.path())
        {
            tracing::warn!(place = %place.path().display(), %error, "what a killed process fetched cannot be removed");
        }
    }
}

fn read_seal(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(place::seal_file(path)) {
        Ok(seal) => Ok(Some(seal)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
