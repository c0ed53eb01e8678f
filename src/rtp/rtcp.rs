//! RTCP (RFC 3550 section 6): what peers send is checked and read for its sender report only; what we send is built
//! here from our own counters. Nothing of a peer's RTCP is ever copied onward (threats R5).
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |V=2|P| RC / SC |  PT 200..204  | length in words, minus one    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! SR 200: SSRC, NTP (8), RTP time, packets, octets, report blocks of 24 bytes
//! RR 201: SSRC, report blocks          SDES 202: CNAME          BYE 203: SSRC
//! ```

use std::time::Duration;

use arrayvec::ArrayVec;

use super::sequence::Reception;

/// The longest compound we build: SR with one block, SDES, BYE.
pub const MAX_COMPOUND: usize = 28 + 24 + 4 + 4 + 2 + CNAME_LEN + 4 + 8;

/// Length of our canonical names: 96 random bits in hexadecimal (RFC 7022 section 4.2).
pub const CNAME_LEN: usize = 24;

/// Our canonical name toward one peer; random, so that it ties nothing together.
pub type Cname = [u8; CNAME_LEN];

/// A compound packet of ours.
pub type Compound = ArrayVec<u8, MAX_COMPOUND>;

/// What our sender report says (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    /// Time of the report as NTP 32.32 fixed point; ours counts from the session's start.
    pub ntp: u64,
    /// The same instant in RTP timestamp units.
    pub rtp_time: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

/// The peer's last sender report, for LSR and DLSR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastReport {
    /// The middle 32 bits of its NTP time.
    pub lsr: u32,
    /// Time since it came, in 1/65536 s.
    pub dlsr: u32,
}

/// Turns a span into NTP 32.32 fixed point.
pub fn ntp(span: Duration) -> u64 {
    (span.as_secs() << 32) | ((u64::from(span.subsec_nanos()) << 32) / 1_000_000_000)
}

/// Builds SR or RR, SDES with CNAME, and BYE when `bye`.
pub fn build(
    ssrc: u32,
    cname: &Cname,
    sending: Option<Sending>,
    reception: Option<(Reception, LastReport)>,
    bye: bool,
) -> Compound {
    let mut out = Compound::new();
    let blocks = u8::from(reception.is_some());
    let block_words = 6 * u16::from(blocks);
    match sending {
        Some(sending) => {
            head(&mut out, blocks, 200, 6 + block_words);
            word(&mut out, ssrc);
            word(&mut out, (sending.ntp >> 32) as u32);
            word(&mut out, sending.ntp as u32);
            word(&mut out, sending.rtp_time);
            word(&mut out, sending.packets);
            word(&mut out, sending.octets);
        }
        None => {
            head(&mut out, blocks, 201, 1 + block_words);
            word(&mut out, ssrc);
        }
    }
    if let Some((seen, last)) = reception {
        word(&mut out, seen.ssrc);
        word(&mut out, (u32::from(seen.fraction_lost) << 24) | (seen.cumulative_lost as u32 & 0xff_ffff));
        word(&mut out, seen.extended_highest);
        word(&mut out, seen.jitter);
        word(&mut out, last.lsr);
        word(&mut out, last.dlsr);
    }
    // One chunk: SSRC, item CNAME (1), its length, the name, and at least one zero to a word's end.
    let chunk = 4 + 2 + CNAME_LEN;
    let padding = 4 - chunk % 4;
    head(&mut out, 1, 202, ((chunk + padding) / 4) as u16);
    word(&mut out, ssrc);
    out.extend([1, CNAME_LEN as u8]);
    out.extend(cname.iter().copied());
    out.extend(std::iter::repeat_n(0, padding));
    if bye {
        head(&mut out, 1, 203, 1);
        word(&mut out, ssrc);
    }
    out
}

fn head(out: &mut Compound, count: u8, kind: u8, words: u16) {
    out.extend([0x80 | count, kind]);
    out.extend(words.to_be_bytes());
}

fn word(out: &mut Compound, value: u32) {
    out.extend(value.to_be_bytes());
}

/// Whether a datagram on a port shared with RTP is RTCP (RFC 5761 section 4): packet types 192–223, where RTP would have
/// payload types 64–95 with the marker.
pub fn is_rtcp(bytes: &[u8]) -> bool {
    matches!(bytes, [first, 192..=223, ..] if first >> 6 == 2)
}

/// What a peer's compound tells us; everything else in it is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Incoming {
    /// SSRC and middle 32 NTP bits of the first sender report.
    pub sender: Option<(u32, u32)>,
    /// A BYE was there.
    pub bye: bool,
}

