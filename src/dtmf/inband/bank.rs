//! The bank: a grid of frequencies over both groups and the joint fit of one window by one of each. A window of filtered
//! samples goes in, its place on the keypad comes out if it is suspect. Lanes run over frequencies here, so that one line
//! alone fills them; whatever their width, the bits are the same.

use std::sync::LazyLock;

use super::WINDOW;
use super::bandpass::omega;
use super::lanes::{Lanes, Width};
use crate::dsp::tone::{COLUMNS, ROWS};

/// Grid over the low group: 672…972 Hz.
const LOW: usize = 16;
const LOW_FIRST: f64 = 672.0;
const LOW_STEP: f64 = 20.0;
/// Grid over the high group: 1,168…1,697 Hz; the lanes after are empty.
const HIGH: usize = 24;
const HIGH_FIRST: f64 = 1168.0;
const HIGH_STEP: f64 = 23.0;
const HIGH_LANES: usize = 32;
const LANES: usize = LOW + HIGH_LANES;
/// Registers' worth of lanes summed in one go.
const AT_ONCE: usize = 3;
const HALF: usize = WINDOW / 2;

/// How much weaker one group may be than the other, as a power ratio (18 dB), at the first stage.
const LEAST_PART: f32 = 0.016;

/// What the fit of a window found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    /// Nearest row and column.
    pub(super) place: (u8, u8),
    /// Grid frequencies of the fit, Hz.
    pub(super) hz: (f32, f32),
    /// Their numbers.
    pub(super) pair: (u8, u8),
    /// The line's noise as a part of the window's energy, as far as it is known.
    pub(super) noise: f32,
}

/// Inverse of a symmetric 2×2 matrix: [[a, b], [b, c]].
#[derive(Clone, Copy, Default)]
struct Inverse {
    a: f32,
    b: f32,
    c: f32,
}

impl Inverse {
    fn of(rr: f64, rc: f64, cc: f64) -> Self {
        let determinant = rr * cc - rc * rc;
        Self { a: (cc / determinant) as f32, b: (-rc / determinant) as f32, c: (rr / determinant) as f32 }
    }

    /// `A p`: the amplitudes.
    fn solve(&self, low: f32, high: f32) -> (f32, f32) {
        (self.a * low + self.b * high, self.b * low + self.c * high)
    }
}

/// Σ cos(ω(t − centre)) over `w` samples.
pub(super) fn dirichlet(w: usize, omega: f64) -> f64 {
    let half = (omega / 2.0).sin();
    if half.abs() < 1e-9 { w as f64 } else { (w as f64 * omega / 2.0).sin() / half }
}

/// The even (cosine) and odd (sine) halves of `G` for two frequencies: (rr, rc, cc) each.
pub(super) fn gram(w: usize, row: f64, column: f64) -> [(f64, f64, f64); 2] {
    let own = |omega: f64| dirichlet(w, 2.0 * omega);
    let (minus, plus) = (dirichlet(w, row - column), dirichlet(w, row + column));
    let n = w as f64;
    [
        ((n + own(row)) / 2.0, (minus + plus) / 2.0, (n + own(column)) / 2.0),
        ((n - own(row)) / 2.0, (minus - plus) / 2.0, (n - own(column)) / 2.0),
    ]
}

fn low_hz(n: usize) -> f64 {
    LOW_FIRST + LOW_STEP * n as f64
}

fn high_hz(n: usize) -> f64 {
    HIGH_FIRST + HIGH_STEP * n as f64
}

/// One group's inverses beside one frequency of the other, lanes over the group: `a` (twice `b`) `c` of the even half,
/// then of the odd one. Floats by their bits.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Beside<const M: usize>([[u32; M]; 6]);

