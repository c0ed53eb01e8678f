//! A handle to a node's calls: what the HTTP API, the demo and tests ask the engine by, and what the node shows of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};

use crate::call::{Reply, Signal};
use crate::control::alarms::SEALED;
use crate::control::health::{NodeState, RecorderHealth, RecorderKind, RecorderView, SealedView, Standing};
use crate::control::{self, CallsError};
use crate::obs::metrics::{Metrics, SipTotals};
use crate::rt::alarms::Disk;
use crate::rt::audit::Counts;
use crate::rt::engine::{Ask, Stop};
use crate::rt::forks::Counters as ForkCounters;
use crate::rt::recorder::{Failure, Handle, QUEUE_BLOCKS, WRITERS};
use crate::rt::rescan;
use crate::rt::sip::Counters;
use crate::rt::taps::totals;

/// A handle to a node's calls: for the HTTP API, the demo and tests. Cheap to clone.
#[derive(Clone)]
pub struct Calls {
    pub(super) signals: mpsc::Sender<Ask>,
    pub(super) stop: watch::Receiver<Stop>,
    pub(super) recorder: Option<Handle>,
    pub(super) disk: Arc<Disk>,
    pub(super) rescan: Option<rescan::Desk>,
    pub(super) forks: Option<Arc<ForkCounters>>,
    pub(super) sip: Arc<Counters>,
    pub(super) started: Instant,
    pub(super) max_calls: u32,
    pub(super) audit: Option<Counts>,
    pub(super) unknown_payments: Arc<AtomicUsize>,
}

impl Calls {
    /// Room on the disk of the recordings.
    pub(in crate::rt) fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// How long the disk of the recordings has stood still, if it does.
    pub(in crate::rt) fn stalled(&self) -> Option<Duration> {
        self.recorder.as_ref().and_then(Handle::stalled)
    }

    /// Why no recording can be written, if so.
    pub(in crate::rt) fn unwritable(&self) -> Option<Failure> {
        self.recorder.as_ref().and_then(|recorder| recorder.storage().borrow().clone())
    }

    /// What the SIP sockets counted.
    pub(in crate::rt) fn sip_totals(&self) -> SipTotals {
        self.sip.totals()
    }
}

impl control::Calls for Calls {
    fn signal(&self, signal: Signal) -> BoxFuture<'_, Result<Reply, CallsError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.signals.try_send(Ask { signal, reply }).map_err(|_| CallsError::Unavailable)?;
            Ok(answer.await.map_err(|_| CallsError::Unavailable)??)
        })
    }

    fn ready(&self) -> Result<(), String> {
        if self.signals.is_closed() {
            return Err("the engine is gone".into());
        }
        match *self.stop.borrow() {
            Stop::No => Ok(()),
            Stop::Drain => Err("draining: no new calls are taken".into()),
            Stop::Now => Err("stopping".into()),
        }
    }

    fn standing(&self) -> Standing {
        let state = match *self.stop.borrow() {
            Stop::No => NodeState::Running,
            Stop::Drain => NodeState::Draining,
            Stop::Now => NodeState::Stopping,
        };
        let up_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Standing { state, up_ms, max_calls: self.max_calls, shed: self.sip.totals().shed }
    }

    fn recorders(&self) -> Vec<RecorderView> {
        self.recorder.as_ref().map(|recorder| sealed_view(recorder, &self.disk)).into_iter().collect()
    }

    fn refresh(&self, metrics: &Metrics) {
        if let Some(recorder) = &self.recorder {
            metrics.set_recorder(totals(recorder));
        }
        if let Some(rescan) = &self.rescan {
            metrics.set_rescan(rescan.totals());
        }
        if let Some(forks) = &self.forks {
            metrics.set_siprec_packets(forks.read());
        }
        metrics.set_payments_unknown(self.unknown_payments.load(Relaxed));
        metrics.set_sip(self.sip.totals());
        metrics.set_lost_lines(crate::rt::logging::lost_lines());
        if let Some(audit) = &self.audit {
            metrics.set_audit(&audit.totals());
        }
    }
}

/// The recorder of sealed files as the API shows it.
fn sealed_view(recorder: &Handle, disk: &Disk) -> RecorderView {
    let counters = recorder.counters();
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let disk = disk.room();
    let sealed = SealedView {
        waiting_blocks: u64::try_from(counters.waiting()).unwrap_or(u64::MAX),
        most_waiting_blocks: u64::try_from(QUEUE_BLOCKS).unwrap_or(u64::MAX),
        lost_blocks: read(&counters.lost_blocks),
        writers: u32::try_from(WRITERS).unwrap_or(u32::MAX),
        chunks: read(&counters.chunks),
        bytes: read(&counters.bytes),
        slowest_ms: read(&counters.slowest_us) / 1_000,
        disk_free: disk.map(|(free, _)| free),
        disk_bytes: disk.map(|(_, all)| all),
    };
    let failed = read(&counters.failed);
    let ailing = failed > 0 || sealed.lost_blocks > 0 || sealed.waiting_blocks > sealed.most_waiting_blocks / 2;
    let state = match ailing {
        _ if recorder.storage().borrow().is_some() => RecorderHealth::Down,
        true => RecorderHealth::Ailing,
        false => RecorderHealth::Up,
    };
    let open = read(&counters.open);
    RecorderView {
        name: SEALED.into(),
        kind: RecorderKind::Sealed,
        state,
        open,
        failed,
        sealed: Some(sealed),
        siprec: None,
    }
}
