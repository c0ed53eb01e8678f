//! One side's media: sends a source of sound and key presses as RTP, and keeps everything that comes back. The time and
//! datagrams go in; datagrams come out. It owns no socket and no clock, and never looks at SIP.
//!
//! The sender's clock is a count of 8 kHz samples from the start of its stream. Each packet time it takes that many
//! samples from its source, lays the tones of the keys that are down over them, and sends audio, event packets or both,
//! as each key's [`Form`](super::keys::Form) says. A line of its own may lose, delay, repeat and reorder what it sends.

mod pressed;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::coding::Coder;
use super::heard::Heard;
use super::keys::{KeyPress, Sent};
use super::net::{Conditions, Datagram, Net};
use super::speech::Talker;
use crate::base::Random;
use crate::base::secret::Digit;
use crate::config::Codec;
use crate::dsp::level;
use crate::dsp::noise::Noise;
use pressed::Down;
pub use pressed::TONE_PEAK;

/// An endless (or ending, then silent) source of 8 kHz linear samples.
pub type Sound = Box<dyn Iterator<Item = i16> + Send>;

/// Digital silence without end.
pub fn silence() -> Sound {
    Box::new(std::iter::repeat(0))
}

/// Noise of `dbm0` without end: a line with somebody breathing on it, and what a lag can be found by.
pub fn hiss(seed: u64, dbm0: f32) -> Sound {
    let mut noise = Noise::new(seed);
    let rms = level::rms(dbm0);
    Box::new(std::iter::repeat_with(move || level::clamp(noise.gaussian() * rms)))
}

/// A talker without end; see [`Talker`].
pub fn voice(seed: u64, dbm0: f32) -> Sound {
    let mut talker = Talker::new(seed, dbm0);
    let mut frame = [0i16; 160];
    let mut at = frame.len();
    Box::new(std::iter::repeat_with(move || {
        if at == frame.len() {
            talker.fill(&mut frame);
            at = 0;
        }
        at += 1;
        frame[at - 1]
    }))
}

/// What a sender needs to know of the other side, from SDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toward {
    /// Where RTP goes.
    pub rtp: SocketAddr,
    /// Audio codec and payload type to send.
    pub audio: (u8, Codec),
    /// Telephone-event payload type and clock rate, when the other side takes events.
    pub events: Option<(u8, u32)>,
    /// Payload type of our own redundancy, when we declared one.
    pub red: Option<u8>,
    /// Packet time in ms.
    pub ptime_ms: u32,
    /// Whether to send at all (hold).
    pub send: bool,
}

/// Packets that may be sent late in one turn before the sender gives up catching up and moves its schedule.
const CATCH_UP: u32 = 50;

/// One side's media.
pub struct RtpPeer {
    ssrc: u32,
    sequence: u16,
    first_timestamp: u32,
    position: u64,
    toward: Option<Toward>,
    next: Option<Instant>,
    started: Option<Instant>,
    sound: Sound,
    gain: f64,
    plan: VecDeque<Down>,
    planned_until: u64,
    log: Vec<Sent>,
    spoken: Vec<i16>,
    keep_spoken: bool,
    payloads: Vec<u8>,
    sent_packets: u64,
    coder: Option<(Codec, Coder)>,
    redundant: bool,
    /// The packet before, as redundancy repeats it: payload type, timestamp, payload.
    before: Option<(u8, u32, Vec<u8>)>,
    line: Option<(Net, Conditions)>,
    lost: Vec<(u64, u64)>,
    held_up: Duration,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    infos: VecDeque<(Digit, u32)>,
    /// What came back.
    pub heard: Heard,
}

