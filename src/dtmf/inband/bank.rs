//! The bank: band-pass, correlations per block of 8 samples with a grid of frequencies, and the joint fit of the window
//! that ends with the newest block. Arrays run over frequencies, so the compiler (and later our own lanes) can take many
//! at once.

use std::sync::LazyLock;

use super::Point;
use crate::dsp::level::RMS_0_DBM0;
use crate::dsp::tone::{COLUMNS, ROWS};

/// Samples per block: the hop, 1 ms.
pub(super) const BLOCK: usize = 8;
/// Blocks per window.
const BLOCKS: usize = 9;
/// Samples per window.
pub(super) const WINDOW: usize = BLOCK * BLOCKS;
/// Samples kept for the second stage.
pub(super) const RECENT: usize = 200;
/// Grid over the low group: 672…972 Hz.
const LOW: usize = 16;
const LOW_FIRST: f64 = 672.0;
const LOW_STEP: f64 = 20.0;
/// Grid over the high group: 1,168…1,697 Hz.
const HIGH: usize = 24;
const HIGH_FIRST: f64 = 1168.0;
const HIGH_STEP: f64 = 23.0;
const LANES: usize = LOW + HIGH;

/// Mean squares under which nothing is looked at: −47 dBm0 for a window, −53 for a block.
const WINDOW_GATE: f32 = RMS_0_DBM0 * RMS_0_DBM0 * 2.0e-5 * WINDOW as f32;
const BLOCK_GATE: f32 = RMS_0_DBM0 * RMS_0_DBM0 * 5.0e-6 * BLOCK as f32;
/// How much weaker one group may be than the other, as a power ratio (18 dB), at the first stage.
const LEAST_PART: f32 = 0.016;

/// Part of a window that must be explained when armed.
const ARMED: f32 = 0.80;

/// What the fit of a window found.
#[derive(Clone, Copy)]
pub(super) struct Look {
    /// Nearest row and column.
    pub(super) place: (u8, u8),
    /// Grid frequencies of the fit, Hz.
    pub(super) hz: (f32, f32),
    /// The line's noise as a part of the window's energy, as far as it is known.
    pub(super) noise: f32,
}

/// How much more two grid frequencies, one of each group, can explain together than the sum of what each group's best
/// seems to explain alone: their overlap and the grid's own unevenness, with room.
const OVERLAP: f32 = 1.4;

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

    /// `pᵀ A p`.
    #[inline]
    fn energy(&self, low: f32, high: f32) -> f32 {
        self.a * low * low + 2.0 * self.b * low * high + self.c * high * high
    }

    /// `A p`: the amplitudes.
    #[inline]
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

fn hz(lane: usize) -> f64 {
    if lane < LOW { LOW_FIRST + LOW_STEP * lane as f64 } else { HIGH_FIRST + HIGH_STEP * (lane - LOW) as f64 }
}

/// Radians per sample.
pub(super) fn omega(hz: f64) -> f64 {
    std::f64::consts::TAU * hz / f64::from(crate::dsp::RATE)
}

/// A second-order section, transposed direct form II.
#[derive(Clone, Copy)]
struct Section {
    b: [f32; 3],
    a: [f32; 2],
}

impl Section {
    /// Butterworth low-pass or high-pass by the bilinear transform.
    fn butterworth(hz: f64, high: bool, q: f64) -> Self {
        let (sine, cosine) = omega(hz).sin_cos();
        let alpha = sine / (2.0 * q);
        let edge = if high { 1.0 + cosine } else { 1.0 - cosine };
        let a0 = 1.0 + alpha;
        let middle = if high { -edge } else { edge };
        Self {
            b: [(edge / 2.0 / a0) as f32, (middle / a0) as f32, (edge / 2.0 / a0) as f32],
            a: [(-2.0 * cosine / a0) as f32, ((1.0 - alpha) / a0) as f32],
        }
    }

    /// Power gain at `omega`.
    fn gain(&self, omega: f64) -> f64 {
        let ((s1, c1), (s2, c2)) = (omega.sin_cos(), (2.0 * omega).sin_cos());
        let [b0, b1, b2] = self.b.map(f64::from);
        let [a1, a2] = self.a.map(f64::from);
        let squared = |re: f64, im: f64| re * re + im * im;
        squared(b0 + b1 * c1 + b2 * c2, b1 * s1 + b2 * s2) / squared(1.0 + a1 * c1 + a2 * c2, a1 * s1 + a2 * s2)
    }
}

