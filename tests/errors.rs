//! The errors people meet, by a real process and real sockets: a bad configuration, an API request that cannot be, a
//! SIP request that is turned down. Each must say what is wrong, where, and never repeat what it was sent.

#![allow(clippy::disallowed_methods)] // Tests may wait, and open sockets.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{API_KEYS, Plan, Running, free_address};
use serde_json::Value;
use tonewall::testkit::simple_sip::Message;

const SMALL: &str = include_str!("../config/small.toml");

fn tonewall(command: &str, config: &std::path::Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tonewall")).arg(command).arg(config).output().expect("tonewall starts")
}

/// What `tonewall check` and `tonewall run` say to a configuration; both must fail with the same words.
fn faults_of(text: &[u8]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tonewall.toml");
    std::fs::write(&file, text).expect("the configuration");
    let [check, run] = ["check", "run"].map(|command| {
        let output = tonewall(command, &file);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(output.stdout.is_empty(), "{command} prints a fault as if it were a result");
        String::from_utf8(output.stderr).expect("text").replace(&format!("{}/", dir.path().display()), "")
    });
    let (faults, count) = check.trim_end().rsplit_once('\n').expect("faults and their number");
    assert_eq!(run.trim_end(), faults);
    assert!(count.ends_with(" fault") || count.ends_with(" faults"), "{count}");
    faults.to_owned()
}

#[test]
fn a_bad_configuration_is_told_with_file_line_key_and_reason() {
    let faults = faults_of(SMALL.replace("guard = \"always\"", "gaurd = \"always\"").as_bytes());
    assert_eq!(faults, "tonewall.toml:20: trunk[0].gaurd: no such key; did you mean \"guard\"?");
    let faults = faults_of(SMALL.replace("\"198.51.100.7:5060\"", "\"198.51.100.7:sip\"").as_bytes());
    assert!(faults.starts_with("tonewall.toml:19: trunk[0].remotes[0]: "), "{faults}");
    let faults = faults_of(SMALL.replace("to = [\"pbx\"]", "to = [\"pbz\"]").as_bytes());
    assert!(faults.starts_with("tonewall.toml:30: route[0].to[0]: "), "{faults}");
    let faults = faults_of(b"[[listener]\nname = 1\n");
    assert!(faults.starts_with("tonewall.toml:1"), "{faults}");
    let faults = faults_of(b"\xff\xfe");
    assert!(faults.starts_with("tonewall.toml"), "{faults}");
}

#[test]
fn every_fault_of_a_configuration_is_told_at_once_by_line() {
    let text = SMALL
        .replace("name = \"pbx-side\"", "name = \"\"")
        .replace("guard = \"always\"", "guard = \"sometimes\"")
        .replace("[media]\n", "[media]\nports = [5, 1]\n");
    let faults = faults_of(text.as_bytes());
    let lines: Vec<&str> = faults.lines().collect();
    assert!(lines.len() >= 3, "{faults}");
    let numbers: Vec<u32> = lines
        .iter()
        .map(|line| line.strip_prefix("tonewall.toml:").and_then(|l| l.split(':').next()).expect("a line"))
        .map(|number| number.parse().expect("a number"))
        .collect();
    assert!(numbers.is_sorted(), "{faults}");
    for key in ["listener[1].name", "media.ports[0]", "trunk[0].guard"] {
        assert_eq!(lines.iter().filter(|line| line.contains(&format!(" {key}"))).count(), 1, "{key}: {faults}");
    }
}

#[test]
fn a_key_file_that_is_not_there_is_told_at_its_key() {
    let text = format!("{SMALL}\n[keys.current]\nid = \"a\"\nfile = \"nowhere.hex\"\n");
    let faults = faults_of(text.as_bytes());
    let line = SMALL.lines().count() + 4;
    assert!(faults.starts_with(&format!("tonewall.toml:{line}: keys.current.file: ")), "{faults}");
    assert!(faults.contains("cannot read nowhere.hex"), "{faults}");
}

