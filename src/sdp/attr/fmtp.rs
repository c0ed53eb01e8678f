//! `a=fmtp` (RFC 8866 section 6.15) as far as telephone-event and Opus use it: the list of events a receiver takes (RFC
//! 4733 section 2.4.1), and what an Opus receiver wants (RFC 7587 section 6.1).

use std::fmt;

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

/// What a receiver of Opus wants (RFC 7587 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpusWish {
    /// The highest rate it plays, in Hz.
    pub max_playback_rate: u32,
    /// The most it takes on average, in bit/s; `None` when it did not say.
    pub max_bitrate: Option<u32>,
}

impl Default for OpusWish {
    /// What a receiver that says nothing is taken to want.
    fn default() -> Self {
        Self { max_playback_rate: 48_000, max_bitrate: None }
    }
}

impl OpusWish {
    /// Reads the parameters; what cannot be read counts as unsaid.
    pub fn parse(parameters: &str) -> Self {
        let mut wish = Self::default();
        for (name, value) in parameters.split(';').filter_map(|part| part.trim().split_once('=')) {
            let number = || value.trim().parse::<u32>().ok();
            match name.trim().to_ascii_lowercase().as_str() {
                "maxplaybackrate" => {
                    wish.max_playback_rate = number().filter(|hz| (8_000..=48_000).contains(hz)).unwrap_or(48_000);
                }
                "maxaveragebitrate" => wish.max_bitrate = number().filter(|bits| (6_000..=510_000).contains(bits)),
                _ => {}
            }
        }
        wish
    }
}

/// The parameters as we declare them: always mono, constant in rate and without pauses, so that neither size nor spacing
/// of what comes tells anything (RFC 6562), and without a copy of each packet in the next, which would outlive a mask.
impl fmt::Display for OpusWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_playback_rate, max_bitrate } = self;
        write!(f, "maxplaybackrate={max_playback_rate};stereo=0;sprop-stereo=0;useinbandfec=0")?;
        if let Some(bits) = max_bitrate {
            write!(f, ";maxaveragebitrate={bits}")?;
        }
        f.write_str(";usedtx=0;cbr=1")
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
    #[test]
    fn opus_wishes_read_and_print() {
        let wish = OpusWish { max_playback_rate: 16_000, max_bitrate: Some(24_000) };
        assert_eq!(OpusWish::parse(&wish.to_string()), wish);
        assert_eq!(OpusWish::parse("minptime=10;useinbandfec=1"), OpusWish::default());
        for nonsense in ["", ";;", "maxplaybackrate", "maxplaybackrate=x; maxaveragebitrate=-1", "maxplaybackrate=1"] {
            assert_eq!(OpusWish::parse(nonsense), OpusWish::default(), "{nonsense}");
        }
    }
}
