//! What telephones code their sound with: 8 kHz samples in, payloads out, and back. One [`Coder`] per direction and
//! codec, since some codecs remember. G.711 by a second implementation; G.722 and Opus by `dsp`'s, which `tests/codecs.rs`
//! holds against spandsp's and libopus'.

use super::companding as g711;
use crate::config::Codec;
use crate::dsp::halfband::{Join, Split};
use crate::dsp::{g722, opus};

/// Codes one direction of one stream, or decodes it; not both. A wide codec is given narrow sound, and 2.8 ms more delay
/// than its own: 1.4 ms on the way to 16 kHz and as much on the way back.
pub struct Coder {
    codec: Codec,
    wide: Option<Box<Wide>>,
}

struct Wide {
    join: Join,
    split: Split,
    g722: (g722::Encoder, g722::Decoder),
    opus: (opus::Encoder, opus::Decoder),
}

impl Coder {
    /// A coder that has heard nothing.
    pub fn new(codec: Codec) -> Self {
        let wide = || {
            Box::new(Wide {
                join: Join::new(),
                split: Split::new(),
                g722: Default::default(),
                opus: (opus::Encoder::new(opus::BITRATE), opus::Decoder::new()),
            })
        };
        Self { codec, wide: codec.is_wide().then(wide) }
    }

    /// The payload of the next samples; with Opus they are 10, 20 or 40 ms.
    pub fn encode(&mut self, samples: &[i16]) -> Vec<u8> {
        match (&mut self.wide, self.codec) {
            (None, Codec::Pcma) => samples.iter().map(|sample| g711::alaw_encode(*sample)).collect(),
            (None, _) => samples.iter().map(|sample| g711::ulaw_encode(*sample)).collect(),
            (Some(wide), codec) => {
                let sound: Vec<i16> = samples.iter().flat_map(|sample| wide.join.push(*sample, [0; 2])).collect();
                wide.encode(codec, &sound)
            }
        }
    }

    /// The payload of the next wide samples; nothing for a narrow codec.
    pub fn encode_wide(&mut self, samples: &[i16]) -> Vec<u8> {
        self.wide.as_mut().map_or_else(Vec::new, |wide| wide.encode(self.codec, samples))
    }

    /// The samples of the next payload.
    pub fn decode(&mut self, payload: &[u8]) -> Vec<i16> {
        match (&mut self.wide, self.codec) {
            (None, Codec::Pcma) => payload.iter().map(|byte| g711::alaw_decode(*byte)).collect(),
            (None, _) => payload.iter().map(|byte| g711::ulaw_decode(*byte)).collect(),
            (Some(wide), codec) => {
                let sound = wide.decode(codec, payload);
                sound.as_chunks::<2>().0.iter().map(|pair| wide.split.push(*pair).0).collect()
            }
        }
    }

    /// The wide samples of the next payload; none of a narrow codec.
    pub fn decode_wide(&mut self, payload: &[u8]) -> Vec<i16> {
        self.wide.as_mut().map_or_else(Vec::new, |wide| wide.decode(self.codec, payload))
    }

    /// How many steps its RTP timestamps make for one sample at 8 kHz.
    pub fn steps(codec: Codec) -> u32 {
        (codec.clock_rate() / 8_000).max(1)
    }
}

impl Wide {
    fn encode(&mut self, codec: Codec, samples: &[i16]) -> Vec<u8> {
        let mut payload = vec![0; samples.len()];
        let length = match codec {
            Codec::Opus => self.opus.0.encode(samples, &mut payload),
            _ => self.g722.0.encode(samples, &mut payload),
        };
        payload.truncate(length);
        payload
    }

    fn decode(&mut self, codec: Codec, payload: &[u8]) -> Vec<i16> {
        let mut samples = vec![0; opus::LONGEST.max(2 * payload.len())];
        let length = match codec {
            Codec::Opus => self.opus.1.decode(payload, &mut samples),
            _ => self.g722.1.decode(payload, &mut samples),
        };
        samples.truncate(length);
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_coded_is_heard() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            let (mut there, mut back) = (Coder::new(codec), Coder::new(codec));
            let said: Vec<i16> = (0..160).map(|n| ((n as f32 * 0.3).sin() * 8_000.0) as i16).collect();
            let heard = back.decode(&there.encode(&said));
            assert_eq!(heard.len(), said.len());
            assert!(said.iter().zip(&heard).all(|(a, b)| (a - b).unsigned_abs() <= 520), "{codec:?}");
        }
    }

    #[test]
    fn a_key_is_heard_through_every_codec() {
        let plan = crate::testkit::tones::Plan { law: crate::testkit::tones::Law::Linear, ..Default::default() };
        let line = crate::testkit::tones::line(&plan, 5);
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
            let (mut there, mut back) = (Coder::new(codec), Coder::new(codec));
            let heard: Vec<i16> =
                line.samples.chunks_exact(160).flat_map(|frame| back.decode(&there.encode(frame))).collect();
            let keys = crate::testkit::attack::decode(&heard);
            assert_eq!(keys.len(), line.presses.len(), "{codec:?}");
        }
    }
}
