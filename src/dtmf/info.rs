//! Digits in SIP INFO bodies: `application/dtmf-relay` (`Signal=5` and `Duration=160` lines) and `application/dtmf`
//! (the bare key). Neither has an RFC; the forms are those that gateways and PBXs send. Bytes in, a key and its
//! length out. Never panics; what is not a key is `None` or an error the caller answers with 400.

use crate::base::secret::Digit;

/// A key from an INFO body.
#[derive(Debug)]
pub struct InfoDigit {
    /// Key.
    pub digit: Digit,
    /// How long it was held, in ms; 0 when the body does not say.
    pub duration_ms: u32,
}

/// Why an INFO body gives no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// The content type carries no digits; not for this room.
    #[error("not a DTMF content type")]
    OtherType,
    /// A DTMF content type without a key in it (the peer's fault, 400).
    #[error("no key in the DTMF body")]
    NoKey,
    /// A signal outside 0–9, `*`, `#`, A–D, such as flash (the peer's; answered 200, no digit).
    #[error("the signal is not a key")]
    NotAKey,
}

/// The longest key press that is believed, ms.
const LONGEST_MS: u32 = 60_000;

/// Reads the body of an INFO request whose `Content-Type` value is `content_type` (parameters are ignored).
pub fn parse(content_type: &str, body: &[u8]) -> Result<InfoDigit, InfoError> {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/dtmf-relay") {
        relay(body)
    } else if essence.eq_ignore_ascii_case("application/dtmf") {
        let key = body.trim_ascii();
        // Some PBXs put the relay form under this type.
        if key.contains(&b'=') { relay(body) } else { Ok(InfoDigit { digit: key_of(key)?, duration_ms: 0 }) }
    } else {
        Err(InfoError::OtherType)
    }
}

fn relay(body: &[u8]) -> Result<InfoDigit, InfoError> {
    let mut digit = None;
    let mut duration_ms = 0;
    for line in body.split(|b| matches!(b, b'\r' | b'\n')) {
        let Some(equals) = line.iter().position(|b| matches!(b, b'=' | b':')) else { continue };
        let (name, value) = (line[..equals].trim_ascii(), line[equals + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"signal") {
            digit = Some(key_of(value)?);
        } else if name.eq_ignore_ascii_case(b"duration") {
            let text = std::str::from_utf8(value).unwrap_or("");
            duration_ms = text.parse::<u32>().unwrap_or(0).min(LONGEST_MS);
        }
    }
    digit.map(|digit| InfoDigit { digit, duration_ms }).ok_or(InfoError::NoKey)
}

/// A key as its character, or as its RFC 4733 event number (`10` is `*`, `11` is `#`, `12`–`15` are A–D).
fn key_of(text: &[u8]) -> Result<Digit, InfoError> {
    match text {
        [] => Err(InfoError::NoKey),
        [one] => Digit::from_char(char::from(*one)).ok_or(InfoError::NotAKey),
        [b'1', unit @ b'0'..=b'5'] => Digit::from_event(10 + unit - b'0').ok_or(InfoError::NotAKey),
        _ => Err(InfoError::NotAKey),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(content_type: &str, body: &str) -> Result<(char, u32), InfoError> {
        parse(content_type, body.as_bytes()).map(|i| (i.digit.expose_char(), i.duration_ms))
    }

    #[test]
    fn both_types_and_their_habits_are_read() {
        assert_eq!(key("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"), Ok(('5', 160)));
        assert_eq!(key("Application/DTMF-Relay; charset=utf-8", "Signal= *\nDuration = 90"), Ok(('*', 90)));
        assert_eq!(key("application/dtmf-relay", "duration=70\r\nSIGNAL=11"), Ok(('#', 70)));
        assert_eq!(key("application/dtmf-relay", "Signal:d"), Ok(('D', 0)));
        assert_eq!(key("application/dtmf", "7"), Ok(('7', 0)));
        assert_eq!(key("application/dtmf", " # \r\n"), Ok(('#', 0)));
        assert_eq!(key("application/dtmf", "Signal=3\r\nDuration=40"), Ok(('3', 40)));
    }

    #[test]
    fn what_is_no_key_says_why() {
        assert_eq!(key("text/plain", "5"), Err(InfoError::OtherType));
        assert_eq!(key("application/dtmf-relay", "Duration=160"), Err(InfoError::NoKey));
        assert_eq!(key("application/dtmf-relay", "Signal=\r\n"), Err(InfoError::NoKey));
        assert_eq!(key("application/dtmf-relay", "Signal=16"), Err(InfoError::NotAKey));
        assert_eq!(key("application/dtmf-relay", "Signal=hf"), Err(InfoError::NotAKey));
        assert_eq!(key("application/dtmf", ""), Err(InfoError::NoKey));
        assert_eq!(key("application/dtmf-relay", "Signal=1\r\nDuration=99999999999"), Ok(('1', 0)));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut noise = crate::dsp::noise::Noise::new(3);
        for length in 0..200usize {
            let body: Vec<u8> = (0..length).map(|_| (noise.bits() >> 7) as u8).collect();
            let _ = parse("application/dtmf-relay", &body);
            let _ = parse("application/dtmf", &body);
        }
    }
}
