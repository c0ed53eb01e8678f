//! The in-band detector against its bars (D1–D5, R1, T1 and the detector's part of L1 in the design's detection table),
//! with SpanDSP's receiver beside it where the library is installed. Every test prints its figures
//! (`cargo test --release --test detector -- --nocapture`); all lines are drawn by fixed seeds.

use std::path::{Path, PathBuf};

use tonewall::dtmf::inband::Point;
use tonewall::rt::crew;
use tonewall::testkit::attack::{LeastSquares, template};
use tonewall::testkit::lab::Rate;
use tonewall::testkit::lab::hear::{Count, Heard, Packets, Three, ours, spandsp as theirs};
use tonewall::testkit::lab::network::{Loss, Network};
use tonewall::testkit::lab::stimuli::{Stimulus, d1, d2, d4, d5};
use tonewall::testkit::spandsp::Spandsp;
use tonewall::testkit::speech::Talker;
use tonewall::testkit::tones::{Draw, Law, Line, Plan, line, silence};

/// SpanDSP, or the printed reason why its column stays empty.
fn spandsp() -> Option<Spandsp> {
    Spandsp::load().map_err(|why| eprintln!("no SpanDSP column: {why}")).ok()
}

/// Plays so many lines of a stimulus to both operating points and SpanDSP and prints the row.
fn row(name: &str, stimulus: &Stimulus<'_>, lines: u64, other: Option<&Spandsp>) -> Three {
    let seeds: Vec<u64> = (0..lines).map(|seed| seed * 7919 + 13).collect();
    let three: Three = crew::each(&seeds, |seed| {
        let (line, packets) = stimulus.draw(*seed);
        Three::hear(&line.keys(), &line.samples, &packets, other)
    })
    .into_iter()
    .sum();
    let told = |count: Count| format!("{:7.3} % +{:<3}", count.right().percent(), count.extra);
    let beside = three.spandsp.map_or_else(|| "-".to_owned(), told);
    let (armed, unarmed) = (told(three.armed), told(three.unarmed));
    eprintln!("{name:44} {:6} | armed {armed} | unarmed {unarmed} | SpanDSP {beside}", three.armed.of);
    three
}

/// At least so many percent told rightly and nothing else, armed and unarmed.
fn assert_told(name: &str, three: &Three, percent: f64) {
    for count in [three.armed, three.unarmed] {
        assert!(count.right().percent() >= percent && count.extra == 0, "{name}: {count:?}");
    }
}

#[test]
fn d1_every_clean_digit_of_forty_milliseconds_and_more_is_told_exactly_once() {
    let other = spandsp();
    for (name, law) in [("D1 µ-law", Law::Mu), ("D1 A-law", Law::A)] {
        let three = row(name, &Stimulus::plain(Plan { law, ..d1() }), 400, other.as_ref());
        assert_eq!(three.armed.of, 10_000);
        assert_told(name, &three, 100.0);
    }
}

#[test]
fn d2_d3_digits_off_frequency_twisted_and_in_noise() {
    let other = spandsp();
    let corner = Plan { offset_percent: (1.8, 1.8), twist_db: (-8.0, -8.0), ..d2(20.0) };
    for (name, plan, least) in [
        ("D2 ±1.8 %, −8…+5 dB, SNR 20 dB", d2(20.0), 99.9),
        ("D2 corner: 1.8 % off, −8 dB, SNR 20 dB", corner, 99.9),
        ("D3 as D2, 15 dB", d2(15.0), 99.5),
        ("D3 as D2, 12 dB", d2(12.0), 99.0),
    ] {
        assert_told(name, &row(name, &Stimulus::plain(plan), 160, other.as_ref()), least);
    }
}

/// Speech: clips of a Debian package where it is installed, else the reason; and our own talker.
fn recorded_speech() -> Option<Vec<Vec<i16>>> {
    let root = std::env::var_os("TONEWALL_SPEECH").map_or_else(|| "/usr/share/asterisk/sounds".into(), PathBuf::from);
    let mut clips = Vec::new();
    gather(&root, &mut clips);
    if clips.is_empty() {
        eprintln!("recorded speech skipped: no 8 kHz WAV under {root:?} (Debian: asterisk-core-sounds-en-wav)");
        return None;
    }
    Some(clips)
}

fn gather(directory: &Path, clips: &mut Vec<Vec<i16>>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            gather(&path, clips);
        } else if path.extension().is_some_and(|e| e == "wav")
            && let Ok(mut wav) = hound::WavReader::open(&path)
            && wav.spec().sample_rate == 8000
            && wav.spec().channels == 1
            && wav.spec().bits_per_sample == 16
        {
            clips.push(wav.samples::<i16>().map_while(Result::ok).collect());
        }
    }
}

