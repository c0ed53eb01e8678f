//! The whole chain with strangers at both ends: baresip calls and keys a test card, first its number as tones, then all of
//! a second card as events; the panel in a real browser shows each step; a fake Stripe that nobody here wrote takes the
//! money; the tokens reach a webhook; and attackers find nothing in what baresip heard as the agent, nor in the recording.
//! `TONEWALL_SHOTS=DIR` keeps pictures.

use std::f64::consts::TAU;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::block_in_place;
use tonewall::testkit::keys::{Form, frequencies, typed};
use tonewall::testkit::leak::Attackers;
use tonewall::testkit::rtp_peer::hiss;

use crate::browser::{self, Browser};
use crate::common::{Plan, Running, installed, skip};
use crate::desk::{Api, receiver};
use crate::localstripe::Fake;
use crate::phone::{Baresip, Kind, port, speech};

const PATIENCE: Duration = Duration::from_secs(60);
const CARDS: [&str; 2] = ["4242424242424242", "5555555555554444"];
const EXPIRY: &str = "0931";
const CODE: &str = "907";
/// Samples of a key and of the pause after it.
const DOWN: usize = 640;
const GAP: usize = 640;
/// Where the first key begins in what the caller says, in samples.
const FIRST: usize = 12_000;

/// How long each may speak, in samples: baresip hangs up when its file ends.
const LONG: usize = 300 * 8_000;

/// A hissing line with the keys in it.
fn keyed(keys: &str) -> Vec<i16> {
    let mut samples: Vec<i16> = hiss(5, -45.0).take(LONG).collect();
    for (n, press) in typed(keys, Form::Tone, 80, 80).into_iter().enumerate() {
        let onset = FIRST + n * (DOWN + GAP);
        let (row, column) = frequencies(&press.digit);
        for (t, sample) in samples[onset..onset + DOWN].iter_mut().enumerate() {
            let at = |hz: f64| 4_000.0 * (TAU * hz * t as f64 / 8_000.0).sin();
            *sample = sample.saturating_add((at(row) + at(column)) as i16);
        }
    }
    samples
}

/// A page with a panel, and what is beside it.
struct Scene {
    node: Running,
    api: Api,
    page: Browser,
    caller: Baresip,
    call: String,
    shots: Option<PathBuf>,
}

impl Scene {
    async fn begin(&mut self, amount: &str) -> String {
        let order = json!({"charge_amount": amount, "currency": "EUR", "postal_code": false, "timeout": 30,
            "first_key_timeout": 60});
        let (status, begun) = self.api.answer("POST", &format!("/v1/calls/{}/payments", self.call), Some(order));
        assert_eq!(status, 201, "{begun}");
        format!("/v1/calls/{}/payments/{}", self.call, begun["id"].as_str().expect("an id"))
    }

    async fn state(&mut self, field: &str, state: &str) {
        let is = format!("document.querySelector('[data-field={field}]')?.dataset.state === '{state}'");
        self.page.until(&is).await;
    }

    /// Asks for the number in the panel; the caller keys it as `number` does, the rest as events; the money is taken.
    async fn pay(&mut self, path: &str, shot: &str, number: impl FnOnce(&Baresip)) -> Value {
        self.state("payment-card-number", "open").await;
        self.page.photograph(self.shots.as_deref(), &format!("{shot}-1-begun")).await;
        self.page.click("[data-capture=payment-card-number]").await;
        self.state("payment-card-number", "asking").await;
        block_in_place(|| number(&self.caller));
        let some = "document.querySelectorAll('[data-field=payment-card-number] .dots i').length > 3";
        self.page.until(some).await;
        self.page.photograph(self.shots.as_deref(), &format!("{shot}-2-keying")).await;
        self.state("payment-card-number", "done").await;
        self.state("expiration-date", "asking").await;
        self.page.photograph(self.shots.as_deref(), &format!("{shot}-3-number")).await;
        block_in_place(|| self.caller.key(EXPIRY));
        self.state("security-code", "asking").await;
        block_in_place(|| self.caller.key(CODE));
        self.page.until("document.querySelector('#complete').disabled === false").await;
        self.page.photograph(self.shots.as_deref(), &format!("{shot}-4-ready")).await;
        self.page.click("#complete").await;
        self.page.until("document.querySelector('[data-outcome]')?.dataset.outcome === 'success'").await;
        self.page.photograph(self.shots.as_deref(), &format!("{shot}-5-taken")).await;
        let page = self.page.document().await;
        assert!(CARDS.iter().all(|card| !page.contains(card) && !page.contains(&card[8..])), "a card in the page");
        let paid = self.api.until(path, |p| p["state"] == "ended").await;
        paid.unwrap_or_else(|last| panic!("{last}\n{}", self.node.log()))
    }

