//! G.711 µ-law and A-law (ITU-T G.711): bytes to 16-bit linear samples by table, and back. Decoding is exact; encoding
//! picks the code whose interval holds the sample, so decode–encode gives every byte back (but for µ-law's negative
//! zero, which decodes to the same 0 as positive zero).
//!
//! ```text
//!  µ-law byte, inverted:  S EEE MMMM    x = ((M·2 + 33) << E) − 33, scaled by 4
//!  A-law byte, ^ 0x55:    S EEE MMMM    x = (M·2 + 1) or (M·2 + 33) << (E − 1), scaled by 8
//! ```

/// The byte of µ-law silence.
pub const ULAW_SILENCE: u8 = 0xff;
/// The byte of A-law silence (its smallest positive value; A-law has no zero).
pub const ALAW_SILENCE: u8 = 0xd5;

const fn ulaw_value(byte: u8) -> i16 {
    let code = !byte;
    let exponent = (code >> 4) & 7;
    let mantissa = (code & 15) as i32;
    let magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84;
    if code & 0x80 != 0 { -magnitude as i16 } else { magnitude as i16 }
}

const fn alaw_value(byte: u8) -> i16 {
    let code = byte ^ 0x55;
    let exponent = (code >> 4) & 7;
    let mantissa = ((code & 15) as i32) << 4;
    let magnitude = match exponent {
        0 => mantissa + 8,
        _ => (mantissa + 0x108) << (exponent - 1),
    };
    if code & 0x80 != 0 { magnitude as i16 } else { -magnitude as i16 }
}

const fn table(law: u8) -> [i16; 256] {
    let mut values = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        values[byte] = if law == b'u' { ulaw_value(byte as u8) } else { alaw_value(byte as u8) };
        byte += 1;
    }
    values
}

static ULAW: [i16; 256] = table(b'u');
static ALAW: [i16; 256] = table(b'a');

/// The linear value of a µ-law byte, −32124…32124.
#[inline]
pub fn ulaw_decode(byte: u8) -> i16 {
    ULAW[usize::from(byte)]
}

/// The linear value of an A-law byte, −32256…32256.
#[inline]
pub fn alaw_decode(byte: u8) -> i16 {
    ALAW[usize::from(byte)]
}

/// The µ-law byte of a linear sample.
#[inline]
pub fn ulaw_encode(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    // 0x84 is the bias that makes every segment start at a power of two.
    let biased = (i32::from(sample).unsigned_abs().min(32_635)) + 0x84;
    let exponent = 24 - biased.leading_zeros();
    let mantissa = (biased >> (exponent + 3)) & 15;
    !(sign | ((exponent as u8) << 4) | mantissa as u8)
}

/// The A-law byte of a linear sample.
#[inline]
pub fn alaw_encode(sample: i16) -> u8 {
    // One's complement for negatives keeps the intervals symmetric about zero.
    let (sign, magnitude) = if sample < 0 { (0, (!sample) as u32) } else { (0x80, sample as u32) };
    let code = if magnitude < 256 {
        (magnitude >> 4) as u8
    } else {
        let exponent = 24 - magnitude.leading_zeros();
        let mantissa = (magnitude >> (exponent + 3)) & 15;
        ((exponent as u8) << 4) | mantissa as u8
    };
    (sign | code) ^ 0x55
}

macro_rules! slices {
    ($decode_slice:ident, $encode_slice:ident, $decode:ident, $encode:ident, $law:literal) => {
        #[doc = concat!("Decodes ", $law, " bytes into `out`; returns how many, the shorter of the two lengths.")]
        pub fn $decode_slice(bytes: &[u8], out: &mut [i16]) -> usize {
            for (sample, byte) in out.iter_mut().zip(bytes) {
                *sample = $decode(*byte);
            }
            bytes.len().min(out.len())
        }

        #[doc = concat!("Encodes samples as ", $law, " into `out`; returns how many, the shorter of the two lengths.")]
        pub fn $encode_slice(samples: &[i16], out: &mut [u8]) -> usize {
            for (byte, sample) in out.iter_mut().zip(samples) {
                *byte = $encode(*sample);
            }
            samples.len().min(out.len())
        }
    };
}

slices!(ulaw_decode_slice, ulaw_encode_slice, ulaw_decode, ulaw_encode, "µ-law");
slices!(alaw_decode_slice, alaw_encode_slice, alaw_decode, alaw_encode, "A-law");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_points_of_the_tables() {
        assert_eq!(ulaw_decode(0xff), 0);
        assert_eq!(ulaw_decode(0x80), 32_124);
        assert_eq!(ulaw_decode(0x00), -32_124);
        assert_eq!(alaw_decode(0xd5), 8);
        assert_eq!(alaw_decode(0x55), -8);
        assert_eq!(alaw_decode(0xaa), 32_256);
        assert_eq!(alaw_decode(0x2a), -32_256);
    }

    #[test]
    fn every_byte_comes_back() {
        for byte in 0..=255u8 {
            if byte != 0x7f {
                assert_eq!(ulaw_encode(ulaw_decode(byte)), byte, "µ {byte:#x}");
            }
            assert_eq!(alaw_encode(alaw_decode(byte)), byte, "A {byte:#x}");
        }
    }

    #[test]
    fn the_encoder_stays_within_half_a_step_and_keeps_order() {
        // The coarsest half step of both laws is one 32nd of the value (one 33rd for µ), the finest is 8.
        let close = |x: i16, v: i16| {
            let (x, v) = (i32::from(x), i32::from(v));
            (x - v).abs() <= x.abs() / 32 + 8 || x.abs() > 32_256
        };
        let mut last = (i16::MIN, i16::MIN);
        for x in i16::MIN..=i16::MAX {
            let (u, a) = (ulaw_decode(ulaw_encode(x)), alaw_decode(alaw_encode(x)));
            assert!(close(x, u), "µ {x} {u}");
            assert!(close(x, a), "A {x} {a}");
            assert!(u >= last.0 && a >= last.1, "order at {x}");
            last = (u, a);
        }
    }
}
