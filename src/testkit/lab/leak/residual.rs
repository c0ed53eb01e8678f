//! What is left of a tone, as energy over the noise around it: E/σ² is what every detector's success depends on (0.5
//! bring 12 % right guesses of ten keys, 5 bring 36 %, 20 nearly all). It is measured with the true key known, over
//! windows at each delay from 40 ms before to 200 ms after the onset.
//!
//! The fit of the true key explains energy of mere noise too, and of speech. What the fits of all ten keys explain on
//! average is taken off: keys are drawn evenly and know nothing of the noise, so what remains is 0 in the mean where
//! nothing of the tone is left. That average also holds what the true tone leaves in the fits of keys that share a tone
//! with it; the result is scaled back by that share.

use crate::testkit::attack::{BEFORE, Spectrum};

/// Windows of this length see what is left of a part of a key, in samples: 10 ms …
pub const WINDOW: usize = 80;
/// … at every 2.5 ms, …
const FINE: usize = 20;
/// … windows as long as the key what is left of all of it, at every 10 ms.
const COARSE: usize = 80;
/// From 40 ms before the onset to 200 ms after it, in samples.
const SPAN: usize = BEFORE + 1_600;

/// The delay of a short window's beginning after the onset, in ms.
pub fn delay_ms(n: usize) -> f64 {
    (n * FINE) as f64 / 8.0 - BEFORE as f64 / 8.0
}

/// A mean with its standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mean {
    n: f64,
    sum: f64,
    squares: f64,
}

impl Mean {
    /// Takes a value.
    pub fn add(&mut self, value: f64) {
        self.n += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    /// The mean; 0 of none.
    pub fn mean(self) -> f64 {
        if self.n == 0.0 { 0.0 } else { self.sum / self.n }
    }

    /// How many.
    pub fn count(self) -> u64 {
        self.n as u64
    }

    /// The one-sided upper 95 % bound of the mean.
    pub fn upper(self) -> f64 {
        if self.n < 2.0 {
            return f64::INFINITY;
        }
        let variance = (self.squares - self.sum * self.sum / self.n) / (self.n - 1.0);
        self.mean() + 1.645 * (variance.max(0.0) / self.n).sqrt()
    }
}

impl std::ops::AddAssign for Mean {
    fn add_assign(&mut self, other: Self) {
        self.n += other.n;
        self.sum += other.sum;
        self.squares += other.squares;
    }
}

/// Residuals of many digits.
#[derive(Debug, Clone, PartialEq)]
pub struct Residual {
    /// Of short windows, by delay.
    pub short: Vec<Mean>,
    /// Of windows as long as the key was down, by delay.
    pub whole: Vec<Mean>,
}

impl Default for Residual {
    fn default() -> Self {
        Self { short: vec![Mean::default(); SPAN / FINE + 1], whole: vec![Mean::default(); SPAN / COARSE + 1] }
    }
}

impl std::ops::AddAssign<&Residual> for Residual {
    fn add_assign(&mut self, other: &Residual) {
        let short = self.short.iter_mut().zip(&other.short);
        for (a, b) in short.chain(self.whole.iter_mut().zip(&other.whole)) {
            *a += *b;
        }
    }
}

impl Residual {
    /// Measures one digit: `heard` from [`BEFORE`] before the onset, as far as it is known.
    pub fn add(&mut self, heard: &[i16], length: usize, truth: u8) {
        let spectrum = Spectrum::new(heard);
        for (means, step, length) in [(&mut self.short, FINE, WINDOW), (&mut self.whole, COARSE, length)] {
            for (n, mean) in means.iter_mut().enumerate() {
                let from = n * step;
                if from + length <= spectrum.len() {
                    mean.add(of(&spectrum, from, from + length, truth));
                }
            }
        }
    }

    /// Digits measured.
    pub fn count(&self) -> u64 {
        self.whole.first().map_or(0, |mean| mean.count())
    }

