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
