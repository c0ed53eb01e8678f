//! Our side of one leg's session: writes our offers and answers, reads the peer's answers, and keeps what must stay
//! the same over the life of the leg: session id, version, `m=` count and order, payload type numbers.
//!
//! ```text
//!            offer()                      accept() (again for each fork's answer)
//!   Quiet ───────────────► Offered ─────────────────────────────────► Offered, media agreed
//!     ▲                       │ withdraw() (offer refused: 4xx, 488, 491)
//!     └───────────────────────┘
//!   answer(peer's offer) ──► Quiet, media agreed      (again when the other leg's answer changes)
//! ```

mod fax;
mod print;

use std::net::SocketAddr;

use rand::RngExt;
use smallvec::SmallVec;

use super::fax::Fax;
use super::formats::{Audio, Event, Media, Receive, Transmit};
use super::peer::{COMFORT_NOISE, Peer, fixed_type, read_section};
use super::policy::Policy;
use super::refusal::Refusal;
use super::security::{self, DtlsMedia, OwnKeys, Printed, SrtpMedia};
use crate::base::Random;
use crate::base::key::MediaKey;
use crate::config::{Codec, Srtp, SrtpKeying, SrtpSuite};
use crate::sdp::attr::fingerprint::Fingerprint;
use crate::sdp::attr::fmtp::OpusWish;
use crate::sdp::attr::ptime;
use crate::sdp::attr::setup::Setup;
use crate::sdp::{Direction, MediaLine, Session};

/// The number most give to Opus.
const OPUS_TYPE: u8 = 111;

/// What to offer on a leg.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The other leg's peer, from its offer or answer; `None` to offer all the trunk allows (late offer).
    pub other: Option<&'a Peer>,
    /// Offer telephone-event though the other leg's peer has none (star codes; digits we generate).
    pub keep_events: bool,
}

/// A meaning a payload type has on this leg, for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Audio(Codec),
    Event(u32),
    Red,
    ComfortNoise,
}

/// What one of our descriptions says of the stream in use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    chosen: usize,
    layout: Vec<MediaLine>,
    /// Transport of a stream that is offered afresh.
    protocol: &'static str,
    /// Our keys by tag.
    keys: SmallVec<[(u32, SrtpSuite); 3]>,
    /// Our certificate, and who begins.
    dtls: Option<(Fingerprint, Setup)>,
    rtcp_mux: bool,
    audio: SmallVec<[Audio; 4]>,
    events: SmallVec<[Event; 2]>,
    ptime_ms: u8,
    maxptime_ms: Option<u8>,
    /// What we ask of an Opus sender, where Opus is among the codecs.
    opus: OpusWish,
    comfort_noise: Option<u8>,
    /// What the other side says of codecs that cannot be masked.
    parameters: Vec<(Codec, String)>,
    /// The stream is fax, and no audio.
    fax: Option<Fax>,
    direction: Direction,
}

/// Our side of one leg's session.
#[derive(Debug, Clone)]
pub struct LegSession {
    local: SocketAddr,
    id: u64,
    version: u64,
    keys: OwnKeys,
    printed: Option<Printed>,
    /// `m=` lines as last agreed or offered, and the one in use.
    layout: Vec<MediaLine>,
    chosen: usize,
    meanings: Vec<(u8, Meaning)>,
    offered: Option<Declared>,
    media: Option<Media>,
}

impl LegSession {
    /// A leg whose media we take on `local` (the advertised address and the RTP port; RTCP is on the next one).
    pub fn new(random: &mut Random, local: SocketAddr) -> Self {
        Self {
            local,
            id: random.random::<u64>() >> 2,
            version: 0,
            keys: OwnKeys::new(random),
            printed: None,
            layout: Vec::new(),
            chosen: 0,
            meanings: Vec::new(),
            offered: None,
            media: None,
        }
    }

    /// The leg's media is taken elsewhere from now on, in another media session: session id, version, places of streams and
    /// numbers go on, our keys are new, and nothing is agreed until the peer has answered the next offer.
    pub fn relocate(&mut self, random: &mut Random, local: SocketAddr) {
        self.local = local;
        self.keys = OwnKeys::new(random);
        self.offered = None;
        self.media = None;
    }

    /// What was agreed last; a refused offer leaves it standing.
    pub fn media(&self) -> Option<&Media> {
        self.media.as_ref()
    }

    /// Whether an offer of ours waits for its answer (glare: RFC 3261 section 14.1).
    pub fn is_offering(&self) -> bool {
        self.offered.is_some()
    }

