//! Threats of the design that show at a whole process only, each by its number: what bodies and headers of a peer can
//! make it read, fetch, write or log. The others' tests are named in docs/testing.md.
#![allow(clippy::disallowed_methods)] // Tests may wait and open sockets.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Plan, Running, answers_options};
use tonewall::rt::peers::Exchange;
use tonewall::testkit::simple_sip::Message;
use tonewall::testkit::ua::{Answer, Profile, UserAgent};

const PATIENCE: Duration = Duration::from_secs(10);
const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n";

/// A carrier of one socket, and a PBX that is a socket too: every byte that crosses is seen.
struct Wires {
    node: Running,
    carrier: UdpSocket,
    pbx: UdpSocket,
    calls: u32,
}

impl Wires {
    fn start(plan: &Plan) -> Wires {
        let open = |at| {
            let socket = UdpSocket::bind(at).expect("a peer's port");
            socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
            socket
        };
        let (carrier, pbx) = (open(plan.carrier), open(plan.pbx));
        Wires { node: Running::start(plan), carrier, pbx, calls: 0 }
    }

    /// An INVITE of ours.
    fn invite(&mut self) -> Message {
        self.calls += 1;
        let at = self.carrier.local_addr().expect("its address");
        Message::new(format!("INVITE sip:5551000@{} SIP/2.0", self.node.carrier_side))
            .with("Via", format!("SIP/2.0/UDP {at};branch=z9hG4bKt{};rport", self.calls))
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:+15550100@{at}>;tag=f{}", self.calls))
            .with("To", format!("<sip:5551000@{}>", self.node.carrier_side))
            .with("Call-ID", format!("threat{}", self.calls))
            .with("CSeq", "1 INVITE")
            .with("Contact", format!("<sip:+15550100@{at}>"))
    }

    fn send(&self, message: &Message) {
        self.carrier.send_to(&message.print(), self.node.carrier_side).expect("sent");
    }

    /// What comes next of a kind, `None` after a while of silence.
    fn next(socket: &UdpSocket, wanted: impl Fn(&Message) -> bool) -> Option<(Message, Vec<u8>)> {
        let until = Instant::now() + PATIENCE;
        let mut buffer = [0; 65_536];
        while Instant::now() < until {
            let Ok((length, _)) = socket.recv_from(&mut buffer) else { return None };
            let message = Message::parse(&buffer[..length]).expect("a SIP message");
            if wanted(&message) {
                return Some((message, buffer[..length].to_vec()));
            }
        }
        None
    }

    /// The final answer to the carrier's INVITE.
    fn status(&self) -> Option<u16> {
        let last = |message: &Message| message.status().is_some_and(|status| status >= 200);
        Self::next(&self.carrier, last)?.0.status()
    }

    /// The INVITE at the PBX, which is refused, so that the carrier has an answer.
    fn crossed(&self) -> Option<Vec<u8>> {
        let (invite, bytes) = Self::next(&self.pbx, |message| message.method() == Some("INVITE"))?;
        let mut busy = Message::new("SIP/2.0 486 Busy Here");
        for name in ["Via", "From", "Call-ID", "CSeq"] {
            busy = busy.with(name, invite.get(name).expect("a header"));
        }
        let busy = busy.with("To", format!("{};tag=busy", invite.get("To").expect("a header")));
        self.pbx.send_to(&busy.print(), self.node.pbx_side).expect("sent");
        Some(bytes)
    }
}

fn parts(of: &[(&str, &str)]) -> (String, String) {
    let mut body = String::new();
    for (kind, text) in of {
        body += &format!("--edge\r\nContent-Type: {kind}\r\n\r\n{text}\r\n");
    }
    ("multipart/mixed;boundary=edge".to_owned(), body + "--edge--\r\n")
}

/// A billion laughs, and a file of ours.
const BOMB: &str = "<?xml version=\"1.0\"?>\r\n<!DOCTYPE r [<!ENTITY a \"aaaaaaaaaaaaaaaaaaaaaaaa\">\
    <!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;\">\
    <!ENTITY d \"&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;\"><!ENTITY e \"&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;\">\
    <!ENTITY f SYSTEM \"file:///etc/passwd\">]>\r\n<recording xmlns=\"urn:ietf:params:xml:ns:recording:1\">&e;&f;</recording>";

