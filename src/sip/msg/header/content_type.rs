//! Content-Type (RFC 3261 section 20.15): `type/subtype;param=value`.

use crate::sip::msg::scan::Params;
use crate::sip::msg::{HeaderFault, scan};

/// Content-Type, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentType<'a> {
    /// Type, as written.
    pub kind: &'a str,
    /// Subtype, as written.
    pub subtype: &'a str,
    /// Parameters.
    pub params: Params<'a>,
}

impl<'a> ContentType<'a> {
    /// Reads a Content-Type value.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderFault> {
        const BAD: HeaderFault = HeaderFault("Malformed Content-Type");
        let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
        let slash = value[..end].iter().position(|b| *b == b'/').ok_or(BAD)?;
        Ok(Self {
            kind: scan::token(scan::trim(&value[..slash])).ok_or(BAD)?,
            subtype: scan::token(scan::trim(&value[slash + 1..end])).ok_or(BAD)?,
            params: Params::parse(&value[end..])?,
        })
    }

    /// Whether this is `kind/subtype`, in any case.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
    }
}

impl std::fmt::Display for ContentType<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.subtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_and_parameters_are_read_in_any_case() {
        let value = ContentType::parse(b"Multipart/Mixed ; boundary=\"7a;9\"").expect("good");
        assert!(value.is("multipart", "mixed"));
        assert_eq!(value.params.text("BOUNDARY"), Some("\"7a;9\""));
    }

    #[test]
    fn broken_values_are_refused() {
        for value in [&b""[..], b"application", b"/sdp", b"application/", b"a b/c", b"a/b;", b"a/b c"] {
            assert!(ContentType::parse(value).is_err(), "{value:?}");
        }
    }
}