fn synthetic_speech() -> Vec<Vec<i16>> {
    (0..40).map(|seed| Talker::new(seed, -18.0).say(30 * 8000)).collect()
}

/// Bar L1: the share of keys that may be guessed.
const GUESSED: f64 = 0.12;

/// Not over bar L1, unless by a chance of less than one in ten thousand.
fn assert_hidden(name: &str, leaked: Rate) {
    let line = format!("{name}: armed, guessed from the rest {:.2} % of {}", leaked.percent(), leaked.of);
    eprintln!("{line}");
    assert!(leaked.at_least(GUESSED) > 1e-4, "{line}");
}

/// How many keys the attacker, told each onset, guesses from what the armed verdicts and losses leave.
fn leaked(stimulus: &Stimulus<'_>, lines: u64, attacker: &LeastSquares) -> Rate {
    let seeds: Vec<u64> = (0..lines).map(|seed| seed * 7919 + 13).collect();
    let guessed: usize = crew::each(&seeds, |seed| {
        let (mut line, packets) = stimulus.draw(*seed);
        let heard = ours(Point::Armed, &line.samples, &packets);
        silence(&mut line.samples, &packets.gaps());
        leak(&mut line, &heard.spans(), attacker, *seed)
    })
    .into_iter()
    .sum();
    Rate::new(guessed, lines as usize * stimulus.plan.presses)
}

/// Masks by the verdicts; how many keys the attacker, told each onset, guesses from what is left.
fn leak(line: &mut Line, stretches: &[(u64, u64)], attacker: &LeastSquares, seed: u64) -> usize {
    silence(&mut line.samples, stretches);
    let mut draw = Draw::new(seed ^ 0xa77a);
    let guesses = line.presses.iter().map(|p| {
        // With nothing to go by the attacker picks at random.
        let fallback = draw.below(10) as u8;
        attacker.guess(&line.samples, p.begin, fallback).key == p.digit.expose_event()
    });
    guesses.filter(|right| *right).count()
}

#[test]
fn d4_digits_over_speech() {
    let (attacker, other) = (LeastSquares::new(), spandsp());
    let mut voices = vec![("the synthetic talker", synthetic_speech().concat())];
    voices.extend(recorded_speech().map(|clips| ("recorded speech", clips.concat())));
    for (name, voice) in &voices {
        for (under_db, least) in [(10.0, 99.9), (6.0, 98.0)] {
            let stimulus = Stimulus::plain(d4()).over(voice, under_db);
            let three = row(&format!("D4 {under_db} dB over {name}"), &stimulus, 160, other.as_ref());
            let (right, extra) = (three.armed.right().percent(), three.armed.extra);
            assert!(right >= least && extra <= 4, "{under_db} dB over {name}: {right} % + {extra}");
            assert_hidden(&format!("D4 {under_db} dB over {name}"), leaked(&stimulus, 160, &attacker));
        }
    }
}

#[test]
fn d5_dropouts_and_lost_packets_split_nothing_and_invent_nothing() {
    let (attacker, other) = (LeastSquares::new(), spandsp());
    let dropout = |ms: f32, snr_db: Option<f32>| Plan { tone_ms: vec![ms], dropout_ms: 10.0, snr_db, ..d1() };
    for (name, plan, least) in [
        ("D5 10 ms dropout in 100 ms", dropout(100.0, None), 100.0),
        ("D5 10 ms dropout in 65 ms", dropout(65.0, None), 100.0),
        ("D5 10 ms dropout in 100 ms, SNR 15 dB", dropout(100.0, Some(15.0)), 99.9),
    ] {
        assert_told(name, &row(name, &Stimulus::plain(plan), 80, other.as_ref()), least);
    }
    for (percent, least) in [(1.0, 99.9), (5.0, 99.4), (10.0, 98.6)] {
        let stimulus = Stimulus::plain(d5()).by(Network::losing(Loss::Random(percent / 100.0)));
        let name = format!("D5 {percent:2} % packet loss");
        assert_told(&name, &row(&name, &stimulus, 160, other.as_ref()), least);
        assert_hidden(&name, leaked(&stimulus, 60, &attacker));
    }
    for (samples, least) in [(80, 99.9), (240, 99.0)] {
        let network = Network { samples, ..Network::losing(Loss::Random(0.05)) };
        let name = format!("D5  5 % loss of packets of {} ms", samples / 8);
        assert_told(&name, &row(&name, &Stimulus::plain(d5()).by(network), 160, other.as_ref()), least);
    }
}

