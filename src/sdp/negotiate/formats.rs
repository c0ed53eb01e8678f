//! What is negotiated, in plain types. The `call` room turns them into the media room's orders.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::security::{DtlsMedia, SrtpMedia};
use crate::config::Codec;

/// An audio payload type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audio {
    /// RTP payload type.
    pub payload_type: u8,
    /// Codec.
    pub codec: Codec,
}

/// A telephone-event payload type (RFC 4733).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// RTP payload type.
    pub payload_type: u8,
    /// Clock rate in Hz.
    pub clock_rate: u32,
    /// Keypad events 0–15 its writer takes, bit per event.
    pub keys: u16,
}

/// What the peer may send, by the payload types it knows of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receive {
    /// Audio.
    pub audio: SmallVec<[Audio; 4]>,
    /// Telephone-event, every number ever named on the leg.
    pub events: SmallVec<[Event; 2]>,
    /// RFC 2198 redundancy, named but not accepted.
    pub red: Option<u8>,
    /// Comfort noise (RFC 3389).
    pub comfort_noise: Option<u8>,
}

/// What we may send, by the payload types the peer declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transmit {
    /// Audio; the first is used for what we generate.
    pub audio: SmallVec<[Audio; 4]>,
    /// Telephone-event, if agreed.
    pub event: Option<Event>,
    /// Packet time of what we generate, in ms.
    pub ptime_ms: u8,
    /// The most bit/s of Opus the peer takes; 0: it did not say.
    pub opus_bitrate: u32,
    /// Comfort noise, if agreed.
    pub comfort_noise: Option<u8>,
}

/// A leg's media as agreed: what the media room needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Where RTP goes; `None` while the peer holds with the address 0.0.0.0.
    pub remote_rtp: Option<SocketAddr>,
    /// Where RTCP goes.
    pub remote_rtcp: Option<SocketAddr>,
    /// We may send.
    pub send: bool,
    /// The peer may send.
    pub receive: bool,
    /// Formats received.
    pub rx: Receive,
    /// Formats sent.
    pub tx: Transmit,
    /// Keys. Neither these nor a handshake: the media is not encrypted.
    pub srtp: Option<SrtpMedia>,
    /// The handshake that gives the keys.
    pub dtls: Option<DtlsMedia>,
    /// RTP and RTCP share one port.
    pub rtcp_mux: bool,
    /// The peer's address may be learnt from its packets.
    pub latch: bool,
    /// It is fax (T.38), and no RTP: datagrams that nobody here can read.
    pub fax: bool,
}
