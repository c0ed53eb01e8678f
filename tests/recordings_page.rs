//! The page of recordings in a real browser, on a recording of a real call: found, opened with a purpose, drawn with its
//! pause, played with seeking, labelled, held, destroyed; and one in quarantine, which has no sound. `TONEWALL_SHOTS=DIR`
//! keeps pictures.
#![allow(clippy::disallowed_methods)] // Tests may wait, and open sockets.

mod common;

#[path = "common/browser.rs"]
mod browser;
#[path = "common/desk.rs"]
mod desk;

use std::path::PathBuf;
use std::time::Duration;

use browser::Browser;
use common::{API_KEYS, Plan};
use desk::Desk;
use serde_json::json;
use tonewall::base::ids::RecordingId;
use tonewall::record::catalogue::{AuditVerdict, Retention};
use tonewall::rt::catalogue::Catalogue;

fn shots() -> Option<PathBuf> {
    std::env::var_os("TONEWALL_SHOTS").map(PathBuf::from)
}

/// Says why, and goes on.
async fn answer(page: &mut Browser, why: &str) {
    page.until("!!document.querySelector('dialog[open] input')").await;
    page.click("dialog input").await;
    page.tell("Input.insertText", json!({"text": why})).await;
    page.key("Enter").await;
    page.until("!document.querySelector('dialog[open]')").await;
}

