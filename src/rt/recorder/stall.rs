//! Whether a writer stands still: each says when it takes up something and when it is done, and a thread looks whether one
//! has been at it for too long. A disk that hangs says nothing by itself: the system call just does not return.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::health::Health;
use super::{Counters, Failure, FailureKind, Report, WRITERS};
use crate::base::ids::RecordingId;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(100);

/// What the writers are at.
pub struct Stalls {
    begun: Instant,
    most: Duration,
    /// When each writer took up what it is at, in milliseconds since `begun`, from 1; 0: nothing.
    busy: [AtomicU64; WRITERS],
    /// Which writer has which recording, and whether it was told as failed.
    open: Mutex<HashMap<RecordingId, (usize, bool)>>,
}

impl Stalls {
    pub(super) fn new(most: Duration) -> Self {
        Self { begun: Instant::now(), most, busy: Default::default(), open: Mutex::default() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    pub(super) fn begin(&self, writer: usize) {
        self.busy[writer].store(self.now(), Relaxed);
    }

    pub(super) fn end(&self, writer: usize) {
        self.busy[writer].store(0, Relaxed);
    }

    pub(super) fn opened(&self, recording: RecordingId, writer: usize) {
        self.open().insert(recording, (writer, false));
    }

    pub(super) fn closed(&self, recording: RecordingId) {
        self.open().remove(&recording);
    }

    fn open(&self) -> MutexGuard<'_, HashMap<RecordingId, (usize, bool)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a writer has stood still.
    fn still(&self, writer: usize) -> Option<Duration> {
        let since = self.busy[writer].load(Relaxed);
        let still = Duration::from_millis(self.now().saturating_sub(since));
        (since > 0 && still >= self.most).then_some(still)
    }

    /// How long the disk has stood still, if it does: the longest of the writers.
    pub fn stalled(&self) -> Option<Duration> {
        (0..WRITERS).filter_map(|writer| self.still(writer)).max()
    }

    /// The recordings of writers that stand still, each once.
    fn look(&self) -> Vec<(RecordingId, Duration)> {
        let still: Vec<Option<Duration>> = (0..WRITERS).map(|writer| self.still(writer)).collect();
        if still.iter().all(Option::is_none) {
            return Vec::new();
        }
        let mut open = self.open();
        let hit = open.iter_mut().filter(|(_, (_, told))| !told);
        let mut failed = Vec::new();
        for (recording, (writer, told)) in hit {
            if let Some(still) = still[*writer] {
                *told = true;
                failed.push((*recording, still));
            }
        }
        failed
    }
}

/// Looks as long as there is a recorder; reports the recordings of a writer that stands still as failed.
pub(super) fn watch(
    stalls: &Weak<Stalls>,
    health: &Weak<Health>,
    counters: &Arc<Counters>,
    report: &Arc<dyn Fn(RecordingId, Report) + Send + Sync>,
) {
    let mut stands = false;
    loop {
        std::thread::sleep(EVERY);
        let Some(stalls) = stalls.upgrade() else { return };
        let still = stalls.stalled();
        if still.is_some() != stands {
            stands = still.is_some();
            if let Some(health) = health.upgrade() {
                health.still(still);
            }
            match still {
                Some(still) => tracing::error!(seconds = still.as_secs(), "the disk of the recordings stands still"),
                None => tracing::warn!("the disk of the recordings answers again"),
            }
        }
        for (recording, still) in stalls.look() {
            counters.failed.fetch_add(1, Relaxed);
            let text = format!("the disk has not answered for {} s", still.as_secs());
            report(recording, Report::Failed(Failure { kind: FailureKind::TooSlow, text }));
        }
    }
}
