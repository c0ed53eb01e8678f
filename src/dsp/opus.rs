//! Opus (RFC 6716) between packets and 16 kHz samples, mono. Whole packets go in and samples come out, or samples go in
//! and packets of one constant size, mode and bandwidth come out: nothing of what is said can be told from a packet's
//! outside (RFC 6562). A packet that cannot be decoded is concealed; one that breaks the decoder costs its state, no more.
//!
//! ```text
//!  packet   ┌ TOC: config (mode, bandwidth, frame length) 5 │ stereo 1 │ code 2 ┐  code 0: one frame   1, 2: two
//!           └──────────────────────────────────────────────────────────────────┘  code 3: a count byte follows
//! ```
//! Opus' own 48 kHz exists only in RTP timestamps: what lies above 8 kHz is not decoded, telephony has no use for it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use opus_rs::{Application, OpusDecoder, OpusEncoder};

use super::PER_MS;

/// Samples per second in and out of this module.
pub const RATE: u32 = 16_000;
/// The longest packet: 120 ms.
pub const LONGEST: usize = 120 * 2 * PER_MS;
/// The most bytes of one packet that are decoded: six of the largest frames.
pub const MAX_PACKET: usize = 1_275;
/// What we encode with where the peer sets no lower limit, bit/s.
pub const BITRATE: u32 = 40_000;
/// The least we encode with, bit/s: below, tones of music and keys suffer.
const LEAST_BITRATE: u32 = 16_000;
/// How hard the encoder tries, 0–10.
const COMPLEXITY: i32 = 5;
/// Frame lengths we encode, in samples at 8 kHz, longest first (40, 20, 10 ms).
pub const FRAMES: [usize; 3] = [320, 160, 80];

/// How long a packet is, in samples at 8 kHz; `None` when it is not an Opus packet (RFC 6716 section 3.4, R1, R5).
pub fn duration(packet: &[u8]) -> Option<usize> {
    let toc = *packet.first()?;
    let config = toc >> 3;
    // In units of 2.5 ms, 20 samples.
    let frame = match config {
        0..=11 => [4, 8, 16, 24][usize::from(config & 3)],
        12..=15 => [4, 8][usize::from(config & 1)],
        _ => [1, 2, 4, 8][usize::from(config & 3)],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => usize::from(*packet.get(1)? & 0x3f),
    };
    let units = frame * count;
    (1..=48).contains(&units).then_some(units * 20)
}

/// Turns packets into 16 kHz samples.
pub struct Decoder {
    /// `None` once it could not be made anew.
    inner: Option<OpusDecoder>,
    linear: Box<[f32; LONGEST]>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    pub fn new() -> Self {
        Self { inner: OpusDecoder::new(RATE as i32, 1).ok(), linear: Box::new([0.0; LONGEST]) }
    }

    /// Decodes a packet; a stereo one is mixed down. Returns the samples written at 16 kHz, always what
    /// [`duration`] says: silence where nothing can be made of the packet. 0 when it is no Opus packet.
    pub fn decode(&mut self, packet: &[u8], out: &mut [i16]) -> usize {
        let Some(length) = duration(packet).map(|samples| samples * 2).filter(|length| *length <= out.len()) else {
            return 0;
        };
        let out = &mut out[..length];
        let linear = &mut self.linear[..length];
        linear.fill(0.0);
        if packet.len() <= MAX_PACKET {
            let inner = &mut self.inner;
            // The decoder is other people's arithmetic on a stranger's bytes: should it fail, the call goes on.
            let decoded = catch_unwind(AssertUnwindSafe(|| {
                inner.as_mut().map(|inner| inner.decode(packet, length, linear).is_ok())
            }));
            if decoded.is_err() {
                self.inner = OpusDecoder::new(RATE as i32, 1).ok();
                self.linear[..length].fill(0.0);
            }
        }
        for (sample, value) in out.iter_mut().zip(self.linear.iter()) {
            *sample = super::level::clamp(value * 32_768.0);
        }
        length
    }
}

/// Turns 16 kHz samples into packets of one size. Always by Opus' transform codec (CELT): it looks ahead 2.5 ms only, costs
/// a fifth of the speech codec, and keeps two tones two tones, which the speech codec of the crate we use does not.
pub struct Encoder {
    inner: Option<OpusEncoder>,
    bitrate: u32,
    /// Samples of the frames so far; 0 before the first.
    frame: usize,
}

impl Encoder {
    /// An encoder at the beginning of a stream, for at most `bitrate` bit/s: its first packet leans on nothing before,
    /// so it may go on a stream that another encoder began.
    pub fn new(bitrate: u32) -> Self {
        let bitrate = bitrate.clamp(LEAST_BITRATE, BITRATE);
        let inner = OpusEncoder::new(RATE as i32, 1, Application::RestrictedLowDelay).ok().map(|mut encoder| {
            encoder.bitrate_bps = bitrate as i32;
            encoder.complexity = COMPLEXITY;
            encoder.use_cbr = true;
            encoder
        });
        Self { inner, bitrate, frame: 0 }
    }

    /// Bytes of every packet of `samples` at 16 kHz.
    pub fn size(&self, samples: usize) -> usize {
        self.bitrate as usize * samples / (RATE as usize * 8)
    }

