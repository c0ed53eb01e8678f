//! The API against its own description: requests made from the OpenAPI document, right ones and wrong ones, seeded. Every
//! answer has a status that the description names, a body of the schema it names, and none is a server error. A failure
//! names the seed of its case.

use rand::RngExt;
use serde_json::Map;
use tonewall::obs::event::{PaymentOutcome, RecordingState};
use tonewall::obs::payment::{MaskedFields, PaymentField, PaymentMethod, PaymentProgress, PaymentResult};

use super::*;

/// Cases of each operation.
const CASES: u64 = 60;

struct Description(Value);

impl Description {
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.resolve(self.0.pointer(reference.trim_start_matches('#')).expect("a reference")),
            None => schema,
        }
    }

    /// Why `value` is not as `schema` says.
    fn fault(&self, schema: &Value, value: &Value) -> Option<String> {
        let schema = self.resolve(schema);
        let all = schema["allOf"].as_array().into_iter().flatten();
        if let Some(fault) = all.map(|part| self.fault(part, value)).find_map(|fault| fault) {
            return Some(fault);
        }
        for any in ["oneOf", "anyOf"].iter().filter_map(|key| schema[key].as_array()) {
            let faults: Vec<String> = any.iter().map_while(|part| self.fault(part, value)).collect();
            if faults.len() == any.len() {
                return Some(format!("{value} is none of {} forms: {faults:?}", any.len()));
            }
        }
        if let Some(words) = schema["enum"].as_array()
            && !words.contains(value)
        {
            return Some(format!("{value} is not among {words:?}"));
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        let is = |kind: &&str| match *kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            other => panic!("a type the test does not know: {other}"),
        };
        if !types.is_empty() && !types.iter().any(is) {
            return Some(format!("{value} is none of {types:?}"));
        }
        if let Some(items) = value.as_array() {
            return items.iter().find_map(|item| self.fault(&schema["items"], item));
        }
        let fields = value.as_object()?;
        let mut required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if let Some(missing) = required.find(|name| !fields.contains_key(*name)) {
            return Some(format!("{missing} is missing in {value}"));
        }
        let properties = schema["properties"].as_object()?;
        fields.iter().find_map(|(name, value)| {
            let fault = self.fault(properties.get(name)?, value)?;
            Some(format!("{name}: {fault}"))
        })
    }

    /// A value as `schema` says.
    fn make(&self, schema: &Value, random: &mut Random) -> Value {
        let schema = self.resolve(schema);
        if let Some(words) = schema["enum"].as_array() {
            return words[random.random_range(0..words.len())].clone();
        }
        if let Some(any) = ["oneOf", "anyOf"].iter().find_map(|key| schema[key].as_array()) {
            return self.make(&any[random.random_range(0..any.len())], random);
        }
        let kind = match &schema["type"] {
            Value::Array(some) => some[random.random_range(0..some.len())].as_str(),
            one => one.as_str(),
        };
        match kind {
            Some("object") => {
                let mut made = Map::new();
                let required: Vec<&str> =
                    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                    if required.contains(&name.as_str()) || random.random_bool(0.4) {
                        made.insert(name.clone(), self.make(field, random));
                    }
                }
                Value::Object(made)
            }
            Some("array") => {
                let count = random.random_range(0..3);
                (0..count).map(|_| self.make(&schema["items"], random)).collect()
            }
            Some("string") => json!(["#", "*", "10.50", "USD", "US", "crm", "a word"][random.random_range(0..7)]),
            Some("integer" | "number") => json!([0, 1, 3, 5, 16, 60, 600, 100_000][random.random_range(0..8)]),
            Some("boolean") => json!(random.random_bool(0.5)),
            _ => Value::Null,
        }
    }
}

/// Something that is no right request any more, or hardly.
fn spoil(body: &mut Value, random: &mut Random) {
    let odd = [
        Value::Null,
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("4242424242424242"),
        json!("\u{202e}\u{0}\r\nX: y"),
        json!("x".repeat(20_000)),
        json!([[[[]]]]),
        json!({"$ref": "#"}),
        json!(true),
    ];
    let odd = odd[random.random_range(0..odd.len())].clone();
    let fields = body.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    match random.random_range(0..4) {
        0 => *body = odd,
        1 if !fields.is_empty() => drop(body.as_object_mut().and_then(|b| b.remove(&fields[0]))),
        2 if !fields.is_empty() => body[&fields[random.random_range(0..fields.len())]] = odd,
        _ if body.is_object() => body["unheard_of"] = odd,
        _ => {}
    }
}

/// A path segment or parameter: the right one, or not.
fn segment(right: &str, random: &mut Random) -> String {
    let odd =
        ["", "x", "call_00000000000000000000000000000000", "%00", "..%2f..%2f", "4242424242424242", "%F0%9F%92%A9"];
    if random.random_bool(0.7) { right.to_owned() } else { odd[random.random_range(0..odd.len())].to_owned() }
}

