//! Looks values up in a JSON text by pointer (RFC 6901), in place: an answer that repeats a card number is not copied about.
//! Malformed text gives nothing, never a panic.

use zeroize::Zeroizing;

/// Objects and lists nested deeper than this are not read.
const DEEPEST: usize = 64;

/// The text of the value at `pointer`: a string without its quotes, or a number, `true` or `false` as it stands. Objects,
/// lists, `null`, what is not there and what is no JSON give `None`.
pub(super) fn text(bytes: &[u8], pointer: &str) -> Option<Zeroizing<String>> {
    let raw = find(bytes, pointer)?;
    match raw.first()? {
        b'"' => string(raw),
        b'{' | b'[' | b'n' => None,
        _ => Some(Zeroizing::new(String::from_utf8(raw.to_vec()).ok()?)),
    }
}

/// Whether anything but `null` stands at `pointer`.
pub(super) fn is_there(bytes: &[u8], pointer: &str) -> bool {
    find(bytes, pointer).is_some_and(|raw| raw != b"null")
}

/// The raw value at `pointer`.
fn find<'a>(bytes: &'a [u8], pointer: &str) -> Option<&'a [u8]> {
    let mut at = Cursor { bytes, at: 0 };
    for word in pointer.strip_prefix('/')?.split('/') {
        let word = word.replace("~1", "/").replace("~0", "~");
        at.space();
        match at.peek()? {
            b'{' => at.member(&word)?,
            b'[' => at.item(word.parse().ok()?)?,
            _ => return None,
        }
    }
    at.space();
    let start = at.at;
    at.skip(0)?;
    bytes.get(start..at.at)
}

/// A string's text, its escapes resolved.
fn string(raw: &[u8]) -> Option<Zeroizing<String>> {
    let inner = raw.get(1..raw.len().checked_sub(1)?)?;
    let mut out = Zeroizing::new(Vec::with_capacity(inner.len()));
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next()? {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let mut unit = || {
                    let mut code = 0u32;
                    for _ in 0..4 {
                        code = code * 16 + char::from(bytes.next()?).to_digit(16)?;
                    }
                    Some(code)
                };
                let code = unit()?;
                let whole = if (0xD800..0xDC00).contains(&code) {
                    // The second half of a pair, `\uXXXX`.
                    if bytes.next()? != b'\\' || bytes.next()? != b'u' {
                        return None;
                    }
                    let mut low = 0u32;
                    for _ in 0..4 {
                        low = low * 16 + char::from(bytes.next()?).to_digit(16)?;
                    }
                    0x10000 + ((code - 0xD800) << 10) + low.checked_sub(0xDC00)?
                } else {
                    code
                };
                let mut buffer = [0; 4];
                out.extend_from_slice(char::from_u32(whole)?.encode_utf8(&mut buffer).as_bytes());
            }
            other => out.push(other),
        }
    }
    std::str::from_utf8(&out).ok().map(|text| Zeroizing::new(text.to_owned()))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.space();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Stands at an object: goes to the value of a member.
    fn member(&mut self, name: &str) -> Option<()> {
        self.take(b'{')?;
        loop {
            self.space();
            let start = self.at;
            self.quoted()?;
            let found = string(&self.bytes[start..self.at])?;
            self.take(b':')?;
            if *found == name {
                return Some(());
            }
            self.skip(0)?;
            self.take(b',')?;
        }
    }

    /// Stands at a list: goes to an item.
    fn item(&mut self, index: usize) -> Option<()> {
        self.take(b'[')?;
        for _ in 0..index {
            self.skip(0)?;
            self.take(b',')?;
        }
        self.space();
        (self.peek()? != b']').then_some(())
    }

    /// Passes a string.
    fn quoted(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    /// Passes a value.
    fn skip(&mut self, depth: usize) -> Option<()> {
        self.space();
        let first = self.peek()?;
        match first {
            b'"' => self.quoted(),
            b'{' | b'[' => {
                if depth == DEEPEST {
                    return None;
                }
                let close = if first == b'{' { b'}' } else { b']' };
                self.at += 1;
                self.space();
                if self.peek()? == close {
                    self.at += 1;
                    return Some(());
                }
                loop {
                    if first == b'{' {
                        self.quoted()?;
                        self.take(b':')?;
                    }
                    self.skip(depth + 1)?;
                    self.space();
                    match self.peek()? {
                        b',' => self.at += 1,
                        byte if byte == close => break,
                        _ => return None,
                    }
                }
                self.at += 1;
                Some(())
            }
            _ => {
                let start = self.at;
                while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
                    self.at += 1;
                }
                (self.at > start).then_some(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text_of: &str, pointer: &str) -> Option<String> {
        text(text_of.as_bytes(), pointer).map(|text| text.to_string())
    }

    #[test]
    fn values_are_found_by_pointer() {
        let json = r#" {"a": {"b": [1, {"c": "x\"\u00e9\ud83d\ude00y"}, true]}, "e/f": "g", "n": null} "#;
        assert_eq!(at(json, "/a/b/0").as_deref(), Some("1"));
        assert_eq!(at(json, "/a/b/1/c").as_deref(), Some("x\"é😀y"));
        assert_eq!(at(json, "/a/b/2").as_deref(), Some("true"));
        assert_eq!(at(json, "/e~1f").as_deref(), Some("g"));
        assert_eq!(at(json, "/a"), None);
        assert_eq!(at(json, "/a/b/3"), None);
        assert!(is_there(json.as_bytes(), "/a/b") && !is_there(json.as_bytes(), "/n"));
    }

    #[test]
    fn what_is_no_json_gives_nothing() {
        let whole = r#"{"a": [{"b": "\u00e9"}], "c": 1}"#;
        for end in 0..whole.len() {
            let _ = at(&whole[..end], "/c");
            let _ = at(&whole[..end], "/a/0/b");
        }
        assert_eq!(at("", "/a"), None);
        assert_eq!(at("<html>", "/a"), None);
        assert_eq!(at(&"[".repeat(100_000), "/0/0"), None);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_another_reader_finds(json in any_json(), pointer in "(/([a-c]|[0-2])){1,4}") {
            let wanted = json.pointer(&pointer).and_then(|value| match value {
                serde_json::Value::String(text) => Some(text.clone()),
                serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
                other => Some(other.to_string()),
            });
            prop_assert_eq!(at(&json.to_string(), &pointer), wanted);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), pointer in "(/[a-c0-9]){0,3}") {
            let _ = text(&bytes, &pointer);
        }
    }
}
