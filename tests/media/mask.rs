//! What a listener notices of the guard: that it comes and goes without a click, how much of speech it takes for keys
//! and for how long, and what it adds in delay.

use tonewall::base::ids::Leg;
use tonewall::config::{Codec, MaskKind};
use tonewall::dsp::noise::Noise;
use tonewall::dsp::tone::{Tone, TwoTone};
use tonewall::media::Guard;
use tonewall::testkit::companding::{ulaw_decode, ulaw_encode};
use tonewall::testkit::rtp_peer::{Sound, voice};

use crate::relay::assert_one_stream;
use crate::sim::{Plan, Sim};

fn sine(hz: f32, dbm0: f32) -> Sound {
    let mut tone = Tone::new(hz, dbm0);
    Box::new(std::iter::repeat_with(move || tone.sample() as i16))
}

fn steepest(samples: &[i16]) -> i32 {
    samples.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap_or(0)
}

fn rms(samples: &[i16]) -> f64 {
    (samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
}

/// Takes and gives back the guard ten times while `sound` is heard; gives what was said and what was heard.
fn on_and_off(plan: Plan, sound: Sound) -> (Vec<i16>, Vec<i16>, Sim) {
    let listening = plan.guard;
    let mut sim = Sim::new(plan);
    sim.peers[0].speak(sound);
    sim.run(1_000);
    for _ in 0..10 {
        let wait = sim.draw(200..600);
        sim.run(wait);
        sim.set_guard(Guard::Masked(MaskKind::ComfortNoise));
        let wait = sim.draw(500..900);
        sim.run(wait);
        sim.set_guard(listening);
        sim.run(2_500);
    }
    let said = sim.peers[0].spoken().iter().map(|s| ulaw_decode(ulaw_encode(*s))).collect();
    let (_, heard) = sim.agent_ear();
    (said, heard, sim)
}

#[test]
fn the_guard_comes_and_goes_without_a_click_or_a_hole_in_a_sine() {
    for listening in [Guard::Open, Guard::Listen] {
        for ptime_ms in [10, 20, 30] {
            // Between and beside the keys' frequencies everything is suspect.
            for hz in [130.0, 300.0, 440.0, 2_500.0] {
                let mut plan = Plan::new(u64::from(ptime_ms) + hz as u64, listening);
                plan.ptime_ms = ptime_ms;
                let (said, heard, sim) = on_and_off(plan, sine(hz, -15.0));
                assert_one_stream(&sim, Leg::Agent);
                let what = format!("{listening:?}, {ptime_ms} ms, {hz} Hz");
                let (usual, worst) = (steepest(&said), steepest(&heard[800..]));
                assert!(worst * 10 <= usual * 16 + 500, "{what}: a step of {worst}, of {usual} in what was said");
                let whole = rms(&said);
                let least = heard[800..].chunks_exact(160).map(rms).fold(f64::MAX, f64::min);
                let most = heard[800..].chunks_exact(160).map(rms).fold(0.0, f64::max);
                // Two phases of a sine laid over one another may cancel within the fade of 5 ms, no more.
                assert!(least >= whole * 0.6 && most <= whole * 1.3, "{what}: {least:.0}…{most:.0} of {whole:.0}");
            }
        }
    }
}

#[test]
fn the_guard_comes_and_goes_within_speech_and_every_word_is_heard() {
    for seed in 0..4 {
        let mut plan = Plan::new(40 + seed, Guard::Open);
        plan.ptime_ms = if seed % 2 == 0 { 20 } else { 10 };
        let (said, heard, sim) = on_and_off(plan, voice(seed, -22.0));
        assert_one_stream(&sim, Leg::Agent);
        let (usual, worst) = (steepest(&said), steepest(&heard[800..]));
        assert!(worst * 10 <= usual * 12, "a step of {worst}, of {usual} in what was said");
        // As long as what was said: what was put in has been taken out again.
        assert!(said.len().abs_diff(heard.len()) <= 800, "{} {}", said.len(), heard.len());
        assert_eq!(heard[heard.len() - 1_600..heard.len() - 160], said[said.len() - 1_600..][..1_440]);
    }
}

/// Where `heard` differs from what was said, as lengths in samples; what is nearer than 4 ms is one.
fn differences(said: &[i16], heard: &[i16]) -> Vec<usize> {
    let (mut all, mut from, mut last) = (Vec::new(), None, 0);
    for (n, (s, h)) in said.iter().zip(heard).enumerate() {
        if s != h {
            from.get_or_insert(n);
            last = n;
        } else if let Some(begin) = from.filter(|_| n > last + 32) {
            all.push(last + 1 - begin);
            from = None;
        }
    }
    all
}

/// Where the line as it was said begins in what was heard, in samples of delay; 6 ms of it are the network and a tick.
fn delay_of(said: &[i16], heard: &[i16], base: usize) -> usize {
    let same = |delay: usize| (20_000..40_000).filter(|k| heard.get(k + delay - base) == Some(&said[*k])).count();
    (0..60 * 8).step_by(8).max_by_key(|delay| same(*delay)).expect("a delay")
}

#[test]
fn what_is_suspected_and_no_key_is_let_go_after_25_ms() {
    for ptime_ms in [10, 20] {
        let mut mutes = Vec::new();
        for (seed, samples) in [(1, 64), (2, 72), (3, 80), (4, 88)] {
            let mut plan = Plan::new(60 + seed, Guard::Masked(MaskKind::Silence));
            (plan.ptime_ms, plan.codec) = (ptime_ms, [Codec::Pcmu; 2]);
            let mut sim = Sim::new(plan);
            // Noise with a burst of two tones every half second or so, too short for any receiver.
            let mut noise = Noise::new(seed);
            let mut tones = TwoTone::new(Tone::new(770.0, -16.0), Tone::new(1_336.0, -16.0));
            let mut until = 4_000i64;
            sim.peers[0].speak(Box::new(std::iter::repeat_with(move || {
                until -= 1;
                let tone = if until < samples { tones.sample() } else { 0.0 };
                if until == 0 {
                    until = 3_000 + (noise.bits() % 2_000) as i64;
                }
                (noise.gaussian() * 60.0 + tone) as i16
            })));
            sim.run(40_000);
            assert_eq!(sim.collected(), "");
            let (began, heard) = sim.agent_ear();
            let said: Vec<i16> = sim.peers[0].spoken().iter().map(|s| ulaw_decode(ulaw_encode(*s))).collect();
            let base = (began.as_micros() / 125) as usize;
            let delay = delay_of(&said, &heard, base);
            let added = delay as f64 / 8.0 - 6.0;
            assert!(added <= f64::from(ptime_ms.max(12)), "{added} ms added where packets hold {ptime_ms} ms");
            // The fades of 2 and 4 ms are part of what differs, and not of what is muted.
            let bursts = differences(&said[base..], &heard[delay..]);
            mutes.extend(bursts.into_iter().map(|samples| samples.saturating_sub(48) as f64 / 8.0));
        }
        mutes.sort_by(f64::total_cmp);
        let mean = mutes.iter().sum::<f64>() / mutes.len() as f64;
        let (least, most) = (mutes[0], mutes[mutes.len() - 1]);
        eprintln!(
            "packets of {ptime_ms} ms: {} bursts of 8 to 11 ms mute {mean:.1} ms each ({least:.1} to {most:.1})",
            mutes.len()
        );
        assert!(mutes.len() > 200 && mean <= 28.0 && most <= 40.0, "{mean} {most}");
    }
}
