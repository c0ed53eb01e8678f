//! Webhooks to a real receiver on loopback: signed as the standard says, repeated until they are taken, kept on disk over
//! a restart, never to an address that is not allowed.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use serde_json::Value;
use tonewall::base::Random;
use tonewall::base::time::WallMs;
use tonewall::config::{SigningKey, Webhook, WebhookUrl, Webhooks as Settings};
use tonewall::control::history::History;
use tonewall::control::webhooks::{Failure, Webhooks, sign};
use tonewall::obs::event::EventKind;
use tonewall::obs::metrics::Metrics;
use tonewall::rt::webhooks::{load, start};

const PATIENCE: Duration = Duration::from_secs(10);

/// A request as it came.
struct Got {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// A receiver that answers as its script says, the last line of it for ever.
struct Hook {
    address: SocketAddr,
    got: Receiver<Got>,
    answers: Arc<Mutex<Vec<&'static str>>>,
}

impl Hook {
    fn open(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let answers = Arc::new(Mutex::new(answers.to_vec()));
        let (tell, got) = channel();
        let script = answers.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serve(stream, &script, &tell).is_none() {
                    return;
                }
            }
        });
        Self { address, got, answers }
    }

    fn next(&self) -> Got {
        self.got.recv_timeout(PATIENCE).expect("a webhook")
    }
}

fn serve(stream: TcpStream, script: &Mutex<Vec<&'static str>>, tell: &Sender<Got>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let line = lines.remove(0);
    let pair = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let headers: BTreeMap<_, _> = lines.iter().filter_map(pair).collect();
    let mut body = vec![0; headers["content-length"].parse().expect("a length")];
    reader.read_exact(&mut body).ok()?;
    let mut script = script.lock().expect("the script");
    let answer = if script.len() > 1 { script.remove(0) } else { script[0] };
    reader.get_mut().write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).ok()?;
    tell.send(Got { line, headers, body: String::from_utf8(body).expect("text") }).ok()
}

fn key() -> SigningKey {
    SigningKey::new((0..32).collect())
}

fn settings(directory: &Path, address: SocketAddr, allow_private: bool) -> Settings {
    let url = WebhookUrl { https: false, host: "127.0.0.1".into(), port: address.port(), path: "/hook?x=1".into() };
    let hook = Webhook {
        name: "crm".into(),
        url,
        key: key(),
        former: None,
        events: vec!["call-*".into()],
        allow_private,
        ca: None,
    };
    Settings { directory: directory.to_owned(), endpoints: vec![hook] }
}

struct Node {
    history: Arc<History>,
    webhooks: Arc<Webhooks>,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    fn start(settings: &Settings) -> Self {
        let metrics = Arc::new(Metrics::new());
        let history = History::new(WallMs(77), 64, metrics.clone());
        let webhooks = load(settings, Random::seed_from_u64(1)).expect("loaded");
        let task = start(settings, webhooks.clone(), &history, metrics, &[]).expect("started");
        Self { history, webhooks, task }
    }

    async fn end(self) {
        self.history.close();
        tokio::time::timeout(PATIENCE, self.task).await.expect("in time").expect("ended");
    }

    fn happen(&self) {
        self.history.publish(WallMs(1_795_305_600_123), None, EventKind::KeyMasked { count: 1 });
        self.history.publish(WallMs(1_795_305_600_123), None, EventKind::CallAnswered);
    }

