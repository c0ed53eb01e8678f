//! `a=fmtp` (RFC 8866 section 6.15) as far as telephone-event uses it: the list of events a receiver takes (RFC 4733
//! section 2.4.1).

/// The sixteen keys of the telephone keypad, as we declare them.
pub const KEYS: &str = "0-15";

/// `a=fmtp:<payload type> <parameters>`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fmtp<'a> {
    /// Payload type.
    pub payload_type: u8,
    /// Parameters as written.
    pub parameters: &'a str,
}

impl<'a> Fmtp<'a> {
    /// Reads the value after `fmtp:`.
    pub fn parse(value: &'a str) -> Option<Self> {
        let (pt, parameters) = value.split_once([' ', '\t'])?;
        Some(Self { payload_type: pt.parse().ok().filter(|pt| *pt < 128)?, parameters: parameters.trim() })
    }

    /// The keypad events (0–15) of an event list, bit per event. A list that cannot be read counts as all sixteen,
    /// which is also what no list means.
    pub fn keys(&self) -> u16 {
        let list = self.parameters.strip_prefix("events=").unwrap_or(self.parameters);
        events(list).unwrap_or(u16::MAX)
    }
}

fn events(list: &str) -> Option<u16> {
    let mut keys = 0u16;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u8>().ok()?, last.trim().parse::<u8>().ok()?);
        for event in first..=last.min(15) {
            keys |= 1 << event;
        }
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_lists_become_keys() {
        for (text, keys) in [
            ("101 0-15", 0xffff),
            ("101 0-16", 0xffff),
            ("101 0-11,16,192-193", 0x0fff),
            ("101 events=0-11", 0x0fff),
            ("101 1, 3", 0b1010),
            ("101 16-255", 0),
            ("101 255-0", 0),
            ("101 nonsense", 0xffff),
        ] {
            assert_eq!(Fmtp::parse(text).expect("fmtp").keys(), keys, "{text}");
        }
        assert_eq!(Fmtp::parse("300 0-15"), None);
        assert_eq!(Fmtp::parse("101"), None);
    }
}