    /// The residual at the window and delay where it is largest: mean, upper bound, delay in ms, whether of a short
    /// window.
    pub fn worst(&self) -> (f64, f64, f64, bool) {
        let all = self.short.iter().enumerate().map(|(n, mean)| (*mean, n * FINE, true));
        let all = all.chain(self.whole.iter().enumerate().map(|(n, mean)| (*mean, n * COARSE, false)));
        let worst = all.filter(|(mean, ..)| mean.count() > 1).max_by(|a, b| a.0.mean().total_cmp(&b.0.mean()));
        let Some((mean, at, short)) = worst else { return (0.0, f64::INFINITY, 0.0, false) };
        (mean.mean(), mean.upper(), (at as f64 - BEFORE as f64) / 8.0, short)
    }
}

fn of(spectrum: &Spectrum, from: usize, to: usize, truth: u8) -> f64 {
    let total = spectrum.energy(from, to);
    if total <= 0.0 {
        return 0.0;
    }
    let explained = spectrum.explained(from, to);
    let own = explained[usize::from(truth)];
    let all = explained.iter().sum::<f64>() / 10.0;
    // What the best fit leaves is the noise: the true key's where its tone is left, and no key in particular where not.
    let best = explained.iter().copied().fold(0.0, f64::max);
    // Less than a unit per sample is no noise but the coding of silence.
    let noise = ((total - best) / (to - from).saturating_sub(4).max(1) as f64).max(1.0);
    (own - all) / noise / (1.0 - shared(truth))
}

/// What share of its energy the true tone leaves in the average key's fit: all in its own, half in those that share its
/// row or column.
fn shared(key: u8) -> f64 {
    match key {
        0 => 0.25,
        8 => 0.35,
        2 | 4..=6 => 0.35,
        _ => 0.3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Digit;
    use crate::dsp::level::{clamp, rms};
    use crate::dsp::noise::Noise;
    use crate::testkit::keys::frequencies;

    /// `count` keys in noise of −50 dBm0, each with `samples` of tone at `snr` (linear) in the middle of the stretch.
    fn run(count: usize, samples: usize, snr: f64) -> Residual {
        let mut noise = Noise::new(5);
        let mut residual = Residual::default();
        for n in 0..count {
            let key = (n % 10) as u8;
            let (row, column) = frequencies(&Digit::from_event(key).unwrap());
            let sigma = f64::from(rms(-50.0));
            let peak = sigma * snr.sqrt();
            let heard: Vec<i16> = (0..BEFORE + 1_600)
                .map(|at| {
                    let t = at as f64 * std::f64::consts::TAU / 8_000.0;
                    let on = (BEFORE + 160..BEFORE + 160 + samples).contains(&at);
                    let tone = if on { peak * ((row * t + n as f64).sin() + (column * t).sin()) } else { 0.0 };
                    clamp((f64::from(noise.gaussian()) * sigma + tone) as f32)
                })
                .collect();
            residual.add(&heard, 640, key);
        }
        residual
    }

    #[test]
    fn where_nothing_is_left_the_residual_is_nought() {
        let (mean, upper, ..) = run(4_000, 0, 0.0).worst();
        assert!(mean.abs() < 0.3 && upper < 0.5, "{mean} {upper}");
    }

    #[test]
    fn what_is_left_is_measured_in_samples_times_signal_to_noise() {
        // 10 ms of tone at 10 dB, a whole short window: 80 × 10. The fits of keys that share a tone explain a little more
        // of it than over a long window.
        let (mean, _, delay, short) = run(400, 80, 10.0).worst();
        assert!(short && (600.0..900.0).contains(&mean) && delay == 20.0, "{mean} {delay}");
        // A fifth of it, which fills a fifth of the window, is still four times the bar.
        let (mean, _, delay, short) = run(400, 16, 10.0).worst();
        assert!(short && mean > 2.0 && (10.0..=22.5).contains(&delay), "{mean} {delay}");
        // 40 ms at 20 dB under the noise: 320 × 0.01, in a window twice as long.
        let (mean, upper, ..) = run(8_000, 320, 0.01).worst();
        assert!((1.0..4.2).contains(&mean) && upper > 0.5, "{mean}");
        // 40 ms as loud as the noise.
        let (mean, ..) = run(400, 320, 1.0).worst();
        assert!((100.0..400.0).contains(&mean), "{mean}");
    }
}
