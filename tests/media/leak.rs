//! The leak, at the media room's own door: whatever form a key travels in, whatever the mask, an attacker who knows
//! when each key went down learns nothing from what the agent got, and each key is collected once.

use tonewall::base::ids::Leg;
use tonewall::config::{Codec, MaskKind};
use tonewall::media::Guard;
use tonewall::testkit::attack::{LeastSquares, decode};
use tonewall::testkit::keys::{Form, Sent, random_digits};
use tonewall::testkit::net::Conditions;
use tonewall::testkit::rtp_peer::Sound;
use tonewall::testkit::speech::Talker;

use crate::relay::assert_one_stream;
use crate::sim::{EVENTS, Plan, Sim, negotiated, type_of};

const MASKS: [MaskKind; 4] = [MaskKind::Silence, MaskKind::ComfortNoise, MaskKind::Tone, MaskKind::Substitute];
const FORMS: [Form; 5] = [Form::Tone, Form::Event, Form::ToneAndEvent, Form::ToneThenEvent { lead_ms: 40 }, Form::Info];

/// Speech at a telephone's level.
pub fn speech(seed: u64, dbm0: f32) -> Sound {
    let mut talker = Talker::new(seed, dbm0);
    let mut said = Vec::new().into_iter();
    Box::new(std::iter::from_fn(move || {
        if said.len() == 0 {
            said = talker.say(8_000).into_iter();
        }
        said.next()
    }))
}

/// A quiet room: noise at −55 dBm0.
pub fn room(seed: u64) -> Sound {
    let mut noise = tonewall::dsp::noise::Noise::new(seed);
    Box::new(std::iter::from_fn(move || Some((noise.gaussian() * 28.0) as i16)))
}

/// What an attacker makes of a call.
#[derive(Default, Debug, Clone, Copy)]
pub struct Score {
    pub digits: usize,
    pub right: usize,
    /// Digits that a decoder reads where keys were pressed. What it reads in speech elsewhere is its own mistake.
    pub decoded: usize,
}

/// How far around a press a decoder's reading belongs to it, in samples: before it, and with the guard's delay behind it.
const AROUND: [i64; 2] = [240, 800];

impl Score {
    pub fn add(&mut self, other: Score) {
        self.digits += other.digits;
        self.right += other.right;
        self.decoded += other.decoded;
    }

    /// Prints and returns the share of digits guessed right.
    pub fn report(&self, what: &str) -> f64 {
        let n = self.digits.max(1) as f64;
        let share = self.right as f64 / n;
        let bound = share + 1.645 * (share.max(0.1) * 0.9 / n).sqrt();
        let percent = share * 100.0;
        eprintln!("{what}: {} of {} = {percent:.1} % (95 % bound {:.1} %)", self.right, self.digits, bound * 100.0);
        share
    }
}

/// Attacks what the agent heard. `keyed` are the keys as they were sent; the sender's sample 0 left as the run began.
pub fn attack(sim: &Sim, keyed: &[Sent], attacker: &LeastSquares) -> Score {
    let (began, heard) = sim.agent_ear();
    let base = began.as_micros() as i64 / 125;
    let pressed = |at: usize| {
        let at = at as i64 + base;
        keyed.iter().any(|key| (key.onset as i64 - AROUND[0]..key.end as i64 + AROUND[1]).contains(&at))
    };
    let decoded = decode(&heard).iter().filter(|(at, _)| pressed(*at)).count();
    let mut score = Score { digits: keyed.len(), decoded, ..Score::default() };
    for (n, sent) in keyed.iter().enumerate() {
        let key = sent.press.digit.expose_event();
        // Network and tick: 2 ms. The guard's delay lies within the stretch the attacker looks at.
        let onset = (sent.onset as i64 + 16 - base).max(0) as usize;
        let guess = attacker.guess(&heard, onset, (n % 10) as u8);
        score.right += usize::from(guess.key == key);
    }
    score
}

/// One call: talk, key `count` digits, talk on. Returns the run for inspection.
pub fn keyed_call(plan: Plan, form: Form, count: usize, sound: Sound, gain: f64) -> Sim {
    let mut random = <tonewall::base::Random as rand::SeedableRng>::seed_from_u64(plan.seed);
    let mut sim = Sim::new(plan);
    sim.peers[0].speak(sound);
    sim.peers[0].set_tone_gain(gain);
    let keys = random_digits(&mut random, count, form, 50..=120, 60..=150);
    sim.peers[0].press(1_500, keys);
    sim.run(1_500);
    while sim.peers[0].is_keying() {
        sim.run(100);
    }
    sim.run(2_000);
    sim
}

pub fn keyed(sim: &Sim) -> Vec<Sent> {
    sim.peers[0].keyed().to_vec()
}