fn path(route: &str, operation: &Value, random: &mut Random) -> String {
    let mut path = String::new();
    for (right, part) in concrete(route).split('/').zip(route.split('/')).skip(1) {
        path += "/";
        path += &if part.starts_with('{') { segment(right, random) } else { part.to_owned() };
    }
    let mut query = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "query") {
        if random.random_bool(0.4) {
            let odd = ["1", "7", "0", "-1", "99999999999999999999", "x", "", "%00", "4242424242424242", "a%20b"];
            query.push(format!(
                "{}={}",
                parameter["name"].as_str().expect("a name"),
                odd[random.random_range(0..odd.len())]
            ));
        }
    }
    if random.random_bool(0.05) {
        query.push("unheard_of=1".into());
    }
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

#[test]
fn every_request_the_description_allows_or_nearly_allows_gets_an_answer_it_describes() {
    let description = Description(serde_json::to_value(openapi_document()).expect("JSON"));
    let node = Node::start(agreeable);
    let mut seen = BTreeMap::new();
    for (route, item) in description.0["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            if route.ends_with("events") {
                continue;
            }
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            for seed in 0..CASES {
                let random = &mut Random::seed_from_u64(seed);
                let case = format!("{} {route}, seed {seed}", method.to_uppercase());
                let body = operation["requestBody"].is_object().then(|| {
                    let mut body = description.make(schema, random);
                    if random.random_bool(0.5) {
                        spoil(&mut body, random);
                    }
                    body.to_string()
                });
                let sent = body.as_ref().map(|body| ("application/json", body.as_bytes()));
                let key = random.random_bool(0.95).then(|| key_of(Role::Admin));
                let path = path(route, operation, random);
                let answer = node.send(&method.to_uppercase(), &path, key.as_deref(), sent);
                *seen.entry((case.split(',').next().unwrap_or_default().to_owned(), answer.status)).or_insert(0) += 1;
                // Segments that are no segments lead elsewhere.
                let elsewhere = [404, 405].contains(&answer.status);
                let described = &operation["responses"][answer.status.to_string()];
                assert!(described.is_object() || elsewhere, "{case}: {} {}", answer.status, answer.text);
                assert!(answer.status < 500 || answer.status == 503, "{case}: {}", answer.text);
                assert!(!answer.text.contains("4242424242424242"), "{case}: {}", answer.text);
                let kind = answer.headers.get("content-type").map_or("", |kind| kind.split(';').next().unwrap_or(""));
                let content = &described["content"][kind]["schema"];
                if content.is_object() && kind.ends_with("json") {
                    let fault = description.fault(content, &answer.json());
                    assert_eq!(fault, None, "{case}: {}", answer.text);
                } else {
                    let named = described["content"].is_null() || described["content"][kind].is_object();
                    assert!(named || elsewhere, "{case}: {kind}");
                }
            }
        }
    }
    let right = seen.iter().filter(|((_, status), _)| (200..300).contains(status)).count();
    let wrong = seen.iter().filter(|((_, status), _)| *status == 422).count();
    assert!(right >= 15 && wrong >= 6, "too few kinds of answers: {right} right, {wrong} wrong, {seen:?}");
}

/// One event of each shape.
fn kinds(node: &Node) -> Vec<EventKind> {
    let payment = payments::view().id;
    let fields = MaskedFields { security_code: Some("xx".into()), ..MaskedFields::default() };
    let progress = PaymentProgress {
        capture: Some(PaymentField::SecurityCodeMatcher),
        partial_result: true,
        required: vec![PaymentField::SecurityCode],
        error_type: Some(tonewall::base::payment::FieldError::InvalidDate),
        fields,
    };
    let outcome = PaymentOutcome { payment_token: Some("tok".into()), ..PaymentOutcome::default() };
    node.alarms.raise(tonewall::obs::alarm::AlarmKind::CanaryFailed, "daily", "no key came through");
    let by = Some("key:boss".to_owned());
    let (kind, subject) = (tonewall::obs::alarm::AlarmKind::TrunkDown, "pbx".to_owned());
    let ended = tonewall::obs::alarm::AlarmEnd { alarm: "trunk-down:pbx".into(), kind, subject, lasted_ms: 1, by };
    vec![
        EventKind::PaymentStarted {
            payment,
            method: PaymentMethod::AchDebit,
            connector: "sandbox".into(),
            by: "crm".into(),
        },
        EventKind::PaymentUpdated { payment, progress },
        EventKind::PaymentSubmitted { payment },
        EventKind::PaymentEnded { payment, result: PaymentResult::TooManyFailedAttempts, outcome: outcome.clone() },
        EventKind::PaymentReconciled { payment, result: PaymentResult::Success, outcome },
        EventKind::HoldTaken {
            hold: ids().hold,
            kind: HoldKind::Pause,
            owner: "payment".into(),
            reason: "payment".into(),
            ttl_ms: 1,
        },
        EventKind::Recording {
            recording: tonewall::base::ids::RecordingId::draw(&mut Random::seed_from_u64(5)),
            state: RecordingState::Paused,
        },
        EventKind::CallAnswered,
        EventKind::AlarmRaised { alarm: node.alarms.list().alarms.remove(0) },
        EventKind::AlarmCleared { end: ended },
        media(),
    ]
}

