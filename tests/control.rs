//! The control API over real HTTP, the calls behind it scripted: roles × endpoints, problem documents, event streams
//! that resume, tickets that work once, and no digit anywhere.
#![allow(clippy::disallowed_methods)]

#[path = "control/audit.rs"]
mod audit;
#[path = "control/client.rs"]
mod client;
#[path = "control/contract.rs"]
mod contract;
#[path = "control/node.rs"]
mod node;
#[path = "control/panels.rs"]
mod panels;
#[path = "control/payments.rs"]
mod payments;
#[path = "control/recordings.rs"]
mod recordings;
#[path = "control/sight.rs"]
mod sight;
#[path = "control/streams.rs"]
mod streams;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use node::*;
use rand::SeedableRng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tonewall::base::Random;
use tonewall::base::ids::{CallId, CollectionId, HoldId};
use tonewall::base::time::WallMs;
use tonewall::call::{
    CallState, CallView, CollectionState, CollectionView, HoldView, LineView, PaymentOrder, RegistrationView, Reply,
    Signal, SignalError, SipCallIds, SiprecHealth, SiprecView, TargetState, TargetView, TrunkState, TrunkView,
};
use tonewall::config::{ApiKey, GuardMode, RecordingPolicy, Role, Side};
use tonewall::control::access::{Access, ENDPOINTS, ROLES, allows, role_name};
use tonewall::control::alarms::Board;
use tonewall::control::history::History;
use tonewall::control::webhooks::Webhooks;
use tonewall::control::{Calls, CallsError, Parts, openapi_document, router};
use tonewall::obs::alarm::AlarmKind;
use tonewall::obs::event::{EndCause, EventKind, HoldKind, LegTotals, RecorderState};
use tonewall::obs::metrics::Metrics;

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

#[test]
fn each_role_gets_exactly_what_the_table_gives_it_and_nobody_else_gets_anything() {
    let node = Node::start(agreeable);
    node.alarms.raise(AlarmKind::CanaryFailed, "daily", "no key came through");
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
            // Whoever comes first takes the dead letter, or the alarm, away.
            let taken = route.ends_with("{letter}") || route.ends_with("{alarm}");
            let through = (200..300).contains(&status) || (status == 404 && taken);
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
fn alarms_are_shown_with_what_to_do_told_as_events_and_settled_by_who_may() {
    let node = Node::start(agreeable);
    node.alarms.raise(AlarmKind::CanaryFailed, "daily", "no key came through");
    node.alarms.raise(AlarmKind::TrunkDown, "pbx", "its one target takes no calls");
    let list = node.get("/v1/alarms", Role::Auditor).json();
    let ids: Vec<&str> =
        list["alarms"].as_array().expect("a list").iter().filter_map(|a| a["alarm"].as_str()).collect();
    assert_eq!(ids, ["canary-failed:daily", "trunk-down:pbx"]);
    assert!(list["alarms"][1]["advice"].as_str().is_some_and(|text| text.contains("firewall")), "{list}");
    let (_, mut stream) = node.follow("/v1/events", Some(&key_of(Role::Auditor)), Some("77.0"));
    let told = [stream.message().expect("raised").1, stream.message().expect("raised").1];
    assert_eq!(told.map(|event| event["type"].clone()), ["alarm-raised", "alarm-raised"]);
    node.send("DELETE", "/v1/alarms/trunk-down:pbx", Some(&key_of(Role::Admin)), None).problem(409, "alarm-lasts");
    node.send("DELETE", "/v1/alarms/canary-failed:daily", Some(&key_of(Role::Auditor)), None).problem(403, "forbidden");
    let settled = node.send("DELETE", "/v1/alarms/canary-failed:daily", Some(&key_of(Role::Supervisor)), None);
    assert_eq!(settled.status, 204, "{}", settled.text);
    let cleared = stream.message().expect("cleared").1;
    assert_eq!(cleared["by"], "key:supervisor", "{cleared}");
    assert_eq!(node.get("/v1/alarms", Role::Admin).json()["cleared"][0]["alarm"], "canary-failed:daily");
    node.send("DELETE", "/v1/alarms/canary-failed:daily", Some(&key_of(Role::Admin)), None)
        .problem(404, "no-such-alarm");
    assert!(node.metrics.print().contains("tonewall_alarms{kind=\"trunk-down\"} 1"), "{}", node.metrics.print());
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
    let actor = tonewall::call::Actor::new("agent", Role::Agent);
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
    node.metrics.set_payments_unknown(3);
    let metrics = node.get("/metrics", Role::Auditor);
    assert!(metrics.text.contains("tonewall_payments_unknown 3"), "{}", metrics.text);
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