    /// Encodes one packet of 10, 20 or 40 ms. Returns its length; 0 when it could not be made. Another length than
    /// before begins the stream anew, as far as the encoder knows; this is the one case that allocates.
    pub fn encode(&mut self, samples: &[i16], out: &mut [u8]) -> usize {
        if self.frame != samples.len() {
            if self.frame != 0 {
                *self = Self::new(self.bitrate);
            }
            self.frame = samples.len();
        }
        let size = self.size(samples.len());
        let (Some(room), Some(inner)) = (out.get_mut(..size), &mut self.inner) else { return 0 };
        let encoded = catch_unwind(AssertUnwindSafe(|| inner.encode_i16(samples, samples.len(), room)));
        match encoded {
            Ok(Ok(length)) => length.min(size),
            Ok(Err(_)) => 0,
            Err(_) => {
                *self = Self { frame: self.frame, ..Self::new(self.bitrate) };
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::level::{dbm0, mean_square, rms};
    use crate::dsp::noise::Noise;
    use crate::dsp::tone::{Tone, TwoTone};

    fn sine(hz: f64, peak: f64, samples: usize) -> Vec<i16> {
        (0..samples).map(|n| (peak * (n as f64 * std::f64::consts::TAU * hz / 16_000.0).sin()) as i16).collect()
    }

    #[test]
    fn lengths_are_those_of_table_2() {
        for (packet, samples) in [
            (&[0x00u8][..], Some(80)),
            (&[0x18], Some(480)),
            (&[0x48], Some(160)),
            (&[0x60], Some(80)),
            (&[0x78, 1, 2], Some(160)),
            (&[0x80], Some(20)),
            (&[0xf8], Some(160)),
            (&[0xf9, 1, 1], Some(320)),
            (&[0xfb, 6], Some(960)),
            (&[0xfb, 7], None),
            (&[0xfb, 0], None),
            (&[0xfb], None),
            (&[0x1b, 2], Some(960)),
            (&[0x1b, 3], None),
            (&[], None),
        ] {
            assert_eq!(duration(packet), samples, "{packet:02x?}");
        }
    }

    #[test]
    fn a_tone_comes_through_at_its_level() {
        for length in FRAMES {
            let (mut encoder, mut decoder) = (Encoder::new(BITRATE), Decoder::new());
            let mut heard = Vec::new();
            for frame in sine(1_000.0, 5_000.0, 19_200).chunks_exact(2 * length) {
                let (mut packet, mut samples) = ([0; 400], [0; LONGEST]);
                let size = encoder.encode(frame, &mut packet);
                assert_eq!(size, 5 * length / 8, "{length}");
                assert_eq!(decoder.decode(&packet[..size], &mut samples), 2 * length);
                heard.extend_from_slice(&samples[..2 * length]);
            }
            let level = dbm0(mean_square(&heard[8_000..])) - dbm0(5_000.0f32.powi(2) / 2.0);
            assert!(level.abs() < 1.5, "{length}: {level:.1} dB");
        }
    }

    #[test]
    fn a_change_of_the_frame_length_is_heard_through() {
        let (mut encoder, mut decoder) = (Encoder::new(BITRATE), Decoder::new());
        let said = sine(1_000.0, 5_000.0, 16_000);
        for length in [160, 80, 320, 160, 320, 80, 160] {
            let mut heard = Vec::new();
            for frame in said.chunks_exact(2 * length) {
                let (mut packet, mut samples) = ([0; 400], [0; LONGEST]);
                let size = encoder.encode(frame, &mut packet);
                assert_eq!(size, 5 * length / 8, "{length}");
                assert_eq!(decoder.decode(&packet[..size], &mut samples), 2 * length);
                heard.extend_from_slice(&samples[..2 * length]);
            }
            let level = dbm0(mean_square(&heard[4_000..])) - dbm0(5_000.0f32.powi(2) / 2.0);
            assert!(level.abs() < 1.5, "{length}: {level:.1} dB");
        }
    }

    #[test]
    fn every_packet_looks_the_same_from_outside() {
        let mut encoder = Encoder::new(BITRATE);
        let mut noise = Noise::new(3);
        let mut said = TwoTone::new(Tone::new(385.0, -9.0), Tone::new(668.0, -9.0));
        let mut kinds = std::collections::BTreeSet::new();
        for n in 0..300 {
            let mut frame = [0i16; 320];
            match n / 50 {
                0 | 3 => {}
                1 => noise.fill(rms(-50.0), &mut frame),
                2 => noise.fill(rms(-10.0), &mut frame),
                4 => said.fill(&mut frame),
                _ => frame.copy_from_slice(&sine(150.0 + f64::from(n), 20_000.0, 320)),
            }
            let mut packet = [0; 400];
            let size = encoder.encode(&frame, &mut packet);
            // Mode, bandwidth, frame length and channels; how a frame fills its packet is inside.
            kinds.insert((size, packet[0] >> 2));
        }
        assert_eq!(kinds.len(), 1, "{kinds:02x?}");
    }

    #[test]
    fn nonsense_is_survived_and_the_next_good_packet_heard() {
        let mut noise = Noise::new(11);
        let (mut encoder, mut decoder) = (Encoder::new(BITRATE), Decoder::new());
        let mut samples = [0; LONGEST];
        for n in 0..3_000 {
            let mut packet: Vec<u8> = (0..noise.bits() % 200).map(|_| noise.bits() as u8).collect();
            if n % 3 == 0 {
                packet = vec![0; 200];
                let size = encoder.encode(&sine(800.0, 9_000.0, 320), &mut packet);
                packet.truncate(size);
                for _ in 0..noise.bits() % 4 {
                    let at = noise.bits() as usize % size;
                    packet[at] ^= noise.bits() as u8;
                }
            }
            let expected = duration(&packet).unwrap_or(0) * 2;
            assert_eq!(decoder.decode(&packet, &mut samples), expected);
        }
        for _ in 0..20 {
            let mut packet = [0; 200];
            let size = encoder.encode(&sine(800.0, 9_000.0, 320), &mut packet);
            decoder.decode(&packet[..size], &mut samples);
        }
        assert!(mean_square(&samples[..320]).sqrt() > 3_000.0);
    }
}