#[repr(C, align(64))]
struct Tables {
    /// cos and sin of each lane, 1, 3, 5… half-samples from the window's centre. Floats by their bits.
    cosine: [[u32; LANES]; HALF],
    sine: [[u32; LANES]; HALF],
    /// The same by lane, for one pair alone.
    waves: [[[[f32; 4]; HALF / 4]; 2]; LOW + HIGH],
    even: [[Inverse; HIGH]; LOW],
    odd: [[Inverse; HIGH]; LOW],
    /// By low frequency, over the high ones; by high frequency, over the low ones.
    highs: [Beside<HIGH_LANES>; LOW],
    lows: [Beside<LOW>; HIGH],
    /// Nearest row or column.
    rows: [u8; LOW],
    columns: [u8; HIGH],
    /// How much more any pair explains than the two frequencies of it alone, at most.
    overlap: f32,
}

static TABLES: LazyLock<Box<Tables>> = LazyLock::new(|| {
    let mut t = Box::new(Tables {
        cosine: [[0; LANES]; HALF],
        sine: [[0; LANES]; HALF],
        waves: [[[[0.0; 4]; HALF / 4]; 2]; LOW + HIGH],
        even: [[Inverse::default(); HIGH]; LOW],
        odd: [[Inverse::default(); HIGH]; LOW],
        highs: [Beside([[0; HIGH_LANES]; 6]); LOW],
        lows: [Beside([[0; LOW]; 6]); HIGH],
        rows: [0; LOW],
        columns: [0; HIGH],
        overlap: 1.0,
    });
    let all = (0..LOW).map(low_hz).chain((0..HIGH).map(high_hz));
    for (lane, hz) in all.enumerate() {
        for n in 0..HALF {
            let angle = omega(hz) * (n as f64 + 0.5);
            t.cosine[n][lane] = (angle.cos() as f32).to_bits();
            t.sine[n][lane] = (angle.sin() as f32).to_bits();
            t.waves[lane][0][n / 4][n % 4] = angle.cos() as f32;
            t.waves[lane][1][n / 4][n % 4] = angle.sin() as f32;
        }
    }
    let nearest = |group: &[f32; 4], hz: f64| {
        let distance = |n: &usize| (f64::from(group[*n]) / hz).ln().abs();
        (0..4).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0) as u8
    };
    t.rows = std::array::from_fn(|n| nearest(&ROWS, low_hz(n)));
    t.columns = std::array::from_fn(|n| nearest(&COLUMNS, high_hz(n)));
    let mut least = f64::INFINITY;
    for low in 0..LOW {
        for high in 0..HIGH {
            let halves = gram(WINDOW, omega(low_hz(low)), omega(high_hz(high)));
            for (half, (rr, rc, cc)) in halves.into_iter().enumerate() {
                let inverse = Inverse::of(rr, rc, cc);
                for (n, value) in [inverse.a, 2.0 * inverse.b, inverse.c].into_iter().enumerate() {
                    t.highs[low].0[3 * half + n][high] = value.to_bits();
                    t.lows[high].0[3 * half + n][low] = value.to_bits();
                }
                if half == 0 {
                    t.even[low][high] = inverse
                } else {
                    t.odd[low][high] = inverse
                }
                // G's smaller eigenvalue: pᵀG⁻¹p is at most p² over it.
                least = least.min((rr + cc) / 2.0 - ((rr - cc) / 2.0).hypot(rc));
            }
        }
    }
    // And a thousandth for rounding.
    t.overlap = (1.001 * WINDOW as f64 / 2.0 / least) as f32;
    t
});

/// Correlations of a window with each lane's cosine and sine about its centre. Floats by their bits.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Correlations {
    cosine: [u32; LANES],
    sine: [u32; LANES],
    /// Sums of their squares.
    strength: [u32; LANES],
}

impl Correlations {
    /// Cosine's and sine's of a lane.
    #[inline(always)]
    fn of(&self, lane: usize) -> [f32; 2] {
        [f32::from_bits(self.cosine[lane]), f32::from_bits(self.sine[lane])]
    }

    /// The strength of each group's strongest.
    #[inline(always)]
    fn strongest(&self) -> (f32, f32) {
        let of = |lanes: &[u32]| f32::from_bits(largest(lanes));
        (of(&self.strength[..LOW]), of(&self.strength[LOW..]))
    }
}

