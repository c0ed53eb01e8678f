//! What a telephone line does to sound: noise, other voices, hum, dial tone, DC, clipping, echo, codings in tandem. A
//! linear line goes in with a seed; the line as it would arrive comes out. What happens to packets is [`super::network`].

use super::resample::resample;
use crate::dsp::level::{clamp, mean_square, rms, sine_peak};
use crate::dsp::noise::Noise;
use crate::dsp::{g722, opus};
use crate::testkit::speech::Talker;
use crate::testkit::tones::{Law, Line};

/// One thing a line does.
#[derive(Debug, Clone, PartialEq)]
pub enum Impairment {
    /// White noise over the whole line, this many dB under the mean power of the tones.
    Noise {
        /// Signal to noise, dB.
        snr_db: f32,
    },
    /// So many talkers at once, together this many dB under the tones.
    Babble {
        /// Talkers.
        talkers: u64,
        /// Tones to talkers, dB.
        under_db: f32,
    },
    /// Mains hum: the fundamental and, each 6 dB weaker, its odd harmonics up to the ninth.
    Hum {
        /// 50 or 60 Hz.
        hz: f32,
        /// Level of the fundamental, dBm0.
        dbm0: f32,
    },
    /// Dial tone under the digits: 350 and 440 Hz, each at this level.
    DialTone {
        /// Level of each, dBm0.
        dbm0: f32,
    },
    /// A constant added, as a part of full scale.
    Dc {
        /// −1…1.
        part: f32,
    },
    /// Amplified by so many dB over what the line can carry at its loudest sample, then cut off.
    Clip {
        /// dB over full scale.
        by_db: f32,
    },
    /// The line's own echo.
    Echo {
        /// How much later, ms.
        delay_ms: f32,
        /// How much weaker, dB.
        loss_db: f32,
    },
    /// There and back through a wideband coder.
    Coder(Coder),
    /// One coding after another, each behind a loss of 1 dB, so that no step repeats the one before.
    Tandem(Vec<Law>),
}

/// A coder of 16 kHz sound, which a gateway puts between two narrowband legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coder {
    /// G.722 at 64 kbit/s.
    G722,
    /// Opus in packets of 20 ms, bit/s.
    Opus(u32),
}

impl Coder {
    /// Sends 8 kHz samples through the coder and back; what comes later than it went in stays late.
    pub fn through(self, samples: &mut [i16]) {
        let wide = resample(samples, 0.5);
        let mut out = Vec::with_capacity(wide.len());
        let mut bytes = [0u8; 1_500];
        let mut decoded = [0i16; 5_760];
        let (mut coder, mut back) = (g722::Encoder::new(), g722::Decoder::new());
        let mut opus = if let Coder::Opus(bitrate) = self {
            Some((opus::Encoder::new(bitrate), opus::Decoder::new()))
        } else {
            None
        };
        for packet in wide.chunks(320) {
            let mut whole = [0i16; 320];
            whole[..packet.len()].copy_from_slice(packet);
            let heard = match &mut opus {
                None => {
                    let length = coder.encode(&whole, &mut bytes);
                    back.decode(&bytes[..length], &mut decoded)
                }
                Some((coder, back)) => {
                    let length = coder.encode(&whole, &mut bytes);
                    back.decode(&bytes[..length], &mut decoded)
                }
            };
            out.extend_from_slice(&decoded[..heard.min(320)]);
        }
        let narrow = resample(&out, 2.0);
        samples.iter_mut().zip(narrow.into_iter().chain(std::iter::repeat(0))).for_each(|(s, n)| *s = n);
    }
}