/// Whether `wanted` can be read in `told` from left to right.
pub fn is_within(wanted: &str, told: &str) -> bool {
    let mut told = told.chars();
    wanted.chars().all(|key| told.any(|other| other == key))
}

pub fn keys_of(sent: &[Sent]) -> String {
    sent.iter().map(|s| s.press.digit.expose_char()).collect()
}

/// The agent's packets: constant size, type and spacing, one event at most for all keys.
pub fn assert_even(sim: &Sim, substitute: bool) {
    let packets = sim.heard[1].packets();
    assert_one_stream(sim, Leg::Agent);
    for packet in packets {
        if substitute && packet.payload_type == EVENTS {
            assert_eq!(packet.payload[0], 0, "the sign is the same event for every key");
        } else {
            assert_eq!(packet.payload.len(), usize::from(sim.plan.ptime_ms) * 8);
            assert_eq!(packet.payload_type, packets[0].payload_type);
        }
    }
    for pair in packets.windows(2) {
        let gap = (pair[1].at - pair[0].at).as_millis() as i64;
        assert!((gap - i64::from(sim.plan.ptime_ms)).abs() <= 1, "{gap} ms between two packets");
    }
}

#[test]
fn no_mask_form_or_law_leaks_and_each_key_is_collected_once() {
    let attacker = LeastSquares::new();
    let mut seed = 100;
    let mut total = Score::default();
    for codec in [Codec::Pcmu, Codec::Pcma] {
        for mask in MASKS {
            let mut score = Score::default();
            for form in FORMS {
                for speaks in [false, true] {
                    seed += 1;
                    let mut plan = Plan::new(seed, Guard::Masked(mask));
                    plan.codec = [codec; 2];
                    let sound = if speaks { speech(seed, -26.0) } else { room(seed) };
                    let sim = keyed_call(plan, form, 16, sound, 1.0);
                    let sent = keyed(&sim);
                    // Talk-off is the detector's matter; here no press may be lost, and none be counted twice.
                    let (told, wanted) = (sim.collected(), keys_of(&sent));
                    let most = wanted.len() + usize::from(speaks);
                    assert!(told.len() <= most && is_within(&wanted, &told), "{seed} {form:?}: {told} for {wanted}");
                    assert!(sim.out.digits.iter().all(|(.., masked)| *masked));
                    assert_even(&sim, mask == MaskKind::Substitute);
                    score.add(attack(&sim, &sent, &attacker));
                }
            }
            assert_eq!(score.decoded, 0, "{codec:?} {mask:?} {score:?}");
            total.add(score);
        }
    }
    let share = total.report("attacker");
    assert!(share <= 0.12, "{total:?}");
}

/// A line that loses, delays, repeats and reorders, as the network's seed says.
pub fn line(loss: f64, jitter_ms: u32, reorder: f64) -> Conditions {
    Conditions { delay_ms: 5, jitter_ms, loss, burst: 1.0, duplicate: loss / 2.0, reorder }
}

#[test]
fn nothing_leaks_on_a_poor_line_and_cadence_holds() {
    let attacker = LeastSquares::new();
    let mut total = Score::default();
    let mut collected = (0, 0);
    for (n, (loss, jitter, reorder)) in
        [(0.01, 0, 0.0), (0.05, 0, 0.0), (0.0, 15, 0.0), (0.0, 60, 0.0), (0.02, 30, 0.05), (0.10, 25, 0.05)]
            .iter()
            .enumerate()
    {
        for form in FORMS {
            for mask in [MaskKind::Silence, MaskKind::Tone] {
                let seed = 1_000 + 100 * n as u64 + FORMS.iter().position(|f| *f == form).unwrap() as u64;
                let mut plan = Plan::new(seed, Guard::Masked(mask));
                plan.network = line(*loss, *jitter, *reorder);
                let sim = keyed_call(plan, form, 16, room(seed), 1.0);
                let sent = keyed(&sim);
                assert_even(&sim, false);
                let score = attack(&sim, &sent, &attacker);
                let wanted = keys_of(&sent);
                collected.0 += usize::from(sim.collected() == wanted);
                collected.1 += 1;
                total.add(score);
            }
        }
    }
    let share = total.report("attacker");
    eprintln!("collected whole: {} of {} calls", collected.0, collected.1);
    assert!(collected.0 * 100 >= collected.1 * 95);
    assert!(share <= 0.12, "{total:?}");
    assert_eq!(total.decoded, 0);
}

