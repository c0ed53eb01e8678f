//! A peer's description as facts: which stream is used, where it is, what it can do. Reading judges by the trunk's
//! policy and refuses with a reason.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::address::check_address;
use super::fax::{self, Fax};
use super::formats::{Audio, Event};
use super::policy::Policy;
use super::refusal::Refusal;
use super::security::{self, Offered};
use crate::config::{Codec, Foreign, Unmaskable};
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
    /// Codecs that the trunk allows, in the peer's order, those that cannot be masked last. Empty only for fax.
    pub audio: SmallVec<[Audio; 4]>,
    /// Telephone-event numbers at every clock rate, in the peer's order.
    pub events: SmallVec<[Event; 2]>,
    /// RFC 2198 redundancy number.
    pub red: Option<u8>,
    /// Comfort noise (RFC 3389) number, at 8 kHz.
    pub comfort_noise: Option<u8>,
    /// Parameters of the codecs that cannot be masked.
    pub(super) parameters: Vec<(Codec, String)>,
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
    /// The stream is fax, in place of the audio.
    pub(super) fax: Option<Fax>,
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
/// section that is not switched off. Fax is looked at only where no audio is offered.
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
    match first {
        Some(refusal) => Err(refusal),
        None => fax::read_offer(offer, policy).unwrap_or_else(|| Err(refuse(304, "no audio stream is offered"))),
    }
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
    let mut formats = read_formats(section, policy);
    if let Some(Audio { codec, .. }) = formats.foreign.first().filter(|_| policy.unmaskable == Unmaskable::Refuse) {
        return Err(refuse(305, format!("{} cannot be masked and is refused here", codec.name())));
    }
    if policy.unmaskable == Unmaskable::Pass {
        let foreign = std::mem::take(&mut formats.foreign);
        formats.audio.extend(foreign);
    }
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
        comfort_noise: formats.comfort_noise,
        parameters: formats.parameters,
        opus: formats.opus,
        ptime_ms: attribute("ptime", ptime::parse),
        maxptime_ms: attribute("maxptime", maxptime::parse),
        rtcp_mux,
        security,
        fax: None,
        chosen: index,
        layout: session.sections().iter().map(|section| section.media().clone()).collect(),
    })
}

/// 488 with a Warning code.
pub(super) fn refuse(warning: u16, reason: impl Into<String>) -> Refusal {
    Refusal::not_acceptable(warning, reason)
}

pub(super) fn read_addresses(
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
    comfort_noise: Option<u8>,
    /// Those that cannot be masked, and their parameters.
    foreign: SmallVec<[Audio; 2]>,
    parameters: Vec<(Codec, String)>,
    /// Codecs that could be masked but that the trunk does not allow.
    forbidden: Vec<Codec>,
}

impl Formats {
    fn take_foreign(&mut self, section: &Section, pt: u8, map: Option<&RtpMap<'_>>) {
        let Some(codec) = foreign(pt, map).filter(|codec| !self.foreign.iter().any(|known| known.codec == *codec))
        else {
            return;
        };
        let said = section.attributes("fmtp").filter_map(Fmtp::parse).find(|fmtp| fmtp.payload_type == pt);
        match said.map(|said| harmless(said.parameters)) {
            None => {}
            Some(Some(parameters)) => self.parameters.push((codec, parameters)),
            // Without them it would be another format.
            Some(None) => return,
        }
        self.foreign.push(Audio { payload_type: pt, codec });
    }

    fn complaint(&self, policy: &Policy) -> String {
        let names = |codecs: &[Codec]| codecs.iter().map(Codec::name).collect::<Vec<_>>().join(", ");
        let allowed = names(&policy.codecs);
        if self.forbidden.is_empty() {
            format!("no offered codec can be masked; accepted here: {allowed}")
        } else {
            format!("{} is not allowed on this trunk; accepted here: {allowed}", names(&self.forbidden))
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
                formats.forbidden.push(codec);
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
            } else if map.encoding.eq_ignore_ascii_case("CN") {
                let usual = map.clock_rate == 8_000 && map.channels == 1;
                formats.comfort_noise = formats.comfort_noise.or(usual.then_some(pt));
            } else {
                formats.take_foreign(section, pt, Some(map));
            }
        } else if pt == COMFORT_NOISE {
            formats.comfort_noise = formats.comfort_noise.or(Some(pt));
        } else {
            formats.take_foreign(section, pt, None);
        }
    }
    formats
}

/// Comfort noise in the static table of RFC 3551.
pub(super) const COMFORT_NOISE: u8 = 13;

/// The codec of a payload type: by its map, or by the static table of RFC 3551 when there is none.
fn codec_of(pt: u8, map: Option<&RtpMap<'_>>) -> Option<Codec> {
    const ALL: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];
    match map {
        Some(map) => ALL.into_iter().find(|codec| {
            // Opus is declared with two channels whatever it carries; some forget to.
            let channels = map.channels == 1 || map.channels == codec.channels();
            map.encoding.eq_ignore_ascii_case(codec.name()) && map.clock_rate == codec.clock_rate() && channels
        }),
        None => ALL.into_iter().find(|codec| fixed_type(*codec) == Some(pt)),
    }
}

/// The payload type of the static table of RFC 3551.
pub(super) fn fixed_type(codec: Codec) -> Option<u8> {
    match codec {
        Codec::Pcmu => Some(0),
        Codec::Pcma => Some(8),
        Codec::G722 => Some(9),
        Codec::Opus => None,
        Codec::Foreign(_) => FIXED.iter().find(|(_, name)| *name == codec.name()).map(|(pt, _)| *pt),
    }
}

/// Codecs of the static table that cannot be masked, all of one channel at 8 kHz.
const FIXED: [(u8, &str); 5] = [(3, "GSM"), (4, "G723"), (7, "LPC"), (15, "G728"), (18, "G729")];

/// A codec that is known by name only.
fn foreign(pt: u8, map: Option<&RtpMap<'_>>) -> Option<Codec> {
    let foreign = match map {
        Some(map) => Foreign::new(map.encoding, map.clock_rate, map.channels)?,
        None => Foreign::new(FIXED.iter().find(|(fixed, _)| *fixed == pt)?.1, 8_000, 1)?,
    };
    Some(Codec::Foreign(foreign))
}

/// Parameters that may be told to the other side: printable, and no more than anybody needs.
fn harmless(parameters: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " =;:,.-+/_%*".contains(c);
    (parameters.len() <= 200 && parameters.chars().all(plain)).then(|| parameters.to_owned())
}
