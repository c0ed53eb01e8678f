//! RSeq and RAck (RFC 3262 section 7): the number of a reliable provisional response, and what a PRACK acknowledges:
//! `776656 1 INVITE`.

use super::CSeq;
use crate::sip::msg::{HeaderFault, scan};

/// RAck, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RAck<'a> {
    /// RSeq of the response that is acknowledged.
    pub rseq: u32,
    /// CSeq of the request that it answered.
    pub cseq: CSeq<'a>,
}

impl<'a> RAck<'a> {
    /// Reads a RAck value.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderFault> {
        let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
        let rest = &value[digits..];
        if scan::trim_start(rest).len() == rest.len() {
            return Err(HeaderFault("RAck without a CSeq"));
        }
        Ok(Self { rseq: rseq(&value[..digits])?, cseq: CSeq::parse(scan::trim_start(rest))? })
    }
}

impl std::fmt::Display for RAck<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.rseq, self.cseq)
    }
}

/// Reads RSeq: 1 to 2^32 - 1.
pub fn rseq(value: &[u8]) -> Result<u32, HeaderFault> {
    let number = scan::number(value).and_then(|n| u32::try_from(n).ok());
    number.filter(|n| *n > 0).ok_or(HeaderFault("RSeq is not 1 to 4294967295"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_parts_read_back() {
        let rack = RAck::parse(b"776656 \t 1 INVITE").expect("good");
        assert_eq!((rack.rseq, rack.cseq.number, rack.cseq.method), (776_656, 1, "INVITE"));
        assert_eq!(rack.to_string(), "776656 1 INVITE");
    }

    #[test]
    fn broken_values_are_refused() {
        for value in [&b""[..], b"1", b"1 INVITE", b"0 1 INVITE", b"1 2", b"x 1 INVITE", b"4294967296 1 INVITE"] {
            assert!(RAck::parse(value).is_err(), "{value:?}");
        }
        assert!(rseq(b"-1").is_err());
        assert_eq!(rseq(b"4294967295"), Ok(u32::MAX));
    }
}