/// Power gain of the band-pass at `omega`.
pub(super) fn gain(omega: f64) -> f64 {
    TABLES.sections.iter().map(|s| s.gain(omega)).product()
}

const SECTIONS: usize = 2;

struct Tables {
    sections: [Section; SECTIONS],
    /// cos and sin of each lane at the samples of a block, from the block's centre.
    cosine: [[f32; LANES]; BLOCK],
    sine: [[f32; LANES]; BLOCK],
    /// The turn from each block's centre to the window's.
    turn_cosine: [[f32; LANES]; BLOCKS],
    turn_sine: [[f32; LANES]; BLOCKS],
    even: [[Inverse; HIGH]; LOW],
    odd: [[Inverse; HIGH]; LOW],
    /// Nearest row or column of each lane.
    place: [u8; LANES],
}

static TABLES: LazyLock<Box<Tables>> = LazyLock::new(|| {
    let mut t = Box::new(Tables {
        sections: [
            Section::butterworth(600.0, true, std::f64::consts::FRAC_1_SQRT_2),
            Section::butterworth(1900.0, false, std::f64::consts::FRAC_1_SQRT_2),
        ],
        cosine: [[0.0; LANES]; BLOCK],
        sine: [[0.0; LANES]; BLOCK],
        turn_cosine: [[0.0; LANES]; BLOCKS],
        turn_sine: [[0.0; LANES]; BLOCKS],
        even: [[Inverse::default(); HIGH]; LOW],
        odd: [[Inverse::default(); HIGH]; LOW],
        place: [0; LANES],
    });
    for lane in 0..LANES {
        let w = omega(hz(lane));
        for n in 0..BLOCK {
            let angle = w * (n as f64 - (BLOCK as f64 - 1.0) / 2.0);
            t.cosine[n][lane] = angle.cos() as f32;
            t.sine[n][lane] = angle.sin() as f32;
        }
        for n in 0..BLOCKS {
            let angle = w * BLOCK as f64 * (n as f64 - (BLOCKS as f64 - 1.0) / 2.0);
            t.turn_cosine[n][lane] = angle.cos() as f32;
            t.turn_sine[n][lane] = angle.sin() as f32;
        }
        let group = if lane < LOW { &ROWS } else { &COLUMNS };
        let distance = |n: usize| (f64::from(group[n]) / hz(lane)).ln().abs();
        t.place[lane] = (0..4).min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or(0) as u8;
    }
    for low in 0..LOW {
        for high in 0..HIGH {
            let [even, odd] = gram(WINDOW, omega(hz(low)), omega(hz(LOW + high)));
            t.even[low][high] = Inverse::of(even.0, even.1, even.2);
            t.odd[low][high] = Inverse::of(odd.0, odd.1, odd.2);
        }
    }
    t
});

/// The first stage's state for one line.
pub(super) struct Bank {
    filter: [[f32; 2]; SECTIONS],
    /// Filtered samples; the newest block is being filled at `at`.
    samples: [f32; RECENT],
    at: usize,
    filled: usize,
    /// Per block of the window: correlations and energy. `newest` is the newest whole block.
    cosine: [[f32; LANES]; BLOCKS],
    sine: [[f32; LANES]; BLOCKS],
    energy: [f32; BLOCKS],
    newest: usize,
    floor: Floor,
}

/// Follows the least energy a window has had lately: the line's noise between tones and words.
struct Floor {
    parts: [f32; FLOOR_PARTS],
    hops: u16,
    least: f32,
}

const FLOOR_PARTS: usize = 4;
const FLOOR_HOPS: u16 = 256;

impl Floor {
    fn new() -> Self {
        Self { parts: [f32::INFINITY; FLOOR_PARTS], hops: 0, least: 0.0 }
    }

