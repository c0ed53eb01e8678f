//! G.722 and Opus in the media room: bytes go through untouched while nobody guards, a mask that comes into force finds
//! the codecs warm, and under it an attacker learns no more than from G.711.

use tonewall::base::ids::Leg;
use tonewall::config::{Codec, MaskKind};
use tonewall::media::{Guard, Tap};
use tonewall::testkit::attack::{LeastSquares, decode};
use tonewall::testkit::coding::Coder;
use tonewall::testkit::keys::{Form, random_digits};
use tonewall::testkit::rtp_peer::hiss;

use crate::leak::{Score, attack, keyed, keyed_call, keys_of, room, speech};
use crate::relay::assert_one_stream;
use crate::sim::{Plan, Sim, negotiated, peer_address, type_of};

const WIDE: [Codec; 2] = [Codec::G722, Codec::Opus];

fn plan(seed: u64, guard: Guard, codecs: [Codec; 2]) -> Plan {
    Plan { codec: codecs, ..Plan::new(seed, guard) }
}

#[test]
fn unguarded_payloads_pass_byte_for_byte_and_keys_are_heard_in_them() {
    for codec in WIDE {
        for (guard, listens) in [(Guard::Open, false), (Guard::Listen, true)] {
            let sim = keyed_call(plan(7, guard, [codec; 2]), Form::Tone, 8, room(7), 1.0);
            let sent = sim.peers[0].sent_payload_bytes();
            let got = sim.heard[1].payload_bytes();
            assert!(got.len() > sent.len() - 400 && sent.starts_with(&got), "{codec:?}");
            assert_one_stream(&sim, Leg::Agent);
            let told = if listens { keys_of(&keyed(&sim)) } else { String::new() };
            assert_eq!(sim.collected(), told, "{codec:?}");
        }
    }
}

#[test]
fn no_mask_of_a_wide_codec_leaks_and_each_key_is_collected_once() {
    let attacker = LeastSquares::new();
    let mut seed = 9_000;
    for codec in WIDE {
        let mut score = Score::default();
        for mask in [MaskKind::Silence, MaskKind::ComfortNoise, MaskKind::Tone, MaskKind::Substitute] {
            for form in [Form::Tone, Form::ToneAndEvent, Form::ToneThenEvent { lead_ms: 40 }, Form::Event] {
                for speaks in [false, true] {
                    seed += 1;
                    let sound = if speaks { speech(seed, -26.0) } else { room(seed) };
                    let sim = keyed_call(plan(seed, Guard::Masked(mask), [codec; 2]), form, 16, sound, 1.0);
                    assert_eq!(sim.collected(), keys_of(&keyed(&sim)), "{codec:?} {mask:?} {form:?} {speaks}");
                    score.add(attack(&sim, &keyed(&sim), &attacker));
                }
            }
        }
        let share = score.report(&format!("{codec:?}"));
        assert_eq!(score.decoded, 0, "{codec:?}");
        assert!(share <= 0.13, "{codec:?}");
    }
}

#[test]
fn a_mask_in_the_middle_of_a_call_is_one_stream_and_hides_all_that_comes_after() {
    let attacker = LeastSquares::new();
    for codec in WIDE {
        let mut score = Score::default();
        for seed in 0..8 {
            let mut sim = Sim::new(plan(9_300 + seed, Guard::Listen, [codec; 2]));
            sim.peers[0].speak(if seed % 2 == 0 { room(seed) } else { speech(seed, -26.0) });
            let mut random = <tonewall::base::Random as rand::SeedableRng>::seed_from_u64(seed);
            sim.peers[0].press(1_000, random_digits(&mut random, 8, Form::Tone, 80..=120, 80..=120));
            sim.run(700);
            sim.set_guard(Guard::Masked(MaskKind::ComfortNoise));
            sim.run(3_500);
            sim.set_guard(Guard::Listen);
            sim.run(4_000);
            assert_one_stream(&sim, Leg::Agent);
            assert_eq!(sim.collected(), keys_of(&keyed(&sim)), "{codec:?}");
            score.add(attack(&sim, &keyed(&sim), &attacker));
            let (_, heard) = sim.agent_ear();
            assert!(decode(&heard[..32_000]).is_empty(), "{codec:?}: while the mask is in force");
            let audio = sim.heard[1].packets();
            assert!(audio.iter().all(|packet| packet.ssrc == audio[0].ssrc));
        }
        let share = score.report(&format!("{codec:?}, taken in the call"));
        assert!(share <= 0.2, "{codec:?}: {share}");
    }
}

