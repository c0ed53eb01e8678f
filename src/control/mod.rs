//! The HTTP API: what a CRM, a panel and a monitor may ask of the node. Requests go in; [`Signal`]s to the calls,
//! answers, problem documents (RFC 9457), server-sent events and WebSocket messages come out. It opens no socket and reads no clock: `rt/`
//! gives it both, and the calls behind the small trait [`Calls`]. No type here has room for a digit.
//!
//! ```text
//!  request ─► secure (headers, problem documents, metrics)
//!               ├─ /health /ready /openapi.json and the pages        open to all
//!               └─ guard (key or ticket, role × endpoint) ─► handler ─► Calls::signal ─► engine
//!                                                             └──────► History::read ─► events
//! ```

pub mod access;
pub mod alarms;
pub mod answers;
pub mod health;
pub mod history;
pub mod problem;
pub mod recordings;
pub mod webhooks;

mod audited;
mod extract;
mod idempotency;
mod openapi;
mod panels;
mod routes;
mod sight;
mod socket;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::audit::Audit;
use crate::call::{Actor, Reply, Signal, SignalError};
use crate::obs::metrics::Metrics;
use crate::obs::redact::redact;

use access::{Access, Pass};
use alarms::Board;
use health::{RecorderView, Standing};
use history::History;
use problem::Problem;
use webhooks::Webhooks;

pub use audited::Peer;
pub use openapi::document as openapi_document;

/// The calls, as the API sees them. `rt/` implements it over the engine's queue, tests over a script.
pub trait Calls: Send + Sync + 'static {
    /// Puts a signal to the engine and waits for its answer.
    fn signal(&self, signal: Signal) -> BoxFuture<'_, Result<Reply, CallsError>>;

    /// Whether new calls are taken; if not, why (draining, starting).
    fn ready(&self) -> Result<(), String>;

    /// How the node is.
    fn standing(&self) -> Standing {
        Standing::default()
    }

    /// How the recorders are.
    fn recorders(&self) -> Vec<RecorderView> {
        Vec::new()
    }

    /// Brings gauges that nobody reports up to date before metrics are read.
    fn refresh(&self, _metrics: &Metrics) {}
}

/// Why a signal has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallsError {
    /// The engine turned it down.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// The engine is gone, or its queue is full.
    #[error("the node is stopping or overloaded")]
    Unavailable,
}

impl From<CallsError> for Problem {
    fn from(error: CallsError) -> Self {
        match error {
            CallsError::Signal(error) => error.into(),
            CallsError::Unavailable => Problem::unavailable("the node is stopping or overloaded"),
        }
    }
}

/// What the API is made of.
pub struct Parts {
    /// The calls.
    pub calls: Arc<dyn Calls>,
    /// The event log.
    pub history: Arc<History>,
    /// What is wrong.
    pub alarms: Arc<Board>,
    /// Keys and tickets.
    pub access: Arc<Access>,
    /// Webhooks.
    pub webhooks: Arc<Webhooks>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// The audit log.
    pub audit: Audit,
    /// The recordings, where the node keeps any.
    pub recordings: Option<Arc<dyn recordings::Recordings>>,
    /// The clock; `Instant::now` in `rt/`.
    pub clock: Arc<dyn Fn() -> Instant + Send + Sync>,
    /// Answers that outlive the node.
    pub answers: answers::Answers,
    /// Node name, shown on the page and in the OpenAPI title.
    pub node: String,
}

/// How long an answer waits for its entry in the audit log.
const WRITTEN: std::time::Duration = std::time::Duration::from_secs(2);

/// WebSockets open at once.
const STREAMS: usize = 512;

/// The API's state, shared by its handlers.
#[derive(Clone)]
struct Api {
    parts: Arc<Parts>,
    /// Answers to requests that came under a key of their own.
    kept: Arc<idempotency::Kept>,
    /// Room for WebSockets, which outlive their connections' places.
    sockets: Arc<Semaphore>,
}

