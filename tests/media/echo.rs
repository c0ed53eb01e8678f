//! The customer's keys that come back from the agent's side: a hybrid, a handset, a conference or a third leg that has
//! the customer's voice by another way. While the mask is in force neither the customer's ear nor the recorder's right
//! channel may hold enough of one to recover it, whatever form it comes back in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tonewall::base::Random;
use tonewall::base::ids::Leg;
use tonewall::base::secret::Digit;
use tonewall::config::MaskKind;
use tonewall::dsp::noise::Noise;
use tonewall::media::{Command, Guard, Tap};
use tonewall::testkit::attack::{LeastSquares, decode};
use tonewall::testkit::keys::{Form, KeyPress, Sent, random_digits};
use tonewall::testkit::speech::Talker;

use crate::relay::assert_one_stream;
use crate::sim::{EVENTS, Plan, Sim, negotiated, peer_address};

/// Masked both ways, as the call orders it.
fn guarded(seed: u64) -> Plan {
    let mut plan = Plan::new(seed, Guard::Masked(MaskKind::Silence));
    plan.back = Guard::Masked(MaskKind::ComfortNoise);
    plan
}

/// A call in which the agent's side sends back what the customer said `delay` samples ago, at `gain`, with noise of its
/// own and, if it talks, a voice.
struct Echoing {
    sim: Sim,
    way: Arc<Mutex<VecDeque<i16>>>,
    taken: usize,
}

impl Echoing {
    fn new(plan: Plan, delay: usize, decibels: f64, talks: bool) -> Self {
        let seed = plan.seed;
        let mut sim = Sim::new(plan);
        let way = Arc::new(Mutex::new(VecDeque::from(vec![0i16; delay])));
        let (gain, back) = (10f64.powf(decibels / 20.0), way.clone());
        let mut noise = Noise::new(seed ^ 0xec40);
        let mut talker = Talker::new(seed, -28.0);
        let mut said = Vec::new().into_iter();
        sim.peers[1].speak(Box::new(std::iter::from_fn(move || {
            let echo = back.lock().expect("no panic while held").pop_front().unwrap_or(0);
            if talks && said.len() == 0 {
                said = talker.say(8_000).into_iter();
            }
            let own = if talks { said.next().unwrap_or(0) } else { 0 };
            let all = f64::from(echo) * gain + f64::from(noise.gaussian() * 15.0) + f64::from(own);
            Some(all.clamp(-32_768.0, 32_767.0) as i16)
        })));
        Self { sim, way, taken: 0 }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.sim.run(1);
            let said = self.sim.peers[0].spoken();
            self.way.lock().expect("no panic while held").extend(&said[self.taken..]);
            self.taken = said.len();
        }
    }

    fn key(&mut self, keys: Vec<KeyPress>, lead_ms: u32) {
        self.sim.peers[0].press(lead_ms, keys);
        self.run(20);
        while self.sim.peers[0].is_keying() {
            self.run(20);
        }
    }

    /// What the customer got, from the beginning, and where it began.
    fn customer_ear(&self) -> (Duration, Vec<i16>) {
        let streams = self.sim.heard[0].streams();
        assert_eq!(streams.len(), 1, "one SSRC for the whole call");
        (streams[0].began - self.sim.began, streams[0].samples.clone())
    }

    /// The recorder's right channel: what the customer was sent.
    fn tape(&self) -> Vec<i16> {
        self.sim.out.blocks.iter().flat_map(|(_, block)| block.iter().skip(1).step_by(2).copied()).collect()
    }
}

/// Attackers who know when each echo was to be heard. Right guesses and what a decoder reads.
fn attack(heard: &[i16], keyed: &[Sent], later: i64) -> (usize, usize) {
    let attacker = LeastSquares::new();
    let right = keyed.iter().enumerate().filter(|(n, sent)| {
        let onset = (sent.onset as i64 + later).max(0) as usize;
        attacker.guess(heard, onset, (*n % 10) as u8).key == sent.press.digit.expose_event()
    });
    (right.count(), decode(heard).len())
}

