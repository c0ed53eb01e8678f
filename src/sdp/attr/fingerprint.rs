//! `a=fingerprint` (RFC 8122): the hash of the certificate a peer will show in its DTLS handshake. SHA-256 is read, which
//! every peer of RFC 5763 writes; other hashes are read over.

/// A SHA-256 over a certificate.
pub type Fingerprint = [u8; 32];

/// Reads the value after `fingerprint:`; `None` for another hash and what cannot be read.
pub fn parse(value: &str) -> Option<Fingerprint> {
    let (hash, text) = value.split_once(char::is_whitespace)?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut out = [0; 32];
    let mut pairs = text.trim().split(':');
    for byte in &mut out {
        let pair = pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(out)
}

/// The value after `a=`.
pub fn print(fingerprint: &Fingerprint) -> String {
    let pairs: Vec<String> = fingerprint.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("fingerprint:sha-256 {}", pairs.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_and_printed() {
        let fingerprint = std::array::from_fn(|n| (n * 8 + 3) as u8);
        let text = print(&fingerprint);
        let value = text.strip_prefix("fingerprint:").expect("its name");
        assert_eq!(parse(value), Some(fingerprint));
        assert_eq!(parse(&value.to_lowercase().replace("sha-256", "SHA-256 ")), Some(fingerprint));
        for bad in ["", "sha-256", "sha-1 00:11", "sha-256 00:11", "sha-256 +1:11"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&format!("{value}:00")), None);
        assert_eq!(parse(&value.replace("sha-256", "sha-512")), None);
    }
}
