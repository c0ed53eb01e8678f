//! Events as they happen: server-sent events (WHATWG HTML, section 9.2) or WebSocket messages, resumable by
//! `Last-Event-ID`, and the tickets
//! that let a browser's `EventSource` in.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Answer};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::call::{Actor, Signal, SignalError};
use crate::control::access::{Access, Pass, TICKET_LIFE};
use crate::control::extract::{InCall, Params};
use crate::control::history::{Read, Reader};
use crate::control::problem::Problem;
use crate::control::sight::Sight;
use crate::control::{Api, CallsError, socket};
use crate::obs::event::Event;
use crate::obs::metrics::Metrics;

/// A comment this often keeps middle boxes from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Parameters of an event stream.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::control) struct Wanted {
    /// A ticket from `POST /v1/tickets`, in place of the Authorization header.
    #[allow(dead_code)]
    ticket: Option<String>,
    /// Id of the last event seen, where no `Last-Event-ID` can be sent.
    after: Option<String>,
}

/// A request to change to the WebSocket protocol, where there is one.
type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// A ticket for one event stream.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct Ticket {
    /// To be given as `?ticket=`; works once.
    #[schema(example = "tkt_9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c")]
    ticket: String,
    /// Seconds until it is void.
    expires_in_s: u64,
}

/// Follow a call
///
/// Server-sent events of one call, until it ends. `Last-Event-ID` resumes after that event; a call that has just ended
/// can still be read. A `missed` event says that older ones are no longer kept. A request to upgrade gets the same events
/// as WebSocket messages, each with its `id`.
#[utoipa::path(get, path = "/v1/calls/{call}/events", tag = "events",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`"), Wanted,
           ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event seen")),
    responses((status = 200, description = "The stream; each message is an Event", body = Event,
        content_type = "text/event-stream"),
        (status = 101, description = "A WebSocket follows; each text message is an Event with its id")))]
pub(in crate::control) async fn of_call(
    State(api): State<Api>,
    InCall(call): InCall,
    Params(wanted): Params<Wanted>,
    Extension(pass): Extension<Pass>,
    upgrade: Upgrade,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last = last_event_id(&headers, wanted);
    match api.calls.signal(Signal::Get { call }).await {
        Ok(_) => {}
        // It has ended, and its events are still kept: they are given, and the stream ends with them.
        Err(CallsError::Signal(SignalError::NoSuchCall)) if !api.history.of_call(call).is_empty() => {
            let reader = api.history.read(Some(call), Some(last.as_deref().unwrap_or("")));
            return Ok(follow(upgrade, reader, &api, pass));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(follow(upgrade, api.history.read(Some(call), last.as_deref()), &api, pass))
}

/// Follow all calls
///
/// Server-sent events of the node. `Last-Event-ID` resumes after that event; without it the stream begins now. A
/// `missed` event says that older ones are no longer kept. A request to upgrade gets the same events as WebSocket
/// messages, each with its `id`.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(Wanted, ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event seen")),
    responses((status = 200, description = "The stream; each message is an Event", body = Event,
        content_type = "text/event-stream"),
        (status = 101, description = "A WebSocket follows; each text message is an Event with its id")))]
pub(in crate::control) async fn all(
    State(api): State<Api>,
    Params(wanted): Params<Wanted>,
    Extension(pass): Extension<Pass>,
    upgrade: Upgrade,
    headers: HeaderMap,
) -> Response {
    let last = last_event_id(&headers, wanted);
    follow(upgrade, api.history.read(None, last.as_deref()), &api, pass)
}

/// Get a ticket for an event stream
///
/// A browser's `EventSource` cannot send an Authorization header, and a key does not belong in a URL. A ticket opens one
/// stream, once, within 30 seconds, as the key that asked for it.
#[utoipa::path(post, path = "/v1/tickets", tag = "events",
    responses((status = 201, description = "The ticket", body = Ticket)))]
pub(in crate::control) async fn ticket(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
) -> (StatusCode, Answer<Ticket>) {
    let ticket = api.access.ticket((api.clock)(), actor);
    (StatusCode::CREATED, Answer(Ticket { ticket, expires_in_s: TICKET_LIFE.as_secs() }))
}

fn last_event_id(headers: &HeaderMap, wanted: Wanted) -> Option<String> {
    let header = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    header.or(wanted.after)
}

/// By WebSocket when that was asked for, else as server-sent events.
fn follow(upgrade: Upgrade, reader: Reader, api: &Api, pass: Pass) -> Response {
    match upgrade {
        Ok(upgrade) => socket::follow(upgrade, reader, api, pass),
        Err(_) => stream_of(reader, api, pass),
    }
}

/// A stream that ends when its reader does, or when its key is taken away.
struct Open {
    reader: Reader,
    access: Arc<Access>,
    pass: Pass,
    clock: Arc<dyn Fn() -> Instant + Send + Sync>,
    metrics: Arc<Metrics>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.stream(-1);
    }
}

fn stream_of(reader: Reader, api: &Api, pass: Pass) -> Response {
    api.metrics.stream(1);
    let (access, clock, metrics) = (api.access.clone(), api.clock.clone(), api.metrics.clone());
    let open = Open { reader, access, pass, clock, metrics };
    let frames = stream::unfold(open, |mut open| async move {
        let read = open.reader.next().await?;
        if !open.access.still_knows((open.clock)(), &open.pass) {
            return None;
        }
        Some((Ok::<_, Infallible>(frame(&read, Sight::of(&open.pass))), open))
    });
    let mut response = Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Reverse proxies of the nginx kind would hold events back.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}

fn frame(read: &Read, sight: Sight) -> Frame {
    match read {
        Read::Event(id, event) => {
            let text = serde_json::to_string(&sight.event(event)).unwrap_or_else(|_| "{}".to_owned());
            Frame::default().id(id).data(text)
        }
        Read::Missed(count) => Frame::default().event("missed").data(format!("{{\"missed\":{count}}}")),
    }
}
