//! The band-pass before everything else, 600–1,900 Hz: a Butterworth high-pass and low-pass of second order each. It takes
//! away what lies outside the groups: most of a voice's strength, hum, dial tone and 70 % of white noise. Direct form
//! I, lanes wide: only two operations of each section wait for the sample before.

use std::sync::LazyLock;

use super::lanes::Lanes;

/// Edges in Hz.
const EDGES: (f64, f64) = (600.0, 1900.0);

/// Radians per sample.
pub(super) fn omega(hz: f64) -> f64 {
    std::f64::consts::TAU * hz / f64::from(crate::dsp::RATE)
}

/// A second-order section with zeros at one end of the spectrum: `g·(1 ± z⁻¹)² / (1 + a₁z⁻¹ + a₂z⁻²)`.
#[derive(Clone, Copy)]
struct Section {
    gain: f64,
    /// −2 for a high-pass, 2 for a low-pass.
    middle: f64,
    a: [f64; 2],
}

impl Section {
    /// By the bilinear transform.
    fn butterworth(hz: f64, high: bool) -> Self {
        let (sine, cosine) = omega(hz).sin_cos();
        let alpha = sine * std::f64::consts::FRAC_1_SQRT_2;
        let edge = if high { 1.0 + cosine } else { 1.0 - cosine };
        let a0 = 1.0 + alpha;
        let middle = if high { -2.0 } else { 2.0 };
        Self { gain: edge / 2.0 / a0, middle, a: [-2.0 * cosine / a0, (1.0 - alpha) / a0] }
    }

    /// Power gain at `omega`.
    fn power(&self, omega: f64) -> f64 {
        let ((s1, c1), (s2, c2)) = (omega.sin_cos(), (2.0 * omega).sin_cos());
        let squared = |re: f64, im: f64| re * re + im * im;
        let [a1, a2] = self.a;
        let above = squared(1.0 + self.middle * c1 + c2, self.middle * s1 + s2);
        self.gain * self.gain * above / squared(1.0 + a1 * c1 + a2 * c2, a1 * s1 + a2 * s2)
    }
}

static SECTIONS: LazyLock<[Section; 2]> =
    LazyLock::new(|| [Section::butterworth(EDGES.0, true), Section::butterworth(EDGES.1, false)]);

/// Power gain of the band-pass at `omega`.
pub(super) fn gain(omega: f64) -> f64 {
    SECTIONS.iter().map(|s| s.power(omega)).product()
}

/// The factors as the lanes use them.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    gain: f32,
    high: [f32; 2],
    low: [f32; 2],
}

impl Factors {
    pub(super) fn new() -> Self {
        let [high, low] = *SECTIONS;
        let narrow = |a: [f64; 2]| a.map(|a| a as f32);
        Self { gain: (high.gain * low.gain) as f32, high: narrow(high.a), low: narrow(low.a) }
    }
}

/// Words of a filter's memory.
pub(super) const MEMORY: usize = 6;

/// Filters side by side: the last two of input, high-pass and output, newer first.
#[derive(Clone, Copy)]
pub(super) struct Filter<V> {
    x: (V, V),
    high: (V, V),
    y: (V, V),
}

impl<V> Filter<V> {
    /// From the first [`MEMORY`] words.
    #[inline(always)]
    pub(super) fn load<const N: usize>(words: &[[u32; N]]) -> Self
    where
        V: Lanes<N>,
    {
        Self {
            x: (V::load(&words[0]), V::load(&words[1])),
            high: (V::load(&words[2]), V::load(&words[3])),
            y: (V::load(&words[4]), V::load(&words[5])),
        }
    }

    /// To the first [`MEMORY`] words.
    #[inline(always)]
    pub(super) fn store<const N: usize>(self, words: &mut [[u32; N]])
    where
        V: Lanes<N>,
    {
        for (n, (new, old)) in [self.x, self.high, self.y].into_iter().enumerate() {
            new.store(&mut words[2 * n]);
            old.store(&mut words[2 * n + 1]);
        }
    }

    /// The next sample of each line, filtered.
    #[inline(always)]
    pub(super) fn sample<const N: usize>(&mut self, f: &Factors, sample: V) -> V
    where
        V: Lanes<N>,
    {
        let x = sample.times(f.gain);
        let fed = (x + self.x.1) - (self.x.0 + self.x.0);
        let high = (fed - self.high.1.times(f.high[1])) - self.high.0.times(f.high[0]);
        let fed = (high + self.high.1) + (self.high.0 + self.high.0);
        let y = (fed - self.y.1.times(f.low[1])) - self.y.0.times(f.low[0]);
        self.x = (x, self.x.0);
        self.high = (high, self.high.0);
        self.y = (y, self.y.0);
        y
    }

    /// To be called once a block: denormals would make silence the slowest signal of all.
    #[inline(always)]
    pub(super) fn rest<const N: usize>(&mut self)
    where
        V: Lanes<N>,
    {
        let least = V::all(1e-12);
        self.high = (self.high.0.flushed(least), self.high.1.flushed(least));
        self.y = (self.y.0.flushed(least), self.y.1.flushed(least));
    }
}
