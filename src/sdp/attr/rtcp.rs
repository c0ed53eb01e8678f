//! `a=rtcp` (RFC 3605): where RTCP goes when it is not the port after RTP; `a=rtcp-mux` (RFC 5761): on RTP's own.

use crate::sdp::connection::{Place, place};

/// The attribute by which RTP and RTCP share a port.
pub const MUX: &str = "rtcp-mux";

/// A readable `a=rtcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtcp {
    /// Port.
    pub port: u16,
    /// Address, when it is not the one of the `c=` line.
    pub place: Option<Place>,
}

impl Rtcp {
    /// Reads the value after `rtcp:`; `None` when it cannot be read, which counts as not being there.
    pub fn parse(value: &str) -> Option<Self> {
        let mut fields = value.split_ascii_whitespace();
        let port = fields.next()?.parse().ok().filter(|port| *port != 0)?;
        let place = match (fields.next(), fields.next(), fields.next()) {
            (None, ..) => None,
            (Some(_net), Some(kind), Some(text)) => Some(place(kind, text).ok()?),
            _ => return None,
        };
        Some(Self { port, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_3605_are_read() {
        assert_eq!(Rtcp::parse("53020"), Some(Rtcp { port: 53020, place: None }));
        let with = Rtcp::parse("53020 IN IP4 126.16.64.4").expect("rtcp");
        assert_eq!(with.place, Some(Place::Address("126.16.64.4".parse().expect("ip"))));
        assert!(Rtcp::parse("53020 IN IP6 2001:2345:6789:ABCD:EF01:2345:6789:ABCD").is_some());
        for bad in ["", "0", "65536", "53020 IN", "53020 IN IP4"] {
            assert_eq!(Rtcp::parse(bad), None, "{bad}");
        }
    }
}
