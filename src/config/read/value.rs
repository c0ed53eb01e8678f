//! What strings mean: names, addresses, networks, header names, keys of the keypad.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::base::label::{is_label_key, is_label_value};
use crate::base::secret::Digit;
use crate::config::{Network, Place, Remote};

/// A name: 1–64 letters, digits, `.`, `_`, `-`; safe in logs, headers and URLs.
pub(super) fn name(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(fine) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name: 1 to 64 letters, digits, '.', '_' or '-'"))
    }
}

/// A label of recordings, `name=value`; not one that the node gives by itself.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let Some((name, wanted)) = text.split_once('=') else {
        return Err(format!("{text:?} is no label, such as \"team=north\""));
    };
    if !is_label_key(name) {
        return Err(format!("{name:?} is no label's name: 1 to 64 letters, digits, '.', '_' or '-'"));
    }
    if ["spill", "spill-forwarded", "canary"].contains(&name) {
        return Err(format!("{name:?} is a label that the node gives by itself"));
    }
    if wanted.is_empty() || !is_label_value(wanted) {
        return Err(format!("the value of {name:?} is 1 to 256 characters, with no more than eleven digits in a row"));
    }
    Ok((name.to_owned(), wanted.to_owned()))
}

/// An IP address.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        if text.parse::<SocketAddr>().is_ok() {
            format!("{text:?} has a port; only the address is wanted")
        } else {
            format!("{text:?} is no IP address (host names are not looked up)")
        }
    })
}

/// An address with a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let read = text.parse::<SocketAddr>().map_err(|_| match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => format!("{text:?} has no port; write \"{text}:<port>\""),
        Ok(IpAddr::V6(_)) => format!("{text:?} has no port; write \"[{text}]:<port>\""),
        Err(_) => {
            format!("{text:?} is no address and port, such as \"192.0.2.10:5060\" (host names are not looked up)")
        }
    })?;
    if read.port() == 0 { Err(format!("{text:?} has port 0; a fixed port is wanted")) } else { Ok(read) }
}

/// A target of a trunk: an address and port, or `sip:` and a name that is looked up, with `;priority=` and `;weight=`.
/// `nth` is its place in the list, its priority when it names none.
pub(super) fn target(text: &str, nth: usize) -> Result<Remote, String> {
    let mut parts = text.split(';');
    let place = parts.next().unwrap_or_default();
    let place = match place.strip_prefix("sip:").or_else(|| place.strip_prefix("sips:")) {
        Some(at) if at.parse::<SocketAddr>().is_ok() || at.parse::<IpAddr>().is_ok() => Place::At(remote(at)?),
        Some(name) => named(name)?,
        None => Place::At(remote(place).map_err(|reason| {
            let hint = "; a name to be looked up is written \"sip:<name>\"";
            if reason.contains("not looked up") {
                reason.replace(" (host names are not looked up)", hint)
            } else {
                reason
            }
        })?),
    };
    let mut target = Remote { place, priority: u16::try_from(nth + 1).unwrap_or(u16::MAX), weight: 1 };
    for part in parts {
        let bad = || format!("{part:?} is not known here; \";priority=1\" and \";weight=10\" are (0 to 65535)");
        let (name, value) = part.split_once('=').ok_or_else(bad)?;
        let value: u16 = value.parse().map_err(|_| bad())?;
        match name {
            "priority" => target.priority = value,
            "weight" => target.weight = value,
            _ => return Err(bad()),
        }
    }
    Ok(target)
}

fn named(text: &str) -> Result<Place, String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let bad =
        || format!("{text:?} is no host name, such as \"sip:carrier.example\" or \"sip:sbc.carrier.example:5060\"");
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let sound = host.len() <= 253 && host.split('.').all(label) && host.contains(|c: char| c.is_ascii_alphabetic());
    let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad)).transpose()?;
    if sound { Ok(Place::Name { host: host.to_ascii_lowercase(), port }) } else { Err(bad()) }
}

/// Where SIP requests go.
pub(super) fn remote(text: &str) -> Result<SocketAddr, String> {
    let at = address(text)?;
    if at.ip().is_unspecified() || at.ip().is_multicast() {
        return Err(format!("{text:?} is no address of a single host"));
    }
    Ok(at)
}

/// A file, from the configuration's directory.
pub(super) fn file(text: &str, directory: &Path) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty; a file is wanted".to_owned()) } else { Ok(directory.join(text)) }
}

/// A name in a certificate: a DNS name (a wildcard stands for itself only) or an IP address; in lower case.
pub(super) fn tls_name(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.*".contains(c);
    if text.parse::<IpAddr>().is_ok() || ((1..=253).contains(&text.len()) && text.chars().all(fine)) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{text:?} is no DNS name or IP address, such as \"sip.carrier.example\""))
    }
}