impl RtpPeer {
    /// A peer that sends nothing until it knows where to ([`RtpPeer::set_toward`]).
    pub fn new(random: &mut Random) -> Self {
        Self {
            ssrc: random.random(),
            sequence: random.random(),
            first_timestamp: random.random(),
            position: 0,
            toward: None,
            next: None,
            started: None,
            sound: silence(),
            gain: 1.0,
            plan: VecDeque::new(),
            planned_until: 0,
            log: Vec::new(),
            spoken: Vec::new(),
            keep_spoken: true,
            payloads: Vec::new(),
            sent_packets: 0,
            coder: None,
            redundant: false,
            before: None,
            line: None,
            lost: Vec::new(),
            held_up: Duration::ZERO,
            out: VecDeque::new(),
            infos: VecDeque::new(),
            heard: Heard::default(),
        }
    }

    /// Replaces what is known of the other side; the stream goes on with the same SSRC, sequence and clock.
    pub fn set_toward(&mut self, now: Instant, toward: Option<Toward>) {
        if toward.is_none() {
            self.next = None;
        } else if self.next.is_none() {
            self.next = Some(now);
            self.started.get_or_insert(now);
        }
        self.toward = toward;
    }

    /// Falls silent for good: sends nothing more, and what was planned is dropped.
    pub fn stop(&mut self) {
        self.toward = None;
        self.next = None;
        self.plan.clear();
    }

    /// Speaks `sound` from the next packet on.
    pub fn speak(&mut self, sound: Sound) {
        self.sound = sound;
    }

    /// Amplitude of keyed tones as a factor of the usual −9 dBm0 per tone.
    pub fn set_tone_gain(&mut self, gain: f64) {
        self.gain = gain;
    }

    /// Sends audio and events as RFC 2198 redundancy from now on, each packet with the one before it, where a payload
    /// type was declared for it.
    pub fn send_redundant(&mut self, redundant: bool) {
        self.redundant = redundant;
    }

    /// Puts a line before the RTP port that does `conditions` to what is sent from now on.
    pub fn set_line(&mut self, conditions: Conditions, random: Random) {
        self.line = Some((Net::new(random), conditions));
    }

    /// Stretches of the sender's clock whose audio packets the line lost.
    pub fn lost(&self) -> &[(u64, u64)] {
        &self.lost
    }

    /// The longest a packet has waited beyond its time because nobody called: how busy the machine was.
    pub fn held_up(&self) -> Duration {
        self.held_up
    }

    /// Whether to keep all samples and payloads sent, for comparison (the default). Long load runs turn it off.
    pub fn keep_spoken(&mut self, keep: bool) {
        self.keep_spoken = keep;
    }

    /// Presses keys one after the other, the first in `lead_ms` from now or when the plan so far has run out.
    pub fn press(&mut self, lead_ms: u32, keys: impl IntoIterator<Item = KeyPress>) {
        let mut at = self.planned_until.max(self.position + u64::from(lead_ms) * 8);
        for press in keys {
            let end = at + u64::from(press.down_ms) * 8;
            let next = end + u64::from(press.gap_ms) * 8;
            self.plan.push_back(Down::new(Sent { press, onset: at, end, events: [0; 2] }));
            at = next;
        }
        self.planned_until = at;
    }

    /// Whether keys are still to be pressed or sounding.
    pub fn is_keying(&self) -> bool {
        !self.plan.is_empty()
    }

    /// The sender's clock, in samples.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// When its clock began to count, once it has.
    pub fn started(&self) -> Option<Instant> {
        self.started
    }

    /// Keys pressed and done so far, in order.
    pub fn keyed(&self) -> &[Sent] {
        &self.log
    }

    /// Every sample put on the wire before encoding, tones included, on the sender's clock.
    pub fn spoken(&self) -> &[i16] {
        &self.spoken
    }

    /// Every audio payload byte sent, in order.
    pub fn sent_payload_bytes(&self) -> &[u8] {
        &self.payloads
    }

    /// RTP packets sent.
    pub fn sent_packets(&self) -> u64 {
        self.sent_packets
    }

