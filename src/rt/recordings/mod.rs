//! The recordings behind the API: the catalogue, the keys and the disk. Whatever waits for the disk does so on a thread
//! that may; sound is decrypted chunk by chunk as it goes out, never more than a few chunks ahead of the listener, and
//! nothing of it touches the disk. What is in the object store only is fetched there, still sealed, when it is asked for.
//!
//! ```text
//!  object store ─► sealed file ─► verify (each chunk proven) ─► samples asked for ─► [4 pieces] ─► HTTP
//! ```

mod sound;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::catalogue::CatalogueError;
use super::vault::store::StoreError;
use super::vault::{Destroyed, Reading, Vault, VaultError};
use crate::base::ids::RecordingId;
use crate::control::recordings::{Change, Changed, Recordings, RecordingsError, Sound, Told, Waveform};
use crate::record::catalogue::{Entry, Page, Query};

pub use sound::{each_item, frames_of, waveform_of};

/// How many may be given sound at once; each takes a thread as long as it lasts.
const LISTENERS: usize = 64;

/// How long who listens to a recording that is destroyed may take to leave it.
const LEAVING: Duration = Duration::from_secs(2);

/// Pieces that wait for a listener.
const AHEAD: usize = 4;

/// The recordings of a node.
#[derive(Clone)]
pub struct Shelf {
    vault: Arc<Vault>,
    listeners: Arc<Semaphore>,
    /// Tells listeners which recording they are to leave.
    leave: Arc<watch::Sender<Option<RecordingId>>>,
}

impl Shelf {
    /// Those of `vault`.
    pub fn new(vault: Arc<Vault>) -> Self {
        Self { vault, listeners: Arc::new(Semaphore::new(LISTENERS)), leave: Arc::new(watch::Sender::new(None)) }
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
        self.vault.catalogue().get(recording).map_err(told)?.ok_or(RecordingsError::Unknown)
    }

    /// A recording whose sound may be given out now: asked again for each access, for it may have been put in quarantine.
    fn open(&self, recording: RecordingId) -> Result<Reading, RecordingsError> {
        let entry = self.entry(recording)?;
        match entry.withheld() {
            None => self.vault.open(recording).map_err(|error| not_read(&entry, error)),
            Some(why) => Err(RecordingsError::Refused(why.to_owned())),
        }
    }

    fn make(&self, recording: RecordingId, change: Change) -> Result<Changed, RecordingsError> {
        let catalogue = self.vault.catalogue();
        let entry = match change {
            Change::Label(labels) => catalogue.label(recording, &labels).map_err(told)?,
            Change::Hold { by, why } => catalogue.hold(recording, &by, &why).map_err(told)?,
            Change::Release => catalogue.release(recording).map_err(told)?,
            Change::Destroy { by, why } => {
                if !self.entry(recording)?.state.is_over() {
                    return Err(RecordingsError::Refused("is still being written".into()));
                }
                let destroyed = self.destroy(recording, &by, &why).map_err(not_destroyed)?;
                tracing::info!(%recording, proof = %destroyed.proof, "a recording was destroyed");
                return Ok(Changed { entry: self.entry(recording)?, proof: Some(destroyed.proof) });
            }
        };
        Ok(Changed { entry, proof: None })
    }

    /// Destroys a recording. Who listens to it does not keep it: their sound breaks off.
    fn destroy(&self, recording: RecordingId, by: &str, why: &str) -> Result<Destroyed, VaultError> {
        let begun = Instant::now();
        loop {
            match self.vault.destroy(recording, by, why) {
                Err(VaultError::Busy(_)) if begun.elapsed() < LEAVING => {
                    self.leave.send_replace(Some(recording));
                    std::thread::sleep(LEAVING / 100);
                }
                done => {
                    self.leave.send_replace(None);
                    return done;
                }
            }
        }
    }

