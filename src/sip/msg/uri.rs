//! URIs: sip, sips (RFC 3261 section 19.1), tel (RFC 3966) and any other absolute URI, as views over their text.
//! Escapes are checked but never decoded on the way through.
//!
//! ```text
//!  sip:user:password@host:port;name=value?header=value&header=value
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

use super::HeaderFault;
use super::scan::{self, Class};

/// A URI, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uri<'a> {
    /// `sip:` or `sips:`.
    Sip(SipUri<'a>),
    /// `tel:`.
    Tel(TelUri<'a>),
    /// Any other scheme.
    Other {
        /// The scheme, without the colon.
        scheme: &'a str,
        /// What follows the colon.
        rest: &'a str,
    },
}

/// A `sip:` or `sips:` URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SipUri<'a> {
    /// `sips:`.
    pub secure: bool,
    /// User part, escapes kept.
    pub user: Option<&'a str>,
    /// Password, escapes kept.
    pub password: Option<&'a str>,
    /// Host.
    pub host: Host<'a>,
    /// Port.
    pub port: Option<u16>,
    /// Parameters, without the first semicolon.
    pub params: &'a str,
    /// Headers after `?`, escapes kept.
    pub headers: Option<&'a str>,
}

/// A `tel:` URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelUri<'a> {
    /// The number with its visual separators, with `+` if global.
    pub number: &'a str,
    /// Parameters, without the first semicolon.
    pub params: &'a str,
}

/// A host: a name or an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    /// A domain name.
    Name(&'a str),
    /// An address; IPv6 stands in brackets on the wire.
    Ip(IpAddr),
}

impl<'a> Host<'a> {
    /// Reads a host without port; IPv6 in brackets.
    pub fn parse(text: &'a str) -> Option<Host<'a>> {
        if let Some(inside) = text.strip_prefix('[') {
            let address: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
            return Some(Host::Ip(address.into()));
        }
        if text.as_bytes().first().is_some_and(u8::is_ascii_digit)
            && let Ok(address) = text.parse()
        {
            return Some(Host::Ip(IpAddr::V4(address)));
        }
        let good = !text.is_empty() && Class::HOST.all(text.as_bytes()) && !matches!(text.as_bytes()[0], b'.' | b'-');
        good.then_some(Host::Name(text))
    }

    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Host::Ip(ip) => Some(*ip),
            Host::Name(_) => None,
        }
    }
}

impl std::fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// Reads `host` or `host:port`.
pub fn host_port(text: &str) -> Option<(Host<'_>, Option<u16>)> {
    let after_host = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let host = Host::parse(&text[..after_host])?;
    let port = match text[after_host..].strip_prefix(':') {
        Some(port) => Some(scan::number(port.as_bytes()).filter(|p| port.len() <= 5 && *p > 0)?),
        None if after_host == text.len() => None,
        None => return None,
    };
    Some((host, port.map(u16::try_from).transpose().ok()?))
}

const BAD: HeaderFault = HeaderFault("Malformed URI");

