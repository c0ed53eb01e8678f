//! The second stage: is what the last 25 ms (or less, beside a loss) hold one key, and which. Two fits, one per half; the
//! turn of each tone's phase from half to half corrects its frequency (exact to well under 1 Hz at 12 dB), twice. Then
//! the frequencies must be a row's and a column's within tolerance, the twist and the explained energy must be a key's.
//! What several fits amount to is `evidence`'s business.

use super::Point;
use super::bandpass::{gain, omega};
use super::bank::Look;
use super::front::RECENT;
use crate::dsp::tone::{COLUMNS, ROWS};

/// Accepted deviation from a key's frequency: between the 1.8 % that must be taken and the 3.5 % that must not.
const TOLERANCE: f32 = 0.0265;
/// The same for one who has nothing to lose by refusing: of what is 1.8 % off in 12 dB of noise none is found further off
/// than 1.95 %, and voices' harmonics seldom lie within.
const STRICT: f32 = 0.0225;
/// Accepted strength of the column against the row, as power ratios: −9.5…+6.5 dB.
const TWIST: (f32, f32) = (0.112, 4.47);
/// How much stronger either tone may be in one half than in the other, as a power ratio: 3.5 dB.
const STEADY: f64 = 2.24;

/// Part of the line's noise in the energy that is not held against a tone, at most.
const MOST_NOISE: f32 = 0.05;
/// How far apart two fits of one tone may find its frequencies: a voice's harmonics move, a telephone's do not.
const STILL: f32 = 0.015;

/// What is asked of a tone that is not certain by one fit: nearer to its nominal frequency, and a column not much weaker
/// than the row. Voices' formants look like keys with a weak column and neighbouring harmonics 2:1.
const PLAIN: f32 = 0.013;
const PLAIN_TWIST: f32 = 0.2;
/// How much stronger either tone may then be in one half than in the other: a voice's harmonics come and go under it.
/// 7.8 dB.
const PLAIN_STEADY: f64 = 6.0;

/// A key that a fit has found: its place on the keypad, the frequencies it was found at, and how much speaks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) place: (u8, u8),
    hz: (f32, f32),
    /// Part of the energy that the two tones explain, the line's noise not held against them.
    pub(super) explained: f32,
    twist: f32,
    /// The larger of both tones' changes from half to half, as a power ratio.
    change: f64,
    /// The larger of both tones' deviations, as a part of their frequencies.
    off: f32,
}

impl Found {
    /// Certain by this fit alone.
    pub(super) fn sure(&self, point: Point) -> bool {
        let (least, furthest) = match point {
            Point::Armed => (0.92, TOLERANCE),
            Point::Unarmed => (0.94, STRICT),
        };
        self.in_ratio() && self.change < STEADY && self.explained >= least && self.off <= furthest
    }

    /// A key as a telephone sends it, with something else sounding too: worth a second fit.
    pub(super) fn plain(&self) -> bool {
        self.in_ratio() && self.twist >= PLAIN_TWIST && self.change < PLAIN_STEADY && self.off <= PLAIN
    }

    fn in_ratio(&self) -> bool {
        self.twist >= TWIST.0 && self.twist <= TWIST.1
    }

    /// Whether two fits found the same tones.
    pub(super) fn agrees(&self, other: &Found) -> bool {
        let still = |a: f32, b: f32| (a / b - 1.0).abs() <= STILL;
        self.place == other.place && still(self.hz.0, other.hz.0) && still(self.hz.1, other.hz.1)
    }

