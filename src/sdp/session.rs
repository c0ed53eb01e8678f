//! A session description as lines. Every line is kept in order with its exact value, known or not, so that printing
//! what was parsed gives the same lines back (with CRLF ends). Bodies as peers write them are taken: LF or CRLF, blank
//! lines, missing `o=`, `s=` or `t=`, blanks at line ends. What is no description is refused with the line number.
//! Nothing here judges whether the media is acceptable; that is [`super::negotiate`].

use super::attr::direction::Direction;
use super::connection::Connection;
use super::media_line::MediaLine;
use super::origin::Origin;

/// The most `m=` lines a description may have.
pub const MAX_SECTIONS: usize = 32;

/// A body that is not a session description; the peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("SDP line {line}: {reason}")]
pub struct SdpError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// One `k=value` line.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    kind: u8,
    value: Vec<u8>,
}

impl Line {
    /// A line of our own.
    pub fn new(kind: u8, value: impl Into<Vec<u8>>) -> Self {
        Self { kind, value: value.into() }
    }

    /// The letter before `=`.
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The exact bytes after `=`.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The value without blanks around it; `None` when it is not UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.value).ok().map(str::trim)
    }

    /// Whether the line holds a key of the media (RFC 4568, and `k=` of RFC 4566).
    fn is_secret(&self) -> bool {
        let start = self.value.trim_ascii_start();
        self.kind == b'k' || start.get(..6).is_some_and(|name| name.eq_ignore_ascii_case(b"crypto"))
    }

    fn print(&self, out: &mut Vec<u8>) {
        out.push(self.kind);
        out.push(b'=');
        out.extend_from_slice(&self.value);
        out.extend_from_slice(b"\r\n");
    }
}

impl std::fmt::Debug for Line {
    /// The line, without a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = if self.is_secret() { "(a key)".into() } else { String::from_utf8_lossy(&self.value) };
        write!(f, "{}={shown:?}", char::from(self.kind))
    }
}

/// One `m=` line and what follows it (RFC 8866 section 5.14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    line: Line,
    media: MediaLine,
    lines: Vec<Line>,
}

impl Section {
    /// A section of our own, without further lines.
    pub fn new(media: MediaLine) -> Self {
        Self { line: Line::new(b'm', media.to_string()), media, lines: Vec::new() }
    }

    /// The `m=` line.
    pub fn media(&self) -> &MediaLine {
        &self.media
    }

    /// The lines after the `m=` line.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Appends a line.
    pub fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// Values of the attribute `name` (`a=name` or `a=name:value`), in order.
    pub fn attributes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        attributes(&self.lines, name)
    }

    /// The first `c=` line of the section.
    pub fn connection(&self) -> Option<Result<Connection, &'static str>> {
        connection(&self.lines)
    }

    /// The last direction attribute of the section.
    pub fn direction(&self) -> Option<Direction> {
        direction(&self.lines)
    }
}

/// A session description.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    lines: Vec<Line>,
    sections: Vec<Section>,
}

impl Session {
    /// An empty description of our own: no line yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a description. Fails on what is not `k=value` lines beginning with `v=0`, on NUL, on an unreadable `m=`
    /// line and on more than [`MAX_SECTIONS`] of them.
    pub fn parse(body: &[u8]) -> Result<Self, SdpError> {
        let mut session = Session::new();
        let mut begun = false;
        for (index, raw) in body.split(|byte| *byte == b'\n').enumerate() {
            let wrong = |reason| SdpError { line: index + 1, reason };
            let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
            if raw.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if raw.contains(&0) || raw.contains(&b'\r') {
                return Err(wrong("NUL or bare CR in a line"));
            }
            let (kind, value) = match raw {
                [kind, b'=', value @ ..] if kind.is_ascii_alphabetic() => (*kind, value),
                _ => return Err(wrong("not of the form k=value")),
            };
            let line = Line::new(kind, value);
            if !begun {
                if kind != b'v' || line.text() != Some("0") {
                    return Err(wrong("a description begins with v=0"));
                }
                begun = true;
            }
            if kind == b'm' {
                if session.sections.len() == MAX_SECTIONS {
                    return Err(wrong("too many m= lines"));
                }
                let text = line.text().ok_or_else(|| wrong("m= line is not text"))?;
                let media = MediaLine::parse(text).map_err(wrong)?;
                session.sections.push(Section { line, media, lines: Vec::new() });
            } else {
                session.push(line);
            }
        }
        if begun { Ok(session) } else { Err(SdpError { line: 1, reason: "empty description" }) }
    }

    /// Appends a line: to the last section, or to the session level when there is none.
    pub fn push(&mut self, line: Line) {
        match self.sections.last_mut() {
            Some(section) => section.lines.push(line),
            None => self.lines.push(line),
        }
    }

