//! Levels in dBm0, as telephony counts them: 0 dBm0 is 3.17 dB under the largest sine µ-law can carry (G.711 table 5).
//! Turns samples into levels and back, and follows a line's background level.

/// Root mean square of a 0 dBm0 signal in 16-bit linear units.
pub const RMS_0_DBM0: f32 = 15_769.0;

/// The rms value, in linear units, of a signal at `dbm0`.
pub fn rms(dbm0: f32) -> f32 {
    RMS_0_DBM0 * 10f32.powf(dbm0 / 20.0)
}

/// The peak value, in linear units, of a sine at `dbm0`.
pub fn sine_peak(dbm0: f32) -> f32 {
    rms(dbm0) * std::f32::consts::SQRT_2
}

/// The level of a mean square, in dBm0; −100 for silence.
pub fn dbm0(mean_square: f32) -> f32 {
    if mean_square <= 0.0 {
        return -100.0;
    }
    (10.0 * mean_square.log10() - 20.0 * RMS_0_DBM0.log10()).max(-100.0)
}

/// The mean square of `samples`; 0 for none.
pub fn mean_square(samples: &[i16]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    let sum: f32 = samples.iter().map(|s| f32::from(*s) * f32::from(*s)).sum();
    sum / samples.len() as f32
}

/// The largest magnitude an `f32` sample may have to be a 16-bit one.
pub fn clamp(sample: f32) -> i16 {
    sample.round().clamp(-32_768.0, 32_767.0) as i16
}

/// Frame length of [`Background`], samples (20 ms).
const FRAME: usize = 160;
/// Sub-windows of the minimum, and frames in each: together 1.6 s.
const PARTS: usize = 4;
const PART_FRAMES: u32 = 20;

/// Follows the background level of a line: the smallest 20 ms frame of the last 1.2–1.6 s, so that speech and tones do
/// not count. Feeds the comfort-noise mask.
#[derive(Debug, Clone)]
pub struct Background {
    sum: f32,
    count: usize,
    minima: [f32; PARTS],
    frames: u32,
    level: f32,
}

impl Default for Background {
    fn default() -> Self {
        Self::new()
    }
}

impl Background {
    /// Starts at −60 dBm0, before anything has been heard.
    pub fn new() -> Self {
        let quiet = rms(-60.0);
        Self { sum: 0.0, count: 0, minima: [f32::INFINITY; PARTS], frames: 0, level: quiet * quiet }
    }

    /// Takes samples of any length.
    pub fn feed(&mut self, samples: &[i16]) {
        for sample in samples {
            self.sum += f32::from(*sample) * f32::from(*sample);
            self.count += 1;
            if self.count == FRAME {
                self.frame(self.sum / FRAME as f32);
                (self.sum, self.count) = (0.0, 0);
            }
        }
    }

    fn frame(&mut self, mean_square: f32) {
        self.minima[0] = self.minima[0].min(mean_square);
        self.frames += 1;
        if self.frames == PART_FRAMES {
            self.frames = 0;
            let least = self.minima.iter().copied().fold(f32::INFINITY, f32::min);
            self.level = least;
            self.minima.rotate_right(1);
            self.minima[0] = f32::INFINITY;
        } else {
            self.level = self.level.min(mean_square);
        }
    }

    /// The background's rms, linear units.
    pub fn rms(&self) -> f32 {
        self.level.sqrt()
    }

    /// The background's level, dBm0.
    pub fn dbm0(&self) -> f32 {
        dbm0(self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::noise::Noise;
    use crate::dsp::tone::Tone;

    #[test]
    fn level_and_rms_are_inverse() {
        for level in [-60.0, -36.0, -10.0, 0.0, 3.0] {
            assert!((dbm0(rms(level) * rms(level)) - level).abs() < 0.01);
        }
        assert_eq!(dbm0(0.0), -100.0);
    }

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
        assert!((background.dbm0() + 50.0).abs() < 2.0, "{}", background.dbm0());
    }
}
