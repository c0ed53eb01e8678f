//! The self-audit of recordings: each is heard again (`record::scan`) before it counts as sealed. Names of closed
//! recordings come in through a queue that makes nobody wait; verdicts go to the catalogue, alarms out through a callback.
//! One thread, of the lowest priority and for at most a part (`SHARE`) of a core: the calls come first.
//!
//! ```text
//!  clerk ── closed ──┐                                     ┌─ clean ──► catalogue: sealed
//!                    ├─► queue ─► verify, decrypt, scan ───┼─ hit ────► catalogue: quarantined, alarm
//!  start ── missed ──┘            (nice 19, a quarter)     └─ failed ─► catalogue: told, stays withheld; tried again
//! ```
//!
//! A recording that waits or could not be heard is withheld, not given out: what has not been proven clean is not played.
//! Where a node was killed, the next start finds what has no verdict yet.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::catalogue::{Catalogue, CatalogueError};
use super::vault::files;
use crate::base::ids::{CallId, RecordingId};
use crate::media::RECORD_RATE;
use crate::obs::metrics::RescanTotals;
use crate::record::catalogue::{AuditVerdict, Entry, Query, State};
use crate::record::keys::KeyRing;
use crate::record::place;
use crate::record::scan::{Findings, Scan};
use crate::record::sealed::{Fault, Verdict, verify};

/// Part of a core that the thread takes at most: one of so many.
const SHARE: u32 = 4;
/// Work that is done in one go before the thread rests.
const SLICE: Duration = Duration::from_millis(5);
/// How often what could not be heard is tried again.
const AGAIN: Duration = Duration::from_secs(300);

/// Gives the keys as they are now.
pub type Ring = Arc<dyn Fn() -> KeyRing + Send + Sync>;

/// What became of one recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Recording.
    pub recording: RecordingId,
    /// Call, where it is known.
    pub call: Option<CallId>,
    /// Verdict.
    pub verdict: AuditVerdict,
    /// Where and what kind, or why there is none; never which digits.
    pub detail: String,
}

/// What is counted; [`RescanTotals`] says what each is.
#[derive(Debug, Default)]
struct Counters {
    waiting: AtomicU64,
    clean: AtomicU64,
    hits: AtomicU64,
    failed: AtomicU64,
    heard_ms: AtomicU64,
    work_ms: AtomicU64,
}

enum Order {
    Closed(RecordingId),
    Missed,
    Stop,
}

/// The running self-audit.
pub struct Rescan {
    desk: Desk,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// A door to it; cheap to clone, never waits.
#[derive(Clone)]
pub struct Desk {
    orders: Sender<Order>,
    counters: Arc<Counters>,
}

impl Desk {
    /// A recording was closed and waits.
    pub fn closed(&self, recording: RecordingId) {
        self.counters.waiting.fetch_add(1, Relaxed);
        // A thread that is gone leaves it to the next start.
        let _ = self.orders.send(Order::Closed(recording));
    }

    /// Looks for recordings that an earlier run left without a verdict.
    pub fn missed(&self) {
        let _ = self.orders.send(Order::Missed);
    }

    /// What it has counted.
    pub fn totals(&self) -> RescanTotals {
        let Counters { waiting, clean, hits, failed, heard_ms, work_ms } = &*self.counters;
        RescanTotals {
            waiting: waiting.load(Relaxed),
            clean: clean.load(Relaxed),
            hits: hits.load(Relaxed),
            failed: failed.load(Relaxed),
            heard_ms: heard_ms.load(Relaxed),
            work_ms: work_ms.load(Relaxed),
        }
    }
}

impl Rescan {
    /// Starts the thread. `told` hears every outcome.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(catalogue: Arc<Catalogue>, ring: Ring, told: impl Fn(&Outcome) + Send + 'static) -> io::Result<Self> {
        let (orders, queue) = mpsc::channel();
        let counters = Arc::new(Counters::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let work =
            Work { catalogue, ring, counters: counters.clone(), stopping: stopping.clone(), again: HashSet::new() };
        let thread = std::thread::Builder::new().name("rescan".into()).spawn(move || {
            // Of this thread only. Where the kernel refuses, the rests still bound it.
            let _ = rustix::process::nice(19);
            work.run(&queue, &told);
        })?;
        Ok(Self { desk: Desk { orders, counters }, stopping, thread })
    }

