//! A peer's description as facts: which stream is used, where it is, what it can do. Reading judges by the trunk's
//! policy and refuses with a reason.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::address::check_address;
use super::formats::{Audio, Event};
use super::policy::Policy;
use super::refusal::Refusal;
use super::security::{self, Offered};
use crate::config::Codec;
use crate::sdp::attr::fmtp::{Fmtp, OpusWish};
use crate::sdp::attr::rtcp::{self, Rtcp};
use crate::sdp::attr::{maxptime, ptime, rtpmap::RtpMap};
use crate::sdp::{Connection, Direction, MediaLine, Place, Section, Session};

/// What a peer's description says of the stream in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where the peer wants RTP; `None` when it holds with 0.0.0.0.
    pub rtp: Option<SocketAddr>,
    /// Where the peer wants RTCP.
    pub rtcp: Option<SocketAddr>,
    /// Direction as the peer sees it; the 0.0.0.0 hold counts as not receiving (RFC 3264 section 8.4).
    pub direction: Direction,
    /// Codecs that can be masked and that the trunk allows, in the peer's order. Never empty.
    pub audio: SmallVec<[Audio; 4]>,
    /// Telephone-event numbers at every clock rate, in the peer's order.
    pub events: SmallVec<[Event; 2]>,
    /// RFC 2198 redundancy number.
    pub red: Option<u8>,
    /// What its Opus receiver wants, if it has one.
    pub opus: Option<OpusWish>,
    /// Packet time asked for, in ms.
    pub ptime_ms: Option<u8>,
    /// Longest packet taken, in ms.
    pub maxptime_ms: Option<u8>,
    /// The peer takes RTP and RTCP on one port.
    pub rtcp_mux: bool,
    /// How it would encrypt the stream.
    pub(super) security: Offered,
    /// Index of the section in use.
    pub(super) chosen: usize,
    /// Every `m=` line, for answers that keep count and order.
    pub(super) layout: Vec<MediaLine>,
}

impl Peer {
    /// Whether the peer has put us on hold (it does not want to receive).
    pub fn holds(&self) -> bool {
        !self.direction.receives()
    }

    /// Whether the peer knows telephone-event.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }
}

/// Reads a peer's offer: the first audio section that can be used. When none can, the refusal is of the first audio
/// section that is not switched off.
pub fn read_peer(offer: &Session, policy: &Policy) -> Result<Peer, Refusal> {
    let mut first = None;
    for (index, section) in offer.sections().iter().enumerate() {
        if !section.media().is_audio() || section.media().port == 0 {
            continue;
        }
        match read_section(offer, index, policy) {
            Ok(peer) => return Ok(peer),
            Err(refusal) => first = first.or(Some(refusal)),
        }
    }
    Err(first.unwrap_or_else(|| Refusal::not_acceptable(304, "no audio stream is offered")))
}

/// Reads the section `index` of a peer's offer or answer.
pub(super) fn read_section(session: &Session, index: usize, policy: &Policy) -> Result<Peer, Refusal> {
    let section = session.sections().get(index).ok_or_else(|| refuse(304, "the audio stream is missing"))?;
    let line = section.media();
    if !line.is_audio() {
        return Err(refuse(304, "the stream is not audio"));
    }
    if line.port == 0 {
        return Err(refuse(304, "the audio stream is refused (port 0)"));
    }
    let security = security::read(session, section, policy)?;
    let formats = read_formats(section, policy);
    if formats.audio.is_empty() {
        return Err(refuse(305, formats.complaint(policy)));
    }
    let rtcp_mux = section.attributes(rtcp::MUX).next().is_some();
    let (rtp, rtcp) = read_addresses(session, section, policy)?;
    let rtcp = if rtcp_mux { rtp } else { rtcp };
    let said = session.direction_of(section);
    let direction = Direction::new(said.sends(), said.receives() && rtp.is_some());
    let attribute = |name, parse: fn(&str) -> Option<u8>| {
        let here = section.attributes(name).find_map(parse);
        here.or_else(|| session.attributes(name).find_map(parse))
    };
    Ok(Peer {
        rtp,
        rtcp,
        direction,
        audio: formats.audio,
        events: formats.events,
        red: formats.red,
        opus: formats.opus,
        ptime_ms: attribute("ptime", ptime::parse),
        maxptime_ms: attribute("maxptime", maxptime::parse),
        rtcp_mux,
        security,
        chosen: index,
        layout: session.sections().iter().map(|section| section.media().clone()).collect(),
    })
}

/// 488 with a Warning code.
fn refuse(warning: u16, reason: impl Into<String>) -> Refusal {
    Refusal::not_acceptable(warning, reason)
}

