//! Session-Expires and Min-SE (RFC 4028 sections 4 and 5): `1800;refresher=uac`, how long a session lasts without a
//! refresh, and who refreshes.

use crate::sip::msg::scan::Params;
use crate::sip::msg::{HeaderFault, scan};

/// Who refreshes: the end that sent the request, or the one that answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresher {
    /// Who sent the request.
    Uac,
    /// Who answers it.
    Uas,
}

/// Session-Expires, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionExpires {
    /// Session interval in seconds.
    pub seconds: u32,
    /// Who refreshes, if it says.
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    /// Reads a Session-Expires value.
    pub fn parse(value: &[u8]) -> Result<Self, HeaderFault> {
        let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
        let seconds = delta(&value[..end])?;
        let refresher = match Params::parse(&value[end..])?.text("refresher") {
            Some(who) if who.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
            Some(who) if who.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
            Some(_) => return Err(HeaderFault("refresher is neither uac nor uas")),
            None => None,
        };
        Ok(Self { seconds, refresher })
    }
}

impl std::fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let refresher = match self.refresher {
            Some(Refresher::Uac) => ";refresher=uac",
            Some(Refresher::Uas) => ";refresher=uas",
            None => "",
        };
        write!(f, "{}{refresher}", self.seconds)
    }
}

/// Reads Min-SE: seconds, its parameters ignored.
pub fn min_se(value: &[u8]) -> Result<u32, HeaderFault> {
    delta(&value[..value.iter().position(|b| *b == b';').unwrap_or(value.len())])
}

fn delta(text: &[u8]) -> Result<u32, HeaderFault> {
    let seconds = scan::number(scan::trim(text)).and_then(|n| u32::try_from(n).ok());
    seconds.ok_or(HeaderFault("session interval is not a number of seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_and_refresher_read_back() {
        for text in ["1800;refresher=uac", "90;refresher=uas", "4294967295"] {
            assert_eq!(SessionExpires::parse(text.as_bytes()).expect("good").to_string(), text);
        }
        let loose = SessionExpires::parse(b"3600 ;x=y; Refresher = UAS").expect("good");
        assert_eq!((loose.seconds, loose.refresher), (3_600, Some(Refresher::Uas)));
        assert_eq!(min_se(b" 120 ;x"), Ok(120));
    }

    #[test]
    fn broken_values_are_refused() {
        for value in [&b""[..], b"-1", b"x", b"1800;refresher=me", b"4294967296", b"1800 1", b";refresher=uac"] {
            assert!(SessionExpires::parse(value).is_err(), "{value:?}");
        }
        assert!(min_se(b"soon").is_err());
    }
}
