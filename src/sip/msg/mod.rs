//! SIP messages, lossless: parsed into ranges over the received bytes, printed back byte for byte unless changed.
//! Unknown headers, folding, compact forms, odd bytes and bodies are kept. A message that is malformed in a way that
//! could be read differently by the next hop is refused with its verdict ([`ParseError`]), never repaired.

mod error;
mod framer;
pub mod header;
mod headers;
mod method;
mod name;
mod parse;
pub mod scan;
pub mod status;
pub mod uri;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use error::{HeaderFault, ParseError};
pub use framer::{Frame, FrameError, Framer, MAX_MESSAGE};
pub use headers::{Header, Headers};
pub use method::Method;
pub use name::HeaderName;
pub use parse::{parse_bytes, parse_datagram, refuse_head};
pub use uri::Uri;

use header::{CSeq, NameAddr, Via};

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

/// A request (RFC 3261 section 7.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// The Request-URI as it stands on the wire; [`Request::uri`] reads it.
    pub raw_uri: Bytes,
    /// Headers.
    pub headers: Headers,
    /// Body; Content-Length follows it when printed.
    pub body: Bytes,
}

/// A response (RFC 3261 section 7.2).
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code, 100–699.
    pub status: u16,
    /// Reason phrase, as it came; any bytes but controls.
    pub reason: Bytes,
    /// Headers.
    pub headers: Headers,
    /// Body; Content-Length follows it when printed.
    pub body: Bytes,
}

impl Message {
    /// The headers.
    pub fn headers(&self) -> &Headers {
        match self {
            Message::Request(m) => &m.headers,
            Message::Response(m) => &m.headers,
        }
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        match self {
            Message::Request(m) => &m.body,
            Message::Response(m) => &m.body,
        }
    }

    /// The message's bytes: equal to what was parsed when nothing was changed.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Message::Request(m) => m.to_bytes(),
            Message::Response(m) => m.to_bytes(),
        }
    }
}

impl Request {
    /// A request with no header and no body. `uri` must hold neither space nor control character: one that does is
    /// percent-escaped.
    pub fn new(method: Method, uri: impl AsRef<[u8]>) -> Self {
        Self { method, raw_uri: uri::escape_controls(uri.as_ref()), headers: Headers::new(), body: Bytes::new() }
    }

    /// The Request-URI, read.
    pub fn uri(&self) -> Uri<'_> {
        Uri::parse(&self.raw_uri)
            .unwrap_or(Uri::Other { scheme: "", rest: std::str::from_utf8(&self.raw_uri).unwrap_or_default() })
    }

    /// Sets the body and its Content-Type; Content-Length follows when printed.
    pub fn set_body(&mut self, content_type: &str, body: impl Into<Bytes>) {
        self.body = body.into();
        set_type(&mut self.headers, content_type, &self.body);
    }

    /// The request's bytes, with a Content-Length that is true.
    pub fn to_bytes(&self) -> Bytes {
        let mut out =
            Vec::with_capacity(self.raw_uri.len() + self.headers.printed_len() + self.body.len() + START_AND_LENGTH);
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(&self.raw_uri);
        out.extend_from_slice(b" SIP/2.0\r\n");
        print_rest(&self.headers, &self.body, &mut out);
        out.into()
    }
}

impl Response {
    /// A response with no header. The empty `reason` becomes the standard phrase of the status.
    pub fn new(status: u16, reason: &str) -> Self {
        let reason = if reason.is_empty() {
            Bytes::from_static(status::phrase(status).as_bytes())
        } else {
            Bytes::from(reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>())
        };
        Self { status, reason, headers: Headers::new(), body: Bytes::new() }
    }

    /// A response to `request`: Via, From, To, Call-ID and CSeq copied (RFC 3261 section 8.2.6.2), Record-Route too
    /// for dialog-making answers (section 12.1.1). The To tag is not added: [`Response::set_to_tag`].
    pub fn for_request(request: &Request, status: u16, reason: &str) -> Self {
        let mut response = Self::new(status, reason);
        response.headers.reserve(12, 768);
        for name in [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq] {
            response.headers.copy_from(&request.headers, name);
        }
        if status == 100 {
            response.headers.copy_from(&request.headers, HeaderName::Timestamp);
        } else if status < 300 {
            response.headers.copy_from(&request.headers, HeaderName::RecordRoute);
        }
        response
    }

    /// The 420 to a request that requires an extension not in `supported` (RFC 3261 section 8.2.2.3); `None` when all
    /// it requires is there. ACK and CANCEL are never refused so.
    pub fn bad_extension(request: &Request, supported: &[String]) -> Option<Response> {
        if matches!(request.method, Method::Ack | Method::Cancel) {
            return None;
        }
        let unknown: Vec<&[u8]> = request
            .headers
            .items(HeaderName::Require)
            .filter(|tag| !supported.iter().any(|s| s.as_bytes().eq_ignore_ascii_case(tag)))
            .collect();
        if unknown.is_empty() {
            return None;
        }
        let mut response = Response::for_request(request, 420, "");
        response.headers.push(HeaderName::Unsupported, unknown.join(&b", "[..]));
        Some(response)
    }