/// Keys tones of several levels, and what gateways do besides.
#[test]
fn quiet_loud_and_short_keys_do_not_leak() {
    let attacker = LeastSquares::new();
    let mut total = Score::default();
    for (n, gain) in [3.0, 1.0, 0.3, 0.1, 0.05].into_iter().enumerate() {
        for ptime_ms in [10, 20, 30, 60] {
            for (down, sound) in [(40, 0.0), (100, -26.0)] {
                let seed = 2_000 + n as u64 * 10 + u64::from(ptime_ms);
                let mut plan = Plan::new(seed, Guard::Masked(MaskKind::ComfortNoise));
                plan.ptime_ms = ptime_ms;
                let mut random = <tonewall::base::Random as rand::SeedableRng>::seed_from_u64(seed);
                let mut sim = Sim::new(plan);
                sim.peers[0].speak(if sound < 0.0 { room(seed) } else { tonewall::testkit::rtp_peer::silence() });
                sim.peers[0].set_tone_gain(gain);
                sim.peers[0].press(1_500, random_digits(&mut random, 16, Form::Tone, down..=down, 40..=100));
                sim.run(1_500);
                while sim.peers[0].is_keying() {
                    sim.run(100);
                }
                sim.run(1_000);
                let sent = keyed(&sim);
                assert_even(&sim, false);
                let score = attack(&sim, &sent, &attacker);
                if sim.collected() != keys_of(&sent) || score.right > 4 {
                    eprintln!(
                        "gain {gain} ptime {ptime_ms} down {down}: {score:?} {} {}",
                        sim.collected(),
                        keys_of(&sent)
                    );
                }
                total.add(score);
            }
        }
    }
    let share = total.report("attacker");
    assert!(share <= 0.12, "{total:?}");
}

/// The attack works: unguarded, it recovers what is keyed.
#[test]
fn the_attacker_recovers_every_unguarded_tone() {
    let attacker = LeastSquares::new();
    let sim = keyed_call(Plan::new(3_000, Guard::Listen), Form::Tone, 32, room(1), 1.0);
    let sent = keyed(&sim);
    let score = attack(&sim, &sent, &attacker);
    assert!(score.right >= 26 && score.decoded >= 31, "{score:?}");
    assert_eq!(sim.collected(), keys_of(&sent));
    assert!(sim.out.digits.iter().all(|(.., masked)| !masked));
}

#[test]
fn a_hold_released_while_a_digit_sounds_lets_nothing_of_it_out() {
    let attacker = LeastSquares::new();
    let mut total = Score::default();
    for form in FORMS {
        for (n, sound) in ["room", "speech"].into_iter().enumerate() {
            let seed = 4_000 + 10 * n as u64 + FORMS.iter().position(|f| *f == form).unwrap() as u64;
            let mut plan = Plan::new(seed, Guard::Listen);
            plan.network = line(0.01, 5, 0.0);
            let mut sim = Sim::new(plan);
            sim.peers[0].speak(if sound == "room" { room(seed) } else { speech(seed, -30.0) });
            sim.run(1_000);
            let mut random = <tonewall::base::Random as rand::SeedableRng>::seed_from_u64(seed);
            for _ in 0..24 {
                sim.set_guard(Guard::Masked(MaskKind::Silence));
                let lead = sim.draw(5..60);
                sim.peers[0].press(lead as u32, random_digits(&mut random, 1, form, 100..=100, 0..=0));
                let wait = lead + sim.draw(35..140);
                sim.run(wait);
                sim.set_guard(Guard::Listen);
                sim.run(2_600);
            }
            let sent = keyed(&sim);
            let score = attack(&sim, &sent, &attacker);
            assert!(is_within(&keys_of(&sent), &sim.collected()));
            // The decoder takes some speech for keys; in a quiet room it must hear nothing.
            assert!(sound == "speech" || score.decoded == 0, "{form:?} {score:?}");
            total.add(score);
            assert!(sim.heard[1].event_codes().is_empty(), "{form:?}: an event was let out");
        }
    }
    let share = total.report("release");
    assert!(share <= 0.16, "{total:?}");
}

#[test]
fn a_hold_taken_in_the_middle_of_a_call_masks_from_the_next_packet_on() {
    let attacker = LeastSquares::new();
    let mut total = Score::default();
    for form in FORMS {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            for extra in 0..4u64 {
                let seed = 5_000 + 10 * extra + FORMS.iter().position(|f| *f == form).unwrap() as u64;
                let mut plan = Plan::new(seed, Guard::Open);
                plan.codec = [codec; 2];
                let mut sim = Sim::new(plan);
                sim.peers[0].speak(room(seed));
                let mut random = <tonewall::base::Random as rand::SeedableRng>::seed_from_u64(seed);
                let off = sim.draw(0..40);
                sim.run(1_000 + off);
                for _ in 0..8 {
                    let off = sim.draw(0..20);
                    sim.run(off);
                    sim.set_guard(Guard::Masked(MaskKind::ComfortNoise));
                    sim.peers[0].press(1, random_digits(&mut random, 2, form, 60..=100, 60..=100));
                    sim.run(800);
                    sim.set_guard(Guard::Open);
                    sim.run(1_000);
                }
                let sent = keyed(&sim);
                assert_eq!(sim.collected(), keys_of(&sent), "{form:?}");
                assert_one_stream(&sim, Leg::Agent);
                total.add(attack(&sim, &sent, &attacker));
            }
        }
    }
    let share = total.report("taken");
    assert!(share <= 0.12, "{total:?}");
    assert_eq!(total.decoded, 0);
}

