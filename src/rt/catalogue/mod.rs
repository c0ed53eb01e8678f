//! The catalogue of recordings: one SQLite file beside them (`<storage.recordings>/catalogue.db`), searched by the API and
//! the command line, written by the recorder's clerk and by whoever labels, holds, quarantines or destroys. It is an
//! index only: [`Catalogue::reindex`] makes it again from the sealed files and from the notes beside them, so neither a
//! crash nor a lost database loses a recording.
//!
//! ```text
//!   rec_….sealed    what was recorded         ─┐
//!   rec_….seal      how much of it             ├─► reindex ─► catalogue.db ─► get, search
//!   rec_….notes     what the file cannot say: ─┘                  ▲
//!                   labels, hold, quarantine, place, tombstone    │ every change: notes first, synced, then the row
//! ```
//!
//! Several processes may have it open (a node and a command). Calls wait for the disk: not for async tasks. Nothing in
//! it is secret in the sense of card data; it names calls, numbers and labels, so only its owner may read it.

mod clerk;
mod index;
mod notes;
mod rows;

#[cfg(test)]
mod tests;

pub use clerk::Clerk;
pub use index::Reindexed;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::recorder::wall;
use crate::base::ids::RecordingId;
use crate::base::time::WallMs;
use crate::record::catalogue::{
    AuditVerdict, Entry, FORWARDED, LegalHold, Page, Query, Retention, SelfAudit, State, Stored, Tombstone,
    Whereabouts, is_label_key, is_label_value,
};
use crate::record::place;

/// Name of the database in the recordings directory.
pub const FILE: &str = "catalogue.db";

/// How long a call waits for another process that writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The catalogue could not do it.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file of it.
    #[error("{}: {error}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The database.
    #[error("{}: {error}", path.display())]
    Database {
        /// Where.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
    /// There is no such recording.
    #[error("no recording {0}")]
    Unknown(RecordingId),
    /// The recording's state forbids it; says why.
    #[error("recording {recording} {why}")]
    Refused {
        /// Recording.
        recording: RecordingId,
        /// Why, continuing the sentence.
        why: String,
    },
}

/// The open catalogue. Share it by `Arc`.
pub struct Catalogue {
    root: PathBuf,
    retention: Retention,
    database: Mutex<Connection>,
}

impl Catalogue {
    /// Opens the catalogue of the recordings under `root`, making it where it is not there. A file that is no database is
    /// put aside (`catalogue.db.broken`) and an empty one made; [`Catalogue::reindex`] fills it.
    ///
    /// # Errors
    /// When the directory cannot be made, read or written.
    pub fn open(root: &Path, retention: Retention) -> Result<Self, CatalogueError> {
        let path = root.join(FILE);
        let file = |error| CatalogueError::File { path: path.clone(), error };
        super::recorder::files::make_directory(root).map_err(file)?;
        // SQLite would make it readable by others; what it makes beside it has the same mode.
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(file)?;
        let database = match rows::open(&path, PATIENCE) {
            Err(error) if rows::is_broken(&error) => {
                let broken = path.with_extension("db.broken");
                tracing::error!(file = %path.display(), aside = %broken.display(), %error, "the catalogue is broken");
                std::fs::rename(&path, broken).map_err(file)?;
                OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(file)?;
                rows::open(&path, PATIENCE)
            }
            opened => opened,
        };
        let database = database.map_err(|error| CatalogueError::Database { path, error })?;
        Ok(Self { root: root.to_owned(), retention, database: Mutex::new(database) })
    }

