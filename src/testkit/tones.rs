//! Stimuli for detectors: a line with key presses on it, drawn from ranges of level, twist, offset, length, pause, noise
//! and dropouts by a seed, and the truth of what was pressed when. Shares no code with the detector under test but the
//! keypad's frequencies.

use crate::base::secret::Digit;
use crate::dsp::g711;
use crate::dsp::level::{clamp, rms, sine_peak};
use crate::dsp::noise::Noise;
use crate::dsp::tone::{COLUMNS, ROWS, place_of};

/// What to draw key presses from. Ranges are inclusive and drawn evenly.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Presses on the line.
    pub presses: usize,
    /// Keys are drawn below this RFC 4733 event code: 10 for digits, 16 for all.
    pub keys: u8,
    /// Tone lengths in ms, one drawn per press.
    pub tone_ms: Vec<f32>,
    /// Pauses in ms, one drawn per press.
    pub pause_ms: Vec<f32>,
    /// Level of the stronger tone, dBm0, one drawn per line.
    pub dbm0: (f32, f32),
    /// Strength of the column against the row, dB.
    pub twist_db: (f32, f32),
    /// Deviation from the nominal frequencies, as magnitudes in percent; the sign is drawn per tone.
    pub offset_percent: (f32, f32),
    /// White noise on the whole line, this many dB under the power of both tones.
    pub snr_db: Option<f32>,
    /// Each tone is interrupted once for this long, ms.
    pub dropout_ms: f32,
    /// What the line codes its samples with.
    pub law: Law,
}

/// Coding of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// 16-bit linear.
    Linear,
    /// G.711 µ-law.
    Mu,
    /// G.711 A-law.
    A,
}

impl Law {
    /// Sends samples through the coding and back.
    pub fn through(self, samples: &mut [i16]) {
        for sample in samples {
            *sample = match self {
                Law::Linear => *sample,
                Law::Mu => g711::ulaw_decode(g711::ulaw_encode(*sample)),
                Law::A => g711::alaw_decode(g711::alaw_encode(*sample)),
            };
        }
    }
}

impl Default for Plan {
    /// Nominal digits as a good telephone sends them: 100 ms on, 50 ms off, −10 dBm0, no noise, µ-law.
    fn default() -> Self {
        Self {
            presses: 16,
            keys: 10,
            tone_ms: vec![100.0],
            pause_ms: vec![50.0],
            dbm0: (-10.0, -10.0),
            twist_db: (0.0, 0.0),
            offset_percent: (0.0, 0.0),
            snr_db: None,
            dropout_ms: 0.0,
            law: Law::Mu,
        }
    }
}

/// One press on a line.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Key.
    pub digit: Digit,
    /// First sample of the tone.
    pub begin: usize,
    /// First sample after it.
    pub end: usize,
}

/// A line with presses on it.
#[derive(Debug, Clone)]
pub struct Line {
    /// 8 kHz samples.
    pub samples: Vec<i16>,
    /// The truth.
    pub presses: Vec<Placed>,
}

impl Line {
    /// The keys pressed, as characters. Exposes them.
    pub fn keys(&self) -> String {
        self.presses.iter().map(|p| p.digit.expose_char()).collect()
    }

    /// The mean power of the tones of all presses, linear units squared; 0 without presses.
    pub fn tone_power(&self) -> f32 {
        let parts = || self.presses.iter().filter_map(|p| self.samples.get(p.begin..p.end));
        let of: usize = parts().map(<[i16]>::len).sum();
        let sum: f64 = parts().flatten().map(|s| f64::from(*s) * f64::from(*s)).sum();
        (sum / of.max(1) as f64) as f32
    }

    /// Adds another signal, repeated as needed, scaled to `rms` (linear units), and codes the line again.
    pub fn add(&mut self, other: &[i16], rms: f32, law: Law) {
        let own = crate::dsp::level::mean_square(other).sqrt();
        if own <= 0.0 {
            return;
        }
        for (sample, more) in self.samples.iter_mut().zip(other.iter().cycle()) {
            *sample = clamp(f32::from(*sample) + f32::from(*more) * rms / own);
        }
        law.through(&mut self.samples);
    }
}

/// A seeded source of numbers in ranges.
pub struct Draw(Noise);