    /// Adds a tag to To unless it has one.
    pub fn set_to_tag(&mut self, tag: &str) {
        let Some(to) = self.headers.get(HeaderName::To) else { return };
        if NameAddr::tag_of(to).is_none() && NameAddr::parse(to).is_ok() {
            let mut value = Vec::with_capacity(to.len() + 5 + tag.len());
            value.extend_from_slice(to);
            value.extend_from_slice(b";tag=");
            value.extend_from_slice(tag.as_bytes());
            self.headers.set(HeaderName::To, value);
        }
    }

    /// Sets the body and its Content-Type; Content-Length follows when printed.
    pub fn set_body(&mut self, content_type: &str, body: impl Into<Bytes>) {
        self.body = body.into();
        set_type(&mut self.headers, content_type, &self.body);
    }

    /// The reason phrase as text, odd bytes replaced.
    pub fn reason_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.reason)
    }

    /// Status class: 1 for 1xx … 6 for 6xx.
    pub fn class(&self) -> u16 {
        self.status / 100
    }

    /// Whether this ends its transaction: 200 and above.
    pub fn is_final(&self) -> bool {
        self.status >= 200
    }

    /// The response's bytes, with a Content-Length that is true.
    pub fn to_bytes(&self) -> Bytes {
        let mut out =
            Vec::with_capacity(self.reason.len() + self.headers.printed_len() + self.body.len() + START_AND_LENGTH);
        out.extend_from_slice(b"SIP/2.0 ");
        push_number(&mut out, usize::from(self.status));
        out.push(b' ');
        out.extend_from_slice(&self.reason);
        out.extend_from_slice(b"\r\n");
        print_rest(&self.headers, &self.body, &mut out);
        out.into()
    }
}

/// Room for the start line's fixed parts and a Content-Length line.
const START_AND_LENGTH: usize = 64;

macro_rules! accessors {
    ($($message:ident),+) => {$(
        /// Typed headers.
        impl $message {
            /// The topmost Via.
            pub fn via(&self) -> Result<Via<'_>, HeaderFault> {
                let first = self.headers.items(HeaderName::Via).next();
                Via::parse(first.ok_or(HeaderFault("no Via"))?)
            }

            /// From.
            pub fn from(&self) -> Result<NameAddr<'_>, HeaderFault> {
                NameAddr::parse(self.headers.get(HeaderName::From).ok_or(HeaderFault("no From"))?)
            }

            /// To.
            pub fn to(&self) -> Result<NameAddr<'_>, HeaderFault> {
                NameAddr::parse(self.headers.get(HeaderName::To).ok_or(HeaderFault("no To"))?)
            }

            /// The first Contact; `None` when absent or `*`.
            pub fn contact(&self) -> Option<NameAddr<'_>> {
                NameAddr::parse(self.headers.items(HeaderName::Contact).next()?).ok()
            }

            /// CSeq.
            pub fn cseq(&self) -> Result<CSeq<'_>, HeaderFault> {
                CSeq::parse(self.headers.get(HeaderName::CSeq).ok_or(HeaderFault("no CSeq"))?)
            }

            /// Call-ID.
            pub fn call_id(&self) -> Option<&str> {
                self.headers.text(HeaderName::CallId)
            }

            /// Max-Forwards, if present and a number.
            pub fn max_forwards(&self) -> Option<u8> {
                header::max_forwards(self.headers.get(HeaderName::MaxForwards)?).ok()
            }

            /// Content-Type.
            pub fn content_type(&self) -> Option<header::ContentType<'_>> {
                header::ContentType::parse(self.headers.get(HeaderName::ContentType)?).ok()
            }

            /// The tag of From.
            pub fn from_tag(&self) -> Option<&str> {
                NameAddr::tag_of(self.headers.get(HeaderName::From)?)
            }

            /// The tag of To.
            pub fn to_tag(&self) -> Option<&str> {
                NameAddr::tag_of(self.headers.get(HeaderName::To)?)
            }
        }

        impl std::fmt::Debug for $message {
            /// Start line and header names only: values and bodies may carry digits.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.debug_start(f)?;
                write!(f, " {:?} body {} bytes", self.headers, self.body.len())
            }
        }
    )+};
}

accessors!(Request, Response);

impl Request {
    fn debug_start(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.method)
    }
}

impl Response {
    fn debug_start(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)
    }
}

fn push_number(out: &mut Vec<u8>, mut number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn set_type(headers: &mut Headers, content_type: &str, body: &Bytes) {
    if body.is_empty() {
        headers.remove(HeaderName::ContentType);
    } else {
        headers.set(HeaderName::ContentType, content_type);
    }
}

/// Headers, a true Content-Length, the empty line, the body. A Content-Length line that is already true is left as it
/// was written; a missing one stays missing only in a message received without it whose headers were not touched.
fn print_rest(headers: &Headers, body: &Bytes, out: &mut Vec<u8>) {
    let told = headers.get(HeaderName::ContentLength);
    let is_true = told.is_some_and(|value| header::content_length(value) == Ok(body.len()));
    if is_true || (told.is_none() && headers.is_untouched()) {
        headers.print(out);
    } else {
        headers.print_without(HeaderName::ContentLength, out);
        out.extend_from_slice(b"Content-Length: ");
        push_number(out, body.len());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}
