//! What parts of a node have counted, as metrics take it: plain numbers, set as they are.

/// Packet counters of a leg, as a media session counts them over its life.
#[derive(Debug, Clone, Copy, Default)]
pub struct LegPackets {
    /// RTP packets accepted.
    pub received: u64,
    /// RTP packets sent.
    pub sent: u64,
    /// Dropped: not from the signalled source.
    pub foreign: u64,
    /// Dropped: malformed or of an unknown payload type.
    pub malformed: u64,
    /// Missing by sequence number.
    pub lost: u64,
    /// Dropped: encrypted, with a wrong authentication tag.
    pub unauthentic: u64,
    /// Dropped: encrypted, and seen before or too late to tell.
    pub replayed: u64,
}

/// The recorder's state and totals.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecorderTotals {
    /// Recordings being written.
    pub open: u64,
    /// Blocks in its queue.
    pub waiting: u64,
    /// Chunks synced since start.
    pub chunks: u64,
    /// Bytes synced since start.
    pub bytes: u64,
    /// Blocks dropped since start.
    pub lost_blocks: u64,
    /// Locked memory for what waits to be sealed, in bytes.
    pub held_bytes: u64,
    /// Blocks sealed before their time since start.
    pub early_blocks: u64,
    /// Recordings can be written.
    pub writable: bool,
}

/// The audit log's state and totals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditTotals {
    /// Entries get to the disk.
    pub writable: bool,
    /// Entries.
    pub entries: u64,
    /// Entries under the newest checkpoint.
    pub signed: u64,
    /// When it was signed, in seconds since 1970.
    pub signed_at_s: u64,
    /// Records that found no room while the log could not be written.
    pub lost: u64,
    /// Entries under the newest checkpoint that got to each second place.
    pub shipped: Vec<(String, u64)>,
}

/// The self-audit's state and totals.
#[derive(Debug, Clone, Copy, Default)]
pub struct RescanTotals {
    /// Recordings that wait.
    pub waiting: u64,
    /// Found clean since start.
    pub clean: u64,
    /// Quarantined since start.
    pub hits: u64,
    /// That could not be heard since start.
    pub failed: u64,
    /// Milliseconds of sound heard.
    pub heard_ms: u64,
    /// Milliseconds of work.
    pub work_ms: u64,
}

/// The SIP sockets' state and totals.
#[derive(Debug, Clone, Copy, Default)]
pub struct SipTotals {
    /// Connections open.
    pub connections: u64,
    /// TLS handshakes under way.
    pub handshakes: u64,
    /// Connections refused: from nobody we know.
    pub refused_source: u64,
    /// Connections refused: too many are open.
    pub refused_full: u64,
    /// Connections refused: too many handshakes at once, of the source or in all.
    pub refused_handshakes: u64,
    /// TLS handshakes that failed.
    pub tls_failed: u64,
    /// TLS handshakes that took too long.
    pub tls_timeout: u64,
    /// Connections to peers that did not come up.
    pub unreachable: u64,
    /// Messages dropped: from nobody we know.
    pub dropped: u64,
    /// Messages dropped: too many a second.
    pub shed: u64,
    /// When the first of our certificates ends, in seconds since 1970; 0: there is none.
    pub certificate_end: i64,
}
