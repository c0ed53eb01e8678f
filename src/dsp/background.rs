//! Follows the background of a line, its level and its spectrum, for the noise that stands in the place of what is
//! masked. Clean samples go in; a level and a [`Model`] come out. Speech and tones do not count: only the quietest
//! frames of the last second or two are looked at. Who feeds it sees to it that nothing suspect is among them.
//!
//! ```text
//!  20 ms frames     ▂▂▇█▇▂▁▂▇▇█▂▂▁▂▂        least of 1.2–1.6 s ── within 8 dB of it: counts
//!                   ✓✓   ✓✓✓   ✓✓✓✓✓        ── autocorrelation added up; every 0.4 s a new model, old ones fade
//! ```

use super::level::{dbm0, rms};
use super::lpc::{Autocorrelation, FRAME, Model, ORDER, correlate};

/// Sub-windows of the minimum, and frames in each: together 1.6 s.
const PARTS: usize = 4;
const PART_FRAMES: u32 = 20;
/// A frame counts when its power is within this factor of the least (8 dB).
const NEAR: f32 = 6.3;
/// A frame whose power is this far under the level (12 dB) is a line that has become quieter: what was learnt is void.
const QUIETER: f32 = 16.0;
/// What is kept of the sums from one part to the next; they reach over about two seconds.
const FADE: f32 = 0.8;
/// Frames from which a model is made.
const ENOUGH: f32 = 5.0;

/// The background of one line.
#[derive(Debug, Clone)]
pub struct Background {
    frame: [i16; FRAME],
    filled: usize,
    minima: [f32; PARTS],
    frames: u32,
    sums: Autocorrelation,
    /// Mean squares of the frames in `sums`, added up.
    power: f32,
    /// Frames in `sums`.
    weight: f32,
    /// Mean square.
    level: f32,
    model: Model,
}

impl Default for Background {
    fn default() -> Self {
        Self::new()
    }
}

impl Background {
    /// Starts at −60 dBm0 and white, before anything has been heard.
    pub fn new() -> Self {
        let quiet = rms(-60.0);
        Self {
            frame: [0; FRAME],
            filled: 0,
            minima: [f32::INFINITY; PARTS],
            frames: 0,
            sums: [0.0; ORDER + 1],
            power: 0.0,
            weight: 0.0,
            level: quiet * quiet,
            model: Model::FLAT,
        }
    }

    /// Takes samples of any length that follow those before.
    pub fn feed(&mut self, samples: &[i16]) {
        let mut rest = samples;
        while !rest.is_empty() {
            let taken = rest.len().min(FRAME - self.filled);
            self.frame[self.filled..self.filled + taken].copy_from_slice(&rest[..taken]);
            self.filled += taken;
            rest = &rest[taken..];
            if self.filled == FRAME {
                self.filled = 0;
                self.whole_frame();
            }
        }
    }

    /// What comes next does not follow what was fed last: an unfinished frame is left out.
    pub fn interrupt(&mut self) {
        self.filled = 0;
    }

    fn whole_frame(&mut self) {
        let power = super::level::mean_square(&self.frame);
        self.minima[0] = self.minima[0].min(power);
        let least = self.minima.iter().copied().fold(f32::INFINITY, f32::min);
        if power * QUIETER < self.level {
            self.level = power;
            self.restart();
        }
        if power <= least * NEAR {
            correlate(&self.frame, &mut self.sums);
            self.power += power;
            self.weight += 1.0;
        }
        self.frames += 1;
        if self.frames == PART_FRAMES {
            self.frames = 0;
            self.turn(least);
        }
    }

    /// A part is over: makes the model anew.
    fn turn(&mut self, least: f32) {
        let mean = |power: f32, weight: f32| power / weight;
        if self.weight > 0.0 && !(least / NEAR..=least * NEAR).contains(&mean(self.power, self.weight)) {
            // The line has become louder: what was learnt before is of another line.
            self.restart();
            self.level = least;
        }
        if self.weight >= ENOUGH {
            self.level = mean(self.power, self.weight);
            self.model = Model::fit(&self.sums);
        }
        for sum in &mut self.sums {
            *sum *= FADE;
        }
        self.power *= FADE;
        self.weight *= FADE;
        self.minima.rotate_right(1);
        self.minima[0] = f32::INFINITY;
    }

    fn restart(&mut self) {
        (self.sums, self.power, self.weight) = ([0.0; ORDER + 1], 0.0, 0.0);
    }

    /// The background's rms, linear units.
    pub fn rms(&self) -> f32 {
        self.level.sqrt()
    }

    /// The background's level, dBm0.
    pub fn dbm0(&self) -> f32 {
        dbm0(self.level)
    }

    /// Its spectrum.
    pub fn model(&self) -> &Model {
        &self.model
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::noise::Noise;
    use crate::dsp::tone::Tone;

    #[test]
    fn background_hears_the_noise_under_the_tones() {
        let mut noise = Noise::new(5);
        let mut background = Background::new();
        let mut frame = [0i16; 160];
        for n in 0..250 {
            noise.fill(rms(-50.0), &mut frame);
            if n % 10 < 4 {
                Tone::new(697.0, -10.0).fill(&mut frame);
            }
            background.feed(&frame);
        }
        assert!((background.dbm0() + 50.0).abs() < 1.0, "{}", background.dbm0());
        let spread = [697.0, 1_209.0, 3_000.0].map(|hz| 10.0 * background.model().power_at(hz).log10());
        assert!(spread.iter().all(|db| db.abs() < 2.0), "{spread:?}");
    }

    #[test]
    fn a_line_that_becomes_louder_or_quieter_is_followed() {
        let mut noise = Noise::new(6);
        let mut background = Background::new();
        let mut frame = [0i16; 160];
        for level in [-50.0, -30.0, -60.0, -40.0] {
            for _ in 0..200 {
                noise.fill(rms(level), &mut frame);
                background.feed(&frame);
            }
            assert!((background.dbm0() - level).abs() < 1.0, "{level}: {}", background.dbm0());
        }
    }

    #[test]
    fn digital_silence_is_silence() {
        let mut background = Background::new();
        for _ in 0..100 {
            background.feed(&[0; 160]);
        }
        assert!(background.rms() < 1.0);
    }
}
