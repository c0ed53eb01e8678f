use super::*;
use crate::dsp::noise::Noise;
use crate::dsp::tone::TwoTone;

/// Feeds `line` in frames of `frame` samples and collects the verdicts.
fn verdicts(point: Point, line: &[i16], frame: usize) -> Vec<Verdict> {
    let mut detector = Detector::new(point);
    let mut all = Vec::new();
    for samples in line.chunks(frame) {
        let before = detector.decided();
        detector.feed(samples, &mut |v| {
            if let (Point::Armed, Verdict::Suspect { from } | Verdict::Clear { from }) = (point, &v) {
                assert!(*from >= before, "a verdict reaches behind what was decided");
            }
            all.push(v);
        });
        assert!(detector.position() - detector.decided() <= LOOK_AHEAD);
        assert!(detector.decided() >= before);
    }
    all
}

fn keys(all: &[Verdict]) -> String {
    all.iter()
        .filter_map(|v| if let Verdict::Confirm { digit, .. } = v { Some(digit.expose_char()) } else { None })
        .collect()
}

fn line(keys: &str, tone: usize, pause: usize, dbm0: f32) -> Vec<i16> {
    let mut out = vec![0i16; 400];
    for key in keys.chars() {
        let mut samples = vec![0i16; tone];
        TwoTone::key(&Digit::from_char(key).expect("a key"), dbm0).fill(&mut samples);
        out.extend(samples);
        out.extend(vec![0i16; pause]);
    }
    out.extend(vec![0i16; 400]);
    out
}

#[test]
fn all_sixteen_keys_are_named_once_at_every_level_and_frame_size() {
    let all = "1234567890*#ABCD";
    for level in [-3.0, -10.0, -24.0, -36.0] {
        for frame in [80, 160, 161, 240, 7] {
            for point in [Point::Armed, Point::Unarmed] {
                let told = verdicts(point, &line(all, 320, 240, level), frame);
                assert_eq!(keys(&told), all, "{level} dBm0, frames of {frame}, {point:?}");
            }
        }
    }
}

#[test]
fn the_same_key_twice_stays_two_and_a_dropout_does_not_split() {
    let told = verdicts(Point::Armed, &line("55", 320, 240, -20.0), 160);
    assert_eq!(keys(&told), "55");
    let mut dropped = line("5", 800, 240, -20.0);
    dropped[700..780].fill(0);
    assert_eq!(keys(&verdicts(Point::Armed, &dropped, 160)), "5");
}

#[test]
fn a_suspect_stretch_begins_before_the_tone_and_ends_after_it() {
    for offset in 0..24 {
        let mut whole = vec![0i16; offset];
        whole.extend(line("8", 320, 400, -30.0));
        let told = verdicts(Point::Armed, &whole, 160);
        let (begin, end) = ((400 + offset) as u64, (720 + offset) as u64);
        let Verdict::Suspect { from } = told[0] else { panic!("not a suspect first") };
        assert!(from < begin && from + 96 > begin, "{from} {begin}");
        let Some(Verdict::Clear { from }) = told.last() else { panic!("not clear last") };
        assert!(*from > end && *from < end + 160, "{from} {end}");
    }
}

#[test]
fn silence_and_noise_name_nothing() {
    let mut noise = Noise::new(1);
    let mut samples = vec![0i16; 80_000];
    assert!(verdicts(Point::Armed, &samples, 160).is_empty());
    noise.fill(500.0, &mut samples);
    assert_eq!(keys(&verdicts(Point::Armed, &samples, 160)), "");
    assert_eq!(keys(&verdicts(Point::Unarmed, &samples, 160)), "");
}

#[test]
fn what_follows_a_loss_of_any_length_is_suspect() {
    let tone = line("5", 800, 240, -20.0);
    for lost in [80, 160, 320, 480, 640, 2_000] {
        let mut detector = Detector::new(Point::Armed);
        let mut open = false;
        let mut told = |v: Verdict| match v {
            Verdict::Suspect { .. } => open = true,
            Verdict::Clear { .. } => open = false,
            Verdict::Confirm { .. } => {}
        };
        detector.feed(&tone[..560], &mut told);
        detector.gap(lost, &mut told);
        assert!(open, "{lost} samples lost");
    }
}

/// Stretches as a guard keeps them: (from, to), open ones to the end.
fn stretches(all: &[Verdict], end: u64) -> Vec<(u64, u64)> {
    let (mut list, mut open) = (Vec::new(), None);
    for verdict in all {
        match verdict {
            Verdict::Suspect { from } => open = open.or(Some(*from)),
            Verdict::Confirm { .. } => {}
            Verdict::Clear { from } => list.extend(open.take().map(|begin| (begin, *from))),
        }
    }
    list.extend(open.map(|begin| (begin, end)));
    list
}

