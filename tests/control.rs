//! The control API over real HTTP, the calls behind it scripted: roles × endpoints, problem documents, event streams
//! that resume, tickets that work once, and no digit anywhere.
#![allow(clippy::disallowed_methods)]

#[path = "control/client.rs"]
mod client;
#[path = "control/payments.rs"]
mod payments;
#[path = "control/streams.rs"]
mod streams;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rand::SeedableRng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tonewall::base::Random;
use tonewall::base::ids::{CallId, CollectionId, HoldId};
use tonewall::base::time::WallMs;
use tonewall::call::{
    CallState, CallView, CollectionState, CollectionView, HoldView, PaymentOrder, RegistrationView, Reply, Signal,
    SignalError, SipCallIds, TargetState, TargetView, TrunkState, TrunkView,
};
use tonewall::config::{ApiKey, GuardMode, Role, Side};
use tonewall::control::access::{Access, ENDPOINTS, ROLES, allows, role_name};
use tonewall::control::history::History;
use tonewall::control::webhooks::Webhooks;
use tonewall::control::{Calls, CallsError, Parts, openapi_document, router};
use tonewall::obs::event::{EndCause, EventKind, HoldKind, LegTotals};
use tonewall::obs::metrics::Metrics;

type Script = dyn Fn(&Signal) -> Result<Reply, CallsError> + Send + Sync;

/// Calls that answer as told and remember what they were asked.
struct Scripted {
    asked: Mutex<Vec<Signal>>,
    script: Box<Script>,
    ready: Mutex<Result<(), String>>,
}

impl Calls for Scripted {
    fn signal(&self, signal: Signal) -> BoxFuture<'_, Result<Reply, CallsError>> {
        let answer = (self.script)(&signal);
        self.asked.lock().expect("the list").push(signal);
        Box::pin(std::future::ready(answer))
    }

    fn ready(&self) -> Result<(), String> {
        self.ready.lock().expect("the state").clone()
    }
}

struct Node {
    address: SocketAddr,
    calls: Arc<Scripted>,
    history: Arc<History>,
    access: Arc<Access>,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.history.close();
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends");
        }
    }
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:tonewall:problem:{kind}"), "{problem}");
        assert_eq!(problem["status"], status);
        for part in ["title", "detail", "instance"] {
            assert!(problem[part].as_str().is_some_and(|text| !text.is_empty()), "{part}: {problem}");
        }
        problem
    }
}

fn key_of(role: Role) -> String {
    format!("key-of-{}", role_name(role))
}

fn keys() -> Vec<ApiKey> {
    let key = |role| ApiKey { name: role_name(role).into(), role, sha256: Sha256::digest(key_of(role)).into() };
    ROLES.into_iter().map(key).collect()
}

impl Node {
    fn start(script: impl Fn(&Signal) -> Result<Reply, CallsError> + Send + Sync + 'static) -> Self {
        let metrics = Arc::new(Metrics::new());
        let history = History::new(WallMs(77), 64, metrics.clone());
        let access = Arc::new(Access::new(keys(), Random::seed_from_u64(3)));
        let calls = Arc::new(Scripted { asked: Mutex::default(), script: Box::new(script), ready: Mutex::new(Ok(())) });
        let parts = Parts {
            calls: calls.clone(),
            history: history.clone(),
            access: access.clone(),
            webhooks: Arc::new(Webhooks::new(streams::schedule())),
            metrics: metrics.clone(),
            clock: Arc::new(Instant::now),
            node: "node-1".into(),
        };
        let (stop, stopped) = watch::channel(false);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("its address");
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tonewall::rt::http::serve(listener, router(parts, axum::Router::new()), stopped).await;
            });
        });
        Self { address, calls, history, access, metrics, stop, thread: Some(thread) }
    }

    fn send(&self, method: &str, path: &str, key: Option<&str>, body: Option<(&str, &[u8])>) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n");
        if let Some(key) = key {
            head += &format!("Authorization: Bearer {key}\r\n");
        }
        let bytes = body.map_or(&b""[..], |(_, bytes)| bytes);
        if let Some((kind, _)) = body {
            head += &format!("Content-Type: {kind}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", bytes.len());
        let mut stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream.write_all(head.as_bytes()).expect("sent");
        // A server that refuses a long body closes before it has read it.
        let _ = stream.write_all(bytes);
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        let text = String::from_utf8(text).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|s| s.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        Answer {
            status: status.expect("a status"),
            headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
            text: body.to_owned(),
        }
    }

    fn json(&self, method: &str, path: &str, role: Role, body: &Value) -> Answer {
        let body = body.to_string();
        self.send(method, path, Some(&key_of(role)), Some(("application/json", body.as_bytes())))
    }

    fn get(&self, path: &str, role: Role) -> Answer {
        self.send("GET", path, Some(&key_of(role)), None)
    }

    fn asked(&self) -> Vec<Signal> {
        std::mem::take(&mut *self.calls.asked.lock().expect("the list"))
    }

    /// Opens an event stream; lines come one by one.
    fn follow(&self, path: &str, key: Option<&str>, last: Option<&str>) -> (u16, Lines) {
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: node\r\n");
        if let Some(key) = key {
            head += &format!("Authorization: Bearer {key}\r\n");
        }
        if let Some(last) = last {
            head += &format!("Last-Event-ID: {last}\r\n");
        }
        let mut stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream.write_all(format!("{head}\r\n").as_bytes()).expect("sent");
        let mut lines = Lines(BufReader::new(stream));
        let status = lines.line().split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        while !lines.line().is_empty() {}
        (status, lines)
    }
}

