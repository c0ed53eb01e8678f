//! Addresses with a name: From, To, Contact, Route, Record-Route, P-Asserted-Identity and the like
//! (RFC 3261 section 20.10): `"Display" <uri>;param=value`, or a bare URI followed by header parameters.

use std::borrow::Cow;

use crate::sip::msg::scan::{self, Params};
use crate::sip::msg::{HeaderFault, Uri};

/// One address, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddr<'a> {
    display: Option<&'a [u8]>,
    /// The URI's text as it stands between the brackets.
    pub raw_uri: &'a str,
    /// The URI.
    pub uri: Uri<'a>,
    /// Whether the URI stood in angle brackets.
    pub bracketed: bool,
    /// Header parameters (not those of the URI).
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Reads one address.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderFault> {
        let value = scan::trim(value);
        let open = match memchr::memchr(b'<', value) {
            // A quote before the bracket may hold it.
            Some(open) if memchr::memchr(b'"', &value[..open]).is_some() => scan::find_outside(value, |b| b == b'<')?,
            Some(open) => Some(open),
            None if value.first() == Some(&b'"') => return Err(HeaderFault("display name without a URI")),
            None => None,
        };
        let (display, uri, params) = match open {
            Some(open) => {
                let close = memchr::memchr(b'>', &value[open..]).ok_or(HeaderFault("unclosed angle bracket"))?;
                let display = scan::trim(&value[..open]);
                check_display(display)?;
                (Some(display).filter(|d| !d.is_empty()), &value[open + 1..open + close], &value[open + close + 1..])
            }
            None => {
                // Without brackets every parameter is the header's, and the URI may hold no comma, question mark or
                // semicolon (RFC 3261 section 20).
                let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
                let uri = scan::trim_end(&value[..end]);
                if uri.iter().any(|b| matches!(b, b'?' | b',')) {
                    return Err(HeaderFault("URI needs angle brackets"));
                }
                (None, uri, &value[end..])
            }
        };
        let read = Uri::parse(uri)?;
        let raw_uri = std::str::from_utf8(uri).map_err(|_| HeaderFault("Malformed URI"))?;
        let params = Params::parse(params)?;
        if let Some(tag) = params.get("tag")
            && !tag.is_some_and(scan::is_token)
        {
            return Err(HeaderFault("tag is not a token"));
        }
        Ok(Self { display, raw_uri, uri: read, bracketed: open.is_some(), params })
    }

    /// The tag of an address that is known to be well formed, without reading the rest: what transactions and dialogs
    /// are matched by.
    pub fn tag_of(value: &'a [u8]) -> Option<&'a str> {
        let end = match memchr::memchr(b'<', value) {
            Some(open) if memchr::memchr(b'"', &value[..open]).is_some() => return Self::parse(value).ok()?.tag(),
            Some(open) => open + memchr::memchr(b'>', &value[open..])?,
            None => 0,
        };
        let params = memchr::memchr(b';', &value[end..])?;
        Params::unchecked(&value[end + params + 1..]).text("tag")
    }

    /// The tag.
    pub fn tag(&self) -> Option<&'a str> {
        self.params.text("tag")
    }

    /// The display name without its quotes and escapes; control characters are left out, bytes that are not UTF-8
    /// are replaced.
    pub fn display_name(&self) -> Option<Cow<'a, str>> {
        let display = self.display?;
        let Some(inside) = display.strip_prefix(b"\"").and_then(|d| d.strip_suffix(b"\"")) else {
            return Some(String::from_utf8_lossy(display));
        };
        if !inside.iter().any(|b| *b == b'\\' || b.is_ascii_control()) {
            return Some(String::from_utf8_lossy(inside));
        }
        let mut out = Vec::with_capacity(inside.len());
        let mut bytes = inside.iter();
        while let Some(b) = bytes.next() {
            let b = if *b == b'\\' { bytes.next().unwrap_or(b) } else { b };
            if !b.is_ascii_control() {
                out.push(*b);
            }
        }
        Some(Cow::Owned(String::from_utf8_lossy(&out).into_owned()))
    }

    /// The display name as it was written, quotes and escapes included.
    pub fn raw_display(&self) -> Option<&'a [u8]> {
        self.display
    }
}

