//! What the B2BUA tells a media session and what it hears back. Orders are complete states, not differences, so that
//! repeating or merging them is harmless; an order to mask is never dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use crate::base::ids::{Leg, SessionId};
use crate::base::key::MediaKey;
use crate::base::secret::Digit;
use crate::config::{Codec, MaskKind, Network, SrtpSuite};

use crate::srtp::{Fingerprint, Identity, Role};

pub use crate::guard::{BLOCK_FRAMES, Block, MaskedBlock};

/// Recording sample rate in Hz.
pub const RECORD_RATE: u32 = 8_000;

/// A telephone-event payload type and its clock (RFC 4733).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventFormat {
    /// RTP payload type.
    pub payload_type: u8,
    /// Clock rate in Hz; 8000 with G.711, others are seen in the field.
    pub clock_rate: u32,
}

/// An audio payload type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioFormat {
    /// RTP payload type.
    pub payload_type: u8,
    /// Codec.
    pub codec: Codec,
}

/// What a leg's peer may send us, by the payload types we declared to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiveFormats {
    /// Audio payload types.
    pub audio: SmallVec<[AudioFormat; 4]>,
    /// Telephone-event payload types, every clock rate.
    pub events: SmallVec<[EventFormat; 2]>,
    /// RFC 2198 redundancy payload type.
    pub red: Option<u8>,
    /// Comfort noise (RFC 3389) payload type; 13 is known without being declared.
    pub comfort_noise: Option<u8>,
}

/// What we send to a leg's peer, by the payload types it declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendFormats {
    /// Audio payload types the peer takes; the first is used for what we generate. Empty: send nothing.
    pub audio: SmallVec<[AudioFormat; 4]>,
    /// Telephone-event, if the peer takes it.
    pub event: Option<EventFormat>,
    /// Packet time of what we generate, in ms (10–60).
    pub ptime_ms: u8,
    /// The most bit/s of Opus the peer takes; 0: it did not say.
    pub opus_bitrate: u32,
    /// Comfort noise (RFC 3389), if the peer takes it.
    pub comfort_noise: Option<u8>,
}

/// How a leg's media is protected on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    #[default]
    Plain,
    /// SRTP with these keys: nothing is sent or taken in the clear.
    Srtp(Box<SrtpKeys>),
    /// SRTP with keys that a handshake on the RTP port gives: until then nothing is sent or taken.
    Dtls(Box<DtlsPeer>),
}

/// With whom, and how, keys are agreed on the media's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsPeer {
    /// The certificate we show.
    pub identity: Arc<Identity>,
    /// Which end begins.
    pub role: Role,
    /// Of the certificate the peer must show.
    pub fingerprint: Fingerprint,
    /// Names the peering; the same with the same role and fingerprint goes on.
    pub peering: u64,
}

/// Keys of a leg's SRTP and SRTCP, both ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtpKeys {
    /// Cipher suite.
    pub suite: SrtpSuite,
    /// The peer's master key: what it sends by.
    pub rx: MediaKey,
    /// Ours.
    pub tx: MediaKey,
    /// Names the peering the keys belong to. Keys that change within one are a re-key, over which rollover counters go
    /// on; another peering begins its own.
    pub peering: u64,
}

/// Where a leg's peer is and what flows, as negotiated. Replaces the former state whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegMedia {
    /// Where RTP goes; `None` before the peer's SDP is known.
    pub remote_rtp: Option<SocketAddr>,
    /// Where RTCP goes.
    pub remote_rtcp: Option<SocketAddr>,
    /// We may send to the peer.
    pub send: bool,
    /// The peer may send to us; what comes otherwise is dropped.
    pub receive: bool,
    /// Formats received.
    pub rx: ReceiveFormats,
    /// Formats sent.
    pub tx: SendFormats,
    /// Protection on the wire.
    pub security: Security,
    /// RTP and RTCP share one port on both ends (RFC 5761).
    pub rtcp_mux: bool,
    /// The peer's address may be learnt from its first packets, within the leg's networks (threats R1).
    pub latch: bool,
    /// What flows is no RTP but datagrams nobody here can read (fax): they go on as they come, from the signalled address
    /// only, and only while the customer's digits are not masked.
    pub opaque: bool,
}

impl LegMedia {
    /// A leg of which nothing is known yet: it neither sends nor receives.
    pub fn idle() -> Self {
        Self {
            remote_rtp: None,
            remote_rtcp: None,
            send: false,
            receive: false,
            rx: ReceiveFormats::default(),
            tx: SendFormats::default(),
            security: Security::Plain,
            rtcp_mux: false,
            latch: false,
            opaque: false,
        }
    }
}

