//! One leg of a session, the side that receives and reports: strict source, one synchronisation source at a time with
//! probation for a new one, payload types, RTCP. Datagrams go in; a verdict with the packet's place comes out. It keeps
//! no audio but one packet on probation.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::api::{LegMedia, LegStats};
use super::latch::Latch;
use super::secure::Secure;
use super::ticks::Ticks;
use crate::base::Random;
use crate::config::{Codec, Network};
use crate::guard::{Arrival, Masked, Sink, Stream, report};
use crate::rtp::rtcp::{self, CNAME_LEN, Cname, LastReport, Sending};
use crate::rtp::sequence::{Source, Verdict};
use crate::rtp::{MAX_DATAGRAM, View};

/// Comfort noise in the static table of RFC 3551.
const COMFORT_NOISE: u8 = 13;
/// Mean interval of our reports (RFC 3550 section 6.2).
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// A source silent for this long gives way to a new one without probation.
const STALE: Duration = Duration::from_millis(500);

/// What a payload type means on a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Audio(Codec),
    /// Telephone-event at a clock rate in Hz.
    Event(u32),
    Redundant,
    ComfortNoise,
    Unknown,
}

/// Who a datagram's source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The peer, by the signalled or the learnt address.
    Peer,
    /// Perhaps the peer, if what it sends is good: addresses are being learnt.
    Candidate,
    /// Anybody.
    Foreign,
}

/// What to do with a packet.
pub(super) enum Accepted {
    No,
    /// Take it.
    Yes(Arrival),
    /// A new source has proved itself: take the packet kept on probation, then this one.
    Both(Arrival, Arrival),
}

/// A first packet of a new source, kept until its second.
struct Probation {
    ssrc: u32,
    sequence: u16,
    length: usize,
    bytes: [u8; MAX_DATAGRAM],
}

pub(super) struct LegSide {
    pub(super) media: LegMedia,
    pub(super) secure: Secure,
    latch: Latch,
    allowed: Vec<Network>,
    source: Option<Source>,
    generation: u32,
    last_arrival: Option<Instant>,
    probation: Box<Probation>,
    on_probation: bool,
    ticks: Ticks,
    pub(super) stats: LegStats,
    /// Losses of sources that are gone.
    lost_before: u64,
    cname: Cname,
    next_report: Option<Instant>,
    sender_report: Option<(u32, u32, Instant)>,
}

impl LegSide {
    pub(super) fn new(allowed: Vec<Network>, random: &mut Random) -> Self {
        let mut cname = [0; CNAME_LEN];
        for byte in &mut cname {
            *byte = b"0123456789abcdef"[random.random_range(0..16)];
        }
        Self {
            media: LegMedia::idle(),
            secure: Secure::default(),
            latch: Latch::Settled,
            allowed,
            source: None,
            generation: 0,
            last_arrival: None,
            probation: Box::new(Probation { ssrc: 0, sequence: 0, length: 0, bytes: [0; MAX_DATAGRAM] }),
            on_probation: false,
            ticks: Ticks::new(),
            stats: LegStats::default(),
            lost_before: 0,
            cname,
            next_report: None,
            sender_report: None,
        }
    }

    pub(super) fn set(&mut self, now: Instant, media: LegMedia) {
        if media.remote_rtp != self.media.remote_rtp {
            // Another sender: what was on probation is not its.
            self.on_probation = false;
        }
        if media.remote_rtp != self.media.remote_rtp || media.latch != self.media.latch {
            let learn = media.latch && media.remote_rtp.is_some();
            self.latch = if learn { Latch::begin() } else { Latch::Settled };
        }
        self.secure.set(now, &media.security);
        self.media = media;
    }

    /// The leg's trunk is another: its networks count from now on, and nothing learnt in the former ones does.
    pub(super) fn set_allowed(&mut self, networks: Vec<Network>) {
        if networks != self.allowed {
            self.allowed = networks;
            self.latch = Latch::Settled;
        }
    }

    /// Where RTP goes, if it may.
    pub(super) fn rtp_to(&self) -> Option<SocketAddr> {
        self.latch.learnt().or(self.media.remote_rtp).filter(|to| self.may(to))
    }

    /// Where RTCP goes, if it may.
    pub(super) fn rtcp_to(&self) -> Option<SocketAddr> {
        let learnt = self.latch.learnt().filter(|_| self.media.rtcp_mux);
        learnt.or(self.media.remote_rtcp).filter(|to| self.may(to))
    }

    fn may(&self, address: &SocketAddr) -> bool {
        self.allowed.iter().any(|network| network.contains(address.ip()))
    }

    /// What the peer takes, as the guard needs it.
    pub(super) fn sink(&self) -> Sink {
        let tx = &self.media.tx;
        Sink {
            audio: tx.audio.iter().take(4).map(|f| (f.codec, f.payload_type)).collect(),
            event: tx.event.map(|f| (f.payload_type, f.clock_rate)),
            ptime_ms: tx.ptime_ms,
            opus_bitrate: tx.opus_bitrate,
            comfort_noise: tx.comfort_noise,
            open: self.media.send && self.rtp_to().is_some() && !tx.audio.is_empty(),
        }
    }

