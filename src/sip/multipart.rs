//! Bodies of several parts (RFC 2046 section 5.1, in SIP by RFC 5621). A Content-Type and a body go in, the parts come
//! out in order, nested ones in place; nothing is decoded or copied. What stands before the first boundary and after the
//! last is left out. A body that breaks off before its closing boundary is an error: half a body is not acted upon.
//!
//! ```text
//!  preamble CRLF --boundary LWS CRLF headers CRLF CRLF content CRLF --boundary … CRLF --boundary-- epilogue
//! ```

use smallvec::SmallVec;

use super::msg::header::ContentType;
use super::msg::scan;

/// Most parts read from one body, nested ones included.
pub const MAX_PARTS: usize = 16;
/// How deep multiparts may stand within one another.
const MAX_DEPTH: usize = 3;
/// Longest boundary (RFC 2046 section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// Why a body of several parts cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The Content-Type has no `boundary`, or one that no boundary may be.
    #[error("multipart without a boundary")]
    Boundary,
    /// The body ends before its closing boundary, or has none.
    #[error("multipart without its closing boundary")]
    Open,
    /// A part's header is no header.
    #[error("malformed header of a body part")]
    Header,
    /// More than [`MAX_PARTS`], or multiparts too deep within one another.
    #[error("too many body parts")]
    TooMany,
}

/// One part of a body.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Its Content-Type; `text/plain` where it has none (RFC 2046 section 5.2).
    pub kind: ContentType<'a>,
    /// Its Content-Disposition, as written.
    pub disposition: Option<&'a [u8]>,
    /// Its Content-Transfer-Encoding, as written.
    pub encoding: Option<&'a [u8]>,
    /// Its content, undecoded.
    pub content: &'a [u8],
}

impl Part<'_> {
    /// Whether the sender demands that this part is understood: `handling=required` is written (RFC 5621 section 8.3;
    /// what says nothing is common and means nothing).
    pub fn is_required(&self) -> bool {
        let params = self.disposition.and_then(|value| {
            let start = value.iter().position(|byte| *byte == b';')?;
            scan::Params::parse(&value[start..]).ok()
        });
        params.and_then(|params| params.text("handling")).is_some_and(|value| value.eq_ignore_ascii_case("required"))
    }

    /// Whether the content is there as it is meant, without an encoding to undo.
    pub fn is_plain(&self) -> bool {
        let as_is = |encoding: &[u8]| {
            [&b"binary"[..], b"8bit", b"7bit"].iter().any(|plain| scan::trim(encoding).eq_ignore_ascii_case(plain))
        };
        self.encoding.is_none_or(as_is)
    }
}

/// Reads the parts of `body`, whose type is `kind`; nested multiparts are opened.
///
/// # Errors
/// When the boundary is missing, the body breaks off, a part's header is malformed, or there are too many.
pub fn parts<'a>(kind: &ContentType<'a>, body: &'a [u8]) -> Result<SmallVec<[Part<'a>; 4]>, MultipartError> {
    let mut found = SmallVec::new();
    read(kind, body, 1, &mut found)?;
    Ok(found)
}

fn read<'a>(
    kind: &ContentType<'a>,
    body: &'a [u8],
    depth: usize,
    found: &mut SmallVec<[Part<'a>; 4]>,
) -> Result<(), MultipartError> {
    if depth > MAX_DEPTH {
        return Err(MultipartError::TooMany);
    }
    let boundary = boundary(kind)?;
    let (mut at, mut last) =
        next(body, 0, boundary).map(|found| (found.after, found.last)).ok_or(MultipartError::Open)?;
    while !last {
        let end = next(body, at, boundary).ok_or(MultipartError::Open)?;
        let part = part(&body[at..end.before.max(at)])?;
        if part.kind.kind.eq_ignore_ascii_case("multipart") {
            read(&part.kind, part.content, depth + 1, found)?;
        } else if found.len() == MAX_PARTS {
            return Err(MultipartError::TooMany);
        } else {
            found.push(part);
        }
        (at, last) = (end.after, end.last);
    }
    Ok(())
}

fn boundary<'a>(kind: &ContentType<'a>) -> Result<&'a [u8], MultipartError> {
    let value = kind.params.text("boundary").ok_or(MultipartError::Boundary)?.as_bytes();
    let bare = match value {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    };
    let good = !bare.is_empty() && bare.len() <= MAX_BOUNDARY && !scan::has_control(bare) && !bare.contains(&b'\\');
    if good { Ok(bare) } else { Err(MultipartError::Boundary) }
}

/// A boundary in a body.
struct Line {
    /// End of what stands before it, without the line break that belongs to the boundary.
    before: usize,
    /// Where the next part begins.
    after: usize,
    /// It closes the body.
    last: bool,
}

/// The first boundary line at or after `from`, which is the start of a line.
fn next(body: &[u8], from: usize, boundary: &[u8]) -> Option<Line> {
    let mut start = from;
    loop {
        let line = &body[start..];
        if let Some(rest) = line.strip_prefix(b"--").and_then(|rest| rest.strip_prefix(boundary)) {
            let (rest, last) = rest.strip_prefix(b"--").map_or((rest, false), |rest| (rest, true));
            let ends = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(rest.len());
            let tail = &rest[ends..];
            // The closing boundary may be the last octets of all.
            let whole = tail.starts_with(b"\r\n") || (last && tail.is_empty());
            if whole {
                let after = body.len() - tail.len() + tail.len().min(2);
                let before = if start >= from + 2 { start - 2 } else { start };
                return Some(Line { before, after, last });
            }
        }
        start += memchr::memmem::find(line, b"\r\n")? + 2;
    }
}

