//! The lexical rules every header shares (RFC 3261 section 25.1): tokens, linear whitespace, quoted strings,
//! comma-separated lists and `;name=value` parameters. Works on unfolded values; copies nothing.

use super::HeaderFault;

/// Classes of bytes (RFC 3261 section 25.1), looked up in one table.
#[derive(Clone, Copy)]
pub(super) struct Class(u8);

impl Class {
    /// `token`.
    pub(super) const TOKEN: Class = Class(1);
    /// `word`, what a Call-ID is made of.
    pub(super) const WORD: Class = Class(2);
    /// `user`, escapes included.
    pub(super) const USER: Class = Class(4);
    /// `password`, escapes included.
    pub(super) const PASSWORD: Class = Class(8);
    /// `pname` and `pvalue` of a URI parameter, escapes included.
    pub(super) const URI_PARAM: Class = Class(16);
    /// `hname`, `hvalue` and what joins them, escapes included.
    pub(super) const URI_HEADER: Class = Class(32);
    /// Host name.
    pub(super) const HOST: Class = Class(64);
    /// Whatever may stand in a URI at all.
    pub(super) const URI: Class = Class(128);

    /// Whether `b` is of the class.
    pub(super) const fn has(self, b: u8) -> bool {
        CLASSES[b as usize] & self.0 != 0
    }

    /// Whether every byte of `text` is of the class; so it is for no bytes.
    pub(super) fn all(self, text: &[u8]) -> bool {
        text.iter().all(|b| self.has(*b))
    }
}

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    const fn within(b: u8, set: &[u8]) -> bool {
        let mut at = 0;
        while at < set.len() {
            if set[at] == b {
                return true;
            }
            at += 1;
        }
        false
    }
    let mut out = [0; 256];
    let mut b = 0u8;
    while b < 0x80 {
        let alphanumeric = b.is_ascii_alphanumeric();
        let token = alphanumeric || within(b, b"-.!%*_+`'~");
        let unreserved = alphanumeric || within(b, b"-_.!~*'()");
        let mut class = 0;
        if token {
            class |= Class::TOKEN.0;
        }
        if token || within(b, b"()<>:\\\"/[]?{}") {
            class |= Class::WORD.0;
        }
        // '#' is not in the grammar but stands in dialled numbers.
        if unreserved || within(b, b"%&=+$,;?/#") {
            class |= Class::USER.0;
        }
        if unreserved || within(b, b"%&=+$,") {
            class |= Class::PASSWORD.0;
        }
        if unreserved || within(b, b"%[]/:&+$") {
            class |= Class::URI_PARAM.0;
        }
        if unreserved || within(b, b"%[]/?:+$=&") {
            class |= Class::URI_HEADER.0;
        }
        if alphanumeric || within(b, b"-._") {
            class |= Class::HOST.0;
        }
        if b.is_ascii_graphic() && !within(b, b"<>\"") {
            class |= Class::URI.0;
        }
        out[b as usize] = class;
        b += 1;
    }
    out
}

/// Whether `b` may stand in a token.
pub const fn is_token_byte(b: u8) -> bool {
    Class::TOKEN.has(b)
}

/// Whether `text` is a token: one or more token bytes.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && Class::TOKEN.all(text)
}

/// Whether a control character other than tab stands in `text`. Looks at every byte, so that it can look at many at
/// once.
pub fn has_control(text: &[u8]) -> bool {
    text.iter().fold(false, |found, b| found | ((*b < 0x20) & (*b != b'\t')) | (*b == 0x7f))
}

/// A token as text.
pub fn token(text: &[u8]) -> Option<&str> {
    if is_token(text) { std::str::from_utf8(text).ok() } else { None }
}

const fn is_space(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

/// Drops spaces and tabs at both ends.
pub fn trim(text: &[u8]) -> &[u8] {
    trim_start(trim_end(text))
}

/// Drops spaces and tabs at the front.
pub fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text {
        if !is_space(*first) {
            break;
        }
        text = rest;
    }
    text
}

/// Drops spaces and tabs at the end.
pub fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text {
        if !is_space(*last) {
            break;
        }
        text = rest;
    }
    text
}

/// An unsigned decimal number; `None` for signs, hexadecimal, spaces inside, nothing at all, or overflow. Leading
/// zeros are allowed (RFC 4475 section 3.1.1.1).
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |sum, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Where `stop` first stands outside quoted strings and outside `<…>`; `Err` when a quote or bracket stays open.
pub fn find_outside(text: &[u8], stop: impl Fn(u8) -> bool) -> Result<Option<usize>, HeaderFault> {
    let mut at = 0;
    let mut angle = false;
    while at < text.len() {
        match text[at] {
            b'"' if !angle => at += quoted_len(&text[at..])? - 1,
            b'<' if !angle => {
                if stop(b'<') {
                    return Ok(Some(at));
                }
                angle = true;
            }
            b'>' if angle => angle = false,
            b if !angle && stop(b) => return Ok(Some(at)),
            _ => {}
        }
        at += 1;
    }
    if angle { Err(HeaderFault("unclosed angle bracket")) } else { Ok(None) }
}

