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

pub mod files;
mod rounds;
pub mod store;

#[cfg(test)]
mod s3_tests;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use rounds::{Done, Rounds};

use self::files::{Changed, Wiped};
use self::store::{Store, StoreError};
use super::catalogue::{Catalogue, CatalogueError};
use super::keys::Keys;
use super::recorder::wall;
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
}

/// A recording, open for reading. While this lives, nobody changes or destroys it.
pub struct Reading {
    /// What the catalogue says of it.
    pub entry: Entry,
    /// The text of its seal, if there is one.
    pub seal: Option<Vec<u8>>,
    file: std::fs::File,
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
        self.file.read(buffer)
    }
}

impl io::Seek for Reading {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// What was destroyed, and how it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destroyed {
    /// Recording.
    pub recording: RecordingId,
    /// How it was seen that nothing opens it any more; for the audit log.
    pub proof: String,
}

/// Recordings after their end. Share it by `Arc`.
pub struct Vault {
    catalogue: Arc<Catalogue>,
    keys: Arc<Keys>,
    store: Option<Store>,
    keep_local: Option<Duration>,
    random: Mutex<Random>,
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
        Self { catalogue, keys, store, keep_local, random: Mutex::new(random) }
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

    /// Opens a recording for reading, fetched from the object store if it is only there. Feed it to
    /// [`crate::record::sealed::verify`] with [`Reading::seal`] and [`Keys::ring`]. Whether it may be given out is the
    /// caller's to ask ([`Entry::withheld`]).
    ///
    /// # Errors
    /// When it is not there (any more) or cannot be read.
    pub fn open(&self, recording: RecordingId) -> Result<Reading, VaultError> {
        let entry = self.entry(recording)?;
        let path = self.catalogue.file(&entry);
        if let Some(opened) = files::open(&path)? {
            let seal = read_seal(&path)?;
            return Ok(Reading { entry, seal, file: opened.file });
        }
        let Some(stored) = &entry.stored else { return Err(CatalogueError::Unknown(recording).into()) };
        let store = self.store.as_ref().ok_or(VaultError::Elsewhere(recording))?;
        // Into a place of its own, unlinked at once: what is read goes with the reading.
        let own = self.catalogue.root().join(format!(".fetched-{}-{recording}", self.draw()));
        super::recorder::files::make_directory(&own)?;
        let to = place::sealed_file(&own, recording);
        let fetched = store.fetch(stored, &to).map_err(VaultError::from).and_then(|()| {
            let (file, seal) = (std::fs::File::open(&to)?, read_seal(&to)?);
            Ok(Reading { entry, seal, file })
        });
        std::fs::remove_dir_all(&own)?;
        fetched
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
        // Who reads it now holds it; asked before the tombstone is written.
        if let Ok(file) = std::fs::File::open(self.catalogue.file(&entry))
            && rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err()
        {
            return Err(VaultError::Busy(recording));
        }
        let stone = Tombstone { by: by.to_owned(), why: why.to_owned(), at_ms: wall() };
        let buried = self.catalogue.bury(recording, stone)?;
        self.wipe(&buried)
    }

    /// Wipes what is left of a buried recording.
    fn wipe(&self, buried: &Entry) -> Result<Destroyed, VaultError> {
        let recording = buried.recording;
        let mut random = self.fork();
        let local = match files::destroy(&self.catalogue.file(buried), &self.keys.ring(), &mut random)? {
            Wiped::Gone(proof) => proof,
            Wiped::Busy => return Err(VaultError::Busy(recording)),
        };
        // Also where only the row says that it was never stored: an upload may have been cut off by a crash.
        let proof = match (&self.store, &buried.stored) {
            (None, None) => local,
            (None, Some(_)) => return Err(VaultError::Elsewhere(recording)),
            (Some(store), stored) => {
                let key = store.key(recording, buried.started_ms);
                let unsaid = Stored { key, bytes: 0, sha256: String::new(), at_ms: wall() };
                store.remove(stored.as_ref().unwrap_or(&unsaid))?;
                format!("{local}; removed from the object store and seen to be gone")
            }
        };
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

fn read_seal(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(place::seal_file(path)) {
        Ok(seal) => Ok(Some(seal)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