/// Part `n` of `words`, `N` long.
#[inline(always)]
fn part<const N: usize>(words: &[u32], n: usize) -> &[u32; N] {
    &words.as_chunks::<N>().0[n]
}

#[inline(always)]
fn part_mut<const N: usize>(words: &mut [u32], n: usize) -> &mut [u32; N] {
    &mut words.as_chunks_mut::<N>().0[n]
}

// No closure may hold lanes: it would be a function of its own, compiled without the kernel's instruction set.

#[inline(always)]
fn correlate<V: Lanes<N>, const N: usize>(t: &Tables, window: &[f32; WINDOW]) -> Correlations {
    const { assert!(LANES.is_multiple_of(AT_ONCE * N)) };
    let mut out = Correlations { cosine: [0; LANES], sine: [0; LANES], strength: [0; LANES] };
    let (mut evens, mut odds) = ([0.0; HALF], [0.0; HALF]);
    for n in 0..HALF {
        let (before, after) = (window[HALF - 1 - n], window[HALF + n]);
        (evens[n], odds[n]) = (after + before, after - before);
    }
    for first in (0..LANES / N).step_by(AT_ONCE) {
        let mut sums = [(V::all(0.0), V::all(0.0)); AT_ONCE];
        for n in 0..HALF {
            let (even, odd) = (V::all(evens[n]), V::all(odds[n]));
            for (k, sum) in sums.iter_mut().enumerate() {
                sum.0 = sum.0 + even * V::load(part(&t.cosine[n], first + k));
                sum.1 = sum.1 + odd * V::load(part(&t.sine[n], first + k));
            }
        }
        for (k, (cosine, sine)) in sums.into_iter().enumerate() {
            cosine.store(part_mut(&mut out.cosine, first + k));
            sine.store(part_mut(&mut out.sine, first + k));
            (cosine * cosine + sine * sine).store(part_mut(&mut out.strength, first + k));
        }
    }
    out
}

/// The largest of `values`. Floats that are not negative are in the order of their bits.
#[inline(always)]
fn largest(values: &[u32]) -> u32 {
    let mut most = [0u32; 16];
    for chunk in values.as_chunks::<16>().0 {
        for n in 0..16 {
            most[n] = most[n].max(chunk[n]);
        }
    }
    for n in 0..8 {
        most[n] = most[n].max(most[n + 8]);
    }
    for n in 0..4 {
        most[n] = most[n].max(most[n + 4]);
    }
    most[0].max(most[2]).max(most[1].max(most[3]))
}

/// 31, 30 … 0.
const DOWN: [u32; 32] = {
    let mut down = [0; 32];
    let mut n = 0;
    while n < 32 {
        down[n] = 31 - n as u32;
        n += 1;
    }
    down
};

/// Where the largest of at most 32 `values` stands: compared without their last five bits, which hold the place.
#[inline(always)]
fn place_of_largest<const M: usize>(values: &[u32; M]) -> usize {
    const { assert!(M <= 32) };
    let mut marked = [0u32; M];
    for n in 0..M {
        marked[n] = values[n] & !31 | DOWN[n];
    }
    31 - (largest(&marked) & 31) as usize
}

/// What each frequency of one group explains together with one of the other, whose correlations are `cosine` and `sine`;
/// the best of it.
#[inline(always)]
fn best<V: Lanes<N>, const N: usize, const M: usize>(
    beside: &Beside<M>,
    cosines: &[u32],
    sines: &[u32],
    [cosine, sine]: [f32; 2],
    own_first: bool,
) -> (usize, f32) {
    let [a, b, c, d, e, f] = &beside.0;
    // `a` belongs to the low group.
    let (own, other) = if own_first { ((a, d), (c, f)) } else { ((c, f), (a, d)) };
    let mut values = [0u32; M];
    let (cosine, sine) = (V::all(cosine), V::all(sine));
    for (n, out) in values.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        let (x, y) = (V::load(part(cosines, n)), V::load(part(sines, n)));
        let even = x * x * V::load(part(own.0, n))
            + x * cosine * V::load(part(b, n))
            + cosine * cosine * V::load(part(other.0, n));
        let odd =
            y * y * V::load(part(own.1, n)) + y * sine * V::load(part(e, n)) + sine * sine * V::load(part(other.1, n));
        // What rounding leaves below nothing is nothing.
        (even + odd).max(V::all(0.0)).store(out);
    }
    let place = place_of_largest(&values);
    (place, f32::from_bits(values[place]))
}

