//! Errors of the API as problem documents (RFC 9457). Each says what went wrong (`title`), where (`where`), why
//! (`detail`) and, where it helps, what to do (`hint`). None repeats a value that was sent: it could be a card number.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::SignalError;

/// Prefix of problem types.
pub const TYPE: &str = "urn:tonewall:problem:";

/// A problem document (RFC 9457), `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Which problem, as a URN; told in docs/api.md.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:tonewall:problem:no-such-call")]
    pub kind: Box<str>,
    /// The problem in a few words; the same for every occurrence.
    #[schema(value_type = String, example = "No such call")]
    pub title: Box<str>,
    /// HTTP status.
    #[schema(example = 404)]
    pub status: u16,
    /// Why, this time.
    #[schema(value_type = String, example = "no such call; it may have ended")]
    pub detail: Box<str>,
    /// Path of the request it happened on.
    #[schema(value_type = String, example = "/v1/calls/call_5b43ab733cb8a27e81c498f53f44eafd")]
    pub instance: Box<str>,
    /// Which part of the request is to blame.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub place: Option<Box<Blame>>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub hint: Option<Box<str>>,
    /// The header that goes with the status (`WWW-Authenticate`, `Allow`, `Retry-After`).
    #[serde(skip)]
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

/// Which part of a request is to blame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Blame {
    /// Part of the request.
    #[serde(rename = "in")]
    pub part: Part,
    /// Field, parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Line of the body, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column of the line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

/// Part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Path.
    Path,
    /// Query.
    Query,
    /// A header field.
    Header,
    /// Body.
    Body,
}

impl Blame {
    /// A named field of a part.
    pub fn field(part: Part, field: impl Into<String>) -> Self {
        Self { part, field: Some(field.into()), line: None, column: None }
    }

    /// A part as a whole.
    pub fn part(part: Part) -> Self {
        Self { part, field: None, line: None, column: None }
    }
}

impl Problem {
    /// A problem of a type (the last part of its URN).
    pub fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<Box<str>>) -> Self {
        Self {
            kind: format!("{TYPE}{kind}").into(),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            instance: Box::default(),
            place: None,
            hint: None,
            header: None,
        }
    }

    /// Says which part of the request is to blame.
    #[must_use]
    pub fn at(mut self, place: Blame) -> Self {
        self.place = Some(Box::new(place));
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some(Box::new((name, HeaderValue::from_static(value))));
        self
    }

    /// 401: no key, or not one of ours. The same words for both.
    pub fn unauthenticated() -> Self {
        let detail = "the request carries no API key that this node knows";
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Not authenticated", detail)
            .at(Blame::field(Part::Header, "Authorization"))
            .hint("send `Authorization: Bearer <key>` with a key configured under [[control.key]]")
            .with_header(header::WWW_AUTHENTICATE, "Bearer realm=\"tonewall\"")
    }

    /// 403: the role may not.
    pub fn role_forbids(role: &str, wanted: &str) -> Self {
        let detail = format!("a key of role {role:?} may not {wanted}");
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
            .at(Blame::field(Part::Header, "Authorization"))
    }

    /// 404: no such endpoint.
    pub fn no_such_endpoint() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-endpoint", "No such endpoint", "the API has nothing at this path")
            .at(Blame::part(Part::Path))
            .hint("see /openapi.json")
    }

    /// 405: the path has no such method.
    pub fn method_not_allowed() -> Self {
        let detail = "the path is known and does not take this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
            .hint("the Allow header names the methods it takes; see /openapi.json")
    }

    /// 503: the node is stopping or too busy.
    pub fn unavailable(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not available now", detail)
            .with_header(header::RETRY_AFTER, "2")
    }

    /// 503: it may not be done without an entry of the audit log, and that cannot be written.
    pub fn not_audited() -> Self {
        let detail = "the audit log cannot be written, so this is not done";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-audited", "Audit log not writable", detail)
    }

    /// 422: a field has a value that is understood and cannot be.
    pub fn invalid(place: Blame, detail: impl Into<Box<str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-request", "Invalid request", detail).at(place)
    }
}

impl From<SignalError> for Problem {
    fn from(error: SignalError) -> Self {
        use SignalError as E;
        let (status, kind, title, place) = match &error {
            E::NoSuchCall => (404, "no-such-call", "No such call", Blame::field(Part::Path, "call")),
            E::NoSuchHold => (404, "no-such-hold", "No such hold", Blame::field(Part::Path, "hold")),
            E::NoSuchRecorder => (404, "no-such-recorder", "No such recorder", Blame::field(Part::Path, "recorder")),
            E::NoSuchCollection => {
                (404, "no-such-collection", "No such collection", Blame::field(Part::Path, "collection"))
            }
            E::Forbidden => (403, "forbidden", "Not allowed", Blame::field(Part::Header, "Authorization")),
            E::HoldPinned => (409, "hold-pinned", "Hold is pinned", Blame::field(Part::Path, "hold")),
            E::TooManyHolds => (409, "too-many-holds", "Too many holds", Blame::field(Part::Path, "call")),
            E::CollectionOpen => (409, "collection-open", "Collection already open", Blame::field(Part::Path, "call")),
            E::NotAnswered => (409, "not-answered", "Call not answered", Blame::field(Part::Path, "call")),
            E::BadKinds => (422, "invalid-request", "Invalid request", Blame::field(Part::Body, "kind")),
            E::NotAudited => (503, "not-audited", "Audit log not writable", Blame::part(Part::Path)),
            E::NoSuchPayment => (404, "no-such-payment", "No such payment", Blame::field(Part::Path, "payment")),
            E::PaymentOpen => (409, "session-in-progress", "Payment already open", Blame::field(Part::Path, "call")),
            E::PaymentOver => (409, "payment-over", "Payment is over", Blame::field(Part::Path, "payment")),
            E::PaymentSubmitted => {
                (409, "payment-submitted", "Payment is submitted", Blame::field(Part::Path, "payment"))
            }
            E::PaymentIncomplete => {
                (409, "payment-incomplete", "Payment is incomplete", Blame::field(Part::Body, "status"))
            }
            E::MatcherFirst => (409, "matcher-first", "Field not captured yet", Blame::field(Part::Body, "capture")),
            E::FieldNotWanted => (422, "invalid-request", "Invalid request", Blame::field(Part::Body, "capture")),
            E::NoConnector => {
                (422, "invalid-request", "Invalid request", Blame::field(Part::Body, "payment_connector"))
            }
            E::BadAmount => (422, "invalid-request", "Invalid request", Blame::field(Part::Body, "charge_amount")),
            E::BadCollection(_) | E::BadPayment(_) | E::BadText => {
                (422, "invalid-request", "Invalid request", Blame::part(Part::Body))
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Problem::new(status, kind, title, error.to_string()).at(place)
    }
}

impl IntoResponse for Problem {
    /// The document itself is written by `control::secure`, which knows the path.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        if let Some((name, value)) = self.header.as_deref().cloned() {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(self);
        response
    }
}
