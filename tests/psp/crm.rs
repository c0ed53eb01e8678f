//! A CRM, a PBX and an agent at a `tonewall run` process: each takes and releases its holds, on a call that is found by a
//! key; a controller whose connection breaks comes back to its capture; what was answered and what was to be told survive
//! the process; connectors change under it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::leak::Attackers;

use crate::common::{API_KEYS, Plan, skip};
use crate::desk::{Call, Desk, WEBHOOK_SECRET};
use crate::kit::{KEY, OWN};
use crate::server::{Act, Server};

const PATIENCE: Duration = Duration::from_secs(30);
/// Every call of these tests, by a key of its own.
const BY_KEY: &str = "/v1/calls/agent:5551000";

/// The connector of one's own at `url`, impatient; whoever asks it hears that it was approved.
fn impatient(url: &str) -> String {
    let own = OWN.replace("https://psp.example\"", &format!("{url}\"\ntimeout_ms = 300\ndeadline_s = 2"));
    let own = own.replace("outcome = \"nothing\"", "status = \"200\"\noutcome = \"approved\"");
    own.replace("env = \"PSP_KEY\"", "file = \"stripe.key\"")
}

fn pbx_lines() -> [String; 2] {
    let pbx = "signal_header = \"X-Card\"\n[trunk.star_codes]\nbegin = \"*71\"\nend = \"*72\"\nin_band = true\n";
    [String::new(), pbx.to_owned()]
}

async fn holds(desk: &Desk, wanted: &[&str]) -> Value {
    let of = |call: &Value| -> Vec<String> {
        let owners = call["holds"].as_array().into_iter().flatten();
        owners.filter_map(|hold| hold["owner"].as_str().map(str::to_owned)).collect()
    };
    desk.until(BY_KEY, |call| of(call) == wanted && call["masked"] == !wanted.is_empty()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_are_taken_by_api_star_code_and_header_and_released_by_their_owners_alone() {
    let mut desk = Desk::open(Plan { trunks: pbx_lines(), recording: "best-effort", ..Plan::new() }).await;
    let call = desk.call().await;
    // The API, by a key of the call.
    let take = json!({"kind": "both", "reason": "a card", "ttl_s": 120});
    let (status, taken) = desk.answer("POST", &format!("{BY_KEY}/holds"), Some(take));
    assert_eq!(status, 201, "{taken}");
    let own: Vec<String> =
        taken["holds"].as_array().into_iter().flatten().filter_map(|h| h["id"].as_str().map(str::to_owned)).collect();
    let shown = holds(&desk, &["key:crm", "key:crm"]).await;
    assert!(shown["holds"][0]["ttl_ms"].as_u64().is_some_and(|ms| (60_000..=120_000).contains(&ms)), "{shown}");
    for hold in &own {
        assert_eq!(desk.answer("DELETE", &format!("{BY_KEY}/holds/{hold}"), None).0, 204);
    }
    holds(&desk, &[]).await;
    // The agent, by star code: in tones, in events, and by INFO.
    for form in [Form::Tone, Form::Event, Form::Info] {
        call.agent.with(|phone, _| phone.press(20, typed("*71", form, 100, 100)));
        let shown = holds(&desk, &["agent", "agent"]).await;
        let hold = shown["holds"][0]["id"].as_str().expect("an id").to_owned();
        let (status, refused) = desk.answer("DELETE", &format!("{BY_KEY}/holds/{hold}"), None);
        assert_eq!((status, &refused["type"]), (403, &json!("urn:tonewall:problem:forbidden")), "{refused}");
        call.agent.with(|phone, _| phone.press(20, typed("*72", form, 100, 100)));
        holds(&desk, &[]).await;
    }
    // The PBX, by a header of an INFO and of a re-INVITE; the carrier's counts for nothing.
    call.caller.with(|phone, now| phone.say(now, "INFO", ("X-Card", "mask")));
    call.agent.with(|phone, now| phone.say(now, "INFO", ("X-Card", "mask")));
    holds(&desk, &["pbx", "pbx"]).await;
    call.caller.with(|phone, now| phone.say(now, "INFO", ("X-Card", "unmask")));
    tokio::time::sleep(Duration::from_millis(200)).await;
    holds(&desk, &["pbx", "pbx"]).await;
    call.agent.with(|phone, now| phone.say(now, "INVITE", ("X-Card", "unmask")));
    holds(&desk, &[]).await;
    // No key of a code was heard by the customer, in any form.
    let (heard, events, infos) =
        call.caller.with(|phone, _| (phone.rtp.heard.samples(), phone.rtp.heard.event_codes(), phone.infos().len()));
    assert_eq!((events, infos), (vec![], 0));
    let attackers = Attackers::new();
    match attackers.missing() {
        Some(why) => skip("whether the customer hears star codes in tones", why),
        None => assert!(attackers.listen(&heard).nothing_decoded(), "the customer hears a star code"),
    }
    let metrics = desk.node.metrics();
    assert!(metrics.contains("tonewall_star_codes_total 6"), "{metrics}");
    desk.hang_up(call).await;
    assert_eq!(desk.answer("GET", BY_KEY, None).0, 404);
}

/// The events of the call, from a connection of its own.
struct Follower(BufReader<TcpStream>);

impl Follower {
    fn open(desk: &Desk, after: Option<&str>) -> Self {
        Self::at(desk, &format!("{BY_KEY}/events"), after)
    }

    /// The events of all calls and of the node, from now on.
    fn of_all(desk: &Desk) -> Self {
        Self::at(desk, "/v1/events", None)
    }

    fn at(desk: &Desk, path: &str, after: Option<&str>) -> Self {
        let at = desk.node.control.expect("an API");
        let mut stream = TcpStream::connect(at).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let last = after.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let key = API_KEYS[0].2;
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).expect("asked");
        Self(BufReader::new(stream))
    }

    /// The id of the first event of `kind`.
    fn find(&mut self, kind: &str) -> String {
        let (mut id, wanted) = (String::new(), format!("\"type\":\"{kind}"));
        let until = Instant::now() + PATIENCE;
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).expect("a line") > 0, "the stream ended before {kind}");
            assert!(Instant::now() < until, "{kind} is not told in time");
            if let Some(text) = line.trim_end().strip_prefix("id: ") {
                id = text.to_owned();
            }
            if line.contains(&wanted) {
                return id;
            }
        }
    }
}

