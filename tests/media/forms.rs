//! Every form a key may travel in, as it was negotiated: each payload type and clock of telephone-event, redundancy that
//! carries events or sound, tones described instead of sent (`audio/tone`), and our own keys in the form a leg takes.

use std::time::Duration;

use tonewall::base::ids::Leg;
use tonewall::base::secret::Digit;
use tonewall::config::{Codec, MaskKind};
use tonewall::dsp::noise::Noise;
use tonewall::media::{Command, EventFormat, Guard};
use tonewall::testkit::attack::{LeastSquares, decode};
use tonewall::testkit::companding::ulaw_encode;
use tonewall::testkit::keys::frequencies;

use crate::relay::assert_one_stream;
use crate::sim::{Plan, SESSION, Sim, negotiated, peer_address};

const RED: u8 = 121;
/// Telephone-event by payload type and clock in Hz.
const FORMATS: [(u8, u32); 4] = [(101, 8_000), (102, 16_000), (103, 48_000), (96, 8_000)];

/// A customer whose packets are put together here, one each 20 ms.
struct Customer {
    sim: Sim,
    sequence: u16,
    timestamp: u32,
    noise: Noise,
    /// The samples of the packet before.
    before: Vec<u8>,
}

impl Customer {
    fn new(seed: u64, guard: Guard) -> Self {
        let mut sim = Sim::new(Plan::new(seed, guard));
        sim.peers[0].set_toward(sim.now, None);
        let mut media = negotiated(Leg::Customer, Codec::Pcmu, true, 20);
        media.rx.events = FORMATS
            .iter()
            .map(|(payload_type, clock_rate)| EventFormat { payload_type: *payload_type, clock_rate: *clock_rate })
            .collect();
        media.rx.red = Some(RED);
        sim.set_leg(Leg::Customer, media);
        Self { sim, sequence: 500, timestamp: 90_000, noise: Noise::new(seed), before: vec![0xff; 160] }
    }

    /// One packet, arriving now.
    fn send(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let mut bytes = vec![0x80, payload_type];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(0xc0ffee_u32.to_be_bytes());
        bytes.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.sim.inject(Leg::Customer, peer_address(Leg::Customer), &bytes);
    }

    fn pass(&mut self) {
        self.sim.run(20);
        self.timestamp = self.timestamp.wrapping_add(160);
    }

    fn frame(&mut self, tone: Option<(&Digit, usize)>) -> Vec<u8> {
        let noise = &mut self.noise;
        let sound = (0..160).map(|n| {
            let tone = tone.map_or(0.0, |(digit, from)| {
                let (row, column) = frequencies(digit);
                let t = (from + n) as f64 * std::f64::consts::TAU / 8_000.0;
                5_000.0 * ((row * t).sin() + (column * t).sin())
            });
            ulaw_encode((f64::from(noise.gaussian()) * 20.0 + tone) as i16)
        });
        sound.collect()
    }

    fn talk(&mut self, packets: usize) {
        for _ in 0..packets {
            self.before = self.frame(None);
            let frame = self.before.clone();
            self.send(0, self.timestamp, &frame);
            self.pass();
        }
    }

    fn digit(&mut self) -> Digit {
        Digit::from_event(self.sim.draw(0..10) as u8).expect("a key")
    }

    fn assert_nothing_left(&self, what: &str) {
        assert_one_stream(&self.sim, Leg::Agent);
        for packet in self.sim.heard[1].packets() {
            assert!(packet.payload_type == 0 && packet.payload.len() == 160, "{what}: {}", packet.payload_type);
        }
        assert!(decode(&self.sim.agent_ear().1).is_empty(), "{what}");
    }
}

fn report(event: u8, end: bool, duration: u32) -> [u8; 4] {
    let [high, low] = (duration.min(0xffff) as u16).to_be_bytes();
    [event, if end { 0x8a } else { 0x0a }, high, low]
}

#[test]
fn every_negotiated_event_type_and_clock_is_masked_and_collected_once() {
    let mut customer = Customer::new(1, Guard::Masked(MaskKind::Silence));
    let mut wanted = String::new();
    customer.talk(60);
    for round in 0..16 {
        let (payload_type, clock) = FORMATS[round % FORMATS.len()];
        let digit = customer.digit();
        wanted.push(digit.expose_char());
        let began = customer.timestamp.wrapping_mul(clock / 8_000);
        for packet in 0..5u32 {
            let (end, steps) = (packet >= 3, packet.min(3) + 1);
            customer.send(payload_type, began, &report(digit.expose_event(), end, steps * clock / 50));
            customer.pass();
        }
        customer.talk(12);
    }
    customer.talk(60);
    assert_eq!(customer.sim.collected(), wanted);
    customer.assert_nothing_left("events");
}

#[test]
fn several_events_in_one_packet_and_codes_that_are_no_keys_stay_here() {
    let mut customer = Customer::new(2, Guard::Masked(MaskKind::Silence));
    customer.talk(60);
    // Two keys in one packet, a flash, the tones of a fax, multi-frequency digits.
    let began = customer.timestamp;
    let both = [report(3, true, 800), report(9, true, 800)].concat();
    customer.send(101, began, &both);
    for code in [16u8, 32, 36, 64, 128, 133, 255] {
        customer.send(101, customer.timestamp, &report(code, true, 800));
        customer.pass();
    }
    customer.talk(60);
    assert_eq!(customer.sim.collected(), "39");
    customer.assert_nothing_left("packed events");
}

