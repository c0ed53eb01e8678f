//! Our codecs against others' implementations, where those are installed: G.722 bit for bit, Opus as far as two
//! implementations of a codec with floating point agree.

use tonewall::dsp::halfband::Join;
use tonewall::dsp::level::{mean_square, rms};
use tonewall::dsp::noise::Noise;
use tonewall::dsp::{g722, opus};
use tonewall::dtmf::inband::{Detector, Point, Verdict};
use tonewall::testkit::coding::Coder;
use tonewall::testkit::second_codec::{G722, Opus, OpusSettings};
use tonewall::testkit::speech::Talker;
use tonewall::testkit::tones::{Law, Line, Plan, line};

/// Speech, tones, noise, silence, the loudest and clicks at 16 kHz: what makes an adaptive codec go to its limits.
fn stimuli() -> Vec<i16> {
    let mut noise = Noise::new(77);
    let mut all: Vec<i16> = Talker::new(5, -15.0).say(16_000).into_iter().flat_map(|s| [s, s]).collect();
    for (low, high, peak) in [(697.0, 1_209.0, 6_000.0), (941.0, 1_633.0, 16_000.0), (3_100.0, 6_400.0, 9_000.0)] {
        let wave = |n: u32, hz: f64| (f64::from(n) * std::f64::consts::TAU * hz / 16_000.0).sin() * peak;
        all.extend((0..8_000).map(|n| (wave(n, low) + wave(n, high)).clamp(-32_768.0, 32_767.0) as i16));
        all.extend(std::iter::repeat_n(0, 4_000));
    }
    for level in [-70.0, -50.0, -30.0, -10.0, 3.0] {
        let mut stretch = vec![0; 4_000];
        noise.fill(rms(level), &mut stretch);
        all.extend(stretch);
    }
    all.extend((0..6_000).map(|n| if n / 7 % 2 == 0 { i16::MAX } else { i16::MIN }));
    all.extend((0..6_000).map(|n| if n % 500 == 0 { i16::MAX } else { 0 }));
    all
}

fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn g722_is_spandsps_bit_for_bit() {
    let samples = stimuli();
    let mut bytes = vec![0; samples.len() / 2];
    g722::Encoder::new().encode(&samples, &mut bytes);
    let mut noise = Noise::new(3);
    // What no encoder would send, too.
    bytes.extend((0..20_000).map(|_| noise.bits() as u8));
    let mut heard = vec![0; bytes.len() * 2];
    g722::Decoder::new().decode(&bytes, &mut heard);
    match G722::load() {
        Ok(theirs) => {
            let coded = theirs.encode(&samples);
            let differs = coded.iter().zip(&bytes).position(|(a, b)| a != b);
            assert_eq!((coded.len(), differs), (samples.len() / 2, None), "encoder");
            let decoded = theirs.decode(&bytes);
            // Where the sum of the bands leaves 16 bits the recommendation limits it (G.722 4.4.2); spandsp wraps.
            let limit = |sample: i16| sample == i16::MAX || sample == i16::MIN;
            let differs = decoded.iter().zip(&heard).position(|(a, b)| a != b && !limit(*b));
            assert_eq!((decoded.len(), differs), (heard.len(), None), "decoder");
            let limited = decoded.iter().zip(&heard).filter(|(a, b)| a != b).count();
            assert!(limited < heard.len() / 50, "{limited} of {} differ", heard.len());
        }
        Err(why) => eprintln!("SKIPPED the comparison with spandsp: {why}; only the known sums are compared"),
    }
}

#[test]
fn g722_gives_what_it_gave_when_it_was_compared() {
    // Samples of whole-number arithmetic only, so that the sums hold on every machine.
    let mut noise = Noise::new(1);
    let samples: Vec<i16> = (0..32_000i32)
        .map(|n| match n / 4_000 % 4 {
            0 => (noise.bits() as i16) >> (n / 500 % 12 + 2),
            1 => ((n * n / 7) % 20_000 - 10_000) as i16,
            2 => (n % 40 * 500 - 10_000) as i16,
            _ => 0,
        })
        .collect();
    let mut bytes = vec![0; 16_000];
    g722::Encoder::new().encode(&samples, &mut bytes);
    let mut heard = vec![0; 32_000];
    g722::Decoder::new().decode(&bytes, &mut heard);
    if let Ok(theirs) = G722::load() {
        assert!(theirs.encode(&samples) == bytes, "encoder");
        assert!(theirs.decode(&bytes) == heard, "decoder");
    }
    let sums = (fnv(bytes.iter().copied()), fnv(heard.iter().flat_map(|s| s.to_le_bytes())));
    assert_eq!(sums, (0x9caa_08b6_692d_9d5d, 0x38da_9990_ba6f_bfa1), "{:#x} {:#x}", sums.0, sums.1);
}

