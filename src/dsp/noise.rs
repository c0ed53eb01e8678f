//! White noise with a seed, for the comfort-noise mask and for tests. Gaussian by the sum of uniforms, so a fixed few
//! operations per sample and no table.

use super::level::clamp;

/// A noise source. The same seed gives the same noise. Not for secrets: it replaces samples, it does not hide them.
#[derive(Debug, Clone)]
pub struct Noise {
    state: u64,
}

impl Noise {
    /// A source that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed ^ 0x9e37_79b9_7f4a_7c15 }
    }

    /// 64 fresh bits (SplitMix64).
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A near-Gaussian value of mean 0 and variance 1: four 16-bit uniforms added (largest magnitude 3.5).
    #[inline]
    pub fn gaussian(&mut self) -> f32 {
        let bits = self.bits();
        let lanes = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
        // Four uniforms on 0…65535: mean 131070, variance 4·65536²/12.
        (lanes as f32 - 131_070.0) * (1.0 / 37_837.2)
    }

    /// Fills `out` with noise of the given rms (linear units).
    pub fn fill(&mut self, rms: f32, out: &mut [i16]) {
        for sample in out {
            *sample = clamp(self.gaussian() * rms);
        }
    }

    /// Adds noise of the given rms (linear units) to `out`.
    pub fn add(&mut self, rms: f32, out: &mut [i16]) {
        for sample in out {
            *sample = clamp(f32::from(*sample) + self.gaussian() * rms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::level::mean_square;

    #[test]
    fn noise_has_the_level_asked_for_and_repeats_with_its_seed() {
        let mut a = [0i16; 8000];
        let mut b = [0i16; 8000];
        Noise::new(1).fill(300.0, &mut a);
        Noise::new(1).fill(300.0, &mut b);
        assert_eq!(a, b);
        assert!((mean_square(&a).sqrt() - 300.0).abs() < 15.0);
        Noise::new(2).fill(300.0, &mut b);
        assert_ne!(a, b);
    }
}