impl Impairment {
    /// What it is, in a few words.
    pub fn name(&self) -> String {
        match self {
            Impairment::Noise { snr_db } => format!("white noise, SNR {snr_db} dB"),
            Impairment::Babble { talkers, under_db } => format!("{talkers} talkers {under_db} dB under the tones"),
            Impairment::Hum { hz, dbm0 } => format!("hum {hz} Hz, {dbm0} dBm0"),
            Impairment::DialTone { dbm0 } => format!("dial tone 350 + 440 Hz, {dbm0} dBm0 each"),
            Impairment::Dc { part } => format!("DC {:+.0} % of full scale", 100.0 * part),
            Impairment::Clip { by_db } => format!("clipped by {by_db} dB"),
            Impairment::Echo { delay_ms, loss_db } => format!("echo after {delay_ms} ms, {loss_db} dB weaker"),
            Impairment::Coder(Coder::G722) => "G.722 and back".to_owned(),
            Impairment::Coder(Coder::Opus(bitrate)) => format!("Opus {} kbit/s and back", bitrate / 1_000),
            Impairment::Tandem(laws) => {
                let name = |law: &Law| match law {
                    Law::Linear => "linear",
                    Law::Mu => "µ",
                    Law::A => "A",
                };
                let names: Vec<&str> = laws.iter().map(name).collect();
                format!("G.711 tandem {}", names.join(" → "))
            }
        }
    }

    /// Does it to a line.
    pub fn apply(&self, line: &mut Line, seed: u64) {
        let tone = line.tone_power();
        let samples = &mut line.samples;
        match self {
            Impairment::Noise { snr_db } => {
                Noise::new(seed).add((tone * 10f32.powf(-snr_db / 10.0)).sqrt(), samples);
            }
            Impairment::Babble { talkers, under_db } => {
                let mut all = vec![0f32; samples.len()];
                for n in 0..*talkers {
                    let said = Talker::new(seed ^ (n << 32), -20.0).say(samples.len());
                    all.iter_mut().zip(said).for_each(|(sum, s)| *sum += f32::from(s));
                }
                let power = all.iter().map(|s| s * s).sum::<f32>() / all.len().max(1) as f32;
                let gain = (tone * 10f32.powf(-under_db / 10.0) / power.max(1.0)).sqrt();
                add(samples, |n| all[n] * gain);
            }
            Impairment::Hum { hz, dbm0 } => {
                let waves: Vec<(f32, f32)> =
                    (0..5u8).map(|n| (hz * f32::from(2 * n + 1), sine_peak(dbm0 - 6.0 * f32::from(n)))).collect();
                add(samples, |n| waves.iter().map(|(hz, peak)| peak * sine(*hz, n)).sum());
            }
            Impairment::DialTone { dbm0 } => {
                let peak = sine_peak(*dbm0);
                add(samples, |n| peak * (sine(350.0, n) + sine(440.0, n)));
            }
            Impairment::Dc { part } => add(samples, |_| part * 32_767.0),
            Impairment::Clip { by_db } => {
                let top = samples.iter().map(|s| s.unsigned_abs()).max().unwrap_or(1).max(1);
                let gain = 32_767.0 / f32::from(top) * 10f32.powf(by_db / 20.0);
                samples.iter_mut().for_each(|s| *s = clamp(f32::from(*s) * gain));
            }
            Impairment::Echo { delay_ms, loss_db } => {
                let (delay, gain) = ((delay_ms * 8.0) as usize, 10f32.powf(-loss_db / 20.0));
                let before = samples.clone();
                add(samples, |n| n.checked_sub(delay).map_or(0.0, |n| f32::from(before[n]) * gain));
            }
            Impairment::Coder(coder) => coder.through(samples),
            Impairment::Tandem(laws) => {
                for law in laws {
                    let gain = 10f32.powf(-1.0 / 20.0);
                    samples.iter_mut().for_each(|s| *s = clamp(f32::from(*s) * gain));
                    law.through(samples);
                }
            }
        }
    }
}

fn sine(hz: f32, n: usize) -> f32 {
    (std::f64::consts::TAU * f64::from(hz) * n as f64 / 8000.0).sin() as f32
}