    /// Writes our offer: what the other leg's peer has, in the trunk's order; where they have nothing in common, all the
    /// trunk allows, since every codec we take can be made of every other.
    pub fn offer(&mut self, ask: Ask<'_>, policy: &Policy) -> Result<Session, Refusal> {
        if let Some((other, fax)) = ask.other.and_then(|peer| peer.fax.as_ref().map(|fax| (peer, fax))) {
            return self.offer_fax(other, fax, policy);
        }
        let wanted = |codec: &Codec| ask.other.is_none_or(|peer| peer.audio.iter().any(|audio| audio.codec == *codec));
        let mut codecs: SmallVec<[Codec; 4]> = policy.codecs.iter().copied().filter(wanted).collect();
        // What cannot be masked comes last, if it may come at all.
        let others = ask.other.iter().flat_map(|peer| &peer.audio).map(|audio| audio.codec);
        codecs.extend(others.filter(|codec| !codec.can_be_masked() && policy.allows(*codec)));
        if codecs.is_empty() {
            codecs = policy.codecs.iter().copied().collect();
        }
        let mut taken: SmallVec<[u8; 8]> = SmallVec::new();
        let mut audio: SmallVec<[Audio; 4]> = SmallVec::new();
        for codec in codecs {
            let theirs = ask.other.and_then(|peer| peer.audio.iter().find(|audio| audio.codec == codec));
            let theirs = theirs.map(|audio| audio.payload_type).filter(|pt| *pt >= 96);
            let wish = fixed_type(codec).or(theirs).or((codec == Codec::Opus).then_some(OPUS_TYPE));
            let payload_type = self.number(Meaning::Audio(codec), wish, &taken);
            taken.push(payload_type);
            audio.push(Audio { payload_type, codec });
        }
        let mut events: SmallVec<[Event; 2]> = SmallVec::new();
        if policy.events && (ask.keep_events || ask.other.is_none_or(Peer::has_events)) {
            // One for each clock there is among the codecs (RFC 4733 section 2.1).
            for clock_rate in clocks(&audio) {
                let theirs = ask.other.and_then(|peer| peer.events.iter().find(|event| event.clock_rate == clock_rate));
                let wish = theirs.map(|event| event.payload_type).filter(|pt| *pt >= 96);
                let payload_type = self.number(Meaning::Event(clock_rate), wish, &taken);
                taken.push(payload_type);
                events.push(Event { payload_type, clock_rate, keys: u16::MAX });
            }
        }
        let in_force = self.media.as_ref();
        // What is in force stands: a change of anything else must not change it.
        let secure = match (policy.srtp, in_force) {
            (Srtp::Off, _) => false,
            (Srtp::Optional, Some(media)) => media.srtp.is_some() || media.dtls.is_some(),
            (Srtp::Optional, None) | (Srtp::Required, _) => true,
        };
        let suites: &[SrtpSuite] = match in_force.and_then(|media| media.srtp.as_ref()) {
            _ if !secure || policy.keying != SrtpKeying::Sdes => &[],
            Some(srtp) => std::slice::from_ref(&srtp.suite),
            None => &policy.suites,
        };
        let ours = policy.fingerprint.filter(|_| secure && policy.keying == SrtpKeying::Dtls);
        if ours.is_none() && policy.srtp == Srtp::Required && policy.keying == SrtpKeying::Dtls {
            return Err(Refusal::not_acceptable(302, "no certificate of ours is there to encrypt media by"));
        }
        let declared = Declared {
            chosen: self.chosen,
            layout: self.layout.clone(),
            protocol: security::protocol(policy),
            keys: (1..).zip(suites.iter().copied()).collect(),
            dtls: ours.map(|fingerprint| (fingerprint, Setup::ActPass)),
            // One handshake serves one port: RTCP has to share it.
            rtcp_mux: ours.is_some() || in_force.map_or(policy.rtcp_mux, |media| media.rtcp_mux),
            audio,
            events,
            ptime_ms: ask.other.and_then(|peer| peer.ptime_ms).unwrap_or(policy.ptime_ms),
            maxptime_ms: ask.other.and_then(|peer| peer.maxptime_ms),
            opus: wish_of(ask.other),
            comfort_noise: ask.other.and_then(|peer| peer.comfort_noise).map(|_| COMFORT_NOISE),
            parameters: ask.other.map(|peer| peer.parameters.clone()).unwrap_or_default(),
            fax: None,
            direction: ask.other.map(|peer| peer.direction).unwrap_or_default(),
        };
        let session = self.print(&declared);
        self.offered = Some(declared);
        Ok(session)
    }