#[test]
fn r18_xml_of_a_peers_is_neither_read_nor_passed_on_and_its_bombs_cost_nothing() {
    let mut wires = Wires::start(&Plan::new());
    let before = wires.node.memory();
    let kinds = ["application/rs-metadata+xml", "application/pidf+xml", "application/xml", "text/xml"];
    for kind in kinds {
        for both in [true, false] {
            let with_offer = [("application/sdp", SDP), (kind, BOMB)];
            let (content, body) = parts(&with_offer[usize::from(!both)..]);
            let invite = wires.invite().with_body(&content, body);
            wires.send(&invite);
            if let Some(bytes) = wires.crossed() {
                let text = String::from_utf8(bytes).expect("text");
                assert!(!text.contains("ENTITY") && !text.contains("xml") && !text.contains("root:"), "{text}");
            }
            let status = wires.status().expect("an answer");
            assert!(matches!(status, 400 | 415 | 486), "{kind}, with an offer: {both}: {status}");
        }
        let markup = wires.invite().with_body(kind, BOMB);
        wires.send(&markup);
        assert_eq!(wires.status(), Some(415), "{kind} alone");
    }
    // Markup where a name is expected stays text on the other leg, and closes nothing.
    let mut named = wires.invite().with_body("application/sdp", SDP);
    for (name, value) in &mut named.headers {
        if name == "From" {
            *value = format!("\"</name><evil a='1'>&f;\" {value}");
        }
    }
    wires.send(&named);
    let text = String::from_utf8(wires.crossed().expect("the call crosses")).expect("text");
    assert!(!text.lines().any(|line| line.starts_with('<') || line.starts_with("evil")), "{text}");
    assert!(wires.node.memory() < before + (8 << 20), "{} then {}", before, wires.node.memory());
    assert!(answers_options(wires.node.carrier_side));
    // Nothing that could read XML is part of us: whatever writes it later has no reader to bomb.
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("the manifest");
    let dependencies = lock.split("[dev-dependencies]").next().expect("the first part");
    for reader in ["quick-xml", "xml-rs", "roxmltree", "libxml", "serde-xml", "xmlparser", "sxd"] {
        assert!(!dependencies.contains(reader), "{reader} reads XML: show here that it takes no DTD");
    }
}

#[test]
fn r19_no_url_a_peer_names_is_ever_fetched() {
    let trap = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a trap");
    trap.set_nonblocking(true).expect("a setting");
    let at = trap.local_addr().expect("its address");
    let url = format!("http://{at}/latest/meta-data");
    let trunks = ["redirect = \"follow\"\nrefer = \"terminate\"\n".to_owned(), "redirect = \"follow\"\n".to_owned()];
    let mut wires = Wires::start(&Plan { trunks, guard: "auto", ..Plan::new() });
    for name in ["Call-Info", "Alert-Info", "Error-Info", "Identity-Info", "Refer-To", "Reply-To", "Content-Location"] {
        let invite = wires.invite().with(name, format!("<{url}>;purpose=icon")).with_body("application/sdp", SDP);
        wires.send(&invite);
        let text = String::from_utf8(wires.crossed().expect("the call crosses")).expect("text");
        assert!(!text.contains("meta-data"), "{name}: {text}");
        assert_eq!(wires.status(), Some(486), "{name}");
    }
    let external = format!("message/external-body;access-type=\"URL\";URL=\"{url}\"");
    for (content, body) in [parts(&[("application/sdp", SDP), (&external, "")]), (external.clone(), String::new())] {
        let invite = wires.invite().with_body(&content, body);
        wires.send(&invite);
        let _ = wires.crossed();
        assert!(matches!(wires.status(), Some(400 | 415 | 486)), "{content}");
    }
    // A called party that redirects to it, and a Request-URI that is it.
    let invite = wires.invite().with_body("application/sdp", SDP);
    wires.send(&invite);
    let (theirs, _) = Wires::next(&wires.pbx, |m| m.method() == Some("INVITE")).expect("the call crosses");
    let mut moved = Message::new("SIP/2.0 302 Moved Temporarily");
    for name in ["Via", "From", "Call-ID", "CSeq"] {
        moved = moved.with(name, theirs.get(name).expect("a header"));
    }
    let to = format!("{};tag=moved", theirs.get("To").expect("a header"));
    let moved = moved.with("To", to).with("Contact", format!("<{url}>"));
    wires.pbx.send_to(&moved.print(), wires.node.pbx_side).expect("sent");
    assert!(wires.status().is_some_and(|status| status >= 400));
    let mut asked = wires.invite().with_body("application/sdp", SDP);
    asked.start = format!("INVITE {url} SIP/2.0");
    wires.send(&asked);
    assert_eq!(wires.status(), Some(416));
    std::thread::sleep(Duration::from_millis(300));
    let visitor = trap.accept();
    assert!(visitor.is_err(), "somebody came to fetch it: {visitor:?}");
}