/// Length of the quoted string `text` starts with, both quotes included.
pub fn quoted_len(text: &[u8]) -> Result<usize, HeaderFault> {
    debug_assert_eq!(text.first(), Some(&b'"'));
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return Ok(at + 1),
            _ => at += 1,
        }
    }
    Err(HeaderFault("unterminated quoted string"))
}

/// The items of a comma-separated header value, trimmed. Commas in quotes and in `<…>` do not separate.
#[derive(Debug, Clone)]
pub struct List<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> List<'a> {
    /// Splits `value`.
    pub fn new(value: &'a [u8]) -> Self {
        Self { rest: Some(value) }
    }
}

impl<'a> Iterator for List<'a> {
    type Item = &'a [u8];

    /// A value whose quotes do not balance comes out as one item: its own parser refuses it.
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        if memchr::memchr(b',', rest).is_none() {
            return Some(trim(rest));
        }
        match find_outside(rest, |b| b == b',') {
            Ok(Some(comma)) => {
                self.rest = Some(&rest[comma + 1..]);
                Some(trim(&rest[..comma]))
            }
            Ok(None) | Err(_) => Some(trim(rest)),
        }
    }
}

/// `;name=value` parameters: the text after the first semicolon, or nothing. Checked when made.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a> {
    text: Option<&'a [u8]>,
}

impl std::fmt::Debug for Params<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(n, v)| (lossy(n), v.map(lossy)))).finish()
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl<'a> Params<'a> {
    /// Reads header parameters from `text`, which is empty or starts with `;` (spaces before it are skipped).
    pub fn parse(text: &'a [u8]) -> Result<Self, HeaderFault> {
        match trim_start(text) {
            [] => Ok(Self { text: None }),
            [b';', rest @ ..] => {
                let params = Self { text: Some(rest) };
                for (name, value) in params.iter() {
                    if !is_token(name) {
                        return Err(HeaderFault("parameter without a name"));
                    }
                    match value {
                        Some(quoted @ [b'"', ..]) if quoted_len(quoted)? != quoted.len() => {
                            return Err(HeaderFault("text after a quoted parameter value"));
                        }
                        Some([]) => return Err(HeaderFault("parameter without its value")),
                        Some([b'"', ..]) | None => {}
                        Some(bare) if bare.iter().any(|b| is_space(*b) || matches!(b, b'"' | b'<' | b'>' | b',')) => {
                            return Err(HeaderFault("parameter value is not a token"));
                        }
                        Some(_) => {}
                    }
                }
                Ok(params)
            }
            _ => Err(HeaderFault("text where only parameters may stand")),
        }
    }

    /// Parameters of a value that has been read before: the text after its first semicolon.
    pub(super) fn unchecked(text: &'a [u8]) -> Self {
        Self { text: Some(text) }
    }

    /// Every parameter in order: name, and value if there is one (quotes kept).
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.text;
        std::iter::from_fn(move || {
            let text = rest.take()?;
            let part = match find_quoted_aware(text, b';') {
                Some(at) => {
                    rest = Some(&text[at + 1..]);
                    &text[..at]
                }
                None => text,
            };
            Some(match find_quoted_aware(part, b'=') {
                Some(at) => (trim(&part[..at]), Some(trim(&part[at + 1..]))),
                None => (trim(part), None),
            })
        })
    }

    /// The value of parameter `name` (any case): `None` absent, `Some(None)` present without a value.
    pub fn get(&self, name: &str) -> Option<Option<&'a [u8]>> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v)
    }

    /// The value of parameter `name` as text; `None` when absent, without a value or not UTF-8.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.get(name)??).ok()
    }

    /// The parameters as they stood on the wire, without the first semicolon.
    pub fn raw(&self) -> Option<&'a [u8]> {
        self.text
    }
}

fn find_quoted_aware(text: &[u8], stop: u8) -> Option<usize> {
    let stands = memchr::memchr(stop, text)?;
    if memchr::memchr(b'"', &text[..stands]).is_none() {
        return Some(stands);
    }
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => at += quoted_len(&text[at..]).unwrap_or(text.len() - at),
            b if b == stop => return Some(at),
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_and_brackets_do_not_separate() {
        let items: Vec<_> = List::new(b"\"a, \\\"b\" <sip:x,y@h> , <sip:c>;p=\"1,2\",d").collect();
        assert_eq!(items, [&b"\"a, \\\"b\" <sip:x,y@h>"[..], b"<sip:c>;p=\"1,2\"", b"d"]);
    }

    #[test]
    fn numbers_are_plain_decimals() {
        assert_eq!(number(b"0068"), Some(68));
        for text in [&b""[..], b"-1", b"+1", b"0x10", b"1 2", b"18446744073709551616"] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }

    #[test]
    fn parameters_are_found_in_any_case_and_with_spaces() {
        let params = Params::parse(b" ; Tag = 98 ; lr;q=\"a;b=c\"").expect("good parameters");
        assert_eq!(params.text("tag"), Some("98"));
        assert_eq!(params.get("LR"), Some(None));
        assert_eq!(params.text("q"), Some("\"a;b=c\""));
        assert_eq!(params.get("b"), None);
    }

    #[test]
    fn broken_parameters_are_refused() {
        for text in [&b";;"[..], b";", b"x", b";a=", b";a=\"b", b";a=\"b\"c", b";a=b c", b";=b"] {
            assert!(Params::parse(text).is_err(), "{text:?}");
        }
    }
}
