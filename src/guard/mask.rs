//! What stands in the place of samples that do not go out: noise like the line's own, or silence. Samples and what is
//! known of each go in; samples that may go out come out. Where line and mask meet they fade into one another, and only
//! samples that are known clean take part in a fade.
//!
//! ```text
//!              draw 0–8 ms                                  whole steps of 40 ms, once longer than one
//!                 ├──┤                                      ├──────────────────┤
//!   line ━━━━━━━╲    ┃ first sample that may be a digit's                      ╱━━━━━━━━━━
//!   mask         ╲▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒╱
//! ```
//!
//! # What the edges tell
//! A detector is sure of one key a millisecond sooner than of another: an edge at the sample it speaks of would tell up
//! to half a bit of the key to somebody who knows when it was pressed. So the begin is moved ahead by a random part of
//! 8 ms, many times what keys differ by, which leaves some hundredths of a bit at worst (measured in the tests). The end of what
//! lasted 40 ms or longer falls on a whole step, so it tells the key's length to 40 ms and nothing else. What is
//! suspected and over sooner is no key that any receiver would take, and is let go at once.

use super::line::Known;
use crate::config::MaskKind;
use crate::dsp::PER_MS;
use crate::dsp::background::Background;
use crate::dsp::level::clamp;
use crate::dsp::lpc::{Model, Shaper};
use crate::dsp::noise::Noise;

/// Masked stretches longer than this last whole steps of it, in samples (40 ms).
const STEP: usize = 40 * PER_MS;
/// A stretch begins up to so many samples sooner than it would have to (8 ms).
const LEAD: u64 = 8 * PER_MS as u64;
/// Length of the fade into the mask, in samples (2 ms), as far as its packet has not gone; and out of it (4 ms).
const FADE_OUT: usize = 2 * PER_MS;
const FADE_IN: usize = 4 * PER_MS;
/// What the last sample of the line leaves where there was no room to fade, from sample to sample.
const DECAY: f32 = 0.8;

/// The mask of one direction.
pub(super) struct Mask {
    noise: Noise,
    shaper: Shaper,
    background: Background,
    /// Samples of the masked stretch so far, within one.
    stretch: Option<usize>,
    /// Samples of the line since the last that was replaced.
    calm: u64,
    /// The line's part in the last sample that went out, dying away where the mask has begun.
    echo: f32,
}