struct Lines(BufReader<TcpStream>);

impl Lines {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// The next message: id and data. `None` at the end of the stream.
    fn message(&mut self) -> Option<(String, Value)> {
        let (mut id, mut name) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            if let Some(text) = line.strip_prefix("id: ") {
                id = text.to_owned();
            } else if let Some(text) = line.strip_prefix("event: ") {
                name = text.to_owned();
            } else if let Some(text) = line.strip_prefix("data: ") {
                let id = if name.is_empty() { id } else { name };
                return Some((id, serde_json::from_str(text).expect("JSON")));
            } else if line == "0" {
                return None;
            }
        }
    }
}

struct Ids {
    call: CallId,
    hold: HoldId,
    collection: CollectionId,
}

fn ids() -> Ids {
    let mut random = Random::seed_from_u64(42);
    Ids {
        call: CallId::draw(&mut random),
        hold: HoldId::draw(&mut random),
        collection: CollectionId::draw(&mut random),
    }
}

fn hold(id: HoldId, kind: HoldKind) -> HoldView {
    HoldView { id, kind, owner: "key:crm".into(), reason: "payment".into(), age_ms: 0, ttl_ms: 120_000 }
}

fn collection(id: CollectionId) -> CollectionView {
    CollectionView {
        id,
        state: CollectionState::Open,
        received: 3,
        mask: "•••".into(),
        min: 16,
        max: 16,
        result: None,
        luhn: None,
    }
}

fn call(id: CallId) -> CallView {
    CallView {
        id,
        state: CallState::Answered,
        from_trunk: "carrier".into(),
        to_trunk: "pbx".into(),
        caller: "4930123".into(),
        called: "100".into(),
        agent: "100".into(),
        sip_call_ids: SipCallIds { customer: Some("a@b".into()), agent: None },
        reference: None,
        age_ms: 1,
        talk_ms: None,
        codecs: tonewall::call::CodecView { customer: Some("PCMU".into()), agent: Some("PCMU".into()), maskable: true },
        guard: GuardMode::Signal,
        masked: false,
        paused: false,
        keys_masked: 0,
        holds: Vec::new(),
        collection: None,
        payment: None,
        recording: None,
    }
}

/// What comes after the end of an answered call.
fn media() -> EventKind {
    let totals = LegTotals { received: 9, sent: 9, foreign: 0, malformed: 0, lost: 0, unauthentic: 0, replayed: 0 };
    EventKind::CallMedia { customer: totals, agent: totals }
}

/// An engine that agrees with everything.
fn agreeable(signal: &Signal) -> Result<Reply, CallsError> {
    Ok(match signal {
        Signal::Find { .. } => Reply::Calls(vec![call(ids().call)]),
        Signal::Get { .. } => Reply::Call(Box::new(call(ids().call))),
        Signal::TakeHolds { kinds, .. } => Reply::Holds(kinds.iter().map(|kind| hold(ids().hold, *kind)).collect()),
        Signal::RenewHold { .. } => Reply::Holds(vec![hold(ids().hold, HoldKind::Mask)]),
        Signal::StartCollection { .. } | Signal::GetCollection { .. } | Signal::CancelCollection { .. } => {
            Reply::Collection(collection(ids().collection))
        }
        Signal::Payment { order: PaymentOrder::List, .. } => Reply::Payments(vec![payments::view()]),
        Signal::Payment { .. } => Reply::Payment(Box::new(payments::view())),
        Signal::Trunks => Reply::Trunks(vec![trunk()]),
        Signal::ReleaseHold { .. } | Signal::HangUp { .. } => Reply::Done,
    })
}

