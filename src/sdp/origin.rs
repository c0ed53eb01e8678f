//! The `o=` line (RFC 8866 section 5.2). Id and version are kept as text: peers write numbers above 64 bits.

/// Who made a description, and which version of it this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Session id, as written.
    pub id: String,
    /// Session version, as written.
    pub version: String,
}

impl Origin {
    /// Reads the value of an `o=` line; `None` when it has fewer than three fields.
    pub fn parse(value: &str) -> Option<Self> {
        let mut fields = value.split_ascii_whitespace();
        let (_user, id, version) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self { id: id.to_owned(), version: version.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_numbers_are_text() {
        let origin =
            Origin::parse("CiscoSystemsSIP-GW-UserAgent 18446744073709551616 9 IN IP4 192.0.2.9").expect("origin");
        assert_eq!((origin.id.as_str(), origin.version.as_str()), ("18446744073709551616", "9"));
        assert_eq!(Origin::parse("- 1"), None);
    }
}
