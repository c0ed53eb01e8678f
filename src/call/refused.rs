//! Why a request is turned down, stated as the answer to it: status, reason phrase and the headers the status demands
//! (RFC 3261 section 21). The text never quotes the request.

use smallvec::SmallVec;

use super::crossing::ALLOW;
use super::routing::NoRoute;
use crate::sdp::Refusal;
use crate::sip::msg::HeaderName;
use crate::sip::{Request, Response};

/// Seconds a refused peer is asked to wait.
pub(super) const RETRY_AFTER_S: &str = "5";

/// A verdict on a request.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: u16,
    reason: &'static str,
    headers: SmallVec<[(HeaderName, String); 1]>,
}

impl Refused {
    /// A refusal with the standard phrase.
    pub(super) fn new(status: u16) -> Self {
        Self { status, reason: "", headers: SmallVec::new() }
    }

    /// A refusal that says more.
    pub(super) fn because(status: u16, reason: &'static str) -> Self {
        Self { reason, ..Self::new(status) }
    }

    /// 405 with the methods that are allowed (section 21.4.6).
    pub(super) fn method() -> Self {
        Self::new(405).with(HeaderName::Allow, ALLOW)
    }

    /// 503 for a while (section 21.5.4).
    pub(super) fn busy(reason: &'static str) -> Self {
        Self::because(503, reason).with(HeaderName::RetryAfter, RETRY_AFTER_S)
    }

    /// 500 for a moment: ask again shortly (section 14.2).
    pub(super) fn moment() -> Self {
        Self::because(500, "Request Pending").with(HeaderName::RetryAfter, "3")
    }

    /// 415 naming what is taken (section 21.4.13).
    pub(super) fn body_type(accept: &str) -> Self {
        Self::new(415).with(HeaderName::Accept, accept)
    }

    /// 420 naming what is not understood (section 21.4.15).
    pub(super) fn extensions(unknown: &str) -> Self {
        Self::new(420).with(HeaderName::Unsupported, unknown)
    }

    /// 422 naming the shortest session taken (RFC 4028 section 6).
    pub(super) fn too_short(min_s: u32) -> Self {
        Self::new(422).with(HeaderName::MinSe, min_s.to_string())
    }

    /// 421 naming what is demanded (section 21.4.16).
    pub(super) fn required(extension: &str) -> Self {
        Self::new(421).with(HeaderName::Require, extension)
    }

    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The answer to `request`.
    pub(super) fn response(&self, request: &Request) -> Response {
        let mut response = Response::for_request(request, self.status, self.reason);
        for (name, value) in &self.headers {
            response.headers.push(*name, value);
        }
        response
    }
}

impl From<NoRoute> for Refused {
    fn from(none: NoRoute) -> Self {
        match none {
            NoRoute::TrunkMayNot => Self::new(403),
            NoRoute::NoPrefix => Self::new(404),
            NoRoute::NobodyThere(None) => Self::busy("Nobody There"),
            NoRoute::NobodyThere(Some(wait)) => {
                Self::because(503, "Nobody There").with(HeaderName::RetryAfter, wait.to_string())
            }
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let warning = refusal.warning_value("tonewall");
        let refused = match refusal.status {
            400 => Self::because(400, "Malformed SDP"),
            status => Self::new(status),
        };
        refused.with(HeaderName::Warning, warning)
    }
}