impl<'a> Uri<'a> {
    /// Reads a URI.
    ///
    /// # Errors
    /// When it holds a space, control or non-ASCII byte, has no scheme, or is not what its scheme's grammar allows.
    pub fn parse(text: &'a [u8]) -> Result<Uri<'a>, HeaderFault> {
        if !Class::URI.all(text) {
            return Err(BAD);
        }
        let text = std::str::from_utf8(text).map_err(|_| BAD)?;
        let (scheme, rest) = text.split_once(':').ok_or(HeaderFault("URI without a scheme"))?;
        if scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips") {
            let secure = scheme.len() == 4;
            return SipUri::parse(secure, rest).map(Uri::Sip).ok_or(BAD);
        }
        if scheme.eq_ignore_ascii_case("tel") {
            let (number, params) = rest.split_once(';').unwrap_or((rest, ""));
            let good = |b: u8| b.is_ascii_hexdigit() || matches!(b, b'-' | b'.' | b'(' | b')' | b'*' | b'#');
            let digits = number.strip_prefix('+').unwrap_or(number);
            let sound = !digits.is_empty() && digits.bytes().all(good) && params_sound(params, rest.contains(';'));
            return if sound { Ok(Uri::Tel(TelUri { number, params })) } else { Err(BAD) };
        }
        let name = |(at, b): (usize, u8)| {
            b.is_ascii_alphabetic() || (at > 0 && (b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.')))
        };
        if scheme.is_empty() || !scheme.bytes().enumerate().all(name) || rest.is_empty() {
            return Err(BAD);
        }
        Ok(Uri::Other { scheme, rest })
    }

    /// Reads a Request-URI: as [`Uri::parse`], and `?headers` may not stand there (RFC 3261 section 19.1.1).
    pub fn parse_request_uri(text: &'a [u8]) -> Result<Uri<'a>, HeaderFault> {
        if text.first() == Some(&b'<') {
            return Err(HeaderFault("Request-URI in angle brackets"));
        }
        match Self::parse(text)? {
            Uri::Sip(SipUri { headers: Some(_), .. }) => Err(HeaderFault("Headers in the Request-URI")),
            uri => Ok(uri),
        }
    }

    /// The user part of a sip(s) URI or the number of a tel URI, as written.
    pub fn user(&self) -> Option<&'a str> {
        match self {
            Uri::Sip(uri) => uri.user,
            Uri::Tel(uri) => Some(uri.number),
            Uri::Other { .. } => None,
        }
    }

    /// The scheme in lower case, or as written when it is not one of ours.
    pub fn scheme(&self) -> &'a str {
        match self {
            Uri::Sip(SipUri { secure: false, .. }) => "sip",
            Uri::Sip(SipUri { secure: true, .. }) => "sips",
            Uri::Tel(_) => "tel",
            Uri::Other { scheme, .. } => scheme,
        }
    }

    /// The sip(s) URI.
    pub fn sip(&self) -> Option<SipUri<'a>> {
        match self {
            Uri::Sip(uri) => Some(*uri),
            Uri::Tel(_) | Uri::Other { .. } => None,
        }
    }

    /// The value of parameter `name`: `None` absent, `Some("")` without a value.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        let params = match self {
            Uri::Sip(uri) => uri.params,
            Uri::Tel(uri) => uri.params,
            Uri::Other { .. } => return None,
        };
        params
            .split(';')
            .map(|p| p.split_once('=').unwrap_or((p, "")))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }
}

impl<'a> SipUri<'a> {
    fn parse(secure: bool, rest: &'a str) -> Option<SipUri<'a>> {
        if !escapes_sound(rest) {
            return None;
        }
        let (userinfo, after) = match rest.split_once('@') {
            Some((userinfo, after)) => (Some(userinfo), after),
            None => (None, rest),
        };
        if after.contains('@') {
            return None;
        }
        let (user, password) = match userinfo {
            Some(info) => {
                let (user, password) = match info.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (info, None),
                };
                if user.is_empty()
                    || !Class::USER.all(user.as_bytes())
                    || !password.is_none_or(|p| Class::PASSWORD.all(p.as_bytes()))
                {
                    return None;
                }
                (Some(user), password)
            }
            None => (None, None),
        };
        let (before, headers) = match after.split_once('?') {
            Some((before, headers)) => (before, Some(headers)),
            None => (after, None),
        };
        let (host, params) = before.split_once(';').unwrap_or((before, ""));
        let (host, port) = host_port(host)?;
        if !params_sound(params, before.contains(';'))
            || !headers.is_none_or(|h| !h.is_empty() && Class::URI_HEADER.all(h.as_bytes()))
        {
            return None;
        }
        Some(SipUri { secure, user, password, host, port, params, headers })
    }

    /// Where the URI points when its host is an address: the default port when it names none.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let port = self.port.unwrap_or(if self.secure { 5061 } else { 5060 });
        Some(SocketAddr::new(self.host.ip()?, port))
    }
}