async fn begun(desk: &Desk, order: Value) -> String {
    let (status, payment) = desk.answer("POST", &format!("{BY_KEY}/payments"), Some(order));
    assert_eq!(status, 201, "{payment}");
    format!("{BY_KEY}/payments/{}", payment["id"].as_str().expect("an id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_whose_connection_is_cut_comes_back_to_its_capture() {
    let mut desk = Desk::open(Plan::new()).await;
    let call = desk.call().await;
    let (mut follower, path) = {
        let follower = tokio::task::block_in_place(|| Follower::open(&desk, None));
        let order = json!({"charge_amount": "10.50", "postal_code": false, "timeout": 20, "first_key_timeout": 60});
        (follower, begun(&desk, order).await)
    };
    desk.ask("POST", &path, Some(json!({"capture": "payment-card-number"})));
    call.press("55555555", Form::Event);
    desk.until(&path, |p| p["payment_card_number"] == "xxxx-xxxx").await;
    let last = tokio::task::block_in_place(|| follower.find("payment-updated"));
    // The connection is reset, as by a firewall that forgets it.
    let stream = follower.0.into_inner();
    socket2_reset(&stream);
    drop(stream);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let shown = desk.ask("GET", BY_KEY, None);
    assert_eq!((&shown["masked"], &shown["paused"]), (&json!(true), &json!(true)), "{shown}");
    // Meanwhile the customer keys on, and the events that were missed are told.
    call.press("55554444#", Form::Event);
    desk.until(&path, |p| p["payment_card_type"] == "mastercard").await;
    let mut again = tokio::task::block_in_place(|| Follower::open(&desk, Some(&last)));
    tokio::task::block_in_place(|| again.find("payment-updated"));
    for (field, keys) in [("expiration-date", "1235"), ("security-code", "123")] {
        desk.ask("POST", &path, Some(json!({"capture": field})));
        tokio::time::sleep(Duration::from_millis(200)).await;
        call.press(keys, Form::Event);
        desk.until(&path, |p| p["partial_result"] == false).await;
    }
    desk.ask("POST", &path, Some(json!({"status": "complete"})));
    tokio::task::block_in_place(|| again.find("payment-ended"));
    let ended = desk.ask("GET", &path, None);
    assert_eq!(ended["result"], "success", "{ended}");
    desk.until(BY_KEY, |call| call["masked"] == false).await;
    desk.hang_up(call).await;
}

/// Lets the connection end by a reset instead of a farewell.
fn socket2_reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("linger");
}

fn connector(name: &str, url: &str) -> String {
    format!(
        "\n[[connector]]\nname = \"{name}\"\npreset = \"stripe\"\nurl = \"{url}\"\n\
         [[connector.secret]]\nname = \"key\"\nfile = \"stripe.key\"\n"
    )
}

fn under_key(desk: &Desk, path: &str, key: &str, body: &Value) -> (u16, String) {
    let at = desk.node.control.expect("an API");
    let mut stream = TcpStream::connect(at).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        API_KEYS[0].2,
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Takes letters until each of `wanted` has come; gives all that came.
fn letters(listener: &TcpListener, wanted: &[&str]) -> String {
    let (mut all, until) = (String::new(), Instant::now() + PATIENCE);
    while !wanted.iter().all(|word| all.contains(word)) {
        assert!(Instant::now() < until, "not in time: {all}");
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        stream.set_nonblocking(false).expect("blocking");
        stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        let (mut bytes, mut text) = ([0; 65_536], String::new());
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            text += &String::from_utf8_lossy(&bytes[..count]);
            if text.ends_with("}}") {
                break;
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        all += &text;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_under_a_key_and_letters_never_tried_survive_a_kill_and_connectors_change_by_a_signal() {
    let provider = Server::start(|_| Act::Cut);
    // It listens and never answers: eight tries hang, whatever comes after them is never tried.
    let crm = TcpListener::bind("127.0.0.1:0").expect("a port");
    let more = format!(
        "{}[webhooks]\ndirectory = \"letters\"\n[[webhooks.endpoint]]\nname = \"crm\"\nurl = \"http://{}/\"\n\
         secret_file = \"crm.whsec\"\nformer_file = \"old.whsec\"\nallow_private = true\nevents = [\"*\"]\n",
        connector("bank", &provider.url()),
        crm.local_addr().expect("its address")
    );
    let files = vec![
        ("crm.whsec", WEBHOOK_SECRET.to_owned()),
        ("old.whsec", "whsec_c29tZSBvdGhlciBzZWNyZXQgb2YgYmVmb3Jl".to_owned()),
        ("stripe.key", format!("{KEY}\n")),
    ];
    let mut desk = Desk::open(Plan { more, files, ..Plan::new() }).await;
    let call = desk.call().await;
    let path = format!("/v1/calls/{}/payments", call.id);
    let order = json!({"charge_amount": "12.50", "currency": "EUR"});
    let (status, first) = under_key(&desk, &path, "order-1", &order);
    assert_eq!(status, 201, "{first}");
    let payment = serde_json::from_str::<Value>(&first).expect("JSON")["id"].as_str().expect("an id").to_owned();
    for _ in 0..8 {
        desk.ask("POST", &format!("{path}/{payment}"), Some(json!({"capture": "security-code"})));
    }
    // A connector more, without a restart; and a file with a fault changes nothing.
    let configured = std::fs::read_to_string(&desk.node.config).expect("the configuration");
    let hup = |desk: &Desk, text: &str| {
        std::fs::write(&desk.node.config, text).expect("written");
        let pid = i32::try_from(desk.node.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("sent");
    };
    hup(&desk, &format!("{configured}{}", connector("second", &provider.url())));
    until(&desk, "connectors were read again").await;
    hup(&desk, &format!("{configured}\n[[connector]]\nname = \"third\"\n"));
    until(&desk, "the former connectors stay").await;
    desk.ask("POST", &format!("{path}/{payment}"), Some(json!({"status": "cancel"})));
    for (name, wanted) in [("third", 422), ("second", 201)] {
        let (status, answer) = desk.answer("POST", &path, Some(json!({"payment_connector": name})));
        assert_eq!(status, wanted, "{name}: {answer}\n{}", desk.node.log());
    }
    std::fs::write(&desk.node.config, configured).expect("written");
    // Everything was told before; a moment for the last letter is all that a kill leaves it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    tokio::task::block_in_place(|| desk.node.restart());
    let (status, again) = under_key(&desk, &path, "order-1", &order);
    assert_eq!((status, &again), (201, &first), "the call is gone, the answer is not");
    let (status, other) = under_key(&desk, &path, "order-1", &json!({"charge_amount": "99.00"}));
    assert!(status == 422 && other.contains("idempotency-key-reused"), "{other}");
    crm.set_nonblocking(true).expect("non-blocking");
    let wanted = ["call-started", "payment-started", "payment-submitted", "payment-ended"]
        .map(|kind| format!("\"type\":\"{kind}\""));
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).filter(|kind| !kind.contains("submitted")).collect();
    let told = tokio::task::block_in_place(|| letters(&crm, &wanted));
    let signatures: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("webhook-signature: ")).collect();
    assert!(signatures.iter().all(|text| text.split(' ').filter(|one| one.starts_with("v1,")).count() == 2), "{told}");
    drop(call);
}

async fn until(desk: &Desk, word: &str) {
    let until = Instant::now() + PATIENCE;
    while !desk.node.log().contains(word) {
        assert!(Instant::now() < until, "{word:?} is not told: {}", desk.node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A payment on `call`, keyed and submitted; its path.
async fn submitted(desk: &Desk, call: &Call, order: Value) -> String {
    let path = begun(desk, order).await;
    desk.key_card(&path, call, Form::Event, ["4242424242424242", "1235", "123"]).await;
    desk.ask("POST", &path, Some(json!({"status": "complete"})));
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_of_unknown_outcome_raises_an_alarm_and_a_gauge() {
    // It takes the money and loses its answer, and every question, until it is told to speak.
    let speaks = Arc::new(AtomicBool::new(false));
    let speaking = speaks.clone();
    let provider = Server::start(move |request| match speaking.load(Ordering::Relaxed) && request.method == "GET" {
        true => Act::Answer(200, "{}".into()),
        false => Act::Cut,
    });
    let more = impatient(&provider.url());
    let files = vec![("stripe.key", format!("{KEY}\n"))];
    let mut desk = Desk::open(Plan { more, files, ..Plan::new() }).await;
    let call = desk.call().await;
    let mut follower = tokio::task::block_in_place(|| Follower::of_all(&desk));
    let order = json!({"charge_amount": "10.50", "postal_code": false,
        "timeout": 20, "first_key_timeout": 60});
    let path = submitted(&desk, &call, order).await;
    let ended = desk.until(&path, |p| p["state"] == "ended").await;
    assert_eq!(ended["result"], "unknown", "{ended}");
    let alarm = format!("\",\"alarm\":\"payment-unknown:{}", path.rsplit('/').next().expect("an id"));
    tokio::task::block_in_place(|| follower.find(&format!("alarm-raised{alarm}")));
    let metrics = desk.node.metrics();
    assert!(metrics.contains("tonewall_payments_unknown 1"), "{metrics}");
    // A process that dies takes the call with it, and neither the payment nor its alarm.
    tokio::task::block_in_place(|| desk.node.restart());
    drop(call);
    let id = alarm.rsplit('"').next().expect("an id").to_owned();
    desk.until("/v1/alarms", |list| {
        list["alarms"].as_array().is_some_and(|all| all.iter().any(|one| one["alarm"] == id))
    })
    .await;
    let mut follower = tokio::task::block_in_place(|| Follower::of_all(&desk));
    speaks.store(true, Ordering::Relaxed);
    tokio::task::block_in_place(|| follower.find("payment-reconciled"));
    tokio::task::block_in_place(|| follower.find(&format!("alarm-cleared{alarm}")));
    let metrics = desk.node.metrics();
    assert!(metrics.contains("tonewall_payments_unknown 0"), "{metrics}");
}