fn part(bytes: &[u8]) -> Result<Part<'_>, MultipartError> {
    let mut part = Part {
        kind: ContentType::parse(b"text/plain").map_err(|_| MultipartError::Header)?,
        disposition: None,
        encoding: None,
        content: &[],
    };
    let mut rest = bytes;
    loop {
        // No headers at all: the part begins with the empty line.
        let end = memchr::memmem::find(rest, b"\r\n").ok_or(MultipartError::Header)?;
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        if line.is_empty() {
            part.content = after;
            return Ok(part);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(MultipartError::Header)?;
        let (name, value) = (scan::trim_end(&line[..colon]), scan::trim(&line[colon + 1..]));
        if !scan::is_token(name) || scan::has_control(value) {
            return Err(MultipartError::Header);
        }
        if name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"c") {
            part.kind = ContentType::parse(value).map_err(|_| MultipartError::Header)?;
        } else if name.eq_ignore_ascii_case(b"content-disposition") {
            part.disposition = Some(value);
        } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            part.encoding = Some(value);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> ContentType<'_> {
        ContentType::parse(text.as_bytes()).expect("a Content-Type")
    }

    const MIXED: &str = "multipart/mixed;boundary=\"simple edge\"";

    #[test]
    fn parts_come_in_order_without_preamble_and_epilogue() {
        let body = b"ignored\r\n--simple edge \r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n\
            --simple edge\r\n\r\nplain\r\n--simple edge--\r\nignored";
        let found = parts(&kind(MIXED), body).expect("parts");
        assert_eq!(found.len(), 2);
        assert!(found[0].kind.is("application", "sdp"));
        assert_eq!(found[0].content, b"v=0\r\n");
        assert!(found[1].kind.is("text", "plain"));
        assert_eq!(found[1].content, b"plain");
    }

    #[test]
    fn a_nested_multipart_gives_its_parts_in_place() {
        let body = b"--o\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\nc: a/b\r\n\r\n1\r\n\
            --i\r\nc: a/c\r\n\r\n2\r\n--i--\r\n--o\r\nc: a/d\r\n\r\n3\r\n--o--";
        let found = parts(&kind("multipart/mixed;boundary=o"), body).expect("parts");
        let contents: Vec<&[u8]> = found.iter().map(|part| part.content).collect();
        assert_eq!(contents, [b"1", b"2", b"3"]);
    }

    #[test]
    fn what_breaks_off_is_not_acted_upon() {
        let whole = b"--simple edge\r\nc: a/b\r\n\r\nx\r\n--simple edge--";
        assert!(parts(&kind(MIXED), whole).is_ok());
        for length in 0..whole.len() {
            assert!(parts(&kind(MIXED), &whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_boundary_within_a_line_or_with_more_behind_it_is_content() {
        let body = b"--b\r\n\r\nx --b\r\n--bc\r\n--b--\r\n";
        let found = parts(&kind("multipart/mixed;boundary=b"), body).expect("parts");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].content, b"x --b\r\n--bc");
    }

    #[test]
    fn boundaries_that_cannot_be_are_refused() {
        for bad in ["multipart/mixed", "multipart/mixed;boundary=\"\"", "multipart/mixed;boundary"] {
            assert_eq!(parts(&kind(bad), b"--\r\n\r\n--").map(|_| ()), Err(MultipartError::Boundary), "{bad}");
        }
        let long = format!("multipart/mixed;boundary={}", "x".repeat(71));
        assert_eq!(parts(&kind(&long), b"").map(|_| ()), Err(MultipartError::Boundary));
    }

    #[test]
    fn too_many_parts_and_too_deep_ones_are_refused() {
        let body = format!("{}--b--", "--b\r\n\r\n.\r\n".repeat(17));
        assert_eq!(
            parts(&kind("multipart/mixed;boundary=b"), body.as_bytes()).map(|_| ()),
            Err(MultipartError::TooMany)
        );
        let mut body = String::from("x");
        for depth in (0..5).rev() {
            body = format!("--b{depth}\r\nc: multipart/mixed;boundary=b{}\r\n\r\n{body}\r\n--b{depth}--", depth + 1);
        }
        assert!(parts(&kind("multipart/mixed;boundary=b0"), body.as_bytes()).is_err());
    }

    #[test]
    fn what_must_be_understood_says_so() {
        let body =
            b"--b\r\nContent-Disposition: signal;handling=required\r\nContent-Transfer-Encoding: base64\r\n\r\n.\r\n\
            --b\r\nContent-Disposition: signal; handling=optional\r\n\r\n.\r\n--b--";
        let found = parts(&kind("multipart/mixed;boundary=b"), body).expect("parts");
        assert!(found[0].is_required() && !found[0].is_plain());
        assert!(!found[1].is_required() && found[1].is_plain());
    }
}
