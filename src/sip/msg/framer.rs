//! A byte stream to whole messages (RFC 3261 section 18.3): the head, then as many body bytes as its one
//! Content-Length says. Bytes in, frames out; [`super::parse_bytes`] reads them. A stream whose framing cannot be
//! trusted any more is to be closed, never resynchronised.

use bytes::{Bytes, BytesMut};

use super::header;
use super::{HeaderName, scan};

/// Longest message taken from a stream, in bytes; longer ones are answered 513 and the stream is closed.
pub const MAX_MESSAGE: usize = 65_536;

/// What a stream gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// One whole message.
    Message(Bytes),
    /// A double CRLF between messages: answer with one CRLF (RFC 5626 section 3.5.1).
    KeepAlive,
}

/// Why a stream cannot go on. `head` holds the bytes up to where it failed, to answer from
/// ([`super::parse_bytes`] on it gives the reply); then close the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message longer than [`MAX_MESSAGE`].
    #[error("message longer than {MAX_MESSAGE} bytes")]
    TooLong {
        /// The head, as far as it came.
        head: Bytes,
    },
    /// No Content-Length, more than one, or none that is a plain number (RFC 3261 section 20.14).
    #[error("{reason}")]
    BadLength {
        /// The head.
        head: Bytes,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Splits one connection's bytes into messages.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// Bytes already searched for the end of the head.
    searched: usize,
    /// Length of the whole message, once its head has been read.
    total: Option<usize>,
    failed: bool,
}

impl Framer {
    /// An empty framer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they came from the stream; call [`Framer::next_frame`] until it gives `None`.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Bytes held, waiting for the rest of a message.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole message or keep-alive; `None` until more bytes come.
    ///
    /// # Errors
    /// Blames the peer. After an error the framer takes and gives nothing more: close the stream.
    pub fn next_frame(&mut self) -> Option<Result<Frame, FrameError>> {
        if self.failed {
            return None;
        }
        let total = match self.total {
            Some(total) => total,
            None => {
                if self.searched == 0 && self.buffer.starts_with(b"\r\n\r\n") {
                    let _ = self.buffer.split_to(4);
                    return Some(Ok(Frame::KeepAlive));
                }
                // A single CRLF before a start line is skipped; a lone CR or CRLF waits for what follows.
                if self.searched == 0 && self.buffer.starts_with(b"\r\n") && self.buffer.len() > 2 {
                    if self.buffer.as_ref() == b"\r\n\r" {
                        return None;
                    }
                    let _ = self.buffer.split_to(2);
                }
                let from = self.searched.saturating_sub(3);
                let Some(end) = memchr::memmem::find(&self.buffer[from..], b"\r\n\r\n") else {
                    self.searched = self.buffer.len();
                    if self.buffer.len() > MAX_MESSAGE {
                        return Some(Err(self.fail(|head| FrameError::TooLong { head })));
                    }
                    if matches!(self.buffer.as_ref(), b"" | b"\r" | b"\r\n" | b"\r\n\r") {
                        self.searched = 0;
                    }
                    return None;
                };
                let head = from + end + 4;
                match content_length(&self.buffer[..head]) {
                    Ok(body) if body <= MAX_MESSAGE - head.min(MAX_MESSAGE) => head + body,
                    Ok(_) => {
                        self.buffer.truncate(head);
                        return Some(Err(self.fail(|head| FrameError::TooLong { head })));
                    }
                    Err(reason) => {
                        self.buffer.truncate(head);
                        return Some(Err(self.fail(|head| FrameError::BadLength { head, reason })));
                    }
                }
            }
        };
        if self.buffer.len() < total {
            self.total = Some(total);
            return None;
        }
        self.total = None;
        self.searched = 0;
        Some(Ok(Frame::Message(self.buffer.split_to(total).freeze())))
    }

    fn fail(&mut self, error: impl FnOnce(Bytes) -> FrameError) -> FrameError {
        self.failed = true;
        error(self.buffer.split().freeze())
    }
}

/// The one Content-Length of a head. Folded lines are joined by looking at what follows each line end.
fn content_length(head: &[u8]) -> Result<usize, &'static str> {
    let mut found = None;
    let mut at = 0;
    while let Some(lf) = memchr::memchr(b'\n', &head[at..]) {
        let mut end = at + lf;
        while matches!(head.get(end + 1), Some(b' ' | b'\t')) {
            match memchr::memchr(b'\n', &head[end + 1..]) {
                Some(more) => end += 1 + more,
                None => break,
            }
        }
        let line = &head[at..=end];
        at = end + 1;
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        if HeaderName::parse(scan::trim_end(&line[..colon])) != Some(HeaderName::ContentLength) {
            continue;
        }
        if found.is_some() {
            return Err("More than one Content-Length");
        }
        let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
        let value = &line[colon + 1..];
        let start = value.iter().position(|b| !blank(b)).unwrap_or(value.len());
        let end = value.iter().rposition(|b| !blank(b)).map_or(start, |last| last + 1);
        found = Some(header::content_length(&value[start..end]).map_err(|fault| fault.0)?);
    }
    found.ok_or("Content-Length is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nl:\r\n 4\r\n\r\nbody";

    #[test]
    fn messages_come_out_whole_whatever_the_pieces() {
        let stream = [MESSAGE, b"\r\n\r\n", MESSAGE, b"\r\n", MESSAGE].concat();
        for size in 1..stream.len() {
            let mut framer = Framer::new();
            let mut frames = Vec::new();
            for piece in stream.chunks(size) {
                framer.push(piece);
                while let Some(frame) = framer.next_frame() {
                    frames.push(frame.expect("good"));
                }
            }
            let message = Frame::Message(Bytes::from_static(MESSAGE));
            assert_eq!(frames, [message.clone(), Frame::KeepAlive, message.clone(), message], "pieces of {size}");
            assert_eq!(framer.buffered(), 0);
        }
    }

    #[test]
    fn a_stream_without_one_good_length_ends() {
        for (head, reason) in [
            (&b"OPTIONS sip:a SIP/2.0\r\n\r\n"[..], "Content-Length is missing"),
            (b"OPTIONS sip:a SIP/2.0\r\nl: 1\r\nContent-Length: 1\r\n\r\nx", "More than one Content-Length"),
            (b"OPTIONS sip:a SIP/2.0\r\nl: -1\r\n\r\n", "Content-Length is not a number"),
            (b"OPTIONS sip:a SIP/2.0\r\nContent-Length : 0x1\r\n\r\n", "Content-Length is not a number"),
        ] {
            let mut framer = Framer::new();
            framer.push(head);
            match framer.next_frame() {
                Some(Err(FrameError::BadLength { reason: told, .. })) => assert_eq!(told, reason),
                other => panic!("{other:?}"),
            }
            framer.push(MESSAGE);
            assert_eq!(framer.next_frame(), None);
        }
    }

    #[test]
    fn long_messages_end_the_stream_before_they_are_held() {
        let mut framer = Framer::new();
        framer.push(b"OPTIONS sip:a SIP/2.0\r\nl: 65530\r\n\r\n");
        assert!(matches!(framer.next_frame(), Some(Err(FrameError::TooLong { .. }))));
        let mut framer = Framer::new();
        framer.push(&vec![b'a'; MAX_MESSAGE + 1]);
        assert!(matches!(framer.next_frame(), Some(Err(FrameError::TooLong { .. }))));
        assert_eq!(framer.buffered(), 0);
    }
}
