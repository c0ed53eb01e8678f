//! G.722 at 64 kbit/s (ITU-T G.722, mode 1): 16 kHz audio in two bands of adaptive differential coding, one byte for two
//! samples. Samples go in and bytes come out, or the other way; whoever encodes can take up the state of whoever decoded
//! the bytes before, so that one stream can be continued by another coder without a click.
//!
//! ```text
//! 16 kHz ──► QMF ─┬─ low, 8 kHz ──► − ──► 60-level quantiser ──► 6 bits ─┐
//!                 │                 └──◄── predictor ◄── 15 levels ◄─────┤ bits 0–5     (the predictor sees 4 bits, so
//!                 └─ high, 8 kHz ─► − ──► 4-level quantiser ───► 2 bits ─┘ bits 6–7      that modes 2 and 3 fit too)
//! ```
//! Each band predicts by two poles and six zeros; the step follows the signal on a logarithmic scale. Both predictor and
//! step leak, so a decoder that joined late, or missed a packet, finds its way in tens of milliseconds. All arithmetic is
//! that of the recommendation, bit for bit.

/// Wide samples (16 kHz) in one byte.
pub const PER_BYTE: usize = 2;

/// Half of the impulse response of the quadrature mirror filter (table 4 of the recommendation); the rest mirrors it.
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3_876, -805, 362, -156, 53, -11];
/// Decision levels of the lower band's quantiser (table 5).
const LEVELS: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1_023, 1_121, 1_219, 1_339,
    1_458, 1_612, 1_765, 1_980, 2_195, 2_557, 2_919,
];
/// Decision level of the higher band's quantiser.
const LEVEL_HIGH: i32 = 564;
/// Magnitudes of the lower band by its interval, finest first: 30 intervals (6 bits) and 7 (4 bits, after a zero).
const FINE: [i32; 30] = [
    136, 432, 728, 1_040, 1_360, 1_688, 2_032, 2_400, 2_776, 3_168, 3_576, 4_008, 4_464, 4_944, 5_456, 6_000, 6_576,
    7_192, 7_856, 8_576, 9_360, 10_232, 11_192, 12_280, 13_512, 14_984, 16_704, 19_008, 21_904, 24_808,
];
const COARSE: [i32; 8] = [0, 1_200, 2_584, 4_240, 6_288, 8_968, 12_896, 20_456];
/// Values of the higher band by its two bits.
const HIGH: [i32; 4] = [-7_408, -1_616, 7_408, 1_616];
/// Growth of the lower band's logarithmic step, by the magnitude of the 4-bit value.
const GROWTH_LOW: [i32; 8] = [-60, -30, 58, 172, 334, 538, 1_198, 3_042];
/// Growth of the higher band's, by the two bits.
const GROWTH_HIGH: [i32; 4] = [798, -214, 798, -214];
/// 2^(n/32) for the antilogarithm, 11 bits of fraction.
const ANTILOG: [i32; 32] = [
    2_048, 2_093, 2_139, 2_186, 2_233, 2_282, 2_332, 2_383, 2_435, 2_489, 2_543, 2_599, 2_656, 2_714, 2_774, 2_834,
    2_896, 2_960, 3_025, 3_091, 3_158, 3_228, 3_298, 3_371, 3_444, 3_520, 3_597, 3_676, 3_756, 3_838, 3_922, 4_008,
];

