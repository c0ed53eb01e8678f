//! Bytes to [`Message`]. One pass over the head finds the lines; a second look reads the headers every message must
//! have. The first fault decides the verdict; what could still be read is used to address the answer. Never repairs.
//!
//! ```text
//!  INVITE sip:bob@example.com SIP/2.0 CRLF      start line: single spaces
//!  Via: ... CRLF                                name, optional SP/HTAB, colon, value
//!   folded CRLF                                 SP/HTAB first: the value goes on
//!  CRLF                                         end of the head
//!  body                                         Content-Length bytes; on a datagram without it: the rest
//! ```

use bytes::Bytes;

use super::header::{self, CSeq, NameAddr, Via};
use super::{HeaderFault, HeaderName, Headers, Message, Method, ParseError, Request, Response, Uri, scan};

/// Reads one message out of a datagram, or out of a frame of a stream ([`super::Framer`]). Copies the bytes once.
///
/// # Errors
/// Blames the peer: malformed. [`ParseError::reply`] is what to answer.
pub fn parse_datagram(datagram: &[u8]) -> Result<Message, ParseError> {
    parse_bytes(Bytes::copy_from_slice(datagram))
}

/// [`parse_datagram`] without the copy: the message keeps `bytes` alive.
///
/// # Errors
/// Blames the peer: malformed. [`ParseError::reply`] is what to answer.
pub fn parse_bytes(bytes: Bytes) -> Result<Message, ParseError> {
    let mut fault = FirstFault::default();
    // RFC 3261 section 7.5: empty lines before the start line are ignored.
    let start = bytes.chunks_exact(2).take_while(|pair| pair == b"\r\n").count() * 2;
    let Some((line_end, next)) = line_end(&bytes, start, &mut fault) else {
        return Err(ParseError { status: 400, reason: "No start line", offset: start, reply: None });
    };
    let line = StartLine::parse(&bytes, start, line_end, &mut fault);
    let mut headers = Headers::over(bytes.clone());
    let body_at = read_headers(&bytes, next, &mut headers, &mut fault);
    let body = read_body(&bytes, body_at, &headers, &mut fault);
    check(&line, &headers, next, &mut fault);
    if let Some(fault) = fault.0 {
        return Err(refuse(fault, &line, &headers));
    }
    match line {
        StartLine::Request { method, uri } => {
            Ok(Message::Request(Request { method, raw_uri: bytes.slice(uri.0..uri.1), headers, body }))
        }
        StartLine::Response { status, reason } => {
            Ok(Message::Response(Response { status, reason: bytes.slice(reason.0..reason.1), headers, body }))
        }
        StartLine::Broken => Err(ParseError { status: 400, reason: "Bad start line", offset: start, reply: None }),
    }
}

/// The first fault found; later ones are ignored.
#[derive(Default)]
struct FirstFault(Option<Fault>);

struct Fault {
    status: u16,
    reason: &'static str,
    offset: usize,
}

impl FirstFault {
    fn bad(&mut self, reason: &'static str, offset: usize) {
        self.with(400, reason, offset);
    }

    fn with(&mut self, status: u16, reason: &'static str, offset: usize) {
        self.0.get_or_insert(Fault { status, reason, offset });
    }
}

/// The end of the line that starts at `from` (before its CRLF) and the start of the next. A bare LF ends the line too,
/// but is a fault, as is a CR that no LF follows. `None` when no line end is left.
fn line_end(bytes: &[u8], from: usize, fault: &mut FirstFault) -> Option<(usize, usize)> {
    let lf = from + memchr::memchr(b'\n', bytes.get(from..)?)?;
    let end = if lf > from && bytes[lf - 1] == b'\r' {
        lf - 1
    } else {
        fault.bad("Bare line feed", lf);
        lf
    };
    Some((end, lf + 1))
}