/// Fits a window: the low and high frequency that explain at least `needed` of its energy.
#[inline(always)]
fn fit<V: Lanes<N>, const N: usize>(t: &Tables, window: &[f32; WINDOW], needed: f32) -> Option<(usize, usize)> {
    let all = correlate::<V, N>(t, window);
    let (low_strength, high_strength) = all.strongest();
    // What each group's best explains alone bounds what both can.
    if (low_strength + high_strength) * (2.0 / WINDOW as f32) * t.overlap < needed {
        return None;
    }
    // The stronger tone's skirt may hide the weaker one's peak: fix the stronger, search the other, then both once.
    let (mut low, mut high, mut explained) = (0, 0, 0.0);
    let mut low_is_fixed = low_strength >= high_strength;
    if low_is_fixed {
        low = place_of_largest::<LOW>(part(&all.strength, 0));
    } else {
        high = place_of_largest::<HIGH_LANES>(part(&all.strength[LOW..], 0));
    }
    for search in 0..3 {
        let before = (low, high);
        if low_is_fixed {
            let (cosines, sines) = (&all.cosine[LOW..], &all.sine[LOW..]);
            (high, explained) = best::<V, N, HIGH_LANES>(&t.highs[low], cosines, sines, all.of(low), false);
        } else {
            let (cosines, sines) = (&all.cosine[..LOW], &all.sine[..LOW]);
            (low, explained) = best::<V, N, LOW>(&t.lows[high], cosines, sines, all.of(LOW + high), true);
        }
        if search == 1 && before == (low, high) {
            // The third search would find what the first one did.
            break;
        }
        low_is_fixed = !low_is_fixed;
    }
    if explained < needed {
        return None;
    }
    let ([low_cosine, low_sine], [high_cosine, high_sine]) = (all.of(low), all.of(LOW + high));
    let (even_low, even_high) = t.even[low][high].solve(low_cosine, high_cosine);
    let (odd_low, odd_high) = t.odd[low][high].solve(low_sine, high_sine);
    let low_power = even_low * even_low + odd_low * odd_low;
    let high_power = even_high * even_high + odd_high * odd_high;
    (low_power.min(high_power) >= LEAST_PART * low_power.max(high_power)).then_some((low, high))
}

/// The fit for each instruction set.
#[allow(unsafe_code)]
mod compiled {
    use super::super::lanes::F;
    #[cfg(target_arch = "x86_64")]
    use super::super::lanes::{F8, F16};
    use super::{TABLES, Tables, WINDOW, Width, fit};

    type Found = Option<(usize, usize)>;