    /// Reads the peer's answer to our last offer. May be called again for a further answer (forking, an answer in a
    /// 18x and again in the 200). A refusal leaves the former agreement standing; the caller ends the call or the
    /// re-negotiation.
    pub fn accept(&mut self, answer: &Session, policy: &Policy) -> Result<(Peer, Media), Refusal> {
        let Some(offer) = self.offered.clone() else {
            return Err(Refusal::not_acceptable(399, "an answer came to no offer"));
        };
        if offer.fax.is_some() {
            return self.accept_fax(answer, &offer, policy);
        }
        let mut peer = read_section(answer, offer.chosen, policy)?;
        peer.audio.retain(|audio| offer.audio.iter().any(|ours| ours.codec == audio.codec));
        if peer.audio.is_empty() {
            return Err(Refusal::not_acceptable(305, "the answer takes none of the offered codecs"));
        }
        let dtls = match peer.security.dtls.filter(|_| offer.dtls.is_some()) {
            Some((_, Setup::ActPass)) => {
                return Err(Refusal::not_acceptable(302, "an answer says a=setup:active or passive"));
            }
            Some((theirs, setup)) => Some(self.handshake_with(theirs, setup == Setup::Passive)),
            None => None,
        };
        let keys = match peer.security.keys.iter().find(|theirs| offer.keys.contains(&(theirs.tag, theirs.suite))) {
            None if !peer.security.keys.is_empty() => {
                return Err(Refusal::not_acceptable(302, "the answer takes none of the offered keys"));
            }
            None if !offer.keys.is_empty()
                && let Some(fault) = peer.security.unusable =>
            {
                return Err(Refusal::not_acceptable(302, format!("the answer's key cannot be used: {fault}")));
            }
            None if dtls.is_none() && self.line(&offer).is_secure_rtp() => {
                return Err(Refusal::not_acceptable(302, "encrypted media was offered and the answer has no key"));
            }
            None => None,
            Some(theirs) => Some(self.keys_with(theirs.suite, &theirs.key)),
        };
        if peer.rtcp_mux && !offer.rtcp_mux {
            (peer.rtcp_mux, peer.rtcp) = (false, None);
        }
        self.layout = offer.layout.clone();
        if self.layout.len() <= offer.chosen {
            self.layout = vec![self.line(&offer)];
        }
        self.chosen = offer.chosen;
        self.remember_ours(&offer);
        self.remember_theirs(&peer, false);
        let answered = peer.direction.and(offer.direction.reversed());
        let event = if offer.events.is_empty() { None } else { best_event(&peer, &peer.audio) };
        let mut media = self.agree(&peer, peer.audio.clone(), answered, event, (keys, dtls, policy));
        media.tx.comfort_noise = peer.comfort_noise.filter(|_| offer.comfort_noise.is_some());
        self.media = Some(media.clone());
        Ok((peer, media))
    }

    /// Forgets our last offer: it was refused, or its transaction failed.
    pub fn withdraw(&mut self) {
        self.offered = None;
    }