fn saturate(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

/// The magnitude index of a 4-bit lower-band value: 0 for the four codes around zero's end, 7 for the largest.
const fn coarse_index(code: usize) -> usize {
    // Codes 1–7 are negative and count down from the largest; 8–14 are positive and do so too; 0 and 15 are zero.
    match code {
        0 | 15 => 0,
        1..=7 => 8 - code,
        _ => 15 - code,
    }
}

fn coarse(code: usize) -> i32 {
    let magnitude = COARSE[coarse_index(code)];
    if code < 8 { -magnitude } else { magnitude }
}

/// The value of a 6-bit lower-band code. The four codes that 64 kbit/s never sends (0–3) stand for the smallest.
fn fine(code: usize) -> i32 {
    match code {
        0..=3 => -FINE[0],
        // 4 is the largest negative, 31 the third smallest; 62 and 63 are the two smallest negative ones.
        4..=31 => -FINE[33 - code],
        32..=61 => FINE[61 - code],
        62 => -FINE[1],
        _ => -FINE[0],
    }
}

/// The adaptive predictor and step of one band (blocks 3 and 4 of the recommendation).
#[derive(Debug, Clone, Copy)]
struct Band {
    /// The prediction, and its part from the zeros.
    prediction: i32,
    zeros: i32,
    /// The last two reconstructed values, newest first.
    rebuilt: [i32; 2],
    /// The last two partly reconstructed values.
    partial: [i32; 2],
    poles: [i32; 2],
    /// The last six quantised differences, newest first, and their weights.
    differences: [i32; 6],
    weights: [i32; 6],
    /// The step on the logarithmic scale, and as it is.
    log_step: i32,
    step: i32,
}

impl Band {
    const fn new(step: i32) -> Self {
        Self {
            prediction: 0,
            zeros: 0,
            rebuilt: [0; 2],
            partial: [0; 2],
            poles: [0; 2],
            differences: [0; 6],
            weights: [0; 6],
            log_step: 0,
            step,
        }
    }

    /// Moves the step. `ceiling` and `shift` are the band's limits.
    fn scale(&mut self, growth: i32, ceiling: i32, shift: i32) {
        self.log_step = (((self.log_step * 127) >> 7) + growth).clamp(0, ceiling);
        let fraction = ANTILOG[(self.log_step >> 6) as usize & 31];
        let down = shift - (self.log_step >> 11);
        self.step = if down < 0 { fraction << -down } else { fraction >> down } << 2;
    }

    /// Takes a quantised difference: adapts the predictor and predicts the next value.
    fn adapt(&mut self, difference: i32) {
        let rebuilt = saturate(self.prediction + difference);
        let partial = saturate(self.zeros + difference);
        let same = |a: i32, b: i32| (a < 0) == (b < 0);

        let turn = saturate(self.poles[0] << 2);
        let turn = if same(partial, self.partial[0]) { -turn } else { turn }.min(32_767);
        let drift = if same(partial, self.partial[1]) { 128 } else { -128 };
        let second = (drift + (turn >> 7) + ((self.poles[1] * 32_512) >> 15)).clamp(-12_288, 12_288);
        let drift = if same(partial, self.partial[0]) { 192 } else { -192 };
        let limit = saturate(15_360 - second);
        let first = saturate(drift + ((self.poles[0] * 32_640) >> 15)).clamp(-limit, limit);

        let pull = if difference == 0 { 0 } else { 128 };
        for (weight, past) in self.weights.iter_mut().zip(self.differences) {
            let pull = if same(past, difference) { pull } else { -pull };
            *weight = saturate(pull + ((*weight * 32_640) >> 15));
        }

        self.differences.rotate_right(1);
        self.differences[0] = difference;
        self.rebuilt = [rebuilt, self.rebuilt[0]];
        self.partial = [partial, self.partial[0]];
        self.poles = [first, second];

        let poles = saturate(
            ((first * saturate(self.rebuilt[0] * 2)) >> 15) + ((second * saturate(self.rebuilt[1] * 2)) >> 15),
        );
        let mut zeros = 0;
        for (weight, past) in self.weights.iter().zip(self.differences).rev() {
            zeros = saturate(zeros + ((weight * saturate(past * 2)) >> 15));
        }
        self.zeros = zeros;
        self.prediction = saturate(poles + zeros);
    }

    /// What both sides do with a lower-band code.
    fn take_low(&mut self, code: usize) {
        let four = code >> 2;
        let difference = (self.step * coarse(four)) >> 15;
        self.scale(GROWTH_LOW[coarse_index(four)], 18_432, 8);
        self.adapt(difference);
    }

    /// What both sides do with a higher-band code. Returns the quantised difference.
    fn take_high(&mut self, code: usize) -> i32 {
        let difference = (self.step * HIGH[code]) >> 15;
        self.scale(GROWTH_HIGH[code], 22_528, 10);
        self.adapt(difference);
        difference
    }
}

/// Both bands: the state that coder and decoder of one stream share.
#[derive(Debug, Clone, Copy)]
struct Bands {
    low: Band,
    high: Band,
}

impl Bands {
    const fn new() -> Self {
        Self { low: Band::new(32), high: Band::new(8) }
    }
}

/// Turns bytes into 16 kHz samples.
#[derive(Debug, Clone)]
pub struct Decoder {
    bands: Bands,
    /// Sums and differences of the bands, oldest first.
    past: [i32; 24],
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    pub const fn new() -> Self {
        Self { bands: Bands::new(), past: [0; 24] }
    }

    /// Decodes `bytes` into twice as many samples at 16 kHz; stops where either ends. Returns the samples written.
    pub fn decode(&mut self, bytes: &[u8], out: &mut [i16]) -> usize {
        let mut written = 0;
        for (byte, pair) in bytes.iter().zip(out.as_chunks_mut::<PER_BYTE>().0) {
            *pair = self.pair(*byte);
            written += PER_BYTE;
        }
        written
    }

    fn pair(&mut self, byte: u8) -> [i16; PER_BYTE] {
        let (low_code, high_code) = (usize::from(byte & 0x3f), usize::from(byte >> 6));
        let Bands { low, high } = &mut self.bands;
        let fifteen = |value: i32| value.clamp(-16_384, 16_383);
        let low_value = fifteen(low.prediction + ((low.step * fine(low_code)) >> 15));
        low.take_low(low_code);
        let predicted = high.prediction;
        let high_value = fifteen(predicted + high.take_high(high_code));
        self.past.copy_within(2.., 0);
        self.past[22] = low_value + high_value;
        self.past[23] = low_value - high_value;
        let (mut first, mut second) = (0, 0);
        for (pair, (forward, backward)) in self.past.as_chunks::<2>().0.iter().zip(QMF.iter().zip(QMF.iter().rev())) {
            second += pair[0] * forward;
            first += pair[1] * backward;
        }
        [saturate(first >> 11) as i16, saturate(second >> 11) as i16]
    }
}

/// Turns 16 kHz samples into bytes.
#[derive(Debug, Clone)]
pub struct Encoder {
    bands: Bands,
    /// The last 24 samples, oldest first.
    past: [i32; 24],
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder at the beginning of a stream.
    pub const fn new() -> Self {
        Self { bands: Bands::new(), past: [0; 24] }
    }

    /// Takes up the stream that `decoder` has decoded so far: the next byte fits the state of whoever decoded the same
    /// bytes. Of what was heard nothing is taken over but that state, which the receiver has anyway.
    pub fn follow(&mut self, decoder: &Decoder) {
        self.bands = decoder.bands;
        self.past = [0; 24];
    }

    /// Encodes `samples` at 16 kHz, two to a byte; stops where either ends. Returns the bytes written.
    pub fn encode(&mut self, samples: &[i16], out: &mut [u8]) -> usize {
        let mut written = 0;
        for (pair, byte) in samples.as_chunks::<PER_BYTE>().0.iter().zip(out) {
            *byte = self.byte(*pair);
            written += 1;
        }
        written
    }

    fn byte(&mut self, pair: [i16; PER_BYTE]) -> u8 {
        self.past.copy_within(2.., 0);
        self.past[22] = i32::from(pair[0]);
        self.past[23] = i32::from(pair[1]);
        let (mut even, mut odd) = (0, 0);
        for (pair, (forward, backward)) in self.past.as_chunks::<2>().0.iter().zip(QMF.iter().zip(QMF.iter().rev())) {
            odd += pair[0] * forward;
            even += pair[1] * backward;
        }
        let Bands { low, high } = &mut self.bands;

        let error = saturate(((even + odd) >> 14) - low.prediction);
        let magnitude = if error < 0 { -(error + 1) } else { error };
        let interval = LEVELS.partition_point(|level| magnitude >= (level * low.step) >> 12);
        let low_code = match (error < 0, interval) {
            (false, n) => 61 - n,
            (true, n @ 0..=1) => 63 - n,
            (true, n) => 33 - n,
        };
        low.take_low(low_code);

        let error = saturate(((even - odd) >> 14) - high.prediction);
        let magnitude = if error < 0 { -(error + 1) } else { error };
        let far = magnitude >= (LEVEL_HIGH * high.step) >> 12;
        let high_code = match (error < 0, far) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        high.take_high(high_code);
        (high_code << 6 | low_code) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::level::{mean_square, rms};
    use crate::dsp::noise::Noise;

    /// A second of sine and noise at 16 kHz.
    fn line(hz: f64, peak: f64, noise: f32) -> Vec<i16> {
        let mut samples: Vec<i16> =
            (0..16_000).map(|n| (peak * (f64::from(n) * std::f64::consts::TAU * hz / 16_000.0).sin()) as i16).collect();
        Noise::new(hz as u64).add(noise, &mut samples);
        samples
    }

    fn through(samples: &[i16]) -> Vec<i16> {
        let mut bytes = vec![0; samples.len() / 2];
        assert_eq!(Encoder::new().encode(samples, &mut bytes), bytes.len());
        let mut heard = vec![0; samples.len()];
        assert_eq!(Decoder::new().decode(&bytes, &mut heard), heard.len());
        heard
    }

    /// Power of what differs once the codec's delay (22 samples) is taken out, in dB under the signal.
    fn fidelity(samples: &[i16]) -> f32 {
        let heard = through(samples);
        let differs: Vec<i16> = heard[22..].iter().zip(samples).skip(800).map(|(a, b)| a.saturating_sub(*b)).collect();
        10.0 * (mean_square(samples) / mean_square(&differs).max(1e-3)).log10()
    }

    #[test]
    fn speech_band_signals_come_back_as_they_went_in() {
        // G.722's signal-to-distortion mask asks for more than 30 dB at these levels.
        for hz in [300.0, 1_000.0, 2_400.0, 3_400.0] {
            let snr = fidelity(&line(hz, 8_000.0, 0.0));
            assert!(snr > 30.0, "{hz} Hz: {snr:.1} dB");
        }
        assert!(fidelity(&line(6_000.0, 4_000.0, 0.0)) > 12.0);
    }

    #[test]
    fn silence_and_the_loudest_are_survived() {
        let heard = through(&[0; 1_600]);
        assert!(heard.iter().all(|s| s.unsigned_abs() <= 16));
        let square: Vec<i16> = (0..3_200).map(|n| if n / 8 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        assert_eq!(through(&square).len(), 3_200);
        let mut noise = Noise::new(9);
        let bytes: Vec<u8> = (0..20_000).map(|_| noise.bits() as u8).collect();
        let mut heard = vec![0; 40_000];
        Decoder::new().decode(&bytes, &mut heard);
    }

    #[test]
    fn an_encoder_that_follows_goes_on_without_a_click() {
        // One coder's bytes up to the middle, then another's that has followed: against one that starts anew.
        let samples = line(440.0, 6_000.0, rms(-55.0));
        let mut bytes = vec![0; 8_000];
        Encoder::new().encode(&samples, &mut bytes);
        let jump = |second: &mut dyn FnMut(&Decoder) -> Encoder| {
            let mut ear = Decoder::new();
            let mut heard = vec![0; 8_000];
            ear.decode(&bytes[..4_000], &mut heard);
            let mut voice = second(&ear);
            // What lies in the filters is silence in both cases: begin with some of it.
            let mut more = vec![0i16; 320];
            Noise::new(4).fill(rms(-55.0), &mut more);
            let mut code = vec![0; 160];
            voice.encode(&more, &mut code);
            let mut heard = vec![0; 320];
            ear.decode(&code, &mut heard);
            let differs: Vec<i16> = heard[22..].iter().zip(&more).skip(24).map(|(a, b)| a.saturating_sub(*b)).collect();
            mean_square(&differs).sqrt()
        };
        let followed = jump(&mut |ear| {
            let mut encoder = Encoder::new();
            encoder.follow(ear);
            encoder
        });
        let anew = jump(&mut |_| Encoder::new());
        assert!(followed < 60.0 && anew > 4.0 * followed, "{followed} against {anew}");
    }

    #[test]
    fn a_decoder_that_joins_late_finds_its_way() {
        let samples = line(700.0, 6_000.0, 100.0);
        let mut bytes = vec![0; 8_000];
        Encoder::new().encode(&samples, &mut bytes);
        let (mut early, mut late) = (vec![0; 16_000], vec![0; 8_000]);
        Decoder::new().decode(&bytes, &mut early);
        Decoder::new().decode(&bytes[4_000..], &mut late);
        let differs: Vec<i16> =
            early[8_000..].iter().zip(&late).skip(1_600).map(|(a, b)| a.saturating_sub(*b)).collect();
        assert!(mean_square(&differs).sqrt() < 200.0, "100 ms on: {}", mean_square(&differs).sqrt());
    }
}
