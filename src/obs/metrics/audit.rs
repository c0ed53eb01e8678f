//! Metrics of the audit log.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{AuditTotals, gauge, rise};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabel {
    place: String,
}

/// How the audit log stands.
pub(super) struct Audit {
    writable: Gauge,
    entries: Gauge,
    signed: Gauge,
    signed_at: Gauge,
    lost: Counter,
    shipped: Family<PlaceLabel, Gauge>,
}

impl Audit {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            writable: metric!(
                registry,
                "audit_writable",
                "Whether entries of the audit log get to the disk; 0: no capture is begun"
            ),
            entries: metric!(registry, "audit_entries", "Entries of the audit log"),
            signed: metric!(registry, "audit_signed_entries", "Entries under the newest signed checkpoint"),
            signed_at: metric!(registry, "audit_signed_at_seconds", "When it was signed, in seconds since 1970"),
            lost: metric!(registry, "audit_lost_records", "Records lost because the audit log could not be written"),
            shipped: metric!(
                registry,
                "audit_shipped_entries",
                "Entries under the newest checkpoint at each second place"
            ),
        }
    }

    pub(super) fn set(&self, totals: &AuditTotals) {
        self.writable.set(i64::from(totals.writable));
        self.entries.set(gauge(totals.entries));
        self.signed.set(gauge(totals.signed));
        self.signed_at.set(gauge(totals.signed_at_s));
        rise(&self.lost, totals.lost);
        for (place, size) in &totals.shipped {
            self.shipped.get_or_create(&PlaceLabel { place: place.clone() }).set(gauge(*size));
        }
    }
}
