//! The recordings behind the API: the catalogue, the keys and the disk. Whatever waits for the disk does so on a thread
//! that may; sound is decrypted chunk by chunk as it goes out, never more than a few chunks ahead of the listener, and
//! nothing of it touches the disk.
//!
//! ```text
//!  sealed file ─► verify (each chunk proven) ─► samples asked for ─► [4 pieces] ─► HTTP
//! ```

mod sound;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::catalogue::{Catalogue, CatalogueError};
use super::recorder::wall;
use super::vault::{Vault, VaultError};
use crate::base::ids::RecordingId;
use crate::control::recordings::{Change, Recordings, RecordingsError, Sound, Waveform};
use crate::record::catalogue::{Entry, Page, Query, Tombstone};
use crate::record::keys::KeyRing;

pub use sound::{each_item, frames_of, waveform_of};

/// How many may be given sound at once; each takes a thread as long as it lasts.
const LISTENERS: usize = 64;

/// More than a sealed file's header is long: what holds the wrapped key.
const HEADER_BYTES: usize = 512;

/// Pieces that wait for a listener.
const AHEAD: usize = 4;

/// The keys in force, as they are when asked.
pub type Keys = Arc<dyn Fn() -> Arc<KeyRing> + Send + Sync>;

/// Destroys a recording, in this name and for this reason, and leaves its tombstone.
pub type Destroy = Arc<dyn Fn(&Catalogue, RecordingId, &str, &str) -> Result<(), RecordingsError> + Send + Sync>;

/// The recordings of a node.
#[derive(Clone)]
pub struct Shelf {
    catalogue: Arc<Catalogue>,
    keys: Keys,
    destroy: Destroy,
    listeners: Arc<Semaphore>,
}

impl Shelf {
    /// Those of `catalogue`, opened with `keys`.
    pub fn new(catalogue: Arc<Catalogue>, keys: Keys, destroy: Destroy) -> Self {
        Self { catalogue, keys, destroy, listeners: Arc::new(Semaphore::new(LISTENERS)) }
    }

    /// Does what waits for the disk.
    fn wait<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, RecordingsError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, RecordingsError>> {
        let shelf = self.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&shelf)).await;
            done.unwrap_or_else(|_| Err(RecordingsError::Busy("the node is stopping".into())))
        })
    }

    fn entry(&self, recording: RecordingId) -> Result<Entry, RecordingsError> {
        self.catalogue.get(recording).map_err(told)?.ok_or(RecordingsError::Unknown)
    }

    /// An entry whose sound may be given out now: asked again for each access, for it may have been put in quarantine.
    fn open(&self, recording: RecordingId) -> Result<Entry, RecordingsError> {
        let entry = self.entry(recording)?;
        match entry.withheld() {
            None => Ok(entry),
            Some(why) => Err(RecordingsError::Refused(why.to_owned())),
        }
    }

    /// Sound that a thread makes.
    fn stream(
        &self,
        work: impl FnOnce(&Self, &mut sound::Out) -> std::io::Result<()> + Send + 'static,
    ) -> Result<Sound, RecordingsError> {
        let Ok(place) = self.listeners.clone().try_acquire_owned() else {
            return Err(RecordingsError::Busy("too many listen at once".into()));
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        let shelf = self.clone();
        tokio::task::spawn_blocking(move || {
            let _place = place;
            let mut out = sound::Out::new(sender);
            if let Err(error) = work(&shelf, &mut out) {
                out.fail(error);
            }
        });
        Ok(ReceiverStream::new(receiver).boxed())
    }
}

