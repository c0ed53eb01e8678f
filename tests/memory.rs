//! What a running node keeps of a payment: a `tonewall run` process, a caller on the line who keys a test card, and then a
//! search through the whole memory of the process and everything it wrote and told. While the card is being keyed the
//! search finds it, so it can find; a second after the end it finds nothing.
//!
//! Reading another process's memory that has made itself undumpable takes the right of root (CAP_SYS_PTRACE); without it
//! the test says so and does nothing.
#![allow(clippy::disallowed_methods)]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{API_KEYS, Plan, Running};
use memchr::memmem::Finder;
use serde_json::{Value, json};
use tonewall::rt::peers::{Exchange, Phone};
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::rtp_peer::hiss;
use tonewall::testkit::ua::{Answer, Profile, UserAgent};

const PATIENCE: Duration = Duration::from_secs(20);
const CARD: &str = "5105105105105100";
const EXPIRY: &str = "0931";
const CODE: &str = "907";

/// A form in which a run of digits may lie in memory, and its name.
fn forms(digits: &str) -> Vec<(String, Vec<u8>)> {
    let ascii = digits.as_bytes();
    let values: Vec<u8> = ascii.iter().map(|key| key - b'0').collect();
    let wide = |bytes: &[u8], step: usize| {
        let last = bytes.len() - 1;
        let pad = |(place, byte): (usize, &u8)| {
            let zeros = if place == last { 0 } else { step - 1 };
            std::iter::once(*byte).chain(std::iter::repeat_n(0, zeros))
        };
        bytes.iter().enumerate().flat_map(pad).collect::<Vec<u8>>()
    };
    let grouped =
        |by: &str| ascii.chunks(4).map(|g| String::from_utf8_lossy(g)).collect::<Vec<_>>().join(by).into_bytes();
    let packed: Vec<u8> = values.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    [
        ("text", ascii.to_vec()),
        ("values", values.clone()),
        ("text backwards", ascii.iter().rev().copied().collect()),
        ("wide text (2)", wide(ascii, 2)),
        ("wide text (4)", wide(ascii, 4)),
        ("wide values (4)", wide(&values, 4)),
        ("text in groups", grouped(" ")),
        ("text with dashes", grouped("-")),
        ("packed", packed),
    ]
    .map(|(name, bytes)| (format!("card as {name}"), bytes))
    .into()
}

/// A short field as the secret memory holds it: its keys, the zeros behind them, and how many there are. By themselves
/// three or four digits would be found everywhere.
fn page(digits: &str) -> Vec<u8> {
    let mut page = digits.as_bytes().to_vec();
    page.resize(64, 0);
    page.push(digits.len() as u8);
    page
}

fn patterns() -> Vec<(String, Vec<u8>)> {
    let mut patterns = forms(CARD);
    patterns.push(("expiry".into(), page(EXPIRY)));
    patterns.push(("security code".into(), page(CODE)));
    patterns
}

/// The names of what is found in the writable memory of a process, with how often.
fn search(pid: u32) -> std::io::Result<Vec<(String, usize)>> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let patterns = patterns();
    let finders: Vec<(&str, Finder<'_>)> =
        patterns.iter().map(|(name, bytes)| (name.as_str(), Finder::new(bytes))).collect();
    let overlap = patterns.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
    let mut found = vec![0; finders.len()];
    let mut chunk = vec![0; 1 << 20];
    let mut seen = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let Some((from, rest)) = line.split_once('-') else { continue };
        let to = rest.split(' ').next().unwrap_or_default();
        let address = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        let (mut at, end) = (address(from), address(to));
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(chunk.len());
            // A page that is gone meanwhile is read by nobody.
            let Ok(count) = memory.read_at(&mut chunk[..want], at) else { break };
            if count == 0 {
                break;
            }
            seen += count;
            let bytes = &chunk[..count];
            if bytes.iter().any(|byte| *byte != 0) {
                for (place, (_, finder)) in finders.iter().enumerate() {
                    found[place] += finder.find_iter(bytes).count();
                }
            }
            at += if count > overlap && at + (count as u64) < end { count - overlap } else { count } as u64;
        }
    }
    assert!(seen > 1 << 20, "too little memory was read: {seen} bytes");
    Ok(finders
        .iter()
        .zip(found)
        .filter(|(_, count)| *count > 0)
        .map(|((name, _), count)| ((*name).to_owned(), count))
        .collect())
}

/// Every file below `place` that holds a form of the card.
fn files_with_card(place: &Path) -> Vec<String> {
    let mut hits = Vec::new();
    for entry in std::fs::read_dir(place).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            hits.extend(files_with_card(&entry));
            continue;
        }
        let bytes = std::fs::read(&entry).expect("a file");
        let found = patterns().into_iter().filter(|(_, pattern)| Finder::new(pattern).find(&bytes).is_some());
        hits.extend(found.map(|(name, _)| format!("{name} in {}", entry.display())));
    }
    hits
}

/// A receiver of webhooks that takes everything.
fn receiver() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let got = Arc::new(Mutex::new(Vec::new()));
    let kept = got.clone();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
            let mut bytes = [0; 65_536];
            let mut whole = Vec::new();
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                whole.extend_from_slice(&bytes[..count]);
                if whole.ends_with(b"}}") {
                    break;
                }
            }
            kept.lock().expect("the list").extend(whole);
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
        }
    });
    (address, got)
}

