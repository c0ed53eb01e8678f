//! Header names: the ones this room knows, their compact forms, and the lookup from wire bytes. Names compare without
//! case (RFC 3261 section 7.3.1); unknown names are kept as they came by [`super::Headers`].

macro_rules! names {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// A header name known by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum HeaderName {
            $(#[doc = concat!("`", $text, "`.")] $variant,)+
        }

        impl HeaderName {
            /// Every known name.
            pub const ALL: &[HeaderName] = &[$(HeaderName::$variant),+];

            /// The name as the standards write it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(HeaderName::$variant => $text,)+
                }
            }
        }
    };
}

names! {
    Accept = "Accept",
    AcceptContact = "Accept-Contact",
    AcceptEncoding = "Accept-Encoding",
    AcceptLanguage = "Accept-Language",
    AlertInfo = "Alert-Info",
    Allow = "Allow",
    AllowEvents = "Allow-Events",
    AuthenticationInfo = "Authentication-Info",
    Authorization = "Authorization",
    CallId = "Call-ID",
    CallInfo = "Call-Info",
    Contact = "Contact",
    ContentDisposition = "Content-Disposition",
    ContentEncoding = "Content-Encoding",
    ContentLanguage = "Content-Language",
    ContentLength = "Content-Length",
    ContentType = "Content-Type",
    CSeq = "CSeq",
    Date = "Date",
    Diversion = "Diversion",
    ErrorInfo = "Error-Info",
    Event = "Event",
    Expires = "Expires",
    From = "From",
    Geolocation = "Geolocation",
    HistoryInfo = "History-Info",
    Identity = "Identity",
    IdentityInfo = "Identity-Info",
    InReplyTo = "In-Reply-To",
    InfoPackage = "Info-Package",
    Join = "Join",
    MaxForwards = "Max-Forwards",
    MimeVersion = "MIME-Version",
    MinExpires = "Min-Expires",
    MinSe = "Min-SE",
    Organization = "Organization",
    PAssertedIdentity = "P-Asserted-Identity",
    PPreferredIdentity = "P-Preferred-Identity",
    Path = "Path",
    Priority = "Priority",
    Privacy = "Privacy",
    ProxyAuthenticate = "Proxy-Authenticate",
    ProxyAuthorization = "Proxy-Authorization",
    ProxyRequire = "Proxy-Require",
    RAck = "RAck",
    Reason = "Reason",
    RecordRoute = "Record-Route",
    RecvInfo = "Recv-Info",
    ReferTo = "Refer-To",
    ReferredBy = "Referred-By",
    RejectContact = "Reject-Contact",
    Replaces = "Replaces",
    ReplyTo = "Reply-To",
    RequestDisposition = "Request-Disposition",
    Require = "Require",
    RetryAfter = "Retry-After",
    Route = "Route",
    RSeq = "RSeq",
    Server = "Server",
    SessionExpires = "Session-Expires",
    Subject = "Subject",
    SubscriptionState = "Subscription-State",
    Supported = "Supported",
    Timestamp = "Timestamp",
    To = "To",
    Unsupported = "Unsupported",
    UserAgent = "User-Agent",
    UserToUser = "User-to-User",
    Via = "Via",
    Warning = "Warning",
    WwwAuthenticate = "WWW-Authenticate",
}

impl HeaderName {
    /// The name's compact form, where one is registered (RFC 3261 section 7.3.3 and successors).
    pub const fn compact(self) -> Option<u8> {
        match self {
            HeaderName::AcceptContact => Some(b'a'),
            HeaderName::ReferredBy => Some(b'b'),
            HeaderName::ContentType => Some(b'c'),
            HeaderName::RequestDisposition => Some(b'd'),
            HeaderName::ContentEncoding => Some(b'e'),
            HeaderName::From => Some(b'f'),
            HeaderName::CallId => Some(b'i'),
            HeaderName::RejectContact => Some(b'j'),
            HeaderName::Supported => Some(b'k'),
            HeaderName::ContentLength => Some(b'l'),
            HeaderName::Contact => Some(b'm'),
            HeaderName::IdentityInfo => Some(b'n'),
            HeaderName::Event => Some(b'o'),
            HeaderName::ReferTo => Some(b'r'),
            HeaderName::Subject => Some(b's'),
            HeaderName::To => Some(b't'),
            HeaderName::AllowEvents => Some(b'u'),
            HeaderName::Via => Some(b'v'),
            HeaderName::SessionExpires => Some(b'x'),
            HeaderName::Identity => Some(b'y'),
            _ => None,
        }
    }

