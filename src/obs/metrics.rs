//! Metrics in the Prometheus / OpenMetrics text format. Events go in one by one ([`Metrics::observe`]) with the gauges
//! that only `rt/` knows; text comes out. Labels are names from the configuration and words of the event vocabulary,
//! never a number from the wire, so their count is bounded and none can hold a digit somebody keyed.

/// Registers a metric and gives it.
macro_rules! metric {
    ($registry:expr, $name:literal, $help:literal) => {{
        let metric = Default::default();
        $registry.register($name, $help, Clone::clone(&metric));
        metric
    }};
}

mod audit;
mod recordings;
mod sip;
mod siprec;
mod totals;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::alarm::AlarmKind;
use super::event::{CollectionEnd, EndCause, EventKind, HoldKind, RecordingState};
use super::payment::PaymentResult;

use crate::base::ids::{CallId, Leg};
use audit::Audit;
use recordings::Recordings;
use sip::Sip;
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
    siprec: Siprec,
    packets: Family<PacketLabel, Counter>,
    recordings: Recordings,
    canaries: Family<ResultLabel, Counter>,
    lost_lines: Counter,
    alarms: Family<AlarmLabel, Gauge>,
    events: Counter,
    streams: Gauge,
    requests: Family<RequestLabel, Counter>,
    sip: Sip,
    audit: Audit,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlarmLabel {
    kind: &'static str,
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
        Self {
            in_force: Mutex::default(),
            calls_started: metric!(registry, "calls_started", "Calls that came in, by trunk"),
            calls_answered: metric!(registry, "calls_answered", "Calls with both legs up"),
            calls_ended: metric!(registry, "calls_ended", "Calls that ended, by cause"),
            calls_active: metric!(registry, "calls_active", "Calls being set up or talking"),
            talk_ms: metric!(registry, "talk_milliseconds", "Time from answer to end of ended calls"),
            holds_taken: metric!(registry, "holds_taken", "Mask and pause holds taken"),
            holds_ended: metric!(registry, "holds_ended", "Holds released or expired"),
            holds_active: metric!(registry, "holds_active", "Mask and pause holds in force"),
            masks_active: metric!(registry, "masks_active", "Calls whose customer's digits are masked now"),
            keys_masked: metric!(registry, "keys_masked", "Key presses masked"),
            star_codes: metric!(registry, "star_codes", "Star codes keyed by agents"),
            collections_started: metric!(registry, "collections_started", "Digit collections begun"),
            collections_ended: metric!(registry, "collections_ended", "Digit collections ended, by result"),
            payments_started: metric!(registry, "payments_started", "Payments begun"),
            payments_unknown: metric!(
                registry,
                "payments_unknown",
                "Payments whose outcome nobody knows; their providers are asked"
            ),
            payments_ended: metric!(
                registry,
                "payments_ended",
                "Payments ended, by result; reconciled: found out later"
            ),
            webhooks: metric!(registry, "webhook_tries", "Tries to deliver a webhook, by receiver and result"),
            packets: metric!(registry, "rtp_packets", "RTP packets of ended sessions, by leg and what became of them"),
            canaries: metric!(registry, "canaries", "Canary calls, by result: good, failed"),
            lost_lines: metric!(registry, "log_lost_lines", "Log lines left out because standard error was not read"),
            alarms: metric!(registry, "alarms", "Alarms that stand, by kind"),
            events: metric!(registry, "events", "Events published"),
            streams: metric!(registry, "event_streams", "Event streams open now"),
            requests: metric!(registry, "http_requests", "HTTP requests, by route and status"),
            recordings: Recordings::new(&mut registry),
            siprec: Siprec::new(&mut registry),
            sip: Sip::new(&mut registry),
            audit: Audit::new(&mut registry),
            registry,
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
            EventKind::Recording { state, .. } => {
                self.recordings.changed(match state {
                    RecordingState::Recording => "recording",
                    RecordingState::Paused => "paused",
                    RecordingState::Closed => "closed",
                    RecordingState::Failed => "failed",
                });
            }
            EventKind::StarCode { .. } => {
                self.star_codes.inc();
            }
            EventKind::Registration { trunk, registered, .. } => {
                self.sip.registered(trunk, *registered);
            }
            EventKind::TrunkTarget { trunk, up, .. } => {
                self.sip.target(trunk, *up);
            }
            EventKind::Canary { good, .. } => {
                let result = if *good { "good" } else { "failed" };
                self.canaries.get_or_create(&ResultLabel { result }).inc();
            }
            EventKind::RecordingQuarantined { .. } => {
                self.recordings.changed("quarantined");
            }
            EventKind::RecordingRedacted { ms, .. } => {
                self.recordings.redacted(*ms);
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
        self.recordings.set_recorder(totals);
    }

    /// Sets how the audit log stands.
    pub fn set_audit(&self, totals: &AuditTotals) {
        self.audit.set(totals);
    }

    /// Sets what the self-audit counted since the start.
    pub fn set_rescan(&self, totals: RescanTotals) {
        self.recordings.set_rescan(totals);
    }

    /// Sets how many payments nobody knows the outcome of.
    pub fn set_payments_unknown(&self, count: usize) {
        self.payments_unknown.set(gauge(count));
    }

    /// Sets how many log lines were left out since the start.
    pub fn set_lost_lines(&self, total: u64) {
        rise(&self.lost_lines, total);
    }

    /// Sets how many alarms of a kind stand.
    pub fn set_alarms(&self, kind: AlarmKind, count: usize) {
        let label = AlarmLabel { kind: kind.name() };
        self.alarms.get_or_create(&label).set(gauge(count));
    }

    /// Calls, masked calls and event streams, now.
    pub fn now(&self) -> (u64, u64, u64) {
        let read = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or(0);
        (read(&self.calls_active), read(&self.masks_active), read(&self.streams))
    }

    /// Sets how many targets of a trunk are up, of how many.
    pub fn set_targets(&self, trunk: &str, up: usize, of: usize) {
        self.sip.set_targets(trunk, up, of);
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
        self.sip.set(totals);
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

/// Lets a counter rise to what was counted elsewhere.
fn rise(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

/// What was counted elsewhere, as a gauge has it.
fn gauge<T: TryInto<i64>>(value: T) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
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
