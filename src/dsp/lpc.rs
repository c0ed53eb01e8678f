//! Linear prediction: the spectrum of a stationary sound as an all-pole filter, found from its autocorrelation, and
//! noise given that spectrum. Autocorrelations go in, a [`Model`] comes out; excitation goes in, samples come out of the
//! [`Shaper`]. Every model is stable and has exactly the power it was asked for. Fixed size, allocates nothing.
//!
//! # The mathematics
//! A sound `y` of autocorrelation `r[0…p]` is modelled as `y[n] = g·e[n] − Σ aᵢ·y[n−i]` with white `e`. Levinson's
//! recursion solves the normal equations `Σ aᵢ·r[|i−j|] = −r[j]` in p² steps and gives one reflection coefficient `k`
//! per order; the filter is stable exactly when all `|k| < 1`. Two measures keep it well away from that edge:
//! - *white noise correction*: `r[0]` is raised by 1/30,000 (−45 dB), so no valley of the spectrum is modelled deeper;
//! - *bandwidth expansion*: `aᵢ ← aᵢ·γⁱ` moves every pole inwards by γ, so nothing rings longer than some milliseconds
//!   and no pole can be as narrow as a tone.
//!
//! The expanded filter has other reflection coefficients, found by running the recursion backwards. An all-pole filter
//! turns white noise of power 1 into power `1 / Π(1 − k²)`, so `g² = r[0]·Π(1 − k²)` gives the power asked for.

use std::sync::LazyLock;

/// Order of the prediction: five resonances, enough for hum, hiss, a car or a hall, too few to describe a tone pair
/// sharply.
pub const ORDER: usize = 10;
/// Autocorrelation at lags 0…[`ORDER`].
pub type Autocorrelation = [f32; ORDER + 1];

/// What `r[0]` is raised by.
const WHITE: f64 = 3e-5;
/// How far poles are moved inwards.
const EXPANSION: f64 = 0.99;
/// Largest reflection coefficient of an accepted model.
const STABLE: f64 = 0.999;

/// Samples per frame of [`correlate`]: 20 ms.
pub const FRAME: usize = 160;

/// Hann's window: without one the frame's edges fill every valley of the spectrum.
static WINDOW: LazyLock<[f32; FRAME]> = LazyLock::new(|| {
    std::array::from_fn(|n| {
        let angle = std::f64::consts::TAU * (n as f64 + 0.5) / FRAME as f64;
        (0.5 - 0.5 * angle.cos()) as f32
    })
});

/// Adds the autocorrelation of a windowed frame to `sums`.
pub fn correlate(frame: &[i16; FRAME], sums: &mut Autocorrelation) {
    let window = &*WINDOW;
    let frame: [f32; FRAME] = std::array::from_fn(|n| f32::from(frame[n]) * window[n]);
    for (lag, sum) in sums.iter_mut().enumerate() {
        *sum += frame.iter().zip(&frame[lag..]).map(|(a, b)| a * b).sum::<f32>();
    }
}

/// An all-pole spectrum of power 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Model {
    coefficients: [f32; ORDER],
    /// Gain of the excitation that gives power 1.
    gain: f32,
}

impl Model {
    /// White.
    pub const FLAT: Self = Self { coefficients: [0.0; ORDER], gain: 1.0 };

    /// The spectrum of a sound with this autocorrelation, whatever its power; [`Model::FLAT`] where there is none to be
    /// found.
    pub fn fit(autocorrelation: &Autocorrelation) -> Self {
        let r = autocorrelation.map(f64::from);
        if !r.iter().all(|r| r.is_finite()) || r[0] <= 0.0 {
            return Self::FLAT;
        }
        let mut a = [0.0f64; ORDER];
        let mut error = r[0] * (1.0 + WHITE);
        for order in 0..ORDER {
            let product: f64 = (0..order).map(|i| a[i] * r[order - i]).sum();
            let k = -(r[order + 1] + product) / error;
            if k.is_nan() || k.abs() >= STABLE {
                return Self::FLAT;
            }
            let before = a;
            for i in 0..order {
                a[i] = before[i] + k * before[order - 1 - i];
            }
            a[order] = k;
            error *= 1.0 - k * k;
        }
        let mut expanded = 1.0;
        for a in &mut a {
            expanded *= EXPANSION;
            *a *= expanded;
        }
        power_inverse(a)
            .map_or(Self::FLAT, |inverse| Self { coefficients: a.map(|a| a as f32), gain: inverse.sqrt() as f32 })
    }

    /// Power at `hz`, relative to white of the same power.
    pub fn power_at(&self, hz: f32) -> f32 {
        let omega = std::f64::consts::TAU * f64::from(hz) / f64::from(super::RATE);
        let (mut re, mut im) = (1.0, 0.0);
        for (i, a) in self.coefficients.iter().enumerate() {
            let (sine, cosine) = (omega * (i as f64 + 1.0)).sin_cos();
            re += f64::from(*a) * cosine;
            im -= f64::from(*a) * sine;
        }
        (f64::from(self.gain).powi(2) / (re * re + im * im)) as f32
    }
}