/// A network in CIDR form, or a single address.
pub(super) fn network(text: &str) -> Result<Network, String> {
    let shape = || format!("{text:?} is no network, such as \"192.0.2.0/24\" or \"192.0.2.10\"");
    let (host, prefix) = match text.split_once('/') {
        Some((host, prefix)) => (host, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = host.parse().map_err(|_| shape())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(prefix) => prefix.parse::<u8>().ok().filter(|prefix| *prefix <= most).ok_or_else(shape)?,
        None => most,
    };
    let network = Network { address, prefix };
    let base = base(&network);
    if base == address {
        Ok(network)
    } else {
        Err(format!("{text:?} has bits set beyond its prefix; did you mean \"{base}/{prefix}\" or \"{address}\"?"))
    }
}

/// The network's first address.
fn base(network: &Network) -> IpAddr {
    match network.address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(network.prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(network.prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

/// Whether two networks share an address.
pub(in crate::config) fn overlap(a: &Network, b: &Network) -> bool {
    a.contains(b.address) || b.contains(a.address)
}

/// Headers that Tonewall writes itself on each leg; passing the other leg's would break the dialog or show topology.
const OWN_HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "alert-info",
    "allow",
    "authentication-info",
    "authorization",
    "call-id",
    "call-info",
    "contact",
    "content-disposition",
    "content-encoding",
    "content-length",
    "content-type",
    "cseq",
    "error-info",
    "event",
    "expires",
    "from",
    "in-reply-to",
    "join",
    "max-forwards",
    "mime-version",
    "min-expires",
    "min-se",
    "path",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-require",
    "rack",
    "record-route",
    "refer-to",
    "referred-by",
    "replaces",
    "reply-to",
    "require",
    "retry-after",
    "route",
    "rseq",
    "server",
    "session-expires",
    "supported",
    "timestamp",
    "to",
    "unsupported",
    "user-agent",
    "via",
    "warning",
    "www-authenticate",
];

/// A header name (RFC 3261 token), as written.
pub(super) fn header(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(fine) {
        return Err(format!("{text:?} is no header name"));
    }
    Ok(text.to_owned())
}

/// A header that may be copied from one leg to the other.
pub(super) fn passed_header(text: &str) -> Result<String, String> {
    let name = header(text)?;
    if text.len() == 1 || OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("{text:?} is written by Tonewall on each leg and cannot be passed"));
    }
    Ok(name)
}

/// The content type of a body passed on as it is. What Tonewall reads itself is none: keys and session descriptions are
/// never passed on.
pub(super) fn content_type(text: &str) -> Result<String, String> {
    let fine = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-.+_".contains(c));
    let lower = text.to_ascii_lowercase();
    match lower.split_once('/') {
        Some((kind, subtype)) if fine(kind) && fine(subtype) && text.len() <= 64 => {}
        _ => return Err(format!("{text:?} is no content type, such as \"text/plain\"")),
    }
    let own = lower.starts_with("multipart/") || lower.starts_with("application/dtmf") || lower == "application/sdp";
    if own || lower.contains("telephone-event") || lower.contains("dtmf") {
        return Err(format!("{text:?} may carry keys or media, which Tonewall reads itself; it cannot be passed on"));
    }
    Ok(lower)
}

/// A prefix of the called number or user part.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "+*#-_.".contains(c);
    if text.len() <= 64 && text.chars().all(fine) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no prefix: up to 64 of letters, digits, + * # - _ ."))
    }
}

/// A star code: 2–8 keys, the first `*` or `#`.
pub(super) fn star_code(text: &str) -> Result<Vec<Digit>, String> {
    let keys: Option<Vec<Digit>> = text.chars().map(Digit::from_char).collect();
    match keys {
        Some(keys) if (2..=8).contains(&keys.len()) && text.starts_with(['*', '#']) => Ok(keys),
        _ => Err("is no star code: 2 to 8 keys (0-9 * # A-D), the first * or #, such as \"*71\"".to_owned()),
    }
}

/// The SHA-256 of a key text, in hexadecimal.
pub(super) fn sha256(text: &str) -> Result<[u8; 32], String> {
    let mut hash = [0; 32];
    match hex::decode_to_slice(text, &mut hash) {
        Ok(()) => Ok(hash),
        Err(_) => {
            Err(format!("is {} characters; 64 hexadecimal digits are wanted (sha256sum of the key text)", text.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_strictly() {
        assert!(network("192.0.2.0/24").is_ok() && network("192.0.2.7").is_ok() && network("::/0").is_ok());
        assert!(network("0.0.0.0/0").is_ok());
        let error = network("192.0.2.7/24").expect_err("bits");
        assert!(error.contains("192.0.2.0/24"), "{error}");
        for bad in ["192.0.2.0/33", "192.0.2/24", "example.com", "", "192.0.2.0/"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn overlap_is_seen_both_ways() {
        let read = |text| network(text).expect("network");
        assert!(overlap(&read("192.0.2.0/24"), &read("192.0.2.8")));
        assert!(overlap(&read("192.0.2.8"), &read("192.0.2.0/24")));
        assert!(!overlap(&read("192.0.2.8"), &read("192.0.2.9")));
        assert!(!overlap(&read("0.0.0.0/0"), &read("::/0")));
    }

    #[test]
    fn headers_of_the_dialog_cannot_be_passed() {
        for name in ["Via", "v", "CONTACT", "Record-Route", "bad name", ""] {
            assert!(passed_header(name).is_err(), "{name}");
        }
        assert!(passed_header("User-to-User").is_ok() && passed_header("P-Asserted-Identity").is_ok());
    }
}
