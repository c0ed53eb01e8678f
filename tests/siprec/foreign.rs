//! A recording server that somebody else wrote, as the recorder of a running node: it takes sessions over UDP, TCP and TLS, and
//! what it wrote into its own files is held against what was said on each side. Which server it is says the environment;
//! docs/testing.md tells how it is started and what it tells of a session.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonewall::config::Codec;
use tonewall::testkit::keys::Form;
use tonewall::testkit::leak::Attackers;
use tonewall::testkit::rtp_peer::hiss;
use tonewall::testkit::simple_sdp::Direction;
use tonewall::testkit::ua::UserAgent;

use crate::common::{free_address, media_ports, restrict, skip};
use crate::desk::{Call, Desk};
use crate::pki::{Authority, Wish};
use crate::{all, plan, until, wait};

/// The variable with the command that starts it.
const COMMAND: &str = "TONEWALL_SRS_COMMAND";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_recording_server_nobody_here_wrote_records_calls() {
    if std::env::var_os(COMMAND).is_none() {
        return skip(
            "a recording server that somebody else wrote",
            &format!("{COMMAND} is not set (docs/testing.md, SIPREC)"),
        );
    }
    all(vec![
        ("a foreign server records over udp", Box::pin(recorded("udp"))),
        ("a foreign server records over tcp", Box::pin(recorded("tcp"))),
        ("a foreign server records over tls", Box::pin(recorded("tls"))),
        ("of two foreign servers one is killed", Box::pin(one_of_two_is_killed())),
    ])
    .await;
}

/// A running server.
struct Foreign {
    child: Child,
    out: tempfile::TempDir,
    /// UDP and TCP.
    plain: SocketAddr,
    tls: SocketAddr,
    theirs: Authority,
    media: (u16, u16),
}

impl Foreign {
    fn start() -> Foreign {
        let (out, theirs) = (tempfile::tempdir().expect("a directory"), Authority::new());
        let signed = theirs.sign(Wish::of(&["srs.example"]));
        for (name, text) in [("cert.pem", &signed.chain), ("key.pem", &signed.key)] {
            std::fs::write(out.path().join(name), text).expect("a file");
            restrict(&out.path().join(name));
        }
        let (plain, tls, media) = (free_address(), free_address(), media_ports(40));
        let child = spawn(out.path(), plain, tls, media);
        let server = Foreign { child, out, plain, tls, theirs, media };
        server.wait();
        server
    }