/// What a terminal, or whoever reads a line from right to left, would act on.
fn acts(character: char) -> bool {
    (character.is_control() && character != '\n')
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        || matches!(character, '\u{2028}' | '\u{2029}')
}

#[test]
fn r20_no_peer_writes_controls_directions_or_lines_of_its_own_into_the_log() {
    let evil = [
        "\u{1b}[2J\u{1b}[31mroot",
        "\u{202e}gpj.exe",
        "\u{2066}\u{200f}x",
        "\u{9b}31m",
        "a\u{2028}{\"level\":\"ERROR\"}",
        "\"}\\n{\"level\":\"ERROR\",\"message\":\"forged\"",
        "%0d%0a%1b[2J",
    ];
    for format in ["json", "text"] {
        let log = format!("\n[log]\nlevel = \"debug\"\nformat = \"{format}\"\n");
        let trunks = [String::new(), String::new()];
        let mut wires = Wires::start(&Plan { trunks, more: log, ..Plan::new() });
        for evil in evil {
            for place in ["From", "To", "Call-ID", "User-Agent", "Contact", "Request-URI", "long"] {
                let mut invite = wires.invite().with("User-Agent", "x").with_body("application/sdp", SDP);
                match place {
                    "Request-URI" => invite.start = invite.start.replace("5551000", &format!("555{evil}")),
                    "long" => invite.start = invite.start.replace("5551000", &"5".repeat(40_000)),
                    _ => {
                        for (name, value) in &mut invite.headers {
                            if name == place {
                                *value = match place {
                                    "From" => value.replacen("<sip:", &format!("\"{evil}\" <sip:{evil}"), 1),
                                    "Call-ID" | "User-Agent" => evil.to_owned(),
                                    _ => value.replacen("sip:", &format!("sip:{evil}"), 1),
                                };
                            }
                        }
                    }
                }
                wires.send(&invite);
                let _ = Wires::next(&wires.carrier, |message| message.status().is_some_and(|status| status >= 180));
            }
        }
        assert!(answers_options(wires.node.carrier_side));
        let bytes = std::fs::read(wires.node.dir.path().join("log")).expect("the log");
        let text = String::from_utf8(bytes).expect("the log is text");
        assert!(text.lines().count() > 3, "{text}");
        for line in text.lines() {
            assert!(!line.chars().any(acts), "{format}: {line:?}");
            assert!(line.len() < 8_192, "{format}: a line of {} bytes", line.len());
            assert!(!line.starts_with("{\"level\":\"ERROR\",\"message\":\"forged\""), "{line}");
            if format == "json" {
                let value = serde_json::from_str::<serde_json::Value>(line);
                assert!(value.is_ok_and(|value| value["level"].is_string()), "no JSON: {line:?}");
            }
        }
    }
}

