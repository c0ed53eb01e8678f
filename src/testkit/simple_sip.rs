//! SIP messages as a plain telephone reads and writes them. Its own few lines and not `sip::msg`, so that what Tonewall
//! writes is read by a second implementation. Bytes go in and come out; it knows no transactions.

use std::fmt::Write;

/// A SIP message: start line, headers in order, body.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Request or status line.
    pub start: String,
    /// Header names and values, in order.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// Compact header names a telephone may meet (RFC 3261 section 7.3.3).
const COMPACT: [(&str, &str); 8] = [
    ("v", "via"),
    ("f", "from"),
    ("t", "to"),
    ("i", "call-id"),
    ("m", "contact"),
    ("c", "content-type"),
    ("l", "content-length"),
    ("k", "supported"),
];

impl Message {
    /// A message without headers.
    pub fn new(start: impl Into<String>) -> Self {
        Self { start: start.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// Reads a datagram; `None` when it is not a SIP message.
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.split("\r\n");
        let mut message = Message::new(lines.next()?);
        if !message.start.starts_with("SIP/2.0 ") && !message.start.ends_with(" SIP/2.0") {
            return None;
        }
        for line in lines {
            if line.starts_with([' ', '\t']) {
                message.headers.last_mut()?.1.push_str(line);
                continue;
            }
            let (name, value) = line.split_once(':')?;
            message.headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        let body = &bytes[end + 4..];
        let length = message.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(body.len());
        message.body = body.get(..length)?.to_vec();
        Some(message)
    }

    /// Adds a header at the end.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body and its type.
    #[must_use]
    pub fn with_body(self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut message = self.with("Content-Type", content_type);
        message.body = body.into();
        message
    }

    /// Every value of a header, whatever its case or compact form, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.headers.iter().filter(move |(n, _)| same_name(n, name)).map(|(_, value)| value.as_str())
    }

    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| same_name(n, name)).map(|(_, value)| value.as_str())
    }

    /// Status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Method of a request; `None` for a response.
    pub fn method(&self) -> Option<&str> {
        if self.start.starts_with("SIP/2.0 ") { None } else { self.start.split(' ').next() }
    }

    /// CSeq number and method.
    pub fn cseq(&self) -> Option<(u32, &str)> {
        let (number, method) = self.get("cseq")?.split_once(' ')?;
        Some((number.parse().ok()?, method.trim()))
    }

    /// Branch of the topmost Via.
    pub fn branch(&self) -> Option<&str> {
        param(self.get("via")?, "branch")
    }

    /// The bytes to send.
    pub fn print(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n", self.body.len());
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

fn same_name(written: &str, wanted: &str) -> bool {
    let full = COMPACT.iter().find(|(c, _)| written.eq_ignore_ascii_case(c)).map_or(written, |(_, full)| full);
    full.eq_ignore_ascii_case(wanted)
}

/// The value of a `;name=value` parameter.
pub fn param<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    value
        .split(';')
        .skip(1)
        .find_map(|p| p.split_once('=').filter(|(n, _)| n.trim().eq_ignore_ascii_case(name)))
        .map(|(_, v)| v.trim())
}

/// The URI of a name-addr or addr-spec value, without its parameters outside `<>`.
pub fn uri(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest),
        None => value.split(';').next().unwrap_or(value).trim(),
    }
}

/// The tag of a From or To value.
pub fn tag(value: &str) -> Option<&str> {
    param(value.rsplit_once('>').map_or(value, |(_, after)| after), "tag")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let message = Message::new("INVITE sip:1@x SIP/2.0")
            .with("Via", "SIP/2.0/UDP x;branch=z9hG4bK1")
            .with("f", "\"A\" <sip:a@x;user=phone>;tag=7")
            .with("CSeq", "3 INVITE")
            .with_body("application/sdp", "v=0\r\n");
        let again = Message::parse(&message.print()).unwrap();
        assert_eq!(again.body, b"v=0\r\n");
        assert_eq!(again.branch(), Some("z9hG4bK1"));
        assert_eq!(again.get("From").and_then(tag), Some("7"));
        assert_eq!(again.get("From").map(uri), Some("sip:a@x;user=phone"));
        assert_eq!(again.cseq(), Some((3, "INVITE")));
        assert_eq!((again.method(), again.status()), (Some("INVITE"), None));
    }

    #[test]
    fn every_truncation_is_survived() {
        let bytes = Message::new("SIP/2.0 200 OK").with("Via", "x").print();
        for end in 0..bytes.len() {
            let _ = Message::parse(&bytes[..end]);
        }
        assert_eq!(Message::parse(&bytes).and_then(|m| m.status()), Some(200));
    }
}
