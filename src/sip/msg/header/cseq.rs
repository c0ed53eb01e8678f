//! CSeq (RFC 3261 section 20.16): `4711 INVITE`, a number below 2^31 and a method.

use crate::sip::msg::{HeaderFault, scan};

/// CSeq, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Sequence number, below 2^31 (RFC 3261 section 8.1.1.5).
    pub number: u32,
    /// Method, as written.
    pub method: &'a str,
}

impl<'a> CSeq<'a> {
    /// Reads a CSeq value.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderFault> {
        let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
        let number = scan::number(&value[..digits])
            .filter(|n| *n < 1 << 31)
            .ok_or(HeaderFault("CSeq number is not below 2^31"))?;
        let rest = &value[digits..];
        let method = scan::token(scan::trim_start(rest)).filter(|_| rest.len() > scan::trim_start(rest).len());
        Ok(Self { number: number as u32, method: method.ok_or(HeaderFault("CSeq without a method"))? })
    }
}

impl std::fmt::Display for CSeq<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_method_read_back() {
        let cseq = CSeq::parse(b"0009 \t INVITE").expect("good");
        assert_eq!((cseq.number, cseq.method), (9, "INVITE"));
        assert_eq!(cseq.to_string(), "9 INVITE");
    }

    #[test]
    fn broken_values_are_refused() {
        for value in [&b""[..], b"1", b"1 ", b"INVITE", b"1INVITE", b"-1 INVITE", b"2147483648 A", b"1 A B"] {
            assert!(CSeq::parse(value).is_err(), "{value:?}");
        }
    }
}
