//! From the wire to checked types: JSON bodies, queries, ids in paths. What does not fit becomes a problem document
//! that names the place and never repeats a value.

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use serde::de::DeserializeOwned;

use super::Api;
use super::problem::{Blame, Part, Problem};
use super::routes::calls::unexpected;
use crate::base::ids::{CallId, CollectionId, HoldId, PaymentId, RecordingId};
use crate::call::{Find, Reply, Signal, SignalError};
use crate::obs::redact::redact;

/// The most bytes a request body has.
pub(super) const MOST_BODY: usize = 16 * 1024;

/// A JSON body.
pub(super) struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        let kind = kind.split(';').next().unwrap_or("").trim();
        let json = kind.eq_ignore_ascii_case("application/json")
            || (kind.get(..12).is_some_and(|head| head.eq_ignore_ascii_case("application/"))
                && kind.get(kind.len().saturating_sub(5)..).is_some_and(|tail| tail.eq_ignore_ascii_case("+json")));
        if !json {
            let detail = "the body must be JSON, and its Content-Type does not say so";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::new(status, "unsupported-media-type", "Unsupported media type", detail)
                .at(Blame::field(Part::Header, "Content-Type"))
                .hint("send Content-Type: application/json"));
        }
        let body = to_bytes(request.into_body(), MOST_BODY).await.map_err(|_| {
            let detail = format!("the body has more than {MOST_BODY} bytes, or broke off");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large", detail)
                .at(Blame::part(Part::Body))
        })?;
        serde_json::from_slice(&body).map(Json).map_err(|error| body_problem(&error))
    }
}

/// The problem of a body that is not JSON (400) or not the JSON wanted (422).
fn body_problem(error: &serde_json::Error) -> Problem {
    use serde_json::error::Category;
    let place = Blame { part: Part::Body, field: None, line: Some(error.line()), column: Some(error.column()) };
    match error.classify() {
        Category::Io | Category::Syntax | Category::Eof => {
            Problem::new(StatusCode::BAD_REQUEST, "invalid-json", "Invalid JSON", "the body is not valid JSON")
                .at(place)
        }
        Category::Data => {
            let text = error.to_string();
            let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
            let field = text.split_once('`').and_then(|(_, rest)| rest.split_once('`')).map(|(name, _)| safe(name));
            let named = ["unknown field", "missing field", "duplicate field"].iter().any(|word| text.starts_with(word));
            // "invalid type: string "…", expected u32": what was found is not repeated.
            let detail = match text.rsplit_once("expected ") {
                _ if named => safe(text),
                Some((_, expected)) => format!("a value has the wrong type or range: expected {}", safe(expected)),
                None => "a value has the wrong type or range".to_owned(),
            };
            let field = field.filter(|_| named);
            Problem::invalid(Blame { field, ..place }, detail)
        }
    }
}

/// A query, unknown parameters refused.
pub(super) struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::<T>::try_from_uri(&parts.uri).map(|Query(query)| Params(query)).map_err(|error| {
            let text = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let field = text.split_once('`').and_then(|(_, rest)| rest.split_once('`')).map(|(name, _)| safe(name));
            let detail = if text.starts_with("unknown field") || text.starts_with("duplicate field") {
                safe(&text)
            } else {
                "a parameter has the wrong type or range".to_owned()
            };
            Problem::invalid(Blame { part: Part::Query, field, line: None, column: None }, detail)
        })
    }
}

/// The call of the path.
pub(super) struct InCall(pub CallId);

/// The recording of the path.
pub(super) struct InRecording(pub RecordingId);

impl FromRequestParts<Api> for InRecording {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Path(recording): Path<String> = path(parts, api).await?;
        Ok(Self(id(&recording, "recording")?))
    }
}

/// The call and the hold of the path.
pub(super) struct InHold(pub CallId, pub HoldId);

/// The call and the collection of the path.
pub(super) struct InCollection(pub CallId, pub CollectionId);

/// The call and the payment of the path.
pub(super) struct InPayment(pub CallId, pub PaymentId);

impl FromRequestParts<Api> for InCall {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Path(call): Path<String> = path(parts, api).await?;
        Ok(Self(call_of(api, &call).await?))
    }
}

impl FromRequestParts<Api> for InHold {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Path((call, hold)): Path<(String, String)> = path(parts, api).await?;
        Ok(Self(call_of(api, &call).await?, id(&hold, "hold")?))
    }
}

/// The call of the path and the name of a recorder.
pub(super) struct InRecorder(pub CallId, pub String);

impl FromRequestParts<Api> for InRecorder {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Path((call, recorder)): Path<(String, String)> = path(parts, api).await?;
        Ok(Self(call_of(api, &call).await?, recorder))
    }
}

impl FromRequestParts<Api> for InCollection {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Path((call, collection)): Path<(String, String)> = path(parts, api).await?;
        Ok(Self(call_of(api, &call).await?, id(&collection, "collection")?))
    }
}

impl FromRequestParts<Api> for InPayment {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Path((call, payment)): Path<(String, String)> = path(parts, api).await?;
        Ok(Self(call_of(api, &call).await?, id(&payment, "payment")?))
    }
}

/// The call that a segment names: by its id, or by a key of [`Find`] (`agent:214`), which must name one call only.
async fn call_of(api: &Api, text: &str) -> Result<CallId, Problem> {
    let named = text.split_once(':').filter(|(_, value)| !value.is_empty());
    let Some(find) = named.and_then(|(key, value)| Find::by(key, value)) else { return id(text, "call") };
    let found = match api.calls.signal(Signal::Find { find, limit: 2 }).await? {
        Reply::Calls(found) => found,
        _ => return Err(unexpected()),
    };
    match &found[..] {
        [call] => Ok(call.id),
        [] => Err(Problem::from(SignalError::NoSuchCall)),
        _ => {
            let detail = "more than one call in progress has this key";
            Err(Problem::new(StatusCode::CONFLICT, "ambiguous-call", "Several calls", detail)
                .at(Blame::field(Part::Path, "call"))
                .hint("GET /v1/calls with the same key lists them; name one by its id"))
        }
    }
}

async fn path<T: DeserializeOwned + Send, S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Path<T>, Problem> {
    Path::from_request_parts(parts, state).await.map_err(|_| Problem::no_such_endpoint())
}

/// What is no id of ours cannot be there: 404, as for one that is not there.
fn id<T: std::str::FromStr<Err: ToString>>(text: &str, what: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| {
        let title = format!("No such {what}");
        Problem::new(StatusCode::NOT_FOUND, &format!("no-such-{what}"), &title, error.to_string())
            .at(Blame::field(Part::Path, what))
    })
}

/// The `ticket` parameter of a query.
pub(super) fn ticket(uri: &Uri) -> Option<String> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("ticket=")).map(str::to_owned)
}

/// A text of the parser that may hold names the sender chose: bounded, printable, no card number.
fn safe(text: &str) -> String {
    let mut text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    // The redaction changes ASCII digits into another ASCII letter, so the text stays what it is: UTF-8.
    let mut bytes = std::mem::take(&mut text).into_bytes();
    redact(&mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}
