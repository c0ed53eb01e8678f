//! What a running node keeps of a payment: a `tonewall run` process, a caller on the line who keys a test card, and then a
//! search through the whole memory of the process and everything it wrote and told. While the card is being keyed the
//! search finds it, so it can find; a second after the end it finds nothing.
//!
//! Reading another process's memory that has made itself undumpable takes the right of root (CAP_SYS_PTRACE); without it
//! the test says so and does nothing.
#![allow(clippy::disallowed_methods)]

mod common;
#[path = "common/desk.rs"]
mod desk;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::Plan;
use desk::{Desk, WEBHOOK_SECRET, receiver};
use memchr::memmem::Finder;
use serde_json::json;
use tonewall::testkit::keys::Form;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_second_after_a_payment_nothing_of_the_card_is_left_in_memory_or_files_or_events() {
    let (told, endpoint) = receiver();
    let plan = Plan {
        recording: "best-effort",
        more: endpoint,
        files: vec![("crm.whsec", WEBHOOK_SECRET.into())],
        ..Plan::new()
    };
    let mut desk = Desk::open(plan).await;
    if let Err(error) = search(desk.node.pid()) {
        return common::skip("memory", &format!("the memory of another process cannot be read: {error}"));
    }
    for form in [Form::Tone, Form::Event] {
        let call = desk.call().await;
        let begun = desk.ask("POST", &format!("/v1/calls/{}/payments", call.id), Some(json!({"postal_code": false})));
        let path =
            format!("/v1/calls/{}/payments/{}", call.id, begun["id"].as_str().unwrap_or_else(|| panic!("{begun}")));
        desk.key_card(&path, &call, form, [CARD, EXPIRY, CODE]).await;
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
        desk.hang_up(call).await;
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
