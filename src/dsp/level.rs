//! Levels in dBm0, as telephony counts them: 0 dBm0 is 3.17 dB under the largest sine µ-law can carry (G.711 table 5).
//! Turns samples into levels and back.

/// Root mean square of a 0 dBm0 signal in 16-bit linear units.
pub const RMS_0_DBM0: f32 = 15_769.0;

/// The rms value, in linear units, of a signal at `dbm0`.
pub fn rms(dbm0: f32) -> f32 {
    RMS_0_DBM0 * 10f32.powf(dbm0 / 20.0)
}

/// The peak value, in linear units, of a sine at `dbm0`.
pub fn sine_peak(dbm0: f32) -> f32 {
    rms(dbm0) * std::f32::consts::SQRT_2
}

/// The level of a mean square, in dBm0; −100 for silence.
pub fn dbm0(mean_square: f32) -> f32 {
    if mean_square <= 0.0 {
        return -100.0;
    }
    (10.0 * mean_square.log10() - 20.0 * RMS_0_DBM0.log10()).max(-100.0)
}

/// The mean square of `samples`; 0 for none.
pub fn mean_square(samples: &[i16]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    let sum: f32 = samples.iter().map(|s| f32::from(*s) * f32::from(*s)).sum();
    sum / samples.len() as f32
}

/// The largest magnitude an `f32` sample may have to be a 16-bit one.
pub fn clamp(sample: f32) -> i16 {
    sample.round().clamp(-32_768.0, 32_767.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_and_rms_are_inverse() {
        for level in [-60.0, -36.0, -10.0, 0.0, 3.0] {
            assert!((dbm0(rms(level) * rms(level)) - level).abs() < 0.01);
        }
        assert_eq!(dbm0(0.0), -100.0);
    }
}
