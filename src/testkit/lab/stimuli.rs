//! The stimuli of the bars D1–D5 and R1, by their names in docs/laboratory.md. A name and a seed go in; a line, its
//! packets and the truth come out.

use super::hear::Packets;
use super::impair::{Impairment, voice_under};
use super::network::Network;
use crate::testkit::tones::{Law, Line, Plan, line};

/// D1: all keys, 40–100 ms, pauses of 30–50 ms, 0…−36 dBm0, clean.
pub fn d1() -> Plan {
    Plan {
        presses: 25,
        keys: 16,
        tone_ms: vec![40.0, 50.0, 65.0, 100.0],
        pause_ms: vec![30.0, 40.0, 50.0],
        dbm0: (-36.0, 0.0),
        ..Plan::default()
    }
}

/// D2, D3: 40 ms, off frequency by up to 1.8 %, −8…+5 dB twist, in white noise.
pub fn d2(snr_db: f32) -> Plan {
    Plan {
        tone_ms: vec![40.0],
        pause_ms: vec![40.0],
        dbm0: (-36.0, -3.0),
        twist_db: (-8.0, 5.0),
        offset_percent: (0.0, 1.8),
        snr_db: Some(snr_db),
        ..d1()
    }
}

/// D4: digits of 100 ms for a voice to speak over.
pub fn d4() -> Plan {
    Plan {
        presses: 25,
        pause_ms: vec![50.0, 100.0, 150.0],
        dbm0: (-20.0, -5.0),
        twist_db: (-4.0, 3.0),
        law: Law::Linear,
        ..Plan::default()
    }
}

/// D5: digits of 65 and 100 ms, off frequency and twisted, at 20 dB SNR, for packets to be lost from.
pub fn d5() -> Plan {
    Plan { keys: 10, tone_ms: vec![65.0, 100.0], pause_ms: vec![30.0, 50.0], ..d2(20.0) }
}

/// A stimulus: what is pressed, and what the line and the network do to it.
#[derive(Debug, Clone)]
pub struct Stimulus<'a> {
    /// What is pressed.
    pub plan: Plan,
    /// What the line does, in order; coded by the plan's law again afterwards.
    pub impairments: Vec<Impairment>,
    /// A voice over it, so many dB weaker than the tones.
    pub voice: Option<(&'a [i16], f32)>,
    /// What the network does.
    pub network: Network,
}

impl<'a> Stimulus<'a> {
    /// Only what is pressed.
    pub fn plain(plan: Plan) -> Self {
        Self { plan, impairments: Vec::new(), voice: None, network: Network::CLEAN }
    }

    /// The same over a voice.
    pub fn over(self, voice: &'a [i16], under_db: f32) -> Self {
        Self { voice: Some((voice, under_db)), ..self }
    }

    /// The same through a line.
    pub fn through(self, impairments: Vec<Impairment>) -> Self {
        Self { impairments, ..self }
    }

    /// The same over a network.
    pub fn by(self, network: Network) -> Self {
        Self { network, ..self }
    }

    /// The line of a seed and its packets.
    pub fn draw(&self, seed: u64) -> (Line, Packets) {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let plain = self.voice.is_none() && self.impairments.is_empty();
        let law = self.plan.law;
        let first = if plain { law } else { Law::Linear };
        let mut line = line(&Plan { law: first, ..self.plan.clone() }, seed);
        for impairment in &self.impairments {
            impairment.apply(&mut line, seed);
        }
        if let Some((voice, under_db)) = self.voice {
            let spare = voice.len().saturating_sub(line.samples.len()).max(1);
            // A stretch without a word would make the digit clean: look for one with speech in it.
            for attempt in 0..8u64 {
                let at = (seed.wrapping_add(attempt.wrapping_mul(0x2545_f491_4f6c_dd1d)) >> 16) as usize % spare;
                let end = (at + line.samples.len()).min(voice.len());
                if voice_under(&mut line, &voice[at..end], under_db) {
                    break;
                }
            }
        }
        if !plain {
            // A voice goes with the plan's own coding; a linear plan is sent as µ-law, as telephony would.
            if law == Law::Linear { Law::Mu } else { law }.through(&mut line.samples);
        }
        let packets = self.network.packets(line.samples.len(), seed);
        (line, packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::lab::network::Loss;
    use crate::testkit::speech::Talker;

    #[test]
    fn a_stimulus_repeats_with_its_seed_and_keeps_its_truth() {
        let voice = Talker::new(1, -20.0).say(200_000);
        let all = [
            Stimulus::plain(d1()),
            Stimulus::plain(d2(12.0)).by(Network::losing(Loss::Random(0.1))),
            Stimulus::plain(d4()).over(&voice, 6.0),
            Stimulus::plain(d5()).through(vec![Impairment::Dc { part: 0.01 }]),
        ];
        for stimulus in &all {
            let ((one, packets), (two, _)) = (stimulus.draw(7), stimulus.draw(7));
            assert_eq!(one.samples, two.samples);
            assert_eq!(one.presses.len(), 25);
            assert_ne!(one.samples, stimulus.draw(8).0.samples);
            assert!(one.presses.iter().all(|p| p.end <= one.samples.len()));
            let lossy = matches!(stimulus.network.loss, Loss::Random(_));
            assert_eq!(packets.lost.contains(&true), lossy);
        }
        let clean = Stimulus::plain(d4()).draw(7).0;
        assert_ne!(clean.samples, all[2].draw(7).0.samples, "the voice is on the line");
    }
}