#[test]
fn legs_of_different_codecs_hear_one_another_and_are_guarded_all_the_same() {
    let all = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];
    let attacker = LeastSquares::new();
    let mut score = Score::default();
    for (n, from) in all.into_iter().enumerate() {
        for to in all.into_iter().filter(|to| *to != from) {
            let seed = 9_500 + n as u64;
            let open = keyed_call(plan(seed, Guard::Listen, [from, to]), Form::Tone, 8, room(seed), 1.0);
            assert_one_stream(&open, Leg::Agent);
            assert_eq!(open.collected(), keys_of(&keyed(&open)), "{from:?} to {to:?}");
            let (_, heard) = open.agent_ear();
            assert_eq!(decode(&heard).len(), 8, "{from:?} to {to:?}");
            let masked = Guard::Masked(MaskKind::Silence);
            let sim = keyed_call(plan(seed, masked, [from, to]), Form::Tone, 8, speech(seed, -26.0), 1.0);
            assert_eq!(sim.collected(), keys_of(&keyed(&sim)), "{from:?} to {to:?}");
            score.add(attack(&sim, &keyed(&sim), &attacker));
        }
    }
    assert_eq!(score.decoded, 0);
    assert!(score.report("coded anew") <= 0.2);
}

/// Packets of a source that speaks wide sound, given to the worker one by one; what the agent heard, wide.
fn wide_through(guard: Guard, codec: Codec, sound: &[i16]) -> Vec<i16> {
    let mut sim = Sim::new(plan(4, guard, [codec; 2]));
    sim.peers[0].stop();
    sim.peers[1].stop();
    let mut coder = Coder::new(codec);
    for (n, frame) in sound.chunks_exact(320).enumerate() {
        let mut packet = vec![0x80, type_of(codec)];
        packet.extend((n as u16).to_be_bytes());
        packet.extend((n as u32 * 160 * Coder::steps(codec)).to_be_bytes());
        packet.extend(9u32.to_be_bytes());
        packet.extend(coder.encode_wide(frame));
        sim.inject(Leg::Customer, peer_address(Leg::Customer), &packet);
        sim.run(20);
    }
    let mut ear = Coder::new(codec);
    sim.heard[1].packets().iter().flat_map(|packet| ear.decode_wide(&packet.payload)).collect()
}

#[test]
fn the_guard_takes_neither_voice_nor_breadth_from_wide_sound() {
    // A voice below, and above 4 kHz a tone that only wide sound has.
    let sound: Vec<i16> = (0..48_000)
        .map(|n| {
            let wave = |hz: f64, peak: f64| peak * (f64::from(n) * std::f64::consts::TAU * hz / 16_000.0).sin();
            let swell = 1.0 + (f64::from(n) * std::f64::consts::TAU * 3.0 / 16_000.0).sin();
            (swell * (wave(230.0, 3_000.0) + wave(460.0, 1_500.0)) + wave(5_300.0, 1_500.0)) as i16
        })
        .collect();
    let power = |heard: &[i16], hz: f64| {
        let part = |f: fn(f64) -> f64| {
            let at = |(n, s): (usize, &i16)| f64::from(*s) * f(n as f64 * std::f64::consts::TAU * hz / 16_000.0);
            heard.iter().enumerate().map(at).sum::<f64>()
        };
        10.0 * (part(f64::sin).powi(2) + part(f64::cos).powi(2)).log10()
    };
    for codec in WIDE {
        let open = wide_through(Guard::Open, codec, &sound);
        let guarded = wide_through(Guard::Masked(MaskKind::Silence), codec, &sound);
        for hz in [230.0, 460.0, 5_300.0] {
            let lost = power(&open[16_000..32_000], hz) - power(&guarded[16_000..32_000], hz);
            assert!(lost.abs() < 2.0, "{codec:?} {hz} Hz: {lost:.1} dB");
        }
    }
}

