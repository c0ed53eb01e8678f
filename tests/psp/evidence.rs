//! PCI DSS 10.2 on one real call: a `tonewall run` process with an audit log takes a recorded call, holds, a card payment
//! by the sandbox provider, a pause of the recording and what people do with it afterwards; it is configured anew, twice
//! refused, and ended. The whole log is held against what was done: one entry each, in order, with the six fields of 10.2.2
//! and no digit of the card. The rows of `docs/audit.md` are all in it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonewall::testkit::keys::Form;

use crate::common::{API_KEYS, KEK, Plan, Running, restrict};
use crate::desk::{Api, Desk};

const PATIENCE: Duration = Duration::from_secs(30);
const CARD: [&str; 3] = ["4242424242424242", "1235", "907"];

/// What the log must say, a line for each entry: who, from where, what, with what result, to what.
#[derive(Default)]
struct Wanted(Vec<String>);

impl Wanted {
    fn all(&mut self, who: &str, entries: &[&str]) {
        self.0.extend(entries.iter().map(|entry| format!("{who} {entry}")));
    }

    /// What the node did by itself.
    fn node(&mut self, entries: &[&str]) {
        self.all("node@node", entries);
    }

    /// What the CRM did.
    fn crm(&mut self, entries: &[&str]) {
        self.all("crm@127.0.0.1", entries);
    }

    /// What the administrator did.
    fn boss(&mut self, entries: &[&str]) {
        self.all("boss@127.0.0.1", entries);
    }

    /// What was done at the command line.
    fn user(&mut self, entries: &[&str]) {
        self.all("user@host", entries);
    }
}

/// An entry as [`Wanted`] has it: its object by the words in it that are no ids.
fn line(entry: &Value) -> String {
    let actor = &entry["actor"];
    let who = match actor["kind"].as_str() {
        Some("key") => actor["name"].as_str().unwrap_or("?"),
        kind => kind.unwrap_or("?"),
    };
    let origin = entry["origin"].as_str().unwrap_or("?");
    let origin = origin.split_once(' ').map_or(origin, |(kind, _)| kind);
    let (action, result) = (entry["action"].as_str().unwrap_or("?"), entry["result"].as_str().unwrap_or("?"));
    let mut line = format!("{who}@{origin} {action} {result}");
    for word in ["method", "route", "thing", "made", "name", "role", "kind", "part", "format", "how", "payment_result"]
    {
        if let Some(text) = entry["object"][word].as_str() {
            let _ = write!(line, " {text}");
        }
    }
    line
}

/// The fields of PCI DSS 10.2.2, in this entry: who, what, when, whether it succeeded, from where, and to what.
fn has_the_six_fields(entry: &Value) -> bool {
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let time = |at: &str| at.len() == 24 && at.ends_with('Z') && at.as_bytes()[10] == b'T';
    text(&entry["actor"]["kind"])
        && (!matches!(entry["actor"]["kind"].as_str(), Some("key" | "user")) || text(&entry["actor"]["name"]))
        && text(&entry["action"])
        && entry["at"].as_str().is_some_and(time)
        && entry["at_ms"].as_u64().is_some_and(|ms| ms > 1_700_000_000_000)
        && matches!(entry["result"].as_str(), Some("asked" | "done" | "refused" | "failed"))
        && text(&entry["origin"])
        && entry["object"].as_object().is_some_and(|object| !object.is_empty())
}

/// The node's audit log.
struct Log(PathBuf);

impl Log {
    fn text(&self) -> String {
        let pages = std::fs::read_dir(self.0.join("log")).expect("the log").map(|page| page.expect("a file").path());
        let mut pages: Vec<PathBuf> = pages.filter(|page| page.extension().is_some_and(|kind| kind == "log")).collect();
        pages.sort();
        pages.iter().map(|page| std::fs::read_to_string(page).expect("text")).collect()
    }

    /// Waits until so many entries are of this action.
    async fn until(&self, action: &str, count: usize) {
        self.until_text(&format!("\"action\":\"{action}\""), count).await;
    }