/// Control characters may not stand in a line: not CR, LF, NUL nor any other but tab. Only a quoted-pair may carry
/// them (RFC 3261 section 25.1), and never CR or LF; the CRLF of a fold is none.
fn control(line: &[u8]) -> Option<(usize, &'static str)> {
    // The common case first: no control character at all.
    if !scan::has_control(line) {
        return None;
    }
    let mut quoted = false;
    let mut at = 0;
    while at < line.len() {
        match line[at] {
            b'"' => quoted = !quoted,
            b'\\' if quoted && !matches!(line.get(at + 1), None | Some(b'\r' | b'\n')) => at += 1,
            b'\r' if line.get(at + 1) == Some(&b'\n') => at += 1,
            b'\r' => return Some((at, "Bare carriage return")),
            0 => return Some((at, "NUL character")),
            b if (b < 0x20 && b != b'\t') || b == 0x7f => return Some((at, "Control character")),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Reads header lines from `from`; returns where the body starts. Lines with a fault are not kept.
fn read_headers(bytes: &[u8], from: usize, headers: &mut Headers, fault: &mut FirstFault) -> usize {
    let mut at = from;
    loop {
        let Some((mut end, mut next)) = line_end(bytes, at, fault) else {
            fault.bad("Head has no end", bytes.len());
            return bytes.len();
        };
        if end == at {
            return next;
        }
        let mut folded = false;
        while matches!(bytes.get(next), Some(b' ' | b'\t')) {
            folded = true;
            match line_end(bytes, next, fault) {
                Some((e, n)) => (end, next) = (e, n),
                None => {
                    fault.bad("Head has no end", bytes.len());
                    return bytes.len();
                }
            }
        }
        let mut good = true;
        if let Some((offset, reason)) = control(&bytes[at..end]) {
            fault.bad(reason, at + offset);
            good = false;
        }
        let line = &bytes[at..end];
        match name_and_value(line) {
            Ok((name_len, value_at)) if good => {
                let value = scan::trim(&line[value_at..]);
                // `trim` stops at the CR of a fold; unfolding skips it.
                let value_start = end - scan::trim_start(&line[value_at..]).len();
                headers.push_wire((at, next), name_len, (value_start, value_start + value.len()), folded);
            }
            Ok(_) => {}
            Err(reason) => fault.bad(reason, at),
        }
        at = next;
    }
}

/// Length of the name, and where the value starts after the colon.
fn name_and_value(line: &[u8]) -> Result<(usize, usize), &'static str> {
    let colon = memchr::memchr(b':', line).ok_or("Header line without a colon")?;
    // RFC 3261 HCOLON: spaces and tabs may stand before the colon, nothing else, and no fold.
    let name = scan::trim_end(&line[..colon]);
    if !scan::is_token(name) {
        return Err("Header name is not a token");
    }
    Ok((name.len(), colon + 1))
}

/// The one Content-Length rule: none, or exactly one plain decimal number that fits what is there.
fn read_body(bytes: &Bytes, at: usize, headers: &Headers, fault: &mut FirstFault) -> Bytes {
    let rest = bytes.slice(at.min(bytes.len())..);
    let mut told = headers.get_all(HeaderName::ContentLength);
    let Some(value) = told.next() else { return rest };
    if told.next().is_some() {
        fault.bad("More than one Content-Length", at);
        return Bytes::new();
    }
    match header::content_length(value) {
        Ok(len) if len <= rest.len() => rest.slice(..len),
        Ok(_) => {
            fault.bad("Content-Length beyond the message", at);
            Bytes::new()
        }
        Err(header) => {
            fault.bad(header.0, at);
            Bytes::new()
        }
    }
}

/// The verdict on a message whose head came over a stream that cannot go on ([`super::FrameError`]), with the answer
/// to it where one can be built.
pub fn refuse_head(head: Bytes, status: u16, reason: &'static str) -> ParseError {
    let mut ignored = FirstFault::default();
    let mut headers = Headers::over(head.clone());
    let line = match line_end(&head, 0, &mut ignored) {
        Some((end, next)) => {
            let line = StartLine::parse(&head, 0, end, &mut ignored);
            read_headers(&head, next, &mut headers, &mut ignored);
            line
        }
        None => StartLine::Broken,
    };
    refuse(Fault { status, reason, offset: head.len() }, &line, &headers)
}

enum StartLine {
    Request { method: Method, uri: (usize, usize) },
    Response { status: u16, reason: (usize, usize) },
    Broken,
}

impl StartLine {
    fn parse(bytes: &[u8], start: usize, end: usize, fault: &mut FirstFault) -> StartLine {
        let line = &bytes[start..end];
        if let Some((offset, reason)) = line.iter().position(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f).map(|at| {
            (at, if line[at] == b'\r' { "Bare carriage return" } else { "Control character in the start line" })
        }) {
            fault.bad(reason, start + offset);
        }
        if line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"SIP/") {
            return Self::response(line, start, fault);
        }
        Self::request(line, start, fault)
    }

    fn response(line: &[u8], start: usize, fault: &mut FirstFault) -> StartLine {
        let Some(rest) = line.get(..8).filter(|v| v.eq_ignore_ascii_case(b"SIP/2.0 ")).map(|_| &line[8..]) else {
            fault.with(505, "Version not supported", start);
            return StartLine::Broken;
        };
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let status = scan::number(&rest[..digits]).filter(|s| digits == 3 && (100..700).contains(s));
        let (Some(status), true) = (status, matches!(rest.get(digits), Some(b' ') | None)) else {
            fault.bad("Bad status code", start + 8);
            return StartLine::Broken;
        };
        let reason = (start + 8 + digits + 1).min(start + line.len());
        StartLine::Response { status: status as u16, reason: (reason, start + line.len()) }
    }

    fn request(line: &[u8], start: usize, fault: &mut FirstFault) -> StartLine {
        let mut parts = line.splitn(3, |b| *b == b' ');
        let method = parts.next().and_then(Method::parse);
        let Some(method) = method else {
            fault.bad("Method is not a token", start);
            return StartLine::Broken;
        };
        let uri_at = start + method.as_str().len() + 1;
        let (Some(uri), Some(version)) = (parts.next(), parts.next()) else {
            fault.bad("Request line is incomplete", start);
            return StartLine::Request { method, uri: (start, start) };
        };
        let range = (uri_at, uri_at + uri.len());
        if uri.is_empty() {
            fault.bad("Extra space in the request line", uri_at);
        } else if let Err(reason) = Uri::parse_request_uri(uri) {
            fault.bad(reason.0, uri_at);
        }
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            let digits_and_dot = |b: &u8| b.is_ascii_digit() || *b == b'.';
            match version.get(..4) {
                Some(name)
                    if name.eq_ignore_ascii_case(b"SIP/")
                        && version.len() > 4
                        && version[4..].iter().all(digits_and_dot) =>
                {
                    fault.with(505, "Version not supported", range.1 + 1);
                }
                _ => fault.bad("Text after the Request-URI is not a SIP version", range.1 + 1),
            }
        }
        StartLine::Request { method, uri: range }
    }
}

