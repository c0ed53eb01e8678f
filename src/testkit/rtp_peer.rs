//! One side's media: sends a source of sound and key presses as RTP, and keeps everything that comes back. The time and
//! datagrams go in; datagrams come out. It owns no socket and no clock, and never looks at SIP.
//!
//! The sender's clock is a count of 8 kHz samples from the start of its stream. Each packet time it takes that many
//! samples from its source, lays the tones of the keys that are down over them, and sends audio, event packets or both,
//! as each key's [`Form`] says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::companding as g711;
use super::heard::Heard;
use super::keys::{Form, KeyPress, Sent, frequencies};
use super::speech::Talker;
use crate::base::Random;
use crate::base::secret::Digit;
use crate::config::Codec;
use crate::dsp::level;
use crate::dsp::noise::Noise;

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
    /// Packet time in ms.
    pub ptime_ms: u32,
    /// Whether to send at all (hold).
    pub send: bool,
}

/// Level of one tone of a pair: peak amplitude −9 dBm0 or so, as telephones send.
const TONE_PEAK: f64 = 5_200.0;
/// How many times the last event packet is sent (RFC 4733 section 2.5.1.4).
const END_PACKETS: usize = 3;
/// Packets that may be sent late in one turn before the sender gives up catching up and moves its schedule.
const CATCH_UP: u32 = 50;

struct Down {
    sent: Sent,
    event: Option<EventRun>,
    info_due: bool,
}

struct EventRun {
    timestamp: u32,
    from: u64,
    started: bool,
    done: bool,
}

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
            let info_due = press.form == Form::Info;
            self.plan.push_back(Down { sent: Sent { press, onset: at, end }, event: None, info_due });
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
        self.next
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
        let Some(toward) = self.toward.clone() else { return };
        let ptime = Duration::from_millis(u64::from(toward.ptime_ms));
        let mut turns = 0;
        while let Some(at) = self.next.filter(|at| *at <= now) {
            self.packet_time(&toward);
            turns += 1;
            let next = at + ptime;
            self.next = Some(if turns > CATCH_UP { now + ptime } else { next });
        }
    }

    fn packet_time(&mut self, toward: &Toward) {
        let count = u64::from(toward.ptime_ms) * 8;
        let (from, to) = (self.position, self.position + count);
        let mut samples: Vec<i16> = (0..count).map(|_| self.sound.next().unwrap_or(0)).collect();
        let mut audio = true;
        for at in 0..self.plan.len() {
            self.lay_tone(at, from, &mut samples);
            audio &= !self.send_event(at, from, to, toward);
        }
        if audio && toward.send {
            let payload: Vec<u8> = samples
                .iter()
                .map(|s| match toward.audio.1 {
                    Codec::Pcmu => g711::ulaw_encode(*s),
                    Codec::Pcma => g711::alaw_encode(*s),
                })
                .collect();
            if self.keep_spoken {
                self.payloads.extend_from_slice(&payload);
            }
            let marker = self.sent_packets == 0;
            self.push_rtp(toward, toward.audio.0, marker, self.timestamp(from), &payload);
        }
        if self.keep_spoken {
            self.spoken.extend_from_slice(&samples);
        }
        self.position = to;
        while self.plan.front().is_some_and(|down| down.sent.end <= to) {
            let Some(down) = self.plan.pop_front() else { break };
            if down.info_due {
                self.infos.push_back((down.sent.press.digit.clone(), down.sent.press.down_ms));
            }
            self.log.push(down.sent);
        }
    }

    /// Lays the tone of a planned key over the samples from `from`, where its form has one.
    fn lay_tone(&self, at: usize, from: u64, samples: &mut [i16]) {
        let sent = &self.plan[at].sent;
        let end = match sent.press.form {
            Form::Tone | Form::ToneAndEvent => sent.end,
            Form::ToneThenEvent { lead_ms } => sent.end.min(sent.onset + u64::from(lead_ms) * 8),
            Form::Event | Form::Info => return,
        };
        let (row, column) = frequencies(&sent.press.digit);
        for (place, sample) in samples.iter_mut().enumerate() {
            let clock = from + place as u64;
            if clock < sent.onset || clock >= end {
                continue;
            }
            let t = (clock - sent.onset) as f64 * std::f64::consts::TAU / 8_000.0;
            let tone = TONE_PEAK * self.gain * ((row * t).sin() + (column * t).sin());
            *sample = (f64::from(*sample) + tone).clamp(-32_768.0, 32_767.0) as i16;
        }
    }

    /// Sends this packet time's event packets of a planned key; tells whether they stand in for the audio packet.
    fn send_event(&mut self, at: usize, from: u64, to: u64, toward: &Toward) -> bool {
        let Some((payload_type, clock_rate)) = toward.events else { return false };
        let Down { sent, event, .. } = &mut self.plan[at];
        let (begins, instead) = match sent.press.form {
            Form::Event => (sent.onset, true),
            Form::ToneThenEvent { lead_ms } => (sent.onset + u64::from(lead_ms) * 8, true),
            Form::ToneAndEvent => (sent.onset, false),
            Form::Tone | Form::Info => return false,
        };
        // An event starts with the packet in which its key went down, and no sooner than its lead has sounded.
        if to <= begins || begins >= sent.end || (from < begins && instead && sent.press.form != Form::Event) {
            return false;
        }
        let timestamp = self.first_timestamp.wrapping_add(from as u32);
        let run = event.get_or_insert(EventRun { timestamp, from, started: false, done: false });
        if run.done {
            return false;
        }
        let last = sent.end <= to;
        let samples = if last { sent.end.max(run.from + 1) - run.from } else { to - run.from };
        let duration = (samples * u64::from(clock_rate) / 8_000).min(0xffff) as u16;
        let (marker, timestamp) = (!run.started, run.timestamp);
        run.started = true;
        run.done = last;
        let code = sent.press.digit.expose_event();
        let [high, low] = duration.to_be_bytes();
        let payload = [code, if last { 0x8a } else { 0x0a }, high, low];
        for copy in 0..if last { END_PACKETS } else { 1 } {
            if toward.send {
                self.push_rtp(toward, payload_type, marker && copy == 0, timestamp, &payload);
            }
        }
        instead
    }

    fn timestamp(&self, position: u64) -> u32 {
        self.first_timestamp.wrapping_add(position as u32)
    }

    fn push_rtp(&mut self, toward: &Toward, payload_type: u8, marker: bool, timestamp: u32, payload: &[u8]) {
        let mut bytes = Vec::with_capacity(12 + payload.len());
        bytes.push(0x80);
        bytes.push(payload_type | if marker { 0x80 } else { 0 });
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.sent_packets += 1;
        self.out.push_back((toward.rtp, bytes));
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::testkit::heard::Packet;
    use crate::testkit::keys::typed;
    use rand::SeedableRng;

    fn toward() -> Toward {
        Toward {
            rtp: "127.0.0.1:4000".parse().unwrap(),
            audio: (0, Codec::Pcmu),
            events: Some((101, 8_000)),
            ptime_ms: 20,
            send: true,
        }
    }

    fn run(form: Form, ms: u64) -> (Vec<Packet>, RtpPeer) {
        let t0 = Instant::now();
        let mut peer = RtpPeer::new(&mut Random::seed_from_u64(1));
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
}
