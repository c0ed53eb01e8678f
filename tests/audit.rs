//! The audit log of a real process, and what `tonewall audit` says of it: whole, touched in every way, killed at random
//! instants, on a disk that is full.
#![allow(clippy::disallowed_methods)] // Tests may wait, and open sockets.

mod common;
#[path = "common/log.rs"]
mod log;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{API_KEYS, Plan, Running};
use log::{Log, audit, try_ask};
use rand::{RngExt, SeedableRng};
use tonewall::base::Random;

impl Log {
    fn plan(&self) -> Plan {
        Plan { control: true, more: self.section(""), ..Plan::new() }
    }

    fn page(&self) -> PathBuf {
        self.pages().pop().expect("a file")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.page()).expect("text")
    }

    /// A copy of the whole to be touched.
    fn copy(&self) -> Log {
        let root = tempfile::tempdir().expect("a directory");
        let done =
            Command::new("cp").arg("-a").arg(format!("{}/.", self.root.path().display())).arg(root.path()).status();
        assert!(done.expect("cp").success());
        Log { root }
    }

    fn rewrite(&self, change: impl FnOnce(&mut Vec<String>)) {
        let page = self.page();
        let mut lines: Vec<String> = self.text().lines().map(str::to_owned).collect();
        change(&mut lines);
        fs::write(page, lines.join("\n") + "\n").expect("written");
    }
}

fn ask(node: &Running, method: &str, path: &str, key: &str) -> u16 {
    try_ask(node.control.expect("the API"), (method, path), key, "").map_or(0, |(status, _)| status)
}