/// What every message must have, well formed and once (RFC 3261 sections 8.1.1 and 20), in one pass over the headers.
fn check(line: &StartLine, headers: &Headers, at: usize, fault: &mut FirstFault) {
    use HeaderName::{CSeq as Seq, CallId, Contact, ContentType, From, MaxForwards, RecordRoute, Route, To};
    let mut once = [
        (From, false, "From is missing", "More than one From"),
        (To, false, "To is missing", "More than one To"),
        (CallId, false, "Call-ID is missing", "More than one Call-ID"),
        (Seq, false, "CSeq is missing", "More than one CSeq"),
        (MaxForwards, false, "", "More than one Max-Forwards"),
    ];
    let mut has_via = false;
    for (name, value, offset) in headers.known() {
        if let Some((_, seen, _, twice)) = once.iter_mut().find(|(one, ..)| *one == name)
            && std::mem::replace(seen, true)
        {
            fault.bad(twice, offset);
        }
        let verdict = match name {
            HeaderName::Via => {
                has_via = true;
                scan::List::new(value).try_for_each(|via| match Via::parse(via)?.version {
                    "2.0" => Ok(()),
                    _ => Err(HeaderFault("Via of another version")),
                })
            }
            From | To => NameAddr::parse(value).map(|_| ()),
            Contact if value == b"*" => Ok(()),
            Contact => scan::List::new(value).try_for_each(|item| NameAddr::parse(item).map(|_| ())),
            Route | RecordRoute => scan::List::new(value).try_for_each(|item| match NameAddr::parse(item)?.bracketed {
                true => Ok(()),
                false => Err(HeaderFault("Route without angle brackets")),
            }),
            CallId if header::is_call_id(value) => Ok(()),
            CallId => Err(HeaderFault("Call-ID is not a word")),
            MaxForwards => header::max_forwards(value).map(|_| ()),
            Seq => match (CSeq::parse(value), line) {
                (Ok(cseq), StartLine::Request { method, .. }) if cseq.method != method.as_str() => {
                    Err(HeaderFault("CSeq names another method"))
                }
                (cseq, _) => cseq.map(|_| ()),
            },
            ContentType => header::ContentType::parse(value).map(|_| ()),
            _ => Ok(()),
        };
        if let Err(header) = verdict {
            fault.bad(header.0, offset);
        }
    }
    for (name, seen, missing, _) in once {
        if !seen && name != MaxForwards {
            fault.bad(missing, at);
        }
    }
    if !has_via {
        fault.bad("Via is missing", at);
    }
}

#[cold]
fn refuse(fault: Fault, line: &StartLine, headers: &Headers) -> ParseError {
    let reply = match line {
        StartLine::Request { method, .. } if *method != Method::Ack => reply(&fault, headers),
        _ => None,
    };
    ParseError { status: fault.status, reason: fault.reason, offset: fault.offset, reply }
}

/// The answer to a request that was refused: whatever could be read of the headers an answer copies.
fn reply(fault: &Fault, headers: &Headers) -> Option<Box<Response>> {
    // The answer goes to the packet's source whatever Via says, so a Via that is itself malformed is no hindrance.
    headers.get(HeaderName::Via)?;
    let mut response = Response::new(fault.status, fault.reason);
    for via in headers.get_all(HeaderName::Via) {
        response.headers.push(HeaderName::Via, via);
    }
    for name in [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq] {
        if let Some(value) = headers.get(name) {
            response.headers.push(name, value);
        }
    }
    Some(Box::new(response))
}