    fn portable(t: &Tables, window: &[f32; WINDOW], needed: f32) -> Found {
        fit::<F<4>, 4>(t, window, needed)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn avx2(t: &Tables, window: &[f32; WINDOW], needed: f32) -> Found {
        fit::<F8, 8>(t, window, needed)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn avx512(t: &Tables, window: &[f32; WINDOW], needed: f32) -> Found {
        fit::<F16, 16>(t, window, needed)
    }

    pub(super) fn found(width: Width, window: &[f32; WINDOW], needed: f32) -> Found {
        match width {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: only `Width::checked` widths come here, and it has asked the processor.
            Width::Avx2 => unsafe { avx2(&TABLES, window, needed) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Width::Avx512 => unsafe { avx512(&TABLES, window, needed) },
            _ => portable(&TABLES, window, needed),
        }
    }
}

/// What two tones that go on explain of a window at least: the pair found before is within a few hertz of the best then.
const GOES_ON: f32 = 0.97;

/// Whether the pair that was found in the window before explains nearly all of this one, too, and as much as is needed: then
/// no other needs to be looked for, which is most of what a fit costs.
pub(super) fn again(before: &Look, window: &[f32; WINDOW], total: f32, floor: f32, needed: f32) -> Option<Look> {
    let t = &**TABLES;
    let (low, high) = (usize::from(before.pair.0), usize::from(before.pair.1));
    let waves = [&t.waves[low][0], &t.waves[LOW + high][0], &t.waves[low][1], &t.waves[LOW + high][1]];
    let mut sums = [[0.0f32; 4]; 4];
    let (first, second) = window.split_at(HALF);
    for n in 0..HALF / 4 {
        for k in 0..4 {
            let (old, new) = (first[HALF - 1 - 4 * n - k], second[4 * n + k]);
            let (even, odd) = (new + old, new - old);
            sums[0][k] += even * waves[0][n][k];
            sums[1][k] += even * waves[1][n][k];
            sums[2][k] += odd * waves[2][n][k];
            sums[3][k] += odd * waves[3][n][k];
        }
    }
    let [a, b, c, d] = sums.map(|s| (s[0] + s[1]) + (s[2] + s[3]));
    let (even, odd) = (t.even[low][high].solve(a, b), t.odd[low][high].solve(c, d));
    let explained = even.0 * a + even.1 * b + odd.0 * c + odd.1 * d;
    let (low_power, high_power) = (even.0 * even.0 + odd.0 * odd.0, even.1 * even.1 + odd.1 * odd.1);
    let both = low_power.min(high_power) >= LEAST_PART * low_power.max(high_power);
    (both && explained >= needed.max(GOES_ON * total)).then_some(Look { noise: floor / total, ..*before })
}

/// Fits a window of energy `total`; `Some` when it is suspect: when two tones explain at least `needed` of it. `floor` is
/// the line's noise in as long a window.
pub(super) fn look(width: Width, window: &[f32; WINDOW], total: f32, floor: f32, needed: f32) -> Option<Look> {
    let (low, high) = compiled::found(width, window, needed)?;
    let tables = &**TABLES;
    Some(Look {
        place: (tables.rows[low], tables.columns[high]),
        hz: (low_hz(low) as f32, high_hz(high) as f32),
        pair: (low as u8, high as u8),
        noise: floor / total,
    })
}

/// What the tests look into.
#[cfg(test)]
pub(super) mod inside {
    use super::super::lanes::F;
    use super::*;

    /// The two frequencies of every grid pair, Hz.
    pub(in crate::dtmf::inband) fn grid() -> (Vec<f64>, Vec<f64>) {
        ((0..LOW).map(low_hz).collect(), (0..HIGH).map(high_hz).collect())
    }

    /// The explained energy of every pair, `[low][high]`, by the tables.
    pub(in crate::dtmf::inband) fn all_explained(window: &[f32; WINDOW]) -> Vec<Vec<f32>> {
        let t = &**TABLES;
        let all = correlate::<F<1>, 1>(t, window);
        let of = |words: &[u32; LANES], n: usize| f32::from_bits(words[n]);
        let energy = |inverse: &Inverse, low: f32, high: f32| {
            let (x, y) = inverse.solve(low, high);
            x * low + y * high
        };
        let one = |low: usize, high: usize| {
            energy(&t.even[low][high], of(&all.cosine, low), of(&all.cosine, LOW + high))
                + energy(&t.odd[low][high], of(&all.sine, low), of(&all.sine, LOW + high))
        };
        (0..LOW).map(|low| (0..HIGH).map(|high| one(low, high)).collect()).collect()
    }

    /// The bound by which a window is passed over without a fit.
    pub(in crate::dtmf::inband) fn bound(window: &[f32; WINDOW]) -> f32 {
        let t = &**TABLES;
        let all = correlate::<F<1>, 1>(t, window);
        let (low, high) = all.strongest();
        (low + high) * (2.0 / WINDOW as f32) * t.overlap
    }
}
