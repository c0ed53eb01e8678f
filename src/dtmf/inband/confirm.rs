//! The second stage: is what the last 25 ms hold one key, and which. Two fits, one per half; the turn of each tone's
//! phase from half to half corrects its frequency (exact to well under 1 Hz at 12 dB), twice. Then the frequencies must
//! be a row's and a column's within tolerance, the twist and the explained energy must be a key's.

use super::Point;
use super::bandpass::{gain, omega};
use super::bank::{Look, gram};
use super::front::RECENT;
use crate::dsp::tone::{COLUMNS, ROWS};

/// Accepted deviation from a key's frequency: between the 1.8 % that must be taken and the 3.5 % that must not.
const TOLERANCE: f32 = 0.0265;
/// Accepted strength of the column against the row, as power ratios: −9.5…+6.5 dB.
const TWIST: (f32, f32) = (0.112, 4.47);
/// How much stronger either tone may be in one half than in the other, as a power ratio: 3.5 dB.
const STEADY: f64 = 2.24;
const HALF: usize = RECENT / 2;

/// Part of the line's noise in the energy that is not held against a tone, at most.
const MOST_NOISE: f32 = 0.05;
/// How far apart two fits of one tone may find its frequencies: a voice's harmonics move, a telephone's do not.
const STILL: f32 = 0.005;

/// What is asked of a tone under speech besides: nearer to its nominal frequency, and a column not much weaker than the
/// row. Voices' formants look like keys with a weak column and neighbouring harmonics 2:1.
const PLAIN: f32 = 0.013;
const PLAIN_TWIST: f32 = 0.2;

/// A key with its place on the keypad and the frequencies it was found at.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) place: (u8, u8),
    hz: (f32, f32),
    /// Certain by this fit alone. Otherwise something else sounds too, and a second fit has to find the same tones.
    pub(super) sure: bool,
}

impl Named {
    /// Whether two fits found the same tones.
    pub(super) fn agrees(&self, other: &Named) -> bool {
        let still = |a: f32, b: f32| (a / b - 1.0).abs() <= STILL;
        self.place == other.place && still(self.hz.0, other.hz.0) && still(self.hz.1, other.hz.1)
    }
}

/// One half's fit: complex amplitude of each tone about the half's centre, explained energy.
struct Fit {
    row: (f64, f64),
    column: (f64, f64),
    explained: f64,
}

/// Samples of a half about its centre: sums and differences of those 1, 3, 5… half-samples away, in steps of [`STEP`].
struct Folded {
    even: [[f64; STEP]; STEPS],
    odd: [[f64; STEP]; STEPS],
}

/// Functions are made this many samples at a time; the last step is filled with nothing.
const STEP: usize = 4;
const STEPS: usize = (HALF / 2).div_ceil(STEP);

impl Folded {
    fn new(half: &[f32]) -> Self {
        let mut folded = Self { even: [[0.0; STEP]; STEPS], odd: [[0.0; STEP]; STEPS] };
        let (before, after) = half.split_at(half.len() / 2);
        let places = folded.even.iter_mut().flatten().zip(folded.odd.iter_mut().flatten());
        for ((even, odd), (before, after)) in places.zip(before.iter().rev().zip(after)) {
            let (before, after) = (f64::from(*before), f64::from(*after));
            (*even, *odd) = (after + before, after - before);
        }
        folded
    }

    /// Correlations with the cosine and the sine of a wave.
    fn with(&self, wave: &Wave) -> (f64, f64) {
        let (mut cosine, mut sine) = (wave.cosine, wave.sine);
        let (mut cosines, mut sines) = ([0.0; STEP], [0.0; STEP]);
        for (even, odd) in self.even.iter().zip(&self.odd) {
            for n in 0..STEP {
                cosines[n] += even[n] * cosine[n];
                sines[n] += odd[n] * sine[n];
                let turned = cosine[n] * wave.turn.1 - sine[n] * wave.turn.0;
                sine[n] = sine[n] * wave.turn.1 + cosine[n] * wave.turn.0;
                cosine[n] = turned;
            }
        }
        (cosines.iter().sum(), sines.iter().sum())
    }
}

/// The first step of a wave from a half's centre, and the turn (sine, cosine) from step to step.
struct Wave {
    cosine: [f64; STEP],
    sine: [f64; STEP],
    turn: (f64, f64),
}

impl Wave {
    fn new(omega: f64) -> Self {
        let add = |(s, c): (f64, f64), (s1, c1): (f64, f64)| (s * c1 + c * s1, c * c1 - s * s1);
        let mut at = (omega / 2.0).sin_cos();
        let one = add(at, at);
        let mut wave = Self { cosine: [0.0; STEP], sine: [0.0; STEP], turn: (0.0, 1.0) };
        for n in 0..STEP {
            (wave.sine[n], wave.cosine[n]) = at;
            at = add(at, one);
            wave.turn = add(wave.turn, one);
        }
        wave
    }
}

