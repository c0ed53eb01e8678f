//! A node of nothing but the control API, on real HTTP, and whoever asks it: the calls behind it answer as told and
//! remember what they were asked.

use super::*;

pub type Script = dyn Fn(&Signal) -> Result<Reply, CallsError> + Send + Sync;

/// Calls that answer as told and remember what they were asked.
pub struct Scripted {
    pub asked: Mutex<Vec<Signal>>,
    pub script: Box<Script>,
    pub ready: Mutex<Result<(), String>>,
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

pub struct Node {
    pub address: SocketAddr,
    pub calls: Arc<Scripted>,
    pub history: Arc<History>,
    pub alarms: Arc<Board>,
    pub access: Arc<Access>,
    pub metrics: Arc<Metrics>,
    pub audited: Arc<tonewall::audit::Memory>,
    pub recordings: Arc<recordings::Scripted>,
    pub stop: watch::Sender<bool>,
    pub thread: Option<std::thread::JoinHandle<()>>,
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

pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn problem(&self, status: u16, kind: &str) -> Value {
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

pub fn key_of(role: Role) -> String {
    format!("key-of-{}", role_name(role))
}

pub fn keys() -> Vec<ApiKey> {
    let key = |role| ApiKey { name: role_name(role).into(), role, sha256: Sha256::digest(key_of(role)).into() };
    ROLES.into_iter().map(key).collect()
}

impl Node {
    pub fn start(script: impl Fn(&Signal) -> Result<Reply, CallsError> + Send + Sync + 'static) -> Self {
        let metrics = Arc::new(Metrics::new());
        let (audit, audited) = tonewall::audit::Audit::in_memory();
        let recordings = Arc::new(recordings::Scripted::default());
        let history = History::new(WallMs(77), 64, metrics.clone());
        let alarms = Board::new(history.clone(), metrics.clone(), || WallMs(1_700_000_000_000));
        let access = Arc::new(Access::new(keys(), Random::seed_from_u64(3)));
        let calls = Arc::new(Scripted { asked: Mutex::default(), script: Box::new(script), ready: Mutex::new(Ok(())) });
        let parts = Parts {
            calls: calls.clone(),
            history: history.clone(),
            alarms: alarms.clone(),
            access: access.clone(),
            webhooks: Arc::new(Webhooks::new(streams::schedule())),
            metrics: metrics.clone(),
            audit: audit.clone(),
            recordings: Some(recordings.clone()),
            clock: Arc::new(Instant::now),
            answers: Default::default(),
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
        Self { address, calls, history, alarms, access, metrics, audited, recordings, stop, thread: Some(thread) }
    }

    pub fn send(&self, method: &str, path: &str, key: Option<&str>, body: Option<(&str, &[u8])>) -> Answer {
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

    pub fn json(&self, method: &str, path: &str, role: Role, body: &Value) -> Answer {
        let body = body.to_string();
        self.send(method, path, Some(&key_of(role)), Some(("application/json", body.as_bytes())))
    }

    pub fn get(&self, path: &str, role: Role) -> Answer {
        self.send("GET", path, Some(&key_of(role)), None)
    }

    pub fn asked(&self) -> Vec<Signal> {
        std::mem::take(&mut *self.calls.asked.lock().expect("the list"))
    }

    /// Opens an event stream; lines come one by one.
    pub fn follow(&self, path: &str, key: Option<&str>, last: Option<&str>) -> (u16, Lines) {
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

pub struct Lines(pub BufReader<TcpStream>);

impl Lines {
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// The next message: id and data. `None` at the end of the stream.
    pub fn message(&mut self) -> Option<(String, Value)> {
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

pub struct Ids {
    pub call: CallId,
    pub hold: HoldId,
    pub collection: CollectionId,
}

pub fn ids() -> Ids {
    let mut random = Random::seed_from_u64(42);
    Ids {
        call: CallId::draw(&mut random),
        hold: HoldId::draw(&mut random),
        collection: CollectionId::draw(&mut random),
    }
}

pub fn hold(id: HoldId, kind: HoldKind) -> HoldView {
    HoldView { id, kind, owner: "key:crm".into(), reason: "payment".into(), age_ms: 0, ttl_ms: 120_000 }
}

pub fn collection(id: CollectionId) -> CollectionView {
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

pub fn call(id: CallId) -> CallView {
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
pub fn media() -> EventKind {
    let totals = LegTotals { received: 9, sent: 9, foreign: 0, malformed: 0, lost: 0, unauthentic: 0, replayed: 0 };
    EventKind::CallMedia { customer: totals, agent: totals }
}

/// An engine that agrees with everything.
pub fn agreeable(signal: &Signal) -> Result<Reply, CallsError> {
    Ok(match signal {
        Signal::Find { find, .. } if find.id.is_some_and(|id| id != ids().call) => Reply::Calls(vec![]),
        Signal::Find { find, .. } => Reply::Calls(match find.agent.as_deref() {
            Some("nobody") => vec![],
            Some("queue") => vec![call(ids().call), call(CallId::draw(&mut Random::seed_from_u64(44)))],
            _ => vec![call(ids().call)],
        }),
        Signal::Get { .. } => Reply::Call(Box::new(call(ids().call))),
        Signal::TakeHolds { kinds, .. } => Reply::Holds(kinds.iter().map(|kind| hold(ids().hold, *kind)).collect()),
        Signal::RenewHold { .. } => Reply::Holds(vec![hold(ids().hold, HoldKind::Mask)]),
        Signal::StartCollection { .. } | Signal::GetCollection { .. } | Signal::CancelCollection { .. } => {
            Reply::Collection(collection(ids().collection))
        }
        Signal::Payment { order: PaymentOrder::List, .. } => Reply::Payments(vec![payments::view()]),
        Signal::Payment { .. } => Reply::Payment(Box::new(payments::view())),
        Signal::Trunks => Reply::Trunks(vec![trunk()]),
        Signal::Recorders => Reply::Recorders(vec![recorder()]),
        Signal::CallRecorders { .. } | Signal::SteerRecorder { .. } => Reply::Lines(vec![line()]),
        Signal::ReleaseHold { .. } | Signal::HangUp { .. } => Reply::Done,
    })
}

pub fn recorder() -> SiprecView {
    SiprecView {
        name: "quality".into(),
        state: SiprecHealth::Ailing,
        policy: RecordingPolicy::BestEffort,
        transport: "TCP".into(),
        dialect: "standard".into(),
        sessions: 3,
        paused: 1,
        away: 1,
        spills_waiting: 0,
        forwarding: 0,
        spilling: 1,
        started: 12,
        failed: 2,
        last_error: Some("no answer to the INVITE".into()),
        last_error_ms: Some(8_200),
        targets: trunk().targets,
    }
}

pub fn line() -> LineView {
    LineView {
        recorder: "quality".into(),
        state: RecorderState::Paused,
        target: Some("192.0.2.40:5060".into()),
        pause_owners: vec![],
        pause_ms: Some(118_000),
        spill: None,
        last_error: None,
    }
}

pub fn trunk() -> TrunkView {
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

pub fn concrete(route: &str) -> String {
    let ids = ids();
    route
        .replace("{call}", &ids.call.to_string())
        .replace("{hold}", &ids.hold.to_string())
        .replace("{collection}", &ids.collection.to_string())
        .replace("{payment}", &payments::view().id.to_string())
        .replace("{recorder}", "quality")
        .replace("{endpoint}", "crm")
        .replace("{letter}", streams::DEAD)
        .replace("{alarm}", "canary-failed:daily")
        .replace("{recording}/waveform", "{recording}/waveform?purpose=complaint")
        .replace("{recording}/audio", "{recording}/audio?purpose=complaint")
        .replace("{recording}/export", "{recording}/export?purpose=complaint")
        .replace("{recording}", &recordings::id().to_string())
}

pub fn body_for(method: &str, route: &str) -> Option<Value> {
    match (method, route.rsplit('/').next()) {
        ("PATCH", Some("{recording}")) => Some(json!({"labels": {"case": "A-17"}})),
        ("DELETE", Some("{recording}" | "hold")) if route.contains("recordings") => {
            Some(json!({"reason": "case A-17"}))
        }
        ("POST", Some("hold")) => Some(json!({"reason": "case A-17"})),
        ("POST", Some("access")) => Some(json!({"purpose": "complaint A-17"})),
        ("POST", Some("holds")) => Some(json!({"kind": "both", "reason": "payment", "ttl_s": 60})),
        ("PATCH", _) => Some(json!({"ttl_s": 60})),
        ("POST", Some("collections")) => Some(json!({"length": 16})),
        ("POST", Some("payments")) => Some(json!({"charge_amount": "10.50"})),
        ("POST", Some("panel")) => Some(json!({"ttl_s": 60})),
        ("POST", Some("{recorder}")) => Some(json!({"action": "pause", "ttl_s": 60})),
        ("POST", Some("{payment}")) => Some(json!({"capture": "security-code"})),
        _ => None,
    }
}
