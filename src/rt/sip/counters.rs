//! What the SIP sockets count, read by the metrics.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::obs::metrics::SipTotals;

/// Totals since start, shared by all connections.
#[derive(Debug, Default)]
pub(in crate::rt) struct Counters {
    pub(super) open: AtomicU64,
    pub(super) handshakes: AtomicU64,
    pub(super) refused_source: AtomicU64,
    pub(super) refused_full: AtomicU64,
    pub(super) refused_handshakes: AtomicU64,
    pub(super) tls_failed: AtomicU64,
    pub(super) tls_timeout: AtomicU64,
    pub(super) unreachable: AtomicU64,
    /// Datagrams dropped because nobody we know sent them; kept by the engine.
    dropped: AtomicU64,
    /// Messages dropped because too many came a second; kept by the engine.
    shed: AtomicU64,
    /// When the first of our certificates ends, in seconds since 1970; 0: there is none.
    pub(super) certificate_end: AtomicI64,
}

impl Counters {
    pub(in crate::rt) fn note_dropped(&self, unknown: u64, shed: u64) {
        self.dropped.store(unknown, Ordering::Relaxed);
        self.shed.store(shed, Ordering::Relaxed);
    }

    pub(in crate::rt) fn totals(&self) -> SipTotals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SipTotals {
            connections: get(&self.open),
            handshakes: get(&self.handshakes),
            refused_source: get(&self.refused_source),
            refused_full: get(&self.refused_full),
            refused_handshakes: get(&self.refused_handshakes),
            tls_failed: get(&self.tls_failed),
            tls_timeout: get(&self.tls_timeout),
            unreachable: get(&self.unreachable),
            dropped: get(&self.dropped),
            shed: get(&self.shed),
            certificate_end: self.certificate_end.load(Ordering::Relaxed),
        }
    }
}

/// Counts one while it lives.
pub(super) struct One<'a>(&'a AtomicU64);

impl<'a> One<'a> {
    pub(super) fn of(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds one to a total.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