impl Mask {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            noise: Noise::new(seed),
            shaper: Shaper::new(),
            background: Background::new(),
            stretch: None,
            calm: u64::MAX / 2,
            echo: 0.0,
        }
    }

    /// Learns the line's level and spectrum from audio that is relayed or clean.
    pub(super) fn learn(&mut self, samples: &[i16]) {
        self.background.feed(samples);
        self.note_last(samples);
    }

    /// Audio goes out of which nothing is to be learnt: a digit may be in it.
    pub(super) fn overhear(&mut self, samples: &[i16]) {
        self.background.interrupt();
        self.note_last(samples);
    }

    fn note_last(&mut self, samples: &[i16]) {
        self.echo = samples.last().map_or(self.echo, |sample| f32::from(*sample));
    }

    /// The line's background, rms in linear units.
    pub(super) fn background(&self) -> f32 {
        self.background.rms()
    }

    /// How many samples ago the last masked stretch ended; 0 within one.
    pub(super) fn calm(&self) -> u64 {
        if self.stretch.is_none() { self.calm } else { 0 }
    }

    /// Replaces in `frame` all that is not known clean, and what hides where that began and ended.
    pub(super) fn apply(&mut self, kind: MaskKind, frame: &mut [i16], known: &[Known]) {
        let clean = self.stretch.is_none() && known.iter().all(|known| *known == Known::Clean);
        if clean && self.calm >= FADE_IN as u64 {
            self.calm += frame.len() as u64;
            return self.learn(frame);
        }
        self.background.interrupt();
        let (rms, model) = (self.background.rms(), *self.background.model());
        let silent = kind == MaskKind::Silence;
        let mut at = 0;
        while at < frame.len() {
            if let Some(length) = self.stretch {
                if known[at] != Known::Digit && (length < STEP || length.is_multiple_of(STEP)) {
                    self.stretch = None;
                    self.calm = 0;
                    continue;
                }
                self.stretch = Some(length + 1);
                let noise = self.noise(&model, if silent { 0.0 } else { rms });
                frame[at] = self.stand_in(noise);
                at += 1;
                continue;
            }
            let digit = known[at..].iter().position(|known| *known == Known::Digit).map(|n| at + n);
            let begin = digit.map_or(frame.len(), |digit| digit.saturating_sub(self.lead()).max(at));
            for n in at..begin {
                let left = if digit.is_some() { begin - n } else { usize::MAX };
                let noise = self.noise(&model, rms);
                let noise_here = if silent && known[n] == Known::Clean { 0.0 } else { noise };
                frame[n] = self.line(frame[n], known[n], noise_here, left);
            }
            if digit.is_some() {
                self.stretch = Some(0);
            }
            at = begin;
        }
    }

    /// How many samples sooner than it would have to a stretch begins.
    fn lead(&mut self) -> usize {
        (self.noise.bits() % LEAD) as usize
    }

    /// A sample outside of masked stretches, with `left` samples to the next one's begin.
    fn line(&mut self, sample: i16, known: Known, noise: f32, left: usize) -> i16 {
        if known != Known::Clean {
            self.calm = 0;
            return self.stand_in(noise);
        }
        let weight = |done: u64, of: usize| ((done as f32 + 0.5) / of as f32).min(1.0);
        let weight = weight(self.calm, FADE_IN).min(weight(left as u64 - 1, FADE_OUT));
        self.calm += 1;
        self.echo = f32::from(sample) * weight;
        if weight >= 1.0 {
            return sample;
        }
        // Of equal power, for line and noise know nothing of one another.
        clamp(self.echo + noise * (1.0 - weight * weight).sqrt())
    }

    /// A sample in the line's place.
    fn stand_in(&mut self, noise: f32) -> i16 {
        self.echo *= DECAY;
        clamp(self.echo + noise)
    }

    fn noise(&mut self, model: &Model, rms: f32) -> f32 {
        let excitation = self.noise.gaussian();
        self.shaper.next(model, rms, excitation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out for one frame of 1,000s.
    fn masked(mask: &mut Mask, known: &[Known; 160]) -> [i16; 160] {
        let mut frame = [1_000i16; 160];
        mask.apply(MaskKind::Silence, &mut frame, known);
        frame
    }

    #[test]
    fn a_short_suspicion_is_masked_to_the_sample_and_a_little_ahead() {
        for seed in 0..200 {
            let mut mask = Mask::new(seed);
            masked(&mut mask, &[Known::Clean; 160]);
            let mut known = [Known::Clean; 160];
            known[100..130].fill(Known::Digit);
            let frame = masked(&mut mask, &known);
            assert!(frame[..20].iter().all(|s| *s == 1_000));
            assert!(frame[105..130].iter().all(|s| s.unsigned_abs() < 500), "{frame:?}");
            assert!(frame[125..130].iter().all(|s| s.unsigned_abs() < 10), "{frame:?}");
            assert_eq!(masked(&mut mask, &[Known::Clean; 160])[2..], [1_000; 158]);
        }
    }

    #[test]
    fn a_long_one_lasts_whole_steps() {
        for length in [321, 400, 639, 640, 641, 1_000] {
            let mut mask = Mask::new(length as u64);
            masked(&mut mask, &[Known::Clean; 160]);
            let (mut out, mut left) = (Vec::new(), length);
            for _ in 0..10 {
                let mut known = [Known::Clean; 160];
                let digits = left.min(160);
                known[..digits].fill(Known::Digit);
                left -= digits;
                out.extend(masked(&mut mask, &known));
            }
            // Of the fade, the first sample is already something.
            let until = out.iter().rposition(|s| s.unsigned_abs() < 10).map_or(0, |at| at + 1);
            assert_eq!(until, length.next_multiple_of(STEP), "{length}");
        }
    }

    #[test]
    fn where_nothing_is_masked_every_sample_is_the_lines() {
        let mut mask = Mask::new(1);
        for _ in 0..20 {
            assert_eq!(masked(&mut mask, &[Known::Clean; 160]), [1_000; 160]);
        }
    }

    #[test]
    fn what_never_came_is_replaced_sample_by_sample() {
        let mut mask = Mask::new(1);
        let mut frame = [1_000i16; 160];
        let mut known = [Known::Clean; 160];
        known[..80].fill(Known::No);
        mask.apply(MaskKind::Tone, &mut frame, &known);
        assert!(frame[..80].iter().all(|s| s.unsigned_abs() < 200));
        assert!(frame[80 + FADE_IN..].iter().all(|s| *s == 1_000));
    }

    #[test]
    fn no_sample_that_is_not_clean_has_any_part_in_what_goes_out() {
        for kind in [MaskKind::Silence, MaskKind::ComfortNoise] {
            let mut masks = [Mask::new(5), Mask::new(5)];
            let mut choice = Noise::new(8);
            let mut outs = [Vec::new(), Vec::new()];
            let mut state = Known::Clean;
            for _ in 0..400 {
                let mut known = [Known::Clean; 160];
                let mut frames = [[0i16; 160]; 2];
                for n in 0..160 {
                    if choice.bits().is_multiple_of(50) {
                        state = [Known::Clean, Known::Digit, Known::No][(choice.bits() % 3) as usize];
                    }
                    known[n] = state;
                    let sample = (choice.gaussian() * 2_000.0) as i16;
                    frames[0][n] = sample;
                    frames[1][n] = if state == Known::Clean { sample } else { (choice.bits() >> 50) as i16 };
                }
                for ((mask, frame), out) in masks.iter_mut().zip(&mut frames).zip(&mut outs) {
                    mask.apply(kind, frame, &known);
                    out.extend_from_slice(frame);
                }
            }
            assert!(outs[0] == outs[1], "{kind:?}: what was masked shows");
        }
    }

    /// What a stranger who knows when a key was pressed learns of it by where the mask begins and how long it lasts, in
    /// bits: the mutual information of key and edge over presses of every key, with the bias of small samples removed.
    fn information(pairs: &[(u8, i64)]) -> f64 {
        use std::collections::BTreeMap;
        let (mut both, mut keys, mut edges) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (key, edge) in pairs {
            *both.entry((*key, *edge)).or_insert(0.0) += 1.0;
            *keys.entry(*key).or_insert(0.0) += 1.0;
            *edges.entry(*edge).or_insert(0.0) += 1.0;
        }
        let n = pairs.len() as f64;
        let raw: f64 = both.iter().map(|((key, edge), c)| c / n * (c * n / (keys[key] * edges[edge])).log2()).sum();
        let cells = both.len() as f64 - keys.len() as f64 - edges.len() as f64 + 1.0;
        raw - cells / (2.0 * n * std::f64::consts::LN_2)
    }

    /// Presses every digit's key often on a clear line and gives, per press, its key with: where the first sample that
    /// may be a digit's lies from the onset, where the mask begins, how long it lasts.
    fn edges(presses: usize, random_phase: bool) -> [Vec<(u8, i64)>; 3] {
        use crate::dsp::tone::{COLUMNS, KEY_AT, ROWS, Tone, TwoTone};
        use crate::dtmf::inband::Point;
        use crate::guard::line::Line;
        let mut noise = Noise::new(77);
        let mut found = [Vec::new(), Vec::new(), Vec::new()];
        for key in 0..10u8 {
            let place = (0..12).map(|n| (n / 3, n % 3)).find(|(row, column)| KEY_AT[*row][*column] == key);
            let (row, column) = place.expect("a key");
            for press in 0..presses {
                let onset = 480 + (noise.bits() % 160) as usize;
                let mut said = vec![0i16; onset + 1_600];
                noise.fill(12.0, &mut said);
                let mut phase = || if random_phase { (noise.bits() % 6_283) as f32 / 1_000.0 } else { 0.0 };
                let row = Tone::with_phase(ROWS[row], -13.0, phase());
                let mut tones = TwoTone::new(row, Tone::with_phase(COLUMNS[column], -13.0, phase()));
                for sample in &mut said[onset..onset + 480] {
                    *sample = clamp(f32::from(*sample) + tones.sample());
                }
                let mut line = Line::new();
                line.restart(0, Point::Armed);
                let mut mask = Mask::new((1_000 * u64::from(key)) + press as u64);
                let mut all = Vec::new();
                let mut bare = None;
                for at in (0..said.len() - 320).step_by(160) {
                    line.lay(at as u64, &said[at..at + 320], &[]);
                    line.hear(0, &mut |_| {});
                    let (mut frame, mut known) = ([0i16; 160], [Known::No; 160]);
                    line.take(&mut frame, &mut [[0; 2]; 160], &mut known);
                    let first = known.iter().position(|k| *k == Known::Digit);
                    bare = bare.or(first.map(|first| (all.len() + first) as i64));
                    // Each sample tells whether it was masked: no fade is as loud as this.
                    let mut told = [30_000i16; 160];
                    mask.apply(MaskKind::Silence, &mut told, &known);
                    all.extend(told);
                }
                let masked = |s: &i16| *s < 15_000;
                let begin = all[320..].iter().position(masked).expect("masked") as i64 + 320;
                let end = all.iter().rposition(masked).expect("masked") as i64;
                let onset = onset as i64;
                let told = [bare.expect("suspected") - onset, begin - onset, end - begin];
                for (found, told) in found.iter_mut().zip(told) {
                    found.push((key, told));
                }
            }
        }
        found
    }

    #[test]
    fn the_edges_of_the_mask_tell_next_to_nothing_of_the_key() {
        // Every press of a key with the same phases, over a line almost without noise, is the hardest case there is.
        for (random_phase, most_told) in [(false, 0.04), (true, 0.02)] {
            let found = edges(150, random_phase);
            let told = found.each_ref().map(|pairs| {
                let coarse: Vec<_> = pairs.iter().map(|(key, at)| (*key, at.div_euclid(4))).collect();
                information(&coarse)
            });
            let last = found[1].iter().map(|(_, begin)| *begin).max();
            eprintln!(
                "phases {}: a key's edges tell {:.3} bit by the begin ({:.3} as detected), {:.3} by the length; the \
                 latest begin is {last:?} samples after the onset",
                if random_phase { "random" } else { "the same" },
                told[1],
                told[0],
                told[2],
            );
            assert!(random_phase || told[0] > 0.1, "the measure sees what a bare edge tells: {told:?}");
            assert!(told[1] <= most_told && told[2] <= 0.02, "{told:?}");
            assert!(last.is_some_and(|last| last < -8), "the mask begins before the key: {last:?}");
        }
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
