//! The `c=` line (RFC 8866 section 5.7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a `c=` line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address.
    Address(IpAddr),
    /// A host name; never resolved.
    Name,
}

/// A readable `c=` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The address, or that it is a name.
    pub place: Place,
}

impl Connection {
    /// Reads the value of a `c=` line. The address type must fit the address.
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        let mut fields = value.split_ascii_whitespace();
        let (net, kind, text) = match (fields.next(), fields.next(), fields.next()) {
            (Some(net), Some(kind), Some(text)) => (net, kind, text),
            _ => return Err("c= line has fewer than three fields"),
        };
        if !net.eq_ignore_ascii_case("IN") {
            return Err("c= line is not of the Internet");
        }
        Ok(Self { place: place(kind, text)? })
    }
}

/// Reads an address of the type `kind` (`IP4`, `IP6`); a multicast TTL or count after `/` is left out.
pub(super) fn place(kind: &str, text: &str) -> Result<Place, &'static str> {
    let host = text.split('/').next().unwrap_or_default();
    let address = if kind.eq_ignore_ascii_case("IP4") {
        host.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    } else if kind.eq_ignore_ascii_case("IP6") {
        host.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    } else {
        return Err("address type is neither IP4 nor IP6");
    };
    match address {
        Some(address) => Ok(Place::Address(address)),
        None if host.parse::<IpAddr>().is_ok() => Err("address does not fit its type"),
        None => Ok(Place::Name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_told_apart() {
        let read = |text| Connection::parse(text).map(|c| c.place);
        assert_eq!(read("IN IP4 192.0.2.1"), Ok(Place::Address("192.0.2.1".parse().expect("ip"))));
        assert_eq!(read("IN IP6 2001:db8::1"), Ok(Place::Address("2001:db8::1".parse().expect("ip"))));
        assert_eq!(read("IN IP4 224.2.1.1/127/3"), Ok(Place::Address("224.2.1.1".parse().expect("ip"))));
        assert_eq!(read("IN IP4 media.example.com"), Ok(Place::Name));
        assert!(read("IN IP4 ::1").is_err() && read("IN IP4").is_err() && read("ATM NSAP 47").is_err());
    }
}
