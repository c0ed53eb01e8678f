//! G.711 for simulated peers, by the segment arithmetic of the recommendation and not by `dsp`'s tables, so that the
//! product's codec is heard by a second implementation. Linear 16-bit samples in, code words out, and back.
//!
//! ```text
//! code word  s eee mmmm     s sign, e segment, m step     µ-law: all bits inverted     A-law: XOR 0x55
//! ```

/// µ-law code word of a sample.
pub fn ulaw_encode(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(32_635) + 0x84;
    let segment = (24 - (magnitude as u32 | 0xff).leading_zeros()) as u8;
    let step = ((magnitude >> (segment + 3)) & 0x0f) as u8;
    !(sign | (segment << 4) | step)
}

/// Sample of a µ-law code word.
pub fn ulaw_decode(code: u8) -> i16 {
    let code = !code;
    let magnitude = ((i32::from(code & 0x0f) << 3) + 0x84) << ((code & 0x70) >> 4);
    let value = magnitude - 0x84;
    (if code & 0x80 != 0 { -value } else { value }) as i16
}

/// A-law code word of a sample.
pub fn alaw_encode(sample: i16) -> u8 {
    let (sign, magnitude) = if sample >= 0 { (0x80, i32::from(sample)) } else { (0, -1 - i32::from(sample)) };
    let code = if magnitude < 256 {
        (magnitude >> 4) as u8
    } else {
        let segment = (24 - (magnitude as u32).leading_zeros()) as u8;
        (segment << 4) | ((magnitude >> (segment + 3)) & 0x0f) as u8
    };
    (sign | code) ^ 0x55
}

/// Sample of an A-law code word.
pub fn alaw_decode(code: u8) -> i16 {
    let code = code ^ 0x55;
    let step = i32::from(code & 0x0f) << 4;
    let segment = (code & 0x70) >> 4;
    let magnitude = match segment {
        0 => step + 8,
        _ => (step + 0x108) << (segment - 1),
    };
    (if code & 0x80 != 0 { magnitude } else { -magnitude }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_word_survives_decoding_and_encoding() {
        for code in 0..=255u8 {
            let again = ulaw_encode(ulaw_decode(code));
            // µ-law has two zeros.
            assert!(again == code || (code == 0x7f && again == 0xff), "µ {code:#x} {again:#x}");
            assert_eq!(alaw_encode(alaw_decode(code)), code, "A {code:#x}");
        }
    }

    #[test]
    fn the_ends_of_the_scale_are_g711s() {
        assert_eq!(ulaw_decode(0x80), 32_124);
        assert_eq!(ulaw_decode(0x00), -32_124);
        assert_eq!(alaw_decode(0xaa), 32_256);
        assert_eq!(alaw_decode(0xd5), 8);
        for sample in [i16::MIN, -1, 0, 1, i16::MAX] {
            let near = |decoded: i16| (i32::from(decoded) - i32::from(sample)).abs() <= 1_024;
            assert!(near(ulaw_decode(ulaw_encode(sample))) && near(alaw_decode(alaw_encode(sample))), "{sample}");
        }
    }
}
