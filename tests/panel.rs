//! The agent's payment panel in a real browser, on a call between real sockets: the customer keys, the panel shows one mark
//! per key, says in plain words what is wrong, and no page ever holds a digit. `TONEWALL_SHOTS=DIR` keeps pictures.
#![allow(clippy::disallowed_methods)] // Tests may wait, and open sockets.

mod common;

#[path = "common/browser.rs"]
mod browser;
#[path = "common/desk.rs"]
mod desk;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use browser::Browser;
use common::Plan;
use desk::{Call, Desk};
use serde_json::{Value, json};
use tonewall::testkit::keys::Form;

/// A published test card.
const CARD: &str = "4111111111111111";

/// A node, and a call that is up on it.
struct Office {
    desk: Desk,
    call: Call,
}

fn shots() -> Option<PathBuf> {
    std::env::var_os("TONEWALL_SHOTS").map(PathBuf::from)
}

impl Office {
    async fn open(control: String) -> Office {
        let mut desk = Desk::open(Plan { control_lines: control, ..Plan::new() }).await;
        let call = desk.call().await;
        Office { desk, call }
    }

    /// Below the call's path.
    fn path(&self, rest: &str) -> String {
        format!("/v1/calls/{}{rest}", self.call.id)
    }

    /// Begins a payment and opens a panel for it; the panel's address.
    fn begin(&self, panel: Value) -> String {
        // A slow machine takes its time between two steps of a test; the customer is not to be timed out for it.
        let payment = json!({"charge_amount": "42.00", "currency": "USD", "postal_code": false,
            "timeout": 30, "first_key_timeout": 60});
        let (status, begun) = self.desk.answer("POST", &self.path("/payments"), Some(payment));
        assert_eq!(status, 201, "{begun}");
        self.panel(panel)
    }

    fn panel(&self, request: Value) -> String {
        let (status, panel) = self.desk.answer("POST", &self.path("/panel"), Some(request));
        assert_eq!(status, 201, "{panel}");
        self.desk.url(panel["url"].as_str().expect("an address"))
    }
}

/// An expiry in three years' time, as it is keyed.
fn expiry() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    format!("12{:02}", (70 + now.as_secs() / 31_556_952 + 3) % 100)
}

/// `text` without its words of letters, digits and signs that are longer than any number a customer keys: ids, tokens.
fn without_ids(text: &str) -> String {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut kept = String::new();
    for word in text.split_inclusive(|c: char| !part(c)) {
        let id = word.trim_end_matches(|c: char| !part(c));
        let drawn = id.len() > 19 && id.contains(|c: char| c.is_ascii_alphabetic());
        kept.push_str(if drawn { " " } else { word });
    }
    kept
}

fn field(name: &str, state: &str) -> String {
    format!("document.querySelector('[data-field={name}]')?.dataset.state === {state:?}")
}

