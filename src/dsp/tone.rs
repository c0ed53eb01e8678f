//! Tone synthesis: one sine, or the two of a DTMF key (ITU-T Q.23), by a rotating phasor: two multiplications and two
//! additions per axis and sample, no table, amplitude held by the rotation's own renormalisation.

use super::level::{clamp, sine_peak};
use crate::base::secret::Digit;

/// Row (low group) frequencies of Q.23, Hz.
pub const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
/// Column (high group) frequencies of Q.23, Hz.
pub const COLUMNS: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];

/// RFC 4733 event code of the key at row, column.
pub const KEY_AT: [[u8; 4]; 4] = [[1, 2, 3, 12], [4, 5, 6, 13], [7, 8, 9, 14], [10, 0, 11, 15]];

/// Row and column of an RFC 4733 event code 0–15 (only the low four bits count).
pub const fn place_of(event: u8) -> (usize, usize) {
    const PLACES: [(usize, usize); 16] = {
        let mut places = [(0, 0); 16];
        let mut row = 0;
        while row < 4 {
            let mut column = 0;
            while column < 4 {
                places[KEY_AT[row][column] as usize] = (row, column);
                column += 1;
            }
            row += 1;
        }
        places
    };
    PLACES[(event & 15) as usize]
}

/// One sine at 8 kHz that goes on where it stopped.
#[derive(Debug, Clone)]
pub struct Tone {
    sine: f64,
    cosine: f64,
    step_sine: f64,
    step_cosine: f64,
    peak: f32,
}

impl Tone {
    /// A sine of `hz` at `dbm0` that starts at phase 0.
    pub fn new(hz: f32, dbm0: f32) -> Self {
        Self::with_phase(hz, dbm0, 0.0)
    }

    /// A sine that starts at `phase` radians.
    pub fn with_phase(hz: f32, dbm0: f32, phase: f32) -> Self {
        let step = std::f64::consts::TAU * f64::from(hz) / f64::from(super::RATE);
        Self {
            sine: f64::from(phase).sin(),
            cosine: f64::from(phase).cos(),
            step_sine: step.sin(),
            step_cosine: step.cos(),
            peak: sine_peak(dbm0),
        }
    }

    /// The next sample, linear units.
    #[inline]
    pub fn sample(&mut self) -> f32 {
        let out = self.sine as f32 * self.peak;
        let sine = self.sine * self.step_cosine + self.cosine * self.step_sine;
        let cosine = self.cosine * self.step_cosine - self.sine * self.step_sine;
        // One Newton step toward length 1: rounding never grows.
        let correction = 1.5 - 0.5 * (sine * sine + cosine * cosine);
        self.sine = sine * correction;
        self.cosine = cosine * correction;
        out
    }

    /// Writes the next samples over `out`.
    pub fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            *sample = clamp(self.sample());
        }
    }
}

/// The two tones of a key.
#[derive(Debug, Clone)]
pub struct TwoTone {
    row: Tone,
    column: Tone,
}

impl TwoTone {
    /// The key's nominal tones, each at `dbm0`.
    pub fn key(digit: &Digit, dbm0: f32) -> Self {
        let (row, column) = place_of(digit.expose_event());
        Self { row: Tone::new(ROWS[row], dbm0), column: Tone::new(COLUMNS[column], dbm0) }
    }

    /// Any two tones.
    pub fn new(row: Tone, column: Tone) -> Self {
        Self { row, column }
    }

    /// The next sample, linear units, not yet clipped.
    #[inline]
    pub fn sample(&mut self) -> f32 {
        self.row.sample() + self.column.sample()
    }

    /// Writes the next samples over `out`.
    pub fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            *sample = clamp(self.sample());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::level::{dbm0, mean_square};

    #[test]
    fn a_tone_has_its_level_and_frequency_after_a_minute() {
        let mut tone = Tone::new(1000.0, -10.0);
        let mut second = [0i16; 8000];
        for _ in 0..60 {
            tone.fill(&mut second);
        }
        assert!((dbm0(mean_square(&second)) + 10.0).abs() < 0.05);
        let rises = second.windows(2).filter(|w| w[0] < 0 && w[1] >= 0).count();
        assert!((999..=1001).contains(&rises), "{rises}");
    }

    #[test]
    fn every_key_has_its_own_place() {
        for event in 0..16 {
            let (row, column) = place_of(event);
            assert_eq!(KEY_AT[row][column], event);
        }
    }
}