#[test]
fn events_are_as_the_description_says() {
    let description = Description(serde_json::to_value(openapi_document()).expect("JSON"));
    let schema = json!({"$ref": "#/components/schemas/Event"});
    let node = Node::start(agreeable);
    for kind in kinds(&node) {
        let event = node.history.publish(WallMs(1), Some(ids().call), kind);
        let told = serde_json::to_value(&*event).expect("JSON");
        assert_eq!(description.fault(&schema, &told), None, "{told}");
        let mut wrong = told.clone();
        wrong["type"] = json!("unheard-of");
        assert!(description.fault(&schema, &wrong).is_some(), "the check must be able to fail: {wrong}");
    }
}

/// What the description says of a stream: the schema of its messages, and that it may become a WebSocket.
fn stream_schema<'a>(description: &'a Description, route: &str) -> &'a Value {
    let operation = &description.0["paths"][route]["get"];
    assert!(operation["responses"]["101"].is_object(), "{route} says nothing of WebSockets");
    for name in ["after", "ticket", "Last-Event-ID"] {
        let named = operation["parameters"].as_array().into_iter().flatten().any(|p| p["name"] == name);
        assert!(named, "{route} does not name {name}");
    }
    &operation["responses"]["200"]["content"]["text/event-stream"]["schema"]
}

#[test]
fn every_message_of_every_stream_is_as_the_description_says_for_every_role() {
    let description = Description(serde_json::to_value(openapi_document()).expect("JSON"));
    let node = Node::start(agreeable);
    let kinds = kinds(&node);
    let count = kinds.len();
    for kind in kinds {
        node.history.publish(WallMs(1), Some(ids().call), kind);
    }
    let mut seen = 0;
    for route in ["/v1/events", "/v1/calls/{call}/events"] {
        let schema = stream_schema(&description, route);
        assert!(schema.is_object(), "{route} has no schema");
        let path = concrete(route);
        for role in ROLES.into_iter().filter(|role| allows(*role, tonewall::control::access::Right::SeeEvents)) {
            let key = key_of(role);
            let (status, mut stream) = node.follow(&path, Some(&key), Some("77.0"));
            assert_eq!(status, 200);
            let mut socket = streams::socket(&node, &format!("{path}?after=77.0"), Some(&key)).expect("open");
            for _ in 0..count {
                let (id, told) = stream.message().expect("an event");
                let mut same = streams::next(&mut socket).expect("an event");
                assert_eq!(description.fault(schema, &told), None, "{route} as {role:?}: {told}");
                let named = same.as_object_mut().and_then(|event| event.remove("id"));
                assert_eq!((named, same), (Some(json!(id)), told), "both say the same");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 2 * 5 * count);
    // What is refused is a problem as everywhere, before a stream begins.
    for (path, key, status, kind) in [
        ("/v1/events", None, 401, "unauthenticated"),
        ("/v1/events?colour=1", Some(Role::Admin), 422, "invalid-request"),
        ("/v1/calls/nonsense/events", Some(Role::Admin), 404, "no-such-call"),
        ("/v1/calls/agent:queue/events", Some(Role::Admin), 409, "ambiguous-call"),
    ] {
        let answer = node.send("GET", path, key.map(key_of).as_deref(), None);
        let problem = answer.problem(status, kind);
        assert_eq!(description.fault(&json!({"$ref": "#/components/schemas/Problem"}), &problem), None, "{problem}");
    }
}

/// Requests that somebody else's tool makes of the description. It takes a minute and a network to install, so it runs
/// where `TONEWALL_SCHEMATHESIS` names its program, and says so where not.
#[test]
fn schemathesis_finds_no_server_error() {
    let Some(program) = std::env::var_os("TONEWALL_SCHEMATHESIS") else {
        eprintln!(
            "SKIPPED schemathesis_finds_no_server_error: TONEWALL_SCHEMATHESIS names no program (pip install schemathesis)"
        );
        return;
    };
    let node = Node::start(agreeable);
    let mut document = serde_json::to_value(openapi_document()).expect("JSON");
    // A stream has no end; those have tests of their own.
    document["paths"].as_object_mut().expect("paths").retain(|path, _| !path.ends_with("/events"));
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("openapi.json");
    std::fs::write(&file, document.to_string()).expect("written");
    let run = std::process::Command::new(program)
        .arg("run")
        .arg(&file)
        .args(["--url", &format!("http://{}", node.address)])
        .args(["--header", &format!("Authorization: Bearer {}", key_of(Role::Admin))])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "50", "--seed", "7", "--no-color"])
        .output()
        .expect("schemathesis runs");
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    eprintln!("{said}");
    assert!(run.status.success(), "{said}");
}