#[test]
fn what_a_loss_leaves_of_a_tone_is_masked_wherever_the_loss_falls() {
    // A 40 ms tone at 400…720; one packet of 20 ms lost, at every place where it cuts the tone.
    let whole = line("6", 320, 800, -20.0);
    for at in (240..760).step_by(8) {
        let mut detector = Detector::new(Point::Armed);
        let mut all = Vec::new();
        detector.feed(&whole[..at], &mut |v| all.push(v));
        detector.gap(160, &mut |v| all.push(v));
        detector.feed(&whole[at + 160..], &mut |v| all.push(v));
        let masked = stretches(&all, whole.len() as u64);
        let arrived = (400..720).filter(|n| !(at..at + 160).contains(n));
        let bare = arrived.filter(|n| !masked.iter().any(|(a, b)| (*a..*b).contains(&(*n as u64)))).count();
        assert_eq!(bare, 0, "loss at {at}: {masked:?}");
        assert!(detector.is_clear(), "loss at {at} stays suspect for ever");
        assert_eq!(detector.position(), whole.len() as u64);
    }
}

#[test]
fn a_long_loss_ends_cleanly_and_the_timeline_goes_on() {
    let mut detector = Detector::new(Point::Armed);
    let mut all = Vec::new();
    detector.feed(&[0; 333], &mut |v| all.push(v));
    detector.gap(8 * 3_600_000, &mut |v| all.push(v));
    detector.feed(&[0; 400], &mut |v| all.push(v));
    assert!(detector.is_clear());
    assert_eq!(detector.position(), 333 + 8 * 3_600_000 + 400);
    assert_eq!(stretches(&all, 0).len(), 1);
    let digits = line("123", 320, 400, -20.0);
    detector.feed(&digits, &mut |v| all.push(v));
    assert_eq!(keys(&all), "123");
}

#[test]
fn a_press_goes_on_across_a_loss() {
    let whole = line("7", 1200, 400, -20.0);
    for at in (640..1200).step_by(40) {
        for lost in [160, 320] {
            let mut detector = Detector::new(Point::Armed);
            let mut all = Vec::new();
            detector.feed(&whole[..at], &mut |v| all.push(v));
            detector.gap(lost as u64, &mut |v| all.push(v));
            detector.feed(&whole[at + lost..], &mut |v| all.push(v));
            assert_eq!(keys(&all), "7", "{lost} lost at {at}");
        }
    }
}

#[test]
fn a_loss_of_any_length_that_begins_anywhere_in_a_press_splits_nothing() {
    let whole = line("7", 1200, 400, -20.0);
    for point in [Point::Armed, Point::Unarmed] {
        for at in (480..1600).step_by(8) {
            for lost in [80, 160, 240, 320, 480] {
                let mut detector = Detector::new(point);
                let mut all = Vec::new();
                detector.feed(&whole[..at], &mut |v| all.push(v));
                detector.gap(lost as u64, &mut |v| all.push(v));
                detector.feed(&whole[at + lost..], &mut |v| all.push(v));
                assert_eq!(keys(&all), "7", "{point:?}, {lost} lost at {at}");
            }
        }
    }
}

#[test]
fn two_presses_of_a_key_stay_two_where_a_loss_hides_part_of_the_pause() {
    let whole = line("44", 520, 400, -20.0);
    // The pause of 50 ms is at 920…1320; a packet of 20 ms is lost from it.
    for at in (928..1152).step_by(8) {
        let mut detector = Detector::new(Point::Armed);
        let mut all = Vec::new();
        detector.feed(&whole[..at], &mut |v| all.push(v));
        detector.gap(160, &mut |v| all.push(v));
        detector.feed(&whole[at + 160..], &mut |v| all.push(v));
        assert_eq!(keys(&all), "44", "lost at {at}");
    }
}

#[test]
fn arming_while_a_digit_sounds_tells_the_stretch_at_once_and_only_what_is_not_yet_gone() {
    let whole = line("3", 800, 800, -20.0);
    let mut detector = Detector::new(Point::Unarmed);
    detector.feed(&whole[..800], &mut |_| {});
    assert!(!detector.is_clear());
    assert_eq!(detector.decided(), 800);
    detector.set_point(Point::Armed);
    let mut all = Vec::new();
    detector.feed(&whole[800..], &mut |v| all.push(v));
    let masked = stretches(&all, 0);
    assert_eq!(masked.len(), 1);
    assert!(masked[0].0 == 800 && masked[0].1 > 1200, "{masked:?}");
    assert_eq!(keys(&all), "", "the press was told before");
}

