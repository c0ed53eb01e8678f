//! Metrics in the Prometheus / OpenMetrics text format. Events go in one by one ([`Metrics::observe`]) with the gauges
//! that only `rt/` knows; text comes out. Labels are names from the configuration and words of the event vocabulary,
//! never a number from the wire, so their count is bounded and none can hold a digit somebody keyed.

mod siprec;
mod totals;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::alarm::AlarmKind;
use super::event::{CollectionEnd, EndCause, EventKind, HoldKind, RecordingState};
use super::payment::PaymentResult;

use crate::base::ids::{CallId, Leg};
use siprec::Siprec;
pub use totals::{AuditTotals, LegPackets, RecorderTotals, RescanTotals, SipTotals};

/// The node's metrics. Share it in an `Arc`; every method takes `&self`.
pub struct Metrics {
    registry: Registry,
    /// What is in force on each call, so that a call that ends takes its share out of the gauges.
    in_force: Mutex<HashMap<CallId, InForce>>,
    calls_started: Family<TrunkLabel, Counter>,
    calls_answered: Counter,
    calls_ended: Family<CauseLabel, Counter>,
    calls_active: Gauge,
    talk_ms: Counter,
    holds_taken: Family<KindLabel, Counter>,
    holds_ended: Family<HoldEndLabel, Counter>,
    holds_active: Family<KindLabel, Gauge>,
    masks_active: Gauge,
    keys_masked: Counter,
    star_codes: Counter,
    collections_started: Counter,
    collections_ended: Family<ResultLabel, Counter>,
    payments_started: Counter,
    payments_ended: Family<PaymentLabel, Counter>,
    payments_unknown: Gauge,
    webhooks: Family<WebhookLabel, Counter>,
    recordings: Family<StateLabel, Counter>,
    siprec: Siprec,
    packets: Family<PacketLabel, Counter>,
    recorder_open: Gauge,
    recorder_waiting: Gauge,
    recorder_chunks: Counter,
    recorder_bytes: Counter,
    recorder_lost: Counter,
    recorder_held: Gauge,
    recorder_early: Counter,
    recorder_writable: Gauge,
    redacted_ms: Counter,
    canaries: Family<ResultLabel, Counter>,
    rescan_waiting: Gauge,
    rescans: Family<ResultLabel, Counter>,
    rescan_heard: Counter,
    rescan_work: Counter,
    lost_lines: Counter,
    alarms: Family<AlarmLabel, Gauge>,
    events: Counter,
    streams: Gauge,
    requests: Family<RequestLabel, Counter>,
    sip: Sip,
    audit: Audit,
}

