//! Reason (RFC 3326): `Q.850;cause=16;text="Terminated"`, why a request was sent.

use crate::sip::msg::scan::Params;
use crate::sip::msg::{HeaderFault, scan};

/// One Reason value, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason<'a> {
    /// `SIP`, `Q.850` or another protocol.
    pub protocol: &'a str,
    /// Cause code.
    pub cause: Option<u32>,
    /// Parameters.
    pub params: Params<'a>,
}

impl<'a> Reason<'a> {
    /// Reads one Reason value.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderFault> {
        let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
        let protocol = scan::token(scan::trim(&value[..end])).ok_or(HeaderFault("Malformed Reason"))?;
        let params = Params::parse(&value[end..])?;
        let cause = params.get("cause").flatten().and_then(scan::number).and_then(|n| u32::try_from(n).ok());
        Ok(Self { protocol, cause, params })
    }

    /// Prints a Reason value.
    pub fn print(protocol: &str, cause: u32, text: &str) -> String {
        let text: String = text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect();
        format!("{protocol};cause={cause};text=\"{text}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_reads_back() {
        let text = Reason::print("SIP", 200, "Call completed \"elsewhere\"\r\n");
        assert_eq!(text, "SIP;cause=200;text=\"Call completed elsewhere\"");
        let reason = Reason::parse(text.as_bytes()).expect("good");
        assert_eq!((reason.protocol, reason.cause), ("SIP", Some(200)));
    }

    #[test]
    fn a_reason_without_protocol_is_refused() {
        assert!(Reason::parse(b";cause=16").is_err());
        assert_eq!(Reason::parse(b"Q.850").map(|r| r.cause), Ok(None));
    }
}