    /// When [`RtpPeer::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let line = self.line.as_ref().and_then(|(net, _)| net.poll_timeout());
        [self.next, line].into_iter().flatten().min()
    }

    /// The next datagram to send from the RTP port.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }

    /// The next SIP INFO digit that is due: key and duration in ms.
    pub fn poll_info(&mut self) -> Option<(Digit, u32)> {
        self.infos.pop_front()
    }

    /// Sends every packet that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(toward) = self.toward.clone() {
            let ptime = Duration::from_millis(u64::from(toward.ptime_ms));
            let mut turns = 0;
            while let Some(at) = self.next.filter(|at| *at <= now) {
                // The line takes each packet at the time it should have been sent: how late we are is no jitter of its.
                self.held_up = self.held_up.max(now.saturating_duration_since(at));
                self.packet_time(at, &toward);
                turns += 1;
                let next = at + ptime;
                self.next = Some(if turns > CATCH_UP { now + ptime } else { next });
            }
        }
        if let Some((net, _)) = &mut self.line {
            while let Some(datagram) = net.receive(now) {
                self.out.push_back((datagram.to, datagram.bytes));
            }
        }
    }

    fn packet_time(&mut self, at: Instant, toward: &Toward) {
        let count = u64::from(toward.ptime_ms) * 8;
        let (from, to) = (self.position, self.position + count);
        let mut samples: Vec<i16> = (0..count).map(|_| self.sound.next().unwrap_or(0)).collect();
        let mut audio = true;
        for place in 0..self.plan.len() {
            self.plan[place].lay_tone(self.gain, from, &mut samples);
            audio &= !self.send_event(at, place, from, to, toward);
        }
        if audio && toward.send {
            let (payload_type, codec) = toward.audio;
            if self.coder.as_ref().is_none_or(|(of, _)| *of != codec) {
                self.coder = Some((codec, Coder::new(codec)));
            }
            let payload = self.coder.as_mut().map(|(_, coder)| coder.encode(&samples)).unwrap_or_default();
            if self.keep_spoken {
                self.payloads.extend_from_slice(&payload);
            }
            let marker = self.sent_packets == 0;
            if !self.push_rtp(at, toward, payload_type, marker, self.timestamp(from, codec), &payload) {
                self.lost.push((from, to));
            }
        }
        if self.keep_spoken {
            self.spoken.extend_from_slice(&samples);
        }
        self.position = to;
        for down in &mut self.plan {
            self.infos.extend(down.info_due(to));
        }
        while self.plan.front().is_some_and(|down| down.is_over(to, toward)) {
            self.log.extend(self.plan.pop_front().map(|down| down.sent));
        }
    }

    /// Sends this packet time's event packets of a planned key; tells whether they stand in for the audio packet.
    fn send_event(&mut self, at: Instant, place: usize, from: u64, to: u64, toward: &Toward) -> bool {
        let Some((payload_type, clock_rate)) = toward.events else { return false };
        let now = self.timestamp(from, toward.audio.1);
        let Some(report) = self.plan[place].event(now, from, to, clock_rate) else { return false };
        for copy in 0..report.copies {
            if toward.send {
                let marker = report.marker && copy == 0;
                let came = self.push_rtp(at, toward, payload_type, marker, report.timestamp, &report.payload);
                let counts = &mut self.plan[place].sent.events;
                counts[0] += 1;
                counts[1] += u32::from(came);
            }
        }
        report.instead
    }

    fn timestamp(&self, position: u64, codec: Codec) -> u32 {
        self.first_timestamp.wrapping_add((position as u32).wrapping_mul(Coder::steps(codec)))
    }

    /// Puts a packet on the line; `false` when it is lost there.
    fn push_rtp(
        &mut self,
        at: Instant,
        toward: &Toward,
        payload_type: u8,
        marker: bool,
        timestamp: u32,
        payload: &[u8],
    ) -> bool {
        let red = toward.red.filter(|_| self.redundant);
        let mut bytes = Vec::with_capacity(12 + 2 * payload.len() + 5);
        bytes.push(0x80);
        bytes.push(red.unwrap_or(payload_type) | if marker { 0x80 } else { 0 });
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        if red.is_some() {
            let before = self.before.replace((payload_type, timestamp, payload.to_vec()));
            bytes.extend(redundant(before.as_ref(), payload_type, timestamp));
        }
        bytes.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.sent_packets += 1;
        match &mut self.line {
            None => {
                self.out.push_back((toward.rtp, bytes));
                true
            }
            Some((net, conditions)) => net.send(at, Datagram { from: toward.rtp, to: toward.rtp, bytes }, conditions),
        }
    }
}

