//! What stands in the place of samples that do not go out: noise like the line's own, or silence. Samples and what is
//! known of each go in; samples that may go out come out. A packet that touches a digit is replaced whole, and masked
//! stretches last whole steps of 40 ms, so that neither begin nor length of the mask tells anything of the key.

use super::line::Known;
use crate::config::MaskKind;
use crate::dsp::PER_MS;
use crate::dsp::level::Background;
use crate::dsp::noise::Noise;

/// Masked stretches are rounded up to this many samples (40 ms).
const STEP: usize = 40 * PER_MS;

/// The mask of one direction.
pub(super) struct Mask {
    noise: Noise,
    background: Background,
    /// Samples of the masked stretch so far; 0 outside of one.
    masked: usize,
    /// Samples since the last that was masked.
    calm: u64,
}

impl Mask {
    pub(super) fn new(seed: u64) -> Self {
        Self { noise: Noise::new(seed), background: Background::new(), masked: 0, calm: u64::MAX / 2 }
    }

    /// Learns the line's level from audio that is relayed or clean.
    pub(super) fn learn(&mut self, samples: &[i16]) {
        self.background.feed(samples);
    }

    /// The line's background, rms in linear units.
    pub(super) fn background(&self) -> f32 {
        self.background.rms()
    }

    /// How many samples ago the last masked stretch ended; 0 within one.
    pub(super) fn calm(&self) -> u64 {
        if self.masked == 0 { self.calm } else { 0 }
    }

    /// Replaces in `frame` all that is not known clean.
    pub(super) fn apply(&mut self, kind: MaskKind, frame: &mut [i16], known: &[Known]) {
        let touched = known.contains(&Known::Digit);
        if touched || !self.masked.is_multiple_of(STEP) {
            self.masked += frame.len();
            self.calm = 0;
            // Steps are whole packets: round up where packets do not divide them.
            if !touched && self.masked % STEP < frame.len() {
                self.masked = 0;
            }
            match kind {
                MaskKind::Silence => frame.fill(0),
                MaskKind::ComfortNoise | MaskKind::Tone | MaskKind::Substitute => self.fill(frame),
            }
            return;
        }
        self.masked = 0;
        self.calm += frame.len() as u64;
        if known.iter().all(|known| *known == Known::Clean) {
            self.learn(frame);
            return;
        }
        let rms = self.background();
        for (sample, known) in frame.iter_mut().zip(known) {
            if *known != Known::Clean {
                let mut one = [0];
                self.noise.fill(rms, &mut one);
                *sample = one[0];
            }
        }
    }

    /// Fills a frame with the line's noise.
    pub(super) fn fill(&mut self, frame: &mut [i16]) {
        let rms = self.background();
        self.noise.fill(rms, frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_one_digit_sample_is_replaced_whole_and_the_next_to_the_step() {
        let mut mask = Mask::new(1);
        let speech = [1_000i16; 160];
        let mut known = [Known::Clean; 160];
        known[159] = Known::Digit;
        let mut frame = speech;
        mask.apply(MaskKind::Silence, &mut frame, &known);
        assert_eq!(frame, [0; 160]);
        let mut frame = speech;
        mask.apply(MaskKind::Silence, &mut frame, &[Known::Clean; 160]);
        assert_eq!(frame, [0; 160], "40 ms at least");
        let mut frame = speech;
        mask.apply(MaskKind::Silence, &mut frame, &[Known::Clean; 160]);
        assert_eq!(frame, speech);
    }

    #[test]
    fn what_never_came_is_replaced_sample_by_sample() {
        let mut mask = Mask::new(1);
        let mut frame = [1_000i16; 160];
        let mut known = [Known::Clean; 160];
        known[..80].fill(Known::No);
        mask.apply(MaskKind::Tone, &mut frame, &known);
        assert!(frame[..80].iter().all(|s| s.unsigned_abs() < 200));
        assert!(frame[80..].iter().all(|s| *s == 1_000));
    }

    #[test]
    fn noise_is_as_loud_as_the_line() {
        let mut mask = Mask::new(3);
        let mut line = Noise::new(9);
        for _ in 0..200 {
            let mut frame = [0; 160];
            line.fill(300.0, &mut frame);
            mask.learn(&frame);
        }
        let rms = mask.background();
        assert!((200.0..330.0).contains(&rms), "{rms}");
    }
}
