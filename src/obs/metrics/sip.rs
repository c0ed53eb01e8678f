//! Metrics of the SIP sockets, of trunks and their targets.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{SipTotals, TrunkLabel, gauge, rise};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabel {
    trunk: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What is counted of SIP.
pub(super) struct Sip {
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

impl Sip {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            connections: metric!(registry, "sip_connections", "SIP connections open, TCP and TLS"),
            handshakes: metric!(registry, "sip_tls_handshakes", "TLS handshakes under way"),
            refused: metric!(registry, "sip_refused", "Connections refused, by reason"),
            dropped: metric!(registry, "sip_dropped", "Messages dropped because their source belongs to no trunk"),
            targets: metric!(registry, "trunk_target_changes", "Targets of trunks that went up or down"),
            targets_up: metric!(registry, "trunk_targets_up", "Targets of a trunk that calls may go to"),
            targets_known: metric!(registry, "trunk_targets", "Targets of a trunk, those its names stand for included"),
            registered: metric!(registry, "trunk_registered", "Whether a trunk's registrar knows us"),
            shed: metric!(registry, "sip_shed", "Messages dropped because too many came a second"),
            unreachable: metric!(registry, "sip_unreachable", "Connections to peers that did not come up"),
            certificate_end: metric!(
                registry,
                "sip_certificate_end_seconds",
                "When the first of our certificates ends, in seconds since 1970; 0: there is none"
            ),
        }
    }

    /// A trunk's registrar knows us, or does not.
    pub(super) fn registered(&self, trunk: &str, registered: bool) {
        self.registered.get_or_create(&TrunkLabel { trunk: trunk.to_owned() }).set(i64::from(registered));
    }

    /// A target of a trunk went up or down.
    pub(super) fn target(&self, trunk: &str, up: bool) {
        let state = if up { "up" } else { "down" };
        self.targets.get_or_create(&TargetLabel { trunk: trunk.to_owned(), state }).inc();
    }

    /// So many targets of a trunk are up, of so many.
    pub(super) fn set_targets(&self, trunk: &str, up: usize, of: usize) {
        let label = TrunkLabel { trunk: trunk.to_owned() };
        self.targets_up.get_or_create(&label).set(gauge(up));
        self.targets_known.get_or_create(&label).set(gauge(of));
    }

    /// What the sockets counted since the start.
    pub(super) fn set(&self, totals: SipTotals) {
        self.connections.set(gauge(totals.connections));
        self.handshakes.set(gauge(totals.handshakes));
        self.certificate_end.set(totals.certificate_end);
        rise(&self.dropped, totals.dropped);
        rise(&self.shed, totals.shed);
        rise(&self.unreachable, totals.unreachable);
        for (reason, to) in [
            ("source", totals.refused_source),
            ("full", totals.refused_full),
            ("handshakes", totals.refused_handshakes),
            ("tls-failed", totals.tls_failed),
            ("tls-timeout", totals.tls_timeout),
        ] {
            rise(&self.refused.get_or_create(&ReasonLabel { reason }), to);
        }
    }
}
