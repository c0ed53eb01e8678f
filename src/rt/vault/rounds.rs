//! The vault's rounds: what is due is done without being asked, again and again, on a thread of its own.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::files::Changed;
use super::{Vault, VaultError};
use crate::audit::{Action, Audit, Outcome, Proof, Record};
use crate::record::catalogue::{Entry, Query, State, Whereabouts};
use crate::rt::catalogue::CatalogueError;
use crate::rt::recorder::wall;

/// What a round did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Destroyed by their deadline.
    pub expired: u64,
    /// Destroyed before, and only now wiped everywhere.
    pub wiped: u64,
    /// Put under the current key.
    pub rewrapped: u64,
    /// Under another key still: being written or read.
    pub waiting: u64,
    /// Put into the object store.
    pub stored: u64,
    /// Copies here removed.
    pub dropped: u64,
    /// What could not be done, each in words; the next round tries again.
    pub failed: Vec<String>,
}

/// The rounds of a node. Dropping it without [`Rounds::stop`] ends them too.
pub struct Rounds {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Rounds {
    /// Begins rounds, `every` so often.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(vault: Arc<Vault>, audit: Audit, every: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("vault".into()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                let done = vault.round(&audit);
                if done.expired + done.wiped + done.rewrapped + done.stored + done.dropped > 0 {
                    let Done { expired, wiped, rewrapped, waiting, stored, dropped, .. } = done;
                    tracing::info!(expired, wiped, rewrapped, waiting, stored, dropped, "recordings looked after");
                }
                // Each in its own line at first; a store that is down fails for every recording alike.
                for why in done.failed.iter().take(5) {
                    tracing::error!(%why, "a recording could not be looked after; the next round tries again");
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends the rounds, after the recording that one is at.
    pub fn stop(mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the vault's thread ended by a panic");
        }
    }
}

/// Waits for an answer on a thread that may wait.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    struct Wakes(Thread);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Wakes(std::thread::current())));
    let (mut answer, mut context) = (pin!(answer), Context::from_waker(&waker));
    loop {
        match answer.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// One of the things a round does.
type Pass = fn(&Vault, &Audit, &mut Done) -> Result<(), CatalogueError>;

impl Vault {
    /// One round: does what is due.
    pub fn round(&self, audit: &Audit) -> Done {
        let mut done = Done::default();
        self.fetched.tidy(Instant::now());
        let passes: [Pass; 5] = [Self::wipe_rest, Self::expire, Self::rewrap_all, Self::store_all, Self::drop_copies];
        for pass in passes {
            if let Err(error) = pass(self, audit, &mut done) {
                done.failed.push(error.to_string());
            }
        }
        done
    }

    /// What was destroyed and is still somewhere: a crash, a store that was away, a reader that held it.
    fn wipe_rest(&self, audit: &Audit, done: &mut Done) -> Result<(), CatalogueError> {
        let query = Query { states: vec![State::Destroyed], ..Query::default() };
        self.catalogue.for_each(query, &mut |entry| {
            if entry.whereabouts != Whereabouts::Nowhere {
                match self.wipe(&entry) {
                    Ok(destroyed) => {
                        // That it failed, or was only asked for, stands in the log before.
                        let reason = entry.tombstone.as_ref().map_or("", |stone| stone.why.as_str()).into();
                        let (recording, proof) = (destroyed.recording, Some(Box::new(destroyed.proof)));
                        audit.note(Record::node(Action::RecordingDestroyed { recording, reason, proof }));
                        done.wiped += 1;
                    }
                    Err(error) => done.failed.push(error.to_string()),
                }
            }
            Ok(())
        })
    }

    fn expire(&self, audit: &Audit, done: &mut Done) -> Result<(), CatalogueError> {
        let now = wall();
        self.catalogue.for_each(Query { due: Some(now), held: Some(false), ..Query::default() }, &mut |entry| {
            if !entry.is_due(now) || self.is_used(&entry) {
                return Ok(());
            }
            let recording = entry.recording;
            let told = |proof: Option<Proof>| {
                let (reason, proof) = ("retention".into(), proof.map(Box::new));
                Action::RecordingDestroyed { recording, reason, proof }
            };
            // Without an entry in the audit log nothing is destroyed.
            if wait(audit.confirm(Record::node(told(None)).outcome(Outcome::ASKED))).is_err() {
                return Ok(());
            }
            match self.destroy(entry.recording, "retention", "its deadline has passed") {
                Ok(destroyed) => {
                    audit.note(Record::node(told(Some(destroyed.proof))));
                    done.expired += 1;
                }
                Err(error) => {
                    audit.note(Record::node(told(None)).outcome(Outcome::failed(error.to_string())));
                    done.failed.push(format!("{}: {error}", entry.recording));
                }
            }
            Ok(())
        })
    }

    fn rewrap_all(&self, audit: &Audit, done: &mut Done) -> Result<(), CatalogueError> {
        // Without a current key (a service that is down) there is nothing to put them under.
        let Ok(kek) = self.keys.current() else { return Ok(()) };
        let (mut from, before) = (None::<String>, done.rewrapped);
        self.catalogue.for_each(Query { other_kek: Some(kek.id().to_owned()), ..Query::default() }, &mut |entry| {
            if !entry.state.is_over() {
                done.waiting += 1;
                return Ok(());
            }
            match self.rewrap(entry.recording) {
                Ok(Changed::Done | Changed::Already) => {
                    done.rewrapped += 1;
                    // Several have no one name.
                    let same = from.get_or_insert_with(|| entry.kek_id.clone()) == &entry.kek_id;
                    if !same {
                        from = Some(String::new());
                    }
                }
                Ok(Changed::Busy) => done.waiting += 1,
                Err(error) => done.failed.push(format!("{}: {error}", entry.recording)),
            }
            Ok(())
        })?;
        let recordings = done.rewrapped - before;
        if recordings > 0 {
            let from = from.filter(|id| !id.is_empty()).map(|id| id.as_str().into());
            audit.note(Record::node(Action::KeysRotated { from, to: kek.id().into(), recordings }));
        }
        Ok(())
    }

    fn store_all(&self, _: &Audit, done: &mut Done) -> Result<(), CatalogueError> {
        let Some(store) = &self.store else { return Ok(()) };
        let states = vec![State::Sealed, State::Interrupted];
        self.catalogue
            .for_each(Query { states, only_local: true, ..Query::default() }, &mut |entry| {
                let put = || -> Result<bool, VaultError> {
                    let path = self.catalogue.file(&entry);
                    // Held while it is put: it is not rewrapped half way.
                    let Some(opened) = super::files::open(&path)? else { return Ok(false) };
                    if opened.live {
                        return Ok(false);
                    }
                    let stored = store.put(&entry, &path)?;
                    self.catalogue.stored(entry.recording, stored)?;
                    Ok(true)
                };
                match put() {
                    Ok(put) => done.stored += u64::from(put),
                    Err(error) => done.failed.push(format!("{}: {error}", entry.recording)),
                }
                // A store that does not answer is not asked for each of a thousand.
                if done.failed.len() > 10 { Err(CatalogueError::Unknown(entry.recording)) } else { Ok(()) }
            })
            .or_else(|error| if done.failed.len() > 10 { Ok(()) } else { Err(error) })
    }

    fn drop_copies(&self, _: &Audit, done: &mut Done) -> Result<(), CatalogueError> {
        let (Some(_), Some(keep)) = (&self.store, self.keep_local) else { return Ok(()) };
        let until = wall().0.saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
        let long_there = |entry: &Entry| entry.stored.as_ref().is_some_and(|stored| stored.at_ms.0 <= until);
        let states = vec![State::Sealed, State::Interrupted];
        self.catalogue.for_each(Query { states, in_both: true, ..Query::default() }, &mut |entry| {
            if !long_there(&entry) {
                return Ok(());
            }
            let path = self.catalogue.file(&entry);
            let dropped = || -> Result<(), VaultError> {
                // Known to be there only before it is gone here.
                self.catalogue.only_stored(entry.recording)?;
                for file in [crate::record::place::seal_file(&path), path.clone()] {
                    match std::fs::remove_file(file) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                        _ => {}
                    }
                }
                Ok(())
            };
            match dropped() {
                Ok(()) => done.dropped += 1,
                Err(error) => done.failed.push(format!("{}: {error}", entry.recording)),
            }
            Ok(())
        })
    }
}