fn read_addresses(
    session: &Session,
    section: &Section,
    policy: &Policy,
) -> Result<(Option<SocketAddr>, Option<SocketAddr>), Refusal> {
    let connection = match session.connection_of(section) {
        Some(Ok(connection)) => connection,
        Some(Err(reason)) => return Err(refuse(301, reason)),
        None => return Err(refuse(301, "no c= line holds for the audio stream")),
    };
    let Connection { place: Place::Address(ip) } = connection else {
        return Err(refuse(301, "a host name is not accepted as media address"));
    };
    if ip.is_unspecified() {
        return Ok((None, None));
    }
    let port = section.media().port;
    let judge = |at: SocketAddr| {
        check_address(at, policy)
            .map_err(|fault| refuse(if at.ip().is_multicast() { 330 } else { 301 }, fault.to_string()))
    };
    let rtp = SocketAddr::new(ip, port);
    judge(rtp)?;
    let rtcp = match section.attributes("rtcp").find_map(Rtcp::parse) {
        None => port.checked_add(1).map(|port| SocketAddr::new(ip, port)),
        Some(Rtcp { place: Some(Place::Name), .. }) => {
            return Err(refuse(301, "a host name is not accepted as media address"));
        }
        Some(Rtcp { port, place: Some(Place::Address(ip)) }) => Some(SocketAddr::new(ip, port)),
        Some(Rtcp { port, place: None }) => Some(SocketAddr::new(ip, port)),
    };
    let rtcp = rtcp.filter(|at| !at.ip().is_unspecified());
    if let Some(at) = rtcp {
        judge(at)?;
    }
    Ok((Some(rtp), rtcp))
}

#[derive(Default)]
struct Formats {
    audio: SmallVec<[Audio; 4]>,
    events: SmallVec<[Event; 2]>,
    red: Option<u8>,
    opus: Option<OpusWish>,
    /// Codecs that could be masked but that the trunk does not allow.
    forbidden: Vec<&'static str>,
}

impl Formats {
    fn complaint(&self, policy: &Policy) -> String {
        let allowed: Vec<_> = policy.codecs.iter().map(|codec| encoding(*codec)).collect();
        let allowed = allowed.join(", ");
        if self.forbidden.is_empty() {
            format!("no offered codec can be masked; accepted here: {allowed}")
        } else {
            format!("{} is not allowed on this trunk; accepted here: {allowed}", self.forbidden.join(", "))
        }
    }
}

fn read_formats(section: &Section, policy: &Policy) -> Formats {
    let maps: SmallVec<[RtpMap<'_>; 16]> = section.attributes("rtpmap").filter_map(RtpMap::parse).collect();
    let mut formats = Formats::default();
    for pt in section.media().payload_types() {
        let map = maps.iter().find(|map| map.payload_type == pt);
        if let Some(codec) = codec_of(pt, map) {
            if !policy.codecs.contains(&codec) {
                formats.forbidden.push(encoding(codec));
            } else if !formats.audio.iter().any(|known| known.payload_type == pt) {
                formats.audio.push(Audio { payload_type: pt, codec });
                if codec == Codec::Opus && formats.opus.is_none() {
                    let said = section.attributes("fmtp").filter_map(Fmtp::parse).find(|f| f.payload_type == pt);
                    formats.opus = Some(said.map_or_else(OpusWish::default, |f| OpusWish::parse(f.parameters)));
                }
            }
        } else if let Some(map) = map {
            if map.encoding.eq_ignore_ascii_case("telephone-event") && map.clock_rate > 0 {
                let list = section.attributes("fmtp").filter_map(Fmtp::parse).find(|fmtp| fmtp.payload_type == pt);
                let keys = list.map_or(u16::MAX, |fmtp| fmtp.keys());
                if !formats.events.iter().any(|known| known.payload_type == pt) {
                    formats.events.push(Event { payload_type: pt, clock_rate: map.clock_rate, keys });
                }
            } else if map.encoding.eq_ignore_ascii_case("red") {
                formats.red = formats.red.or(Some(pt));
            }
        }
    }
    formats
}

/// The codec of a payload type: by its map, or by the static table of RFC 3551 when there is none.
fn codec_of(pt: u8, map: Option<&RtpMap<'_>>) -> Option<Codec> {
    const ALL: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];
    match map {
        Some(map) => ALL.into_iter().find(|codec| {
            // Opus is declared with two channels whatever it carries; some forget to.
            let channels = map.channels == 1 || map.channels == channels(*codec);
            map.encoding.eq_ignore_ascii_case(encoding(*codec)) && map.clock_rate == codec.clock_rate() && channels
        }),
        None => ALL.into_iter().find(|codec| fixed_type(*codec) == Some(pt)),
    }
}

/// The payload type of the static table of RFC 3551.
pub(super) const fn fixed_type(codec: Codec) -> Option<u8> {
    match codec {
        Codec::Pcmu => Some(0),
        Codec::Pcma => Some(8),
        Codec::G722 => Some(9),
        Codec::Opus => None,
    }
}

/// Channels as they are declared.
pub(super) const fn channels(codec: Codec) -> u32 {
    match codec {
        Codec::Pcmu | Codec::Pcma | Codec::G722 => 1,
        Codec::Opus => 2,
    }
}

/// The encoding name of RFC 3551 or RFC 7587.
pub(super) const fn encoding(codec: Codec) -> &'static str {
    match codec {
        Codec::Pcmu => "PCMU",
        Codec::Pcma => "PCMA",
        Codec::G722 => "G722",
        Codec::Opus => "opus",
    }
}