#[test]
fn a_mask_taken_and_lifted_does_not_click() {
    // A quiet hum throughout: whatever is much louder than it for a moment is a click.
    for codec in WIDE {
        let mut sim = Sim::new(plan(8, Guard::Listen, [codec; 2]));
        sim.peers[0].speak(hiss(8, -45.0));
        sim.run(1_003);
        sim.set_guard(Guard::Masked(MaskKind::ComfortNoise));
        sim.run(1_000);
        sim.set_guard(Guard::Listen);
        sim.run(1_000);
        let (_, heard) = sim.agent_ear();
        let loudest = heard[800..].iter().map(|s| s.unsigned_abs()).max();
        // −45 dBm0 of noise peaks near 4 × 89.
        assert!(loudest < Some(700), "{codec:?}: {loudest:?}");
    }
}

#[test]
fn a_recording_of_a_wide_codec_holds_what_was_heard() {
    for codec in WIDE {
        for guard in [Guard::Open, Guard::Masked(MaskKind::Silence)] {
            let mut sim = Sim::new(plan(5, guard, [codec; 2]));
            sim.peers[0].speak(hiss(5, -20.0));
            sim.set_tap(Tap::On);
            sim.run(3_000);
            let left: f64 = sim
                .out
                .blocks
                .iter()
                .skip(5)
                .flat_map(|(_, b)| b.iter().step_by(2))
                .map(|s| f64::from(*s).powi(2))
                .sum();
            let count = sim.out.blocks.iter().skip(5).map(|(_, b)| b.len() / 2).sum::<usize>();
            let level = tonewall::dsp::level::dbm0((left / count as f64) as f32);
            assert!((level + 20.0).abs() < 2.5, "{codec:?} {guard:?}: {level:.1} dBm0");
        }
    }
}

#[test]
fn a_leg_that_changes_its_codec_in_the_call_goes_on_being_heard() {
    let mut sim = Sim::new(plan(6, Guard::Masked(MaskKind::Silence), [Codec::Pcmu; 2]));
    sim.peers[0].speak(speech(6, -20.0));
    sim.run(1_000);
    for codec in [Codec::G722, Codec::Opus, Codec::Pcma, Codec::Opus, Codec::G722] {
        for leg in [Leg::Customer, Leg::Agent] {
            sim.set_leg(leg, negotiated(leg, codec, true, 20));
            sim.send_from(leg, codec, true);
        }
        let before = sim.heard[1].packets().len();
        sim.run(1_000);
        let packets = &sim.heard[1].packets()[before..];
        assert!((48..=52).contains(&packets.len()), "{codec:?}: {}", packets.len());
        assert!(packets[2..].iter().all(|packet| packet.payload_type == type_of(codec)), "{codec:?}");
        assert!(packets.windows(2).all(|w| w[1].sequence == w[0].sequence.wrapping_add(1)));
    }
}

/// Packets of a source given one by one: payload type, samples it lasts, payload.
struct Source {
    sequence: u16,
    timestamp: u32,
}

impl Source {
    fn send(&mut self, sim: &mut Sim, payload_type: u8, samples: u32, payload: &[u8]) {
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(77u32.to_be_bytes());
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(samples);
        sim.inject(Leg::Customer, peer_address(Leg::Customer), &packet);
    }
}

#[test]
fn comfort_noise_passes_where_it_was_agreed_on_and_never_while_guarded() {
    for (guard, agreed, passes) in [
        (Guard::Open, true, true),
        (Guard::Listen, true, true),
        (Guard::Listen, false, false),
        (Guard::Masked(MaskKind::Silence), true, false),
    ] {
        let mut sim = Sim::new(plan(12, guard, [Codec::Pcmu; 2]));
        sim.peers.iter_mut().for_each(|peer| peer.stop());
        let mut media = negotiated(Leg::Agent, Codec::Pcmu, true, 20);
        media.tx.comfort_noise = agreed.then_some(13);
        sim.set_leg(Leg::Agent, media);
        let mut source = Source { sequence: 5, timestamp: 900 };
        for round in 0..4 {
            for _ in 0..15 {
                source.send(&mut sim, 0, 160, &[0x55; 160]);
                sim.run(20);
            }
            // A pause of 300 ms, announced once.
            source.send(&mut sim, 13, 2_400, &[70, round]);
            sim.run(300);
        }
        let packets = sim.heard[1].packets();
        assert_eq!(packets.iter().filter(|p| p.payload_type == 13).count(), if passes { 4 } else { 0 }, "{guard:?}");
        assert_one_stream(&sim, Leg::Agent);
        if let Guard::Masked(_) = guard {
            assert!(packets.iter().all(|p| p.payload_type == 0 && p.payload.len() == 160));
            assert!(packets.windows(2).all(|w| (w[1].at - w[0].at).as_millis() <= 21), "pauses are filled");
        }
    }
}