    /// A door to it.
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Ends it, in the middle of a recording if need be: what has no verdict is withheld, and the next start finds it.
    pub fn stop(self) {
        self.stopping.store(true, Relaxed);
        let _ = self.desk.orders.send(Order::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the self-audit ended by a panic; what it has not heard stays withheld");
        }
    }
}

struct Work {
    catalogue: Arc<Catalogue>,
    ring: Ring,
    counters: Arc<Counters>,
    stopping: Arc<AtomicBool>,
    /// What could not be heard.
    again: HashSet<RecordingId>,
}

impl Work {
    fn run(mut self, queue: &Receiver<Order>, told: &dyn Fn(&Outcome)) {
        let mut retry = Instant::now() + AGAIN;
        loop {
            let order = match queue.recv_timeout(retry.saturating_duration_since(Instant::now())) {
                Ok(order) => Some(order),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            match order {
                Some(Order::Stop) => return,
                Some(Order::Closed(recording)) => {
                    self.audit(recording, told);
                    self.counters.waiting.fetch_sub(1, Relaxed);
                }
                Some(Order::Missed) => self.missed(told),
                None => {
                    retry = Instant::now() + AGAIN;
                    for recording in std::mem::take(&mut self.again) {
                        self.audit(recording, told);
                    }
                }
            }
            if self.stopping.load(Relaxed) {
                return;
            }
        }
    }

    /// Hears what an earlier run left. First of all it is withheld.
    fn missed(&mut self, told: &dyn Fn(&Outcome)) {
        let query = Query { states: vec![State::Sealed, State::Interrupted, State::Finalising], ..Query::default() };
        let mut left = Vec::new();
        let found = self.catalogue.for_each(query, &mut |entry| {
            if !entry.is_audited() && entry.call.is_some() {
                if entry.state != State::Finalising {
                    self.catalogue.finalising(entry.recording)?;
                }
                left.push(entry.recording);
            }
            Ok(())
        });
        if let Err(error) = found {
            tracing::error!(%error, "recordings without a self-audit cannot be looked for");
        }
        if !left.is_empty() {
            tracing::info!(recordings = left.len(), "recordings of an earlier run are heard again");
        }
        self.counters.waiting.fetch_add(left.len() as u64, Relaxed);
        for recording in left {
            if !self.stopping.load(Relaxed) {
                self.audit(recording, told);
            }
            self.counters.waiting.fetch_sub(1, Relaxed);
        }
    }

    fn audit(&mut self, recording: RecordingId, told: &dyn Fn(&Outcome)) {
        let mut rest = Rest::new(self.counters.clone(), self.stopping.clone());
        match audit(&self.catalogue, &(self.ring)(), recording, &mut || rest.turn()) {
            Ok(Some(outcome)) => {
                let counter = match outcome.verdict {
                    AuditVerdict::Clean => &self.counters.clean,
                    AuditVerdict::Hit => &self.counters.hits,
                    AuditVerdict::Failed => &self.counters.failed,
                };
                counter.fetch_add(1, Relaxed);
                if outcome.verdict == AuditVerdict::Failed && !self.stopping.load(Relaxed) {
                    self.again.insert(recording);
                }
                told(&outcome);
            }
            // Quarantined before, destroyed, or stopped in the middle.
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%recording, %error, "the self-audit cannot be told to the catalogue; it stays withheld");
                self.counters.failed.fetch_add(1, Relaxed);
                self.again.insert(recording);
            }
        }
    }
}

/// What keeps the thread within its share.
struct Rest {
    counters: Arc<Counters>,
    stopping: Arc<AtomicBool>,
    since: Instant,
}

impl Rest {
    fn new(counters: Arc<Counters>, stopping: Arc<AtomicBool>) -> Self {
        Self { counters, stopping, since: Instant::now() }
    }