    /// Writes our answer to the peer's offer `peer`, given what the other leg's peer accepted (`None`: answer from the
    /// trunk's policy alone). With `keep_events`, telephone-event is accepted even where the other leg has none, which
    /// is how a guarded customer's keys come as events that can be withheld, not as tones. May be called again when
    /// the other leg's answer changes.
    pub fn answer(
        &mut self,
        peer: &Peer,
        other: Option<&Peer>,
        keep_events: bool,
        policy: &Policy,
    ) -> Result<(Session, Media), Refusal> {
        if peer.fax.is_some() {
            return self.answer_fax(peer, other, policy);
        }
        let there = |codec: Codec| other.is_none_or(|other| other.audio.iter().any(|audio| audio.codec == codec));
        let mut audio: SmallVec<[Audio; 4]> = SmallVec::new();
        for codec in policy.codecs.iter().copied().filter(|codec| there(*codec)) {
            audio.extend(peer.audio.iter().copied().find(|audio| audio.codec == codec));
        }
        audio.extend(peer.audio.iter().copied().filter(|audio| {
            !audio.codec.can_be_masked() && policy.allows(audio.codec) && other.is_some() && there(audio.codec)
        }));
        if audio.is_empty() && other.is_none_or(|other| other.audio.iter().any(|audio| audio.codec.can_be_masked())) {
            // Nothing in common: what comes is coded anew. One codec, so that nothing changes on the way.
            let ours = policy.codecs.iter().find_map(|codec| peer.audio.iter().find(|audio| audio.codec == *codec));
            audio.extend(ours.copied());
        }
        if audio.is_empty() {
            return Err(Refusal::not_acceptable(305, "no offered codec is accepted where the call goes"));
        }
        if let Some(lead) = other.and_then(|other| audio.iter().position(|ours| ours.codec == other.audio[0].codec)) {
            audio[..=lead].rotate_right(1);
        }
        let mut events = SmallVec::new();
        if policy.events && (keep_events || other.is_none_or(Peer::has_events)) {
            events.extend(best_event(peer, &audio));
        }
        let wish = other.map(|other| other.direction).unwrap_or_default();
        let mut layout = peer.layout.clone();
        for (index, line) in layout.iter_mut().enumerate() {
            if index != peer.chosen {
                line.port = 0;
            }
        }
        let in_force = self.media.as_ref().and_then(|media| media.srtp.as_ref()).map(|srtp| srtp.suite);
        let theirs = in_force.into_iter().chain(policy.suites.iter().copied());
        let theirs = theirs.filter_map(|suite| peer.security.keys.iter().find(|theirs| theirs.suite == suite)).next();
        let keys = theirs.map(|theirs| self.keys_with(theirs.suite, &theirs.key));
        let dtls = peer.security.dtls.map(|(theirs, setup)| {
            let now = self.media.as_ref().and_then(|media| media.dtls.as_ref()).map(|dtls| dtls.active);
            let active = match setup {
                Setup::Active => false,
                Setup::Passive => true,
                Setup::ActPass => now.unwrap_or(true),
            };
            self.handshake_with(theirs, active)
        });
        let role = |dtls: &DtlsMedia| if dtls.active { Setup::Active } else { Setup::Passive };
        let declared = Declared {
            chosen: peer.chosen,
            layout,
            protocol: security::protocol(policy),
            keys: theirs.map(|theirs| (theirs.tag, theirs.suite)).into_iter().collect(),
            dtls: policy.fingerprint.zip(dtls.as_ref().map(role)),
            rtcp_mux: peer.rtcp_mux,
            audio,
            events,
            ptime_ms: other.and_then(|other| other.ptime_ms).unwrap_or(policy.ptime_ms),
            maxptime_ms: other.and_then(|other| other.maxptime_ms),
            opus: wish_of(other),
            comfort_noise: peer.comfort_noise.filter(|_| other.is_some_and(|other| other.comfort_noise.is_some())),
            parameters: other.map(|other| other.parameters.clone()).unwrap_or_default(),
            fax: None,
            direction: peer.direction.answered(wish),
        };
        self.offered = None;
        self.layout = declared.layout.clone();
        self.chosen = declared.chosen;
        self.remember_theirs(peer, true);
        let session = self.print(&declared);
        let event = declared.events.first().copied();
        let comfort_noise = declared.comfort_noise;
        let mut media = self.agree(peer, declared.audio, declared.direction.reversed(), event, (keys, dtls, policy));
        media.tx.comfort_noise = comfort_noise;
        self.media = Some(media.clone());
        Ok((session, media))
    }

    /// The agreement: `sent` by the peer's numbers, `flow` as the peer sees it.
    fn agree(
        &self,
        peer: &Peer,
        sent: SmallVec<[Audio; 4]>,
        flow: Direction,
        event: Option<Event>,
        (srtp, dtls, policy): (Option<SrtpMedia>, Option<DtlsMedia>, &Policy),
    ) -> Media {
        let mut rx = Receive::default();
        for (payload_type, meaning) in &self.meanings {
            match *meaning {
                Meaning::Audio(codec) => rx.audio.push(Audio { payload_type: *payload_type, codec }),
                Meaning::Event(clock_rate) => {
                    rx.events.push(Event { payload_type: *payload_type, clock_rate, keys: u16::MAX });
                }
                Meaning::ComfortNoise => rx.comfort_noise = Some(*payload_type),
                Meaning::Red => rx.red = rx.red.or(Some(*payload_type)),
            }
        }
        let longest = peer.maxptime_ms.unwrap_or(ptime::MAX_MS);
        Media {
            remote_rtp: peer.rtp,
            remote_rtcp: peer.rtcp.filter(|_| dtls.is_none() || peer.rtcp_mux),
            send: flow.receives() && peer.rtp.is_some(),
            receive: flow.sends(),
            rx,
            tx: Transmit {
                audio: sent,
                event,
                ptime_ms: peer.ptime_ms.unwrap_or(policy.ptime_ms).min(longest),
                comfort_noise: None,
                opus_bitrate: peer.opus.and_then(|wish| wish.max_bitrate).unwrap_or(0),
            },
            srtp,
            dtls,
            rtcp_mux: peer.rtcp_mux,
            latch: policy.latch,
            fax: false,
        }
    }