/// Of the audit log.
struct Audit {
    writable: Gauge,
    entries: Gauge,
    signed: Gauge,
    signed_at: Gauge,
    lost: Counter,
    shipped: Family<PlaceLabel, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabel {
    place: String,
}

/// Of the SIP sockets.
struct Sip {
    connections: Gauge,
    handshakes: Gauge,
    refused: Family<ReasonLabel, Counter>,
    dropped: Counter,
    unreachable: Counter,
    certificate_end: Gauge,
    targets: Family<TargetLabel, Counter>,
    targets_up: Family<TrunkLabel, Gauge>,
    targets_known: Family<TrunkLabel, Gauge>,
    shed: Counter,
    registered: Family<TrunkLabel, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlarmLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabel {
    trunk: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Default)]
struct InForce {
    mask: bool,
    /// Mask, pause.
    holds: [i64; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TrunkLabel {
    trunk: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HoldEndLabel {
    kind: &'static str,
    end: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabel {
    endpoint: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PaymentLabel {
    result: &'static str,
    reconciled: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PacketLabel {
    leg: &'static str,
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    route: String,
    status: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics of a node that has just started.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("tonewall");
        macro_rules! metric {
            ($name:literal, $help:literal) => {{
                let metric = Default::default();
                registry.register($name, $help, clone_of(&metric));
                metric
            }};
        }
        let calls_started = metric!("calls_started", "Calls that came in, by trunk");
        let calls_answered = metric!("calls_answered", "Calls with both legs up");
        let calls_ended = metric!("calls_ended", "Calls that ended, by cause");
        let calls_active = metric!("calls_active", "Calls being set up or talking");
        let talk_ms = metric!("talk_milliseconds", "Time from answer to end of ended calls");
        let holds_taken = metric!("holds_taken", "Mask and pause holds taken");
        let holds_ended = metric!("holds_ended", "Holds released or expired");
        let holds_active = metric!("holds_active", "Mask and pause holds in force");
        let masks_active = metric!("masks_active", "Calls whose customer's digits are masked now");
        let keys_masked = metric!("keys_masked", "Key presses masked");
        let star_codes = metric!("star_codes", "Star codes keyed by agents");
        let collections_started = metric!("collections_started", "Digit collections begun");
        let collections_ended = metric!("collections_ended", "Digit collections ended, by result");
        let payments_started = metric!("payments_started", "Payments begun");
        let payments_unknown =
            metric!("payments_unknown", "Payments whose outcome nobody knows; their providers are asked");
        let payments_ended = metric!("payments_ended", "Payments ended, by result; reconciled: found out later");
        let webhooks = metric!("webhook_tries", "Tries to deliver a webhook, by receiver and result");
        let recordings = metric!("recordings", "Changes of recordings, by new state");
        let siprec = Siprec::new(&mut registry);
        let packets = metric!("rtp_packets", "RTP packets of ended sessions, by leg and what became of them");
        let recorder_open = metric!("recorder_open", "Recordings being written");
        let recorder_waiting = metric!("recorder_waiting_blocks", "Blocks of 100 ms waiting for the disk");
        let recorder_chunks = metric!("recorder_chunks", "Sealed chunks synced to disk");
        let recorder_lost = metric!("recorder_lost_blocks", "Blocks of 100 ms dropped because the disk was slow");
        let recorder_writable =
            metric!("recorder_writable", "1: recordings can be written; 0: calls that must be are refused");
        let recorder_held = metric!("recorder_held_bytes", "Locked memory for what waits to be sealed");
        let recorder_early = metric!(
            "recorder_early_blocks",
            "Blocks of 100 ms sealed before their redaction horizon because that memory was full"
        );
        let redacted_ms = metric!(
            "recordings_redacted_milliseconds",
            "Taken out of recordings before it was sealed: cards recognised late"
        );
        let canaries = metric!("canaries", "Canary calls, by result: good, failed");
        let rescan_waiting = metric!("rescan_waiting", "Closed recordings that wait for their self-audit");
        let rescans = metric!("rescans", "Self-audits of recordings, by result: clean, hit, failed");
        let rescan_heard = metric!("rescan_heard_milliseconds", "Sound heard again by the self-audit");
        let rescan_work = metric!("rescan_work_milliseconds", "Time the self-audit worked for it");
        let lost_lines = metric!("log_lost_lines", "Log lines left out because standard error was not read");
        let alarms = metric!("alarms", "Alarms that stand, by kind");
        let events = metric!("events", "Events published");
        let streams = metric!("event_streams", "Event streams open now");
        let requests = metric!("http_requests", "HTTP requests, by route and status");
        let sip = Sip {
            connections: metric!("sip_connections", "SIP connections open, TCP and TLS"),
            handshakes: metric!("sip_tls_handshakes", "TLS handshakes under way"),
            refused: metric!("sip_refused", "Connections refused, by reason"),
            dropped: metric!("sip_dropped", "Messages dropped because their source belongs to no trunk"),
            targets: metric!("trunk_target_changes", "Targets of trunks that went up or down"),
            targets_up: metric!("trunk_targets_up", "Targets of a trunk that calls may go to"),
            targets_known: metric!("trunk_targets", "Targets of a trunk, those its names stand for included"),
            registered: metric!("trunk_registered", "Whether a trunk's registrar knows us"),
            shed: metric!("sip_shed", "Messages dropped because too many came a second"),
            unreachable: metric!("sip_unreachable", "Connections to peers that did not come up"),
            certificate_end: metric!(
                "sip_certificate_end_seconds",
                "When the first of our certificates ends, in seconds since 1970; 0: there is none"
            ),
        };
        let audit = Audit {
            writable: metric!(
                "audit_writable",
                "Whether entries of the audit log get to the disk; 0: no capture is begun"
            ),
            entries: metric!("audit_entries", "Entries of the audit log"),
            signed: metric!("audit_signed_entries", "Entries under the newest signed checkpoint"),
            signed_at: metric!("audit_signed_at_seconds", "When it was signed, in seconds since 1970"),
            lost: metric!("audit_lost_records", "Records lost because the audit log could not be written"),
            shipped: metric!("audit_shipped_entries", "Entries under the newest checkpoint at each second place"),
        };
        let recorder_bytes = Counter::default();
        registry.register_with_unit("recorder", "Sealed bytes synced to disk", Unit::Bytes, recorder_bytes.clone());
        Self {
            registry,
            in_force: Mutex::default(),
            calls_started,
            calls_answered,
            calls_ended,
            calls_active,
            talk_ms,
            holds_taken,
            holds_ended,
            holds_active,
            masks_active,
            keys_masked,
            star_codes,
            collections_started,
            collections_ended,
            payments_started,
            payments_ended,
            payments_unknown,
            webhooks,
            recordings,
            siprec,
            packets,
            recorder_open,
            recorder_waiting,
            recorder_chunks,
            recorder_bytes,
            recorder_lost,
            recorder_held,
            recorder_early,
            recorder_writable,
            redacted_ms,
            canaries,
            rescan_waiting,
            rescans,
            rescan_heard,
            rescan_work,
            lost_lines,
            alarms,
            events,
            streams,
            requests,
            sip,
            audit,
        }
    }

    /// Counts an event of `call`.
    pub fn observe(&self, call: Option<CallId>, event: &EventKind) {
        self.events.inc();
        if let Some(call) = call {
            self.follow(call, event);
        }
        match event {
            EventKind::CallStarted { from_trunk, .. } => {
                self.calls_started.get_or_create(&TrunkLabel { trunk: from_trunk.clone() }).inc();
                self.calls_active.inc();
            }
            EventKind::CallAnswered => {
                self.calls_answered.inc();
            }
            EventKind::CallEnded { cause, talk_ms, .. } => {
                self.calls_ended.get_or_create(&CauseLabel { cause: cause_name(*cause) }).inc();
                self.calls_active.dec();
                self.talk_ms.inc_by(*talk_ms);
            }
            EventKind::HoldTaken { kind, .. } => {
                self.holds_taken.get_or_create(&KindLabel { kind: kind_name(*kind) }).inc();
            }
            EventKind::HoldReleased { kind, .. } => self.hold_ended(*kind, "released"),
            EventKind::HoldExpired { kind, .. } => self.hold_ended(*kind, "expired"),
            EventKind::Recorder { recorder, state, .. } => self.siprec.changed(recorder, *state),
            EventKind::Spill { recorder, state, .. } => self.siprec.spill(recorder, *state),
            EventKind::RecorderTarget { recorder, up, .. } => self.siprec.target(recorder, *up),
            EventKind::KeyMasked { .. } => {
                self.keys_masked.inc();
            }
            EventKind::CollectionStarted { .. } => {
                self.collections_started.inc();
            }
            EventKind::CollectionEnded { result, .. } => {
                let result = match result {
                    CollectionEnd::Complete => "complete",
                    CollectionEnd::InputTimeout => "input-timeout",
                    CollectionEnd::Cancelled => "cancelled",
                    CollectionEnd::CallerHungUp => "caller-hung-up",
                };
                self.collections_ended.get_or_create(&ResultLabel { result }).inc();
            }
            EventKind::PaymentStarted { .. } => {
                self.payments_started.inc();
            }
            EventKind::PaymentEnded { result, .. } => {
                let label = PaymentLabel { result: payment_name(*result), reconciled: "no" };
                self.payments_ended.get_or_create(&label).inc();
            }
            EventKind::PaymentReconciled { result, .. } => {
                let label = PaymentLabel { result: payment_name(*result), reconciled: "yes" };
                self.payments_ended.get_or_create(&label).inc();
            }
            EventKind::PaymentAlarm { unknown } => {
                self.payments_unknown.set(i64::from(*unknown));
            }
            EventKind::Recording { state, .. } => {
                let state = match state {
                    RecordingState::Recording => "recording",
                    RecordingState::Paused => "paused",
                    RecordingState::Closed => "closed",
                    RecordingState::Failed => "failed",
                };
                self.recordings.get_or_create(&StateLabel { state }).inc();
            }
            EventKind::StarCode { .. } => {
                self.star_codes.inc();
            }
            EventKind::Registration { trunk, registered, .. } => {
                let label = TrunkLabel { trunk: trunk.clone() };
                self.sip.registered.get_or_create(&label).set(i64::from(*registered));
            }
            EventKind::TrunkTarget { trunk, up, .. } => {
                let state = if *up { "up" } else { "down" };
                self.sip.targets.get_or_create(&TargetLabel { trunk: trunk.clone(), state }).inc();
            }
            EventKind::Canary { good, .. } => {
                let result = if *good { "good" } else { "failed" };
                self.canaries.get_or_create(&ResultLabel { result }).inc();
            }
            EventKind::RecordingQuarantined { .. } => {
                self.recordings.get_or_create(&StateLabel { state: "quarantined" }).inc();
            }
            EventKind::RecordingRedacted { ms, .. } => {
                self.redacted_ms.inc_by(*ms);
            }
            EventKind::CallMedia { .. }
            | EventKind::Mask { .. }
            | EventKind::KeysReleased { .. }
            | EventKind::KeysWiped { .. }
            | EventKind::HoldRenewed { .. }
            | EventKind::CollectionProgress { .. }
            | EventKind::PaymentUpdated { .. }
            | EventKind::PaymentSubmitted { .. }
            | EventKind::CallTransferred { .. }
            | EventKind::Unmaskable { .. }
            | EventKind::UnmaskableStopped { .. }
            | EventKind::AlarmRaised { .. }
            | EventKind::AlarmCleared { .. }
            | EventKind::LegHeld { .. } => {}
        }
    }

    fn hold_ended(&self, kind: HoldKind, end: &'static str) {
        self.holds_ended.get_or_create(&HoldEndLabel { kind: kind_name(kind), end }).inc();
    }

    /// Keeps the gauges of what is in force.
    fn follow(&self, call: CallId, event: &EventKind) {
        let mut calls = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let place = |kind| match kind {
            HoldKind::Mask => 0,
            HoldKind::Pause => 1,
        };
        match event {
            EventKind::HoldTaken { kind, .. } => calls.entry(call).or_default().holds[place(*kind)] += 1,
            EventKind::HoldReleased { kind, .. } | EventKind::HoldExpired { kind, .. } => {
                calls.entry(call).or_default().holds[place(*kind)] -= 1;
            }
            EventKind::Mask { on } => calls.entry(call).or_default().mask = *on,
            EventKind::CallEnded { .. } => {
                calls.remove(&call);
            }
            _ => return,
        }
        self.masks_active.set(calls.values().filter(|call| call.mask).count() as i64);
        for (kind, name) in [(0, "mask"), (1, "pause")] {
            let active = calls.values().map(|call| call.holds[kind].max(0)).sum();
            self.holds_active.get_or_create(&KindLabel { kind: name }).set(active);
        }
    }

    /// Adds what an ended media session counted.
    pub fn add_packets(&self, leg: Leg, packets: LegPackets) {
        let leg = match leg {
            Leg::Customer => "customer",
            Leg::Agent => "agent",
        };
        let LegPackets { received, sent, foreign, malformed, lost, unauthentic, replayed } = packets;
        for (what, count) in [
            ("received", received),
            ("sent", sent),
            ("foreign", foreign),
            ("malformed", malformed),
            ("lost", lost),
            ("unauthentic", unauthentic),
            ("replayed", replayed),
        ] {
            self.packets.get_or_create(&PacketLabel { leg, what }).inc_by(count);
        }
    }

    /// Sets what the recorder counted since the start.
    pub fn set_recorder(&self, totals: RecorderTotals) {
        let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.recorder_open.set(gauge(totals.open));
        self.recorder_waiting.set(gauge(totals.waiting));
        let rise = |counter: &Counter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        rise(&self.recorder_chunks, totals.chunks);
        rise(&self.recorder_bytes, totals.bytes);
        rise(&self.recorder_lost, totals.lost_blocks);
        self.recorder_held.set(gauge(totals.held_bytes));
        rise(&self.recorder_early, totals.early_blocks);
        self.recorder_writable.set(i64::from(totals.writable));
    }

    /// Sets how the audit log stands.
    pub fn set_audit(&self, totals: &AuditTotals) {
        let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.audit.writable.set(i64::from(totals.writable));
        self.audit.entries.set(gauge(totals.entries));
        self.audit.signed.set(gauge(totals.signed));
        self.audit.signed_at.set(gauge(totals.signed_at_s));
        self.audit.lost.inc_by(totals.lost.saturating_sub(self.audit.lost.get()));
        for (place, size) in &totals.shipped {
            self.audit.shipped.get_or_create(&PlaceLabel { place: place.clone() }).set(gauge(*size));
        }
    }

    /// Sets what the self-audit counted since the start.
    pub fn set_rescan(&self, totals: RescanTotals) {
        self.rescan_waiting.set(i64::try_from(totals.waiting).unwrap_or(i64::MAX));
        let rise = |counter: &Counter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        for (result, to) in [("clean", totals.clean), ("hit", totals.hits), ("failed", totals.failed)] {
            rise(&self.rescans.get_or_create(&ResultLabel { result }), to);
        }
        rise(&self.rescan_heard, totals.heard_ms);
        rise(&self.rescan_work, totals.work_ms);
    }

    /// Sets how many log lines were left out since the start.
    pub fn set_lost_lines(&self, total: u64) {
        self.lost_lines.inc_by(total.saturating_sub(self.lost_lines.get()));
    }

    /// Sets how many alarms of a kind stand.
    pub fn set_alarms(&self, kind: AlarmKind, count: usize) {
        let label = AlarmLabel { kind: kind.name() };
        self.alarms.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Calls, masked calls and event streams, now.
    pub fn now(&self) -> (u64, u64, u64) {
        let read = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or(0);
        (read(&self.calls_active), read(&self.masks_active), read(&self.streams))
    }

    /// Sets how many targets of a trunk are up, of how many.
    pub fn set_targets(&self, trunk: &str, up: usize, of: usize) {
        let label = TrunkLabel { trunk: trunk.to_owned() };
        let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.sip.targets_up.get_or_create(&label).set(gauge(up));
        self.sip.targets_known.get_or_create(&label).set(gauge(of));
    }

    /// Sets how many calls a SIPREC recorder records, and how many go without it.
    pub fn set_siprec(&self, recorder: &str, up: u32, away: u32) {
        self.siprec.set(recorder, up, away);
    }

    /// Sets how many spills wait to be forwarded to a SIPREC recorder.
    pub fn set_spills(&self, recorder: &str, waiting: usize) {
        self.siprec.set_spills(recorder, waiting);
    }

    /// Sets what the sender to SIPREC recorders counted since the start: packets, packets that came back, blocks dropped.
    pub fn set_siprec_packets(&self, totals: (u64, u64, u64)) {
        self.siprec.set_packets(totals);
    }

    /// Sets what the SIP sockets counted since the start.
    pub fn set_sip(&self, totals: SipTotals) {
        let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.sip.connections.set(gauge(totals.connections));
        self.sip.handshakes.set(gauge(totals.handshakes));
        self.sip.certificate_end.set(totals.certificate_end);
        let rise = |counter: &Counter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        rise(&self.sip.dropped, totals.dropped);
        rise(&self.sip.shed, totals.shed);
        rise(&self.sip.unreachable, totals.unreachable);
        for (reason, to) in [
            ("source", totals.refused_source),
            ("full", totals.refused_full),
            ("handshakes", totals.refused_handshakes),
            ("tls-failed", totals.tls_failed),
            ("tls-timeout", totals.tls_timeout),
        ] {
            rise(&self.sip.refused.get_or_create(&ReasonLabel { reason }), to);
        }
    }

    /// Counts an HTTP request; `route` is the pattern, never the path.
    pub fn request(&self, route: &str, status: u16) {
        self.requests.get_or_create(&RequestLabel { route: route.to_owned(), status }).inc();
    }

    /// A receiver took a webhook, or did not.
    pub fn webhook(&self, endpoint: &str, taken: bool) {
        let result = if taken { "delivered" } else { "failed" };
        self.webhooks.get_or_create(&WebhookLabel { endpoint: endpoint.to_owned(), result }).inc();
    }

    /// An event stream opened (`+1`) or closed (`-1`).
    pub fn stream(&self, change: i64) {
        self.streams.inc_by(change);
    }

    /// The OpenMetrics text.
    pub fn print(&self) -> String {
        let mut out = String::new();
        // Writing into a string does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

fn clone_of<T: Clone>(metric: &T) -> T {
    metric.clone()
}

fn kind_name(kind: HoldKind) -> &'static str {
    match kind {
        HoldKind::Mask => "mask",
        HoldKind::Pause => "pause",
    }
}

fn payment_name(result: PaymentResult) -> &'static str {
    match result {
        PaymentResult::Success => "success",
        PaymentResult::Declined => "declined",
        PaymentResult::Unknown => "unknown",
        PaymentResult::Cancelled => "cancelled",
        PaymentResult::CallerHungUp => "caller-hung-up",
        PaymentResult::TooManyFailedAttempts => "too-many-failed-attempts",
        PaymentResult::PaymentConnectorError => "payment-connector-error",
        PaymentResult::Expired => "expired",
    }
}

fn cause_name(cause: EndCause) -> &'static str {
    match cause {
        EndCause::CustomerHungUp => "customer-hung-up",
        EndCause::AgentHungUp => "agent-hung-up",
        EndCause::Cancelled => "cancelled",
        EndCause::Rejected => "rejected",
        EndCause::MediaInactivity => "media-inactivity",
        EndCause::Timeout => "timeout",
        EndCause::SessionExpired => "session-expired",
        EndCause::RecorderFailed => "recorder-failed",
        EndCause::Operator => "operator",
        EndCause::Joined => "joined",
        EndCause::Failure => "failure",
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::base::Random;

    #[test]
    fn a_call_shows_in_the_numbers() {
        let metrics = Metrics::new();
        let call = Some(CallId::draw(&mut Random::seed_from_u64(1)));
        metrics.observe(
            call,
            &EventKind::CallStarted {
                from_trunk: "carrier".into(),
                to_trunk: "pbx".into(),
                caller: "+4915112345678".into(),
                called: "100".into(),
            },
        );
        metrics.observe(call, &EventKind::CallAnswered);
        metrics.observe(call, &EventKind::Mask { on: true });
        assert!(metrics.print().contains("tonewall_masks_active 1"));
        (1..=3).for_each(|count| metrics.observe(call, &EventKind::KeyMasked { count }));
        metrics.add_packets(Leg::Customer, LegPackets { received: 50, ..LegPackets::default() });
        metrics.set_recorder(RecorderTotals { chunks: 7, open: 1, ..RecorderTotals::default() });
        metrics.set_recorder(RecorderTotals { chunks: 9, open: 1, ..RecorderTotals::default() });
        let text = metrics.print();
        for line in [
            "tonewall_calls_started_total{trunk=\"carrier\"} 1",
            "tonewall_calls_active 1",
            "tonewall_keys_masked_total 3",
            "tonewall_rtp_packets_total{leg=\"customer\",what=\"received\"} 50",
            "tonewall_recorder_chunks_total 9",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("4915112345678"), "no caller's number is a label");
        metrics.observe(call, &EventKind::CallEnded { cause: EndCause::AgentHungUp, status: None, talk_ms: 61_000 });
        let text = metrics.print();
        assert!(text.contains("tonewall_calls_active 0"), "{text}");
        assert!(text.contains("tonewall_masks_active 0"), "a call that ends masks nothing: {text}");
        assert!(text.contains("tonewall_calls_ended_total{cause=\"agent-hung-up\"} 1"), "{text}");
    }
}