/// Guard of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Digits pass; packets are relayed as they come.
    Open,
    /// Digits pass and are reported (star codes in events and INFO, counting).
    Listen,
    /// Digits in events are withheld (as a mask would, by silence) and reported, tones pass without delay: who hears
    /// the report decides what is sent on by [`Command::SendDigit`]. For star codes that are not keyed in band.
    Withhold,
    /// Digits are masked and reported.
    Masked(MaskKind),
}

/// What the recorder tap does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tap {
    /// Nothing is recorded.
    Off,
    /// Masked media of both legs is put out in stereo blocks.
    On,
    /// Blocks of silence marked as a gap are put out.
    Paused,
}

/// An order to the media room.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // Orders are moved once and not kept; the large one is the common one.
pub enum Command {
    /// Makes a session. Its four sockets (RTP, RTCP per leg) are bound by `rt/` on these ports.
    Create {
        /// Session.
        session: SessionId,
        /// RTP port per leg (customer, agent); RTCP is the next one.
        ports: [u16; 2],
        /// Where each leg's media may come from before its SDP names an address: never anywhere else.
        allowed: [Vec<Network>; 2],
        /// Guard from the customer to the agent.
        toward_agent: Guard,
        /// Guard from the agent to the customer (star codes).
        toward_customer: Guard,
        /// No RTP from either leg for this long is reported once, in ms.
        inactivity_ms: u32,
        /// Seed of SSRCs, sequence numbers, timestamps and noise.
        seed: u64,
    },
    /// Replaces what is known of a leg.
    SetLeg {
        /// Session.
        session: SessionId,
        /// Leg.
        leg: Leg,
        /// New state.
        media: LegMedia,
    },
    /// Replaces where a leg's media may come from and go to: its trunk is another.
    SetAllowed {
        /// Session.
        session: SessionId,
        /// Leg.
        leg: Leg,
        /// The trunk's media networks.
        networks: Vec<Network>,
    },
    /// Replaces the guard of the media that comes from `from`.
    SetGuard {
        /// Session.
        session: SessionId,
        /// The leg the digits come from.
        from: Leg,
        /// New guard.
        guard: Guard,
    },
    /// Sets the recorder tap.
    SetTap {
        /// Session.
        session: SessionId,
        /// New state.
        tap: Tap,
    },
    /// A digit came by SIP INFO on `from`; it takes part in the merge.
    InfoDigit {
        /// Session.
        session: SessionId,
        /// The leg it came on.
        from: Leg,
        /// Key.
        digit: Digit,
        /// Key-down time in ms, as the INFO says (RFC-less `application/dtmf-relay`), 0 if unsaid.
        duration_ms: u32,
    },
    /// Sends a digit to a leg as an RFC 4733 event, or as a tone where the leg has no events.
    SendDigit {
        /// Session.
        session: SessionId,
        /// Receiving leg.
        to: Leg,
        /// Key.
        digit: Digit,
        /// Length in ms.
        duration_ms: u32,
    },
    /// Ends a session and frees its sockets.
    Close {
        /// Session.
        session: SessionId,
    },
}

impl Command {
    /// The session the order is for.
    pub fn session(&self) -> SessionId {
        match self {
            Command::Create { session, .. }
            | Command::SetLeg { session, .. }
            | Command::SetAllowed { session, .. }
            | Command::SetGuard { session, .. }
            | Command::SetTap { session, .. }
            | Command::InfoDigit { session, .. }
            | Command::SendDigit { session, .. }
            | Command::Close { session } => *session,
        }
    }
}

/// What a media session reports.
#[derive(Debug)]
pub enum Event {
    /// A key press, once, whatever forms it came in.
    Digit {
        /// Session.
        session: SessionId,
        /// The leg the key was pressed on.
        from: Leg,
        /// Key.
        digit: Digit,
        /// When the key went down, as well as the forms tell.
        at: Instant,
        /// Whether the mask was in force for it.
        masked: bool,
    },
    /// No RTP from either leg for the agreed time.
    Inactive {
        /// Session.
        session: SessionId,
    },
    /// The session is closed; its counters.
    Closed {
        /// Session.
        session: SessionId,
        /// Per leg.
        stats: [LegStats; 2],
    },
}

/// Counters of a leg.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct LegStats {
    /// RTP packets accepted from the peer.
    pub received: u64,
    /// RTP packets sent to the peer.
    pub sent: u64,
    /// Packets dropped because their source was not the signalled one.
    pub foreign: u64,
    /// Packets dropped as malformed or of an unknown payload type.
    pub malformed: u64,
    /// Packets missing by sequence number.
    pub lost: u64,
    /// Encrypted packets dropped because their authentication tag is wrong.
    pub unauthentic: u64,
    /// Encrypted packets dropped because they came before, or too late to tell.
    pub replayed: u64,
}