#[test]
fn a_renegotiation_during_a_digit_keeps_the_mask() {
    let attacker = LeastSquares::new();
    let mut total = Score::default();
    for form in FORMS {
        for mask in MASKS {
            let seed = 6_000 + FORMS.iter().position(|f| *f == form).unwrap() as u64;
            let mut sim = Sim::new(Plan::new(seed, Guard::Masked(mask)));
            sim.peers[0].speak(room(seed));
            let mut random = <tonewall::base::Random as rand::SeedableRng>::seed_from_u64(seed);
            sim.run(1_500);
            let mut codecs = [Codec::Pcma, Codec::Pcmu].into_iter().cycle();
            for turn in 0..8u32 {
                sim.peers[0].press(20, random_digits(&mut random, 1, form, 100..=100, 60..=60));
                let wait = sim.draw(30..110);
                sim.run(wait);
                let codec = codecs.next().unwrap();
                match turn % 4 {
                    0 => {
                        // The customer's side: another codec.
                        sim.set_leg(Leg::Customer, both(Leg::Customer, 20));
                        sim.send_from(Leg::Customer, codec, true);
                    }
                    1 => sim.set_leg(Leg::Agent, negotiated(Leg::Agent, codec, true, 20)),
                    2 => {
                        // Hold and resume of the agent.
                        let mut held = negotiated(Leg::Agent, codec, true, 20);
                        held.send = false;
                        sim.set_leg(Leg::Agent, held);
                        sim.run(30);
                        sim.set_leg(Leg::Agent, negotiated(Leg::Agent, codec, true, 20));
                    }
                    _ => sim.set_leg(Leg::Agent, negotiated(Leg::Agent, codec, false, 20)),
                }
                sim.run(1_000);
            }
            let sent = keyed(&sim);
            assert_eq!(sim.collected(), keys_of(&sent), "{form:?} {mask:?}");
            assert_one_stream(&sim, Leg::Agent);
            total.add(attack(&sim, &sent, &attacker));
        }
    }
    let share = total.report("re-INVITE");
    assert!(share <= 0.16, "{total:?}");
    assert_eq!(total.decoded, 0);
}

/// A leg that may send either law.
fn both(leg: Leg, ptime_ms: u8) -> tonewall::media::LegMedia {
    let mut media = negotiated(leg, Codec::Pcmu, true, ptime_ms);
    let pcma = tonewall::media::AudioFormat { payload_type: type_of(Codec::Pcma), codec: Codec::Pcma };
    media.rx.audio.push(pcma);
    media
}

#[test]
fn guarded_speech_is_what_was_said_at_most_one_packet_later() {
    for (ptime_ms, jitter) in [(10, 0), (20, 0), (30, 0), (20, 8)] {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            let mut plan = Plan::new(7_000, Guard::Masked(MaskKind::Silence));
            (plan.ptime_ms, plan.codec) = (ptime_ms, [codec; 2]);
            plan.network = line(0.0, jitter, 0.0);
            let mut sim = Sim::new(plan);
            sim.peers[0].speak(speech(7, -22.0));
            sim.run(20_000);
            let (began, heard) = sim.agent_ear();
            let said = sim.peers[0].spoken();
            let base = (began.as_micros() / 125) as usize;
            let law = |sample: i16| match codec {
                Codec::Pcmu => {
                    tonewall::testkit::companding::ulaw_decode(tonewall::testkit::companding::ulaw_encode(sample))
                }
                _ => tonewall::testkit::companding::alaw_decode(tonewall::testkit::companding::alaw_encode(sample)),
            };
            // A packet leaves the simulated sender as it begins; 5 ms of network and a tick of 1 ms are not ours.
            let as_said = |delay: usize, stretch: std::ops::Range<usize>| {
                stretch.filter(|k| heard.get(k + delay - base) == Some(&law(said[*k]))).count()
            };
            let delay = (0..60).map(|ms| 8 * ms).max_by_key(|delay| as_said(*delay, 60_000..62_000)).unwrap();
            let same = as_said(delay, 40_000..140_000);
            eprintln!(
                "ptime {ptime_ms} jitter {jitter} {codec:?}: {:.1} ms, {:.2} % of samples as said",
                delay as f64 / 8.0,
                same as f64 / 1_000.0
            );
            assert!(delay <= (6 + 20 + jitter as usize) * 8, "{delay} samples");
            assert!(same > 90_000, "{same}");
        }
    }
}