    /// Waits until `what` is so.
    async fn until(&self, what: impl Fn(&Webhooks) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !what(&self.webhooks) {
            assert!(Instant::now() < deadline, "not in time");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn files(directory: &Path) -> Vec<String> {
    let name =
        |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name().into_string().expect("text");
    let mut names: Vec<String> = std::fs::read_dir(directory).expect("the directory").map(name).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_gets_what_it_wants_signed_as_the_standard_says() {
    let place = tempfile::tempdir().expect("a directory");
    let hook = Hook::open(&["204 No Content"]);
    let node = Node::start(&settings(place.path(), hook.address, true));
    node.happen();
    let got = hook.next();
    assert_eq!(got.line, "POST /hook?x=1 HTTP/1.1");
    assert_eq!(
        (got.headers["content-type"].as_str(), got.headers["webhook-id"].as_str()),
        ("application/json", "evt_77.2")
    );
    assert_eq!(got.headers["host"], hook.address.to_string());
    let stamp: u64 = got.headers["webhook-timestamp"].parse().expect("seconds");
    assert_eq!(got.headers["webhook-signature"], sign(&key(), "evt_77.2", stamp, &got.body));
    let body: Value = serde_json::from_str(&got.body).expect("JSON");
    assert_eq!((&body["type"], &body["timestamp"]), (&"call-answered".into(), &"2026-11-22T00:00:00.123Z".into()));
    assert_eq!((&body["data"]["seq"], &body["data"]["type"]), (&2.into(), &"call-answered".into()));
    node.until(|w| w.schedule().receivers()[0].1 == 0).await;
    node.end().await;
    assert!(files(place.path()).is_empty() && hook.got.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_kept_over_a_restart_and_tried_again_under_its_id() {
    let place = tempfile::tempdir().expect("a directory");
    let hook = Hook::open(&["500 Oops", "302 Found", "200 OK"]);
    let settings = settings(place.path(), hook.address, true);
    let node = Node::start(&settings);
    node.happen();
    let first = hook.next();
    node.until(|_| files(place.path()) == ["crm~evt_77.2.json"]).await;
    node.end().await;
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(place.path().join("crm~evt_77.2.json")).expect("the letter").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    // A redirect is followed by nobody: it is another failure.
    let node = Node::start(&settings);
    let second = hook.next();
    node.until(|w| w.schedule().poll_timeout().is_some()).await;
    node.end().await;
    let node = Node::start(&settings);
    let third = hook.next();
    node.until(|w| w.schedule().receivers()[0].1 == 0).await;
    node.end().await;
    for again in [second, third] {
        assert_eq!((&again.headers["webhook-id"], &again.body), (&first.headers["webhook-id"], &first.body));
    }
    assert!(files(place.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_kept_until_it_is_replayed() {
    let place = tempfile::tempdir().expect("a directory");
    let hook = Hook::open(&["410 Gone"]);
    let settings = settings(place.path(), hook.address, true);
    let node = Node::start(&settings);
    node.happen();
    hook.next();
    node.until(|w| w.schedule().dead().len() == 1).await;
    node.end().await;
    *hook.answers.lock().expect("the script") = vec!["200 OK"];
    let node = Node::start(&settings);
    let dead = node.webhooks.schedule().dead();
    assert_eq!((dead[0].id.as_str(), dead[0].last), ("crm~evt_77.2", Some(Failure::Status(410))));
    assert!(node.webhooks.schedule().replay(Instant::now(), &dead[0].id));
    node.webhooks.wake();
    assert_eq!(hook.next().headers["webhook-id"], "evt_77.2");
    node.until(|w| w.schedule().receivers()[0].1 == 0).await;
    node.end().await;
    assert!(files(place.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_a_private_address_is_not_asked_unless_that_is_allowed() {
    let place = tempfile::tempdir().expect("a directory");
    let hook = Hook::open(&["200 OK"]);
    let node = Node::start(&settings(place.path(), hook.address, false));
    node.happen();
    node.until(|_| !files(place.path()).is_empty()).await;
    node.end().await;
    let letter = std::fs::read_to_string(place.path().join("crm~evt_77.2.json")).expect("a letter");
    let letter: Value = serde_json::from_str(&letter).expect("JSON");
    assert_eq!(letter["last"]["reason"], "address-forbidden");
    assert!(hook.got.try_recv().is_err(), "nobody connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_vouches_for_is_not_trusted() {
    let place = tempfile::tempdir().expect("a directory");
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).expect("a certificate");
    let ca = place.path().join("ca.pem");
    std::fs::write(&ca, other.cert.pem()).expect("written");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let shown = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], shown)
        .expect("a server");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let tried = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        acceptor.accept(stream).await.is_err()
    });
    let mut settings = settings(&place.path().join("letters"), address, true);
    settings.endpoints[0].url.https = true;
    settings.endpoints[0].ca = Some(ca);
    let node = Node::start(&settings);
    node.happen();
    assert!(tried.await.expect("a try"), "the handshake must fail");
    let letters = place.path().join("letters");
    node.until(|_| !files(&letters).is_empty()).await;
    node.end().await;
    let letter = std::fs::read_to_string(letters.join("crm~evt_77.2.json")).expect("a letter");
    assert!(letter.contains("\"untrusted\""), "{letter}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_was_never_tried_is_on_disk_before_the_process_can_be_killed_for_long() {
    let place = tempfile::tempdir().expect("a directory");
    // Connections wait in its queue and are never answered.
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let node = Node::start(&settings(place.path(), deaf.local_addr().expect("its address"), true));
    for _ in 0..20 {
        node.happen();
    }
    let asked = Instant::now();
    node.until(|_| files(place.path()).iter().filter(|name| name.ends_with(".json")).count() == 20).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "long before any try has ended: {:?}", asked.elapsed());
    // As a kill does: nothing is told, nothing is written.
    node.task.abort();
    let hook = Hook::open(&["200 OK"]);
    let again = Node::start(&settings(place.path(), hook.address, true));
    let mut ids: Vec<String> = (0..20).map(|_| hook.next().headers["webhook-id"].clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20, "{ids:?}");
    again.until(|w| w.schedule().receivers()[0].1 == 0).await;
    again.end().await;
    assert!(files(place.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_secret_changes_letters_carry_a_signature_by_each() {
    let place = tempfile::tempdir().expect("a directory");
    let hook = Hook::open(&["200 OK"]);
    let mut settings = settings(place.path(), hook.address, true);
    let former = SigningKey::new((9..41).collect());
    settings.endpoints[0].former = Some(former.clone());
    let node = Node::start(&settings);
    node.happen();
    let got = hook.next();
    let stamp: u64 = got.headers["webhook-timestamp"].parse().expect("seconds");
    let by = |key| sign(key, &got.headers["webhook-id"], stamp, &got.body);
    assert_eq!(got.headers["webhook-signature"], format!("{} {}", by(&key()), by(&former)));
    node.end().await;
}
