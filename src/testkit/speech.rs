//! A talker made of mathematics: syllables of random vowels and consonants through a cascade of formant resonators,
//! with a moving pitch, phrases and pauses, by a seed. Nobody will mistake it for a person, but to a detector it is
//! speech: harmonics of a moving fundamental under moving formants. Used as the caller's and agent's voice in tests and
//! the demo; carries no licence but our own.
//!
//! ```text
//!  pulse train (pitch) ─┬─▶ F1 ─▶ F2 ─▶ F3 ─▶ F4 ─▶ level ─▶ i16 at 8 kHz
//!  noise (breath) ──────┘   resonators glide from target to target
//!  noise (fricatives) ──────▶ own resonator ─┘
//! ```

use super::tones::Draw;
use crate::dsp::level::{self, clamp, rms};
use crate::dsp::noise::Noise;

/// Vowels as the first three formants of an adult male voice, Hz.
const VOWELS: [[f32; 3]; 10] = [
    [270.0, 2290.0, 3010.0],
    [390.0, 1990.0, 2550.0],
    [530.0, 1840.0, 2480.0],
    [660.0, 1720.0, 2410.0],
    [730.0, 1090.0, 2440.0],
    [570.0, 840.0, 2410.0],
    [440.0, 1020.0, 2240.0],
    [300.0, 870.0, 2240.0],
    [640.0, 1190.0, 2390.0],
    [490.0, 1350.0, 1690.0],
];
/// Bandwidths of the four resonators, Hz.
const BANDWIDTHS: [f32; 4] = [90.0, 130.0, 180.0, 250.0];
/// Samples between updates of the resonators: 2 ms.
const STEP: usize = 16;

/// What the mouth does in one piece of a syllable.
#[derive(Debug, Clone, Copy)]
struct Piece {
    formants: [f32; 3],
    samples: usize,
    voice: f32,
    breath: f32,
    hiss: f32,
    hiss_hz: f32,
}

/// A two-pole resonator with unit gain at 0 Hz.
#[derive(Debug, Clone, Copy, Default)]
struct Resonator {
    a: f32,
    b: f32,
    c: f32,
    y: [f32; 2],
}

impl Resonator {
    fn tune(&mut self, hz: f32, bandwidth: f32) {
        let r = (-std::f32::consts::PI * bandwidth / 8000.0).exp();
        self.c = -r * r;
        self.b = 2.0 * r * (std::f32::consts::TAU * hz / 8000.0).cos();
        self.a = 1.0 - self.b - self.c;
    }

    fn sample(&mut self, x: f32) -> f32 {
        let y = self.a * x + self.b * self.y[0] + self.c * self.y[1];
        self.y = [y, self.y[0]];
        y
    }
}

/// A talker that goes on as long as asked.
pub struct Talker {
    draw: Draw,
    noise: Noise,
    /// Mean pitch in Hz and vocal-tract scale of this talker.
    pitch: f32,
    scale: f32,
    level: f32,
    pieces: Vec<Piece>,
    /// Samples into the current piece, which is the last of `pieces`.
    into: usize,
    phase: f32,
    tilt: f32,
    formants: [f32; 3],
    amounts: [f32; 3],
    pitch_now: f32,
    resonators: [Resonator; 4],
    hiss: Resonator,
    syllables_left: usize,
}

impl Talker {
    /// A talker of speech level `dbm0` (long-term, pauses left out), voice and words by `seed`.
    pub fn new(seed: u64, dbm0: f32) -> Self {
        // Voices differ in loudness by vowel and pitch: hear five seconds of this one, then set its gain.
        let mut rehearsal = Self::untuned(seed, -20.0);
        let said = rehearsal.say(40_000);
        let active = |frame: &[i16]| Some(level::mean_square(frame)).filter(|m| level::dbm0(*m) > -45.0);
        let powers: Vec<f32> = said.chunks(160).filter_map(active).collect();
        let mean = powers.iter().sum::<f32>() / (powers.len().max(1)) as f32;
        Self::untuned(seed, dbm0 - (level::dbm0(mean) + 20.0))
    }

    fn untuned(seed: u64, dbm0: f32) -> Self {
        let mut draw = Draw::new(seed);
        let high = draw.unit() < 0.5;
        let (pitch, scale) = if high {
            (draw.range((165.0, 230.0)), draw.range((1.10, 1.20)))
        } else {
            (draw.range((85.0, 140.0)), 1.0)
        };
        let mut hiss = Resonator::default();
        hiss.tune(2800.0, 900.0);
        Self {
            noise: Noise::new(seed ^ 0x5eed),
            draw,
            pitch,
            scale,
            level: rms(dbm0),
            pieces: Vec::new(),
            into: 0,
            phase: 0.0,
            tilt: 0.0,
            formants: VOWELS[8],
            amounts: [0.0; 3],
            pitch_now: pitch,
            resonators: [Resonator::default(); 4],
            hiss,
            syllables_left: 4,
        }
    }