    fn hop(&mut self, energy: f32) {
        self.parts[0] = self.parts[0].min(energy);
        self.least = self.least.min(energy);
        self.hops += 1;
        if self.hops == FLOOR_HOPS {
            self.hops = 0;
            self.least = self.parts.iter().copied().fold(f32::INFINITY, f32::min);
            self.parts.rotate_right(1);
            self.parts[0] = f32::INFINITY;
        }
    }
}

impl Bank {
    pub(super) fn new() -> Self {
        Self {
            filter: [[0.0; 2]; SECTIONS],
            samples: [0.0; RECENT],
            at: 0,
            filled: 0,
            cosine: [[0.0; LANES]; BLOCKS],
            sine: [[0.0; LANES]; BLOCKS],
            energy: [0.0; BLOCKS],
            newest: 0,
            floor: Floor::new(),
        }
    }

    /// Takes samples up to the end of the block being filled; returns how many, and whether the block is complete.
    #[inline]
    pub(super) fn push(&mut self, samples: &[i16]) -> (usize, bool) {
        let tables = &**TABLES;
        let taken = samples.len().min(BLOCK - self.filled);
        let mut filter = self.filter;
        let start = self.at + self.filled;
        for (slot, sample) in self.samples[start..start + taken].iter_mut().zip(samples) {
            let mut x = f32::from(*sample);
            for (section, state) in tables.sections.iter().zip(&mut filter) {
                let y = section.b[0] * x + state[0];
                state[0] = section.b[1] * x - section.a[0] * y + state[1];
                state[1] = section.b[2] * x - section.a[1] * y;
                x = y;
            }
            *slot = x;
        }
        self.filter = filter;
        self.filled += taken;
        let complete = self.filled == BLOCK;
        if complete {
            self.block(tables);
        }
        (taken, complete)
    }

    fn block(&mut self, tables: &Tables) {
        // Denormals would make silence the slowest signal of all.
        for state in self.filter.iter_mut().flatten() {
            if state.abs() < 1e-12 {
                *state = 0.0;
            }
        }
        self.newest = (self.newest + 1) % BLOCKS;
        let samples = &self.samples[self.at..self.at + BLOCK];
        let energy: f32 = samples.iter().map(|y| y * y).sum();
        self.energy[self.newest] = energy;
        let (cosine, sine) = (&mut self.cosine[self.newest], &mut self.sine[self.newest]);
        *cosine = [0.0; LANES];
        *sine = [0.0; LANES];
        if energy > BLOCK_GATE {
            for (n, y) in samples.iter().enumerate() {
                for lane in 0..LANES {
                    cosine[lane] += y * tables.cosine[n][lane];
                    sine[lane] += y * tables.sine[n][lane];
                }
            }
        }
        self.filled = 0;
        self.at = (self.at + BLOCK) % RECENT;
    }

    /// The last [`RECENT`] filtered samples, oldest first, in two slices.
    pub(super) fn recent(&self) -> (&[f32], &[f32]) {
        let (new, old) = self.samples.split_at(self.at);
        (old, new)
    }

    /// The window's correlations with every lane's cosine and sine, about the window's centre.
    fn correlations(&self) -> ([f32; LANES], [f32; LANES]) {
        let tables = &**TABLES;
        let (mut cosine, mut sine) = ([0.0f32; LANES], [0.0f32; LANES]);
        for n in 0..BLOCKS {
            let slot = (self.newest + 1 + n) % BLOCKS;
            let (re, im) = (&self.cosine[slot], &self.sine[slot]);
            let (tc, ts) = (&tables.turn_cosine[n], &tables.turn_sine[n]);
            for lane in 0..LANES {
                cosine[lane] += re[lane] * tc[lane] - im[lane] * ts[lane];
                sine[lane] += re[lane] * ts[lane] + im[lane] * tc[lane];
            }
        }
        (cosine, sine)
    }