#[test]
fn more_look_ahead_reaches_further_back() {
    for look_ahead in [96, 128, 160, 240] {
        let whole = line("3", 320, 800, -36.0);
        let mut detector = Detector::new(Point::Armed);
        detector.set_look_ahead(look_ahead);
        let mut all = Vec::new();
        for frame in whole.chunks(160) {
            detector.feed(frame, &mut |v| all.push(v));
            assert!(detector.position() - detector.decided() <= look_ahead);
        }
        let masked = stretches(&all, 0);
        assert!(masked.len() == 1 && masked[0].0 < 400 && masked[0].1 > 720, "{masked:?}");
    }
}

/// A voice's vowel: harmonics of a pitch that glides, the two that lie in the groups the strongest.
fn vowel(samples: usize) -> Vec<f32> {
    let mut phase = 0.0f64;
    (0..samples)
        .map(|n| {
            phase += std::f64::consts::TAU * (245.0 + 6.0 * (n as f64 / 400.0).sin()) / 8000.0;
            let waves = [(1, 200.0), (2, 150.0), (3, 1_600.0), (4, 600.0), (5, 1_400.0), (6, 400.0), (7, 150.0)];
            waves.iter().map(|(k, peak)| peak * (f64::from(*k) * phase + f64::from(*k)).sin()).sum::<f64>() as f32
        })
        .collect()
}

/// What the detector told of samples given to it in packets of 10 ms.
fn told(samples: &[f32]) -> Vec<Verdict> {
    let mut detector = Detector::new(Point::Armed);
    let mut all = Vec::new();
    let samples: Vec<i16> = samples.iter().map(|s| crate::dsp::level::clamp(*s)).collect();
    samples.chunks(80).for_each(|packet| detector.feed(packet, &mut |v| all.push(v)));
    all
}

#[test]
fn a_key_pressed_while_a_vowel_goes_on_is_suspect_from_before_its_onset_to_its_end() {
    // A key of 60 ms at about −9 dBm0 for each tone.
    let wave = |hz: f64, n: usize| 8_000.0 * (std::f64::consts::TAU * hz * n as f64 / 8000.0).sin();
    let tone: Vec<f32> = (0..480).map(|n| (wave(770.0, n) + wave(1_336.0, n)) as f32).collect();
    for at in (1_600..2_000).step_by(40) {
        let mut samples = vec![0.0; 800];
        samples.extend(vowel(3_200));
        samples.extend([0.0; 800]);
        samples[at..at + tone.len()].iter_mut().zip(&tone).for_each(|(sum, tone)| *sum += tone);
        let masked = stretches(&told(&samples), 0);
        let (from, to) = (at as u64, (at + tone.len()) as u64);
        assert!(masked.iter().any(|(a, b)| *a <= from && *b >= to), "pressed at {at}: {masked:?}");
    }
}

#[test]
fn two_pure_tones_out_of_tolerance_stay_suspect_to_their_end() {
    for samples in [240, 400, 1_600] {
        let wave = |hz: f64, n: usize| (std::f64::consts::TAU * hz * n as f64 / 8000.0).sin();
        let mut line = vec![0.0f32; 800];
        line.extend((0..samples).map(|n| (2_000.0 * (wave(810.0, n) + wave(1_405.0, n))) as f32));
        line.extend([0.0; 800]);
        let masked = stretches(&told(&line), 0);
        assert!(
            masked.len() == 1 && masked[0].0 <= 800 && masked[0].1 >= 800 + samples as u64,
            "{samples}: {masked:?}"
        );
    }
}

#[test]
fn less_must_be_explained_where_the_line_has_become_louder_and_only_there() {
    let [closed, open] = Point::Armed.bars();
    let part = |bar: &Bar, before: f32| bar.needed(1.0, 0.0, before);
    assert_eq!(part(&closed, 0.0), 0.80, "after silence");
    assert!((part(&closed, 0.2) - 0.68).abs() < 1e-6);
    assert!((0.619..0.65).contains(&part(&closed, 0.38)), "never less than that");
    assert_eq!(part(&closed, 0.5), 0.80, "not louder by enough");
    assert_eq!(part(&closed, 1.0), 0.80);
    assert_eq!(part(&open, 0.3), 0.70);
    assert!(Point::Unarmed.bars().iter().all(|bar| part(bar, 0.3) == 0.90));
}