/// Best signal-to-difference ratio in dB over small shifts.
fn likeness(a: &[i16], b: &[i16]) -> f32 {
    let length = a.len().min(b.len()) - 400;
    (0..=320usize)
        .map(|shift| {
            let differs: Vec<i16> =
                a[shift..shift + length].iter().zip(&b[..length]).map(|(a, b)| a.saturating_sub(*b)).collect();
            10.0 * (mean_square(&a[shift..shift + length]) / mean_square(&differs).max(1e-3)).log10()
        })
        .fold(f32::MIN, f32::max)
}

#[test]
fn opus_of_libopus_is_heard_as_libopus_hears_it() {
    let theirs = match Opus::load() {
        Ok(theirs) => theirs,
        Err(why) => return eprintln!("SKIPPED the comparison with libopus: {why}"),
    };
    let speech: Vec<i16> = Talker::new(9, -18.0).say(40_000).into_iter().flat_map(|s| [s, s]).collect();
    let base = OpusSettings { rate: 16_000, channels: 1, bitrate: 24_000, variable: true, fec: false, frame: 320 };
    for settings in [
        base,
        OpusSettings { variable: false, fec: true, ..base },
        OpusSettings { frame: 160, ..base },
        OpusSettings { frame: 960, bitrate: 16_000, ..base },
        OpusSettings { rate: 48_000, frame: 960, bitrate: 64_000, ..base },
        OpusSettings { rate: 48_000, frame: 240, bitrate: 64_000, ..base },
        OpusSettings { rate: 48_000, frame: 960, bitrate: 32_000, channels: 2, ..base },
    ] {
        let factor = settings.rate as usize / 16_000 * settings.channels as usize;
        let said: Vec<i16> = speech.iter().flat_map(|s| std::iter::repeat_n(*s, factor)).collect();
        let packets = theirs.encode(settings, &said);
        let expected = theirs.decode(16_000, &packets);
        let (mut ours, mut decoder) = (Vec::new(), opus::Decoder::new());
        for packet in &packets {
            let mut samples = [0; opus::LONGEST];
            let length = decoder.decode(packet, &mut samples);
            ours.extend_from_slice(&samples[..length]);
        }
        assert_eq!(ours.len(), expected.len(), "{settings:?}");
        let db = likeness(&expected, &ours);
        eprintln!("{settings:?}: {db:.1} dB");
        // Packets with a copy of the one before (FEC) now and then come out wrong of the crate we use, each for itself;
        // we ask for none (`useinbandfec=0`).
        let least = if settings.fec { 15.0 } else { 60.0 };
        assert!(db > least, "{settings:?}: {db:.1} dB");
    }
}

#[test]
fn opus_that_changes_its_frames_and_modes_on_the_way_is_heard_as_libopus_hears_it() {
    let theirs = match Opus::load() {
        Ok(theirs) => theirs,
        Err(why) => return eprintln!("SKIPPED the comparison with libopus: {why}"),
    };
    let speech: Vec<i16> = Talker::new(4, -18.0).say(8_000).into_iter().flat_map(|s| [s, s]).collect();
    let base = OpusSettings { rate: 16_000, channels: 1, bitrate: 24_000, variable: true, fec: false, frame: 320 };
    let mut packets = Vec::new();
    for frame in [320, 160, 640, 960, 320, 80, 320, 40, 160] {
        packets.extend(theirs.encode(OpusSettings { frame, ..base }, &speech));
    }
    let expected = theirs.decode(16_000, &packets);
    let mut coder = Coder::new(tonewall::config::Codec::Opus);
    let ours: Vec<i16> = packets.iter().flat_map(|packet| coder.decode_wide(packet)).collect();
    assert_eq!(ours.len(), expected.len());
    let db = likeness(&expected, &ours);
    eprintln!("{db:.1} dB");
    assert!(db > 30.0, "{db:.1} dB");
}

