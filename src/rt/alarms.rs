//! The task that feeds the alarms: reads the event log, and looks about once a second at what tells nobody when it goes
//! wrong: trunks, the recorder's queue and disk, dead letters, dropped messages. It decides nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::node::Calls;
use super::recorder::FailureKind;
use crate::call::{Reply, Signal};
use crate::control::Calls as _;
use crate::control::alarms::{Board, RecorderSample, SEALED, Sample};
use crate::control::history::{History, Read};
use crate::control::webhooks::Webhooks;
use crate::obs::alarm::AlarmKind;
use crate::obs::event::EventKind;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);

/// Every so many looks the disk is asked too.
const DISK_EVERY: u32 = 5;

/// Room on the disk of the recordings, as it was last seen. 0 of 0: not known.
#[derive(Debug, Default)]
pub(super) struct Disk {
    free: AtomicU64,
    all: AtomicU64,
}

impl Disk {
    /// Free and all bytes.
    pub(super) fn room(&self) -> Option<(u64, u64)> {
        let all = self.all.load(Relaxed);
        (all > 0).then(|| (self.free.load(Relaxed), all))
    }

    fn look(&self, root: &std::path::Path) {
        match rustix::fs::statvfs(root) {
            Ok(found) => {
                self.free.store(found.f_bavail.saturating_mul(found.f_frsize), Relaxed);
                self.all.store(found.f_blocks.saturating_mul(found.f_frsize), Relaxed);
            }
            Err(error) => tracing::warn!(%error, "the disk of the recordings does not say how much room it has"),
        }
    }
}

/// What it looks at.
pub(super) struct Watch {
    pub(super) board: Arc<Board>,
    pub(super) calls: Calls,
    pub(super) webhooks: Arc<Webhooks>,
    /// Directory of the recordings, where there are any.
    pub(super) root: Option<PathBuf>,
    /// Bytes that must be free there.
    pub(super) least_free: Option<u64>,
}

impl Watch {
    /// Starts watching; ends with the event log.
    pub(super) fn start(self, history: &Arc<History>) -> JoinHandle<()> {
        let reader = history.read(None, None);
        tokio::spawn(self.run(reader))
    }

    async fn run(self, mut reader: crate::control::history::Reader) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count = 0u32;
        loop {
            tokio::select! {
                read = reader.next() => match read {
                    Some(Read::Event(_, event)) => {
                        self.board.handle_event(&event);
                        if matches!(event.kind, EventKind::TrunkTarget { .. } | EventKind::Registration { .. }) {
                            self.look().await;
                        }
                    }
                    Some(Read::Missed(count)) => {
                        tracing::error!(count, "alarms could not keep up with the events; some may be missing");
                    }
                    None => return,
                },
                _ = ticks.tick() => {
                    if count.is_multiple_of(DISK_EVERY) {
                        self.ask_disk();
                    }
                    count = count.wrapping_add(1);
                    self.look().await;
                }
            }
        }
    }

    /// On a thread that may wait: a disk that stands still must not hold this task up.
    fn ask_disk(&self) {
        if let Some(root) = self.root.clone() {
            let disk = self.calls.disk().clone();
            // Whoever asks while the last one still waits only waits too.
            if Arc::strong_count(&disk) < 8 {
                tokio::task::spawn_blocking(move || disk.look(&root));
            }
        }
    }

    async fn look(&self) {
        let Ok(Reply::Trunks(trunks)) = self.calls.signal(Signal::Trunks).await else { return };
        let sip = self.calls.sip_totals();
        let dead_letters = self.webhooks.schedule().dead_counts();
        let recorder = self.calls.recorders().into_iter().find_map(|recorder| recorder.sealed).map(|sealed| {
            let (waiting, most_waiting) = (sealed.waiting_blocks, sealed.most_waiting_blocks);
            let disk = sealed.disk_free.zip(sealed.disk_bytes);
            RecorderSample { waiting, most_waiting, lost: sealed.lost_blocks, disk, least_free: self.least_free }
        });
        let (shed, certificate_end_s) = (sip.shed, sip.certificate_end);
        let sample = Sample { trunks, recorder, dead_letters, shed, certificate_end_s };
        self.board.handle_sample(Instant::now(), &sample);
        match self.calls.stalled() {
            Some(still) => {
                let detail = format!("a write has not come back for {} s", still.as_secs());
                self.board.raise(AlarmKind::DiskHangs, SEALED, &detail);
            }
            None => self.board.clear(AlarmKind::DiskHangs, SEALED),
        }
        // One that hangs has its own.
        match self.calls.unwritable().filter(|failure| failure.kind != FailureKind::TooSlow) {
            Some(failure) => self.board.raise(AlarmKind::DiskUnwritable, SEALED, &failure.text),
            None => self.board.clear(AlarmKind::DiskUnwritable, SEALED),
        }
    }
}