fn g729() -> Codec {
    Codec::Foreign(tonewall::config::Foreign::new("G729", 8_000, 1).unwrap())
}

#[test]
fn what_cannot_be_masked_passes_unguarded_only_and_comes_back_after_the_hold() {
    for spare in [false, true] {
        let mut sim = Sim::new(plan(13, Guard::Listen, [Codec::Pcmu; 2]));
        sim.peers.iter_mut().for_each(|peer| peer.stop());
        for leg in [Leg::Customer, Leg::Agent] {
            let mut media = negotiated(leg, g729(), true, 20);
            if spare {
                media.tx.audio.push(tonewall::media::AudioFormat { payload_type: 0, codec: Codec::Pcmu });
            }
            sim.set_leg(leg, media);
        }
        let mut source = Source { sequence: 5, timestamp: 900 };
        let mut packets = |sim: &mut Sim, count: u8| {
            let before = sim.heard[1].packets().len();
            for n in 0..count {
                source.send(sim, 18, 160, &[n; 20]);
                sim.run(20);
            }
            sim.heard[1].packets()[before..].to_vec()
        };
        let open = packets(&mut sim, 20);
        assert!(open.len() == 20 && open.iter().all(|p| p.payload_type == 18 && p.payload.len() == 20));
        sim.set_guard(Guard::Masked(MaskKind::Silence));
        let held = packets(&mut sim, 50);
        // Nothing at all, or, where the leg takes something that can be made, silence in that.
        assert!(held.iter().all(|p| p.payload_type == 0), "spare {spare}");
        assert_eq!(held.len() > 40, spare, "{}", held.len());
        sim.set_guard(Guard::Listen);
        packets(&mut sim, 30);
        let again = packets(&mut sim, 20);
        assert!(again.len() == 20 && again.iter().all(|p| p.payload_type == 18), "spare {spare}");
    }
}

#[test]
fn packet_times_of_any_length_and_changes_of_it_in_the_call_are_heard_and_guarded() {
    for codec in [Codec::Pcmu, Codec::G722, Codec::Opus] {
        for guard in [Guard::Listen, Guard::Masked(MaskKind::Silence)] {
            let mut sim = Sim::new(plan(14, guard, [codec; 2]));
            sim.peers[0].speak(room(14));
            sim.run(1_000);
            for ptime_ms in [10u8, 40, 30, 60, 20] {
                if codec == Codec::Opus && ![10, 20, 40].contains(&ptime_ms) {
                    continue;
                }
                sim.plan.ptime_ms = ptime_ms;
                sim.send_from(Leg::Customer, codec, true);
                let mut random = <tonewall::base::Random as rand::SeedableRng>::seed_from_u64(u64::from(ptime_ms));
                sim.peers[0].press(300, random_digits(&mut random, 3, Form::Tone, 80..=100, 80..=120));
                sim.run(1_300);
            }
            assert_eq!(sim.collected(), keys_of(&keyed(&sim)), "{codec:?} {guard:?}");
            assert_one_stream(&sim, Leg::Agent);
            if let Guard::Masked(_) = guard {
                let (_, heard) = sim.agent_ear();
                assert!(decode(&heard).is_empty(), "{codec:?}");
                let packets = sim.heard[1].packets();
                assert!(packets.iter().all(|p| p.payload.len() == packets[0].payload.len()), "{codec:?}: one size");
            }
        }
    }
}

#[test]
fn wide_codecs_hide_keys_on_a_poor_line_too() {
    let attacker = LeastSquares::new();
    for codec in WIDE {
        let mut score = Score::default();
        for (n, loss) in [0.01, 0.05, 0.1].into_iter().enumerate() {
            for jitter in [0, 20, 60] {
                let seed = 9_700 + n as u64 * 10 + jitter;
                let mut plan = plan(seed, Guard::Masked(MaskKind::Silence), [codec; 2]);
                plan.network = crate::leak::line(loss, jitter as u32, 0.02);
                let sim = keyed_call(plan, Form::Tone, 16, room(seed), 1.0);
                score.add(attack(&sim, &keyed(&sim), &attacker));
            }
        }
        let share = score.report(&format!("{codec:?}, poor line"));
        assert_eq!(score.decoded, 0, "{codec:?}");
        assert!(share <= 0.17, "{codec:?}");
    }
}
