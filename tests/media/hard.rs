//! Senders that are hard to follow: clocks that drift or jump, paths that grow longer, events that lag behind their
//! tone, redundancy that must make up for loss. Packets are put together here by hand.

use std::time::Duration;

use tonewall::base::ids::Leg;
use tonewall::base::secret::Digit;
use tonewall::config::{Codec, MaskKind};
use tonewall::dsp::noise::Noise;
use tonewall::media::Guard;
use tonewall::testkit::attack::LeastSquares;
use tonewall::testkit::companding::{ulaw_decode, ulaw_encode};
use tonewall::testkit::keys::frequencies;

use crate::relay::assert_one_stream;
use crate::sim::{EVENTS, Plan, Sim, negotiated, peer_address};

const RED: u8 = 121;

/// A customer made of single packets: (when it arrives, in µs from the beginning; the datagram).
struct Customer {
    sequence: u16,
    packets: Vec<(u64, Vec<u8>)>,
}

impl Customer {
    fn new() -> Self {
        Self { sequence: 60_000, packets: Vec::new() }
    }

    fn push(&mut self, at_us: u64, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let mut bytes = vec![0x80, payload_type];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(0x5eed_u32.to_be_bytes());
        bytes.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.packets.push((at_us, bytes));
    }

    /// Packets of 20 ms of `samples` from timestamp `first` on; packet n arrives at `at(n)`.
    fn talk(&mut self, samples: &[i16], first: u32, at: impl Fn(u64) -> u64) {
        for (n, frame) in samples.chunks_exact(160).enumerate() {
            let payload: Vec<u8> = frame.iter().map(|s| ulaw_encode(*s)).collect();
            self.push(at(n as u64), 0, first.wrapping_add(n as u32 * 160), &payload);
        }
    }

    /// Lets the packets arrive and time go on to `until_ms`.
    fn play(&mut self, sim: &mut Sim, until_ms: u64) {
        self.packets.sort_by_key(|(at, _)| *at);
        let mut packets = std::mem::take(&mut self.packets).into_iter().peekable();
        while sim.now < sim.began + Duration::from_millis(until_ms) {
            sim.run(1);
            let elapsed = (sim.now - sim.began).as_micros() as u64;
            while let Some((_, bytes)) = packets.next_if(|(at, _)| *at <= elapsed) {
                sim.inject(Leg::Customer, peer_address(Leg::Customer), &bytes);
            }
        }
    }
}

fn sim(seed: u64, guard: Guard) -> Sim {
    let mut sim = Sim::new(Plan::new(seed, guard));
    sim.peers[0].set_toward(sim.now, None);
    let mut media = negotiated(Leg::Customer, Codec::Pcmu, true, 20);
    media.rx.red = Some(RED);
    sim.set_leg(Leg::Customer, media);
    sim
}

fn hiss(seed: u64, rms: f32, samples: usize) -> Vec<i16> {
    let mut out = vec![0; samples];
    Noise::new(seed).fill(rms, &mut out);
    out
}

/// The share of `said` that is in `heard`, sample by sample, anywhere after `from`, in stretches of 20 ms.
fn share_heard(said: &[i16], heard: &[i16]) -> f64 {
    let mut at = 0;
    let (mut found, mut all) = (0, 0);
    for frame in said.chunks_exact(160) {
        all += 1;
        let frame: Vec<i16> = frame.iter().map(|s| ulaw_decode(ulaw_encode(*s))).collect();
        let near = heard.get(at..(at + 16_000).min(heard.len())).unwrap_or(&[]);
        if let Some(place) = near.windows(160).position(|w| w == frame) {
            found += 1;
            at += place + 160;
        }
    }
    f64::from(found) / f64::from(all)
}

#[test]
fn a_drifting_sender_is_followed_without_a_broken_packet() {
    for ppm in [-300i64, 300] {
        let mut sim = sim(1, Guard::Masked(MaskKind::Silence));
        let said = hiss(1, 800.0, 8_000 * 60);
        let mut customer = Customer::new();
        customer.talk(&said, 7, |n| (n as i64 * (20_000_000 + ppm * 20) / 1_000) as u64 + 50_000);
        customer.play(&mut sim, 60_000);
        let (_, heard) = sim.agent_ear();
        let share = share_heard(&said[80_000..460_000], &heard[70_000..]);
        assert!(share > 0.99, "{ppm} ppm: {share}");
        assert_one_stream(&sim, Leg::Agent);
    }
}

#[test]
fn a_path_that_grows_longer_is_heard_again_and_one_that_shrinks_too() {
    for (first, then) in [(0, 120), (0, 260), (300, 0)] {
        let mut sim = sim(2, Guard::Masked(MaskKind::Silence));
        let said = hiss(2, 800.0, 8_000 * 30);
        let mut customer = Customer::new();
        customer.talk(&said, 7, |n| n * 20_000 + 1_000 * if n < 500 { first } else { then });
        customer.play(&mut sim, 30_500);
        let (_, heard) = sim.agent_ear();
        let share = share_heard(&said[130_000..230_000], &heard[122_000..]);
        assert!(share > 0.98, "{first} ms, then {then} ms: {share}");
        assert_one_stream(&sim, Leg::Agent);
    }
}

