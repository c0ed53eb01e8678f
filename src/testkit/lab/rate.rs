//! Counts as rates with the bounds that their number allows: Wilson's score interval for shares, the exact Poisson bound
//! for events per hour.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// `hits` of `of`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// How often it happened.
    pub hits: u64,
    /// How often it could have.
    pub of: u64,
}

/// Two-sided 95 %.
const Z: f64 = 1.959_964;

impl Rate {
    /// A rate of counts.
    pub fn new(hits: usize, of: usize) -> Self {
        Self { hits: hits as u64, of: of as u64 }
    }

    /// The share, 0–1; 0 of none.
    pub fn share(self) -> f64 {
        if self.of == 0 { 0.0 } else { self.hits as f64 / self.of as f64 }
    }

    /// The share in percent.
    pub fn percent(self) -> f64 {
        100.0 * self.share()
    }

    /// Wilson's 95 % interval of the share, 0–1; everything is possible after no trial.
    pub fn wilson(self) -> (f64, f64) {
        if self.of == 0 {
            return (0.0, 1.0);
        }
        let (n, p) = (self.of as f64, self.share());
        let centre = p + Z * Z / (2.0 * n);
        let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        // At the ends the interval touches 0 and 1 by construction; rounding must not say otherwise.
        let low = if self.hits == 0 { 0.0 } else { ((centre - spread) / scale).max(0.0) };
        let high = if self.hits == self.of { 1.0 } else { ((centre + spread) / scale).min(1.0) };
        (low, high)
    }

    /// The probability that it happens at least as often where it happens with probability `share` each time (binomial).
    pub fn at_least(self, share: f64) -> f64 {
        let (n, p, from) = (self.of as f64, share, self.hits as f64);
        // Sum of binomial terms from `hits` on, each from the one before.
        let ln_choose = |k: f64| ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0);
        let mut term = (ln_choose(from) + from * p.ln() + (n - from) * (1.0 - p).ln()).exp();
        let (mut sum, mut k) = (0.0, from);
        while k <= n && (term > sum * 1e-15 || k < n * p) {
            sum += term;
            term *= (n - k) / (k + 1.0) * p / (1.0 - p);
            k += 1.0;
        }
        sum.min(1.0)
    }

    /// What did not happen.
    pub fn rest(self) -> Self {
        Self { hits: self.of.saturating_sub(self.hits), of: self.of }
    }
}

impl Add for Rate {
    type Output = Rate;
    fn add(self, other: Self) -> Self {
        Self { hits: self.hits + other.hits, of: self.of + other.of }
    }
}

impl AddAssign for Rate {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Rate {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

/// ln Γ(x) for x ≥ 1 (Stirling's series).
fn ln_gamma(x: f64) -> f64 {
    if x < 10.0 {
        return ln_gamma(x + 1.0) - x.ln();
    }
    let r = 1.0 / x;
    (x - 0.5) * x.ln() - x + 0.918_938_533_204_672_7 + r / 12.0 - r.powi(3) / 360.0 + r.powi(5) / 1_260.0
}

/// The largest mean that `events` Poisson events or fewer still happen under with 5 % probability (the one-sided 95 %
/// upper bound). None of them: 3.0.
pub fn poisson_upper(events: u64) -> f64 {
    let below = |mean: f64| {
        let (mut term, mut sum) = ((-mean).exp(), (-mean).exp());
        for k in 1..=events {
            term *= mean / k as f64;
            sum += term;
        }
        sum
    };
    // Past a few hundred the normal approximation is exact enough, and e⁻ᵐ would underflow.
    if events > 500 {
        let n = events as f64 + 1.0;
        return n * (1.0 - 1.0 / (9.0 * n) + 1.645 / (3.0 * n.sqrt())).powi(3);
    }
    let (mut low, mut high) = (0.0, 4.0 * events as f64 + 10.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if below(middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_bounds_are_those_of_the_textbook() {
        let (low, high) = Rate::new(81, 263).wilson();
        assert!((low - 0.2553).abs() < 1e-3 && (high - 0.3662).abs() < 1e-3, "{low} {high}");
        let (low, high) = Rate::new(0, 10_000).wilson();
        assert!(low == 0.0 && (high - 0.000_384).abs() < 1e-5, "{high}");
        assert_eq!(Rate::new(5, 5).wilson().1, 1.0);
        assert_eq!(Rate::default().wilson(), (0.0, 1.0));
    }

    #[test]
    fn the_chance_of_so_many_is_that_of_the_binomial() {
        assert!((Rate::new(0, 50).at_least(0.12) - 1.0).abs() < 1e-9);
        assert!((Rate::new(3, 10).at_least(0.1) - 0.070_190_8).abs() < 1e-6);
        let (a, b) = (Rate::new(240, 2_000).at_least(0.12), Rate::new(295, 2_000).at_least(0.12));
        assert!((0.45..0.55).contains(&a) && (1e-5..1e-3).contains(&b), "{a} {b}");
    }

    #[test]
    fn poisson_bounds_are_those_of_the_textbook() {
        for (events, bound) in [(0, 2.996), (1, 4.744), (5, 10.51), (100, 118.1)] {
            assert!((poisson_upper(events) - bound).abs() < 0.01 * bound, "{events}: {}", poisson_upper(events));
        }
        let (a, b) = (poisson_upper(500), poisson_upper(501));
        assert!(b > a && b - a < 1.5, "{a} {b}");
    }
}
