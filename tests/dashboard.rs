//! The supervisor's dashboard in a real browser, on calls between real sockets: calls, holds and captures as they happen,
//! a recorder that fails, a peer that goes away, and five hundred calls at once. `TONEWALL_SHOTS=DIR` keeps pictures.
#![allow(clippy::disallowed_methods)] // Tests may wait, and open sockets.

mod common;

#[path = "common/browser.rs"]
mod browser;
#[path = "common/desk.rs"]
mod desk;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use browser::Browser;
use common::{API_KEYS, Plan, Running};
use desk::Desk;
use serde_json::json;
use tonewall::testkit::keys::Form;

/// A published test card.
const CARD: &str = "5105105105105100";

fn shots() -> Option<PathBuf> {
    std::env::var_os("TONEWALL_SHOTS").map(PathBuf::from)
}

/// A browser that is signed in as an administrator, or why there is none.
async fn signed_in(test: &str, node: &Running) -> Option<Browser> {
    let Some(name) = browser::installed() else {
        common::skip(test, "no chromium is installed (Debian: apt-get install chromium)");
        return None;
    };
    let mut page = Browser::start(name, 1_360, 860).await;
    page.open(&format!("http://{}/#key={}", node.control.expect("an API"), API_KEYS[1].2)).await;
    page.until("document.querySelector('#link')?.dataset.state === 'on'").await;
    assert_eq!(page.eval("location.hash").await, json!(""), "the key does not stay in the address");
    Some(page)
}