    /// Appends a section.
    pub fn push_section(&mut self, section: Section) {
        self.sections.push(section);
    }

    /// Session-level lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The sections in order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The `o=` line, if there is a readable one.
    pub fn origin(&self) -> Option<Origin> {
        let line = self.lines.iter().find(|line| line.kind == b'o')?;
        Origin::parse(line.text()?)
    }

    /// Session-level values of the attribute `name`.
    pub fn attributes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        attributes(&self.lines, name)
    }

    /// The `c=` line that holds for `section`: its own, or the session's.
    pub fn connection_of(&self, section: &Section) -> Option<Result<Connection, &'static str>> {
        section.connection().or_else(|| connection(&self.lines))
    }

    /// The direction that holds for `section`: its own, or the session's, or `sendrecv` (RFC 8866 section 6.7).
    pub fn direction_of(&self, section: &Section) -> Direction {
        section.direction().or_else(|| direction(&self.lines)).unwrap_or_default()
    }

    /// The description in bytes, every line ended by CRLF.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        for line in &self.lines {
            line.print(&mut out);
        }
        for section in &self.sections {
            section.line.print(&mut out);
            for line in &section.lines {
                line.print(&mut out);
            }
        }
        out
    }
}

fn attributes<'a>(lines: &'a [Line], name: &'a str) -> impl Iterator<Item = &'a str> {
    lines.iter().filter(|line| line.kind == b'a').filter_map(move |line| {
        let text = line.text()?;
        let (found, value) = text.split_once(':').unwrap_or((text, ""));
        found.trim_end().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn connection(lines: &[Line]) -> Option<Result<Connection, &'static str>> {
    let line = lines.iter().find(|line| line.kind == b'c')?;
    Some(line.text().ok_or("c= line is not text").and_then(Connection::parse))
}

fn direction(lines: &[Line]) -> Option<Direction> {
    let attributes = lines.iter().rev().filter(|line| line.kind == b'a');
    attributes.filter_map(Line::text).find_map(Direction::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "v=0\r\no=- 99999999999999999999999 3 IN IP4 192.0.2.1\r\ns=\r\nc=IN IP4 192.0.2.1\r\n\
                        m=audio 4000 RTP/AVP 0\r\na=x-vendor: odd value \r\n";

    #[test]
    fn what_was_parsed_prints_as_it_was() {
        let session = Session::parse(BODY.as_bytes()).expect("a description");
        assert_eq!(String::from_utf8(session.to_bytes()).expect("text"), BODY);
        assert_eq!(session.origin().expect("origin").id, "99999999999999999999999");
    }

    #[test]
    fn lf_ends_and_blank_lines_are_taken() {
        let odd = BODY.replace("\r\n", "\n") + "\n \n\r\n";
        let session = Session::parse(odd.as_bytes()).expect("a description");
        assert_eq!(String::from_utf8(session.to_bytes()).expect("text"), BODY);
    }

    #[test]
    fn a_key_is_in_the_body_and_in_nothing_that_is_printed() {
        let body =
            format!("{BODY}a= CRYPTO:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\nk=clear:c2VjcmV0\r\na=ptime:20\r\n");
        let session = Session::parse(body.as_bytes()).expect("a description");
        assert_eq!(session.to_bytes(), body.as_bytes());
        let printed = format!("{session:?} {session:#?}");
        assert!(!printed.contains("c2Vj") && printed.contains("(a key)") && printed.contains("ptime"), "{printed}");
    }

    #[test]
    fn what_is_no_description_names_its_line() {
        for (body, line, reason) in [
            ("", 1, "empty"),
            ("\r\n\r\n", 1, "empty"),
            ("hello", 1, "k=value"),
            ("o=- 1 1 IN IP4 192.0.2.1", 1, "v=0"),
            ("v=1\r\n", 1, "v=0"),
            ("v=0\r\ns=-\r\nbroken\r\n", 3, "k=value"),
            ("v=0\r\ns=a\0b\r\n", 2, "NUL"),
            ("v=0\r\nm=audio\r\n", 2, "port"),
            ("v=0\r\nm=audio x RTP/AVP 0\r\n", 2, "port"),
            ("v=0\r\nm=audio 65536 RTP/AVP 0\r\n", 2, "port"),
        ] {
            let error = Session::parse(body.as_bytes()).expect_err(body);
            assert_eq!(error.line, line, "{body:?}");
            assert!(error.reason.contains(reason), "{body:?}: {error}");
        }
        let many = format!("v=0\r\n{}", "m=audio 4000 RTP/AVP 0\r\n".repeat(MAX_SECTIONS + 1));
        assert_eq!(Session::parse(many.as_bytes()).expect_err("too many").line, MAX_SECTIONS + 2);
    }
}