    /// Sound that a thread makes.
    fn stream(
        &self,
        recording: RecordingId,
        work: impl FnOnce(&Self, &mut sound::Out) -> std::io::Result<()> + Send + 'static,
    ) -> Result<Sound, RecordingsError> {
        let Ok(place) = self.listeners.clone().try_acquire_owned() else {
            return Err(RecordingsError::Busy("too many listen at once".into()));
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        let shelf = self.clone();
        tokio::task::spawn_blocking(move || {
            let _place = place;
            let mut out = sound::Out::new(sender, recording, shelf.leave.subscribe());
            if let Err(error) = work(&shelf, &mut out) {
                out.fail(error);
            }
        });
        Ok(ReceiverStream::new(receiver).boxed())
    }
}

impl Recordings for Shelf {
    fn search(&self, query: Query) -> BoxFuture<'_, Result<Page, RecordingsError>> {
        self.wait(move |shelf| shelf.vault.catalogue().search(&query).map_err(told))
    }

    fn get(&self, recording: RecordingId) -> BoxFuture<'_, Result<Entry, RecordingsError>> {
        self.wait(move |shelf| shelf.entry(recording))
    }

    fn change(
        &self,
        recording: RecordingId,
        change: Change,
        told: Told,
    ) -> BoxFuture<'_, Result<Changed, RecordingsError>> {
        self.wait(move |shelf| {
            let made = shelf.make(recording, change);
            // Here, where it is known: whoever asked may not wait any more.
            told(&made);
            made
        })
    }

    fn frames(&self, recording: RecordingId) -> BoxFuture<'_, Result<u64, RecordingsError>> {
        self.wait(move |shelf| frames_of(&mut shelf.open(recording)?, &shelf.vault.keys().ring()))
    }

    fn samples(&self, recording: RecordingId, bytes: Range<u64>) -> BoxFuture<'_, Result<Sound, RecordingsError>> {
        let shelf = self.clone();
        Box::pin(async move {
            let mut reading = shelf.wait(move |shelf| shelf.open(recording)).await?;
            shelf.stream(recording, move |shelf, out| {
                sound::samples(&mut reading, &shelf.vault.keys().ring(), bytes, out)
            })
        })
    }

    fn ogg(&self, recording: RecordingId) -> BoxFuture<'_, Result<Sound, RecordingsError>> {
        let shelf = self.clone();
        Box::pin(async move {
            let mut reading = shelf.wait(move |shelf| shelf.open(recording)).await?;
            shelf.stream(recording, move |shelf, out| sound::ogg(&mut reading, &shelf.vault.keys().ring(), out))
        })
    }

    fn waveform(&self, recording: RecordingId, points: usize) -> BoxFuture<'_, Result<Waveform, RecordingsError>> {
        self.wait(move |shelf| waveform_of(&mut shelf.open(recording)?, &shelf.vault.keys().ring(), points))
    }
}

/// Why a recording cannot be read, as who asked is told.
fn not_read(entry: &Entry, error: VaultError) -> RecordingsError {
    let recording = entry.recording;
    match error {
        // The catalogue has it, and its file is not there.
        VaultError::Catalogue(CatalogueError::Unknown(_)) => {
            RecordingsError::NoSound(format!("is not on this node's disk ({})", entry.whereabouts.word()))
        }
        VaultError::Catalogue(error) => told(error),
        VaultError::Elsewhere(_) => {
            RecordingsError::NoSound("is in an object store, and this node's configuration names none".into())
        }
        VaultError::Store(StoreError::Differs { .. }) => {
            tracing::error!(%recording, %error, "the object store gives another recording than was put there");
            RecordingsError::NoSound("is in the object store, and not as it was put there".into())
        }
        VaultError::Full | VaultError::NoRoom { .. } => RecordingsError::Busy(error.to_string()),
        error if error.is_away() => {
            tracing::error!(%recording, %error, "a recording cannot be fetched");
            RecordingsError::Away
        }
        VaultError::Store(StoreError::Store(_)) => {
            tracing::error!(%recording, %error, "the object store has lost a recording");
            RecordingsError::NoSound("is not in the object store any more".into())
        }
        error => {
            tracing::error!(%recording, %error, "a recording cannot be read");
            RecordingsError::Busy("the disk cannot be read now".into())
        }
    }
}

fn not_destroyed(error: VaultError) -> RecordingsError {
    match error {
        VaultError::Catalogue(error) => told(error),
        error => RecordingsError::Refused(format!("could not be destroyed now: {error}")),
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
