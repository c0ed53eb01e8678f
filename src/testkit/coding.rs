//! What telephones code their sound with: 8 kHz samples in, payloads out, and back. One [`Coder`] per direction and
//! codec, since some codecs remember. Never the product's own code where a second implementation is at hand.

use super::companding as g711;
use crate::config::Codec;

/// Codes one direction of one stream, or decodes it; not both.
pub struct Coder {
    codec: Codec,
}

impl Coder {
    /// A coder that has heard nothing.
    pub fn new(codec: Codec) -> Self {
        Self { codec }
    }

    /// The payload of the next samples.
    pub fn encode(&mut self, samples: &[i16]) -> Vec<u8> {
        let encode = match self.codec {
            Codec::Pcmu => g711::ulaw_encode,
            Codec::Pcma => g711::alaw_encode,
        };
        samples.iter().map(|sample| encode(*sample)).collect()
    }

    /// The samples of the next payload.
    pub fn decode(&mut self, payload: &[u8]) -> Vec<i16> {
        let decode = match self.codec {
            Codec::Pcmu => g711::ulaw_decode,
            Codec::Pcma => g711::alaw_decode,
        };
        payload.iter().map(|byte| decode(*byte)).collect()
    }

    /// How many steps its RTP timestamps make for one sample at 8 kHz.
    pub fn steps(codec: Codec) -> u32 {
        match codec {
            Codec::Pcmu | Codec::Pcma => 1,
        }
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
}