#[test]
fn after_a_long_pause_the_guard_and_the_line_work_at_once() {
    for pause_s in [1u64, 10, 45] {
        let mut sim = sim(3, Guard::Listen);
        let said = hiss(3, 800.0, 8_000 * 10);
        let mut customer = Customer::new();
        // The clock of the sender stands still while it is silent.
        customer.talk(&said, 7, |n| n * 20_000 + if n < 200 { 0 } else { pause_s * 1_000_000 });
        let guarded_at = 4_000 + pause_s * 1_000 - 300;
        let later: Vec<_> = customer.packets.iter().filter(|(at, _)| *at > guarded_at * 1_000).cloned().collect();
        customer.packets.retain(|(at, _)| *at <= guarded_at * 1_000);
        customer.play(&mut sim, guarded_at);
        sim.set_guard(Guard::Masked(MaskKind::Silence));
        customer.packets = later;
        customer.play(&mut sim, 10_500 + pause_s * 1_000);
        let (_, heard) = sim.agent_ear();
        let share = share_heard(&said[36_000..76_000], &heard[30_000..]);
        let all = share_heard(&said[36_000..76_000], &heard[heard.len() - 60_000..]);
        assert!(share.max(all) > 0.98, "{pause_s} s: {share} {all}");
        assert_one_stream(&sim, Leg::Agent);
    }
}

/// Lays a key's tones over `samples`.
fn tone(samples: &mut [i16], digit: &Digit) {
    let (row, column) = frequencies(digit);
    for (n, sample) in samples.iter_mut().enumerate() {
        let t = n as f64 * std::f64::consts::TAU / 8_000.0;
        *sample = (f64::from(*sample) + 5_000.0 * ((row * t).sin() + (column * t).sin())) as i16;
    }
}

fn event(digit: &Digit, end: bool, duration: u32) -> [u8; 4] {
    let [high, low] = (duration.min(0xffff) as u16).to_be_bytes();
    [digit.expose_event(), if end { 0x8a } else { 0x0a }, high, low]
}

#[test]
fn an_event_that_lags_behind_its_tone_leaks_nothing_and_counts_once() {
    let attacker = LeastSquares::new();
    let (mut right, mut digits) = (0, 0);
    for lag_ms in [0u64, 20, 40, 60, 80, 100] {
        let mut sim = sim(lag_ms, Guard::Masked(MaskKind::ComfortNoise));
        let mut said = hiss(lag_ms + 1, 30.0, 8_000 * 16);
        let mut customer = Customer::new();
        let mut keys = Vec::new();
        let mut wanted = String::new();
        for n in 0..30u64 {
            let digit = Digit::from_event(sim.draw(0..10) as u8).expect("a key");
            let onset = 16_000 + n as usize * 3_360 + sim.draw(0..160) as usize;
            tone(&mut said[onset..onset + 640], &digit);
            wanted.push(digit.expose_char());
            let began = onset as u64 / 160 * 160 + lag_ms * 8;
            for packet in 0..6u64 {
                let (end, duration) = (packet >= 3, (packet.min(3) + 1) * 160);
                let at = (began / 160 + packet.min(4)) * 20_000 + 300 + packet;
                customer.push(at, EVENTS, 7 + began as u32, &event(&digit, end, duration as u32));
            }
            keys.push((onset, digit));
        }
        // By arrival, so that sequence numbers are in the order of sending.
        let mut whole = Customer::new();
        customer.talk(&said, 7, |n| n * 20_000);
        customer.packets.sort_by_key(|(at, _)| *at);
        for (at, bytes) in customer.packets {
            let timestamp = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            whole.push(at, bytes[1], timestamp, &bytes[12..]);
        }
        whole.play(&mut sim, 16_500);
        assert_eq!(sim.collected(), wanted, "lag {lag_ms} ms");
        let (began, heard) = sim.agent_ear();
        for (onset, digit) in keys {
            let base = began.as_micros() as usize / 125;
            digits += 1;
            right += usize::from(attacker.guess(&heard, onset - base, 0).key == digit.expose_event());
        }
    }
    assert!(right * 100 <= digits * 16, "{right} of {digits}");
}

#[test]
fn events_in_redundant_payloads_count_once_though_half_the_packets_are_lost() {
    let mut sim = sim(9, Guard::Masked(MaskKind::Silence));
    let mut customer = Customer::new();
    let mut wanted = String::new();
    let mut before: Option<(u32, [u8; 4])> = None;
    for n in 0..20u32 {
        let digit = Digit::from_event(sim.draw(0..10) as u8).expect("a key");
        wanted.push(digit.expose_char());
        let began = 8_000 + n * 2_400;
        for packet in 0..8u32 {
            let payload = event(&digit, packet >= 5, (packet.min(5) + 1) * 160);
            let mut red = Vec::new();
            if let Some((timestamp, last)) = before {
                let offset = began - timestamp;
                red.extend(((1u32 << 31) | (u32::from(EVENTS) << 24) | (offset << 10) | 4).to_be_bytes());
                red.push(EVENTS);
                red.extend(last);
            } else {
                red.push(EVENTS);
            }
            red.extend(payload);
            before = Some((began, payload));
            if packet == 7 {
                // Too far back for the offset's 14 bits once the next key begins.
                before = None;
            }
            let at = u64::from(began / 160 + packet) * 20_000;
            customer.push(at, RED, began, &red);
            if (n + packet) % 2 == 0 {
                customer.packets.pop();
            }
        }
    }
    customer.play(&mut sim, 10_000);
    assert_eq!(sim.collected(), wanted);
    assert!(sim.heard[1].event_codes().is_empty());
}
