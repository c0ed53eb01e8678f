//! `a=rtpmap` (RFC 8866 section 6.6): what a payload type means.

use std::fmt;

/// `a=rtpmap:<payload type> <encoding>/<clock rate>[/<channels>]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpMap<'a> {
    /// Payload type.
    pub payload_type: u8,
    /// Encoding name; compared without case.
    pub encoding: &'a str,
    /// Clock rate in Hz.
    pub clock_rate: u32,
    /// Channels; 1 when unsaid.
    pub channels: u32,
}

impl<'a> RtpMap<'a> {
    /// Reads the value after `rtpmap:`.
    pub fn parse(value: &'a str) -> Option<Self> {
        let (pt, rest) = value.split_once([' ', '\t'])?;
        let payload_type = pt.parse().ok().filter(|pt| *pt < 128)?;
        let mut parts = rest.trim().split('/');
        let encoding = parts.next().filter(|name| !name.is_empty())?;
        let clock_rate = parts.next()?.trim().parse().ok()?;
        let channels = parts.next().map_or(Some(1), |text| text.trim().parse().ok())?;
        Some(Self { payload_type, encoding, clock_rate, channels })
    }
}

impl fmt::Display for RtpMap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rtpmap:{} {}/{}", self.payload_type, self.encoding, self.clock_rate)?;
        if self.channels == 1 { Ok(()) } else { write!(f, "/{}", self.channels) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_read_and_print() {
        for text in ["0 PCMU/8000", "111 opus/48000/2", "101 telephone-event/16000"] {
            assert_eq!(RtpMap::parse(text).expect("rtpmap").to_string(), format!("rtpmap:{text}"));
        }
        assert_eq!(RtpMap::parse("8   PCMA/8000/1").expect("rtpmap").to_string(), "rtpmap:8 PCMA/8000");
        for bad in ["", "0", "0 PCMU", "128 PCMU/8000", "0 /8000", "0 PCMU/x", "0 PCMU/8000/x"] {
            assert_eq!(RtpMap::parse(bad), None, "{bad}");
        }
    }
}