    /// Fits the window that ends with the newest block; `Some` when it is suspect.
    pub(super) fn look(&mut self, point: Point, open: bool) -> Option<Look> {
        let total: f32 = self.energy.iter().sum();
        self.floor.hop(total);
        if total < WINDOW_GATE {
            return None;
        }
        let tables = &**TABLES;
        let (cosine, sine) = self.correlations();
        let strength = |lane: usize| cosine[lane] * cosine[lane] + sine[lane] * sine[lane];
        let strongest = |lanes: std::ops::Range<usize>| {
            lanes.fold((0, -1.0f32), |best, lane| {
                let s = strength(lane);
                if s > best.1 { (lane, s) } else { best }
            })
        };
        let (mut low, low_strength) = strongest(0..LOW);
        let (high, high_strength) = strongest(LOW..LANES);
        let mut high = high - LOW;
        let noise = self.floor.least / total;
        let bar = threshold(point, noise, open);
        // The two groups overlap by an eighth at most: what each explains alone bounds what both can.
        if (low_strength + high_strength) * (2.0 / WINDOW as f32) * OVERLAP < bar * total {
            return None;
        }
        let explained = |low: usize, high: usize| {
            tables.even[low][high].energy(cosine[low], cosine[LOW + high])
                + tables.odd[low][high].energy(sine[low], sine[LOW + high])
        };
        let best_high = |low: usize| argmax((0..HIGH).map(|high| explained(low, high)));
        let best_low = |high: usize| argmax((0..LOW).map(|low| explained(low, high)));
        // The stronger tone's skirt may hide the weaker one's peak: fix the stronger, search the other, then both once.
        if low_strength >= high_strength {
            high = best_high(low).0;
            low = best_low(high).0;
            high = best_high(low).0;
        } else {
            low = best_low(high).0;
            high = best_high(low).0;
            low = best_low(high).0;
        }
        if explained(low, high) < bar * total {
            return None;
        }
        let (even_low, even_high) = tables.even[low][high].solve(cosine[low], cosine[LOW + high]);
        let (odd_low, odd_high) = tables.odd[low][high].solve(sine[low], sine[LOW + high]);
        let low_power = even_low * even_low + odd_low * odd_low;
        let high_power = even_high * even_high + odd_high * odd_high;
        if low_power.min(high_power) < LEAST_PART * low_power.max(high_power) {
            return None;
        }
        Some(Look {
            place: (tables.place[low], tables.place[LOW + high]),
            hz: (hz(low) as f32, hz(LOW + high) as f32),
            noise,
        })
    }
}

/// How much of a window must be explained. The line's own noise is not held against a tone: what it adds to the
/// residue lowers the bar by as much, down to where noise alone would pass.
fn threshold(point: Point, noise: f32, open: bool) -> f32 {
    let (bar, least) = match (point, open) {
        (Point::Armed, false) => (ARMED, 0.70),
        // A tone that has been heard is held on to through what disturbs it.
        (Point::Armed, true) => (ARMED - 0.10, 0.65),
        (Point::Unarmed, _) => (0.90, 0.80),
    };
    (bar - noise).max(least)
}

fn argmax(values: impl Iterator<Item = f32>) -> (usize, f32) {
    values.enumerate().fold((0, f32::MIN), |best, (n, value)| if value > best.1 { (n, value) } else { best })
}

/// What the oracle's tests look into.
#[cfg(test)]
pub(super) mod inside {
    use super::*;

    /// The two frequencies of a grid pair, radians per sample.
    pub(in crate::dtmf::inband) fn pair(low: usize, high: usize) -> (f64, f64) {
        (omega(hz(low)), omega(hz(LOW + high)))
    }

    impl Bank {
        /// The explained energy of every pair, `[low][high]`, by the tables.
        pub(in crate::dtmf::inband) fn all_explained(&self) -> Vec<Vec<f32>> {
            let (cosine, sine) = self.correlations();
            let tables = &**TABLES;
            let one = |low: usize, high: usize| {
                tables.even[low][high].energy(cosine[low], cosine[LOW + high])
                    + tables.odd[low][high].energy(sine[low], sine[LOW + high])
            };
            (0..LOW).map(|low| (0..HIGH).map(|high| one(low, high)).collect()).collect()
        }

        /// The bound by which a window is passed over without a fit.
        pub(in crate::dtmf::inband) fn bound(&self) -> f32 {
            let (cosine, sine) = self.correlations();
            let most = |lanes: std::ops::Range<usize>| {
                lanes.map(|n| cosine[n] * cosine[n] + sine[n] * sine[n]).fold(0.0, f32::max)
            };
            (most(0..LOW) + most(LOW..LANES)) * (2.0 / WINDOW as f32) * OVERLAP
        }
    }
}