/// Why a datagram is not RTCP we read (RFC 3550 appendix A.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A packet's header or body runs past the datagram.
    #[error("packet at byte {0} runs past the end")]
    Truncated(usize),
    /// Not version 2.
    #[error("packet at byte {0} is not version 2")]
    Version(usize),
    /// The first packet is neither SR nor RR.
    #[error("the compound begins with packet type {0}")]
    First(u8),
    /// Padding anywhere but in the last packet, or more than there is.
    #[error("padding of the packet at byte {0} is wrong")]
    Padding(usize),
    /// The counted report blocks or sources do not fit the packet.
    #[error("packet at byte {0} counts more than it holds")]
    Count(usize),
}

/// Checks a compound whole (RFC 3550 appendix A.2), then reads it. The blame is always the peer's.
pub fn parse(bytes: &[u8]) -> Result<Incoming, Malformed> {
    let mut incoming = Incoming::default();
    let mut at = 0;
    loop {
        let head = bytes.get(at..at + 4).ok_or(Malformed::Truncated(at))?;
        if head[0] >> 6 != 2 {
            return Err(Malformed::Version(at));
        }
        if at == 0 && head[1] != 200 && head[1] != 201 {
            return Err(Malformed::First(head[1]));
        }
        let end = at + 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
        let mut body = bytes.get(at + 4..end).ok_or(Malformed::Truncated(at))?;
        if head[0] & 0x20 != 0 {
            let padding = body.last().map_or(0, |last| usize::from(*last));
            if end != bytes.len() || padding == 0 || padding % 4 != 0 || padding > body.len() {
                return Err(Malformed::Padding(at));
            }
            body = &body[..body.len() - padding];
        }
        let count = usize::from(head[0] & 0x1f);
        let needed = match head[1] {
            200 => 24 + 24 * count,
            201 => 4 + 24 * count,
            203 => 4 * count,
            _ => 0,
        };
        if body.len() < needed {
            return Err(Malformed::Count(at));
        }
        let field = |at: usize| u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        match head[1] {
            200 if incoming.sender.is_none() => {
                incoming.sender = Some((field(0), (field(4) << 16) | (field(8) >> 16)));
            }
            203 => incoming.bye = true,
            _ => {}
        }
        at = end;
        if at == bytes.len() {
            return Ok(incoming);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full(bye: bool) -> Compound {
        let sending = Sending { ntp: 0x1122_3344_5566_7788, rtp_time: 9, packets: 8, octets: 7 };
        let seen = Reception { ssrc: 5, fraction_lost: 3, cumulative_lost: -2, extended_highest: 6, jitter: 4 };
        build(77, b"0123456789abcdef01234567", Some(sending), Some((seen, LastReport { lsr: 1, dlsr: 2 })), bye)
    }

    #[test]
    fn our_compound_reads_back_and_fits() {
        let bytes = full(true);
        assert_eq!(bytes.len(), MAX_COMPOUND - 2, "SDES padding is two bytes here");
        assert_eq!(parse(&bytes), Ok(Incoming { sender: Some((77, 0x3344_5566)), bye: true }));
        let receiver = build(77, &[b'x'; CNAME_LEN], None, None, false);
        assert_eq!(parse(&receiver), Ok(Incoming::default()));
    }

    #[test]
    fn every_truncation_is_refused_except_at_packet_ends() {
        let bytes = full(true);
        let ends = [52, 52 + 36, bytes.len()];
        for len in 0..=bytes.len() {
            assert_eq!(parse(&bytes[..len]).is_ok(), ends.contains(&len), "{len}");
        }
    }

    #[test]
    fn a_compound_must_begin_with_a_report_and_count_what_it_holds() {
        assert_eq!(parse(&[0x80, 202, 0, 0]), Err(Malformed::First(202)));
        assert_eq!(parse(&[0x81, 201, 0, 1, 0, 0, 0, 1]), Err(Malformed::Count(0)));
        assert_eq!(parse(&[0xa0, 201, 0, 1, 0, 0, 0, 9]), Err(Malformed::Padding(0)));
        assert_eq!(parse(&[0x40, 201, 0, 0]), Err(Malformed::Version(0)));
    }

    #[test]
    fn a_span_becomes_fixed_point_seconds() {
        assert_eq!(ntp(Duration::from_millis(1_500)), (1 << 32) | (1 << 31));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_damaged_compound_never_panics(at in 0usize..96, value: u8) {
            let mut bytes = full(true);
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = parse(&bytes);
        }
    }
}