    /// The directory of recordings.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is known of a recording; tombstones too.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn get(&self, recording: RecordingId) -> Result<Option<Entry>, CatalogueError> {
        rows::get(&self.lock(), recording).map_err(|error| self.failed(error))
    }

    /// The recordings `query` asks for, newest first, a page at a time.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn search(&self, query: &Query) -> Result<Page, CatalogueError> {
        rows::search(&self.lock(), query).map_err(|error| self.failed(error))
    }

    /// Every page of `query`, one after the other, given to `each`.
    ///
    /// # Errors
    /// When the database cannot be read, or `each` fails.
    pub fn for_each(
        &self,
        mut query: Query,
        each: &mut dyn FnMut(Entry) -> Result<(), CatalogueError>,
    ) -> Result<(), CatalogueError> {
        query.limit = Query::MOST;
        loop {
            let page = self.search(&query)?;
            page.entries.into_iter().try_for_each(&mut *each)?;
            query.after = page.next;
            if query.after.is_none() {
                return Ok(());
            }
        }
    }

    /// How many recordings are in each state, in the order of [`State::ALL`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn counts(&self) -> Result<[u64; State::ALL.len()], CatalogueError> {
        rows::counts(&self.lock()).map_err(|error| self.failed(error))
    }

    /// Reckons every deadline anew, for rules that have changed. Gives how many are others now.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn reckon(&self) -> Result<u64, CatalogueError> {
        let mut changed = 0;
        self.for_each(Query::default(), &mut |entry| {
            let until = self.retention.deadline(&entry);
            if until != entry.keep_until_ms {
                changed += 1;
                self.index(entry)?;
            }
            Ok(())
        })?;
        Ok(changed)
    }

    /// The sealed file of an entry on this disk; it is there when the entry's whereabouts say so.
    pub fn file(&self, entry: &Entry) -> PathBuf {
        place::sealed_file(&place::directory(&self.root, entry.started_ms), entry.recording)
    }

    /// Sets (`Some`) or removes (`None`) labels, and the deadline that follows from them. Gives the entry as it is now.
    ///
    /// # Errors
    /// [`CatalogueError::Refused`] for a label that is none ([`is_label_key`], [`is_label_value`]) or a destroyed
    /// recording.
    pub fn label(&self, recording: RecordingId, labels: &[(String, Option<String>)]) -> Result<Entry, CatalogueError> {
        self.change(recording, |entry| {
            for (key, value) in labels {
                if !is_label_key(key) || !value.as_deref().is_none_or(is_label_value) {
                    return Err(
                        "cannot bear this label: a key is 1 to 64 of letters, digits, `.`, `_`, `-`; a value is \
                                up to 256 characters without a run of more than eleven digits"
                            .into(),
                    );
                }
                match value {
                    Some(value) => entry.labels.insert(key.clone(), value.clone()),
                    None => entry.labels.remove(key),
                };
            }
            if entry.labels.len() > 64 { Err("has 64 labels already".into()) } else { Ok(()) }
        })
    }

    /// A spill's recorder has got it.
    ///
    /// # Errors
    /// [`CatalogueError::Refused`] when it was destroyed.
    pub fn forwarded(&self, recording: RecordingId, at: WallMs) -> Result<Entry, CatalogueError> {
        self.change(recording, |entry| {
            entry.labels.insert(FORWARDED.to_owned(), at.rfc3339());
            Ok(())
        })
    }

    /// Takes a legal hold: neither a deadline nor anybody destroys the recording until it is released.
    ///
    /// # Errors
    /// [`CatalogueError::Refused`] when it is held already or destroyed.
    pub fn hold(&self, recording: RecordingId, by: &str, why: &str) -> Result<Entry, CatalogueError> {
        self.change(recording, |entry| match &entry.hold {
            Some(hold) => Err(format!("is held already, by {} since {}", hold.by, hold.since_ms.rfc3339())),
            None => {
                entry.hold = Some(LegalHold { by: by.to_owned(), why: why.to_owned(), since_ms: wall() });
                Ok(())
            }
        })
    }

    /// Releases the legal hold.
    ///
    /// # Errors
    /// [`CatalogueError::Refused`] when it is not held.
    pub fn release(&self, recording: RecordingId) -> Result<Entry, CatalogueError> {
        self.change(recording, |entry| match entry.hold.take() {
            Some(_) => Ok(()),
            None => Err("is not held".into()),
        })
    }

    /// A closed recording waits for its self-audit ([`Catalogue::audited`]).
    ///
    /// # Errors
    /// When it is not there or destroyed.
    pub fn finalising(&self, recording: RecordingId) -> Result<Entry, CatalogueError> {
        self.change(recording, |entry| {
            entry.state = State::Finalising;
            Ok(())
        })
    }

    /// A self-audit's verdict. A hit quarantines; a clean one makes what was finalising sealed; a quarantine is lifted by
    /// [`Catalogue::lift_quarantine`] only. `detail` says where and what kind, never which digits.
    ///
    /// # Errors
    /// When it is not there or destroyed.
    pub fn audited(
        &self,
        recording: RecordingId,
        verdict: AuditVerdict,
        detail: &str,
    ) -> Result<Entry, CatalogueError> {
        self.change(recording, |entry| {
            entry.self_audit = Some(SelfAudit { verdict, at_ms: wall(), detail: detail.to_owned() });
            match (verdict, entry.state) {
                (AuditVerdict::Hit, _) => entry.state = State::Quarantined,
                (AuditVerdict::Clean, State::Finalising) => entry.state = over(entry),
                _ => {}
            }
            Ok(())
        })
    }

    /// Lifts a quarantine after a person looked at it; `by` and `why` become the audit's detail.
    ///
    /// # Errors
    /// [`CatalogueError::Refused`] when it is not quarantined.
    pub fn lift_quarantine(&self, recording: RecordingId, by: &str, why: &str) -> Result<Entry, CatalogueError> {
        self.change(recording, |entry| {
            if entry.state != State::Quarantined {
                return Err("is not quarantined".into());
            }
            entry.state = over(entry);
            let detail = format!("quarantine lifted by {by}: {why}");
            entry.self_audit = Some(SelfAudit { verdict: AuditVerdict::Clean, at_ms: wall(), detail });
            Ok(())
        })
    }

    /// The object store has acknowledged the recording.
    ///
    /// # Errors
    /// When it is not there or destroyed.
    pub fn stored(&self, recording: RecordingId, stored: Stored) -> Result<Entry, CatalogueError> {
        self.change(recording, |entry| {
            entry.whereabouts = Whereabouts::Both;
            entry.stored = Some(stored);
            Ok(())
        })
    }

    /// The local copy of a stored recording is about to be removed.
    ///
    /// # Errors
    /// [`CatalogueError::Refused`] when it is not in the object store.
    pub fn only_stored(&self, recording: RecordingId) -> Result<Entry, CatalogueError> {
        self.change(recording, |entry| match entry.stored {
            Some(_) => {
                entry.whereabouts = Whereabouts::Store;
                Ok(())
            }
            None => Err("is not in the object store".into()),
        })
    }

    /// The recording is wrapped under this key now. `changed`: it was under another, so what the object store has of it is
    /// to be put there anew.
    ///
    /// # Errors
    /// When it is not there or destroyed.
    pub fn rewrapped(&self, recording: RecordingId, kek_id: &str, changed: bool) -> Result<Entry, CatalogueError> {
        self.change(recording, |entry| {
            entry.kek_id = kek_id.to_owned();
            if changed {
                (entry.whereabouts, entry.stored) = (Whereabouts::Local, None);
            }
            Ok(())
        })
    }

    /// Everything of a destroyed recording is wiped.
    ///
    /// # Errors
    /// When it was not destroyed.
    pub fn gone(&self, recording: RecordingId) -> Result<Entry, CatalogueError> {
        self.change_any(recording, |entry| match entry.state {
            State::Destroyed => {
                (entry.whereabouts, entry.stored) = (Whereabouts::Nowhere, None);
                Ok(())
            }
            _ => Err("was not destroyed".into()),
        })
    }

    /// The recording is being destroyed, or is: nothing names its people any more. Whoever calls this destroys its bytes.
    ///
    /// # Errors
    /// [`CatalogueError::Refused`] when it is under legal hold.
    pub fn bury(&self, recording: RecordingId, tombstone: Tombstone) -> Result<Entry, CatalogueError> {
        self.change(recording, |entry| match &entry.hold {
            Some(hold) => Err(format!("is under legal hold, by {}: {}", hold.by, hold.why)),
            None => {
                entry.bury(tombstone);
                Ok(())
            }
        })
    }

    /// Changes an entry that is no tombstone.
    fn change(
        &self,
        recording: RecordingId,
        change: impl FnOnce(&mut Entry) -> Result<(), String>,
    ) -> Result<Entry, CatalogueError> {
        self.change_any(recording, |entry| match entry.state {
            State::Destroyed => Err("was destroyed".into()),
            _ => change(entry),
        })
    }

    /// Reads, changes and writes an entry: its notes first, so that no change is only in the index.
    fn change_any(
        &self,
        recording: RecordingId,
        change: impl FnOnce(&mut Entry) -> Result<(), String>,
    ) -> Result<Entry, CatalogueError> {
        let mut database = self.lock();
        // Another process that changes the same entry waits here.
        let transaction =
            database.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|error| self.failed(error))?;
        let found = rows::get(&transaction, recording).map_err(|error| self.failed(error))?;
        let mut entry = found.ok_or(CatalogueError::Unknown(recording))?;
        let refused = |why| CatalogueError::Refused { recording, why };
        change(&mut entry).map_err(refused)?;
        if entry.state != State::Destroyed {
            entry.keep_until_ms = self.retention.deadline(&entry);
        }
        let path = place::notes_file(&self.file(&entry));
        notes::write(&path, &entry).map_err(|error| CatalogueError::File { path, error })?;
        rows::put(&transaction, &entry).map_err(|error| self.failed(error))?;
        transaction.commit().map_err(|error| self.failed(error))?;
        Ok(entry)
    }

    /// Writes a row without notes: what the sealed file says of itself.
    pub(in crate::rt) fn index(&self, mut entry: Entry) -> Result<(), CatalogueError> {
        if entry.state != State::Destroyed {
            entry.keep_until_ms = self.retention.deadline(&entry);
        }
        rows::put(&self.lock(), &entry).map_err(|error| self.failed(error))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: rusqlite::Error) -> CatalogueError {
        CatalogueError::Database { path: self.root.join(FILE), error }
    }
}

/// The state of a recording that nothing stands in the way of any more.
fn over(entry: &Entry) -> State {
    if entry.ended_ms.is_some() { State::Sealed } else { State::Interrupted }
}