/// Fits one half; `even` and `odd` are the parts of `G`.
fn fit(half: &Folded, row: &Wave, column: &Wave, [even, odd]: [(f64, f64, f64); 2]) -> Fit {
    let sums = [half.with(row), half.with(column)];
    let solve = |(rr, rc, cc): (f64, f64, f64), low: f64, high: f64| {
        let determinant = rr * cc - rc * rc;
        ((cc * low - rc * high) / determinant, (rr * high - rc * low) / determinant)
    };
    let (row_cosine, column_cosine) = solve(even, sums[0].0, sums[1].0);
    let (row_sine, column_sine) = solve(odd, sums[0].1, sums[1].1);
    Fit {
        row: (row_cosine, row_sine),
        column: (column_cosine, column_sine),
        explained: row_cosine * sums[0].0 + row_sine * sums[0].1 + column_cosine * sums[1].0 + column_sine * sums[1].1,
    }
}

/// The turn of phase from the first half's centre to the second's beyond what `omega` makes, in radians per sample.
fn correction(first: (f64, f64), second: (f64, f64), omega: f64) -> f64 {
    // a·cos ωt + b·sin ωt is the real part of (a − jb)·e^{jωt}.
    let phase = |(a, b): (f64, f64)| (-b).atan2(a);
    let turned = phase(second) - phase(first) - omega * HALF as f64;
    let wrapped = turned - std::f64::consts::TAU * (turned / std::f64::consts::TAU).round();
    wrapped / HALF as f64
}

/// Names the key in `recent`, oldest first, if it is one.
pub(super) fn name(recent: &[f32], look: &Look, point: Point) -> Option<Named> {
    let (first, second) = recent.split_at_checked(HALF)?;
    let (first_half, second_half) = (Folded::new(first), Folded::new(second));
    let (mut row, mut column) = (omega(f64::from(look.hz.0)), omega(f64::from(look.hz.1)));
    let mut fits = None;
    for _ in 0..3 {
        let (waves, parts) = ((Wave::new(row), Wave::new(column)), gram(HALF, row, column));
        let first = fit(&first_half, &waves.0, &waves.1, parts);
        let second = fit(&second_half, &waves.0, &waves.1, parts);
        let (dr, dc) = (correction(first.row, second.row, row), correction(first.column, second.column, column));
        fits = Some((first, second));
        if dr.abs().max(dc.abs()) < omega(1.0) {
            break;
        }
        row += dr;
        column += dc;
    }
    let (first, second) = fits?;
    let to_hz = |w: f64| (w * f64::from(crate::dsp::RATE) / std::f64::consts::TAU) as f32;
    let place = (nearest(&ROWS, to_hz(row))?, nearest(&COLUMNS, to_hz(column))?);
    let total: f64 = recent.iter().map(|y| f64::from(*y) * f64::from(*y)).sum();
    let explained = ((first.explained + second.explained) / total) as f32;
    let power = |a: (f64, f64)| a.0 * a.0 + a.1 * a.1;
    let low = [power(first.row), power(second.row)];
    let high = [power(first.column), power(second.column)];
    let twist = ((high[0] + high[1]) / gain(column) / ((low[0] + low[1]) / gain(row))) as f32;
    let steady = |[a, b]: [f64; 2]| a < STEADY * b && b < STEADY * a;
    let sound = twist >= TWIST.0 && twist <= TWIST.1 && steady(low) && steady(high);
    let (sure, likely) = match point {
        Point::Armed => (0.92, 0.80),
        Point::Unarmed => (0.94, 0.94),
    };
    let allowed = look.noise.min(MOST_NOISE);
    let sure = explained >= sure - allowed;
    let plain = twist >= PLAIN_TWIST
        && off(to_hz(row), ROWS[usize::from(place.0)]) <= PLAIN
        && off(to_hz(column), COLUMNS[usize::from(place.1)]) <= PLAIN;
    let found = sound && (sure || (plain && explained >= likely - allowed));
    found.then(|| Named { place, hz: (to_hz(row), to_hz(column)), sure })
}

/// How far a frequency is from its nominal one, as a part of it.
fn off(hz: f32, nominal: f32) -> f32 {
    (hz / nominal - 1.0).abs()
}

fn nearest(group: &[f32; 4], hz: f32) -> Option<u8> {
    group.iter().position(|nominal| off(hz, *nominal) <= TOLERANCE).map(|n| n as u8)
}
