//! What a process keeps of a card that it sent to a provider over the network: a search through its whole writable memory.
//! While the charge is held the search finds the card, so it can find; after the answer it finds nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use tonewall::psp::{Gateway, Outcome};

use crate::common::skip;
use crate::kit::{Desk, charge, config};
use crate::server::{Act, Server};
use crate::trust::{authority, serve, signed, write};

/// Named to the child process by this variable: directory, and the connector's text.
const CHILD: &str = "TONEWALL_TEST_MEMORY";

const CARD: &str = "5105105105105100";

/// How often a text stands in the writable memory of a process.
fn search(pid: u32, text: &str) -> std::io::Result<usize> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let finder = memchr::memmem::Finder::new(text.as_bytes());
    let (mut found, mut seen) = (0, 0);
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let Some((range, _)) = line.split_once(' ') else { continue };
        let Some((from, to)) = range.split_once('-') else { continue };
        let address = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        let mut bytes = vec![0; (address(to) - address(from)) as usize];
        // A page that is gone meanwhile is read by nobody.
        let Ok(count) = memory.read_at(&mut bytes, address(from)) else { continue };
        seen += count;
        found += finder.find_iter(&bytes[..count]).count();
    }
    assert!(seen > 1 << 18, "too little memory was read: {seen} bytes");
    Ok(found)
}

/// The life of the process that is searched: it holds a charge, sends it when told to, and waits. Without the variable it
/// does so at once, in the test, with the sandbox.
#[test]
fn a_process_holds_a_charge_and_sends_it_when_told() {
    let order = std::env::var(CHILD).ok();
    let home = tempfile::tempdir().expect("a directory");
    let (directory, text) = match order.as_deref().and_then(|order| order.split_once('|')) {
        Some((directory, text)) => (Path::new(directory).to_owned(), text.to_owned()),
        None => (home.path().to_owned(), String::new()),
    };
    let wait = || {
        if order.is_some() {
            let _ = std::io::stdin().read(&mut [0]);
        }
    };
    let tell = |word: &str| {
        let mut out = std::io::stdout();
        writeln!(out, "\n>{word}").and_then(|()| out.flush()).expect("somebody reads");
    };
    let mut desk = Desk::open(&config(&text, &directory));
    let charge = charge(1, CARD);
    tell("held");
    wait();
    desk.psp.submit(charge);
    let outcome = desk.next().outcome;
    assert!(matches!(outcome, Outcome::Approved { .. }), "{outcome:?}");
    std::thread::sleep(std::time::Duration::from_millis(500));
    tell("sent");
    wait();
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(directory: &Path, text: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "memory::a_process_holds_a_charge_and_sends_it_when_told",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD, format!("{}|{text}", directory.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    fn until(&mut self, word: &str) {
        let wanted = format!(">{word}");
        assert!(self.lines.any(|line| line.is_ok_and(|line| line == wanted)), "{word:?} never came");
    }

    fn go_on(&mut self) {
        self.child.stdin.as_mut().expect("its input").write_all(b"\n").expect("it reads");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nothing_of_a_card_is_left_in_memory_after_it_was_sent_plain_or_by_tls() {
    let home = tempfile::tempdir().expect("a directory");
    // An answer that repeats what it got, as error pages do.
    let plain = Server::start(|request| {
        let body = String::from_utf8_lossy(&request.body).replace('"', "'");
        Act::Answer(200, format!(r#"{{"id":"sbx_1","status":"approved","token":"tok_1","echo":"{body}"}}"#))
    });
    let (theirs, ours) = (authority(), authority());
    let (port, _) = serve(&theirs, "localhost", &ours);
    let (certificate, key) = signed(&ours, "merchant.example");
    let tls = format!(
        "ca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"",
        write(home.path(), "ca.pem", &theirs.pem()),
        write(home.path(), "our.pem", &certificate.pem()),
        write(home.path(), "our.key", &key.serialize_pem()),
    );
    for (way, url, more) in [("plain", plain.url(), String::new()), ("TLS", format!("https://localhost:{port}"), tls)] {
        let text = format!("\n[[connector]]\nname = \"it\"\npreset = \"sandbox\"\nurl = \"{url}\"\n{more}\n");
        let directory = home.path().join(way);
        let mut process = Process::start(&directory, &text);
        process.until("held");
        let held = match search(process.child.id(), CARD) {
            Ok(held) => held,
            Err(error) => return skip("memory", &format!("the memory of another process cannot be read: {error}")),
        };
        assert!(held > 0, "{way}: the card is not found while it is held");
        process.go_on();
        process.until("sent");
        let left = search(process.child.id(), CARD).expect("memory");
        assert_eq!(left, 0, "{way}: the card is still there");
    }
}
