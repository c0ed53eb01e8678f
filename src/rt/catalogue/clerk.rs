//! The clerk: keeps the catalogue of what a recorder does. It has a thread of its own, so that neither a media worker nor
//! a writer waits for the database; what it cannot write is told, and found again at the next start ([`Catalogue::recover`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use super::{Catalogue, CatalogueError};
use crate::base::ids::RecordingId;
use crate::base::time::WallMs;
use crate::record::catalogue::{AuditVerdict, Entry, State};
use crate::rt::recorder::{Meta, Report, wall};
use crate::rt::rescan;

enum Note {
    Open(RecordingId, Box<Meta>),
    Report(RecordingId, Report),
    CallOver(RecordingId, WallMs),
    Stop,
}

/// Keeps the catalogue of one recorder. Dropping it without [`Clerk::stop`] leaves its thread to finish what is queued.
pub struct Clerk {
    notes: Sender<Note>,
    thread: JoinHandle<()>,
}

/// A door to the clerk; cheap to clone, never waits.
#[derive(Clone)]
pub struct Desk(Sender<Note>);

impl Desk {
    /// A recording is about to be opened.
    pub fn open(&self, recording: RecordingId, meta: &Meta) {
        // A clerk that is gone leaves the row to the next start.
        let _ = self.0.send(Note::Open(recording, Box::new(meta.clone())));
    }

    /// The call ended that is being spilled.
    pub fn call_over(&self, recording: RecordingId, at: WallMs) {
        let _ = self.0.send(Note::CallOver(recording, at));
    }

    /// The recorder reports.
    pub fn report(&self, recording: RecordingId, report: &Report) {
        if matches!(report, Report::Opened { .. } | Report::Closed { .. } | Report::Failed(_) | Report::TooLate { .. })
        {
            let _ = self.0.send(Note::Report(recording, report.clone()));
        }
    }
}

impl Clerk {
    /// Starts the clerk's thread. With `audit`, what is over waits there for its self-audit before it counts as sealed.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(catalogue: Arc<Catalogue>, node: &str, audit: Option<rescan::Desk>) -> std::io::Result<Self> {
        let (notes, queue) = mpsc::channel();
        let node = node.to_owned();
        let thread = std::thread::Builder::new()
            .name("catalogue".into())
            .spawn(move || run(&catalogue, &node, audit.as_ref(), &queue))?;
        Ok(Self { notes, thread })
    }

    /// A door to it.
    pub fn desk(&self) -> Desk {
        Desk(self.notes.clone())
    }

    /// Writes what is queued and ends the thread.
    pub fn stop(self) {
        let _ = self.notes.send(Note::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the catalogue's thread ended by a panic; the next start makes its rows");
        }
    }
}

fn run(catalogue: &Catalogue, node: &str, audit: Option<&rescan::Desk>, queue: &Receiver<Note>) {
    let mut begun: HashMap<RecordingId, Box<Meta>> = HashMap::new();
    // Withheld from the very row that says that it is over: nobody may have it before its self-audit.
    let over = |state| if audit.is_some() { State::Finalising } else { state };
    while let Ok(note) = queue.recv() {
        let (recording, written) = match note {
            Note::Stop => return,
            Note::Open(recording, meta) => {
                begun.insert(recording, meta);
                continue;
            }
            Note::CallOver(recording, at) => match catalogue.amend(recording, |entry| entry.call_ended_ms = Some(at)) {
                // One whose file could not be made.
                Err(CatalogueError::Unknown(_)) => continue,
                written => (recording, written),
            },
            Note::Report(recording, Report::Opened { kek_id, started_at, .. }) => {
                let entry = Entry { kek_id, ..Entry::unread(recording, started_at) };
                let entry = match begun.remove(&recording) {
                    Some(meta) => described(entry, *meta, node),
                    None => entry,
                };
                (recording, catalogue.index(entry))
            }
            Note::Report(recording, Report::Closed { length_ms, bytes, gaps, chunks, .. }) => {
                let closed = |entry: &mut Entry| {
                    (entry.length_ms, entry.bytes, entry.gaps, entry.chunks) = (length_ms, bytes, gaps, chunks);
                    entry.ended_ms = Some(wall());
                    // One whose disk stood still for a while was told as failed before.
                    if matches!(entry.state, State::Recording | State::Interrupted) {
                        entry.state = over(State::Sealed);
                    }
                };
                let amended = catalogue.amend(recording, closed);
                (recording, amended.and_then(|()| hand_over(catalogue, audit, recording)))
            }
            Note::Report(recording, Report::Failed(_)) => {
                let failed = |entry: &mut Entry| {
                    if entry.state == State::Recording {
                        entry.state = over(State::Interrupted);
                        entry.length_ms = wall().0.saturating_sub(entry.started_ms.0);
                    }
                };
                // One that failed before it had a file has no entry.
                let amended = catalogue.amend(recording, failed);
                let amended = amended.and_then(|()| hand_over(catalogue, audit, recording));
                match (begun.remove(&recording), amended) {
                    (_, Err(CatalogueError::Unknown(_))) => continue,
                    (_, written) => (recording, written),
                }
            }
            // Seen at once as quarantined, though it is still being written.
            Note::Report(recording, Report::TooLate { .. }) => {
                let detail = "a card was recognised after its first keys had been sealed";
                (recording, catalogue.audited(recording, AuditVerdict::Hit, detail).map(|_| ()))
            }
            Note::Report(_, _) => continue,
        };
        if let Err(error) = written {
            tracing::error!(%recording, %error, "the catalogue misses a recording until the next start");
        }
    }
}

/// A recording that is over is withheld until its self-audit has found it clean.
fn hand_over(
    catalogue: &Catalogue,
    audit: Option<&rescan::Desk>,
    recording: RecordingId,
) -> Result<(), CatalogueError> {
    let Some(audit) = audit else { return Ok(()) };
    if catalogue.get(recording)?.is_some_and(|entry| entry.state == State::Finalising) {
        // Into its notes too, from which the catalogue can be made anew.
        catalogue.finalising(recording)?;
        audit.closed(recording);
    }
    Ok(())
}

fn described(entry: Entry, meta: Meta, node: &str) -> Entry {
    let Meta { call, from_trunk, to_trunk, caller, called, agent, sip_call_ids, labels, .. } = meta;
    let node = node.to_owned();
    Entry { call: Some(call), node, from_trunk, to_trunk, caller, called, agent, sip_call_ids, labels, ..entry }
}

impl Catalogue {
    /// Changes a row by what the recorder says. Notes that are there already are kept in step.
    fn amend(&self, recording: RecordingId, change: impl FnOnce(&mut Entry)) -> Result<(), CatalogueError> {
        let entry = self.get(recording)?.ok_or(CatalogueError::Unknown(recording))?;
        let noted = crate::record::place::notes_file(&self.file(&entry)).exists();
        if noted {
            return self
                .change(recording, |entry| {
                    change(entry);
                    Ok(())
                })
                .map(|_| ());
        }
        let mut entry = entry;
        change(&mut entry);
        self.index(entry)
    }
}