#[test]
fn no_echo_of_a_key_reaches_the_customers_ear_or_the_tape() {
    let (mut ear, mut tape, mut digits) = ((0, 0), (0, 0), 0);
    for (n, delay_ms) in [0usize, 15, 40, 80, 150, 300].into_iter().enumerate() {
        for decibels in [-6.0f64, -12.0, -20.0, -30.0] {
            let seed = 700 + n as u64 * 10 + decibels.abs() as u64;
            let mut random = <Random as rand::SeedableRng>::seed_from_u64(seed);
            let mut call = Echoing::new(guarded(seed), delay_ms * 8, decibels, false);
            call.sim.set_tap(Tap::On);
            call.run(1_200);
            call.key(random_digits(&mut random, 12, Form::Tone, 60..=120, 60..=150), 0);
            call.run(1_500);
            assert_one_stream(&call.sim, Leg::Customer);
            let keyed = call.sim.peers[0].keyed().to_vec();
            let (began, heard) = call.customer_ear();
            // 5 ms of network and a tick; the echo itself goes out one packet after it came.
            let later = delay_ms as i64 * 8 + 160 + 48 - began.as_micros() as i64 / 125;
            let found = attack(&heard, &keyed, later);
            ear = (ear.0 + found.0, ear.1 + found.1);
            let found = attack(&call.tape(), &keyed, delay_ms as i64 * 8 + 160 + 48);
            tape = (tape.0 + found.0, tape.1 + found.1);
            digits += keyed.len();
        }
    }
    eprintln!("echoes of {digits} keys, guessed right (decoded): customer's ear {ear:?}, tape {tape:?}");
    for (right, decoded) in [ear, tape] {
        assert_eq!(decoded, 0);
        assert!(right * 100 <= digits * 15, "{right} of {digits}");
    }
}

#[test]
fn the_attack_finds_the_echo_where_nothing_guards_that_way() {
    let mut random = <Random as rand::SeedableRng>::seed_from_u64(5);
    let mut call = Echoing::new(Plan::new(5, Guard::Masked(MaskKind::Silence)), 320, -12.0, false);
    call.run(1_200);
    call.key(random_digits(&mut random, 30, Form::Tone, 60..=120, 60..=150), 0);
    call.run(1_500);
    let keyed = call.sim.peers[0].keyed().to_vec();
    let (began, heard) = call.customer_ear();
    let (right, decoded) = attack(&heard, &keyed, 320 + 160 + 48 - began.as_micros() as i64 / 125);
    assert!(right >= 26 && decoded >= 26, "{right} {decoded}");
}

#[test]
fn an_echo_under_the_agents_own_voice_is_no_decoders_and_the_voice_goes_on() {
    let mut decoded = 0;
    for seed in 0..4 {
        let mut random = <Random as rand::SeedableRng>::seed_from_u64(seed);
        let mut call = Echoing::new(guarded(800 + seed), 640, -6.0, true);
        call.run(1_200);
        call.key(random_digits(&mut random, 12, Form::Tone, 80..=120, 80..=150), 0);
        call.run(1_500);
        let (_, heard) = call.customer_ear();
        decoded += decode(&heard).len();
        let spoken = call.sim.peers[1].spoken();
        let power = |s: &[i16]| s.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / s.len() as f64;
        assert!(power(&heard[heard.len() - 8_000..]) > 0.25 * power(&spoken[spoken.len() - 8_000..]));
    }
    // The decoder takes a little of any speech for keys.
    assert!(decoded <= 2, "{decoded}");
}

