//! Metrics of sealed recordings: the recorder that writes them, and the self-audit that hears them again.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::{RecorderTotals, RescanTotals, ResultLabel, gauge, rise};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// What is counted of recordings.
pub(super) struct Recordings {
    changes: Family<StateLabel, Counter>,
    open: Gauge,
    writable: Gauge,
    waiting: Gauge,
    chunks: Counter,
    bytes: Counter,
    lost: Counter,
    held: Gauge,
    early: Counter,
    redacted_ms: Counter,
    rescan_waiting: Gauge,
    rescans: Family<ResultLabel, Counter>,
    rescan_heard: Counter,
    rescan_work: Counter,
}

impl Recordings {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let bytes = Counter::default();
        registry.register_with_unit("recorder", "Sealed bytes synced to disk", Unit::Bytes, bytes.clone());
        Self {
            bytes,
            changes: metric!(registry, "recordings", "Changes of recordings, by new state"),
            open: metric!(registry, "recorder_open", "Recordings being written"),
            writable: metric!(
                registry,
                "recorder_writable",
                "1: recordings can be written; 0: calls that must be are refused"
            ),
            waiting: metric!(registry, "recorder_waiting_blocks", "Blocks of 100 ms waiting for the disk"),
            chunks: metric!(registry, "recorder_chunks", "Sealed chunks synced to disk"),
            lost: metric!(registry, "recorder_lost_blocks", "Blocks of 100 ms dropped because the disk was slow"),
            held: metric!(registry, "recorder_held_bytes", "Locked memory for what waits to be sealed"),
            early: metric!(
                registry,
                "recorder_early_blocks",
                "Blocks of 100 ms sealed before their redaction horizon because that memory was full"
            ),
            redacted_ms: metric!(
                registry,
                "recordings_redacted_milliseconds",
                "Taken out of recordings before it was sealed: cards recognised late"
            ),
            rescan_waiting: metric!(registry, "rescan_waiting", "Closed recordings that wait for their self-audit"),
            rescans: metric!(registry, "rescans", "Self-audits of recordings, by result: clean, hit, failed"),
            rescan_heard: metric!(registry, "rescan_heard_milliseconds", "Sound heard again by the self-audit"),
            rescan_work: metric!(registry, "rescan_work_milliseconds", "Time the self-audit worked for it"),
        }
    }

    /// A recording is in another state.
    pub(super) fn changed(&self, state: &'static str) {
        self.changes.get_or_create(&StateLabel { state }).inc();
    }

    /// So much was taken out of one before it was sealed.
    pub(super) fn redacted(&self, ms: u64) {
        self.redacted_ms.inc_by(ms);
    }

    /// What the recorder counted since the start.
    pub(super) fn set_recorder(&self, totals: RecorderTotals) {
        self.open.set(gauge(totals.open));
        self.writable.set(i64::from(totals.writable));
        self.waiting.set(gauge(totals.waiting));
        rise(&self.chunks, totals.chunks);
        rise(&self.bytes, totals.bytes);
        rise(&self.lost, totals.lost_blocks);
        self.held.set(gauge(totals.held_bytes));
        rise(&self.early, totals.early_blocks);
    }

    /// What the self-audit counted since the start.
    pub(super) fn set_rescan(&self, totals: RescanTotals) {
        self.rescan_waiting.set(gauge(totals.waiting));
        for (result, to) in [("clean", totals.clean), ("hit", totals.hits), ("failed", totals.failed)] {
            rise(&self.rescans.get_or_create(&ResultLabel { result }), to);
        }
        rise(&self.rescan_heard, totals.heard_ms);
        rise(&self.rescan_work, totals.work_ms);
    }
}