    /// What a payload type means here.
    pub(super) fn kind(&self, payload_type: u8) -> Kind {
        let rx = &self.media.rx;
        if let Some(format) = rx.audio.iter().find(|f| f.payload_type == payload_type) {
            Kind::Audio(format.codec)
        } else if let Some(format) = rx.events.iter().find(|f| f.payload_type == payload_type) {
            Kind::Event(format.clock_rate)
        } else if rx.red == Some(payload_type) {
            Kind::Redundant
        } else if rx.comfort_noise.unwrap_or(COMFORT_NOISE) == payload_type {
            Kind::ComfortNoise
        } else {
            Kind::Unknown
        }
    }

    /// Who a datagram's source is; a foreign one is counted.
    pub(super) fn origin(&mut self, source: SocketAddr) -> Origin {
        if self.is_signalled(source) || self.latch.learnt().is_some_and(|learnt| same(learnt, source)) {
            Origin::Peer
        } else if self.latch.is_learning() && self.may(&source) && source.port() >= 1_024 {
            Origin::Candidate
        } else {
            self.stats.foreign += 1;
            Origin::Foreign
        }
    }

    /// Whether a datagram comes from where the peer's description says.
    pub(super) fn is_signalled(&self, source: SocketAddr) -> bool {
        self.media.remote_rtp.is_some_and(|to| same(to, source) && self.may(&to))
    }

    /// Learns from a good packet where the peer is; whether it is the peer's.
    pub(super) fn is_from_peer(&mut self, source: SocketAddr, view: &View<'_>) -> bool {
        let signalled = self.is_signalled(source);
        // What nobody agreed on teaches nothing.
        let teaches = !self.latch.is_learning() || signalled || self.kind(view.payload_type()) != Kind::Unknown;
        let known = teaches && self.latch.hear(source, signalled, view.ssrc());
        self.stats.foreign += u64::from(!known);
        known
    }

    /// Judges a packet of the right address by its source and number. A new source beside a living one must show two
    /// packets in a row with none of the old one between (RFC 3550 appendix A.1): a stray one changes nothing.
    pub(super) fn accept(&mut self, came: Instant, view: &View<'_>, bytes: &[u8]) -> Accepted {
        let (ssrc, sequence) = (view.ssrc(), view.sequence());
        let stale = self.last_arrival.is_none_or(|at| came.saturating_duration_since(at) > STALE);
        if let Some(source) = self.source.as_mut().filter(|source| source.ssrc() == ssrc) {
            let number = match source.handle(sequence) {
                Verdict::Take(number) => number,
                Verdict::Restarted(number) => {
                    self.generation += 1;
                    self.ticks.restart();
                    number
                }
                Verdict::Duplicate | Verdict::Jump => return Accepted::No,
            };
            self.on_probation = false;
            return Accepted::Yes(self.took(came, view, number));
        }
        if self.source.is_none() || stale {
            let number = self.begin(ssrc, sequence);
            return Accepted::Yes(self.took(came, view, number));
        }
        let kept = &mut self.probation;
        if self.on_probation && kept.ssrc == ssrc && kept.sequence.wrapping_add(1) == sequence {
            let first = kept.sequence;
            let number = self.begin(ssrc, first);
            let Ok(earlier) = View::parse(&self.probation.bytes[..self.probation.length]) else { return Accepted::No };
            let (kind, timestamp, marker) = (self.kind(earlier.payload_type()), earlier.timestamp(), earlier.marker());
            let earlier = self.arrival(came, kind, number, timestamp, marker);
            self.stats.received += 1;
            if let Some(source) = &mut self.source {
                source.handle(sequence);
            }
            return Accepted::Both(earlier, self.took(came, view, number + 1));
        }
        let Some(room) = kept.bytes.get_mut(..bytes.len()) else { return Accepted::No };
        room.copy_from_slice(bytes);
        (kept.ssrc, kept.sequence, kept.length) = (ssrc, sequence, bytes.len());
        self.on_probation = true;
        Accepted::No
    }

    /// The packet that was on probation, out of the way of what follows.
    pub(super) fn kept(&self) -> ([u8; MAX_DATAGRAM], usize) {
        (self.probation.bytes, self.probation.length)
    }

    fn begin(&mut self, ssrc: u32, sequence: u16) -> u64 {
        self.lost_before += self.source.as_ref().map_or(0, Source::lost);
        let (source, number) = Source::new(ssrc, sequence);
        self.source = Some(source);
        self.ticks.restart();
        self.generation += 1;
        self.on_probation = false;
        number
    }

    fn took(&mut self, came: Instant, view: &View<'_>, number: u64) -> Arrival {
        self.last_arrival = Some(came);
        self.stats.received += 1;
        let kind = self.kind(view.payload_type());
        if let (Some(source), Kind::Audio(codec)) = (&mut self.source, kind) {
            source.arrived(came, view.timestamp(), codec.clock_rate());
        }
        self.arrival(came, kind, number, view.timestamp(), view.marker())
    }