impl Recordings for Shelf {
    fn search(&self, query: Query) -> BoxFuture<'_, Result<Page, RecordingsError>> {
        self.wait(move |shelf| shelf.catalogue.search(&query).map_err(told))
    }

    fn get(&self, recording: RecordingId) -> BoxFuture<'_, Result<Entry, RecordingsError>> {
        self.wait(move |shelf| shelf.entry(recording))
    }

    fn change(&self, recording: RecordingId, change: Change) -> BoxFuture<'_, Result<Entry, RecordingsError>> {
        self.wait(move |shelf| match change {
            Change::Label(labels) => shelf.catalogue.label(recording, &labels).map_err(told),
            Change::Hold { by, why } => shelf.catalogue.hold(recording, &by, &why).map_err(told),
            Change::Release => shelf.catalogue.release(recording).map_err(told),
            Change::Destroy { by, why } => {
                let before = shelf.entry(recording)?;
                if !before.state.is_over() {
                    return Err(RecordingsError::Refused("is still being written".into()));
                }
                (shelf.destroy)(&shelf.catalogue, recording, &by, &why)?;
                shelf.entry(recording)
            }
        })
    }

    fn frames(&self, recording: RecordingId) -> BoxFuture<'_, Result<u64, RecordingsError>> {
        self.wait(move |shelf| frames_of(&shelf.catalogue, &shelf.open(recording)?, &(shelf.keys)()))
    }

    fn samples(&self, recording: RecordingId, bytes: Range<u64>) -> BoxFuture<'_, Result<Sound, RecordingsError>> {
        let shelf = self.clone();
        Box::pin(async move {
            let entry = shelf.wait(move |shelf| shelf.open(recording)).await?;
            shelf.stream(move |shelf, out| sound::samples(&shelf.catalogue, &entry, &(shelf.keys)(), bytes, out))
        })
    }

    fn ogg(&self, recording: RecordingId) -> BoxFuture<'_, Result<Sound, RecordingsError>> {
        let shelf = self.clone();
        Box::pin(async move {
            let entry = shelf.wait(move |shelf| shelf.open(recording)).await?;
            shelf.stream(move |shelf, out| sound::ogg(&shelf.catalogue, &entry, &(shelf.keys)(), out))
        })
    }

    fn waveform(&self, recording: RecordingId, points: usize) -> BoxFuture<'_, Result<Waveform, RecordingsError>> {
        self.wait(move |shelf| waveform_of(&shelf.catalogue, &shelf.open(recording)?, &(shelf.keys)(), points))
    }
}

/// Destroys what opens a recording, and then the rest of it: the key in its header is overwritten on the disk, and the
/// files are removed.
///
/// # Errors
/// As [`Recordings::change`].
pub fn destroy_files(
    catalogue: &Catalogue,
    recording: RecordingId,
    by: &str,
    why: &str,
) -> Result<(), RecordingsError> {
    use std::os::unix::fs::FileExt;
    let stone = Tombstone { by: by.to_owned(), why: why.to_owned(), at_ms: wall() };
    let path = catalogue.file(&catalogue.bury(recording, stone).map_err(told)?);
    let work = || -> std::io::Result<()> {
        match std::fs::OpenOptions::new().write(true).open(&path) {
            Ok(file) => {
                let length = file.metadata()?.len().min(HEADER_BYTES as u64) as usize;
                file.write_all_at(&vec![0; length], 0)?;
                file.sync_all()?;
                std::fs::remove_file(&path)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match std::fs::remove_file(crate::record::place::seal_file(&path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    work().map_err(|error| {
        RecordingsError::Refused(format!("is marked as destroyed, but its file could not be removed: {error}"))
    })
}

/// Destroys a recording as `vault` does, in the object store too.
///
/// # Errors
/// As [`Recordings::change`].
pub fn destroy_in(vault: &Vault, recording: RecordingId, by: &str, why: &str) -> Result<(), RecordingsError> {
    match vault.destroy(recording, by, why) {
        Ok(destroyed) => {
            tracing::info!(%recording, proof = destroyed.proof, "a recording was destroyed");
            Ok(())
        }
        Err(VaultError::Catalogue(error)) => Err(told(error)),
        Err(error) => Err(RecordingsError::Refused(format!("could not be destroyed now: {error}"))),
    }
}

fn told(error: CatalogueError) -> RecordingsError {
    match error {
        CatalogueError::Unknown(_) => RecordingsError::Unknown,
        CatalogueError::Refused { why, .. } => RecordingsError::Refused(why),
        error @ (CatalogueError::File { .. } | CatalogueError::Database { .. }) => {
            tracing::error!(%error, "the catalogue of recordings");
            RecordingsError::Busy("the catalogue of recordings cannot be read now".into())
        }
    }
}