fn add(samples: &mut [i16], more: impl Fn(usize) -> f32) {
    for (n, sample) in samples.iter_mut().enumerate() {
        *sample = clamp(f32::from(*sample) + more(n));
    }
}

/// Adds a voice under the tones: where it speaks it is `under_db` weaker than the tones of the line's first press. A
/// voice that is silent throughout leaves the line as it is and says so.
pub fn voice_under(line: &mut Line, voice: &[i16], under_db: f32) -> bool {
    let active: Vec<f32> = voice.chunks(160).map(mean_square).filter(|m| m.sqrt() > rms(-45.0)).collect();
    if active.is_empty() {
        return false;
    }
    let active = active.iter().sum::<f32>() / active.len() as f32;
    let gain = (line.tone_power() / active).sqrt() * 10f32.powf(-under_db / 20.0);
    add(&mut line.samples, |n| voice.get(n).map_or(0.0, |s| f32::from(*s) * gain));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::level::dbm0;
    use crate::testkit::tones::{Plan, line};

    fn plain() -> Line {
        line(&Plan { law: Law::Linear, ..Plan::default() }, 3)
    }

    #[test]
    fn noise_and_voices_have_the_level_asked_for() {
        for impairment in [Impairment::Noise { snr_db: 12.0 }, Impairment::Babble { talkers: 6, under_db: 12.0 }] {
            let (before, mut after) = (plain(), plain());
            impairment.apply(&mut after, 9);
            let added: Vec<i16> = after.samples.iter().zip(&before.samples).map(|(a, b)| a.wrapping_sub(*b)).collect();
            let level = dbm0(mean_square(&added)) - dbm0(before.tone_power());
            assert!((level + 12.0).abs() < 0.5, "{}: {level}", impairment.name());
        }
        let (before, mut after) = (plain(), plain());
        let voice = Talker::new(1, -30.0).say(after.samples.len());
        assert!(voice_under(&mut after, &voice, 10.0));
        assert!(!voice_under(&mut after, &vec![0; 1_000], 10.0));
        let added: Vec<i16> = after.samples.iter().zip(&before.samples).map(|(a, b)| a.wrapping_sub(*b)).collect();
        let level = dbm0(mean_square(&added)) - dbm0(before.tone_power());
        assert!((-16.0..=-9.5).contains(&level), "{level}");
    }

    #[test]
    fn a_wideband_coder_gives_the_line_back_about_as_it_was() {
        for coder in [Coder::G722, Coder::Opus(24_000)] {
            let (before, mut after) = (plain(), plain());
            coder.through(&mut after.samples);
            assert_eq!(after.samples.len(), before.samples.len());
            let change = dbm0(mean_square(&after.samples)) - dbm0(mean_square(&before.samples));
            assert!(change.abs() < 1.5, "{coder:?}: {change} dB");
        }
    }

    #[test]
    fn each_impairment_changes_the_line_repeatably_and_has_a_name() {
        let all = [
            Impairment::Noise { snr_db: 20.0 },
            Impairment::Hum { hz: 50.0, dbm0: -20.0 },
            Impairment::DialTone { dbm0: -16.0 },
            Impairment::Dc { part: 0.02 },
            Impairment::Clip { by_db: 6.0 },
            Impairment::Echo { delay_ms: 30.0, loss_db: 12.0 },
            Impairment::Tandem(vec![Law::Mu, Law::A, Law::Mu]),
        ];
        for impairment in &all {
            let (mut one, mut two) = (plain(), plain());
            impairment.apply(&mut one, 4);
            impairment.apply(&mut two, 4);
            assert_eq!(one.samples, two.samples);
            assert_ne!(one.samples, plain().samples, "{}", impairment.name());
            assert!(!impairment.name().is_empty());
        }
        let mut clipped = plain();
        Impairment::Clip { by_db: 6.0 }.apply(&mut clipped, 0);
        assert!(clipped.samples.iter().filter(|s| **s == 32_767).count() > 1_000);
    }
}