    /// The peer's key and ours of the same suite.
    fn keys_with(&self, suite: SrtpSuite, theirs: &MediaKey) -> SrtpMedia {
        SrtpMedia { suite, rx: theirs.clone(), tx: self.keys.of(suite), peering: self.id }
    }

    fn handshake_with(&self, fingerprint: Fingerprint, active: bool) -> DtlsMedia {
        DtlsMedia { fingerprint, active, peering: self.id }
    }

    /// The number we declare for a meaning: the one it has on this leg, else `wish`, else the first free of the
    /// dynamic range from 101.
    fn number(&self, meaning: Meaning, wish: Option<u8>, taken: &[u8]) -> u8 {
        let free = |pt: &u8| {
            !taken.contains(pt) && !self.meanings.iter().any(|(known, other)| known == pt && *other != meaning)
        };
        let had = self.meanings.iter().rev().find(|(_, known)| *known == meaning).map(|(pt, _)| *pt);
        had.or(wish).into_iter().chain(101..=127).chain(96..=100).find(free).unwrap_or(101)
    }

    fn remember_ours(&mut self, declared: &Declared) {
        for audio in &declared.audio {
            self.remember(audio.payload_type, Meaning::Audio(audio.codec), true);
        }
        for event in &declared.events {
            self.remember(event.payload_type, Meaning::Event(event.clock_rate), true);
        }
        if let Some(noise) = declared.comfort_noise {
            self.remember(noise, Meaning::ComfortNoise, true);
        }
    }

    /// Notes the peer's numbers. With `offerer`, they rule; in an answer, our own numbers do, and the peer's are only
    /// added because many peers send by them.
    fn remember_theirs(&mut self, peer: &Peer, offerer: bool) {
        for audio in &peer.audio {
            self.remember(audio.payload_type, Meaning::Audio(audio.codec), offerer);
        }
        for event in &peer.events {
            self.remember(event.payload_type, Meaning::Event(event.clock_rate), offerer);
        }
        if let Some(red) = peer.red {
            self.remember(red, Meaning::Red, offerer);
        }
        if let Some(noise) = peer.comfort_noise {
            self.remember(noise, Meaning::ComfortNoise, offerer);
        }
    }

    /// A meaning noted last is preferred for our next offers.
    fn remember(&mut self, payload_type: u8, meaning: Meaning, rules: bool) {
        match self.meanings.iter().position(|(known, _)| *known == payload_type) {
            Some(_) if !rules => {}
            Some(at) => {
                self.meanings.remove(at);
                self.meanings.push((payload_type, meaning));
            }
            None if rules => self.meanings.push((payload_type, meaning)),
            None => self.meanings.insert(0, (payload_type, meaning)),
        }
    }
}

/// The event format to answer with and to send by: at the clock of the leading codec where there is one (RFC 4733
/// section 2.1), else at 8 kHz, else any.
fn best_event(peer: &Peer, audio: &[Audio]) -> Option<Event> {
    let lead = audio.first().map_or(8_000, |audio| audio.codec.clock_rate());
    let at = |clock_rate: u32| peer.events.iter().find(move |event| event.clock_rate == clock_rate);
    at(lead).or_else(|| at(8_000)).or(peer.events.first()).copied()
}

/// Every clock rate of the codecs, once.
fn clocks(audio: &[Audio]) -> SmallVec<[u32; 2]> {
    let mut clocks = SmallVec::new();
    for audio in audio {
        if !clocks.contains(&audio.codec.clock_rate()) {
            clocks.push(audio.codec.clock_rate());
        }
    }
    clocks
}

/// What we ask of a sender of Opus: what the receiver beyond us wants. Where we are the receiver, sound up to 8 kHz.
fn wish_of(other: Option<&Peer>) -> OpusWish {
    other.and_then(|peer| peer.opus).unwrap_or(OpusWish { max_playback_rate: 16_000, ..OpusWish::default() })
}