/// A browser, or why there is none.
async fn browser(test: &str) -> Option<Browser> {
    let Some(name) = browser::installed() else {
        common::skip(test, "no chromium is installed (Debian: apt-get install chromium)");
        return None;
    };
    Some(Browser::start(name, 520, 760).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_is_taken_in_the_panel_and_the_page_never_holds_a_digit() {
    let Some(mut page) = browser("the panel in a browser").await else { return };
    let office = Office::open(String::new()).await;
    let shots = shots();
    let shots = shots.as_deref();
    let mut seen = String::new();
    let address = office.begin(json!({}));
    page.open(&address).await;
    page.until("document.querySelector('.amount strong')?.textContent === '42.00 USD'").await;
    assert_eq!(page.eval("location.hash").await, json!(""), "the token does not stay in the address");
    page.until(&field("payment-card-number", "open")).await;
    page.until("document.querySelector('.panel-safe').textContent.includes('Keys are masked')").await;
    assert_eq!(page.eval("document.querySelector('#complete').disabled").await, json!(true));
    page.photograph(shots, "panel-1-begun").await;

    // By keyboard: the first button of the page is the first thing to ask for.
    page.key("Tab").await;
    page.key("Enter").await;
    page.until(&field("payment-card-number", "asking")).await;
    office.call.press(&CARD[..7], Form::Tone);
    page.until("document.querySelectorAll('[data-field=payment-card-number] .dots i').length === 7").await;
    page.photograph(shots, "panel-2-keying").await;
    seen += &page.document().await;
    // Half in tones, half in events: the panel shows no difference. No telephone changes from one to the other within a
    // key's time; an event so soon after a tone of the same key would be that key.
    tokio::time::sleep(Duration::from_millis(600)).await;
    office.call.press(&format!("{}#", &CARD[7..]), Form::Event);
    page.until(&field("payment-card-number", "done")).await;
    // The next one is asked for by itself. An expiry that is over is refused in plain words.
    page.until(&field("expiration-date", "asking")).await;
    office.call.press("0120", Form::Tone);
    page.until(&field("expiration-date", "wrong")).await;
    page.until("document.querySelector('[data-field=expiration-date]').textContent.includes('expired')").await;
    page.until("document.querySelector('#alarm').textContent.includes('Expiry date')").await;
    page.photograph(shots, "panel-3-wrong").await;
    seen += &page.document().await;
    page.click("[data-capture=expiration-date]").await;
    page.until(&field("expiration-date", "asking")).await;
    let expiry = expiry();
    office.call.press(&expiry, Form::Tone);
    page.until(&field("security-code", "asking")).await;
    office.call.press("987", Form::Tone);
    page.until(&field("security-code", "done")).await;
    page.until("document.querySelector('#complete').disabled === false").await;
    page.dark(true).await;
    page.photograph(shots, "panel-4-ready-dark").await;
    page.dark(false).await;
    seen += &page.document().await;
    page.click("#complete").await;
    page.until("document.querySelector('[data-outcome]')?.dataset.outcome === 'success'").await;
    page.photograph(shots, "panel-5-taken").await;
    seen += &page.document().await;
    seen += &page.eval("JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])").await.to_string();
    // Three digits in a row stand in many an id drawn at random; the security code is looked for in what is shown.
    let shown = without_ids(&seen);
    assert!(!shown.contains("987") && !shown.contains(&expiry), "the page shows what was keyed");
    for secret in [CARD, &CARD[..8], &CARD[8..]] {
        assert!(!seen.contains(secret), "the page holds something that was keyed");
    }
    assert!(page.errors.is_empty(), "{:?}", page.errors);
    let list = office.desk.ask("GET", &office.path("/payments"), None);
    assert_eq!(list["payments"][0]["result"], "success", "{list}");
    page.size(340, 620).await;
    page.photograph(shots, "panel-6-narrow").await;
    let wide = page.eval("document.documentElement.scrollWidth <= 340").await;
    assert_eq!(wide, json!(true), "a narrow frame needs no sideways scrolling");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_who_may_begin_does_and_cancels_and_a_panel_that_is_taken_back_says_so() {
    let Some(mut page) = browser("beginning and cancelling in the panel").await else { return };
    let office = Office::open(String::new()).await;
    page.open(&office.panel(json!({"may_begin": true, "ttl_s": 60}))).await;
    page.until("!!document.querySelector('#amount')").await;
    page.click("#amount").await;
    page.tell("Input.insertText", json!({"text": "7.25"})).await;
    page.photograph(shots().as_deref(), "panel-7-begin").await;
    page.key("Enter").await;
    page.until("document.querySelector('.amount strong')?.textContent === '7.25 USD'").await;
    page.click("[data-capture=security-code]").await;
    page.until(&field("security-code", "asking")).await;
    office.call.press("98", Form::Info);
    page.until("document.querySelectorAll('[data-field=security-code] .dots i').length === 2").await;
    page.click("#cancel").await;
    page.until("document.querySelector('[data-outcome]')?.dataset.outcome === 'cancelled'").await;
    let (status, _) = office.desk.answer("DELETE", &office.path("/panel"), None);
    assert_eq!(status, 204);
    // Whatever it asks next is refused, and it says why; it may have said so by itself already.
    page.eval(
        "(() => { const amount = document.querySelector('#amount'); if (!amount) return; amount.value = '1'; \
         document.querySelector('[data-key=begin]').click(); })()",
    )
    .await;
    page.until("!!document.querySelector('.panel-error') || document.body.innerText.includes('no longer valid')").await;
    page.eval("location.reload()").await;
    page.until("document.body.innerText.includes('no longer valid')").await;
    page.photograph(shots().as_deref(), "panel-8-taken-back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_pages_that_are_named_may_frame_the_panel_and_they_hear_no_digit() {
    let Some(mut page) = browser("the panel in a CRM's page").await else { return };
    // A CRM's page, on an origin that is named and on one that is not (another host name of this machine).
    let crm = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let at: SocketAddr = crm.local_addr().expect("its address");
    let origin = format!("http://127.0.0.1:{}", at.port());
    let office = Office::open(format!("panel_origins = [\"{origin}\"]")).await;
    let address = office.begin(json!({}));
    let html = format!(
        "<!doctype html><title>CRM</title><body><h1>Order 1001</h1><script type=module src=\"{}\"></script>\
         <script>window.seen = []; addEventListener('tonewall-payment', (e) => seen.push(e.detail));</script>\
         <tonewall-payment src=\"{address}\"></tonewall-payment>",
        office.desk.url("/embed.js")
    );
    std::thread::spawn(move || {
        for stream in crm.incoming().take(40) {
            let Ok(mut stream) = stream else { continue };
            // A browser opens connections that it then does not use.
            let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
            let mut buffer = [0; 4_096];
            let asked = stream.read(&mut buffer).unwrap_or(0);
            let found = buffer[..asked].starts_with(b"GET / ");
            let (status, body) = if found { ("200 OK", html.as_str()) } else { ("404 Not Found", "") };
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nConnection: close\r\n");
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    page.size(900, 800).await;
    page.open(&format!("{origin}/")).await;
    page.until("window.seen?.some((d) => d.state === 'open')").await;
    page.photograph(shots().as_deref(), "panel-9-in-a-crm").await;
    let path = office.path("/payments");
    let payment = office.desk.ask("GET", &path, None)["payments"][0]["id"].as_str().expect("a payment").to_owned();
    assert_eq!(office.desk.answer("POST", &format!("{path}/{payment}"), Some(json!({"status": "cancel"}))).0, 200);
    page.until("window.seen.some((d) => d.result === 'cancelled')").await;
    // The same page under another name may not.
    page.open(&format!("http://localhost:{}/", at.port())).await;
    page.until("document.querySelector('tonewall-payment iframe') !== null").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(page.eval("window.seen.length").await, json!(0));
    assert!(page.errors.iter().any(|error| error.contains("frame-ancestors")), "{:?}", page.errors);
}

#[test]
fn an_origin_that_could_be_anything_is_refused_with_its_line() {
    for (origin, why) in [
        ("https://*.example.com", "no wildcard"),
        ("http://crm.example.com", "https"),
        ("https://crm.example.com/path", "no path"),
        ("crm.example.com", "origin"),
        ("https://a b", "origin"),
    ] {
        let text = include_str!("../config/small.toml").to_owned()
            + &format!(
                "\n[control]\naddress = \"127.0.0.1:8080\"\npanel_origins = [\"{origin}\"]\n\n[[control.key]]\nname = \"crm\"\nrole = \"integration\"\nsha256 = \"{}\"\n",
                "0f".repeat(32)
            );
        let line = text.lines().position(|line| line.starts_with("panel_origins")).expect("there") + 1;
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("tonewall.toml");
        std::fs::write(&file, text).expect("the configuration");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tonewall")).arg("check").arg(&file).output();
        let output = output.expect("tonewall runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{origin} is taken");
        assert!(said.contains(&format!(":{line}")) && said.contains("panel_origins") && said.contains(why), "{said}");
    }
}
