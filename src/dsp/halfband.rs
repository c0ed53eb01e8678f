//! From 16 kHz to 8 kHz and back by one half-band filter, so that what lies above 4 kHz neither reaches the detector nor
//! is lost to the listener: [`Split`] takes wide samples apart into narrow ones and what these lack, [`Join`] puts them
//! together. With nothing changed in between, what comes out is what went in, [`DELAY`] samples later, bit for bit.
//!
//! ```text
//! wide ─┬─► half-band, every second ──► low (8 kHz) ─┬──────────► may be masked ──► up ──► + ──► wide
//!       └─► delay ──► − ──► high ────────────────────│──────────► may be left out ───────►┘
//!                     └──◄────────── up ◄────────────┘
//! ```
//! 47 taps: flat to 3.4 kHz, 6 dB down at 4 kHz, more than 55 dB down from 4.6 kHz on; every second tap is zero.

use super::level::clamp;

/// Taps beside the middle one at odd distances 1, 3 … 23, the same on both sides (sinc under a Kaiser window, β 5.4).
const SIDE: [f32; 12] = [
    0.317_169_8,
    -0.102_209_99,
    0.057_281_433,
    -0.036_874_106,
    0.024_884_762,
    -0.016_952_63,
    0.011_406_117,
    -0.007_452_509,
    0.004_647_752,
    -0.002_704_449,
    0.001_413_362,
    -0.000_609_527,
];
const TAPS: usize = 2 * SIDE.len();
/// How much later wide samples come out of a [`Split`] and a [`Join`], in samples at 16 kHz (2.8 ms).
pub const DELAY: usize = 45;

/// Halves the rate.
#[derive(Debug, Clone)]
struct Down {
    /// Samples at odd places, which the side taps weigh, and at even ones, of which the middle tap takes one.
    sides: [f32; TAPS],
    middle: [f32; SIDE.len()],
}

impl Down {
    const fn new() -> Self {
        Self { sides: [0.0; TAPS], middle: [0.0; SIDE.len()] }
    }

    fn push(&mut self, pair: [i16; 2]) -> i16 {
        self.sides.copy_within(1.., 0);
        self.sides[TAPS - 1] = f32::from(pair[1]);
        self.middle.copy_within(1.., 0);
        self.middle[SIDE.len() - 1] = f32::from(pair[0]);
        // The middle is the 24th last: its neighbours are sides 11 and 12.
        clamp(0.5 * self.middle[0] + weigh(&self.sides))
    }
}

/// Doubles the rate.
#[derive(Debug, Clone)]
struct Up {
    past: [f32; TAPS],
}

impl Up {
    const fn new() -> Self {
        Self { past: [0.0; TAPS] }
    }

    fn push(&mut self, sample: i16) -> [i16; 2] {
        self.past.copy_within(1.., 0);
        self.past[TAPS - 1] = f32::from(sample);
        [clamp(2.0 * weigh(&self.past)), clamp(self.past[TAPS / 2])]
    }
}

fn weigh(past: &[f32; TAPS]) -> f32 {
    let (before, after) = past.split_at(SIDE.len());
    before.iter().rev().zip(after).zip(SIDE).map(|((a, b), tap)| (a + b) * tap).sum()
}

/// Takes 16 kHz apart.
#[derive(Debug, Clone)]
pub struct Split {
    down: Down,
    up: Up,
    late: [i16; DELAY + 2],
}

impl Default for Split {
    fn default() -> Self {
        Self::new()
    }
}

impl Split {
    /// A splitter that has heard nothing.
    pub const fn new() -> Self {
        Self { down: Down::new(), up: Up::new(), late: [0; DELAY + 2] }
    }

    /// Takes a pair of wide samples: the narrow one, and what the pair it stands for has above it.
    pub fn push(&mut self, pair: [i16; 2]) -> (i16, [i16; 2]) {
        let low = self.down.push(pair);
        let up = self.up.push(low);
        self.late.copy_within(2.., 0);
        self.late[DELAY..].copy_from_slice(&pair);
        (low, [self.late[0].saturating_sub(up[0]), self.late[1].saturating_sub(up[1])])
    }
}

/// Puts 16 kHz together.
#[derive(Debug, Clone)]
pub struct Join(Up);

impl Default for Join {
    fn default() -> Self {
        Self::new()
    }
}

impl Join {
    /// A joiner that has put nothing out.
    pub const fn new() -> Self {
        Self(Up::new())
    }

    /// The pair of wide samples for a narrow one and what a [`Split`] gave beside it, zero for nothing.
    pub fn push(&mut self, low: i16, high: [i16; 2]) -> [i16; 2] {
        let up = self.0.push(low);
        [up[0].saturating_add(high[0]), up[1].saturating_add(high[1])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::level::mean_square;
    use crate::dsp::noise::Noise;

    fn sine(hz: f64, peak: f64) -> Vec<i16> {
        (0..16_000)
            .map(|n| (peak * (f64::from(n) * std::f64::consts::TAU * hz / 16_000.0).sin()).round() as i16)
            .collect()
    }

    /// Level of the narrow band of a wide sine against the sine's own, in dB.
    fn response(hz: f64) -> f32 {
        let wide = sine(hz, 20_000.0);
        let mut split = Split::new();
        let low: Vec<i16> = wide.as_chunks::<2>().0.iter().map(|pair| split.push(*pair).0).collect();
        10.0 * (mean_square(&low[100..]) / mean_square(&wide)).log10()
    }

    #[test]
    fn the_voice_band_passes_and_what_would_alias_does_not() {
        for hz in [200.0, 697.0, 941.0, 1_209.0, 1_633.0, 2_500.0, 3_300.0] {
            assert!(response(hz).abs() < 0.1, "{hz} Hz: {:.2} dB", response(hz));
        }
        for hz in [4_700.0, 5_000.0, 6_200.0, 6_800.0, 7_300.0, 7_900.0] {
            assert!(response(hz) < -55.0, "{hz} Hz: {:.1} dB", response(hz));
        }
    }

    #[test]
    fn apart_and_together_changes_nothing() {
        let mut wide = vec![0i16; 8_000];
        Noise::new(7).fill(9_000.0, &mut wide);
        wide[4_000..4_100].fill(i16::MAX);
        wide[4_100..4_200].fill(i16::MIN);
        let (mut split, mut join) = (Split::new(), Join::new());
        let again: Vec<i16> = wide
            .as_chunks::<2>()
            .0
            .iter()
            .flat_map(|pair| {
                let (low, high) = split.push(*pair);
                join.push(low, high)
            })
            .collect();
        assert_eq!(again[DELAY..], wide[..8_000 - DELAY]);
    }

    #[test]
    fn a_narrow_signal_alone_keeps_its_band() {
        let mut join = Join::new();
        let narrow = |n: u32| (8_000.0 * (f64::from(n) * std::f64::consts::TAU * 1_000.0 / 8_000.0).sin()) as i16;
        let wide: Vec<i16> = (0..8_000).flat_map(|n| join.push(narrow(n), [0; 2])).collect();
        // Its image would lie at 7 kHz.
        let image: f64 = wide
            .iter()
            .enumerate()
            .map(|(n, s)| f64::from(*s) * (n as f64 * std::f64::consts::TAU * 7_000.0 / 16_000.0).sin())
            .sum();
        assert!((image / 16_000.0).abs() < 8.0, "{image}");
    }
}