/// The threats of the design that need a test of their own name: R21 to R26 are the promise itself, which whole files
/// test (docs/testing.md).
#[test]
fn each_threat_has_a_test_named_after_it_and_a_row_in_the_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = [files(&root.join("tests")), files(&root.join("src"))].concat();
    let rust = sources.iter().filter(|file| file.extension().is_some_and(|of| of == "rs"));
    let all: String = rust.map(|file| std::fs::read_to_string(file).expect("a source file")).collect();
    let documentation = std::fs::read_to_string(root.join("docs/testing.md")).expect("docs/testing.md");
    for number in (1..=20).chain(27..=30) {
        let name = format!("fn r{number}_");
        // The detector's bar R1 is another one.
        let of_the_bar = usize::from(number == 1);
        assert!(all.matches(&name).count() > of_the_bar, "no test {name}…");
        let row = documentation.lines().find(|line| line.starts_with(&format!("| R{number} |"))).unwrap_or_default();
        for named in row.split('`').filter(|text| text.ends_with(".rs")) {
            let text = std::fs::read_to_string(root.join(named)).unwrap_or_else(|error| panic!("{named}: {error}"));
            assert!(text.contains(&format!("r{number}_")), "{named} has no test of R{number}");
        }
        assert!(row.contains(".rs`"), "docs/testing.md names no file for R{number}");
    }
}

fn files(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![under.to_owned()];
    while let Some(at) = left.pop() {
        for entry in std::fs::read_dir(&at).into_iter().flatten().flatten() {
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => left.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_a_recordings_name_is_ours_whatever_the_call_names_itself() {
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let answering = Profile::new("5551000").answering(Answer::After(10));
    let mut office = Exchange::open(ip, 0, Some(answering), 1).await.expect("a PBX port");
    let plan = Plan { pbx: office.address(), recording: "required", ..Plan::new() };
    let mut wires = tokio::task::block_in_place(|| Wires::start_without_pbx(&plan));
    let outside = wires.node.dir.path().to_owned();
    for (nth, evil) in
        ["../../../../evil", "/tmp/evil", "..\\..\\evil", "rec_evil.sealed", "evil%2f..%2f", "."].iter().enumerate()
    {
        let mut invite = wires.invite().with_body("application/sdp", SDP);
        invite.headers.retain(|(name, _)| name != "Call-ID");
        let invite = invite.with("Call-ID", *evil).with("X-File", *evil);
        let invite = Message { start: invite.start.replace("5551000", &format!("5551000{nth}")), ..invite };
        wires.send(&invite);
        let agent = office.ringing(PATIENCE).await.expect("the call arrives");
        assert!(agent.until(PATIENCE, |a| a.is_up() || a.is_ended()).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
        agent.with(UserAgent::hang_up);
        assert!(agent.until(PATIENCE, UserAgent::is_ended).await, "{evil}");
    }
    let until = Instant::now() + PATIENCE;
    let recordings = outside.join("recordings");
    let sealed =
        |files: &[PathBuf]| files.iter().filter(|file| file.extension().is_some_and(|of| of == "seal")).count();
    while sealed(&files(&recordings)) < 6 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let all = files(&recordings);
    assert_eq!(sealed(&all), 6, "{all:?}");
    for file in files(&outside).iter().filter(|file| !file.starts_with(&recordings)) {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(["tonewall.toml", "kek.hex", "log"].contains(&name), "{}", file.display());
    }
    let is_catalogue =
        |file: &PathBuf| file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"catalogue.db"));
    for file in all.iter().filter(|file| !is_catalogue(file)) {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        assert!(stem.starts_with("rec_") && stem[4..].chars().all(|c| c.is_ascii_hexdigit()), "{}", file.display());
        assert_eq!(file.parent().and_then(Path::parent), Some(recordings.as_path()), "{}", file.display());
    }
    assert!(!Path::new("/tmp/evil").exists());
}

impl Wires {
    /// The same with a PBX of somebody else's.
    fn start_without_pbx(plan: &Plan) -> Wires {
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let carrier = UdpSocket::bind(plan.carrier).expect("a peer's port");
        Wires { node: Running::start(plan), carrier, pbx: UdpSocket::bind(nobody).expect("a port"), calls: 0 }
    }
}