fn trunk() -> TrunkView {
    let target =
        |address: &str, state, for_ms| TargetView { address: address.into(), state, weight: 1, probes_lost: 0, for_ms };
    TrunkView {
        name: "carrier".into(),
        side: Side::Carrier,
        state: TrunkState::Up,
        calls: 12,
        max_calls: 500,
        max_calls_per_s: Some(20),
        probe_s: Some(30),
        targets: vec![
            target("198.51.100.7:5060", TargetState::Up, None),
            target("198.51.100.8:5060", TargetState::Resting, Some(41_200)),
        ],
        registration: Some(RegistrationView { registered: true, expires_ms: Some(214_000), failures: 0 }),
    }
}

#[test]
fn trunks_are_shown_as_the_page_of_the_api_says() {
    let node = Node::start(agreeable);
    let shown = node.get("/v1/trunks", Role::Auditor).json();
    let page = include_str!("../docs/api.md");
    let (_, from) = page.split_once("## Trunks\n\n```json\n").expect("the section");
    let (example, _) = from.split_once("```").expect("its end");
    assert_eq!(shown, serde_json::from_str::<Value>(example).expect("JSON"));
    node.get("/v1/trunks", Role::Agent).problem(403, "forbidden");
}

fn concrete(route: &str) -> String {
    let ids = ids();
    route
        .replace("{call}", &ids.call.to_string())
        .replace("{hold}", &ids.hold.to_string())
        .replace("{collection}", &ids.collection.to_string())
        .replace("{payment}", &payments::view().id.to_string())
        .replace("{endpoint}", "crm")
        .replace("{letter}", streams::DEAD)
}

fn body_for(method: &str, route: &str) -> Option<Value> {
    match (method, route.rsplit('/').next()) {
        ("POST", Some("holds")) => Some(json!({"kind": "both", "reason": "payment", "ttl_s": 60})),
        ("PATCH", _) => Some(json!({"ttl_s": 60})),
        ("POST", Some("collections")) => Some(json!({"length": 16})),
        ("POST", Some("payments")) => Some(json!({"charge_amount": "10.50"})),
        ("POST", Some("{payment}")) => Some(json!({"capture": "security-code"})),
        _ => None,
    }
}

#[test]
fn each_role_gets_exactly_what_the_table_gives_it_and_nobody_else_gets_anything() {
    let node = Node::start(agreeable);
    let mut matrix = String::new();
    for (method, route, right) in ENDPOINTS {
        let path = concrete(route);
        let body = body_for(method, route).map(|body| body.to_string());
        let body = body.as_ref().map(|body| ("application/json", body.as_bytes()));
        matrix += &format!("\n{method:6} {route:52}");
        for role in ROLES {
            let status = if route.ends_with("events") {
                node.follow(&path, Some(&key_of(role)), None).0
            } else {
                node.send(method, &path, Some(&key_of(role)), body).status
            };
            let expected_ok = allows(role, *right);
            // Whoever comes first takes the dead letter away.
            let through = (200..300).contains(&status) || (status == 404 && route.ends_with("{letter}"));
            assert_eq!(through, expected_ok, "{method} {route} as {role:?}: {status}");
            assert!(expected_ok || status == 403, "{method} {route} as {role:?}: {status}");
            matrix += &format!(" {status}");
        }
        let keyless = node.send(method, &path, None, body);
        keyless.problem(401, "unauthenticated");
        assert_eq!(keyless.headers["www-authenticate"], "Bearer realm=\"tonewall\"");
        for wrong in ["", "x", "key-of-admi", " key-of-admin", "key-of-admin x", "KEY-OF-ADMIN", &"9".repeat(4_000)] {
            node.send(method, &path, Some(wrong), body).problem(401, "unauthenticated");
        }
    }
    eprintln!("{:>59} {ROLES:?}{matrix}", "");
}

