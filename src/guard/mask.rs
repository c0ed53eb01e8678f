//! What stands in the place of samples that do not go out: noise like the line's own, or silence. Samples and what is
//! known of each go in; samples that may go out come out. A packet that touches a digit is replaced whole, and masked
//! stretches last whole steps of 40 ms, so that neither begin nor length of the mask tells anything of the key.

use super::line::Known;
use crate::config::MaskKind;
use crate::dsp::PER_MS;
use crate::dsp::background::Background;
use crate::dsp::level::clamp;
use crate::dsp::lpc::{Model, Shaper};
use crate::dsp::noise::Noise;

/// Masked stretches are rounded up to this many samples (40 ms).
const STEP: usize = 40 * PER_MS;

/// The mask of one direction.
pub(super) struct Mask {
    noise: Noise,
    shaper: Shaper,
    background: Background,
    /// Samples of the masked stretch so far; 0 outside of one.
    masked: usize,
    /// Samples since the last that was masked.
    calm: u64,
}

impl Mask {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            noise: Noise::new(seed),
            shaper: Shaper::new(),
            background: Background::new(),
            masked: 0,
            calm: u64::MAX / 2,
        }
    }

    /// Learns the line's level and spectrum from audio that is relayed or clean.
    pub(super) fn learn(&mut self, samples: &[i16]) {
        self.background.feed(samples);
        self.shaper.follow(samples);
    }

    /// Audio goes out of which nothing is to be learnt: a digit may be in it.
    pub(super) fn overhear(&mut self, samples: &[i16]) {
        self.background.interrupt();
        self.shaper.follow(samples);
    }

    /// The line's background, rms in linear units.
    pub(super) fn background(&self) -> f32 {
        self.background.rms()
    }

    /// How many samples ago the last masked stretch ended; 0 within one.
    pub(super) fn calm(&self) -> u64 {
        if self.masked == 0 { self.calm } else { 0 }
    }

    /// Replaces in `frame` all that is not known clean.
    pub(super) fn apply(&mut self, kind: MaskKind, frame: &mut [i16], known: &[Known]) {
        let touched = known.contains(&Known::Digit);
        if touched || !self.masked.is_multiple_of(STEP) {
            self.masked += frame.len();
            self.calm = 0;
            // Steps are whole packets: round up where packets do not divide them.
            if !touched && self.masked % STEP < frame.len() {
                self.masked = 0;
            }
            match kind {
                MaskKind::Silence => frame.fill(0),
                MaskKind::ComfortNoise | MaskKind::Tone | MaskKind::Substitute => self.fill(frame),
            }
            return;
        }
        self.masked = 0;
        self.calm += frame.len() as u64;
        if known.iter().all(|known| *known == Known::Clean) {
            self.learn(frame);
            return;
        }
        self.background.interrupt();
        let (rms, model) = (self.background.rms(), *self.background.model());
        for (sample, known) in frame.iter_mut().zip(known) {
            match known {
                Known::Clean => self.shaper.follow(std::slice::from_ref(sample)),
                Known::No | Known::Digit => *sample = self.noise(&model, rms),
            }
        }
    }

    /// Fills a frame with the line's noise.
    pub(super) fn fill(&mut self, frame: &mut [i16]) {
        self.background.interrupt();
        let (rms, model) = (self.background.rms(), *self.background.model());
        for sample in frame {
            *sample = self.noise(&model, rms);
        }
    }

    fn noise(&mut self, model: &Model, rms: f32) -> i16 {
        clamp(self.shaper.next(model, rms, self.noise.gaussian()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_one_digit_sample_is_replaced_whole_and_the_next_to_the_step() {
        let mut mask = Mask::new(1);
        let speech = [1_000i16; 160];
        let mut known = [Known::Clean; 160];
        known[159] = Known::Digit;
        let mut frame = speech;
        mask.apply(MaskKind::Silence, &mut frame, &known);
        assert_eq!(frame, [0; 160]);
        let mut frame = speech;
        mask.apply(MaskKind::Silence, &mut frame, &[Known::Clean; 160]);
        assert_eq!(frame, [0; 160], "40 ms at least");
        let mut frame = speech;
        mask.apply(MaskKind::Silence, &mut frame, &[Known::Clean; 160]);
        assert_eq!(frame, speech);
    }

    #[test]
    fn what_never_came_is_replaced_sample_by_sample() {
        let mut mask = Mask::new(1);
        let mut frame = [1_000i16; 160];
        let mut known = [Known::Clean; 160];
        known[..80].fill(Known::No);
        mask.apply(MaskKind::Tone, &mut frame, &known);
        assert!(frame[..80].iter().all(|s| s.unsigned_abs() < 200));
        assert!(frame[80..].iter().all(|s| *s == 1_000));
    }

    /// A line of noise with a spectrum: two poles, at `hz` with this radius, then a tilt.
    fn coloured(seed: u64, level: f32, (hz, radius, tilt): (f32, f32, f32), count: usize) -> Vec<i16> {
        let mut noise = Noise::new(seed);
        let cosine = (std::f32::consts::TAU * hz / 8_000.0).cos();
        let (mut a, mut b, mut before) = (0.0f32, 0.0f32, 0.0f32);
        let mut raw: Vec<f32> = (0..count)
            .map(|_| {
                let y = noise.gaussian() + 2.0 * radius * cosine * a - radius * radius * b;
                (b, a) = (a, y);
                before = y + tilt * before;
                before
            })
            .collect();
        let rms = (raw.iter().map(|s| s * s).sum::<f32>() / count as f32).sqrt();
        raw.iter_mut().for_each(|s| *s *= crate::dsp::level::rms(level) / rms);
        // As the line brings it: through G.711.
        raw.into_iter().map(|s| crate::dsp::g711::ulaw_decode(crate::dsp::g711::ulaw_encode(clamp(s)))).collect()
    }

    const COLOURS: [(f32, f32, f32); 6] = [
        (1_000.0, 0.0, 0.0),
        (300.0, 0.9, 0.0),
        (1_200.0, 0.8, 0.0),
        (2_800.0, 0.9, 0.0),
        (120.0, 0.9, 0.5),
        (500.0, 0.7, -0.7),
    ];

    /// Power in dB in bands of 250 Hz from 250 to 3,500 Hz.
    fn bands(samples: &[i16]) -> Vec<f64> {
        let windows = samples.chunks_exact(256);
        let count = windows.len() as f64;
        let mut power = vec![0.0f64; 13];
        for window in windows {
            for bin in 8..112 {
                let (mut re, mut im) = (0.0, 0.0);
                for (n, sample) in window.iter().enumerate() {
                    let hann = 0.5 - 0.5 * (std::f64::consts::TAU * n as f64 / 256.0).cos();
                    let angle = std::f64::consts::TAU * bin as f64 * n as f64 / 256.0;
                    re += hann * f64::from(*sample) * angle.cos();
                    im += hann * f64::from(*sample) * angle.sin();
                }
                power[(bin - 8) / 8] += (re * re + im * im) / count;
            }
        }
        power.into_iter().map(|p| 10.0 * (p + 1e-9).log10()).collect()
    }

    fn masked_noise(mask: &mut Mask, count: usize) -> Vec<i16> {
        let mut out = Vec::new();
        while out.len() < count {
            let mut frame = [0; 160];
            mask.apply(MaskKind::ComfortNoise, &mut frame, &[Known::Digit; 160]);
            out.extend(frame);
        }
        out
    }

    #[test]
    fn noise_has_the_level_and_the_spectrum_of_the_line() {
        for (n, colour) in COLOURS.into_iter().enumerate() {
            for level in [-60.0, -50.0, -35.0] {
                let line = coloured(n as u64, level, colour, 80_000);
                let mut mask = Mask::new(3);
                line[..40_000].chunks_exact(160).for_each(|frame| mask.learn(frame));
                let noise = masked_noise(&mut mask, 40_000);
                let power = |s: &[i16]| 10.0 * f64::from(crate::dsp::level::mean_square(s)).log10();
                let louder = power(&noise) - power(&line[40_000..]);
                let (ours, theirs) = (bands(&noise), bands(&line[40_000..]));
                let squares: f64 = ours.iter().zip(&theirs).map(|(a, b)| (a - b).powi(2)).sum();
                let distance = (squares / ours.len() as f64).sqrt();
                eprintln!("{colour:?} at {level} dBm0: {louder:+.2} dB, log-spectral distance {distance:.2} dB");
                assert!(louder.abs() <= 1.0, "{colour:?} at {level}: {louder} dB");
                assert!(distance <= 3.0, "{colour:?} at {level}: {distance} dB {ours:?} {theirs:?}");
            }
        }
    }

    #[test]
    fn what_is_masked_teaches_the_noise_nothing() {
        let line = coloured(1, -50.0, COLOURS[1], 80_000);
        let key = |event: u8| {
            let digit = crate::base::secret::Digit::from_event(event).expect("a key");
            crate::dsp::tone::TwoTone::key(&digit, -12.0)
        };
        // One line without keys, and one each with every key: masked stretches hold the key's tones.
        let told: Vec<Vec<i16>> = (0..17u8)
            .map(|event| {
                let mut mask = Mask::new(9);
                for (n, frame) in line.chunks_exact(160).enumerate() {
                    let mut frame: [i16; 160] = frame.try_into().unwrap();
                    let mut known = [Known::Clean; 160];
                    if n % 10 > 5 {
                        if event < 16 {
                            key(event).fill(&mut frame);
                        }
                        known.fill(Known::Digit);
                    }
                    mask.apply(MaskKind::ComfortNoise, &mut frame, &known);
                }
                masked_noise(&mut mask, 8_000)
            })
            .collect();
        assert!(told.iter().all(|noise| *noise == told[0]), "the noise depends on what was masked");
    }
}