/// A peer that answers OPTIONS and nothing else, until it is dropped.
struct Peer {
    at: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Peer {
    fn open(at: Option<SocketAddr>) -> Peer {
        let socket = UdpSocket::bind(at.unwrap_or((Ipv4Addr::LOCALHOST, 0).into())).expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let at = socket.local_addr().expect("its address");
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while !told.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let mut answer = "SIP/2.0 200 OK\r\n".to_owned();
                for line in text.lines() {
                    let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
                    if ["via", "from", "to", "call-id", "cseq"].contains(&name.as_str()) {
                        answer += line;
                        answer += if name == "to" { ";tag=peer\r\n" } else { "\r\n" };
                    }
                }
                let _ = socket.send_to(format!("{answer}Content-Length: 0\r\n\r\n").as_bytes(), from);
            }
        });
        Peer { at, over, thread: Some(thread) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Goes to a view.
async fn view(page: &mut Browser, name: &str) {
    page.click(&format!("#tabs [data-page={name}]")).await;
    page.until(&format!("!document.querySelector('#page-{name}').hidden")).await;
}

fn shown(selector: &str, text: &str) -> String {
    format!("!!document.querySelector({selector:?})?.textContent.includes({text:?})")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_its_holds_and_its_capture_are_seen_as_they_happen_and_no_page_holds_a_digit() {
    let mut desk = Desk::open(Plan { recording: "best-effort", ..Plan::new() }).await;
    let Some(mut page) = signed_in("the dashboard in a browser", &desk.node).await else { return };
    let shots = shots();
    let shots = shots.as_deref();
    page.until(&shown("#main", "Waiting for a call")).await;
    let call = desk.call().await;
    page.until(&shown("#calls [role=option]", "+14155550100")).await;
    page.until(&shown("#main", "In call")).await;
    page.until(&shown("#main .tiles", "Recording")).await;

    // A hold of the CRM shows with its countdown, and goes as it is released.
    let path = format!("/v1/calls/{}", call.id);
    let hold = json!({"kind": "both", "reason": "order 1001", "ttl_s": 90});
    let (status, held) = desk.answer("POST", &format!("{path}/holds"), Some(hold));
    assert_eq!(status, 201, "{held}");
    page.until("document.querySelectorAll('#main .hold').length === 2").await;
    page.until("/^1:[0-3][0-9]$/.test(document.querySelector('#main .hold-left').textContent)").await;
    page.until(&shown("#calls [role=option]", "masked")).await;
    page.until(&shown("#main .hold-who", "key:crm")).await;
    page.photograph(shots, "dashboard-1-call").await;
    // By keyboard and by mouse: renewed, then released.
    page.click("#main [data-key^=renew-]").await;
    page.until(&shown("#toasts", "Hold renewed")).await;
    for left in [1, 0] {
        page.click("#main [data-key^=release-]").await;
        page.until(&format!("document.querySelectorAll('#main .hold').length === {left}")).await;
    }

    // A payment: every call's captures on one view, one mark per key.
    let payment = json!({"charge_amount": "19.90", "currency": "EUR", "postal_code": false,
        "timeout": 30, "first_key_timeout": 60});
    let (status, payment) = desk.answer("POST", &format!("{path}/payments"), Some(payment));
    assert_eq!(status, 201, "{payment}");
    view(&mut page, "payments").await;
    page.until(&shown("#captures .capture", "19.90 EUR")).await;
    let at = format!("{path}/payments/{}", payment["id"].as_str().expect("an id"));
    desk.answer("POST", &at, Some(json!({"capture": "payment-card-number"})));
    page.until(&shown("#captures .capture", "Keying: card")).await;
    call.press(&CARD[..9], Form::Event);
    page.until("document.querySelector('#captures code')?.textContent.match(/x/g)?.length === 9").await;
    page.photograph(shots, "dashboard-2-keying").await;
    let mut seen = page.document().await;
    call.press(&format!("{}#", &CARD[9..]), Form::Event);
    page.until(&shown("#captures .capture", "Mastercard")).await;
    page.until(&shown("#captures .capture", "Missing: expiry, code")).await;
    assert_eq!(desk.answer("POST", &at, Some(json!({"status": "cancel"}))).0, 200);
    page.until(&shown("#paid", "cancelled")).await;
    page.until(&shown("#captures", "Nobody is keying anything now")).await;
    page.photograph(shots, "dashboard-3-ended").await;
    seen += &page.document().await;

    view(&mut page, "health").await;
    page.until(&shown(".recorder", "Open now")).await;
    page.until("[...document.querySelectorAll('[data-trunk]')].map((row) => row.dataset.state).join() === 'up,up'")
        .await;
    page.until(&shown("#page-health", "Takes calls")).await;
    page.photograph(shots, "dashboard-4-health").await;
    view(&mut page, "alarms").await;
    page.until(&shown("#page-alarms", "No alarm stands")).await;
    view(&mut page, "calls").await;
    page.dark(true).await;
    page.photograph(shots, "dashboard-5-dark").await;
    page.dark(false).await;
    seen += &page.document().await;
    desk.hang_up(call).await;
    page.until(&shown("#main .eyebrow", "Ended")).await;
    page.until(&shown("#calls [role=option]", "ended")).await;
    for secret in [CARD, &CARD[..8], &CARD[8..]] {
        assert!(!seen.contains(secret), "the page holds something that was keyed");
    }
    assert_eq!(page.errors.first(), None);
    page.size(400, 800).await;
    page.photograph(shots, "dashboard-6-narrow").await;
    let narrow = page.eval("document.documentElement.scrollWidth <= 400").await;
    assert_eq!(narrow, json!(true), "a narrow screen needs no sideways scrolling");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_that_fails_is_an_alarm_until_a_recording_is_whole_again() {
    let mut desk = Desk::open(Plan { recording: "best-effort", ..Plan::new() }).await;
    let Some(mut page) = signed_in("alarms of a recorder in a browser", &desk.node).await else { return };
    // In place of the day's directory stands a file: nothing can be made there, not even by root.
    let root = desk.node.dir.path().join("recordings");
    let days = ["today", "tomorrow"].map(|day| {
        let date = std::process::Command::new("date").args(["-u", "+%F", "-d", day]).output().expect("the date");
        root.join(String::from_utf8_lossy(&date.stdout).trim())
    });
    assert!(root.is_dir() && !days[0].exists(), "recordings are kept by day");
    days.iter().for_each(|day| std::fs::write(day, "in the way").expect("a file"));
    let call = desk.call().await;
    page.until(&shown("#strip", "A recorder failed")).await;
    page.until("document.querySelector('#alarm').textContent.includes('A recorder failed')").await;
    page.until(&shown("#main .tile.bad", "Failed")).await;
    page.photograph(shots().as_deref(), "dashboard-7-recorder-failed").await;
    page.click("#strip a").await;
    page.until(&shown("[data-alarm=recorder-failed]", "What to do")).await;
    page.until("/^\\(1\\) /.test(document.title)").await;
    page.photograph(shots().as_deref(), "dashboard-8-alarm").await;
    view(&mut page, "health").await;
    page.until("document.querySelector('.recorder')?.dataset.state === 'ailing'").await;
    desk.hang_up(call).await;
    // The disk is mended; the next recording that is complete ends the alarm.
    days.iter().for_each(|day| std::fs::remove_file(day).expect("the file is removed"));
    let call = desk.call().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    desk.hang_up(call).await;
    view(&mut page, "alarms").await;
    page.until(&shown("#page-alarms", "No alarm stands")).await;
    page.until(&shown("#page-alarms .over", "recorder failed: sealed files")).await;
    page.until("document.querySelector('#tab-alarms').hidden && document.querySelector('#strip').hidden").await;
    assert_eq!(page.errors.first(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_goes_away_is_an_alarm_until_it_is_back() {
    let probed = "probe_s = 1\nprobe_lost = 2".to_owned();
    let peer = Peer::open(None);
    let at = peer.at;
    let plan = Plan { pbx: at, trunks: [String::new(), probed], control: true, ..Plan::new() };
    let node = tokio::task::block_in_place(|| Running::start(&plan));
    let Some(mut page) = signed_in("alarms of a trunk in a browser", &node).await else { return };
    view(&mut page, "health").await;
    page.until("document.querySelector('[data-trunk=pbx]')?.dataset.state === 'up'").await;
    drop(peer);
    page.until(&shown("#strip", "A trunk is down")).await;
    view(&mut page, "health").await;
    page.until("document.querySelector('[data-trunk=pbx]')?.dataset.state === 'down'").await;
    page.photograph(shots().as_deref(), "dashboard-9-trunk-down").await;
    view(&mut page, "alarms").await;
    page.until(&shown("[data-alarm=trunk-down]", "pbx")).await;
    page.until(&shown("[data-alarm=trunk-down]", "ends by itself")).await;
    let _peer = Peer::open(Some(at));
    page.until(&shown("#page-alarms", "No alarm stands")).await;
    page.until(&shown("#page-alarms .over", "trunk down: pbx")).await;
    assert_eq!(page.errors.first(), None);
}

/// Answers of the node in the page's place: this many calls, and events on them as fast as the page takes them.
const MANY: &str = r#"(async () => {
  const { Model } = await import('/assets/model.js');
  const { LongList } = await import('/assets/list.js');
  const { callRow, tick } = await import('/assets/view.js');
  const model = new Model();
  const id = (n) => `call_${String(n).padStart(32, '0')}`;
  const view = (n) => ({ id: id(n), state: 'answered', from_trunk: 'carrier', to_trunk: 'pbx', caller: `+1415555${n}`, called: '100',
    agent: String(100 + n), reference: null, age_ms: 1000 * n, talk_ms: 1000 * n, guard: 'signal', masked: n % 2 === 0, paused: false,
    keys_masked: 0, holds: [{ id: `hold_${n}`, kind: 'mask', owner: 'crm', reason: '', age_ms: 0, ttl_ms: 60000 }],
    collection: null, payment: null, recording: { id: 'rec', state: 'recording' } });
  model.takeCalls(Array.from({ length: COUNT }, (_, n) => view(n)), 10, performance.now());
  const root = document.createElement('div');
  root.className = 'long call-list';
  document.body.prepend(root);
  const list = new LongList(root, { height: 70, label: 'Calls', key: (held) => held.view.id, row: callRow, choose: (key) => { chosen = key; }, empty: () => null });
  let chosen = null;
  let longest = 0;
  let seq = 11;
  for (let turn = 0; turn < 40; turn += 1) {
    const begun = performance.now();
    for (let n = 0; n < COUNT; n += 1) model.take({ seq: seq++, at_ms: Date.now(), call: id(n), type: 'key-masked', count: turn + 1 }, begun);
    list.set([...model.calls.values()], chosen);
    tick(model, performance.now());
    root.getBoundingClientRect();
    longest = Math.max(longest, performance.now() - begun);
    await new Promise(requestAnimationFrame);
  }
  root.focus();
  for (const key of ['End', 'ArrowUp']) root.dispatchEvent(new KeyboardEvent('keydown', { key }));
  list.set([...model.calls.values()], chosen);
  await new Promise(requestAnimationFrame);
  list.draw();
  const active = document.getElementById(root.getAttribute('aria-activedescendant'));
  const out = { longest, rows: root.querySelectorAll('[role=option]').length, at: active?.getAttribute('aria-posinset'), of: active?.getAttribute('aria-setsize'),
    keys: model.calls.get(id(3)).view.keys_masked };
  // An answer that was on its way while a key was told does not take the key back; one that is newer counts.
  model.takeCall({ ...view(3), keys_masked: 1 }, 12, performance.now());
  out.kept = model.calls.get(id(3)).view.keys_masked;
  out.dirty = model.dirty.has(id(3));
  model.takeCall({ ...view(3), keys_masked: 99 }, seq, performance.now());
  out.newer = model.calls.get(id(3)).view.keys_masked;
  model.take({ seq: seq - 1, at_ms: Date.now(), call: id(3), type: 'key-masked', count: 7 }, performance.now());
  out.known = model.calls.get(id(3)).view.keys_masked;
  root.remove();
  return out;
})()"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_calls_do_not_hang_the_page_and_an_old_answer_overwrites_nothing() {
    let desk = Desk::open(Plan::new()).await;
    let Some(mut page) = signed_in("five hundred calls in a browser", &desk.node).await else { return };
    let few = page.eval(&MANY.replace("COUNT", "10")).await;
    let many = page.eval(&MANY.replace("COUNT", "500")).await;
    common::say(&format!("longest turn with 10 calls {few}, with 500 {many}"));
    assert!(
        many["rows"].as_u64().is_some_and(|rows| (5..40).contains(&rows)),
        "only what is in sight is drawn: {many}"
    );
    assert_eq!((&many["at"], &many["of"]), (&json!("499"), &json!("500")), "{many}");
    assert_eq!((&many["keys"], &many["kept"], &many["dirty"]), (&json!(40), &json!(40), &json!(true)), "{many}");
    assert_eq!((&many["newer"], &many["known"]), (&json!(99), &json!(99)), "{many}");
    // Generous, for a loaded machine; a page that draws every row of every call takes seconds.
    assert!(many["longest"].as_f64().is_some_and(|ms| ms < 1_000.0), "{many}");
    assert_eq!(page.errors.first(), None);
}