fn params_sound(params: &str, present: bool) -> bool {
    let sound = |text: &str| !text.is_empty() && Class::URI_PARAM.all(text.as_bytes());
    !present
        || params.split(';').all(|param| {
            let (name, value) = match param.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (param, None),
            };
            sound(name) && value.is_none_or(sound)
        })
}

fn escapes_sound(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'%')
        .all(|(at, _)| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

/// A URI fit for a start line: bytes that may not stand there are percent-escaped.
pub(super) fn escape_controls(uri: &[u8]) -> Bytes {
    if uri.iter().all(u8::is_ascii_graphic) {
        return Bytes::copy_from_slice(uri);
    }
    let mut out = Vec::with_capacity(uri.len() + 6);
    for b in uri {
        if b.is_ascii_graphic() {
            out.push(*b);
        } else {
            out.extend_from_slice(format!("%{b:02X}").as_bytes());
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sip(text: &str) -> SipUri<'_> {
        match Uri::parse(text.as_bytes()) {
            Ok(Uri::Sip(uri)) => uri,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_part_of_a_sip_uri_is_found() {
        let uri = sip("sips:alice:secret@[2001:db8::1]:5071;transport=tcp;lr?subject=a%20b&x=");
        assert!(uri.secure);
        assert_eq!((uri.user, uri.password), (Some("alice"), Some("secret")));
        assert_eq!(uri.host, Host::Ip("2001:db8::1".parse().expect("an address")));
        assert_eq!(uri.port, Some(5071));
        assert_eq!((uri.params, uri.headers), ("transport=tcp;lr", Some("subject=a%20b&x=")));
        assert_eq!(Uri::Sip(uri).param("LR"), Some(""));
        assert_eq!(sip("sip:192.0.2.1").socket_addr(), "192.0.2.1:5060".parse().ok());
        assert_eq!(sip("sip:example.com").socket_addr(), None);
    }

    #[test]
    fn odd_but_legal_user_parts_stay_whole() {
        assert_eq!(sip("sip:user;par=u%40example.net@example.com").user, Some("user;par=u%40example.net"));
        assert_eq!(sip("sip:+1-212-555-1212:1234@gateway.com;user=phone").user, Some("+1-212-555-1212"));
        assert_eq!(sip("sip:null-%00-null@example.com").user, Some("null-%00-null"));
    }

    #[test]
    fn tel_uris_keep_their_separators() {
        let uri = Uri::parse(b"tel:+1-201-555-0123;phone-context=example.com").expect("good");
        assert_eq!(uri.user(), Some("+1-201-555-0123"));
        assert_eq!(uri.param("phone-context"), Some("example.com"));
    }

    #[test]
    fn other_schemes_are_read_but_not_understood() {
        assert_eq!(Uri::parse(b"soap.beep://192.0.2.103:3002").map(|u| u.scheme()), Ok("soap.beep"));
        assert_eq!(Uri::parse(b"nobodyKnowsThisScheme:totallyopaquecontent").map(|u| u.user()), Ok(None));
    }

    #[test]
    fn malformed_uris_are_refused() {
        for text in [
            "",
            "sip:",
            "sip",
            ":a",
            "sip:@a",
            "sip:a@",
            "sip:a@b@c",
            "sip:a b@c",
            "sip:a@b:0",
            "sip:a@b:65536",
            "sip:a@b:x",
            "sip:a@b;",
            "sip:a@b;;c",
            "sip:a@b;c=",
            "sip:a@b?",
            "sip:%4@b",
            "sip:a@[::1",
            "sip:a@[::g]",
            "sip:a@::1",
            "tel:",
            "tel:+",
            "tel:x",
            "1a:b",
            "sip:a@b<c>",
            "sip:a@\u{e9}",
            "sip:a@b:5060x",
        ] {
            assert!(Uri::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Uri::parse_request_uri(b"sip:a@b?c=d").is_err());
        assert!(Uri::parse_request_uri(b"<sip:a@b>").is_err());
    }

    #[test]
    fn a_start_line_uri_cannot_break_its_line() {
        assert_eq!(escape_controls(b"sip:a b\r\n@c"), Bytes::from_static(b"sip:a%20b%0D%0A@c"));
    }
}