#[test]
fn every_endpoint_of_the_description_is_in_the_table_or_open_and_the_other_way_round() {
    let document = serde_json::to_value(openapi_document()).expect("JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    let mut described = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            described.push(format!("{} {path}", method.to_uppercase()));
            let open = ["/health", "/ready", "/openapi.json"].contains(&path.as_str());
            assert_eq!(open, operation["security"] == json!([{}]), "{method} {path}: {}", operation["security"]);
            assert_eq!(!open, operation["responses"]["401"].is_object(), "{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
            let body = body_for(&method.to_uppercase(), path).is_some();
            assert_eq!(body, operation["requestBody"].is_object(), "{method} {path}");
        }
    }
    let mut table: Vec<String> = ENDPOINTS.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    table.extend(["GET /health", "GET /ready", "GET /openapi.json"].map(str::to_owned));
    table.sort();
    described.sort();
    assert_eq!(described, table);
    // Every reference leads somewhere.
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document["components"]["schemas"][name].is_object(), "{name} is not described");
    }
    assert_eq!(document["components"]["securitySchemes"]["apiKey"]["scheme"], "bearer");
    let node = Node::start(agreeable);
    assert_eq!(node.send("GET", "/openapi.json", None, None).json(), document);
}

#[test]
fn signals_carry_what_was_asked_and_who_asked() {
    let node = Node::start(agreeable);
    let base = format!("/v1/calls/{}", ids().call);
    let taken =
        node.json("POST", &format!("{base}/holds"), Role::Agent, &json!({"kind": "both", "reason": " a card "}));
    assert_eq!(taken.status, 201, "{}", taken.text);
    assert_eq!(taken.json()["holds"].as_array().map(Vec::len), Some(2));
    let asked = node.asked();
    let [Signal::TakeHolds { call, kinds, reason, ttl: None, actor }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(*call, ids().call);
    assert_eq!(kinds[..], [HoldKind::Mask, HoldKind::Pause]);
    assert_eq!((reason.as_str(), actor.name.as_str(), actor.role), ("a card", "agent", Role::Agent));

    let started = node.json("POST", &format!("{base}/collections"), Role::Integration, &json!({"min": 3, "max": 4}));
    assert_eq!(started.status, 201, "{}", started.text);
    assert_eq!(started.headers["location"], format!("{base}/collections/{}", ids().collection));
    let asked = node.asked();
    assert!(matches!(&asked[..], [Signal::StartCollection { request, .. }] if request.max == Some(4)), "{asked:?}");

    let listed = node.get("/v1/calls?agent=100&reference=x%20y&limit=7", Role::Auditor);
    assert_eq!(listed.json()["calls"][0]["id"], ids().call.to_string());
    let asked = node.asked();
    let [Signal::Find { find, limit: 7 }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((find.agent.as_deref(), find.reference.as_deref()), (Some("100"), Some("x y")));
    let none = node.get("/v1/calls?id=call_00000000000000000000000000000000", Role::Auditor);
    assert_eq!(none.json()["calls"], json!([]));
    assert_eq!(node.get("/v1/me", Role::Agent).json()["name"], "agent");
}

#[test]
fn what_the_engine_turns_down_becomes_the_right_problem() {
    let cases = [
        (SignalError::NoSuchCall, 404, "no-such-call"),
        (SignalError::NoSuchHold, 404, "no-such-hold"),
        (SignalError::NoSuchCollection, 404, "no-such-collection"),
        (SignalError::Forbidden, 403, "forbidden"),
        (SignalError::HoldPinned, 409, "hold-pinned"),
        (SignalError::TooManyHolds, 409, "too-many-holds"),
        (SignalError::CollectionOpen, 409, "collection-open"),
        (SignalError::NotAnswered, 409, "not-answered"),
        (SignalError::BadKinds, 422, "invalid-request"),
    ];
    for (error, status, kind) in cases {
        let node = Node::start(move |_| Err(error.into()));
        let path = format!("/v1/calls/{}", ids().call);
        let problem = node.get(&path, Role::Admin).problem(status, kind);
        assert_eq!(problem["instance"], path);
        assert!(problem["where"]["in"].is_string(), "{problem}");
    }
    let node = Node::start(|_| Err(CallsError::Unavailable));
    let answer = node.get("/v1/calls", Role::Admin);
    answer.problem(503, "unavailable");
    assert_eq!(answer.headers["retry-after"], "2");
}

#[test]
fn a_request_that_makes_no_sense_is_told_where_and_why() {
    let node = Node::start(agreeable);
    let holds = format!("/v1/calls/{}/holds", ids().call);
    let post =
        |body: &str| node.send("POST", &holds, Some(&key_of(Role::Admin)), Some(("application/json", body.as_bytes())));
    for (body, status, kind, field) in [
        ("", 400, "invalid-json", Value::Null),
        ("{", 400, "invalid-json", Value::Null),
        ("{\"kind\": \"mask\",\n \"reason\": nope}", 400, "invalid-json", Value::Null),
        ("[]", 422, "invalid-request", Value::Null),
        (r#"{"kind":"mask"}"#, 422, "invalid-request", json!("reason")),
        (r#"{"kind":"mask","reason":"x","colour":1}"#, 422, "invalid-request", json!("colour")),
        (r#"{"kind":"mask","kind":"mask","reason":"x"}"#, 422, "invalid-request", json!("kind")),
        (r#"{"kind":"all","reason":"x"}"#, 422, "invalid-request", Value::Null),
        (r#"{"kind":"mask","reason":7}"#, 422, "invalid-request", Value::Null),
        (r#"{"kind":"mask","reason":"x","ttl_s":-1}"#, 422, "invalid-request", Value::Null),
        (r#"{"kind":"mask","reason":"x","ttl_s":0}"#, 422, "invalid-request", json!("ttl_s")),
        (r#"{"kind":"mask","reason":"x","ttl_s":86401}"#, 422, "invalid-request", json!("ttl_s")),
        (r#"{"kind":"mask","reason":"  "}"#, 422, "invalid-request", json!("reason")),
        (r#"{"kind":"mask","reason":"a\nb"}"#, 422, "invalid-request", json!("reason")),
        (r#"{"kind":"mask","reason":"4242 4242 4242 4242"}"#, 422, "invalid-request", json!("reason")),
    ] {
        let answer = post(body);
        let problem = answer.problem(status, kind);
        assert_eq!(problem["where"]["in"], "body", "{body}: {problem}");
        assert_eq!(problem["where"]["field"], field, "{body}: {problem}");
        assert!(!answer.text.contains("4242"), "{}", answer.text);
    }
    let problem = post("{\"kind\": \"mask\",\n \"reason\": nope}").json();
    assert_eq!((&problem["where"]["line"], &problem["where"]["column"]), (&json!(2), &json!(13)));
    let long = format!(r#"{{"kind":"mask","reason":"{}"}}"#, "x".repeat(121));
    post(&long).problem(422, "invalid-request");
    post(&" ".repeat(17_000)).problem(413, "body-too-large");
    post(&"[".repeat(9_000)).problem(400, "invalid-json");
    // A value of the wrong type is not repeated.
    let echo = post(r#"{"kind":"mask","reason":"x","ttl_s":"4111111111111111"}"#);
    echo.problem(422, "invalid-request");
    assert!(!echo.text.contains("4111"), "{}", echo.text);

    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let answer = node.send("POST", &holds, Some(&key_of(Role::Admin)), Some((kind, b"{}")));
        answer.problem(415, "unsupported-media-type");
    }
    let charset = Some(("application/json; charset=utf-8", &br#"{"kind":"mask","reason":"x"}"#[..]));
    assert_eq!(node.send("POST", &holds, Some(&key_of(Role::Admin)), charset).status, 201);

    assert_eq!(node.get("/v1/calls?colour=1", Role::Admin).problem(422, "invalid-request")["where"]["field"], "colour");
    node.get("/v1/calls?limit=0", Role::Admin).problem(422, "invalid-request");
    node.get("/v1/calls?limit=many", Role::Admin).problem(422, "invalid-request");
    node.get("/v1/calls/nonsense", Role::Admin).problem(404, "no-such-call");
    node.get("/v1/calls/..%2f..%2fetc%2fpasswd", Role::Admin).problem(404, "no-such-call");
    node.get(&format!("/v1/calls/{}/collections/x", ids().call), Role::Admin).problem(404, "no-such-collection");
    node.get("/v1/nothing", Role::Admin).problem(404, "no-such-endpoint");
    node.get("/4242424242424242", Role::Admin).problem(404, "no-such-endpoint");
    assert!(!node.get("/4242424242424242", Role::Admin).text.contains("4242"));
    let answer = node.send("PUT", "/v1/calls", Some(&key_of(Role::Admin)), None);
    answer.problem(405, "method-not-allowed");
    assert!(answer.headers["allow"].contains("GET"), "{:?}", answer.headers);
    assert!(
        node.asked().iter().all(|signal| matches!(signal, Signal::TakeHolds { .. })),
        "only the good one got through"
    );
}

#[test]
fn collections_refuse_what_cannot_be_collected() {
    let node = Node::start(|signal| match signal {
        Signal::StartCollection { request, .. } => {
            request.spec().map_err(SignalError::from)?;
            agreeable(signal)
        }
        _ => agreeable(signal),
    });
    let path = format!("/v1/calls/{}/collections", ids().call);
    for body in [
        json!({}),
        json!({"length": 0}),
        json!({"length": 65}),
        json!({"length": 4, "min": 2}),
        json!({"min": 5, "max": 4}),
        json!({"length": 4, "terminator": "5"}),
        json!({"length": 4, "first_key_timeout_ms": 10}),
        json!({"length": 4, "digits": "4242"}),
    ] {
        node.json("POST", &path, Role::Admin, &body).problem(422, "invalid-request");
    }
    let good = json!({"length": 4, "terminator": "", "clear": "", "inter_key_timeout_ms": 5000});
    assert_eq!(node.json("POST", &path, Role::Admin, &good).status, 201);
}

#[test]
fn an_event_stream_resumes_where_it_stopped_and_ends_with_its_call() {
    let node = Node::start(agreeable);
    let ids = ids();
    let publish = |kind| node.history.publish(WallMs(5), Some(ids.call), kind);
    let admin = key_of(Role::Admin);
    let path = format!("/v1/calls/{}/events", ids.call);
    let (status, mut stream) = node.follow(&path, Some(&admin), None);
    assert_eq!(status, 200);
    while !node.metrics.print().contains("event_streams 1") {
        std::thread::yield_now();
    }
    publish(EventKind::CallAnswered);
    node.history.publish(WallMs(6), None, EventKind::CallAnswered);
    publish(EventKind::KeyMasked { count: 1 });
    let (first, event) = stream.message().expect("an event");
    assert_eq!((first.as_str(), &event["type"], &event["seq"]), ("77.1", &json!("call-answered"), &json!(1)));
    let (second, event) = stream.message().expect("an event");
    assert_eq!((second.as_str(), &event["type"], &event["count"]), ("77.3", &json!("key-masked"), &json!(1)));
    drop(stream);
    publish(EventKind::KeyMasked { count: 2 });
    publish(EventKind::CallEnded { cause: EndCause::AgentHungUp, status: None, talk_ms: 9 });
    publish(media());
    let (_, mut stream) = node.follow(&path, Some(&admin), Some(&second));
    assert_eq!(stream.message().expect("an event").1["count"], 2);
    assert_eq!(stream.message().expect("an event").1["type"], "call-ended");
    assert_eq!(stream.message().expect("an event").1["type"], "call-media");
    assert!(stream.message().is_none(), "the stream ends with the call");
    // Far behind: told how much is gone.
    for count in 0..100 {
        publish(EventKind::KeyMasked { count });
    }
    let (_, mut stream) = node.follow("/v1/events", Some(&admin), Some("77.1"));
    let (name, missed) = stream.message().expect("a message");
    assert_eq!((name.as_str(), &missed["missed"]), ("missed", &json!(106 - 64 - 1)));
}

#[test]
fn a_call_that_has_ended_can_still_be_read_and_one_that_never_was_cannot() {
    let node = Node::start(|_| Err(SignalError::NoSuchCall.into()));
    let path = format!("/v1/calls/{}/events", ids().call);
    node.get(&path, Role::Admin).problem(404, "no-such-call");
    node.history.publish(WallMs(5), Some(ids().call), EventKind::CallAnswered);
    let ended = EventKind::CallEnded { cause: EndCause::AgentHungUp, status: None, talk_ms: 9 };
    node.history.publish(WallMs(5), Some(ids().call), ended);
    node.history.publish(WallMs(5), Some(ids().call), media());
    let (status, mut stream) = node.follow(&path, Some(&key_of(Role::Admin)), None);
    assert_eq!(status, 200);
    let mut seen = Vec::new();
    while let Some((_, event)) = stream.message() {
        seen.extend(event["type"].as_str().map(str::to_owned));
    }
    assert_eq!(seen, ["call-answered", "call-ended", "call-media"]);
}

#[test]
fn a_ticket_opens_one_stream_once_and_nothing_else() {
    let node = Node::start(agreeable);
    let ticket = || node.send("POST", "/v1/tickets", Some(&key_of(Role::Agent)), None).json()["ticket"].clone();
    let text = ticket();
    let text = text.as_str().expect("a ticket");
    assert_eq!(node.follow(&format!("/v1/events?ticket={text}"), None, None).0, 200);
    assert_eq!(node.follow(&format!("/v1/events?ticket={text}"), None, None).0, 401, "it works once");
    let text = ticket();
    let text = text.as_str().expect("a ticket");
    assert_eq!(node.send("GET", &format!("/v1/calls?ticket={text}"), None, None).status, 401);
    assert_eq!(node.send("GET", &format!("/metrics?ticket={text}"), None, None).status, 401);
    // Its key is taken away before it is used.
    node.access.set_keys(keys().into_iter().filter(|key| key.role != Role::Agent).collect());
    assert_eq!(node.follow(&format!("/v1/events?ticket={text}"), None, None).0, 401);
}

#[test]
fn a_ticket_is_void_after_half_a_minute() {
    let access = Access::new(keys(), Random::seed_from_u64(9));
    let actor = tonewall::call::Actor { name: "agent".into(), role: Role::Agent };
    let now = Instant::now();
    let ticket = access.ticket(now, actor.clone());
    assert_eq!(access.redeem(now + Duration::from_secs(31), &ticket), None);
    let ticket = access.ticket(now, actor.clone());
    assert_eq!(access.redeem(now + Duration::from_secs(29), &ticket), Some(actor.clone()));
    // Tickets are bounded: the oldest gives way.
    let first = access.ticket(now, actor.clone());
    for later in 1..=1_024 {
        access.ticket(now + Duration::from_millis(later), actor.clone());
    }
    assert_eq!(access.redeem(now + Duration::from_secs(2), &first), None);
}

#[test]
fn a_key_that_is_taken_away_ends_requests_and_running_streams() {
    let node = Node::start(agreeable);
    let agent = key_of(Role::Agent);
    let (_, mut stream) = node.follow("/v1/events", Some(&agent), Some("77.0"));
    node.history.publish(WallMs(5), None, EventKind::CallAnswered);
    assert!(stream.message().is_some());
    node.access.set_keys(keys().into_iter().filter(|key| key.role != Role::Agent).collect());
    node.history.publish(WallMs(5), None, EventKind::CallAnswered);
    assert!(stream.message().is_none(), "the stream ends instead of telling more");
    node.get("/v1/calls", Role::Agent).problem(401, "unauthenticated");
    assert_eq!(node.get("/v1/calls", Role::Admin).status, 200);
}

#[test]
fn health_readiness_metrics_and_headers() {
    let node = Node::start(agreeable);
    let health = node.send("GET", "/health", None, None);
    assert_eq!(health.json()["status"], "ok");
    for header in ["content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy"] {
        assert!(health.headers.contains_key(header), "{header}");
    }
    assert_eq!(health.headers["cache-control"], "no-store");
    assert_eq!(node.send("GET", "/ready", None, None).status, 200);
    *node.calls.ready.lock().expect("the state") = Err("draining".into());
    assert_eq!(node.send("GET", "/ready", None, None).problem(503, "unavailable")["detail"], "draining");
    node.history.publish(WallMs(1), Some(ids().call), EventKind::KeyMasked { count: 1 });
    let metrics = node.get("/metrics", Role::Auditor);
    assert!(metrics.headers["content-type"].starts_with("application/openmetrics-text"));
    assert!(metrics.text.contains("tonewall_keys_masked_total 1"), "{}", metrics.text);
    assert!(
        metrics.text.contains("tonewall_http_requests_total{route=\"/ready\",status=\"503\"} 1"),
        "{}",
        metrics.text
    );
}

#[test]
fn a_request_that_never_ends_its_headers_does_not_hold_the_server() {
    let node = Node::start(agreeable);
    let mut stuck: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(node.address).expect("connected")).collect();
    for stream in &mut stuck {
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ").expect("sent");
    }
    assert_eq!(node.send("GET", "/health", None, None).status, 200);
    let begun = Instant::now();
    drop(node);
    assert!(begun.elapsed() < Duration::from_secs(6), "shutdown waits for nobody longer than its farewell");
}