    fn arrival(&mut self, came: Instant, kind: Kind, number: u64, timestamp: u32, marker: bool) -> Arrival {
        let (at, in_step) = match kind {
            Kind::Audio(codec) => {
                if self.ticks.set_clock(codec.clock_rate()) {
                    // To all that count samples it is another source.
                    self.generation += 1;
                }
                (self.ticks.take(timestamp), true)
            }
            Kind::Event(clock) if !self.ticks.is_in_step(clock) => (timestamp, false),
            Kind::Event(_) | Kind::Redundant | Kind::ComfortNoise | Kind::Unknown => (self.ticks.at(timestamp), true),
        };
        Arrival { came, generation: self.generation, number, timestamp, at, in_step, marker }
    }

    /// The place of a redundant packet, by the payload type and timestamp of its own block: sound in it counts by its
    /// codec's clock and is what later packets are counted from, as sound by itself is.
    pub(super) fn unpacked(&mut self, arrival: &Arrival, own: Option<(u8, u32)>) -> Arrival {
        match own.map(|(payload_type, timestamp)| (self.kind(payload_type), timestamp)) {
            Some((kind @ Kind::Audio(_), timestamp)) => {
                self.arrival(arrival.came, kind, arrival.number, timestamp, arrival.marker)
            }
            _ => *arrival,
        }
    }

    /// The place of a block of `kind` within a redundant packet that arrived at `arrival`.
    pub(super) fn block(&self, kind: Kind, timestamp: u32, arrival: &Arrival) -> Arrival {
        let in_step = !matches!(kind, Kind::Event(clock) if !self.ticks.is_in_step(clock));
        let at = if in_step { self.ticks.at(timestamp) } else { timestamp };
        Arrival { timestamp, at, in_step, ..*arrival }
    }

    /// Counters with the losses of all sources.
    pub(super) fn totals(&self) -> LegStats {
        let lost = self.lost_before + self.source.as_ref().map_or(0, Source::lost);
        LegStats { lost, ..self.stats }
    }

    /// Takes RTCP of the peer, opened first where it is encrypted: only its sender report is of use, and nothing of it goes
    /// any further (threats R5).
    pub(super) fn handle_rtcp(&mut self, now: Instant, source: SocketAddr, bytes: &[u8]) {
        if !self.rtcp_to().is_some_and(|to| same(to, source)) {
            self.stats.foreign += 1;
            return;
        }
        if !self.secure.is_on() {
            return self.read_rtcp(now, bytes);
        }
        if let Some((room, length)) = self.secure.open(bytes, true, &mut self.stats) {
            self.read_rtcp(now, &room[..length]);
            self.secure.give_back(room);
        }
    }

    fn read_rtcp(&mut self, now: Instant, bytes: &[u8]) {
        match rtcp::parse(bytes) {
            Ok(incoming) => {
                if let Some((ssrc, lsr)) = incoming.sender {
                    self.sender_report = Some((ssrc, lsr, now));
                }
            }
            Err(_) => self.stats.malformed += 1,
        }
    }

    /// When the next report of ours is due.
    pub(super) fn report_due(&self) -> Option<Instant> {
        self.next_report
    }

    /// Begins reporting once there is somewhere to report to.
    pub(super) fn schedule_report(&mut self, now: Instant, random: &mut Random) {
        if self.rtcp_to().is_none() {
            self.next_report = None;
        } else if self.next_report.is_none() {
            self.next_report = Some(now + spread(random));
        }
    }

    /// Sends our report about both directions: `stream` is what this leg is sent.
    pub(super) fn report(
        &mut self,
        now: Instant,
        since_start: Duration,
        stream: &Stream,
        bye: bool,
        random: &mut Random,
        out: impl FnOnce(SocketAddr, Masked<&[u8]>),
    ) {
        self.next_report = Some(now + spread(random));
        let Some(to) = self.rtcp_to() else { return };
        let sending = stream.clock(now).map(|rtp_time| {
            let (packets, octets) = stream.sent();
            Sending { ntp: rtcp::ntp(since_start), rtp_time, packets, octets }
        });
        let sender_report = self.sender_report;
        let reception = self.source.as_mut().map(|source| {
            let last = sender_report.filter(|(ssrc, ..)| *ssrc == source.ssrc()).map_or_else(
                LastReport::default,
                |(_, lsr, at)| {
                    let since = now.saturating_duration_since(at);
                    LastReport { lsr, dlsr: (rtcp::ntp(since) >> 16) as u32 }
                },
            );
            (source.report(), last)
        });
        let Self { cname, secure, .. } = self;
        report(stream.ssrc(), cname, sending, reception, bye, |packet| {
            if let Some(packet) = secure.seal(packet, true) {
                out(to, packet);
            }
        });
    }
}

/// Whether two addresses are one, an IPv4 address written as IPv6 included.
fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
}

/// Half to one and a half mean intervals (RFC 3550 section 6.3.1).
fn spread(random: &mut Random) -> Duration {
    REPORT_EVERY.mul_f64(random.random_range(0.5..1.5))
}