    async fn until_text(&self, word: &str, count: usize) {
        let until = Instant::now() + PATIENCE;
        while self.text().matches(word).count() < count {
            assert!(Instant::now() < until, "{word} is not in the log: {}", self.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A command of the command line; what it printed.
fn tonewall(arguments: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_tonewall")).args(arguments).output().expect("it runs");
    let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{arguments:?}: {told}");
    told
}

fn signal(node: &Running, signal: rustix::process::Signal) {
    let pid = i32::try_from(node.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("sent");
}

/// Follows the events until the stream has begun.
fn follow(node: &Running) {
    let at = node.control.expect("an API");
    let mut stream = TcpStream::connect(at).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let key = API_KEYS[0].2;
    let head = format!("GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("asked");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    assert!(line.contains("200"), "{line}");
}

fn ids(holds: &Value) -> Vec<String> {
    let ids = holds["holds"].as_array().into_iter().flatten().filter_map(|hold| hold["id"].as_str());
    ids.map(str::to_owned).collect()
}

const BANK: &str = "\n[[connector]]\nname = \"bank\"\npreset = \"sandbox\"\nurl = \"http://127.0.0.1:9\"\n";

fn plan(home: &std::path::Path) -> Plan {
    let key = home.join("audit.key");
    tonewall(&["audit", "keygen", "--name", "tonewall/test", "--output", key.to_str().expect("a path")]);
    let more = format!(
        "\n[audit]\ndirectory = {:?}\nkey = {key:?}\n\n[[connector]]\nname = \"till\"\npreset = \"sandbox\"\n{BANK}",
        home.join("log")
    );
    Plan { recording: "required", more, ..Plan::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_real_call_leaves_every_row_of_pci_10_2_in_the_log_with_six_fields_in_order_and_no_digit() {
    let home = tempfile::tempdir().expect("a directory");
    let (log, mut wanted) = (Log(home.path().to_owned()), Wanted::default());
    let mut desk = Desk::open(plan(home.path())).await;
    log.until("node-started", 1).await;
    wanted.node(&["log-file done", "log-started done", "configuration-loaded done"]);
    wanted.node(&["thing done api-key created boss admin", "thing done api-key created crm integration"]);
    wanted.node(&["thing done connector created bank", "thing done connector created till"]);
    wanted.node(&["thing done key-encryption-key created test"]);
    wanted.node(&["thing done listener created carrier-side", "thing done listener created pbx-side"]);
    wanted.node(&["thing done trunk created carrier", "thing done trunk created pbx", "node-started done"]);

    // 10.2.1.4: nobody's key, and a key that may not.
    assert_eq!(Api::under(&desk.node, CARD[0]).answer("GET", "/v1/calls", None).0, 401);
    wanted.all("nobody@127.0.0.1", &["access-denied refused GET /v1/calls"]);
    assert_eq!(desk.answer("DELETE", "/v1/alarms/alm_1", None).0, 403);
    wanted.crm(&["access-denied refused DELETE /v1/alarms/{alarm}"]);

    // A call, recorded; holds on it.
    let call = desk.call().await;
    let path = format!("/v1/calls/{}", call.id);
    let shown = desk.until(&path, |call| call["recording"]["state"] == "recording").await;
    let recording = shown["recording"]["id"].as_str().expect("an id").to_owned();
    wanted.node(&["recording-begun done"]);
    let written = json!({"kind": "both", "reason": "a card: 4242 4242 4242 4242", "ttl_s": 60});
    assert_eq!(desk.answer("POST", &format!("{path}/holds"), Some(written)).0, 422);
    wanted.crm(&["request refused POST /v1/calls/{call}/holds"]);
    let both = json!({"kind": "both", "reason": "a card", "ttl_s": 60});
    let (status, holds) = desk.answer("POST", &format!("{path}/holds"), Some(both));
    assert_eq!(status, 201, "{holds}");
    wanted.crm(&["hold-taken done mask", "recording-paused done", "hold-taken done pause"]);
    wanted.crm(&["request done POST /v1/calls/{call}/holds"]);
    let holds = ids(&holds);
    assert_eq!(desk.answer("PATCH", &format!("{path}/holds/{}", holds[0]), Some(json!({"ttl_s": 90}))).0, 200);
    wanted.crm(&["hold-renewed done mask", "request done PATCH /v1/calls/{call}/holds/{hold}"]);
    for hold in &holds {
        assert_eq!(desk.answer("DELETE", &format!("{path}/holds/{hold}"), None).0, 204);
    }
    wanted.crm(&["hold-released done mask", "request done DELETE /v1/calls/{call}/holds/{hold}"]);
    wanted.crm(&["hold-released done pause", "recording-resumed done"]);
    wanted.crm(&["request done DELETE /v1/calls/{call}/holds/{hold}"]);

    // Who may see what: events, tickets, a panel (10.2.1.1, 10.2.1.5).
    assert_eq!(desk.answer("POST", "/v1/tickets", None).0, 201);
    wanted.crm(&["ticket-drawn done"]);
    tokio::task::block_in_place(|| follow(&desk.node));
    wanted.crm(&["events-followed done"]);
    assert_eq!(desk.answer("POST", &format!("{path}/panel"), Some(json!({}))).0, 201);
    assert_eq!(desk.answer("DELETE", &format!("{path}/panel"), None).0, 204);
    wanted.crm(&["panel-opened done", "panels-closed done"]);

    // A collection that is taken back, and a card that is paid with.
    let (status, begun) = desk.answer("POST", &format!("{path}/collections"), Some(json!({"length": 4})));
    assert_eq!(status, 201, "{begun}");
    let collection = begun["id"].as_str().expect("an id").to_owned();
    wanted.crm(&["hold-taken done mask", "recording-paused done", "hold-taken done pause", "collection-begun done"]);
    wanted.crm(&["request done POST /v1/calls/{call}/collections"]);
    desk.ask("DELETE", &format!("{path}/collections/{collection}"), None);
    wanted.crm(&["collection-ended done cancelled", "request done DELETE /v1/calls/{call}/collections/{collection}"]);
    // What it held is given back a little later, by the node.
    let passes = |call: &Value| call["masked"] == false && call["paused"] == false;
    desk.until(&path, passes).await;
    wanted.node(&["hold-released done mask", "hold-released done pause", "recording-resumed done"]);
    let order = json!({"charge_amount": "12.50", "currency": "EUR", "postal_code": false,
        "parameter": {"sandbox": "slow-700"}});
    let (status, begun) = desk.answer("POST", &format!("{path}/payments"), Some(order));
    assert_eq!(status, 201, "{begun}");
    wanted.crm(&["hold-taken done mask", "recording-paused done", "hold-taken done pause"]);
    wanted.crm(&["payment-begun done credit-card", "request done POST /v1/calls/{call}/payments"]);
    let payment = format!("{path}/payments/{}", begun["id"].as_str().expect("an id"));
    desk.ask("GET", &payment, None);
    wanted.crm(&["payments-viewed done"]);
    desk.key_card(&payment, &call, Form::Event, CARD).await;
    wanted.crm(&["request done POST /v1/calls/{call}/payments/{payment}"; 3]);
    desk.ask("POST", &payment, Some(json!({"status": "complete"})));
    wanted.crm(&["payment-submitted done", "request done POST /v1/calls/{call}/payments/{payment}"]);
    let ended = desk.until(&payment, |payment| payment["state"] == "ended").await;
    assert_eq!(ended["result"], "success", "{ended}");
    desk.until(&path, passes).await;
    wanted.node(&["payment-ended done success", "hold-released done mask", "hold-released done pause"]);
    wanted.node(&["recording-resumed done"]);

    // The recording paused by itself; then the end of the call.
    let pause = json!({"kind": "pause", "reason": "a password", "ttl_s": 60});
    let (_, holds) = desk.answer("POST", &format!("{path}/holds"), Some(pause));
    wanted.crm(&["recording-paused done", "hold-taken done pause", "request done POST /v1/calls/{call}/holds"]);
    desk.ask("DELETE", &format!("{path}/holds/{}", ids(&holds)[0]), None);
    wanted.crm(&["hold-released done pause", "recording-resumed done"]);
    wanted.crm(&["request done DELETE /v1/calls/{call}/holds/{hold}"]);
    desk.hang_up(call).await;
    log.until("recording-sealed", 1).await;
    wanted.node(&["recording-sealed done"]);

    // 10.2.1.1, 10.2.1.2, 10.2.1.7: what an administrator does, with the recording and otherwise.
    let boss = Api::under(&desk.node, API_KEYS[1].2);
    let path = format!("/v1/recordings/{recording}");
    boss.until(&path, |recording| recording["state"] == "sealed").await.expect("sealed");
    wanted.boss(&["recording-viewed done description"]);
    assert_eq!(boss.answer("GET", "/v1/recordings?number=0100", None).0, 200);
    wanted.boss(&["recordings-searched done"]);
    for (part, entry) in [
        ("waveform", "recording-viewed done waveform"),
        ("audio", "recording-played done"),
        ("export", "recording-exported done wav"),
    ] {
        assert_eq!(boss.answer("GET", &format!("{path}/{part}?purpose=complaint%204711"), None).0, 200, "{part}");
        wanted.boss(&[entry]);
    }
    assert_eq!(boss.answer("PATCH", &path, Some(json!({"labels": {"case": "A-17"}}))).0, 200);
    let why = || Some(json!({"reason": "case A-17, 4242424242424242"}));
    assert_eq!(boss.answer("POST", &format!("{path}/hold"), why()).0, 200);
    assert_eq!(boss.answer("DELETE", &format!("{path}/hold"), why()).0, 200);
    wanted.boss(&["recording-labelled asked", "recording-labelled done"]);
    wanted.boss(&["legal-hold asked", "legal-hold done", "legal-hold asked", "legal-hold done"]);
    assert_eq!(boss.answer("GET", "/v1/trunks", None).0, 200);
    wanted.boss(&["request done GET /v1/trunks"]);

    // 10.2.1.3: the log is read.
    let config = desk.node.config.to_str().expect("a path").to_owned();
    let told = tokio::task::block_in_place(|| tonewall(&["audit", "verify", "--config", &config]));
    assert!(told.contains("whole up to entry"), "{told}");
    tokio::task::block_in_place(|| tonewall(&["audit", "list", "--config", &config]));
    wanted.user(&["log-read done verify", "log-read done list"]);

    // A configuration that is refused, one whose connectors are taken, and what of it waits for the next start.
    let before = std::fs::read_to_string(&config).expect("the configuration");
    std::fs::write(&config, format!("{before}\n[[connector]]\nname = \"broken\"\n")).expect("written");
    signal(&desk.node, rustix::process::Signal::HUP);
    log.until("configuration-refused", 1).await;
    wanted.node(&["thing done certificate changed all, by SIGHUP", "configuration-refused failed"]);
    let changed = before
        .replacen("mask = \"silence\"", "mask = \"tone\"", 1)
        .replace("role = \"integration\"", "role = \"supervisor\"")
        .replace(BANK, &BANK.replace("127.0.0.1:9", "127.0.0.1:11"))
        + &BANK.replace("bank", "second");
    std::fs::write(&config, &changed).expect("written");
    signal(&desk.node, rustix::process::Signal::HUP);
    log.until("configuration-loaded", 2).await;
    wanted.node(&["thing done certificate changed all, by SIGHUP", "configuration-loaded done"]);
    wanted.node(&["thing done connector changed bank", "thing done connector created second"]);
    // Keys are read on a thread of their own.
    log.until_text("\"thing\":\"key-encryption-key\"", 3).await;

    // The end; the key-encryption key is changed while the node is down; and the start with the other configuration.
    let until = |node: &mut Running| node.ended(PATIENCE).is_some_and(|status| status.success());
    signal(&desk.node, rustix::process::Signal::TERM);
    assert!(tokio::task::block_in_place(|| until(&mut desk.node)), "{}", desk.node.log());
    wanted.node(&["node-stopping done", "log-stopped done"]);
    let next = desk.node.dir.path().join("next.hex");
    std::fs::write(&next, KEK.replace('1', "2")).expect("written");
    restrict(&next);
    let file = |name: &str| desk.node.dir.path().join(name).display().to_string();
    let key = |id: &str, name: &str| format!("id = \"{id}\"\nfile = \"{}\"\n", file(name));
    let (old, new) = (key("test", "kek.hex"), key("next", "next.hex"));
    std::fs::write(&config, changed.replace(&old, &format!("{new}[[keys.old]]\n{old}"))).expect("written");
    let told = tokio::task::block_in_place(|| tonewall(&["recordings", "--config", &config, "rewrap"]));
    assert!(told.contains("1 recordings rewrapped under \"next\""), "{told}");
    wanted.user(&["keys-rotated asked", "keys-rotated done"]);
    tokio::task::block_in_place(|| desk.node.restart());
    log.until("node-started", 2).await;
    wanted.node(&["log-started done", "configuration-loaded done", "thing done api-key changed crm supervisor"]);
    wanted.node(&[
        "thing done trunk changed carrier",
        "thing done key-encryption-key created next",
        "node-started done",
    ]);
    let boss = Api::under(&desk.node, API_KEYS[1].2);
    let (status, destroyed) = boss.answer("DELETE", &path, why());
    assert_eq!(status, 200, "{destroyed}");
    wanted.boss(&["recording-destroyed asked", "recording-destroyed done"]);
    signal(&desk.node, rustix::process::Signal::TERM);
    assert!(tokio::task::block_in_place(|| until(&mut desk.node)), "{}", desk.node.log());
    wanted.node(&["node-stopping done", "log-stopped done"]);

    hold_against(&log.text(), &wanted.0);
    let verified = tonewall(&["audit", "verify", "--config", &config]);
    assert!(verified.contains("whole up to entry"), "{verified}");
}

/// The whole log against what was done.
fn hold_against(text: &str, wanted: &[String]) {
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (number, entry) in (1u64..).zip(&entries) {
        assert_eq!(entry["seq"], number, "{entry}");
        assert!(has_the_six_fields(entry), "{entry}");
    }
    // What came again within a minute is told once more with its number, at the latest when the log ends.
    let (again, once): (Vec<&Value>, Vec<&Value>) = entries.iter().partition(|entry| entry["times"].is_u64());
    let lines = once.iter().map(|entry| line(entry));
    // Keys that are read again by a signal are so on a thread of their own: the order to what else is read is free.
    let (keys, lines): (Vec<String>, Vec<String>) =
        lines.partition(|line| line.contains(" key-encryption-key changed "));
    let reread =
        ["failed", "done"].map(|how| format!("node@node thing {how} key-encryption-key changed all, by SIGHUP"));
    assert_eq!(keys, reread);
    let differs = lines.iter().zip(wanted).position(|(found, wanted)| found != wanted);
    let from = differs.unwrap_or(wanted.len().min(lines.len())).saturating_sub(3);
    let rest = |all: &[String]| all[from.min(all.len())..].join("\n");
    assert!(lines == wanted, "from entry {from} on:\n{}\n\nwanted:\n{}", rest(&lines), rest(wanted));
    let known: BTreeSet<&String> = lines.iter().collect();
    assert!(again.iter().all(|entry| known.contains(&line(entry))), "{again:#?}");
    // A file that is cut later is told by what stands here.
    let sealed = once.iter().find(|entry| entry["action"] == "recording-sealed").expect("it was sealed");
    let (object, number) = (&sealed["object"], |field: &str| sealed["object"][field].as_u64().unwrap_or(0));
    assert!(
        number("chunks") > 3 && number("bytes") > 32_000 && object["header"].as_str().is_some_and(|h| h.len() == 64)
    );
    let purposes: Vec<&str> = once.iter().filter_map(|entry| entry["purpose"].as_str()).collect();
    assert_eq!(purposes.iter().filter(|purpose| **purpose == "complaint 4711").count(), 3, "{purposes:?}");
    let refused = once.iter().find(|entry| entry["action"] == "configuration-refused").expect("it was refused");
    assert!(refused["object"]["configuration"].as_str().is_some_and(|hash| hash.len() == 64), "{refused}");
    // No digit of the card, however it came: keyed, as a key, as a reason.
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    assert!(CARD.iter().all(|digits| !words.contains(digits)) && !text.contains("4242"), "{text}");
    assert!(API_KEYS.iter().all(|(_, _, key)| !text.contains(key)), "{text}");
}
