//! Request methods. Names are case-sensitive tokens (RFC 3261 section 7.1); unknown ones are kept as they came.

use std::fmt;
use std::sync::Arc;

/// A request method.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 3261.
    Invite,
    /// RFC 3261.
    Ack,
    /// RFC 3261.
    Bye,
    /// RFC 3261.
    Cancel,
    /// RFC 3261.
    Options,
    /// RFC 3261.
    Register,
    /// RFC 6086.
    Info,
    /// RFC 3311.
    Update,
    /// RFC 3262.
    Prack,
    /// RFC 3515.
    Refer,
    /// RFC 6665.
    Notify,
    /// RFC 6665.
    Subscribe,
    /// RFC 3428.
    Message,
    /// RFC 3903.
    Publish,
    /// Any other token.
    Extension(Arc<str>),
}

const KNOWN: [(&str, Method); 14] = [
    ("INVITE", Method::Invite),
    ("ACK", Method::Ack),
    ("BYE", Method::Bye),
    ("CANCEL", Method::Cancel),
    ("OPTIONS", Method::Options),
    ("REGISTER", Method::Register),
    ("INFO", Method::Info),
    ("UPDATE", Method::Update),
    ("PRACK", Method::Prack),
    ("REFER", Method::Refer),
    ("NOTIFY", Method::Notify),
    ("SUBSCRIBE", Method::Subscribe),
    ("MESSAGE", Method::Message),
    ("PUBLISH", Method::Publish),
];

impl Method {
    /// Reads a method token; `None` when `text` is not a token (RFC 3261 section 25.1).
    pub fn parse(text: &[u8]) -> Option<Method> {
        for (name, method) in &KNOWN {
            if name.as_bytes() == text {
                return Some(method.clone());
            }
        }
        let name = std::str::from_utf8(text).ok().filter(|_| super::scan::is_token(text))?;
        Some(Method::Extension(name.into()))
    }

    /// The method's name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Options => "OPTIONS",
            Method::Register => "REGISTER",
            Method::Info => "INFO",
            Method::Update => "UPDATE",
            Method::Prack => "PRACK",
            Method::Refer => "REFER",
            Method::Notify => "NOTIFY",
            Method::Subscribe => "SUBSCRIBE",
            Method::Message => "MESSAGE",
            Method::Publish => "PUBLISH",
            Method::Extension(name) => name,
        }
    }

    /// Whether this is one of the methods this room knows by name.
    pub fn is_known(&self) -> bool {
        !matches!(self, Method::Extension(_))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_method_reads_back_and_case_matters() {
        for (name, method) in &KNOWN {
            assert_eq!(Method::parse(name.as_bytes()).as_ref(), Some(method));
            assert_eq!(method.as_str(), *name);
        }
        assert_eq!(Method::parse(b"invite"), Some(Method::Extension("invite".into())));
        assert!(!Method::parse(b"NEWMETHOD").expect("a token").is_known());
    }

    #[test]
    fn what_is_no_token_is_no_method() {
        for text in [&b""[..], b"IN VITE", b"INVITE\0", b"<INVITE>", b"\xe9"] {
            assert_eq!(Method::parse(text), None, "{text:?}");
        }
    }
}