/// `Π(1 − k²)` of an all-pole filter, by the recursion backwards; `None` when it is not stable.
fn power_inverse(mut a: [f64; ORDER]) -> Option<f64> {
    let mut inverse = 1.0;
    for order in (0..ORDER).rev() {
        let k = a[order];
        if k.is_nan() || k.abs() >= STABLE {
            return None;
        }
        let left = 1.0 - k * k;
        inverse *= left;
        let above = a;
        for i in 0..order {
            a[i] = (above[i] - k * above[order - 1 - i]) / left;
        }
    }
    Some(inverse)
}

/// The filter's memory: gives white noise a model's spectrum.
#[derive(Debug, Clone, Default)]
pub struct Shaper {
    /// What came out last, newest first.
    past: [f32; ORDER],
}

impl Shaper {
    /// A filter at rest.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next sample for `excitation` of variance 1, at the given rms.
    #[inline]
    pub fn next(&mut self, model: &Model, rms: f32, excitation: f32) -> f32 {
        let echo: f32 = model.coefficients.iter().zip(&self.past).map(|(a, y)| a * y).sum();
        // Not clipped in here: a stable filter that clips within its own loop may ring for ever.
        let out = excitation * model.gain * rms - echo;
        self.past.copy_within(..ORDER - 1, 1);
        // Denormals would make silence the slowest of all.
        self.past[0] = if out.abs() < 1e-6 { 0.0 } else { out };
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::noise::Noise;

    fn shaped(model: &Model, rms: f32, seed: u64, count: usize) -> Vec<i16> {
        let (mut noise, mut shaper) = (Noise::new(seed), Shaper::new());
        (0..count).map(|_| super::super::level::clamp(shaper.next(model, rms, noise.gaussian()))).collect()
    }

    /// A sound with one resonance.
    fn resonance(hz: f32, radius: f32, seed: u64, count: usize) -> Vec<i16> {
        let mut noise = Noise::new(seed);
        let cosine = (std::f32::consts::TAU * hz / 8_000.0).cos();
        let (mut a, mut b) = (0.0f32, 0.0f32);
        (0..count)
            .map(|_| {
                let y = 50.0 * noise.gaussian() + 2.0 * radius * cosine * a - radius * radius * b;
                (b, a) = (a, y);
                super::super::level::clamp(y)
            })
            .collect()
    }

    #[test]
    fn the_model_of_a_resonance_peaks_where_it_does_and_has_the_power_asked_for() {
        for hz in [300.0, 1_000.0, 2_500.0] {
            let mut sums = Autocorrelation::default();
            let sound = resonance(hz, 0.9, 1, 16_000);
            sound.as_chunks().0.iter().for_each(|frame| correlate(frame, &mut sums));
            let model = Model::fit(&sums);
            let peak =
                (1..40).map(|n| n as f32 * 100.0).max_by(|a, b| model.power_at(*a).total_cmp(&model.power_at(*b)));
            assert!(peak.is_some_and(|peak| (peak - hz).abs() <= 200.0), "{hz}: {peak:?}");
            let out = shaped(&model, 300.0, 2, 80_000);
            let rms = crate::dsp::level::mean_square(&out).sqrt();
            assert!((20.0 * (rms / 300.0).log10()).abs() < 0.5, "{hz}: {rms}");
        }
    }

    #[test]
    fn every_model_is_stable_whatever_it_was_made_of() {
        let mut bits = Noise::new(7);
        for round in 0..2_000 {
            let mut sums = Autocorrelation::default();
            let scale = 10f32.powi(round % 30 - 10);
            for sum in &mut sums {
                *sum = (bits.gaussian()) * scale;
            }
            sums[0] = sums[0].abs() * (round % 5) as f32;
            let model = Model::fit(&sums);
            let out = shaped(&model, 1_000.0, 3, 400);
            let rms = crate::dsp::level::mean_square(&out[100..]).sqrt();
            assert!(rms < 4_000.0, "{round}: {rms}");
            // Left alone it dies away.
            let mut shaper = Shaper { past: [20_000.0; ORDER] };
            let rest = (0..2_000).fold(0.0, |_, _| shaper.next(&model, 0.0, 0.0).abs());
            assert!(rest < 1.0, "{round}: {rest}");
        }
        for odd in [[0.0; ORDER + 1], [f32::NAN; ORDER + 1], [f32::INFINITY; ORDER + 1], [1.0; ORDER + 1]] {
            let model = Model::fit(&odd);
            assert!(model.gain.is_finite() && model.coefficients.iter().all(|a| a.is_finite()));
        }
    }
}