#[test]
fn r1_what_is_no_digit_is_not_told_but_is_masked() {
    let other = spandsp();
    let attacker = LeastSquares::new();
    for (name, plan) in [
        ("R1 3.5 % off", Plan { tone_ms: vec![100.0], offset_percent: (3.5, 3.5), ..d1() }),
        ("R1 20 ms bursts", Plan { tone_ms: vec![20.0], ..d1() }),
        ("R1 20 ms bursts, SNR 12 dB", Plan { tone_ms: vec![20.0], ..d2(12.0) }),
        ("R1 10 ms bursts", Plan { tone_ms: vec![10.0], ..d1() }),
    ] {
        let plan = Plan { keys: 10, ..plan };
        let stimulus = Stimulus::plain(plan);
        let three = row(name, &stimulus, 80, other.as_ref());
        for count in [three.armed, three.unarmed] {
            assert!(count.reported().percent() <= 0.1, "{name}: {count:?}");
        }
        assert_hidden(name, leaked(&stimulus, 80, &attacker));
    }
}

#[test]
fn t1_talk_off() {
    let mut voices = vec![("the synthetic talker", synthetic_speech())];
    voices.extend(recorded_speech().map(|clips| ("recorded speech", clips)));
    let other = spandsp();
    for (name, clips) in voices {
        let hours = clips.iter().map(Vec::len).sum::<usize>() as f64 / 8000.0 / 3600.0;
        for point in [Point::Unarmed, Point::Armed] {
            let heard: Vec<Heard> = crew::each(&clips, |clip| ours(point, clip, &Packets::default()));
            let told: usize = heard.iter().map(|h| h.told.len()).sum();
            let stretches: usize = heard.iter().map(|h| h.stretches.len()).sum();
            let muted: u64 = heard.iter().flat_map(|h| &h.stretches).map(|s| s.to - s.from).sum();
            let part = 100.0 * muted as f64 / (hours * 3600.0 * 8000.0);
            let mean_ms = muted as f64 / 8.0 / stretches.max(1) as f64;
            eprintln!(
                "T1 {name} {point:?}: {told} false digits and {stretches} suspicions of {mean_ms:.1} ms on the average in \
                 {:.1} min ({part:.2} % of it)",
                hours * 60.0
            );
            // Unarmed the bar is 0.02 per hour; no corpus at hand is long enough to show more than none. Armed there is
            // no bar; our talker holds his vowels steadier than people do.
            let most = match (point, name) {
                (Point::Unarmed, _) => 0.0,
                (Point::Armed, "recorded speech") => 1.0,
                (Point::Armed, _) => 15.0,
            };
            assert!(told as f64 <= most * hours, "{told}");
            assert!(part < 6.0, "too much of the talker is muted");
        }
        if let Some(other) = &other {
            let told: usize = clips.iter().map(|clip| theirs(other, clip, &Packets::default()).told.len()).sum();
            eprintln!("T1 {name} SpanDSP: {told} false digits");
        }
    }
}

#[test]
fn l1_what_the_verdicts_leave_of_a_digit_tells_nothing() {
    let attacker = LeastSquares::new();
    let plan = Plan {
        presses: 25,
        tone_ms: vec![40.0, 65.0, 100.0],
        pause_ms: vec![30.0, 50.0, 100.0],
        dbm0: (-36.0, 0.0),
        twist_db: (-8.0, 5.0),
        offset_percent: (0.0, 1.8),
        ..Plan::default()
    };
    for law in [Law::Mu, Law::A] {
        for snr_db in [None, Some(30.0), Some(20.0), Some(12.0)] {
            let plan = Plan { law, snr_db, ..plan.clone() };
            let (mut of, mut guessed, mut by_template, mut least) = (0usize, 0usize, 0usize, i64::MAX);
            for seed in 0..100 {
                let mut line = line(&plan, seed * 31 + 7);
                let heard = ours(Point::Armed, &line.samples, &Packets::default());
                assert_eq!(line.keys(), heard.keys(), "{law:?} {snr_db:?} seed {seed}: collected exactly once");
                for press in &line.presses {
                    let (begin, end) = (press.begin as i64, press.end as i64);
                    let spans = heard.spans();
                    let cover = spans.iter().find(|(a, b)| *a as i64 <= begin && *b as i64 >= end);
                    least = least.min(cover.map_or(i64::MIN, |(a, b)| (begin - *a as i64).min(*b as i64 - end)));
                }
                guessed += leak(&mut line, &heard.spans(), &attacker, seed);
                by_template += line
                    .presses
                    .iter()
                    .filter(|p| {
                        template(&line.samples, p.begin, p.end - p.begin, 0, seed as u8).key == p.digit.expose_event()
                    })
                    .count();
                of += line.presses.len();
            }
            let part = |n: usize| 100.0 * n as f64 / of as f64;
            eprintln!(
                "L1 {law:?} {snr_db:?}: {of} digits, guessed by least squares {:.2} %, by template {:.2} %; least margin {least} samples",
                part(guessed),
                part(by_template)
            );
            assert!(of >= 2_000 && least >= 0);
            assert!(part(guessed) <= 12.0 && part(by_template) <= 12.0);
        }
    }
}
