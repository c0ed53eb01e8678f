//! Why a message was refused, with the verdict stated: which status to answer with, if any answer may be given.

use super::Response;

/// A fault in one header value: what is wrong with it, in words for a Reason-Phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HeaderFault(pub &'static str);

/// A message that was refused. Carries no bytes of the message but, where one can be built, the answer to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status} {reason} at byte {offset}")]
pub struct ParseError {
    /// The status to answer a request with: 400, 505 or 513.
    pub status: u16,
    /// What is wrong, fit for a Reason-Phrase. Holds none of the message's text.
    pub reason: &'static str,
    /// Where, in bytes from the start of the message.
    pub offset: usize,
    /// The answer, copied from what could be read: present for a request other than ACK that has a Via. Send it to the
    /// packet's source. Absent for responses and for what cannot be answered: drop those silently.
    pub reply: Option<Box<Response>>,
}

impl ParseError {
    /// Whether the message can be answered.
    pub fn answerable(&self) -> bool {
        self.reply.is_some()
    }
}