/// A display name is one quoted string or tokens; bytes above ASCII pass, peers send Latin-1 there.
fn check_display(display: &[u8]) -> Result<(), HeaderFault> {
    if let [b'"', ..] = display {
        return if scan::quoted_len(display)? == display.len() {
            Ok(())
        } else {
            Err(HeaderFault("text after a quoted display name"))
        };
    }
    let good = |b: &u8| scan::is_token_byte(*b) || matches!(b, b' ' | b'\t') || *b >= 0x80;
    if display.iter().all(good) { Ok(()) } else { Err(HeaderFault("display name needs quotes")) }
}

/// A display name quoted for the wire; control characters are left out.
pub fn print_display(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    out.push('"');
    for c in name.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// Prints an address: display name (quoted as needed), `<uri>` and the tag, if given.
pub fn address(display: Option<&str>, uri: &str, tag: Option<&str>) -> String {
    let mut out = String::with_capacity(uri.len() + 40);
    if let Some(name) = display.filter(|name| !name.is_empty()) {
        out.push_str(&print_display(name));
        out.push(' ');
    }
    out.push('<');
    out.push_str(uri);
    out.push('>');
    if let Some(tag) = tag {
        out.push_str(";tag=");
        out.push_str(tag);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_names_lose_quotes_escapes_and_controls() {
        let value = NameAddr::parse(b"\"J \\\"R\\\\ NUL:\\\0\"  <sip:j@example.com> ; tag = 98asjd8").expect("good");
        assert_eq!(value.display_name().as_deref(), Some("J \"R\\ NUL:"));
        assert_eq!((value.raw_uri, value.tag()), ("sip:j@example.com", Some("98asjd8")));
    }

    #[test]
    fn the_quick_tag_is_the_tag() {
        for (value, tag) in [
            ("<sip:a@b;tag=uri>;x=y;tag=1", Some("1")),
            ("\"<;tag=quoted>\" <sip:a@b>;tag=2", Some("2")),
            ("\";tag=quoted\" <sip:a@b>", None),
            ("sip:a@b ; TAG = 3", Some("3")),
            ("A B <sip:a@b>", None),
            ("sip:a@b", None),
        ] {
            assert_eq!(NameAddr::tag_of(value.as_bytes()), tag, "{value}");
            assert_eq!(NameAddr::parse(value.as_bytes()).expect("good").tag(), tag, "{value}");
        }
    }

    #[test]
    fn parameters_of_a_bare_uri_are_the_headers() {
        let value = NameAddr::parse(b"sip:+12125551212@server.phone2net.com;tag=887s").expect("good");
        assert_eq!((value.tag(), value.uri.param("tag"), value.bracketed), (Some("887s"), None, false));
        let value = NameAddr::parse(b"caller<sip:c@example.com;lr>;a").expect("good");
        assert_eq!((value.uri.param("lr"), value.params.get("a")), (Some(""), Some(None)));
        assert_eq!(value.display_name().as_deref(), Some("caller"));
    }

    #[test]
    fn latin_1_names_are_kept() {
        let value = NameAddr::parse(b"J\xfcrgen <sip:j@example.com>").expect("good");
        assert_eq!(value.raw_display(), Some(&b"J\xfcrgen"[..]));
        assert_eq!(value.display_name().as_deref(), Some("J\u{fffd}rgen"));
    }

    #[test]
    fn printing_quotes_what_needs_it_and_reads_back() {
        let text = address(Some("A \"b\"\r\n"), "sip:a@b", Some("t"));
        assert_eq!(text, "\"A \\\"b\\\"\" <sip:a@b>;tag=t");
        let read = NameAddr::parse(text.as_bytes()).expect("good");
        assert_eq!((read.display_name().as_deref(), read.tag()), (Some("A \"b\""), Some("t")));
    }

    #[test]
    fn broken_values_are_refused() {
        for value in [
            &b""[..],
            b"\"unterminated <sip:a@b>",
            b"<sip:a@b",
            b"< sip:a@b >",
            b"Bell, Alexander <sip:a@b>",
            b"\"a\" b <sip:a@b>",
            b"sip:user@example.com?Route=%3Csip:a%3E",
            b"<sip:a@b>;tag=",
            b"<sip:a@b>;tag",
            b"<sip:a@b>;tag=\"x\"",
            b"<sip:a@b> x",
            b"<sip:a@b>;;",
            b"*",
        ] {
            assert!(NameAddr::parse(value).is_err(), "{:?}", String::from_utf8_lossy(value));
        }
    }
}
