//! `Idempotency-Key`: a request that comes twice under one key is obeyed once, and answered the same twice. The requests
//! of an API key and the time go in; the first answer, a refusal, or leave to go on comes out. Only fingerprints of
//! requests are kept, and answers, which have no digits. What was not obeyed (the node was too busy) is not kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::access::Pass;
use super::extract::MOST_BODY;
use super::problem::{Blame, Part, Problem};
use crate::obs::redact::redact;

/// The header.
pub(super) const HEADER: &str = "idempotency-key";

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3_600);

/// The most answers that are kept; beyond them the oldest are forgotten.
const MOST: usize = 10_000;

/// The most characters of a key.
const LONGEST: usize = 255;

/// The most bytes of an answer of ours.
const MOST_ANSWER: usize = 256 * 1024;

type Hash = [u8; 32];

/// Requests that came under a key, and their answers.
#[derive(Default)]
pub(super) struct Kept {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    known: HashMap<Hash, Known>,
    /// Oldest first.
    order: VecDeque<(Instant, Hash)>,
}

struct Known {
    fingerprint: Hash,
    /// `None`: still being answered.
    answer: Option<Answer>,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    body: Bytes,
    problem: Option<Problem>,
}

/// Takes a request's place in the table back when it was not answered to the end.
struct Place<'a> {
    kept: &'a Kept,
    name: Hash,
    done: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.done {
            let mut table = self.kept.table();
            table.known.remove(&self.name);
            // Or its age would be that of whoever comes next under the key.
            table.order.retain(|(_, name)| *name != self.name);
        }
    }
}

impl Kept {
    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic leaves the table whole: it is changed in single steps.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first answer, or leave to give one.
    fn enter(&self, now: Instant, name: Hash, fingerprint: Hash) -> Result<Place<'_>, Box<Response>> {
        let mut table = self.table();
        table.forget(now);
        match table.known.get(&name) {
            Some(known) if known.fingerprint != fingerprint => Err(Box::new(reused().into_response())),
            Some(Known { answer: Some(answer), .. }) => Err(Box::new(answer.clone().into_response())),
            Some(_) => Err(Box::new(in_progress().into_response())),
            None => {
                table.known.insert(name, Known { fingerprint, answer: None });
                table.order.push_back((now, name));
                Ok(Place { kept: self, name, done: false })
            }
        }
    }
}

impl Table {
    fn forget(&mut self, now: Instant) {
        let old = |(at, _): &(Instant, Hash)| now.saturating_duration_since(*at) >= KEPT;
        while self.order.len() >= MOST || self.order.front().is_some_and(old) {
            let Some((_, name)) = self.order.pop_front() else { return };
            self.known.remove(&name);
        }
    }
}

impl Place<'_> {
    fn keep(mut self, answer: Answer) {
        if let Some(known) = self.kept.table().known.get_mut(&self.name) {
            known.answer = Some(answer);
        }
        self.done = true;
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        response.headers_mut().extend(self.headers.into_iter().map(|(name, value)| (Some(name), value)));
        if let Some(problem) = self.problem {
            response.extensions_mut().insert(problem);
        }
        response
    }
}

/// Obeys a request of `pass` once under its key. A request without a key is simply obeyed.
pub(super) async fn once(kept: &Kept, now: Instant, pass: &Pass, request: Request, next: Next) -> Response {
    let key = match key(request.headers()) {
        Ok(None) => return next.run(request).await,
        Ok(Some(key)) => key,
        Err(problem) => return problem.into_response(),
    };
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MOST_BODY).await else {
        let detail = format!("the body has more than {MOST_BODY} bytes, or broke off");
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large", detail)
            .at(Blame::part(Part::Body))
            .into_response();
    };
    // A panel acts in the name of the key that drew it, and sees less.
    let panel = pass.panel.as_ref().map_or(&[][..], |panel| &panel[..]);
    let name = hash(&[pass.actor.name.as_bytes(), panel, key.as_bytes()]);
    let fingerprint = hash(&[parts.method.as_str().as_bytes(), parts.uri.path().as_bytes(), &body]);
    let place = match kept.enter(now, name, fingerprint) {
        Ok(place) => place,
        Err(answer) => return *answer,
    };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, MOST_ANSWER).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let copied = [header::CONTENT_TYPE, header::LOCATION];
    let headers = copied.into_iter().filter_map(|name| Some((name.clone(), parts.headers.get(name)?.clone())));
    let problem = parts.extensions.get::<Problem>().cloned();
    place.keep(Answer { status: parts.status, headers: headers.collect(), body: body.clone(), problem });
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}