    /// Rests after each slice of work; `false` when there is no time for more.
    fn turn(&mut self) -> bool {
        let worked = self.since.elapsed();
        if worked >= SLICE {
            self.counters.work_ms.fetch_add(u64::try_from(worked.as_millis()).unwrap_or(u64::MAX), Relaxed);
            std::thread::sleep(worked.min(Duration::from_millis(100)) * (SHARE - 1));
            self.since = Instant::now();
        }
        self.counters.heard_ms.fetch_add(HEARD_MS, Relaxed);
        !self.stopping.load(Relaxed)
    }
}

/// Milliseconds of sound between two turns.
const HEARD_MS: u64 = 1_000;

/// Hears one recording again and tells the catalogue. `turn` is called after each second of sound and says whether to go
/// on. `None`: there was nothing to judge (quarantined already, destroyed, elsewhere), or it was not to go on.
///
/// # Errors
/// When the catalogue cannot be read or written.
pub fn audit(
    catalogue: &Catalogue,
    ring: &KeyRing,
    recording: RecordingId,
    turn: &mut dyn FnMut() -> bool,
) -> Result<Option<Outcome>, CatalogueError> {
    let entry = catalogue.get(recording)?.ok_or(CatalogueError::Unknown(recording))?;
    if matches!(entry.state, State::Recording | State::Quarantined | State::Destroyed) {
        return Ok(None);
    }
    let (verdict, detail) = match hear(&catalogue.file(&entry), &entry, ring, turn) {
        Ok(None) => return Ok(None),
        Ok(Some(findings)) if findings.is_clean() => (AuditVerdict::Clean, findings.text()),
        Ok(Some(findings)) => (AuditVerdict::Hit, findings.text()),
        Err(why) => (AuditVerdict::Failed, why),
    };
    catalogue.audited(recording, verdict, &detail)?;
    Ok(Some(Outcome { recording, call: entry.call, verdict, detail }))
}

/// Hears a sealed file of which no catalogue knows.
///
/// # Errors
/// Why it cannot be heard: tampered with, no key, unreadable, still being written.
pub fn hear_uncatalogued(file: &Path, recording: RecordingId, ring: &KeyRing) -> Result<Findings, String> {
    let entry = Entry::unread(recording, crate::base::time::WallMs(0));
    hear(file, &entry, ring, &mut || true)?.ok_or_else(|| "it was not heard to its end".to_owned())
}

/// Reads and hears a sealed file with what the catalogue says of it.
fn hear(
    file: &Path,
    entry: &Entry,
    ring: &KeyRing,
    turn: &mut dyn FnMut() -> bool,
) -> Result<Option<Findings>, String> {
    let mut scan = Scan::new(Instant::now());
    for (key, value) in &entry.labels {
        scan.handle_text(key);
        scan.handle_text(value);
    }
    for text in [&entry.caller, &entry.called, &entry.agent] {
        scan.handle_text(text);
    }
    let (mut frames, mut stopped) = (0, false);
    let seal = match fs::read(place::seal_file(file)) {
        Ok(seal) => Some(seal),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("its seal cannot be read: {error}")),
    };
    // Locked: it is not put under another key while it is heard.
    let opened = files::open(file).map_err(|error| format!("it cannot be read: {error}"))?;
    let input = opened.ok_or("it is not there")?.file;
    let input = BufReader::with_capacity(1 << 16, input);
    let read = verify(input, seal.as_deref(), Some(entry.recording), ring, &mut |item| {
        scan.handle_item(item);
        if let crate::record::sealed::Item::Audio(bytes) = item {
            frames += bytes.len() / 4;
            if frames >= RECORD_RATE as usize {
                frames = 0;
                if !turn() {
                    stopped = true;
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
        }
        Ok(())
    });
    match read {
        _ if stopped => Ok(None),
        Ok(report) => match report.verdict {
            Verdict::Intact | Verdict::Interrupted { .. } => Ok(Some(scan.finish())),
            Verdict::Tampered { why, .. } => Err(format!("it was tampered with: {why}")),
        },
        Err(Fault::Key(error)) => Err(format!("it cannot be opened: {error}")),
        Err(Fault::Io(error)) => Err(format!("it cannot be read: {error}")),
    }
}

#[cfg(test)]
#[path = "rescan_tests.rs"]
mod tests;