fn until(what: &str, mut true_: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !true_() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// As an operator ends it.
fn terminate(node: &Running) {
    let done = Command::new("kill").args(["-TERM", &node.pid().to_string()]).status();
    assert!(done.expect("kill").success());
}

/// Makes entries: tickets, which are never put together.
fn entries(node: &Running, count: usize) {
    (0..count).for_each(|_| assert_eq!(ask(node, "POST", "/v1/tickets", API_KEYS[1].2), 201));
}

#[test]
fn a_log_touched_in_any_way_is_told_with_the_right_word_and_verifying_is_an_entry() {
    let log = Log::new();
    let mut node = Running::start(&log.plan());
    entries(&node, 23);
    assert_eq!(ask(&node, "GET", "/v1/calls", "4242424242424242"), 401);
    let config = node.config.to_str().expect("a path").to_owned();
    let (code, told) = audit(&["verify", "--config", &config]);
    assert_eq!(code, 0, "{told}");
    let (code, told) = audit(&["list", "--config", &config, "--action", "ticket-*", "--last", "2"]);
    assert_eq!((code, told.lines().count()), (0, 2), "{told}");
    assert!(told.contains("key boss (127.0.0.1)  ticket-drawn  done 201"), "{told}");
    // A command that is about to give sound out says so first, even if there turns out to be none.
    let export = |config: &str| {
        let id = "rec_00000000000000000000000000000001";
        let out = log.at("call.ogg");
        let out = out.to_str().expect("a path");
        let arguments = ["recordings", "--config", config, "export", id, "-o", out, "--purpose", "complaint"];
        let done = Command::new(env!("CARGO_BIN_EXE_tonewall")).args(arguments).output().expect("it runs");
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    export(&config);
    let entry =
        log.text().lines().find(|line| line.contains("recording-exported")).map(str::to_owned).expect("its entry");
    assert!(entry.contains("\"kind\":\"user\"") && entry.contains("\"format\":\"ogg\""), "{entry}");
    let elsewhere = fs::read_to_string(&node.config).expect("text").replace("/log\"", "/audit.key/log\"");
    let other = node.dir.path().join("other.toml");
    fs::write(&other, elsewhere).expect("written");
    let refused = export(other.to_str().expect("a path"));
    assert!(refused.contains("it cannot be written into the audit log"), "{refused}");
    terminate(&node);
    assert!(node.ended(Duration::from_secs(20)).is_some_and(|status| status.success()), "{}", node.log());
    let text = log.text();
    for word in ["log-file", "log-started", "configuration-loaded", "node-started", "node-stopping", "log-stopped"] {
        assert_eq!(text.matches(&format!("\"action\":\"{word}\"")).count(), 1, "{word}: {text}");
    }
    assert_eq!(text.matches("\"action\":\"log-read\"").count(), 2, "{text}");
    assert!(
        text.contains("\"made\":\"created\",\"name\":\"carrier\"") && text.contains("\"action\":\"access-denied\"")
    );
    assert!(!text.contains("4242424242") && !API_KEYS.iter().any(|(_, _, key)| text.contains(key)), "{text}");
    let (code, told) = log.verify(true);
    assert!(code == 0 && told.contains("whole up to entry"), "{code} {told}");

    let tickets: Vec<usize> =
        text.lines().zip(0..).filter(|(line, _)| line.contains("ticket-drawn")).map(|(_, at)| at).collect();
    // The third one: line `at`, entry `at + 1`.
    let (at, entry) = (tickets[2], tickets[2] + 1);
    let touched = |what: String, elsewhere: bool, change: &dyn Fn(&Log)| {
        let copy = log.copy();
        change(&copy);
        let (code, told) = copy.verify(elsewhere);
        assert_eq!(code, 4, "{what}: {told}");
        assert!(told.lines().next().is_some_and(|line| line.starts_with(&what)), "{what}: {told}");
    };
    touched(format!("altered: entry {entry} "), false, &|log| {
        log.rewrite(|lines| lines[at] = lines[at].replace("\"boss\"", "\"crm\""));
    });
    touched(format!("dropped: entry {entry} "), false, &|log| log.rewrite(|lines| drop(lines.remove(at))));
    touched(format!("reordered: entry {entry} "), false, &|log| log.rewrite(|lines| lines.swap(at, at + 1)));
    let ends = format!("truncated: the log ends with entry {entry};");
    touched(ends.clone(), false, &|log| log.rewrite(|lines| lines.truncate(entry)));
    // The checkpoints beside it cut as well: only those kept elsewhere tell.
    let cut = |log: &Log| {
        log.rewrite(|lines| lines.truncate(entry));
        fs::remove_file(log.at("log/checkpoints")).expect("removed");
    };
    let copy = log.copy();
    cut(&copy);
    assert_eq!(copy.verify(false).0, 5, "nothing here tells it");
    touched(ends, true, &cut);
    // Another history under the same key: a node that began anew in an empty directory.
    let anew = log.copy();
    fs::remove_dir_all(anew.at("log")).expect("removed");
    let mut node = Running::start(&anew.plan());
    entries(&node, 40);
    terminate(&node);
    assert!(node.ended(Duration::from_secs(20)).is_some());
    assert_eq!(anew.verify(false).0, 0, "by itself it is whole");
    let (code, told) = anew.verify(true);
    assert!(code == 4 && told.contains("forked: "), "{code} {told}");
    // A key that is not the log's.
    let other = Log::new();
    let (key, dir) = (other.at("audit.key.pub"), log.at("log"));
    let (code, told) = audit(&["verify", "--key", key.to_str().expect("a path"), dir.to_str().expect("a path")]);
    assert!(code == 4 && told.contains("not signed by the given key"), "{code} {told}");
    let (code, told) = audit(&["verify", dir.to_str().expect("a path")]);
    assert!(code == 5 && told.contains("no key was given"), "{code} {told}");
}

/// Kills of one log; the next ones get a new one, so that reading it whole after each of them stays cheap.
const KILLS_OF_A_LOG: u64 = 25;

/// `TONEWALL_AUDIT_KILLS=300` makes it big.
#[test]
fn a_log_killed_at_random_instants_verifies_to_its_last_checkpoint() {
    let kills: u64 = std::env::var("TONEWALL_AUDIT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let mut random = Random::seed_from_u64(11);
    let begun = Instant::now();
    let (mut answered, mut torn) = (0, 0);
    let mut left = kills;
    while left > 0 {
        let here = left.min(KILLS_OF_A_LOG);
        let (entries, cut) = killed(here, &mut random);
        (answered, torn, left) = (answered + entries, torn + cut, left - here);
    }
    let each = begun.elapsed() / u32::try_from(kills).expect("a number");
    common::say(&format!("audit: {kills} kills of {each:?} each, {answered} entries, {torn} torn lines, 0 lost"));
    assert!(answered as u64 > kills, "the kills came too early to prove anything");
}

/// Kills a node that writes a new log so often. Gives the entries it had answered for, and how often a line was torn.
fn killed(kills: u64, random: &mut Random) -> (usize, usize) {
    let log = Log::new();
    let mut node = Running::start(&log.plan());
    let (mut answered, mut torn, mut signed) = (0, 0, 0);
    for kill in 0..kills {
        if kill > 0 {
            node.restart();
        }
        let at = node.control.expect("the API");
        // Asked without a rest, so that the kill finds it at any point of an entry.
        answered += std::thread::scope(|scope| {
            let ticket = || try_ask(at, ("POST", "/v1/tickets"), API_KEYS[1].2, "").map(|(status, _)| status);
            let asking =
                scope.spawn(move || std::iter::repeat_with(ticket).take_while(|told| *told == Some(201)).count());
            std::thread::sleep(Duration::from_millis(random.random_range(5..300)));
            node.kill();
            asking.join().expect("counted")
        });
        let last = fs::read(log.page()).expect("the log");
        torn += usize::from(last.last() != Some(&b'\n'));
        if let Some(upto) = log.after_a_kill(signed) {
            signed = upto;
        }
    }
    node.restart();
    terminate(&node);
    assert!(node.ended(Duration::from_secs(20)).is_some());
    let (code, told) = log.verify(true);
    assert_eq!(code, 0, "{told}");
    // A change is answered when its entry is on the disk; the last one before a kill may be there unanswered.
    let kept = log.count("ticket-drawn");
    assert!(
        (answered..=answered + kills as usize).contains(&kept),
        "{kept} kept, {answered} answered in {kills} kills"
    );
    (answered, torn)
}

#[test]
fn a_node_that_is_told_to_end_as_soon_as_it_answers_ends_in_order() {
    let log = Log::new();
    let mut node = Running::start(&log.plan());
    terminate(&node);
    let ended = node.ended(Duration::from_secs(20));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}: {}", node.log());
    assert_eq!(log.count("log-stopped"), 1, "{}", log.text());
}

#[test]
fn a_line_that_is_just_being_written_is_not_told_as_torn() {
    let log = Log::new();
    let mut node = Running::start(&log.plan());
    entries(&node, 3);
    terminate(&node);
    assert!(node.ended(Duration::from_secs(20)).is_some());
    // As whoever writes stands in the middle of its last line, with the lock.
    let text = fs::read(log.page()).expect("the log");
    let (whole, rest) = text.split_at(text.len() - 100);
    let mut page = fs::OpenOptions::new().write(true).truncate(true).open(log.page()).expect("the log");
    page.write_all(whole).expect("written");
    let lock = fs::File::open(log.at("log/lock")).expect("the lock");
    lock.lock().expect("locked");
    let (code, told) = std::thread::scope(|scope| {
        let verifying = scope.spawn(|| log.verify(true));
        std::thread::sleep(Duration::from_millis(500));
        page.write_all(rest).expect("written");
        lock.unlock().expect("let go");
        verifying.join().expect("verified")
    });
    assert_eq!(code, 0, "{told}");
    // Without anybody who writes it is torn.
    page.set_len(text.len() as u64 - 100).expect("cut");
    assert_eq!(log.verify(false).0, 4, "more was signed");
    fs::remove_file(log.at("log/checkpoints")).expect("removed");
    let (code, told) = log.verify(false);
    assert!(code == 5 && told.contains("bytes of a torn line at the end"), "{code} {told}");
}

#[test]
fn without_its_log_a_node_begins_no_capture_and_its_calls_go_on() {
    let log = Log::new();
    let mut node = Running::start(&log.plan());
    entries(&node, 1);
    until("it is written", || log.text().contains("ticket-drawn"));
    let metric = |node: &Running| node.counter("tonewall_audit_writable");
    assert_eq!(metric(&node), 1);
    // The directory goes away under it, and a file stands in its place: the next day's or the next full file cannot be made.
    // A full file is made by hand: the log is at its size, so the next entry wants a new file.
    let page = log.page();
    let line = "x".repeat(1_000_100);
    // Under the lock of those who append: what is half written is otherwise cut as torn.
    let lock = fs::File::open(log.at("log/lock")).expect("its lock");
    lock.lock().expect("locked");
    fs::rename(log.at("log"), log.at("gone")).expect("moved");
    fs::write(log.at("log"), "").expect("a file");
    let moved = log.at("gone").join(page.file_name().expect("a name"));
    fs::OpenOptions::new()
        .append(true)
        .open(&moved)
        .expect("the file")
        .write_all(format!("{line}\n").as_bytes())
        .expect("filled");
    drop(lock);
    let begin = |node: &Running| {
        let path = "/v1/calls/call_00000000000000000000000000000000/collections";
        let at = node.control.expect("the API");
        let mut stream = TcpStream::connect(at).expect("connected");
        let body = "{\"length\": 4}";
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            API_KEYS[1].2,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("asked");
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    };
    until("it says so", || {
        entries(&node, 1);
        metric(&node) == 0
    });
    let refused = begin(&node);
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("not-audited"), "{refused}");
    until("its log tells it", || node.log().contains("the audit log cannot be written"));
    // The node itself takes calls as before.
    assert!(common::answers_options(node.carrier_side));
    node.kill();
}

#[test]
fn checkpoints_get_to_an_address_with_their_token() {
    let log = Log::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address");
    let (heard, notes) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        for (number, stream) in listener.incoming().take(3).enumerate() {
            let mut stream = stream.expect("a connection");
            let mut text = Vec::new();
            let mut buffer = [0; 4_096];
            while !String::from_utf8_lossy(&text).contains("\u{2014} tonewall/test ") {
                let length = stream.read(&mut buffer).expect("read");
                assert!(length > 0, "{}", String::from_utf8_lossy(&text));
                text.extend_from_slice(&buffer[..length]);
            }
            // The first is refused: it must come again.
            let status = if number == 0 { "503 Not Now" } else { "204 No Content" };
            let _ = stream
                .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
            let _ = heard.send(String::from_utf8_lossy(&text).into_owned());
        }
    });
    let more = format!(
        "\n[audit]\ndirectory = {:?}\nkey = {:?}\ncheckpoint_s = 1\n[[audit.ship]]\nname = \"witness\"\n\
         url = \"http://{at}/checkpoints\"\nsecret_file = \"witness.token\"\n",
        log.at("log"),
        log.at("audit.key")
    );
    let files = vec![("witness.token", "a-token-of-the-witness".to_owned())];
    let mut node = Running::start(&Plan { control: true, more, files, ..Plan::new() });
    let first = notes.recv_timeout(Duration::from_secs(20)).expect("a checkpoint");
    let again = notes.recv_timeout(Duration::from_secs(20)).expect("once more");
    let body = |text: &str| text.split("\r\n\r\n").nth(1).map(str::to_owned).expect("a body");
    assert_eq!(body(&first), body(&again));
    assert!(
        first.starts_with("POST /checkpoints HTTP/1.1") && first.contains("Bearer a-token-of-the-witness"),
        "{first}"
    );
    assert!(body(&first).starts_with("tonewall/test\n"), "{first}");
    until("it is told", || log.text().contains("shipping-failed") && log.text().contains("shipping-resumed"));
    assert!(!log.text().contains("a-token-of"), "{}", log.text());
    terminate(&node);
    assert!(node.ended(Duration::from_secs(20)).is_some());
    drop(server);
    assert!(Path::new(&log.at("log")).is_dir());
}
