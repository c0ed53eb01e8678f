//! The fixed RTP header (RFC 3550 section 5.1): read in place, or written for packets of ours. What is read has been
//! checked whole, so the accessors cannot fail; what is written never has contributing sources, padding or extension.

use std::ops::Range;

/// Bytes of the header we write: no contributing sources, no extension.
pub const HEADER_LEN: usize = 12;

/// Why a datagram is not an RTP packet we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than its header says it must be.
    #[error("truncated: {have} bytes where the header needs {need}")]
    Truncated {
        /// Bytes needed to go on.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// Not version 2.
    #[error("RTP version {0} where 2 is needed")]
    Version(u8),
    /// The padding count is zero or longer than the payload.
    #[error("padding of {padding} bytes in {room} bytes of payload")]
    Padding {
        /// What the last byte says.
        padding: usize,
        /// Bytes between header and end.
        room: usize,
    },
    /// An RTCP packet type (200–204) where RTP is expected, RFC 5761 section 4.
    #[error("an RTCP packet on the RTP port")]
    Rtcp,
}

/// An RTP packet read in place: borrows the datagram, holds the payload's range.
#[derive(Clone)]
pub struct View<'a> {
    bytes: &'a [u8],
    payload: Range<usize>,
}

impl<'a> View<'a> {
    /// Reads and checks a whole datagram (RFC 3550 section 5.1 and appendix A.1). The blame is always the peer's.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let have = bytes.len();
        let truncated = |need| Malformed::Truncated { need, have };
        if have < HEADER_LEN {
            return Err(truncated(HEADER_LEN));
        }
        let version = bytes[0] >> 6;
        if version != 2 {
            return Err(Malformed::Version(version));
        }
        if (200..=204).contains(&bytes[1]) {
            return Err(Malformed::Rtcp);
        }
        let mut start = HEADER_LEN + 4 * usize::from(bytes[0] & 0x0f);
        if bytes[0] & 0x10 != 0 {
            let words = bytes.get(start + 2..start + 4).ok_or(truncated(start + 4))?;
            start += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
        }
        if have < start {
            return Err(truncated(start));
        }
        let mut end = have;
        if bytes[0] & 0x20 != 0 {
            let padding = usize::from(bytes[have - 1]);
            let room = have - start;
            if padding == 0 || padding > room {
                return Err(Malformed::Padding { padding, room });
            }
            end -= padding;
        }
        Ok(Self { bytes, payload: start..end })
    }

    /// The marker bit.
    pub fn marker(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }

    /// The payload type, 0–127.
    pub fn payload_type(&self) -> u8 {
        self.bytes[1] & 0x7f
    }

    /// The sequence number.
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// The timestamp, in units of the payload type's clock.
    pub fn timestamp(&self) -> u32 {
        u32::from_be_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]])
    }

    /// The synchronisation source.
    pub fn ssrc(&self) -> u32 {
        u32::from_be_bytes([self.bytes[8], self.bytes[9], self.bytes[10], self.bytes[11]])
    }

    /// The payload without extension and padding.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.payload.clone()]
    }
}

/// The header of a packet of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Marker bit.
    pub marker: bool,
    /// Payload type, 0–127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in the payload type's clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

impl Header {
    /// Writes the header into the first [`HEADER_LEN`] bytes.
    pub fn write(&self, to: &mut [u8; HEADER_LEN]) {
        to[0] = 0x80;
        to[1] = (u8::from(self.marker) << 7) | (self.payload_type & 0x7f);
        to[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        to[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        to[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FULL: [u8; 28] = [
        0xb1, 0x88, 0x12, 0x34, 0, 0, 0, 160, 0xde, 0xad, 0xbe, 0xef, // P, X, CC 1, M, PT 8
        1, 2, 3, 4, // contributing source
        0xbe, 0xde, 0, 1, 9, 9, 9, 9, // extension of one word
        7, 8, 0, 2, // payload 7 8, padding 2
    ];

    #[test]
    fn extension_sources_and_padding_are_left_out_of_the_payload() {
        let view = View::parse(&FULL).expect("a packet");
        assert!(view.marker());
        assert_eq!((view.payload_type(), view.sequence(), view.timestamp()), (8, 0x1234, 160));
        assert_eq!((view.ssrc(), view.payload()), (0xdead_beef, &[7u8, 8][..]));
    }

    #[test]
    fn every_truncation_is_read_or_refused_without_panic() {
        for len in 0..FULL.len() {
            let verdict = View::parse(&FULL[..len]);
            assert!(len >= 24 || verdict.is_err(), "{len}");
        }
    }

    #[test]
    fn each_refusal_names_its_reason() {
        assert_eq!(View::parse(&[0x80; 3]).err(), Some(Malformed::Truncated { need: 12, have: 3 }));
        assert_eq!(View::parse(&[0x40; 12]).err(), Some(Malformed::Version(1)));
        let mut rtcp = [0u8; 12];
        rtcp[..2].copy_from_slice(&[0x80, 200]);
        assert_eq!(View::parse(&rtcp).err(), Some(Malformed::Rtcp));
        let mut padded = [0u8; 14];
        padded[0] = 0xa0;
        padded[13] = 3;
        assert_eq!(View::parse(&padded).err(), Some(Malformed::Padding { padding: 3, room: 2 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(view) = View::parse(&bytes) {
                prop_assert!(view.payload().len() <= bytes.len() - HEADER_LEN);
            }
        }

        #[test]
        fn what_we_write_a_second_opinion_reads(
            marker: bool, payload_type in 0u8..72, sequence: u16, timestamp: u32, ssrc: u32,
            payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let header = Header { marker, payload_type, sequence, timestamp, ssrc };
            let mut bytes = vec![0; HEADER_LEN];
            header.write((&mut bytes[..HEADER_LEN]).try_into().expect("twelve bytes"));
            bytes.extend_from_slice(&payload);
            let theirs = rtp_types::RtpPacket::parse(&bytes).expect("a packet of ours");
            prop_assert_eq!(theirs.marker_bit(), marker);
            prop_assert_eq!(theirs.payload_type(), payload_type);
            prop_assert_eq!(theirs.sequence_number(), sequence);
            prop_assert_eq!(theirs.timestamp(), timestamp);
            prop_assert_eq!(theirs.ssrc(), ssrc);
            prop_assert_eq!(theirs.payload(), &payload[..]);
            let ours = View::parse(&bytes).expect("a packet of ours");
            prop_assert_eq!(ours.payload(), &payload[..]);
        }
    }
}
