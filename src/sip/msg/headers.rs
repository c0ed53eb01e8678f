//! The header store: every header line in order, with its bytes as they came. Lookup is by known name (long and
//! compact forms are one), values come unfolded and trimmed; printing gives back the untouched lines byte for byte.
//!
//! ```text
//!  wire (shared):   Via: SIP/2.0/UDP a;branch=b\r\ns :\r\n next line\r\n...
//!  entry                <- name ->  <------ value ----->      line range: printed
//!  own (private):   lines we added, and the unfolded values of folded lines
//! ```

use bytes::Bytes;

use super::scan::{self, List};
use super::{HeaderFault, HeaderName};

/// Header lines of one message.
#[derive(Clone, Default)]
pub struct Headers {
    wire: Bytes,
    own: Vec<u8>,
    entries: Vec<Entry>,
    changed: bool,
}

/// One header line: ranges into the wire bytes or into our own.
#[derive(Debug, Clone, Copy)]
struct Entry {
    name: Option<HeaderName>,
    line_own: bool,
    value_own: bool,
    name_len: u16,
    line: (u32, u32),
    value: (u32, u32),
}

/// One header line, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name, when it is a known one.
    pub known: Option<HeaderName>,
    /// The name as it was written.
    pub name: &'a str,
    /// The value, unfolded and trimmed.
    pub value: &'a [u8],
    /// The whole line as it was written, with its CRLF.
    pub line: &'a [u8],
}

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn over(wire: Bytes) -> Self {
        Self { wire, own: Vec::new(), entries: Vec::with_capacity(24), changed: false }
    }

    /// Makes room for so many lines and bytes of our own.
    pub(crate) fn reserve(&mut self, lines: usize, bytes: usize) {
        self.entries.reserve(lines);
        self.own.reserve(bytes);
    }

    /// Adds a line of the wire; ranges must lie in it. `folded` values are unfolded into our own bytes.
    pub(super) fn push_wire(&mut self, line: (usize, usize), name_len: usize, value: (usize, usize), folded: bool) {
        let name = HeaderName::parse(&self.wire[line.0..line.0 + name_len]);
        let value = if folded {
            let start = self.own.len();
            unfold(&self.wire[value.0..value.1], &mut self.own);
            (start, self.own.len())
        } else {
            value
        };
        self.entries.push(Entry {
            name,
            line_own: false,
            value_own: folded,
            name_len: u16::try_from(name_len).unwrap_or(u16::MAX),
            line: range(line.0, line.1),
            value: range(value.0, value.1),
        });
    }

    fn bytes(&self, own: bool, at: (u32, u32)) -> &[u8] {
        let store: &[u8] = if own { &self.own } else { &self.wire };
        &store[at.0 as usize..at.1 as usize]
    }

    fn read(&self, entry: &Entry) -> Header<'_> {
        let line = self.bytes(entry.line_own, entry.line);
        let name = &line[..usize::from(entry.name_len).min(line.len())];
        Header {
            known: entry.name,
            name: std::str::from_utf8(name).unwrap_or_default(),
            value: self.bytes(entry.value_own, entry.value),
            line,
        }
    }

    /// Every header in order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'_>> {
        self.entries.iter().map(|e| self.read(e))
    }

    /// The known headers in order: name, value, and where the line starts in the bytes it came in.
    pub(super) fn known(&self) -> impl Iterator<Item = (HeaderName, &[u8], usize)> {
        self.entries.iter().filter_map(|e| Some((e.name?, self.bytes(e.value_own, e.value), e.line.0 as usize)))
    }

    /// How many header lines there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no header.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of the first header `name`.
    pub fn get(&self, name: HeaderName) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The value of the first header `name` as text; `None` when absent or not UTF-8.
    pub fn text(&self, name: HeaderName) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// The values of every header line `name`, in order.
    pub fn get_all(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().filter(move |e| e.name == Some(name)).map(|e| self.bytes(e.value_own, e.value))
    }

    /// The items of a comma-separated header over all its lines, in order; empty items are left out
    /// (RFC 3261 section 7.3.1).
    pub fn items(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        self.get_all(name).flat_map(List::new).filter(|item| !item.is_empty())
    }

    /// How many lines `name` has.
    pub fn count(&self, name: HeaderName) -> usize {
        self.entries.iter().filter(|e| e.name == Some(name)).count()
    }

    /// Whether a comma-separated token header (Supported, Require, Allow…) lists `token`, in any case.
    pub fn lists(&self, name: HeaderName, token: &str) -> bool {
        self.items(name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The value of the first header whose name is `name` in any case, known or not.
    pub fn get_named(&self, name: &str) -> Option<&[u8]> {
        self.get_all_named(name).next()
    }

    /// The values of every header whose name is `name` in any case, known or not.
    pub fn get_all_named(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let known = HeaderName::parse(name.as_bytes());
        self.iter()
            .filter(move |h| match known {
                Some(_) => h.known == known,
                None => h.name.eq_ignore_ascii_case(name),
            })
            .map(|h| h.value)
    }

    /// Appends a header.
    ///
    /// # Errors
    /// When `value` holds CR, LF, NUL or another control character: nothing that came from a peer can add a line.
    pub fn try_push(&mut self, name: HeaderName, value: impl AsRef<[u8]>) -> Result<(), HeaderFault> {
        let at = self.entries.len();
        self.write(at, name.as_str(), value.as_ref())
    }

    /// Appends a header by name, known or not. Fails as [`Headers::try_push`] does, and when `name` is no token.
    pub fn try_push_named(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HeaderFault> {
        let at = self.entries.len();
        self.write(at, name, value.as_ref())
    }

    /// Appends a header. Control characters in `value` (except tab) become spaces; use [`Headers::try_push`] for text
    /// whose loss would matter.
    pub fn push(&mut self, name: HeaderName, value: impl AsRef<[u8]>) {
        let at = self.entries.len();
        self.write_cleaned(at, name, value.as_ref());
    }

    /// Puts a header before all others: a new Via (RFC 3261 section 8.1.1.7). Cleans `value` as [`Headers::push`].
    pub fn push_front(&mut self, name: HeaderName, value: impl AsRef<[u8]>) {
        self.write_cleaned(0, name, value.as_ref());
    }

    /// Adds a token to a comma-separated header (Supported, Require, Allow…), on its line if there is one.
    pub fn push_token(&mut self, name: HeaderName, token: &str) {
        match self.text(name).map(|tokens| format!("{tokens}, {token}")) {
            Some(tokens) => self.replace_first(name, tokens),
            None => self.push(name, token),
        }
    }

    /// Sets a header to one value: replaces the first such line in its place and removes further ones, or appends.
    /// Cleans `value` as [`Headers::push`].
    pub fn set(&mut self, name: HeaderName, value: impl AsRef<[u8]>) {
        let place = self.entries.iter().position(|e| e.name == Some(name));
        self.remove(name);
        self.write_cleaned(place.unwrap_or(self.entries.len()), name, value.as_ref());
    }

    /// Replaces the value of the first line `name` and leaves further ones; nothing when there is none. Cleans `value`
    /// as [`Headers::push`].
    pub fn replace_first(&mut self, name: HeaderName, value: impl AsRef<[u8]>) {
        if let Some(at) = self.entries.iter().position(|e| e.name == Some(name)) {
            self.entries.remove(at);
            self.write_cleaned(at, name, value.as_ref());
        }
    }

    /// Removes every header `name`; says how many there were.
    pub fn remove(&mut self, name: HeaderName) -> usize {
        let before = self.entries.len();
        self.entries.retain(|e| e.name != Some(name));
        self.changed |= before != self.entries.len();
        before - self.entries.len()
    }

    /// Removes every header whose name is `name` in any case, known or not; says how many there were.
    pub fn remove_named(&mut self, name: &str) -> usize {
        if let Some(known) = HeaderName::parse(name.as_bytes()) {
            return self.remove(known);
        }
        let before = self.entries.len();
        let gone: Vec<bool> = self.iter().map(|h| h.name.eq_ignore_ascii_case(name)).collect();
        let mut gone = gone.into_iter();
        self.entries.retain(|_| !gone.next().unwrap_or(false));
        self.changed |= before != self.entries.len();
        before - self.entries.len()
    }

    /// Copies every line `name` of `from`, values as they are, to the end.
    pub fn copy_from(&mut self, from: &Headers, name: HeaderName) {
        for value in from.get_all(name) {
            self.write_raw(self.entries.len(), name.as_str(), value);
        }
    }

    fn write_cleaned(&mut self, at: usize, name: HeaderName, value: &[u8]) {
        if forbidden(value).is_none() {
            self.write_raw(at, name.as_str(), value);
        } else {
            let clean: Vec<u8> = value.iter().map(|b| if is_forbidden(*b) { b' ' } else { *b }).collect();
            self.write_raw(at, name.as_str(), &clean);
        }
    }

    fn write(&mut self, at: usize, name: &str, value: &[u8]) -> Result<(), HeaderFault> {
        if !scan::is_token(name.as_bytes()) {
            return Err(HeaderFault("header name is not a token"));
        }
        if forbidden(value).is_some() {
            return Err(HeaderFault("control character in a header value"));
        }
        self.write_raw(at, name, value);
        Ok(())
    }

    fn write_raw(&mut self, at: usize, name: &str, value: &[u8]) {
        let value = scan::trim(value);
        let start = self.own.len();
        self.own.extend_from_slice(name.as_bytes());
        self.own.extend_from_slice(b": ");
        let value_start = self.own.len();
        self.own.extend_from_slice(value);
        let value_end = self.own.len();
        self.own.extend_from_slice(b"\r\n");
        let entry = Entry {
            name: HeaderName::parse(name.as_bytes()),
            line_own: true,
            value_own: true,
            name_len: u16::try_from(name.len()).unwrap_or(u16::MAX),
            line: range(start, self.own.len()),
            value: range(value_start, value_end),
        };
        self.entries.insert(at, entry);
        self.changed = true;
    }

    /// Prints every line in order.
    pub fn print(&self, out: &mut Vec<u8>) {
        for entry in &self.entries {
            out.extend_from_slice(self.bytes(entry.line_own, entry.line));
        }
    }

    /// Prints every line but those of `name`.
    pub(super) fn print_without(&self, name: HeaderName, out: &mut Vec<u8>) {
        for entry in self.entries.iter().filter(|e| e.name != Some(name)) {
            out.extend_from_slice(self.bytes(entry.line_own, entry.line));
        }
    }

    /// Whether these headers were received and none has been added, changed or removed since.
    pub(super) fn is_untouched(&self) -> bool {
        !self.wire.is_empty() && !self.changed
    }

    /// Bytes [`Headers::print`] writes.
    pub fn printed_len(&self) -> usize {
        self.entries.iter().map(|e| (e.line.1 - e.line.0) as usize).sum()
    }
}

/// Where `value` holds a byte that may not stand in a header we write: CR, LF, NUL, other controls but tab.
pub fn forbidden(value: &[u8]) -> Option<usize> {
    value.iter().position(|b| is_forbidden(*b))
}

const fn is_forbidden(b: u8) -> bool {
    (b < 0x20 && b != b'\t') || b == 0x7f
}

fn range(start: usize, end: usize) -> (u32, u32) {
    (start as u32, end as u32)
}

/// Folding is one space (RFC 3261 section 7.3.1).
fn unfold(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = value;
    while let Some(at) = memchr::memchr(b'\r', rest) {
        // A quoted-pair may carry a control character, but never CR: every CR here is a fold.
        out.extend_from_slice(scan::trim_end(&rest[..at]));
        let mut next = at;
        while next < rest.len() && matches!(rest[next], b'\r' | b'\n' | b' ' | b'\t') {
            next += 1;
        }
        if out.len() > start && next < rest.len() {
            out.push(b' ');
        }
        rest = &rest[next..];
    }
    out.extend_from_slice(rest);
}

impl PartialEq for Headers {
    /// Same lines, byte for byte, in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|(a, b)| a.line == b.line && a.value == b.value)
    }
}

impl Eq for Headers {}

impl std::fmt::Debug for Headers {
    /// Names only: values may carry what no log should.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|h| h.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(headers: &Headers) -> String {
        let mut out = Vec::new();
        headers.print(&mut out);
        assert_eq!(out.len(), headers.printed_len());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn set_keeps_the_place_and_push_front_leads() {
        let mut headers = Headers::new();
        headers.push(HeaderName::Via, "one");
        headers.push(HeaderName::To, "a");
        headers.push(HeaderName::Via, "two");
        headers.set(HeaderName::To, "b");
        headers.push_front(HeaderName::Via, "zero");
        assert_eq!(printed(&headers), "Via: zero\r\nVia: one\r\nTo: b\r\nVia: two\r\n");
        headers.set(HeaderName::Via, "only");
        assert_eq!(printed(&headers), "Via: only\r\nTo: b\r\n");
    }

    #[test]
    fn no_value_can_add_a_line() {
        let mut headers = Headers::new();
        assert!(headers.try_push(HeaderName::Subject, "a\r\nInjected: b").is_err());
        assert!(headers.try_push_named("X-Y:", "a").is_err());
        headers.push(HeaderName::Subject, "a\r\nInjected: b\0");
        assert_eq!(printed(&headers), "Subject: a  Injected: b\r\n");
    }

    #[test]
    fn unknown_names_are_found_and_removed_in_any_case() {
        let mut headers = Headers::new();
        headers.try_push_named("X-Call-Ref", "7").expect("clean");
        assert_eq!(headers.get_named("x-call-ref"), Some(&b"7"[..]));
        assert_eq!(headers.remove_named("X-CALL-REF"), 1);
        assert!(headers.is_empty());
    }

    #[test]
    fn items_run_over_lines_and_commas() {
        let mut headers = Headers::new();
        headers.push(HeaderName::Supported, "timer, 100rel");
        headers.push(HeaderName::Supported, "");
        headers.push(HeaderName::Supported, "replaces");
        let items: Vec<_> = headers.items(HeaderName::Supported).collect();
        assert_eq!(items, [&b"timer"[..], b"100rel", b"replaces"]);
        assert!(headers.lists(HeaderName::Supported, "Replaces"));
    }
}