/// Whether requests of this kind may come under a key.
pub(super) fn covers(method: &Method, route: &str) -> bool {
    *method == Method::POST && route.contains("/payments")
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all(HEADER).iter();
    let Some(first) = given.next() else { return Ok(None) };
    let text = first.to_str().unwrap_or_default();
    let fine = (1..=LONGEST).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic())
        && given.next().is_none()
        && redact(&mut text.as_bytes().to_vec()) == 0;
    if fine {
        return Ok(Some(text.to_owned()));
    }
    let detail = format!("Idempotency-Key must be one word of 1 to {LONGEST} visible ASCII characters, no card number");
    Err(Problem::invalid(Blame::field(Part::Header, "Idempotency-Key"), detail))
}

fn reused() -> Problem {
    let detail = "the key was used for another request; the body or the path differs";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", "Idempotency key reused", detail)
        .at(Blame::field(Part::Header, "Idempotency-Key"))
        .hint("make a new key for each request that is not a repetition")
}

fn in_progress() -> Problem {
    let detail = "the first request under this key is still being answered";
    Problem::new(StatusCode::CONFLICT, "idempotency-in-progress", "Request in progress", detail)
        .at(Blame::field(Part::Header, "Idempotency-Key"))
        .hint("send it again in a moment")
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer {
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers: vec![], body: Bytes::from_static(b"{}"), problem: None }
    }

    fn status(entered: Result<Place<'_>, Box<Response>>) -> Option<u16> {
        entered.err().map(|response| response.status().as_u16())
    }

    #[test]
    fn the_same_request_is_answered_the_same_and_another_is_refused() {
        let (kept, t) = (Kept::default(), Instant::now());
        let (name, one, other) = (hash(&[b"crm", b"k"]), hash(&[b"1"]), hash(&[b"2"]));
        let place = kept.enter(t, name, one).expect("the first");
        assert_eq!(status(kept.enter(t, name, one)), Some(409));
        place.keep(answer(201));
        assert_eq!(status(kept.enter(t, name, one)), Some(201));
        assert_eq!(status(kept.enter(t, name, other)), Some(422));
        assert!(kept.enter(t, hash(&[b"crmk", b""]), one).is_ok(), "another key");
        assert!(kept.enter(t + KEPT, name, other).is_ok(), "forgotten after a day");
    }

    #[test]
    fn what_was_not_answered_is_not_kept() {
        let (kept, t) = (Kept::default(), Instant::now());
        let (name, one) = (hash(&[b"crm", b"k"]), hash(&[b"1"]));
        drop(kept.enter(t, name, one).expect("the first"));
        let place = kept.enter(t + KEPT / 2, name, one).expect("once more");
        place.keep(answer(200));
        assert_eq!(status(kept.enter(t + KEPT, name, one)), Some(200), "kept from its own time on");
    }

    #[test]
    fn the_table_is_bounded() {
        let (kept, t) = (Kept::default(), Instant::now());
        for n in 0..MOST + 10 {
            let place = kept.enter(t, hash(&[&n.to_be_bytes()]), [0; 32]).expect("new");
            place.keep(answer(200));
        }
        let table = kept.table();
        assert!(table.known.len() <= MOST && table.order.len() <= MOST);
    }
}