impl Draw {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Noise::new(seed))
    }

    /// Evenly from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f32 {
        (self.0.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Evenly from a range.
    pub fn range(&mut self, range: (f32, f32)) -> f32 {
        range.0 + (range.1 - range.0) * self.unit()
    }

    /// Below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.0.bits() >> 11).checked_rem(n as u64).unwrap_or(0) as usize
    }

    /// One of a list, or `otherwise`.
    pub fn one_of(&mut self, list: &[f32], otherwise: f32) -> f32 {
        list.get(self.below(list.len())).copied().unwrap_or(otherwise)
    }
}

/// The line a plan and a seed make: 60–80 ms of lead, presses and pauses, 120 ms of tail.
pub fn line(plan: &Plan, seed: u64) -> Line {
    let mut draw = Draw::new(seed);
    let ms = |value: f32| (value * 8.0).round() as usize;
    let level = draw.range(plan.dbm0);
    let lead = 480 + draw.below(160);
    let mut sum = vec![0f32; lead];
    let mut presses = Vec::new();
    let mut tone_power = 0f64;
    let mut tone_samples = 0usize;
    for _ in 0..plan.presses {
        let event = draw.below(usize::from(plan.keys.clamp(1, 16))) as u8;
        let Some(digit) = Digit::from_event(event) else { continue };
        let length = ms(draw.one_of(&plan.tone_ms, 100.0));
        let pause = ms(draw.one_of(&plan.pause_ms, 50.0)) + draw.below(8);
        let (row, column) = place_of(event);
        let twist = draw.range(plan.twist_db);
        let levels = if twist > 0.0 { (level - twist, level) } else { (level, level + twist) };
        let mut wave = |nominal: f32, dbm0: f32| {
            let sign = if draw.unit() < 0.5 { -1.0 } else { 1.0 };
            let hz = nominal * (1.0 + sign * draw.range(plan.offset_percent) / 100.0);
            let step = std::f64::consts::TAU * f64::from(hz) / 8000.0;
            (sine_peak(dbm0), step, f64::from(draw.unit()) * std::f64::consts::TAU)
        };
        let waves = [wave(ROWS[row], levels.0), wave(COLUMNS[column], levels.1)];
        let hole = ms(plan.dropout_ms);
        let spare = length.saturating_sub(hole + 160);
        let hole_at = 80 + draw.below(spare.max(1));
        let begin = sum.len();
        for n in 0..length {
            let dropped = hole > 0 && n >= hole_at && n < hole_at + hole;
            let value: f64 =
                waves.iter().map(|(peak, step, phase)| f64::from(*peak) * (step * n as f64 + phase).sin()).sum();
            sum.push(if dropped { 0.0 } else { value as f32 });
        }
        tone_power += waves.iter().map(|w| f64::from(w.0 * w.0) / 2.0).sum::<f64>() * length as f64;
        tone_samples += length;
        presses.push(Placed { digit, begin, end: begin + length });
        sum.resize(sum.len() + pause, 0.0);
    }
    sum.resize(sum.len() + 960, 0.0);
    if let Some(snr) = plan.snr_db
        && tone_samples > 0
    {
        let power = tone_power / tone_samples as f64;
        let noise_rms = (power.sqrt() * 10f64.powf(f64::from(-snr) / 20.0)) as f32;
        for sample in &mut sum {
            *sample += draw.0.gaussian() * noise_rms;
        }
    }
    let mut samples: Vec<i16> = sum.into_iter().map(clamp).collect();
    plan.law.through(&mut samples);
    Line { samples, presses }
}

/// Replaces what the given stretches hold by silence, as a mask that knows only these stretches would.
pub fn silence(samples: &mut [i16], stretches: &[(u64, u64)]) {
    let length = samples.len();
    for (from, to) in stretches {
        let clip = |position: u64| usize::try_from(position).unwrap_or(length).min(length);
        let (from, to) = (clip(*from), clip(*to));
        if from < to {
            samples[from..to].fill(0);
        }
    }
}

/// The rms of a talker 'so many dB' under tones at `dbm0`, linear units.
pub fn under(dbm0: f32, db: f32) -> f32 {
    rms(dbm0 - db)
}
