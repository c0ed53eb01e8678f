//! Content-Length, Max-Forwards, Retry-After and Call-ID: one plain value each (RFC 3261 sections 20.8, 20.14, 20.22
//! and 20.33).

use crate::sip::msg::scan::Class;
use crate::sip::msg::{HeaderFault, scan};

/// Reads Content-Length: a plain decimal number of bytes. Signs, hexadecimal, lists and overflow are refused.
pub fn content_length(value: &[u8]) -> Result<usize, HeaderFault> {
    let number = scan::number(value).ok_or(HeaderFault("Content-Length is not a number"))?;
    u32::try_from(number).map(|n| n as usize).map_err(|_| HeaderFault("Content-Length is not a number"))
}

/// Reads Max-Forwards: 0–255.
pub fn max_forwards(value: &[u8]) -> Result<u8, HeaderFault> {
    scan::number(value).and_then(|n| u8::try_from(n).ok()).ok_or(HeaderFault("Max-Forwards is not 0 to 255"))
}

/// Reads the seconds of Retry-After; its comment and parameters are ignored.
pub fn retry_after(value: &[u8]) -> Option<u32> {
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    scan::number(&value[..digits]).and_then(|n| u32::try_from(n).ok())
}

/// Whether `value` is a Call-ID: `word` or `word@word` (RFC 3261 section 25.1).
pub fn is_call_id(value: &[u8]) -> bool {
    let word = |part: &[u8]| !part.is_empty() && Class::WORD.all(part);
    let mut parts = value.splitn(2, |b| *b == b'@');
    parts.next().is_some_and(word) && parts.next().is_none_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_length_is_one_plain_number() {
        assert_eq!(content_length(b"0150"), Ok(150));
        for value in [&b""[..], b"-1", b"+1", b"1,1", b"1, 1", b"0x1", b"1 1", b"4294967296", b"1;a", b"ten"] {
            assert!(content_length(value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn max_forwards_has_one_byte() {
        assert_eq!(max_forwards(b"0068"), Ok(68));
        assert_eq!(max_forwards(b"0"), Ok(0));
        for value in [&b"256"[..], b"-1", b"", b"7 0"] {
            assert!(max_forwards(value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn retry_after_may_carry_a_comment() {
        assert_eq!(retry_after(b"120 (I'm in a meeting);duration=3600"), Some(120));
        assert_eq!(retry_after(b"soon"), None);
    }

    #[test]
    fn call_ids_are_words() {
        assert!(is_call_id(b"intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"));
        for value in [&b""[..], b"a b", b"a@", b"@a", b"a@b@c", b"a;b", b"\xe9"] {
            assert!(!is_call_id(value), "{value:?}");
        }
    }
}