/// A call of which some seconds are recorded, with a pause in the midst of it; its recording.
async fn recorded(desk: &mut Desk) -> String {
    let call = desk.call().await;
    let path = format!("/v1/calls/{}", call.id);
    let recording = desk.until(&path, |call| call["recording"]["state"] == "recording").await;
    let recording = recording["recording"]["id"].as_str().expect("an id").to_owned();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let hold = json!({"kind": "both", "reason": "a card", "ttl_s": 60});
    let (status, holds) = desk.answer("POST", &format!("{path}/holds"), Some(hold));
    assert_eq!(status, 201, "{holds}");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for hold in holds["holds"].as_array().expect("holds") {
        let id = hold["id"].as_str().expect("an id");
        assert_eq!(desk.answer("DELETE", &format!("{path}/holds/{id}"), None).0, 204);
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    desk.hang_up(call).await;
    recording
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_is_found_heard_labelled_held_and_destroyed_and_one_in_quarantine_is_not_heard() {
    let Some(name) = browser::installed() else {
        return common::skip(
            "the page of recordings in a browser",
            "no chromium is installed (Debian: apt-get install chromium)",
        );
    };
    let mut desk = Desk::open(Plan { recording: "best-effort", ..Plan::new() }).await;
    let quarantined = recorded(&mut desk).await;
    let heard = recorded(&mut desk).await;
    let mut page = Browser::start(name, 1_400, 900).await;
    page.open(&desk.url(&format!("/#key={}", API_KEYS[1].2))).await;
    page.until("document.querySelector('#link')?.dataset.state === 'on'").await;
    page.click("#tabs [data-page=recordings]").await;
    let row = |id: &str| format!("document.querySelector('[data-recording={id}]')");
    for id in [&quarantined, &heard] {
        // Whoever searches again sees what has become of them.
        let sealed = format!(
            "(() => {{ const row = {}; if (row?.textContent.includes('Sealed')) return true; \
             document.querySelector('[data-key=search]').click(); return false; }})()",
            row(id)
        );
        page.until(&sealed).await;
    }
    // By number; and nothing by another.
    page.click("[name=number]").await;
    page.tell("Input.insertText", json!({"text": "999"})).await;
    page.key("Enter").await;
    page.until("document.querySelector('.results').textContent.includes('No recording is like that')").await;
    page.eval("document.querySelector('[name=number]').value = '0100'").await;
    page.click("[data-key=search]").await;
    page.until(&format!("!!{}", row(&heard))).await;

    // Opened with a purpose, once.
    page.click(&format!("[data-recording={heard}]")).await;
    page.click("#listen").await;
    page.until("!!document.querySelector('dialog[open]')").await;
    page.photograph(shots().as_deref(), "recordings-1-purpose").await;
    answer(&mut page, "complaint 4711").await;
    page.until("!!document.querySelector('[data-stretch=pause]')").await;
    page.until("document.querySelector('audio').getAttribute('src')?.includes('ticket=')").await;
    // Loaded for as far as it says, and sought: the browser asks for ranges.
    page.eval("document.querySelector('audio').load()").await;
    page.eval("document.querySelector('audio').preload = 'metadata'").await;
    page.until("document.querySelector('audio').duration > 4").await;
    page.click("canvas.wave").await;
    page.until("document.querySelector('audio').currentTime > 1").await;
    page.until("Number(document.querySelector('canvas.wave').getAttribute('aria-valuenow')) > 1").await;
    page.until("document.querySelector('canvas.wave').getAttribute('aria-valuetext').includes('paused')").await;
    let drawn = "(() => { const c = document.querySelector('canvas.wave'); \
         const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
         return new Set([...Array(c.width * c.height).keys()].map((n) => d.slice(4 * n, 4 * n + 4).join())).size; })()";
    assert!(page.eval(drawn).await.as_u64().is_some_and(|colours| colours > 4), "the waveform has colours");
    page.eval("document.querySelector('audio').muted = true").await;
    page.eval("document.querySelector('audio').play().then(() => true)").await;
    let from = page.eval("document.querySelector('audio').currentTime").await.as_f64().expect("a time");
    page.until(&format!("document.querySelector('audio').currentTime > {from} + 0.2")).await;
    page.eval("document.querySelector('audio').pause()").await;
    page.photograph(shots().as_deref(), "recordings-2-heard").await;

    // Labelled; held, so that it cannot be destroyed; let go; destroyed.
    page.click("[data-key=new-label]").await;
    page.tell("Input.insertText", json!({"text": "case=A-17"})).await;
    page.key("Enter").await;
    page.until("document.querySelector('.labels').textContent.includes('case: A-17')").await;
    page.click("[data-key=hold]").await;
    answer(&mut page, "case A-17").await;
    page.until("document.querySelector('.one').textContent.includes('Legal hold')").await;
    page.until("!document.querySelector('[data-key=destroy]')").await;
    page.dark(true).await;
    page.photograph(shots().as_deref(), "recordings-3-held-dark").await;
    page.dark(false).await;
    page.until("document.querySelector('[data-key=hold]').textContent.includes('Lift')").await;
    page.click("[data-key=hold]").await;
    answer(&mut page, "case closed").await;
    page.until("!!document.querySelector('[data-key=destroy]')").await;
    page.eval("document.querySelector('[data-key=destroy]').click()").await;
    answer(&mut page, "asked for by the customer").await;
    page.until("document.querySelector('.one').textContent.includes('No key opens it any more')").await;
    page.until("!document.querySelector('.one audio')").await;
    page.photograph(shots().as_deref(), "recordings-4-destroyed").await;

    // What a self-audit puts into quarantine is shown as such, and has nothing to play.
    let catalogue =
        Catalogue::open(&desk.node.dir.path().join("recordings"), Retention::default()).expect("a catalogue");
    let id: RecordingId = quarantined.parse().expect("an id");
    catalogue.audited(id, AuditVerdict::Hit, "a tone at 0:02, customer").expect("noted");
    page.click("[data-key=search]").await;
    page.until(&format!("{}?.textContent.includes('Quarantined')", row(&quarantined))).await;
    page.click(&format!("[data-recording={quarantined}]")).await;
    page.until("document.querySelector('.withheld')?.textContent.includes('a tone at 0:02')").await;
    assert_eq!(page.eval("!!document.querySelector('#listen, .one audio')").await, json!(false));
    page.photograph(shots().as_deref(), "recordings-5-quarantined").await;
    let sound = format!("/v1/recordings/{quarantined}/audio?purpose=complaint");
    let ask = format!(
        "fetch('{sound}', {{headers: {{Authorization: 'Bearer {}'}}}}).then((answer) => answer.status)",
        API_KEYS[1].2
    );
    let refused = page.eval(&ask).await;
    assert!(refused.as_u64().is_some_and(|status| (400..500).contains(&status)), "it is not given out: {refused}");
    // A call that is over is asked for once more and not found; the sound of a quarantined recording is refused.
    page.errors.retain(|error| !error.contains("/v1/calls/call_") && !error.contains("/audio?purpose=complaint"));
    assert_eq!(page.errors.first(), None);
    page.size(400, 800).await;
    let narrow = page.eval("document.documentElement.scrollWidth <= 400").await;
    assert_eq!(narrow, json!(true), "a narrow screen needs no sideways scrolling");
    page.photograph(shots().as_deref(), "recordings-6-narrow").await;
}