    /// Takes the frequencies of `others` fits before into account, which found `other` on the average.
    pub(super) fn averaged(self, other: &Found, others: f32) -> Found {
        let mean = |own: f32, before: f32| before + (own - before) / (others + 1.0);
        Found { hz: (mean(self.hz.0, other.hz.0), mean(self.hz.1, other.hz.1)), ..self }
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
const STEPS: usize = (RECENT / 4).div_ceil(STEP);

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

/// Sine and cosine of an angle: a turn.
type Turn = (f64, f64);

fn add((s, c): Turn, (s1, c1): Turn) -> Turn {
    (s * c1 + c * s1, c * c1 - s * s1)
}

fn less((s, c): Turn, (s1, c1): Turn) -> Turn {
    (s * c1 - c * s1, c * c1 + s * s1)
}

/// A wave of one frequency, all by turns: sines and cosines by the library are what a fit would spend its time on.
struct Wave {
    /// The first step from a half's centre.
    cosine: [f64; STEP],
    sine: [f64; STEP],
    /// From step to step.
    turn: Turn,
    /// Of half a sample, one sample, half a half.
    short: Turn,
    one: Turn,
    long: Turn,
}

impl Wave {
    /// For halves of `half` samples, an even number.
    fn new(half: usize, omega: f64) -> Self {
        let short = (omega / 2.0).sin_cos();
        let one = add(short, short);
        let mut wave = Self { cosine: [0.0; STEP], sine: [0.0; STEP], turn: (0.0, 1.0), short, one, long: (0.0, 1.0) };
        let mut at = short;
        for n in 0..STEP {
            (wave.sine[n], wave.cosine[n]) = at;
            at = add(at, one);
            wave.turn = add(wave.turn, one);
        }
        let (mut power, mut left) = (one, half / 2);
        while left > 0 {
            if left % 2 == 1 {
                wave.long = add(wave.long, power);
            }
            power = add(power, power);
            left /= 2;
        }
        wave
    }
}

/// The even and the odd part of `G` for a half: `bank::gram` by turns.
fn gram(half: usize, row: &Wave, column: &Wave) -> [(f64, f64, f64); 2] {
    let own = |wave: &Wave| add(wave.long, wave.long).0 / wave.one.0;
    let minus = less(row.long, column.long).0 / less(row.short, column.short).0;
    let plus = add(row.long, column.long).0 / add(row.short, column.short).0;
    let n = half as f64;
    [
        ((n + own(row)) / 2.0, (minus + plus) / 2.0, (n + own(column)) / 2.0),
        ((n - own(row)) / 2.0, (minus - plus) / 2.0, (n - own(column)) / 2.0),
    ]
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

/// The turn of phase from the first half's centre to the second's beyond what the wave makes, in radians per sample.
fn correction(half: usize, first: (f64, f64), second: (f64, f64), wave: &Wave) -> f64 {
    // a·cos ωt + b·sin ωt is the real part of (a − jb)·e^{jωt}.
    let turned = less((-second.1, second.0), (-first.1, first.0));
    let (sine, cosine) = less(turned, add(wave.long, wave.long));
    sine.atan2(cosine) / half as f64
}

/// The key in `samples`, oldest first, if there is one within tolerance: all they hold is fitted, up to [`RECENT`].
/// `look` says where to begin.
pub(super) fn examine(samples: &[f32], look: &Look) -> Option<Found> {
    // The halves are folded about their centres, so each is even.
    let half = samples.len().min(RECENT) / 4 * 2;
    let samples = &samples[samples.len() - 2 * half..];
    let (first, second) = samples.split_at(half);
    let (first_half, second_half) = (Folded::new(first), Folded::new(second));
    let (mut row, mut column) = (omega(f64::from(look.hz.0)), omega(f64::from(look.hz.1)));
    let mut fits = None;
    for _ in 0..3 {
        let (row_wave, column_wave) = (Wave::new(half, row), Wave::new(half, column));
        let parts = gram(half, &row_wave, &column_wave);
        let first = fit(&first_half, &row_wave, &column_wave, parts);
        let second = fit(&second_half, &row_wave, &column_wave, parts);
        let turn = |a, b, wave| correction(half, a, b, wave);
        let (dr, dc) = (turn(first.row, second.row, &row_wave), turn(first.column, second.column, &column_wave));
        fits = Some((first, second));
        if dr.abs().max(dc.abs()) < omega(1.0) {
            break;
        }
        row += dr;
        column += dc;
    }
    let (first, second) = fits?;
    let to_hz = |w: f64| (w * f64::from(crate::dsp::RATE) / std::f64::consts::TAU) as f32;
    let hz = (to_hz(row), to_hz(column));
    let place = (nearest(&ROWS, hz.0)?, nearest(&COLUMNS, hz.1)?);
    let total: f64 = samples.iter().map(|y| f64::from(*y) * f64::from(*y)).sum();
    let explained = ((first.explained + second.explained) / total) as f32;
    let power = |a: (f64, f64)| a.0 * a.0 + a.1 * a.1;
    let low = [power(first.row), power(second.row)];
    let high = [power(first.column), power(second.column)];
    let twist = ((high[0] + high[1]) / gain(column) / ((low[0] + low[1]) / gain(row))) as f32;
    let change = |[a, b]: [f64; 2]| (a / b).max(b / a);
    Some(Found {
        place,
        hz,
        explained: explained + look.noise.min(MOST_NOISE),
        twist,
        change: change(low).max(change(high)),
        off: off(hz.0, ROWS[usize::from(place.0)]).max(off(hz.1, COLUMNS[usize::from(place.1)])),
    })
}

/// How far a frequency is from its nominal one, as a part of it.
fn off(hz: f32, nominal: f32) -> f32 {
    (hz / nominal - 1.0).abs()
}

fn nearest(group: &[f32; 4], hz: f32) -> Option<u8> {
    group.iter().position(|nominal| off(hz, *nominal) <= TOLERANCE).map(|n| n as u8)
}