#[test]
fn redundant_events_and_redundant_sound_are_heard_and_masked() {
    let attacker = LeastSquares::new();
    let mut customer = Customer::new(3, Guard::Masked(MaskKind::ComfortNoise));
    let (mut wanted, mut keyed) = (String::new(), Vec::new());
    customer.talk(60);
    let origin = customer.timestamp - 60 * 160;
    for round in 0..24 {
        let digit = customer.digit();
        wanted.push(digit.expose_char());
        if round % 2 == 0 {
            // Sound as primary, the event as its redundant block; the event's own packets are lost.
            let began = customer.timestamp;
            for packet in 1..6u32 {
                let mut red =
                    (((1u32 << 31) | (101 << 24)) | ((customer.timestamp - began) << 10) | 4).to_be_bytes().to_vec();
                red.push(0);
                red.extend(report(digit.expose_event(), packet >= 4, packet.min(4) * 160));
                let frame = customer.frame(None);
                red.extend(frame);
                customer.send(RED, customer.timestamp, &red);
                customer.pass();
            }
        } else {
            // A tone, each packet's samples once more in the next; every other packet is lost.
            keyed.push((customer.timestamp - origin, digit.clone()));
            for packet in 0..7usize {
                let tone = (packet < 5).then_some((&digit, packet * 160));
                let frame = customer.frame(tone);
                let mut red = (((1u32 << 31) | (160 << 10)) | 160).to_be_bytes().to_vec();
                red.push(0);
                red.extend(&customer.before);
                red.extend(&frame);
                customer.before = frame;
                if packet % 2 == 1 {
                    customer.send(RED, customer.timestamp, &red);
                } else {
                    customer.sequence = customer.sequence.wrapping_add(1);
                }
                customer.pass();
            }
        }
        customer.talk(12);
    }
    customer.talk(60);
    assert_eq!(customer.sim.collected(), wanted);
    customer.assert_nothing_left("redundancy");
    let (began, heard) = customer.sim.agent_ear();
    let base = began.as_micros() as usize / 125;
    let right = keyed
        .iter()
        .filter(|(onset, digit)| attacker.guess(&heard, *onset as usize - base + 160, 0).key == digit.expose_event());
    let right = right.count();
    assert!(right <= 4, "{right} of {}", keyed.len());
}

#[test]
fn tones_that_are_described_instead_of_sent_go_nowhere() {
    for guard in [Guard::Open, Guard::Listen, Guard::Masked(MaskKind::Silence)] {
        let mut customer = Customer::new(4, guard);
        customer.talk(60);
        // RFC 4733 section 4: modulation, volume, duration, then two frequencies in Hz: the key 5.
        let described = [0, 0, 10, 0x03, 0x20, 0x03, 0x02, 0x05, 0x38];
        for _ in 0..20 {
            customer.send(97, customer.timestamp, &described);
            let mut red = ((1u32 << 31) | (97 << 24) | 9).to_be_bytes().to_vec();
            red.push(0);
            red.extend(described);
            let frame = customer.frame(None);
            red.extend(frame);
            customer.send(RED, customer.timestamp, &red);
            customer.pass();
        }
        customer.talk(60);
        customer.assert_nothing_left(&format!("{guard:?}"));
        let kept_back = customer.sim.heard[1].packets().iter().all(|p| p.payload.windows(9).all(|w| w != described));
        assert!(kept_back, "{guard:?}");
    }
}

#[test]
fn keys_of_ours_go_out_by_the_type_and_clock_each_leg_negotiated_while_the_guard_stands() {
    for (payload_type, clock_rate) in FORMATS {
        for to in [Leg::Agent, Leg::Customer] {
            let mut plan = Plan::new(u64::from(clock_rate), Guard::Masked(MaskKind::Silence));
            plan.back = Guard::Masked(MaskKind::ComfortNoise);
            let mut sim = Sim::new(plan);
            let mut media = negotiated(to, Codec::Pcmu, true, 20);
            media.tx.event = Some(EventFormat { payload_type, clock_rate });
            sim.set_leg(to, media);
            sim.run(500);
            for key in "70".chars() {
                let digit = Digit::from_char(key).expect("a key");
                sim.order(Command::SendDigit { session: SESSION, to, digit, duration_ms: 100 });
            }
            sim.run(1_500);
            let events: Vec<_> =
                sim.heard[to.index()].packets().iter().filter(|p| p.payload_type == payload_type).collect();
            let codes: Vec<u8> = events.iter().map(|p| p.payload[0]).collect();
            let mut distinct = codes.clone();
            distinct.dedup();
            assert_eq!(distinct, [7, 0], "{payload_type} {clock_rate} {to:?}");
            let longest = events.iter().map(|p| u16::from_be_bytes([p.payload[2], p.payload[3]])).max();
            assert_eq!(longest.map(u32::from), Some(clock_rate / 10), "{payload_type} {clock_rate}");
            assert_one_stream(&sim, to);
            let gaps = sim.heard[to.index()].packets().windows(2).map(|w| w[1].at - w[0].at).max().unwrap();
            assert!(gaps <= Duration::from_millis(21), "{gaps:?}");
        }
    }
}