    /// Ends it as `kill -9` does.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn again(&mut self) {
        self.child = spawn(self.out.path(), self.plain, self.tls, self.media);
        self.wait();
    }

    fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(self.plain).is_err() {
            assert!(Instant::now() < end, "the server does not take connections at {}", self.plain);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The recorder's section and listener, and the files it needs.
    fn section(&self, name: &str, transport: &str) -> (String, Vec<(&'static str, String)>) {
        let (at, side) = (if transport == "tls" { self.tls } else { self.plain }, free_address());
        let mut files = Vec::new();
        let [mut listener, mut recorder] = [String::new(), String::new()];
        if transport == "tls" {
            let node = self.theirs.sign(Wish::of(&["node.example"]));
            files = vec![("theirs.pem", self.theirs.pem()), ("node.pem", node.chain), ("node.key", node.key)];
            listener = "certificate = \"node.pem\"\nkey = \"node.key\"".to_owned();
            recorder = "tls_ca = \"theirs.pem\"\ntls_names = [\"srs.example\"]".to_owned();
        }
        let text = format!(
            "\n[[listener]]\nname = \"{name}-side\"\ntransport = \"{transport}\"\naddress = \"{side}\"\n{listener}\n\n\
             [[recorder]]\nname = \"{name}\"\nkind = \"siprec\"\nlistener = \"{name}-side\"\nremotes = [\"{at}\"]\n\
             sources = [\"127.0.0.1\"]\nmedia = [\"127.0.0.1/32\"]\nalive_s = 1\nfailover_ms = 2000\n{recorder}\n"
        );
        (text, files)
    }

    /// The sessions it told of, oldest first.
    fn told(&self) -> Vec<Told> {
        (0..)
            .map_while(|at| std::fs::read(self.out.path().join(format!("{at}.json"))).ok())
            .map(|t| Told::read(&t))
            .collect()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(out: &Path, plain: SocketAddr, tls: SocketAddr, media: (u16, u16)) -> Child {
    let command = std::env::var(COMMAND).expect("text");
    let path = |name: &str| out.join(name).display().to_string();
    let log = std::fs::File::options().create(true).append(true).open(out.join("output")).expect("a log");
    Command::new("sh")
        .args(["-c", &format!("exec {command} \"$@\""), "sh", "--address", &Ipv4Addr::LOCALHOST.to_string()])
        .args(["--udp", &plain.port().to_string(), "--tcp", &plain.port().to_string()])
        .args(["--tls", &tls.port().to_string(), "--cert", &path("cert.pem"), "--key", &path("key.pem")])
        .args(["--rtp", &format!("{}-{}", media.0, media.1), "--out", &out.display().to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log"))
        .stderr(log)
        .spawn()
        .expect("sh starts")
}

/// What it tells of a session.
struct Told {
    /// Names of the participants it read.
    names: Vec<String>,
    /// By label: the participant it takes for the speaker, and the sound.
    streams: Vec<(String, String, Vec<i16>)>,
}

impl Told {
    fn read(bytes: &[u8]) -> Told {
        let told: Value = serde_json::from_slice(bytes).expect("JSON");
        let text = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
        let list = |name: &str| told[name].as_array().cloned().unwrap_or_default();
        let stream =
            |one: &Value| (text(one, "label"), text(one, "participant"), wav(&PathBuf::from(text(one, "file"))));
        Told {
            names: list("participants").iter().map(|one| text(one, "name")).collect(),
            streams: list("streams").iter().map(stream).collect(),
        }
    }
}

/// The samples of a WAV file of one channel, 16 bits and 8 kHz.
fn wav(path: &Path) -> Vec<i16> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!((&bytes[..4], &bytes[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]), "a WAV file");
    assert_eq!((bytes[20], bytes[22], bytes[24..28].to_vec(), bytes[34]), (1, 1, 8_000u32.to_le_bytes().to_vec(), 16));
    let data = bytes.windows(4).position(|four| four == b"data").expect("sound") + 8;
    bytes[data..].chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect()
}

/// How well a piece of `heard` fits anywhere into what was said: 1 is the same.
fn likeness(heard: &[i16], from: usize, said: &[i16]) -> f64 {
    const PIECE: usize = 800;
    let piece: Vec<f32> = heard[from..from + PIECE].iter().map(|s| f32::from(*s)).collect();
    let said: Vec<f32> = said.iter().map(|s| f32::from(*s)).collect();
    let norm = |of: &[f32]| of.iter().map(|s| s * s).sum::<f32>().sqrt();
    let own = norm(&piece);
    let fit = |at: &[f32]| at.iter().zip(&piece).map(|(a, b)| a * b).sum::<f32>() / (norm(at) * own).max(1.0);
    said.windows(PIECE).map(fit).fold(0.0, f32::max).into()
}

async fn state(desk: &Desk, call: &Call, at: usize, wanted: &str) {
    desk.until(&format!("/v1/calls/{}/recorders", call.id), |now| now["recorders"][at]["state"] == wanted).await;
}

fn failed(desk: &Desk) -> u64 {
    let shown = desk.ask("GET", "/v1/recorders", None);
    let all = shown["recorders"].as_array().expect("recorders");
    all.iter().filter_map(|one| one["siprec"]["failed"].as_u64()).sum()
}

/// A pause hold, keys in it, and its end.
async fn keyed_under(desk: &Desk, call: &Call, kind: &str, form: Form) {
    let holds = format!("/v1/calls/{}/holds", call.id);
    let taken = desk.ask("POST", &holds, Some(json!({"kind": kind, "reason": "card", "ttl_s": 60})));
    call.press("4242424242424242", form);
    wait(300).await;
    until("the keys", || call.caller.with(|phone, _| !phone.rtp.is_keying())).await;
    wait(600).await;
    desk.ask("DELETE", &format!("{holds}/{}", taken["holds"][0]["id"].as_str().expect("a hold")), None);
}

async fn recorded(transport: &'static str) {
    if let Some(missing) = Attackers::new().missing() {
        skip("spandsp as an attacker of a foreign recorder", missing);
    }
    let server = Foreign::start();
    let (section, files) = server.section("foreign", transport);
    let mut plan = plan(&["foreign"], &section);
    plan.files = files;
    plan.trunks[1] = "refer = \"terminate\"".to_owned();
    let mut desk = Desk::open(plan).await;
    let call = desk.call().await;
    call.caller.with(|phone, _| phone.rtp.speak(hiss(17, -25.0)));
    call.agent.with(|phone, _| phone.rtp.speak(hiss(18, -25.0)));
    state(&desk, &call, 0, "recording").await;
    wait(2_000).await;
    // What is not guarded can be read: the attackers hear well.
    call.press("159", Form::Tone);
    wait(1_000).await;
    // No packet reaches it in a pause, and masked keys none that can be read.
    keyed_under(&desk, &call, "pause", Form::Tone).await;
    state(&desk, &call, 0, "recording").await;
    wait(800).await;
    keyed_under(&desk, &call, "mask", Form::Tone).await;
    keyed_under(&desk, &call, "mask", Form::Event).await;
    for direction in [Direction::SendOnly, Direction::SendRecv] {
        call.agent.with(|agent, now| agent.reinvite(now, direction));
        wait(700).await;
    }
    // Another codec, and another agent.
    call.agent.with(|agent, now| agent.reinvite_with_codecs(now, vec![Codec::Pcma]));
    wait(700).await;
    call.agent.with(|agent, now| agent.refer(now, "5552000"));
    let second = desk.ringing().await;
    second.with(|phone, _| phone.rtp.speak(hiss(19, -25.0)));
    assert!(second.until(Duration::from_secs(20), UserAgent::is_up).await, "{:?}", second.events());
    wait(2_000).await;
    state(&desk, &call, 0, "recording").await;
    assert_eq!(failed(&desk), 0, "{}", desk.ask("GET", "/v1/recorders", None));
    let [customer, first, last] =
        [&call.caller, &call.agent, &second].map(|phone| phone.with(|phone, _| phone.rtp.spoken().to_vec()));
    desk.hang_up(call).await;
    until("the server tells of the session", || server.told().len() == 1).await;
    let told = server.told().remove(0);
    assert_eq!(told.names, ["+14155550100", "5551000", "5552000"], "everybody, once each");
    assert_eq!(told.streams.len(), 2);
    let mut fits = Vec::new();
    for (at, (label, speaker, sound)) in told.streams.iter().enumerate() {
        // It keeps who spoke last.
        assert_eq!((label.as_str(), speaker.as_str()), [("1", "+14155550100"), ("2", "5552000")][at]);
        assert!(sound.len() > 8_000 * 6, "{} samples", sound.len());
        let findings = Attackers::new().listen(sound);
        let open = [3, 0][at];
        assert_eq!((findings.decoded, findings.spandsp.unwrap_or(open)), (open, open), "stream {label}: {findings:?}");
        // Within the first stretch, and within the last second.
        for (from, agent) in [(8_000, &first), (sound.len() - 5_600, &last)] {
            let fit = [&customer, agent].map(|said| likeness(sound, from, said));
            assert!(fit[at] > 0.9 && fit[1 - at] < 0.3, "stream {label} at {from}: {fit:?}");
            fits.push(fit[at]);
        }
    }
    crate::common::say(&format!("siprec: over {transport} the foreign files hold what was said: {fits:.3?}"));
}

async fn one_of_two_is_killed() {
    let (mut dies, lives) = (Foreign::start(), Foreign::start());
    let sections = dies.section("dies", "tcp").0 + &lives.section("lives", "udp").0;
    let mut desk = Desk::open(plan(&["dies", "lives"], &sections)).await;
    let call = desk.call().await;
    call.caller.with(|phone, _| phone.rtp.speak(hiss(17, -25.0)));
    state(&desk, &call, 0, "recording").await;
    state(&desk, &call, 1, "recording").await;
    dies.kill();
    state(&desk, &call, 0, "away").await;
    let from = Instant::now();
    let without = call.caller.with(|phone, _| phone.rtp.spoken().len());
    state(&desk, &call, 1, "recording").await;
    wait(2_000).await;
    tokio::task::block_in_place(|| dies.again());
    state(&desk, &call, 0, "recording").await;
    wait(1_000).await;
    let lasted = from.elapsed().as_secs_f64();
    let said = call.caller.with(|phone, _| phone.rtp.spoken().to_vec());
    desk.hang_up(call).await;
    until("both tell of their sessions", || !lives.told().is_empty() && !dies.told().is_empty()).await;
    let whole = &lives.told()[0].streams[0].2;
    assert!(whole.len() as f64 / 8_000.0 > lasted, "{} samples in more than {lasted} s", whole.len());
    let fit = likeness(whole, whole.len() / 2, &said);
    assert!(fit > 0.9, "{fit}");
    assert!(dies.told().iter().any(|told| told.streams[0].2.len() > 4_000), "the rest of the call");
    // What it missed is sent on when it is back, as a session more: what was said a second after it was found dead is there.
    let end = Instant::now() + Duration::from_secs(90);
    while dies.told().len() < 2 {
        assert!(Instant::now() < end, "what was missed is not sent on: {}", desk.ask("GET", "/v1/recorders", None));
        wait(200).await;
    }
    let missed = &said[without + 8_000..without + 9_600];
    let fits: Vec<f64> = dies.told().iter().map(|told| likeness(missed, 0, &told.streams[0].2)).collect();
    assert!(fits.iter().any(|fit| *fit > 0.9), "{fits:?}");
    for told in dies.told() {
        assert_eq!(told.streams[0].1, "+14155550100", "label 1 is the customer's");
    }
    crate::common::say(&format!("siprec: what the foreign server missed is in its files: {fits:.3?}"));
}