#[test]
fn a_key_pressed_just_before_the_mask_does_not_echo_after_it() {
    let (mut right, mut digits, mut decoded) = (0, 0, 0);
    for (n, delay_ms) in [100usize, 160, 300].into_iter().enumerate() {
        let seed = 900 + n as u64;
        let mut random = <Random as rand::SeedableRng>::seed_from_u64(seed);
        let mut call = Echoing::new(Plan::new(seed, Guard::Listen), delay_ms * 8, -6.0, false);
        call.run(1_200);
        let began_at = call.sim.now;
        let _ = began_at;
        for _ in 0..12 {
            // The key is up, or nearly, when the mask comes; its echo is still on the way.
            call.sim.peers[0].press(0, random_digits(&mut random, 1, Form::Tone, 80..=80, 0..=0));
            call.run(100);
            order_both(&mut call.sim, true);
            call.run(700);
            order_both(&mut call.sim, false);
            call.run(1_200);
        }
        let keyed = call.sim.peers[0].keyed().to_vec();
        let (began, heard) = call.customer_ear();
        let found = attack(&heard, &keyed, delay_ms as i64 * 8 + 160 + 48 - began.as_micros() as i64 / 125);
        (right, decoded) = (right + found.0, decoded + found.1);
        digits += keyed.len();
    }
    eprintln!("echoes of {digits} keys from before the mask: {right} guessed right, {decoded} decoded");
    assert_eq!(decoded, 0);
    assert!(right * 100 <= digits * 28, "{right} of {digits}: by chance once in a thousand runs");
}

fn order_both(sim: &mut Sim, masked: bool) {
    let (toward, back) = match masked {
        true => (Guard::Masked(MaskKind::Silence), Guard::Masked(MaskKind::ComfortNoise)),
        false => (Guard::Listen, Guard::Open),
    };
    sim.set_guard(toward);
    sim.order(Command::SetGuard { session: crate::sim::SESSION, from: Leg::Agent, guard: back });
}

#[test]
fn events_redundancy_and_info_that_come_back_stay_here_and_are_reported() {
    const RED: u8 = 121;
    for form in [Form::Event, Form::ToneAndEvent, Form::Info] {
        let mut sim = Sim::new(guarded(950));
        let mut random = <Random as rand::SeedableRng>::seed_from_u64(950);
        sim.run(500);
        sim.peers[1].press(100, random_digits(&mut random, 8, form, 100..=100, 80..=80));
        sim.run(3_500);
        let told: String = sim.out.digits.iter().filter(|(from, ..)| *from == Leg::Agent).map(|d| d.1).collect();
        let keyed: String = sim.peers[1].keyed().iter().map(|k| k.press.digit.expose_char()).collect();
        assert_eq!(told, keyed, "{form:?}");
        assert!(sim.heard[0].event_codes().is_empty(), "{form:?}");
        assert!(sim.heard[0].packets().iter().all(|p| p.payload_type == 0 && p.payload.len() == 160), "{form:?}");
    }
    // Redundant blocks of an event, in an audio stream that carries them.
    let mut sim = Sim::new(guarded(951));
    let mut media = negotiated(Leg::Agent, tonewall::config::Codec::Pcmu, true, 20);
    media.rx.red = Some(RED);
    sim.set_leg(Leg::Agent, media);
    sim.peers[1].set_toward(sim.now, None);
    let digit = Digit::from_char('8').expect("a key");
    for n in 0..40u32 {
        let mut bytes = vec![0x80, RED];
        bytes.extend((7_000 + n as u16).to_be_bytes());
        bytes.extend((160 * n).to_be_bytes());
        bytes.extend(0xeceu32.to_be_bytes());
        if (10..15).contains(&n) {
            bytes.extend(((1u32 << 31) | (u32::from(EVENTS) << 24) | (160 << 10) | 4).to_be_bytes());
            bytes.push(0);
            let end = if n == 14 { 0x8a } else { 0x0a };
            let [high, low] = ((n - 9) as u16 * 160).to_be_bytes();
            bytes.extend([digit.expose_event(), end, high, low]);
        } else {
            bytes.push(0);
        }
        bytes.extend([0xff; 160]);
        sim.run(20);
        sim.inject(Leg::Agent, peer_address(Leg::Agent), &bytes);
    }
    sim.run(500);
    let told: Vec<_> = sim.out.digits.iter().map(|(from, key, _)| (*from, *key)).collect();
    assert_eq!(told, [(Leg::Agent, '8')]);
    assert!(sim.heard[0].packets().iter().all(|p| p.payload_type == 0 && p.payload.len() == 160));
}