/// What stands before the primary payload in a redundant packet (RFC 2198 section 3): headers and the earlier block,
/// where it fits.
fn redundant(before: Option<&(u8, u32, Vec<u8>)>, payload_type: u8, timestamp: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some((earlier_type, earlier, block)) = before {
        let offset = timestamp.wrapping_sub(*earlier);
        if offset < 1 << 14 && block.len() < 1 << 10 {
            let word = (offset << 10) | block.len() as u32;
            bytes.push(0x80 | earlier_type);
            bytes.extend_from_slice(&word.to_be_bytes()[1..]);
            bytes.push(payload_type);
            bytes.extend_from_slice(block);
            return bytes;
        }
    }
    bytes.push(payload_type);
    bytes
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::testkit::heard::Packet;
    use crate::testkit::keys::{Form, typed};
    use crate::testkit::rtp_peer::pressed::END_PACKETS;
    use rand::SeedableRng;

    fn toward() -> Toward {
        Toward {
            rtp: "127.0.0.1:4000".parse().unwrap(),
            audio: (0, Codec::Pcmu),
            events: Some((101, 8_000)),
            red: Some(121),
            ptime_ms: 20,
            send: true,
        }
    }

    fn run(form: Form, ms: u64) -> (Vec<Packet>, RtpPeer) {
        run_with(form, ms, |_| {})
    }

    fn run_with(form: Form, ms: u64, change: impl FnOnce(&mut RtpPeer)) -> (Vec<Packet>, RtpPeer) {
        let t0 = Instant::now();
        let mut peer = RtpPeer::new(&mut Random::seed_from_u64(1));
        change(&mut peer);
        peer.set_toward(t0, Some(toward()));
        peer.press(100, typed("5", form, 100, 60));
        let mut packets = Vec::new();
        for elapsed in 0..ms {
            let now = t0 + Duration::from_millis(elapsed);
            peer.handle_timeout(now);
            while let Some((_, bytes)) = peer.poll_transmit() {
                packets.extend(Packet::parse(now, &bytes));
            }
        }
        (packets, peer)
    }

    #[test]
    fn a_second_of_silence_is_fifty_packets() {
        let (packets, peer) = run(Form::Tone, 1_000);
        assert_eq!(packets.len(), 50);
        assert_eq!(peer.position(), 8_000);
        assert_eq!(peer.keyed()[0].onset, 800);
        let quiet = |from: usize, to: usize| peer.spoken()[from..to].iter().all(|s| *s == 0);
        assert!(quiet(0, 800) && !quiet(801, 810) && !quiet(1_590, 1_600) && quiet(1_600, 8_000));
    }

    #[test]
    fn an_event_replaces_audio_and_ends_three_times() {
        let (packets, _) = run(Form::Event, 400);
        let events: Vec<_> = packets.iter().filter(|p| p.payload_type == 101).collect();
        assert_eq!(events.len(), 4 + END_PACKETS);
        assert!(events[0].marker && events[1..].iter().all(|p| !p.marker));
        assert!(events.iter().all(|p| p.timestamp == events[0].timestamp && p.payload[0] == 5));
        let ends: Vec<_> = events.iter().filter(|p| p.payload[1] & 0x80 != 0).collect();
        assert_eq!(ends.len(), END_PACKETS);
        assert_eq!(ends[0].payload[2..], 800u16.to_be_bytes());
        assert_eq!(packets.len() - events.len(), 20 - 5);
        assert!(packets.windows(2).all(|w| w[1].sequence == w[0].sequence.wrapping_add(1)));
    }

    #[test]
    fn a_leading_tone_is_heard_before_its_event() {
        let (packets, peer) = run(Form::ToneThenEvent { lead_ms: 40 }, 400);
        let first = packets.iter().position(|p| p.payload_type == 101).unwrap();
        assert_eq!(first, 7);
        assert!(peer.spoken()[801..1_120].iter().any(|s| *s != 0));
        assert!(peer.spoken()[1_120..].iter().all(|s| *s == 0));
    }

    #[test]
    fn tones_and_events_can_go_together() {
        let (packets, _) = run(Form::ToneAndEvent, 400);
        assert_eq!(packets.iter().filter(|p| p.payload_type == 0).count(), 20);
        assert_eq!(packets.iter().filter(|p| p.payload_type == 101).count(), 4 + END_PACKETS);
    }

    #[test]
    fn an_info_digit_is_due_when_the_key_comes_up() {
        let (packets, mut peer) = run(Form::Info, 400);
        assert!(packets.iter().all(|p| p.payload_type == 0));
        let (digit, ms) = peer.poll_info().unwrap();
        assert_eq!((digit.expose_char(), ms), ('5', 100));
        assert!(peer.poll_info().is_none());
    }

    #[test]
    fn a_late_event_begins_and_ends_behind_its_tone() {
        let (packets, peer) = run(Form::ToneAndLateEvent { lag_ms: 60 }, 400);
        let audio: Vec<_> = packets.iter().filter(|p| p.payload_type == 0).collect();
        assert_eq!(audio.len(), 20);
        let events: Vec<_> = packets.iter().filter(|p| p.payload_type == 101).collect();
        assert_eq!(events[0].timestamp.wrapping_sub(audio[0].timestamp), 160 * 8);
        assert_eq!(events.last().unwrap().payload, [5, 0x8a, 3, 32]);
        assert!(!peer.is_keying() && peer.keyed()[0].events == [7, 7]);
    }

    #[test]
    fn an_event_may_stay_without_an_end_and_an_info_may_come_first() {
        let (packets, _) = run(Form::EventWithoutEnd, 400);
        let events: Vec<_> = packets.iter().filter(|p| p.payload_type == 101).collect();
        assert!(events.len() == 5 && events.iter().all(|p| p.payload[1] & 0x80 == 0));
        let mut peer = run(Form::ToneAndInfo { offset_ms: -60 }, 60).1;
        assert_eq!(peer.poll_info().unwrap().0.expose_char(), '5');
        let mut peer = run(Form::ToneAndInfo { offset_ms: 300 }, 380).1;
        assert!(peer.poll_info().is_none() && peer.is_keying());
        assert!(run(Form::ToneAndInfo { offset_ms: 300 }, 420).1.poll_info().is_some());
    }

    #[test]
    fn redundancy_repeats_the_packet_before() {
        let (packets, _) = run_with(Form::Event, 400, |peer| peer.send_redundant(true));
        assert!(packets.iter().all(|p| p.payload_type == 121));
        let blocks = |p: &Packet| {
            let blocks = crate::rtp::red::blocks(&p.payload, p.timestamp).unwrap();
            blocks.iter().map(|b| (b.payload_type, b.timestamp, b.payload.to_vec())).collect::<Vec<_>>()
        };
        assert_eq!(blocks(&packets[0]).len(), 1);
        for pair in packets.windows(2) {
            let (first, second) = (blocks(&pair[0]), blocks(&pair[1]));
            assert_eq!(second[0], *first.last().unwrap());
        }
        assert!(packets.iter().any(|p| blocks(p).last().unwrap().0 == 101));
    }

    #[test]
    fn a_line_loses_and_delays_and_the_peer_knows_what_was_lost() {
        let bad = Conditions { loss: 0.2, jitter_ms: 30, ..Conditions::CLEAN };
        let (packets, peer) = run_with(Form::Tone, 2_000, |peer| peer.set_line(bad, Random::seed_from_u64(9)));
        let lost = peer.lost().len();
        assert!((8..35).contains(&lost), "{lost}");
        assert!(packets.len() + lost > 97 && packets.len() + lost <= 100);
        assert!(!packets.is_sorted_by_key(|p| p.timestamp.wrapping_sub(packets[0].timestamp) as i32));
    }
}