    /// Finds a name from its wire form, long or compact, in any case.
    pub fn parse(text: &[u8]) -> Option<HeaderName> {
        if let [letter] = text {
            return match letter.to_ascii_lowercase() {
                b'a' => Some(HeaderName::AcceptContact),
                b'b' => Some(HeaderName::ReferredBy),
                b'c' => Some(HeaderName::ContentType),
                b'd' => Some(HeaderName::RequestDisposition),
                b'e' => Some(HeaderName::ContentEncoding),
                b'f' => Some(HeaderName::From),
                b'i' => Some(HeaderName::CallId),
                b'j' => Some(HeaderName::RejectContact),
                b'k' => Some(HeaderName::Supported),
                b'l' => Some(HeaderName::ContentLength),
                b'm' => Some(HeaderName::Contact),
                b'n' => Some(HeaderName::IdentityInfo),
                b'o' => Some(HeaderName::Event),
                b'r' => Some(HeaderName::ReferTo),
                b's' => Some(HeaderName::Subject),
                b't' => Some(HeaderName::To),
                b'u' => Some(HeaderName::AllowEvents),
                b'v' => Some(HeaderName::Via),
                b'x' => Some(HeaderName::SessionExpires),
                b'y' => Some(HeaderName::Identity),
                _ => None,
            };
        }
        let (start, end) = *BY_LENGTH.get(text.len())?;
        SORTED[usize::from(start)..usize::from(end)]
            .iter()
            .copied()
            // The first letter sorts out nearly all of one length.
            .find(|name| {
                let name = name.as_str().as_bytes();
                (name[0] ^ text[0]) & 0xdf == 0 && (name == text || name.eq_ignore_ascii_case(text))
            })
    }
}

impl std::fmt::Display for HeaderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

const COUNT: usize = HeaderName::ALL.len();
const LONGEST: usize = 32;

/// The names ordered by length, and where each length starts and ends: a lookup compares only names of equal length.
static SORTED: [HeaderName; COUNT] = sorted();
static BY_LENGTH: [(u8, u8); LONGEST] = by_length();

const fn sorted() -> [HeaderName; COUNT] {
    let mut out = [HeaderName::Accept; COUNT];
    let (mut length, mut filled) = (0, 0);
    while length < LONGEST {
        let mut at = 0;
        while at < COUNT {
            if HeaderName::ALL[at].as_str().len() == length {
                out[filled] = HeaderName::ALL[at];
                filled += 1;
            }
            at += 1;
        }
        length += 1;
    }
    assert!(filled == COUNT);
    out
}

const fn by_length() -> [(u8, u8); LONGEST] {
    let mut out = [(0, 0); LONGEST];
    let (mut length, mut filled) = (0, 0);
    while length < LONGEST {
        let start = filled;
        let mut at = 0;
        while at < COUNT {
            if HeaderName::ALL[at].as_str().len() == length {
                filled += 1;
            }
            at += 1;
        }
        out[length] = (start, filled);
        length += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_in_its_compact_form() {
        for name in HeaderName::ALL {
            assert_eq!(HeaderName::parse(name.as_str().as_bytes()), Some(*name));
            assert_eq!(HeaderName::parse(name.as_str().to_ascii_uppercase().as_bytes()), Some(*name));
            if let Some(letter) = name.compact() {
                assert_eq!(HeaderName::parse(&[letter]), Some(*name));
                assert_eq!(HeaderName::parse(&[letter.to_ascii_uppercase()]), Some(*name));
            }
        }
    }

    #[test]
    fn unknown_names_are_not_mistaken() {
        for text in [&b""[..], b"q", b"Viaa", b"X-Call-Ref", &[b'a'; 200]] {
            assert_eq!(HeaderName::parse(text), None);
        }
    }
}