impl std::ops::Deref for Api {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// The whole HTTP service: the API, and `pages` beside it (open to all; they hold no data).
pub fn router(mut parts: Parts, pages: Router) -> Router {
    let kept = idempotency::Kept::new((parts.clock)(), std::mem::take(&mut parts.answers));
    let api = Api { parts: Arc::new(parts), kept: Arc::new(kept), sockets: Arc::new(Semaphore::new(STREAMS)) };
    let (closed, _) = routes::closed().split_for_parts();
    let (open, _) = routes::open().split_for_parts();
    let closed = closed.route_layer(middleware::from_fn_with_state(api.clone(), guard));
    closed
        .merge(open)
        .with_state(api.clone())
        .merge(pages)
        .fallback(|| async { Problem::no_such_endpoint() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(middleware::from_fn_with_state(api, secure))
}

/// Lets through who has the endpoint's right, and puts the [`crate::call::Actor`] into the request.
async fn guard(State(api): State<Api>, route: MatchedPath, mut request: Request, next: Next) -> Response {
    let right = access::right_of(request.method(), route.as_str());
    let stream = right == Some(access::Right::SeeEvents) && request.method() == axum::http::Method::GET;
    let ticket = extract::ticket(request.uri()).filter(|_| stream);
    let now = (api.clock)();
    let peer = request.extensions().get::<Peer>().copied();
    let hearing = right == Some(access::Right::HearRecordings) && request.method() == axum::http::Method::GET;
    let hearing = extract::ticket(request.uri()).filter(|_| hearing);
    let pass = match (ticket, hearing) {
        (None, Some(ticket)) => match api.access.hears(now, &ticket, request.uri().path()) {
            Some(hearing) => {
                request.extensions_mut().insert(routes::sound::Purpose(hearing.purpose));
                Ok(hearing.pass)
            }
            None => Err(Problem::unauthenticated()
                .hint("the ticket is of another recording, or its time is over; get one from POST …/access")),
        },
        (Some(ticket), _) => match api.access.redeem(now, &ticket) {
            Some(actor) => Ok(Pass { actor, panel: None }),
            None => Err(Problem::unauthenticated()
                .hint("a ticket works once and for 30 s; get a new one from POST /v1/tickets")),
        },
        (None, None) => {
            api.access.admit(now, request.headers(), request.method(), route.as_str(), request.uri().path())
        }
    };
    let pass = match pass {
        Ok(pass) => pass,
        Err(problem) => {
            tracing::warn!(route = route.as_str(), status = problem.status, "request refused: not authenticated");
            api.audit.note(audited::denied(None, peer, request.method(), route.as_str(), problem.status));
            return problem.into_response();
        }
    };
    match right {
        Some(right) if access::allows(pass.actor.role, right) => {
            let from = peer.map(|Peer(ip)| ip);
            request.extensions_mut().insert(Actor { from, ..pass.actor.clone() });
            request.extensions_mut().insert(pass.clone());
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let response = if idempotency::covers(&method, route.as_str()) {
                idempotency::once(&api.kept, (api.clock)(), &pass, request, next).await
            } else {
                next.run(request).await
            };
            let status = response.status().as_u16();
            if let Some(record) = audited::served(&pass, peer, &method, route.as_str(), &path, status) {
                if record.action.repeats() {
                    api.audit.note(record);
                } else {
                    // What was changed is answered when it is on the disk; a disk that stands still holds nobody up.
                    let written = tokio::time::timeout(WRITTEN, api.audit.confirm(record)).await;
                    if !matches!(written, Ok(Ok(()))) {
                        tracing::warn!(
                            route = route.as_str(),
                            "answered before its entry in the audit log is on the disk"
                        );
                    }
                }
            }
            response
        }
        right => {
            tracing::warn!(route = route.as_str(), key = %pass.actor.name, "request refused: role");
            api.audit.note(audited::denied(Some(&pass), peer, request.method(), route.as_str(), 403));
            let words = right.map_or("use this endpoint", access::Right::words);
            Problem::role_forbids(access::role_name(pass.actor.role), words).into_response()
        }
    }
}

/// Headers every response carries. The page loads nothing but its own files and talks to nobody but this node.
const SECURITY: [(HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; media-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
    (header::SERVER, "tonewall"),
];

/// Number of the newest event that an answer is sure to know of: who follows events too can tell which of both is newer.
const SEQ: HeaderName = HeaderName::from_static("tonewall-seq");

/// The outermost layer: writes problem documents, sets security headers, counts requests.
async fn secure(State(api): State<Api>, request: Request, next: Next) -> Response {
    let path = shown_path(request.uri().path());
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    // Before anything is asked: the answer knows at least of this event, and perhaps of later ones.
    let seq = api.history.newest();
    let mut response = next.run(request).await;
    let status = response.status();
    let mut problem = response.extensions_mut().remove::<Problem>();
    if problem.is_none() && (status.is_client_error() || status.is_server_error()) {
        let reason = status.canonical_reason().unwrap_or("Error");
        problem = Some(Problem::new(status, "http", reason, "the request could not be served"));
    }
    if let Some(mut problem) = problem {
        problem.instance = path.into();
        let (mut parts, _) = response.into_parts();
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response = Response::from_parts(parts, Body::from(body));
    }
    api.metrics.request(route.as_deref().unwrap_or("(none)"), status.as_u16());
    let headers = response.headers_mut();
    // A page that says itself who may frame it is not forbidden all frames by the older header.
    let framed = headers.contains_key(header::CONTENT_SECURITY_POLICY);
    for (name, value) in SECURITY {
        if framed && name == header::X_FRAME_OPTIONS {
            continue;
        }
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.insert(SEQ, HeaderValue::from(seq));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A path as it may be repeated: bounded, and without what could be a card number.
fn shown_path(path: &str) -> String {
    let mut bytes: Vec<u8> = path.bytes().take(256).map(|b| if b.is_ascii_graphic() { b } else { b'?' }).collect();
    redact(&mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}

/// A plain answer with a content type.
fn typed(kind: &'static str, body: impl Into<Body>) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body.into()).into_response()
}