#[test]
fn a_key_file_that_others_may_read_is_a_fault() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, key) = (dir.path().join("tonewall.toml"), dir.path().join("kek.hex"));
    std::fs::write(&file, format!("{SMALL}\n[keys.current]\nid = \"a\"\nfile = \"kek.hex\"\n")).expect("written");
    std::fs::write(&key, "5a1b".repeat(16)).expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("permissions");
    for command in ["check", "run"] {
        let output = tonewall(command, &file);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(said.contains(": keys.current.file: key \"a\": ") && said.contains("may be read by others"), "{said}");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_told() {
    for command in ["check", "run"] {
        let output = tonewall(command, std::path::Path::new("no/such.toml"));
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(said.starts_with("no/such.toml: "), "{said}");
    }
}

#[test]
fn a_socket_that_is_taken_is_told_with_its_listener() {
    let (sip, taken) = (free_address(), UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let at = taken.local_addr().expect("its address");
    let text = SMALL
        .replace("192.0.2.5:5060", &sip.to_string())
        .replace("192.0.2.5:5062", &at.to_string())
        .replace("192.0.2.5\"", "127.0.0.1\"");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tonewall.toml");
    std::fs::write(&file, text).expect("the configuration");
    let output = tonewall("run", &file);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("listener \"pbx-side\"") && said.contains(&at.to_string()), "{said}");
}

/// A request to the API: status, headers that matter, problem document.
fn api(
    node: &Running,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: Option<(&str, &str)>,
) -> (u16, String, Value) {
    let address = node.control.expect("an API");
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{address}{path}"));
    if let Some(key) = key {
        request = request.header("Authorization", format!("Bearer {key}"));
    }
    if let Some((kind, _)) = body {
        request = request.header("Content-Type", kind);
    }
    let body = body.map_or("", |(_, text)| text).to_owned();
    let mut answer = agent.run(request.body(body).expect("a request")).expect("an answer");
    let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let kind = header("content-type");
    assert_eq!(kind, "application/problem+json", "{method} {path}");
    let headers = format!("{} {}", header("www-authenticate"), header("allow"));
    let text = answer.body_mut().read_to_string().expect("a body");
    (answer.status().as_u16(), headers, serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn each_api_error_has_its_problem_document() {
    let plan = Plan { control: true, ..Plan::new() };
    let node = Running::start(&plan);
    let [(_, _, crm), (_, _, boss)] = API_KEYS;
    const JSON: &str = "application/json";
    const CALL: &str = "/v1/calls/call_00000000000000000000000000000001";
    let card = "4242424242424242";
    let good = r#"{"kind":"mask","reason":"card"}"#;
    let with_card = format!(r#"{{"kind":"mask","reason":"{card}"}}"#);
    let foreign = format!(r#"{{"kind":"mask","reason":"x","{card}":1}}"#);
    let long = format!(r#"{{"kind":"mask","reason":"{}"}}"#, "x".repeat(20_000));
    let holds = format!("{CALL}/holds");
    let hold = format!("{holds}/hold_00000000000000000000000000000001");
    let collections = format!("{CALL}/collections");
    // Method, path, key, body; status, problem, what it blames.
    type Row<'a> = (&'a str, &'a str, Option<&'a str>, Option<(&'a str, &'a str)>, u16, &'a str, &'a str);
    let table: Vec<Row<'_>> = vec![
        ("GET", CALL, Some(boss), None, 404, "no-such-call", "call"),
        ("DELETE", CALL, Some(boss), None, 404, "no-such-call", "call"),
        ("GET", "/v1/calls/4", Some(boss), None, 404, "no-such-call", "call"),
        ("POST", &holds, Some(crm), Some((JSON, good)), 404, "no-such-call", "call"),
        ("DELETE", &hold, Some(crm), None, 404, "no-such-call", "call"),
        ("GET", CALL, None, None, 401, "unauthenticated", "Authorization"),
        ("GET", CALL, Some("wrong"), None, 401, "unauthenticated", "Authorization"),
        ("GET", "/v1/calls", Some(&crm[1..]), None, 401, "unauthenticated", "Authorization"),
        ("DELETE", CALL, Some(crm), None, 403, "forbidden", "Authorization"),
        ("POST", &holds, Some(crm), Some((JSON, "{\"kind\":")), 400, "invalid-json", ""),
        ("POST", &holds, Some(crm), Some((JSON, "")), 400, "invalid-json", ""),
        ("POST", &holds, Some(crm), Some((JSON, "{\"kind\":\"mask\"}")), 422, "invalid-request", "reason"),
        ("POST", &holds, Some(crm), Some((JSON, r#"{"kind":"loud","reason":"x"}"#)), 422, "invalid-request", ""),
        ("POST", &holds, Some(crm), Some((JSON, &with_card)), 422, "invalid-request", "reason"),
        ("POST", &holds, Some(crm), Some((JSON, &foreign)), 422, "invalid-request", ""),
        ("POST", &holds, Some(crm), Some((JSON, &long)), 413, "body-too-large", ""),
        ("POST", &holds, Some(crm), Some(("text/plain", good)), 415, "unsupported-media-type", "Content-Type"),
        ("POST", &collections, Some(crm), Some((JSON, "[]")), 422, "invalid-request", ""),
        ("GET", "/v1/calls?limit=0", Some(crm), None, 422, "invalid-request", "limit"),
        ("GET", "/v1/calls?colour=red", Some(crm), None, 422, "invalid-request", "colour"),
        ("GET", "/v1/nothing", Some(boss), None, 404, "no-such-endpoint", ""),
        ("PUT", "/v1/calls", Some(boss), Some((JSON, "{}")), 405, "method-not-allowed", ""),
        ("GET", "/metrics", None, None, 401, "unauthenticated", "Authorization"),
    ];
    for (method, path, key, body, status, kind, field) in table {
        let what = format!("{method} {path} {}", body.map_or("", |(_, text)| &text[..text.len().min(60)]));
        let (seen, headers, problem) = api(&node, method, path, key, body);
        assert_eq!((seen, problem["status"].as_u64()), (status, Some(status.into())), "{what}: {problem}");
        assert_eq!(problem["type"], format!("urn:tonewall:problem:{kind}"), "{what}: {problem}");
        for part in ["title", "detail", "instance"] {
            assert!(problem[part].as_str().is_some_and(|text| !text.is_empty()), "{what}: {part}: {problem}");
        }
        if !field.is_empty() {
            assert_eq!(problem["where"]["field"], field, "{what}: {problem}");
        }
        if kind == "invalid-json" {
            assert!(problem["where"]["line"].is_u64(), "{what}: {problem}");
        }
        assert!(!problem.to_string().contains(card), "{what}: {problem}");
        match status {
            401 => assert!(headers.contains("Bearer"), "{what}: {headers}"),
            405 => assert!(headers.contains("GET"), "{what}: {headers}"),
            _ => {}
        }
    }
    assert!(!node.log().contains(card));
}

/// A telephone exchange of bare requests on one socket.
struct Line {
    socket: UdpSocket,
    node: SocketAddr,
    sent: u32,
}

impl Line {
    fn new(address: SocketAddr, node: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        Self { socket, node, sent: 0 }
    }

    /// Sends a request with `extra` headers and body; gives the final answer, `None` when there is none for `wait`.
    fn ask(&mut self, method: &str, user: &str, extra: &[(&str, &str)], body: &str, wait: Duration) -> Option<Message> {
        self.sent += 1;
        let (me, node, number) = (self.socket.local_addr().expect("its address"), self.node, self.sent);
        let mut request = Message::new(format!("{method} sip:{user}@{node} SIP/2.0"))
            .with("Via", format!("SIP/2.0/UDP {me};branch=z9hG4bKe{number};rport"))
            .with("From", format!("<sip:1000@{me}>;tag=e{number}"))
            .with("To", format!("<sip:{user}@{node}>"))
            .with("Call-ID", format!("error{number}@{me}"))
            .with("CSeq", format!("{number} {method}"))
            .with("Contact", format!("<sip:1000@{me}>"));
        for (name, value) in extra {
            request = request.with(name, *value);
        }
        if !extra.iter().any(|(name, _)| *name == "Max-Forwards") {
            request = request.with("Max-Forwards", "70");
        }
        if !body.is_empty() && !extra.iter().any(|(name, _)| *name == "Content-Type") {
            request = request.with("Content-Type", "application/sdp");
        }
        request.body = body.as_bytes().to_vec();
        self.socket.send_to(&request.print(), node).expect("sent");
        let until = Instant::now() + wait;
        while Instant::now() < until {
            let mut buffer = [0; 8_192];
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            let answer = Message::parse(&buffer[..length]).expect("a SIP message");
            let ours = answer.cseq() == Some((number, method));
            if !ours || answer.status().is_none_or(|status| status < 200) {
                continue;
            }
            if method == "INVITE" {
                let mut ack = Message::new(format!("ACK sip:{user}@{node} SIP/2.0"));
                for name in ["Via", "From", "To", "Call-ID"] {
                    ack = ack.with(name, answer.get(name).expect("there"));
                }
                let ack = ack.with("CSeq", format!("{number} ACK")).with("Max-Forwards", "70");
                self.socket.send_to(&ack.print(), node).expect("sent");
            }
            return Some(answer);
        }
        None
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

fn sdp(media: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n{media}\r\n")
}

#[test]
fn each_refused_sip_request_says_why() {
    let plan = Plan { prefix: "49", ..Plan::new() };
    let node = Running::start(&plan);
    let mut line = Line::new(plan.carrier, node.carrier_side);
    let good = sdp("m=audio 40000 RTP/AVP 0");
    let malformed = good.replace("m=audio", "m audio");
    let broken_port = sdp("m=audio 400000 RTP/AVP 0");
    let (no_codec, secure) = (sdp("m=audio 40000 RTP/AVP 18"), sdp("m=audio 40000 RTP/SAVP 0"));
    let elsewhere = good.replace("c=IN IP4 127.0.0.1", "c=IN IP4 203.0.113.9");
    let parts = [("Content-Type", "multipart/mixed;boundary=x")];
    let isup = [("Content-Type", "application/isup")];
    // Method, user, headers, body; status, the header that says more, and a part of it.
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str, &'a str);
    let table: &[Row<'_>] = &[
        ("INVITE", "4930", &[], &malformed, 400, "Warning", "399 tonewall \""),
        ("INVITE", "4930", &[], &broken_port, 400, "Warning", "399 tonewall \""),
        ("INVITE", "4930", &[], &no_codec, 488, "Warning", "305 tonewall \""),
        ("INVITE", "4930", &[], &secure, 488, "Warning", " tonewall \""),
        ("INVITE", "4930", &[], &elsewhere, 488, "Warning", " tonewall \""),
        ("INVITE", "4930", &parts, &good, 400, "", ""),
        ("INVITE", "4930", &isup, &good, 415, "Accept", "application/sdp"),
        ("INVITE", "4930", &[("Require", "100rel, x")], &good, 420, "Unsupported", "x"),
        ("INVITE", "4930", &[("Max-Forwards", "0")], &good, 483, "", ""),
        ("INVITE", "3030", &[], &good, 404, "", ""),
        ("FOO", "4930", &[], "", 501, "", ""),
        ("REGISTER", "4930", &[], "", 405, "Allow", "INVITE"),
        ("SUBSCRIBE", "4930", &[("Event", "presence")], "", 489, "", ""),
        ("REFER", "4930", &[("Refer-To", "<sip:1@x>")], "", 403, "", ""),
        ("BYE", "4930", &[], "", 481, "", ""),
    ];
    for (method, user, extra, body, status, header, value) in table {
        let what = format!("{method} {user} {extra:?} {body:?}");
        let answer = line.ask(method, user, extra, body, PATIENCE).unwrap_or_else(|| panic!("no answer to {what}"));
        assert_eq!(answer.status(), Some(*status), "{what}: {}", answer.start);
        if !header.is_empty() {
            let said = answer.get(header).unwrap_or_else(|| panic!("no {header} on {} to {what}", answer.start));
            assert!(said.contains(value), "{what}: {header}: {said}");
        }
    }
    let ok = line.ask("OPTIONS", "4930", &[], "", PATIENCE).expect("an answer");
    assert_eq!(ok.status(), Some(200));
}

#[test]
fn a_pbx_that_refuses_the_connection_is_told_at_once() {
    let plan = Plan { transport: "tcp", ..Plan::new() };
    let node = Running::start(&plan);
    let mut stream = std::net::TcpStream::connect(node.carrier_side).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (me, to) = (stream.local_addr().expect("its address"), node.carrier_side);
    let mut invite = Message::new(format!("INVITE sip:4930@{to} SIP/2.0"))
        .with("Via", format!("SIP/2.0/TCP {me};branch=z9hG4bKrefused"))
        .with("From", format!("<sip:1000@{me}>;tag=a"))
        .with("To", format!("<sip:4930@{to}>"))
        .with("Call-ID", "refused")
        .with("CSeq", "1 INVITE")
        .with("Contact", format!("<sip:1000@{me};transport=tcp>"))
        .with("Content-Type", "application/sdp");
    invite.body = sdp("m=audio 40000 RTP/AVP 0").into_bytes();
    let asked = Instant::now();
    stream.write_all(&invite.print()).expect("sent");
    let mut said = String::new();
    let mut buffer = [0; 4_096];
    while !said.contains("SIP/2.0 503 ") {
        let length = stream.read(&mut buffer).expect("an answer");
        assert!(length > 0, "closed after {said}");
        said += &String::from_utf8_lossy(&buffer[..length]);
    }
    assert!(said.contains("\r\nRetry-After: "), "{said}");
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}

#[test]
fn a_stranger_gets_no_answer() {
    let plan = Plan::new();
    let node = Running::start(&plan);
    let mut stranger = Line::new("127.0.0.9:0".parse().expect("an address"), node.carrier_side);
    let short = Duration::from_millis(300);
    assert_eq!(stranger.ask("OPTIONS", "1", &[], "", short).map(|m| m.start), None);
    assert_eq!(stranger.ask("INVITE", "1", &[], &sdp("m=audio 40000 RTP/AVP 0"), short).map(|m| m.start), None);
    assert!(common::answers_options(node.carrier_side));
    // By TCP the connection is closed before anything is read.
    let plan = Plan { transport: "tcp", ..Plan::new() };
    let node = Running::start(&plan);
    let from: SocketAddr = "127.0.0.9:0".parse().expect("an address");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&from.into()).expect("bound");
    socket.connect(&node.carrier_side.into()).expect("the node listens");
    let mut stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut buffer = [0; 16];
    let read = stream.read(&mut buffer);
    assert!(matches!(&read, Ok(0)) || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_hang_up_signal_ends_no_node_and_a_terminate_ends_an_idle_one() {
    let mut node = Running::start(&Plan::new());
    let send = |node: &Running, signal| {
        let pid = i32::try_from(node.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("sent");
    };
    send(&node, rustix::process::Signal::HUP);
    let until = Instant::now() + PATIENCE;
    while !node.log().contains("certificates and keys were read again") {
        assert!(Instant::now() < until, "SIGHUP is not told: {}", node.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(common::answers_options(node.carrier_side));
    send(&node, rustix::process::Signal::TERM);
    assert_eq!(node.ended(PATIENCE).and_then(|status| status.code()), Some(0));
}

#[test]
fn a_log_that_nobody_reads_holds_no_call_up_and_loses_no_line_that_has_room() {
    let (mut reads, writes) = std::io::pipe().expect("a pipe");
    // Full before the node says its first word; from a thread, since the last of it waits for room itself.
    let mut filler = writes.try_clone().expect("another end");
    let full = std::thread::spawn(move || filler.write_all(&[b'\n'; 70_000]));
    std::thread::sleep(Duration::from_millis(200));
    let node = Running::start_saying(&Plan { control: true, ..Plan::new() }, Some(writes.into()));
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build().into();
    let address = node.control.expect("an API");
    // Each request without a key is one line.
    for n in 0..400 {
        let answer = agent.get(format!("http://{address}/v1/calls")).call();
        let answer = answer.unwrap_or_else(|error| panic!("request {n} waits for the log: {error}"));
        assert_eq!(answer.status().as_u16(), 401);
    }
    assert!(common::answers_options(node.carrier_side), "calls wait for the log");
    // Somebody reads again: what waited is all there.
    let (tell, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(length @ 1..) = reads.read(&mut buffer) {
            let _ = tell.send(buffer[..length].to_vec());
        }
    });
    let mut said = Vec::new();
    while String::from_utf8_lossy(&said).matches("not authenticated").count() < 400 {
        let more = lines.recv_timeout(PATIENCE);
        said.extend(more.unwrap_or_else(|_| panic!("lines are missing: {}", String::from_utf8_lossy(&said).trim())));
    }
    assert!(full.join().expect("the thread ends").is_ok());
}

#[test]
fn an_api_address_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let at = taken.local_addr().expect("its address");
    let text = SMALL
        .replace("192.0.2.5:5060", &free_address().to_string())
        .replace("192.0.2.5:5062", &free_address().to_string())
        .replace("192.0.2.5\"", "127.0.0.1\"");
    let text = format!(
        "{text}\n[control]\naddress = \"{at}\"\n[[control.key]]\nname = \"a\"\nrole = \"admin\"\nkey_file = \"a.key\"\n"
    );
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tonewall.toml");
    std::fs::write(&file, text).expect("the configuration");
    std::fs::write(dir.path().join("a.key"), "a key of at least some length").expect("the key");
    common::restrict(&dir.path().join("a.key"));
    let output = tonewall("run", &file);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("[control]") && said.contains(&at.to_string()), "{said}");
}