#[test]
fn opus_of_ours_is_heard_by_libopus() {
    let theirs = match Opus::load() {
        Ok(theirs) => theirs,
        Err(why) => return eprintln!("SKIPPED the comparison with libopus: {why}"),
    };
    let speech: Vec<i16> = Talker::new(9, -18.0).say(40_000).into_iter().flat_map(|s| [s, s]).collect();
    for frame in [160, 320, 640] {
        let mut coder = Coder::new(tonewall::config::Codec::Opus);
        let packets: Vec<_> = speech.chunks_exact(frame).map(|frame| coder.encode_wide(frame)).collect();
        assert!(packets.iter().all(|packet| packet.len() == packets[0].len() && !packet.is_empty()));
        let theirs_heard = theirs.decode(16_000, &packets);
        let ours_heard: Vec<i16> = packets.iter().flat_map(|packet| coder.decode_wide(packet)).collect();
        let agree = likeness(&theirs_heard, &ours_heard);
        let quality = likeness(&ours_heard, &speech);
        let settings = OpusSettings {
            rate: 16_000,
            channels: 1,
            bitrate: 40_000,
            variable: false,
            fec: false,
            frame: frame as i32,
        };
        let reference = likeness(&theirs.decode(16_000, &theirs.encode(settings, &speech)), &speech);
        eprintln!(
            "{} ms: decoders agree to {agree:.1} dB; against the speech {quality:.1} dB, libopus {reference:.1} dB",
            frame / 16
        );
        assert!(agree > 30.0 && quality > reference - 4.0);
    }
}

/// Keys named in `heard`: how many of `line`'s in their order, and how many that nobody pressed.
fn named_in(heard: &[i16], line: &Line) -> (usize, usize) {
    let mut detector = Detector::new(Point::Unarmed);
    let mut named = String::new();
    detector.feed(heard, &mut |verdict| {
        if let Verdict::Confirm { digit, .. } = verdict {
            named.push(digit.expose_char());
        }
    });
    let mut left = named.chars();
    let found = if named == line.keys() {
        line.presses.len()
    } else {
        line.keys().chars().filter(|key| left.any(|other| other == *key)).count()
    };
    (found, named.len().saturating_sub(found))
}

/// A line as bar D1 wants it: all keys, short and long, loud and quiet.
fn d1(seed: u64, tone_ms: &[f32]) -> Line {
    let plan = Plan {
        keys: 16,
        tone_ms: tone_ms.to_vec(),
        pause_ms: vec![30.0, 40.0, 50.0],
        dbm0: (-36.0, 0.0),
        law: Law::Linear,
        ..Plan::default()
    };
    line(&plan, seed)
}

const LINES: u64 = 20;

fn through(coder: &dyn Fn(&[i16]) -> Vec<i16>, tone_ms: &[f32]) -> (usize, usize, usize) {
    let mut total = (0, 0, 0);
    for seed in 0..LINES {
        let line = d1(seed, tone_ms);
        let mut samples = line.samples.clone();
        samples.resize(samples.len().next_multiple_of(160) + 8 * 160, 0);
        let (right, extra) = named_in(&coder(&samples), &line);
        total = (total.0 + right, total.1 + line.presses.len(), total.2 + extra);
    }
    total
}

#[test]
fn keys_are_named_through_every_codec() {
    use tonewall::config::Codec;
    const ALL: [f32; 4] = [40.0, 50.0, 65.0, 100.0];
    for codec in [Codec::Pcmu, Codec::G722, Codec::Opus] {
        let coder = |samples: &[i16]| {
            let (mut there, mut back) = (Coder::new(codec), Coder::new(codec));
            samples.chunks_exact(160).flat_map(|frame| back.decode(&there.encode(frame))).collect()
        };
        let (right, pressed, extra) = through(&coder, &ALL);
        eprintln!("{codec:?}: {right} of {pressed} keys of 40–100 ms, 0 to −36 dBm0; {extra} wrong or twice");
        if codec != Codec::Opus {
            assert!((right, extra) == (pressed, 0), "{codec:?}");
        }
    }
    let theirs = match Opus::load() {
        Ok(theirs) => theirs,
        Err(why) => return eprintln!("SKIPPED keys through libopus: {why}"),
    };
    for (bitrate, frame, tone_ms) in
        [(24_000, 320, &ALL[..]), (32_000, 320, &ALL), (64_000, 320, &ALL), (32_000, 320, &ALL[3..])]
    {
        for rate in [16_000, 48_000] {
            let coder = |samples: &[i16]| {
                let (mut up, mut back) = (Join::new(), Coder::new(Codec::Opus));
                let wide = samples.iter().flat_map(|sample| up.push(*sample, [0; 2]));
                let said: Vec<i16> = wide.flat_map(|s| std::iter::repeat_n(s, rate as usize / 16_000)).collect();
                let frame = frame * rate / 16_000;
                let settings = OpusSettings { rate, channels: 1, bitrate, variable: true, fec: false, frame };
                theirs.encode(settings, &said).iter().flat_map(|packet| back.decode(packet)).collect()
            };
            let (right, pressed, extra) = through(&coder, tone_ms);
            eprintln!(
                "libopus {bitrate} bit/s of {rate} Hz, {tone_ms:?} ms: {right} of {pressed}; {extra} wrong or twice"
            );
        }
    }
}
