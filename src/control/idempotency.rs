//! `Idempotency-Key`: a request that comes twice under one key is obeyed once, and answered the same twice. The requests
//! of an API key and the time go in; the first answer, a refusal, or leave to go on comes out. Only fingerprints of
//! requests are kept, and answers, which have no digits; a store keeps them over a restart, sealed. What was not obeyed
//! (the node was too busy) is not kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::access::Pass;
use super::answers::{self, AnswerStore, Answers, Hash, KeptAnswer, Plain};
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

/// Requests that came under a key, and their answers.
#[derive(Default)]
pub(super) struct Kept {
    table: Mutex<Table>,
    store: Option<Arc<dyn AnswerStore>>,
}

#[derive(Default)]
struct Table {
    known: HashMap<Hash, Known>,
    /// Oldest first.
    order: VecDeque<(Instant, Hash)>,
}

struct Known {
    fingerprint: Hash,
    answer: Given,
}

/// How far the answer to a request is.
enum Given {
    /// It is being answered.
    Pending,
    Answer(Answer),
    /// By an earlier run; the key of the request opens it.
    Sealed(Vec<u8>),
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
    /// What an earlier run has answered, and where this one keeps its answers.
    pub(super) fn new(now: Instant, answers: Answers) -> Self {
        let mut table = Table::default();
        for kept in answers.kept {
            let KeptAnswer { name, fingerprint, age, sealed } = kept;
            // A clock that began later than that counts it from its beginning: it is kept a little longer.
            table.order.push_back((now.checked_sub(age).unwrap_or(now), name));
            table.known.insert(name, Known { fingerprint, answer: Given::Sealed(sealed) });
        }
        table.forget(now);
        Self { table: Mutex::new(table), store: answers.store }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic leaves the table whole: it is changed in single steps.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first answer, or leave to give one.
    fn enter(&self, now: Instant, (name, key): (Hash, &Hash), fingerprint: Hash) -> Result<Place<'_>, Box<Response>> {
        let mut table = self.table();
        table.forget(now);
        match table.known.get(&name) {
            Some(known) if known.fingerprint != fingerprint => Err(Box::new(reused().into_response())),
            Some(Known { answer: Given::Answer(answer), .. }) => Err(Box::new(answer.clone().into_response())),
            Some(Known { answer: Given::Sealed(sealed), .. }) => {
                // It was obeyed, whatever has become of the answer: it is not obeyed again.
                let answer = answers::open(key, &name, sealed).and_then(Answer::of);
                Err(Box::new(answer.map_or_else(|| reused().into_response(), IntoResponse::into_response)))
            }
            Some(_) => Err(Box::new(in_progress().into_response())),
            None => {
                table.known.insert(name, Known { fingerprint, answer: Given::Pending });
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
            known.answer = Given::Answer(answer);
        }
        self.done = true;
    }
}

impl Answer {
    fn plain(&self) -> Option<Plain> {
        let header = |(name, value): &(header::HeaderName, HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        Some(Plain {
            status: self.status.as_u16(),
            headers: self.headers.iter().map(header).collect::<Option<_>>()?,
            body: String::from_utf8(self.body.to_vec()).ok()?,
            problem: self.problem.clone(),
        })
    }

    fn of(plain: Plain) -> Option<Self> {
        let header = |(name, value): (String, String)| {
            Some((header::HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        };
        Some(Self {
            status: StatusCode::from_u16(plain.status).ok()?,
            headers: plain.headers.into_iter().map(header).collect::<Option<_>>()?,
            body: Bytes::from(plain.body),
            problem: plain.problem,
        })
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
    let who = [pass.actor.name.as_bytes(), panel, key.as_bytes()];
    let (name, key) = (hash(&who), answers::key(&who));
    let fingerprint = hash(&[parts.method.as_str().as_bytes(), parts.uri.path().as_bytes(), &body]);
    let place = match kept.enter(now, (name, &key), fingerprint) {
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
    let answer = Answer { status: parts.status, headers: headers.collect(), body: body.clone(), problem };
    if let Some(store) = &kept.store
        && let Some(sealed) = answer.plain().and_then(|plain| answers::seal(&key, &name, &plain))
    {
        store.keep(KeptAnswer { name, fingerprint, age: Duration::ZERO, sealed }).await;
    }
    place.keep(answer);
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

    const KEY: Hash = [3; 32];

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
        let place = kept.enter(t, (name, &KEY), one).expect("the first");
        assert_eq!(status(kept.enter(t, (name, &KEY), one)), Some(409));
        place.keep(answer(201));
        assert_eq!(status(kept.enter(t, (name, &KEY), one)), Some(201));
        assert_eq!(status(kept.enter(t, (name, &KEY), other)), Some(422));
        assert!(kept.enter(t, (hash(&[b"crmk", b""]), &KEY), one).is_ok(), "another key");
        assert!(kept.enter(t + KEPT, (name, &KEY), other).is_ok(), "forgotten after a day");
    }

    #[test]
    fn what_was_not_answered_is_not_kept() {
        let (kept, t) = (Kept::default(), Instant::now());
        let (name, one) = (hash(&[b"crm", b"k"]), hash(&[b"1"]));
        drop(kept.enter(t, (name, &KEY), one).expect("the first"));
        let place = kept.enter(t + KEPT / 2, (name, &KEY), one).expect("once more");
        place.keep(answer(200));
        assert_eq!(status(kept.enter(t + KEPT, (name, &KEY), one)), Some(200), "kept from its own time on");
    }

    #[test]
    fn the_table_is_bounded() {
        let (kept, t) = (Kept::default(), Instant::now());
        for n in 0..MOST + 10 {
            let place = kept.enter(t, (hash(&[&n.to_be_bytes()]), &KEY), [0; 32]).expect("new");
            place.keep(answer(200));
        }
        let table = kept.table();
        assert!(table.known.len() <= MOST && table.order.len() <= MOST);
    }

    #[test]
    fn an_earlier_runs_answer_is_given_again_until_its_day_is_over_and_never_obeyed_anew() {
        let t = Instant::now();
        let (name, one, other) = (hash(&[b"crm", b"k"]), hash(&[b"1"]), hash(&[b"2"]));
        let problem = Problem::from(crate::call::SignalError::PaymentIncomplete);
        let given = Answer { problem: Some(problem), ..answer(409) };
        let sealed = answers::seal(&KEY, &name, &given.plain().expect("plain")).expect("sealed");
        let of = |age, sealed: &[u8]| {
            let kept = vec![KeptAnswer { name, fingerprint: one, age, sealed: sealed.to_vec() }];
            Kept::new(t, Answers { kept, store: None })
        };
        let kept = of(KEPT / 2, &sealed);
        let again = kept.enter(t, (name, &KEY), one).err().expect("an answer");
        assert_eq!(again.status(), 409);
        assert_eq!(again.extensions().get::<Problem>(), given.problem.as_ref());
        assert_eq!(status(kept.enter(t, (name, &KEY), other)), Some(422));
        let broken = of(KEPT / 2, &sealed[1..]);
        assert_eq!(status(broken.enter(t, (name, &KEY), one)), Some(422));
        if t.checked_sub(KEPT).is_some() {
            assert!(of(KEPT, &sealed).enter(t, (name, &KEY), one).is_ok());
        }
    }
}
