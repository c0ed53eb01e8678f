//! Metrics of the SIPREC recorders, by their names in the configuration.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::rise;
use crate::obs::event::{RecorderState, SpillState};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    recorder: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabel {
    recorder: String,
}

/// What is counted of SIPREC recorders.
pub(super) struct Siprec {
    changes: Family<StateLabel, Counter>,
    sessions: Family<NameLabel, Gauge>,
    away: Family<NameLabel, Gauge>,
    targets: Family<StateLabel, Counter>,
    packets: Counter,
    refused: Counter,
    lost: Counter,
    waiting: Family<NameLabel, Gauge>,
    forwarded: Family<NameLabel, Counter>,
    failed: Family<NameLabel, Counter>,
    dropped: Family<NameLabel, Counter>,
}

impl Siprec {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            changes: metric!(
                registry,
                "siprec_changes",
                "Changes of SIPREC recorders on calls, by recorder and new state"
            ),
            sessions: metric!(registry, "siprec_sessions", "Calls that a SIPREC recorder records now"),
            away: metric!(registry, "siprec_away", "Calls that want a SIPREC recorder and go without it now"),
            targets: metric!(registry, "siprec_target_changes", "Targets of SIPREC recorders that went up or down"),
            packets: metric!(registry, "siprec_packets", "RTP packets sent to SIPREC recorders"),
            refused: metric!(registry, "siprec_packets_refused", "RTP packets to SIPREC recorders that came back"),
            lost: metric!(registry, "siprec_lost_blocks", "Blocks of 100 ms dropped on the way to SIPREC recorders"),
            waiting: metric!(
                registry,
                "siprec_spills_waiting",
                "Spills that wait to be forwarded, or are being sent, by recorder"
            ),
            forwarded: metric!(registry, "siprec_spills_forwarded", "Spills that their recorder has got whole"),
            failed: metric!(registry, "siprec_spills_failed", "Tries to forward a spill that failed"),
            dropped: metric!(registry, "siprec_spills_dropped", "Spills that are not forwarded any more"),
        }
    }

    /// A recorder's state on a call has changed.
    pub(super) fn changed(&self, recorder: &str, state: RecorderState) {
        self.changes.get_or_create(&StateLabel { recorder: recorder.to_owned(), state: word(state) }).inc();
    }

    /// Something has become of a spill.
    pub(super) fn spill(&self, recorder: &str, state: SpillState) {
        let counter = match state {
            SpillState::Forwarding => return,
            SpillState::Forwarded => &self.forwarded,
            SpillState::Failed => &self.failed,
            SpillState::Dropped => &self.dropped,
        };
        counter.get_or_create(&NameLabel { recorder: recorder.to_owned() }).inc();
    }

    /// So many spills wait for it.
    pub(super) fn set_spills(&self, recorder: &str, waiting: usize) {
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.waiting.get_or_create(&NameLabel { recorder: recorder.to_owned() }).set(waiting);
    }

    /// A target went up or down.
    pub(super) fn target(&self, recorder: &str, up: bool) {
        let state = if up { "up" } else { "down" };
        self.targets.get_or_create(&StateLabel { recorder: recorder.to_owned(), state }).inc();
    }

    /// So many calls are recorded by it, and so many go without it.
    pub(super) fn set(&self, recorder: &str, up: u32, away: u32) {
        let label = NameLabel { recorder: recorder.to_owned() };
        self.sessions.get_or_create(&label).set(up.into());
        self.away.get_or_create(&label).set(away.into());
    }

    /// Totals of the sender: packets, packets that came back, blocks dropped.
    pub(super) fn set_packets(&self, (packets, refused, lost): (u64, u64, u64)) {
        rise(&self.packets, packets);
        rise(&self.refused, refused);
        rise(&self.lost, lost);
    }
}

fn word(state: RecorderState) -> &'static str {
    match state {
        RecorderState::Connecting => "connecting",
        RecorderState::Recording => "recording",
        RecorderState::Waiting => "waiting",
        RecorderState::Paused => "paused",
        RecorderState::Away => "away",
        RecorderState::Stopped => "stopped",
        RecorderState::Closed => "closed",
    }
}