struct Desk {
    node: Running,
    agent: ureq::Agent,
}

impl Desk {
    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let address = self.node.control.expect("control");
        let (_, _, key) = API_KEYS[0];
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = request.body(body).expect("a request");
        let mut answer = self.agent.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let text = answer.body_mut().read_to_string().expect("text");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// The payment, when it is as wanted.
    async fn until(&self, path: &str, what: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let payment = self.ask("GET", path, None);
            if what(&payment) {
                return payment;
            }
            assert!(Instant::now() < deadline, "not in time: {payment}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn press(caller: &Phone, keys: &str, form: Form) {
    let keys = typed(keys, form, 70, 60);
    caller.with(|phone, _| phone.press(20, keys));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_after_a_payment_nothing_of_the_card_is_left_in_memory_or_files_or_events() {
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let mut pbx =
        Exchange::open(ip, 0, Some(Profile::new("5551000").answering(Answer::After(10))), 1).await.expect("a port");
    let carrier = Exchange::open(ip, 0, None, 2).await.expect("a port");
    let (hook, told) = receiver();
    // Behind the trunk's own lines: a section of its own.
    let endpoint = format!(
        "[webhooks]\ndirectory = \"letters\"\n\n[[webhooks.endpoint]]\nname = \"crm\"\nurl = \"http://{hook}/\"\n\
         secret_file = \"crm.whsec\"\nallow_private = true\n"
    );
    let plan = Plan {
        carrier: carrier.address(),
        pbx: pbx.address(),
        guard: "signal",
        recording: "best-effort",
        control: true,
        trunks: [String::new(), endpoint],
        files: vec![("crm.whsec", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into())],
        ..Plan::new()
    };
    let node = Running::start(&plan);
    if let Err(error) = search(node.pid()) {
        return common::skip("memory", &format!("the memory of another process cannot be read: {error}"));
    }
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build();
    let desk = Desk { node, agent: config.into() };
    for form in [Form::Tone, Form::Event] {
        let caller = carrier.phone(Profile::new("+15550100")).expect("RTP ports");
        let target = desk.node.carrier_side;
        caller.with(|a, now| {
            a.rtp.speak(hiss(7, -45.0));
            a.invite(now, "5551000", target);
        });
        let agent = pbx.ringing(PATIENCE).await.expect("the PBX rings");
        agent.with(|a, _| a.rtp.speak(hiss(8, -45.0)));
        assert!(caller.until(PATIENCE, UserAgent::is_up).await, "{:?}", caller.events());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let calls = desk.ask("GET", "/v1/calls", None);
        let call = calls["calls"][0]["id"].as_str().unwrap_or_else(|| panic!("{calls}")).to_owned();
        let begun = desk.ask("POST", &format!("/v1/calls/{call}/payments"), Some(json!({"postal_code": false})));
        let path = format!("/v1/calls/{call}/payments/{}", begun["id"].as_str().unwrap_or_else(|| panic!("{begun}")));
        for (field, keys) in [("payment-card-number", CARD), ("expiration-date", EXPIRY), ("security-code", CODE)] {
            desk.ask("POST", &path, Some(json!({"capture": field})));
            tokio::time::sleep(Duration::from_millis(200)).await;
            press(&caller, keys, form);
            let keyed = desk.until(&path, |p| p["partial_result"] == false).await;
            assert_eq!(keyed["error_type"], Value::Null, "{form:?}: {keyed}");
        }
        // It is there as long as it is needed: what finds it now would find it later.
        let held = search(desk.node.pid()).expect("memory");
        for wanted in ["card as text", "expiry", "security code"] {
            assert!(
                held.iter().any(|(name, _)| name == wanted),
                "{form:?}: {wanted} is not found while it is held: {held:?}"
            );
        }
        let submitted = desk.ask("POST", &path, Some(json!({"status": "complete"})));
        assert!(submitted["state"] == "submitted" || submitted["state"] == "ended", "{submitted}");
        let ended = desk.until(&path, |p| p["state"] == "ended").await;
        assert_eq!(ended["result"], "success", "{form:?}: {ended}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let left = search(desk.node.pid()).expect("memory");
        assert_eq!(left, [], "{form:?}: {ended}");
        caller.with(UserAgent::hang_up);
        desk.until(&format!("/v1/calls/{call}"), |gone| gone["status"] == 404).await;
    }
    // Whatever was told and written, too.
    let deadline = Instant::now() + PATIENCE;
    while told.lock().expect("the list").windows(13).filter(|w| w == b"payment-ended").count() < 2 {
        assert!(Instant::now() < deadline, "the webhooks do not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let metrics = desk.ask("GET", "/metrics", None).to_string();
    assert!(metrics.contains("payments_ended"), "{metrics}");
    let told = told.lock().expect("the list").clone();
    for (name, pattern) in forms(CARD) {
        assert!(Finder::new(&pattern).find(metrics.as_bytes()).is_none(), "{name} in the metrics");
        assert!(Finder::new(&pattern).find(&told).is_none(), "{name} in a webhook");
    }
    assert_eq!(files_with_card(desk.node.dir.path()), Vec::<String>::new());
    assert_eq!(search(desk.node.pid()).expect("memory"), []);
}