    /// The one recording of the node, taken out by its command: the customer's side.
    fn recording(&self) -> Vec<i16> {
        let end = Instant::now() + PATIENCE;
        let root = self.node.dir.path().join("recordings");
        let sealed = loop {
            let names = files(&root);
            if let Some(seal) = names.iter().find(|name| name.extension().is_some_and(|e| e == "seal")) {
                break seal.file_stem().expect("a name").to_string_lossy().into_owned();
            }
            assert!(Instant::now() < end, "no recording is sealed: {names:?}\n{}", self.node.log());
            std::thread::sleep(Duration::from_millis(100));
        };
        let wav = self.node.dir.path().join("out.wav");
        // It is audited before it may leave.
        let export = || {
            Command::new(env!("CARGO_BIN_EXE_tonewall"))
                .args(["recordings", "--config"])
                .arg(&self.node.config)
                .args(["export", &sealed, "-o"])
                .arg(&wav)
                .output()
                .expect("tonewall runs")
        };
        loop {
            let out = export();
            if out.status.success() {
                break;
            }
            assert!(Instant::now() < end, "{}", String::from_utf8_lossy(&out.stderr));
            std::thread::sleep(Duration::from_millis(200));
        }
        let reader = hound::WavReader::open(&wav).expect("a WAV file");
        reader.into_samples::<i16>().map_while(Result::ok).step_by(2).collect()
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_telephone_pays_in_tones_and_in_events_the_panel_shows_each_step_and_nobody_hears_a_digit() {
    let test = "a_real_telephone_pays";
    let Some(chromium) = browser::installed() else { return skip(test, "no chromium is installed") };
    if !installed("baresip") {
        return skip(test, "baresip is not installed (Debian: apt-get install baresip-core)");
    }
    let fake = match tokio::task::spawn_blocking(Fake::start).await.expect("a task") {
        Ok(fake) => fake,
        Err(why) => return skip(test, &why),
    };
    let (told, endpoint) = receiver();
    let (more, files) = fake.connector(&endpoint);
    let tones = keyed(&format!("{}#", CARDS[0]));
    let line = |seed| Kind { says: Some(hiss(seed, -45.0).take(LONG).collect()), ..Kind::default() };
    let agent = Baresip::start_as(port(), 0.0, true, &line(8));
    let caller = Baresip::start_as(port(), 0.0, false, &line(9));
    let at = |phone: &Baresip| SocketAddr::from((Ipv4Addr::LOCALHOST, phone.port));
    let plan = Plan {
        carrier: at(&caller),
        pbx: at(&agent),
        guard: "signal",
        recording: "best-effort",
        control: true,
        more,
        files,
        ..Plan::new()
    };
    let node = block_in_place(|| Running::start(&plan));
    caller.command("dial", &format!("sip:phone@{}", node.carrier_side));
    caller.said("Call established");
    let api = Api::of(&node);
    let calls = api.until("/v1/calls", |found| found["calls"][0]["state"] == "answered").await;
    let call = calls.unwrap_or_else(|last| panic!("{last}"))["calls"][0]["id"].as_str().expect("an id").to_owned();
    let page = Browser::start(chromium, 520, 760).await;
    let shots = std::env::var_os("TONEWALL_SHOTS").map(PathBuf::from);
    let mut scene = Scene { node, api, page, caller, call, shots };

    let first = scene.begin("12.50").await;
    let (status, panel) = scene.api.answer("POST", &format!("/v1/calls/{}/panel", scene.call), Some(json!({})));
    assert_eq!(status, 201, "{panel}");
    let address = scene.api.url(panel["url"].as_str().expect("an address"));
    scene.page.open(&address).await;
    let file = scene.node.dir.path().join("card.wav");
    speech(&file, &tones, 8_000);
    let switch = format!("aufile,{}", file.display());
    let mut paid = vec![scene.pay(&first, "chain-tones", |phone| phone.command("ausrc", &switch)).await];
    let second = scene.begin("8.00").await;
    scene.page.until("document.querySelector('.amount strong')?.textContent === '8.00 EUR'").await;
    paid.push(scene.pay(&second, "chain-events", |phone| phone.key(&format!("{}#", CARDS[1]))).await);

    for (paid, (amount, last)) in paid.iter().zip([(1_250, "4242"), (800, "4444")]) {
        assert_eq!(paid["result"], "success", "{paid}");
        let reference = paid["payment_confirmation_code"].as_str().unwrap_or_else(|| panic!("{paid}"));
        let intent = fake.get(&format!("/v1/payment_intents/{reference}"));
        assert_eq!((&intent["status"], &intent["amount"]), (&"succeeded".into(), &amount.into()), "{intent}");
        let token = paid["payment_token"].as_str().unwrap_or_else(|| panic!("{paid}"));
        assert_eq!(fake.get(&format!("/v1/payment_methods/{token}"))["card"]["last4"], last);
        let end = Instant::now() + PATIENCE;
        while memchr::memmem::find(&told.lock().expect("the list"), token.as_bytes()).is_none() {
            assert!(Instant::now() < end, "a token does not reach the webhook");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(scene.page.errors.is_empty(), "{:?}", scene.page.errors);
    scene.caller.command("hangup", "");
    agent.said("session closed");
    let log = agent.log();
    assert_eq!(log.matches("received event").count(), 0, "events reach the agent: {log}");
    let attackers = Attackers::new();
    let hiss = |heard: &[i16]| heard.iter().filter(|sample| sample.unsigned_abs() > 20).count();
    let heard = agent.heard();
    assert!(hiss(&heard) > heard.len() / 8, "the agent hears the customer");
    let found = attackers.listen(&heard);
    assert!(found.nothing_decoded(), "at the agent's ear: {found:?}");
    // Recording pauses while a payment is open; before it the line is there.
    let tape = block_in_place(|| scene.recording());
    assert!(hiss(&tape) > 0 && tape.len() > 8_000, "the recording holds the line");
    let found = attackers.listen(&tape);
    assert!(found.nothing_decoded(), "in the recording: {found:?}");
    let plain = attackers.listen(&tones);
    assert!(plain.decoded > CARDS[0].len(), "they read what was said: {plain:?}");
    let log = scene.node.log();
    let told = String::from_utf8_lossy(&told.lock().expect("the list")).into_owned();
    for card in CARDS {
        assert!(!log.contains(card) && !told.contains(card), "a card in the log or a webhook");
    }
}
