//! Via (RFC 3261 section 20.42): `SIP/2.0/UDP host:port;branch=z9hG4bK…;received=…;rport=…`.

use std::net::SocketAddr;

use crate::config::Transport;
use crate::sip::msg::HeaderFault;
use crate::sip::msg::scan::{self, Params};
use crate::sip::msg::uri::{self, Host};

/// What a branch of RFC 3261 starts with (section 8.1.1.7).
pub const BRANCH_COOKIE: &str = "z9hG4bK";

/// One Via, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// Protocol version, as written; only `2.0` may stand in a message we take.
    pub version: &'a str,
    /// Transport, as written.
    pub transport: &'a str,
    /// Host of sent-by.
    pub host: Host<'a>,
    /// Port of sent-by.
    pub port: Option<u16>,
    /// Host and port as written.
    pub sent_by: &'a str,
    /// Parameters.
    pub params: Params<'a>,
}

const BAD: HeaderFault = HeaderFault("Malformed Via");

impl<'a> Via<'a> {
    /// Reads one Via.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderFault> {
        let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
        let (head, params) = value.split_at(end);
        let mut parts = head.splitn(3, |b| *b == b'/');
        let mut part = || parts.next().map(scan::trim).ok_or(BAD);
        if !part()?.eq_ignore_ascii_case(b"SIP") {
            return Err(BAD);
        }
        let version = scan::token(part()?).ok_or(BAD)?;
        let rest = part()?;
        let space = rest.iter().position(|b| matches!(b, b' ' | b'\t')).ok_or(BAD)?;
        let transport = scan::token(&rest[..space]).ok_or(BAD)?;
        let sent_by = std::str::from_utf8(scan::trim(&rest[space..])).map_err(|_| BAD)?;
        let (host, port) = match uri::host_port(sent_by) {
            Some(good) => good,
            // Spaces may stand around the colon (RFC 3261 COLON); IPv6 has none.
            None => {
                let (host, port) = sent_by.split_once(':').ok_or(BAD)?;
                let port = scan::number(port.trim().as_bytes()).and_then(|p| u16::try_from(p).ok()).ok_or(BAD)?;
                (Host::parse(host.trim()).ok_or(BAD)?, Some(port))
            }
        };
        Ok(Self { version, transport, host, port, sent_by, params: Params::parse(params)? })
    }

    /// The branch.
    pub fn branch(&self) -> Option<&'a str> {
        self.params.text("branch")
    }

    /// The branch when it identifies a transaction by RFC 3261: the cookie and more.
    pub fn rfc3261_branch(&self) -> Option<&'a str> {
        self.branch().filter(|b| {
            b.len() > BRANCH_COOKIE.len()
                && b.as_bytes()[..BRANCH_COOKIE.len()].eq_ignore_ascii_case(BRANCH_COOKIE.as_bytes())
        })
    }

    /// Whether `rport` is present (RFC 3581).
    pub fn has_rport(&self) -> bool {
        self.params.get("rport").is_some()
    }

    /// Prints a Via of ours, asking for the response at the source port (RFC 3581).
    pub fn print(transport: Transport, sent_by: SocketAddr, branch: &str) -> String {
        let transport = transport.name();
        format!("SIP/2.0/{transport} {sent_by};rport;branch={branch}")
    }

    /// This Via as its receiver must keep it: `received` and a filled `rport` from the packet's source
    /// (RFC 3261 section 18.2.1, RFC 3581 section 4). What the sender claimed there is dropped.
    pub fn stamped(&self, value: &'a [u8], source: SocketAddr) -> Vec<u8> {
        let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
        let mut out = scan::trim_end(&value[..end]).to_vec();
        for (name, param) in self.params.iter() {
            let is = |n: &str| name.eq_ignore_ascii_case(n.as_bytes());
            if is("received") || is("rport") {
                continue;
            }
            out.push(b';');
            out.extend_from_slice(name);
            if let Some(param) = param {
                out.push(b'=');
                out.extend_from_slice(param);
            }
        }
        let ip = source.ip().to_canonical();
        if self.has_rport() {
            out.extend_from_slice(format!(";rport={}", source.port()).as_bytes());
        }
        if self.has_rport() || self.host.ip() != Some(ip) {
            out.extend_from_slice(format!(";received={ip}").as_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_allowed_where_the_grammar_has_them() {
        let via =
            Via::parse(b"SIP  / 2.0  / TCP     spindle.example.com : 5061  ;  branch  =   z9hG4bK9ikj8").expect("good");
        assert_eq!((via.transport, via.host, via.port), ("TCP", Host::Name("spindle.example.com"), Some(5061)));
        assert_eq!(via.rfc3261_branch(), Some("z9hG4bK9ikj8"));
    }

    #[test]
    fn ipv6_and_unknown_transports_are_read() {
        let via = Via::parse(b"SIP/2.0/UNKNOWN [2001:db8::9:1]:5070;rport").expect("good");
        assert_eq!(via.host.ip(), "2001:db8::9:1".parse().ok());
        assert!(via.has_rport() && via.branch().is_none());
    }

    #[test]
    fn a_branch_that_is_only_the_cookie_identifies_nothing() {
        let via = Via::parse(b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK").expect("good");
        assert_eq!((via.branch(), via.rfc3261_branch()), (Some("z9hG4bK"), None));
    }

    #[test]
    fn stamping_ignores_what_the_sender_claimed() {
        let value = b"SIP/2.0/UDP 192.0.2.1:5060;received=10.0.0.1;rport=9;branch=z9hG4bKa";
        let source = "198.51.100.7:40000".parse().expect("an address");
        let stamped = Via::parse(value).expect("good").stamped(value, source);
        assert_eq!(
            String::from_utf8_lossy(&stamped),
            "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa;rport=40000;received=198.51.100.7"
        );
        let value = b"SIP/2.0/UDP 198.51.100.7;branch=z9hG4bKa";
        assert_eq!(Via::parse(value).expect("good").stamped(value, source), value);
    }

    #[test]
    fn broken_values_are_refused() {
        for value in [
            &b""[..],
            b"SIP/2.0/UDP",
            b"SIP/2.0/UDP ",
            b"SIP/2.0 a",
            b"HTTP/2.0/UDP a",
            b"SIP/2.0/UDP a;;",
            b"SIP/2.0/UDP a:x",
            b"SIP/2.0/UDP a b",
            b"SIP/2.0/UDP a;branch=",
            b"SIP/2.0/U(P a",
        ] {
            assert!(Via::parse(value).is_err(), "{:?}", String::from_utf8_lossy(value));
        }
    }
}
