//! Another sampling rate, or another speed: windowed-sinc interpolation. Samples and a ratio go in, samples come out; what
//! the new rate cannot carry is filtered away.

use crate::dsp::level::clamp;

/// Zero crossings of the sinc on either side.
const SIDE: usize = 12;
/// Table entries per zero crossing.
const FINE: usize = 256;

/// `samples` read `ratio` times as fast: 2.0 turns 16 kHz into 8 kHz; 1.1 speaks 10 % faster and higher at the same rate.
pub fn resample(samples: &[i16], ratio: f64) -> Vec<i16> {
    if !(0.05..=20.0).contains(&ratio) || samples.is_empty() {
        return Vec::new();
    }
    // The pass-band ends under the lower of the two Nyquist frequencies.
    let cut = 0.95 * (1.0 / ratio).min(1.0);
    let table: Vec<f32> = (0..=SIDE * FINE + 1).map(|n| kernel(n as f64 / FINE as f64)).collect();
    let reach = (SIDE as f64 / cut).floor();
    (0..(samples.len() as f64 / ratio) as usize)
        .map(|n| {
            let centre = n as f64 * ratio;
            let first = (centre - reach).ceil().max(0.0) as usize;
            let last = ((centre + reach).floor() as usize).min(samples.len() - 1);
            let mut sum = 0.0f32;
            for (at, sample) in samples[first..=last].iter().enumerate() {
                let place = ((first + at) as f64 - centre).abs() * cut * FINE as f64;
                let (whole, part) = (place as usize, place.fract() as f32);
                let weight = table[whole] + (table[whole + 1] - table[whole]) * part;
                sum += f32::from(*sample) * weight;
            }
            clamp(sum * cut as f32)
        })
        .collect()
}

/// Sinc under a Blackman window, `x` in zero crossings.
fn kernel(x: f64) -> f32 {
    if x >= SIDE as f64 {
        return 0.0;
    }
    let turn = std::f64::consts::PI * x;
    let sinc = if x == 0.0 { 1.0 } else { turn.sin() / turn };
    let along = std::f64::consts::PI * (1.0 + x / SIDE as f64);
    (sinc * (0.42 - 0.5 * along.cos() + 0.08 * (2.0 * along).cos())) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::level::{dbm0, mean_square};
    use crate::dsp::tone::Tone;

    fn rises(samples: &[i16]) -> usize {
        samples.windows(2).filter(|w| w[0] < 0 && w[1] >= 0).count()
    }

    #[test]
    fn a_tone_keeps_its_level_and_changes_its_frequency() {
        let mut tone = vec![0i16; 16_000];
        Tone::new(1_000.0, -10.0).fill(&mut tone);
        for ratio in [0.8, 1.0, 1.1, 2.0] {
            let out = resample(&tone, ratio);
            assert_eq!(out.len(), (16_000.0 / ratio) as usize);
            let middle = &out[100..out.len() - 100];
            assert!((dbm0(mean_square(middle)) + 10.0).abs() < 0.1, "{ratio}");
            let hz = rises(middle) as f64 * 8_000.0 / middle.len() as f64;
            assert!((hz - 1_000.0 * ratio).abs() < 6.0, "{ratio}: {hz}");
        }
    }

    #[test]
    fn what_the_new_rate_cannot_carry_is_gone_and_nonsense_gives_nothing() {
        let mut tone = vec![0i16; 16_000];
        Tone::new(3_500.0, -10.0).fill(&mut tone);
        assert!(dbm0(mean_square(&resample(&tone, 2.0)[100..7_900])) < -60.0);
        assert!(
            resample(&tone, 0.0).is_empty() && resample(&tone, f64::NAN).is_empty() && resample(&[], 1.0).is_empty()
        );
    }
}