    /// Says the next syllable, or pauses.
    fn next_syllable(&mut self) {
        let draw = &mut self.draw;
        let pause = |ms: f32| Piece {
            formants: VOWELS[8],
            samples: (ms * 8.0) as usize,
            voice: 0.0,
            breath: 0.002,
            hiss: 0.0,
            hiss_hz: 2500.0,
        };
        if self.syllables_left == 0 {
            self.syllables_left = 3 + draw.below(12);
            let ms = if draw.unit() < 0.3 { draw.range((500.0, 1200.0)) } else { draw.range((120.0, 350.0)) };
            self.pieces = vec![pause(ms)];
            return;
        }
        self.syllables_left -= 1;
        let scale = self.scale;
        let vowel = |n: usize| VOWELS[n].map(|hz| (hz * scale).min(3600.0));
        let (from, to) = (vowel(draw.below(VOWELS.len())), vowel(draw.below(VOWELS.len())));
        let stress = draw.range((0.5, 1.0));
        let ms = draw.range((70.0, 220.0));
        let voiced = |formants, ms: f32, voice: f32| Piece {
            formants,
            samples: (ms * 8.0) as usize,
            voice,
            breath: 0.02,
            hiss: 0.0,
            hiss_hz: 2500.0,
        };
        let mut said = Vec::new();
        match draw.below(6) {
            // A plosive: closure, burst.
            0 | 1 => {
                said.push(pause(draw.range((35.0, 80.0))));
                let hiss_hz = draw.range((900.0, 3000.0));
                said.push(Piece { hiss: 0.5, hiss_hz, ..voiced(from, draw.range((6.0, 20.0)), 0.0) });
            }
            // A fricative, sometimes voiced.
            2 | 3 => {
                let voice = if draw.unit() < 0.3 { 0.2 } else { 0.0 };
                let hiss_hz = draw.range((1800.0, 3500.0));
                let hiss = draw.range((0.08, 0.25));
                said.push(Piece { hiss, hiss_hz, ..voiced(from, draw.range((50.0, 130.0)), voice) });
            }
            // A nasal or liquid.
            4 => said.push(voiced([280.0 * scale, 1100.0 * scale, 2300.0], draw.range((40.0, 90.0)), 0.35)),
            _ => {}
        }
        said.push(voiced(from, ms * 0.6, stress));
        said.push(voiced(to, ms * 0.4, stress * 0.8));
        said.reverse();
        self.pieces = said;
    }

    fn glide(&mut self, piece: &Piece) {
        let near = |now: f32, target: f32, rate: f32| now + (target - now) * rate;
        for (now, target) in self.formants.iter_mut().zip(piece.formants) {
            *now = near(*now, target, 0.035);
        }
        let targets = [piece.voice, piece.breath, piece.hiss];
        for (now, target) in self.amounts.iter_mut().zip(targets) {
            *now = near(*now, target, 0.25);
        }
        // The melody: declination over the phrase, a rise and fall with every syllable's stress, and flutter.
        let stress = 0.85 + 0.3 * piece.voice + 0.02 * self.syllables_left as f32;
        let melody = self.pitch * (stress + 0.3 * (self.draw.unit() - 0.5));
        self.pitch_now = near(self.pitch_now, melody.min(340.0), 0.05);
        for (n, bandwidth) in BANDWIDTHS.iter().enumerate() {
            let hz = self.formants.get(n).copied().unwrap_or(3500.0);
            self.resonators[n].tune(hz.min(3700.0), *bandwidth);
        }
        self.hiss.tune(piece.hiss_hz, 900.0);
    }

    /// Writes the next samples over `out`.
    pub fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            while self.pieces.last().is_none_or(|p| self.into >= p.samples) {
                self.into = 0;
                self.pieces.pop();
                if self.pieces.is_empty() {
                    self.next_syllable();
                }
            }
            let Some(piece) = self.pieces.last().copied() else { continue };
            if self.into.is_multiple_of(STEP) {
                self.glide(&piece);
            }
            self.into += 1;
            self.phase += self.pitch_now / 8000.0;
            let mut pulse = 0.0;
            if self.phase >= 1.0 {
                self.phase -= 1.0;
                // A little jitter, and the pulse's energy kept over pitch.
                self.phase += 0.01 * (self.draw.unit() - 0.5);
                pulse = (8000.0 / self.pitch_now).sqrt();
            }
            // −6 dB per octave of glottal source and radiation together.
            self.tilt = 0.75 * self.tilt + pulse * self.amounts[0];
            let mut x = self.tilt + self.noise.gaussian() * self.amounts[1];
            for resonator in &mut self.resonators {
                x = resonator.sample(x);
            }
            let hiss = self.hiss.sample(self.noise.gaussian() * self.amounts[2]) * 0.6;
            *sample = clamp((x * 0.23 + hiss) * self.level);
        }
    }

    /// The next `samples` samples.
    pub fn say(&mut self, samples: usize) -> Vec<i16> {
        let mut out = vec![0; samples];
        self.fill(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::level::{dbm0, mean_square};

    #[test]
    fn a_talker_speaks_at_about_the_level_asked_for_and_pauses() {
        for seed in 0..8 {
            let said = Talker::new(seed, -20.0).say(80_000);
            let mut frames: Vec<f32> = said.chunks(160).map(mean_square).collect();
            let active: Vec<f32> = frames.iter().copied().filter(|m| dbm0(*m) > -40.0).collect();
            let level = dbm0(active.iter().sum::<f32>() / active.len() as f32);
            assert!((level + 20.0).abs() < 3.0, "seed {seed}: {level}");
            assert!(said.iter().filter(|s| s.unsigned_abs() > 32_000).count() < 40, "clips");
            frames.sort_by(f32::total_cmp);
            assert!(dbm0(frames[frames.len() / 20]) < -45.0, "no pauses");
        }
    }

    #[test]
    fn the_same_seed_says_the_same() {
        assert_eq!(Talker::new(3, -20.0).say(4000), Talker::new(3, -20.0).say(4000));
        assert_ne!(Talker::new(3, -20.0).say(4000), Talker::new(4, -20.0).say(4000));
    }
}
