//! baresip (Debian: baresip-core) as a real telephone on either side of a real `tonewall run` process: calls are
//! answered, sound passes both ways, and a guarded agent gets no key. Skipped with a printed reason where baresip is not
//! installed.
#![allow(clippy::disallowed_methods)] // Tests may wait and open sockets.

mod common;
#[path = "baresip/srtp.rs"]
mod srtp;

use std::f64::consts::TAU;
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Plan, Running, free_port, installed, skip};
use tonewall::rt::peers::Exchange;
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::leak::Attackers;
use tonewall::testkit::rtp_peer::Sound;
use tonewall::testkit::ua::{Answer, Profile, UserAgent};

const PATIENCE: Duration = Duration::from_secs(20);
/// Peak of the sines; well under that of keyed tones.
const LOUD: f64 = 2_000.0;
const MODULES: &str = "/usr/lib/baresip/modules";

/// A headless baresip that speaks a sine and writes what it hears into a WAV file.
struct Baresip {
    child: Child,
    dir: tempfile::TempDir,
    control: u16,
    port: u16,
}

impl Baresip {
    fn start(port: u16, says_hz: f64, answers: bool) -> Baresip {
        Self::start_with(port, says_hz, answers, "")
    }

    /// With a media encryption of baresip's, of the module of that name.
    fn start_with(port: u16, says_hz: f64, answers: bool, encryption: &str) -> Baresip {
        let dir = tempfile::tempdir().expect("a directory");
        let control = free_port();
        let at = dir.path();
        sine(&at.join("says.wav"), says_hz);
        std::fs::create_dir(at.join("heard")).expect("a directory");
        let config = format!(
            "sip_listen 127.0.0.1:{port}\nnet_interface 127.0.0.1\naudio_source aufile,{says}\n\
             audio_player aubridge,nil\naudio_alert aubridge,nil\nausrc_srate 8000\nauplay_srate 8000\n\
             rtp_ports 32100-32700\nmodule_path {MODULES}\nmodule uuid.so\nmodule g711.so\nmodule sndfile.so\n\
             {module}module aubridge.so\nmodule aufile.so\nmodule_tmp account.so\nmodule_app menu.so\nmodule ctrl_tcp.so\n\
             ctrl_tcp_listen 127.0.0.1:{control}\nsnd_path {heard}\n",
            module = match encryption {
                "" => "",
                "dtls_srtp" => "module dtls_srtp.so\n",
                _ => "module srtp.so\n",
            },
            says = at.join("says.wav").display(),
            heard = at.join("heard").display()
        );
        std::fs::write(at.join("config"), config).expect("the configuration");
        let answer = if answers { "auto" } else { "manual" };
        let account = format!(
            "<sip:phone@127.0.0.1:{port}>;regint=0;answermode={answer};audio_codecs=pcmu/8000/1;dtmfmode=rtpevent{encryption}\n",
            encryption = if encryption.is_empty() { String::new() } else { format!(";mediaenc={encryption}") }
        );
        std::fs::write(at.join("accounts"), account).expect("the account");
        std::fs::write(at.join("contacts"), "").expect("the contacts");
        let log = File::create(at.join("log")).expect("the log");
        let child = Command::new("baresip")
            .args(["-4", "-f"])
            .arg(at)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("baresip starts");
        let baresip = Baresip { child, dir, control, port };
        baresip.said("baresip is ready");
        baresip
    }

    /// Waits until it has printed `text`.
    fn said(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "baresip never says {text:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A command over its TCP control port (JSON in netstrings).
    fn command(&self, command: &str, params: &str) {
        let json = serde_json::json!({ "command": command, "params": params, "token": "t" }).to_string();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.control)).expect("its control port");
        stream.write_all(format!("{}:{json},", json.len()).as_bytes()).expect("a command");
        std::thread::sleep(Duration::from_millis(50));
    }

    /// Presses and releases keys.
    fn key(&self, keys: &str) {
        for key in keys.chars() {
            self.command("sndcode", &key.to_string());
            std::thread::sleep(Duration::from_millis(100));
            self.command("sndcode", "\u{4}");
            std::thread::sleep(Duration::from_millis(80));
        }
    }

    /// What it heard, once it has ended.
    fn heard(mut self) -> Vec<i16> {
        self.command("quit", "");
        let until = Instant::now() + Duration::from_secs(5);
        while self.child.try_wait().expect("its state").is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let dumps: Vec<PathBuf> = std::fs::read_dir(self.dir.path().join("heard"))
            .expect("the directory")
            .filter_map(|e| e.ok().map(|e| e.path()))
            .filter(|p| p.to_string_lossy().ends_with("-dec.wav"))
            .collect();
        assert_eq!(dumps.len(), 1, "one dump: {}", self.log());
        hound::WavReader::open(&dumps[0]).expect("a WAV file").samples().map_while(Result::ok).collect()
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sine(path: &Path, hz: f64) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).expect("a WAV file");
    for n in 0..8_000 * 60 {
        writer.write_sample(tone(hz, n)).expect("a sample");
    }
    writer.finalize().expect("a WAV file");
}

fn tone(hz: f64, n: usize) -> i16 {
    (LOUD * (TAU * hz * n as f64 / 8_000.0).sin()) as i16
}

fn endless(hz: f64) -> Sound {
    Box::new((0..).map(move |n| tone(hz, n)))
}

/// Whether `hz` makes up most of the second half of `heard`.
fn sounds(heard: &[i16], hz: f64) -> bool {
    let part = &heard[heard.len() / 2..];
    let (mut re, mut im, mut all) = (0.0, 0.0, 0.0);
    for (n, sample) in part.iter().enumerate() {
        let (x, w) = (f64::from(*sample), TAU * hz * n as f64 / 8_000.0);
        re += x * w.cos();
        im += x * w.sin();
        all += x * x;
    }
    // Phase breaks (jitter buffer, masked stretches) take their share.
    !part.is_empty() && (re * re + im * im) * 2.0 / part.len() as f64 > 0.2 * all && all > 0.0
}

fn ready(test: &str) -> bool {
    let ready = installed("baresip") && Path::new(MODULES).join("ctrl_tcp.so").is_file();
    if !ready {
        skip(test, "baresip is not installed (Debian: apt-get install baresip-core)");
    }
    ready
}

/// baresip takes the port after its own as well, for TLS.
fn port() -> u16 {
    loop {
        let port = free_port();
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).is_ok() {
            return port;
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A testkit customer calls baresip; gives what baresip heard and its log.
fn as_agent(guard: &'static str) -> (Vec<i16>, String) {
    as_agent_of(Baresip::start(port(), 600.0, true), guard, Default::default())
}

/// The same with further lines of the trunks.
fn as_agent_of(agent: Baresip, guard: &'static str, trunks: [String; 2]) -> (Vec<i16>, String) {
    let runtime = runtime();
    let (caller_heard, _node) = runtime.block_on(async {
        let carrier = Exchange::open(IpAddr::from(Ipv4Addr::LOCALHOST), 0, None, 3).await.expect("a carrier port");
        let pbx = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, agent.port));
        let plan = Plan { carrier: carrier.address(), pbx, guard, trunks, ..Plan::new() };
        let node = tokio::task::block_in_place(|| Running::start(&plan));
        let caller = carrier.phone(Profile::new("+15550100").only(tonewall::config::Codec::Pcmu)).expect("RTP ports");
        caller.with(|a, now| {
            a.rtp.speak(endless(440.0));
            a.invite(now, "phone", node.carrier_side);
        });
        assert!(caller.until(PATIENCE, UserAgent::is_up).await, "{:?} {}", caller.events(), agent.log());
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        caller.with(|a, _| {
            a.press(0, typed("424242", Form::Event, 100, 80));
            a.press(0, typed("171717", Form::Tone, 100, 80));
        });
        assert!(caller.until(PATIENCE, |a| !a.rtp.is_keying()).await);
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        let heard = caller.with(|a, _| a.rtp.heard.samples());
        caller.with(UserAgent::hang_up);
        tokio::time::sleep(Duration::from_millis(500)).await;
        (heard, node)
    });
    assert!(sounds(&caller_heard, 600.0), "the caller hears baresip");
    let log = agent.log();
    (agent.heard(), log)
}

#[test]
fn an_unguarded_baresip_agent_hears_the_caller_and_gets_every_key() {
    if !ready("baresip_agent_unguarded") {
        return;
    }
    let (heard, log) = as_agent("off");
    assert!(sounds(&heard, 440.0), "baresip hears the caller");
    assert_eq!(log.matches("received event").count(), 12, "six keys down and up: {log}");
    assert!(Attackers::new().listen(&heard).decoded >= 4, "tones are heard when nothing is guarded");
}

#[test]
fn a_guarded_baresip_agent_hears_the_caller_and_gets_no_key() {
    if !ready("baresip_agent_guarded") {
        return;
    }
    let (heard, log) = as_agent("always");
    assert!(sounds(&heard, 440.0), "baresip hears the caller");
    assert_eq!(log.matches("received event").count(), 0, "{log}");
    let found = Attackers::new().listen(&heard);
    assert!(found.nothing_decoded(), "{found:?}");
}

#[test]
fn a_baresip_caller_is_heard_and_its_keys_are_masked() {
    if ready("baresip_caller") {
        as_caller_of(Baresip::start(port(), 440.0, false), Default::default());
    }
}

/// baresip calls a testkit agent behind a guarded trunk; its log.
fn as_caller_of(caller: Baresip, trunks: [String; 2]) -> String {
    let runtime = runtime();
    let (heard, events, _node) = runtime.block_on(async {
        let answering = Profile::new("5551000").answering(Answer::After(100));
        let mut pbx =
            Exchange::open(IpAddr::from(Ipv4Addr::LOCALHOST), 0, Some(answering), 4).await.expect("a PBX port");
        let carrier = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, caller.port));
        let plan = Plan { carrier, pbx: pbx.address(), guard: "always", trunks, ..Plan::new() };
        let node = tokio::task::block_in_place(|| Running::start(&plan));
        tokio::task::block_in_place(|| caller.command("dial", &format!("sip:5551000@{}", node.carrier_side)));
        let agent = pbx.ringing(PATIENCE).await.unwrap_or_else(|| panic!("no call arrives: {}", caller.log()));
        agent.with(|a, _| a.rtp.speak(endless(600.0)));
        assert!(agent.until(PATIENCE, UserAgent::is_up).await);
        tokio::task::block_in_place(|| {
            caller.said("Call established");
            std::thread::sleep(Duration::from_millis(1_000));
            caller.key("424242");
        });
        tokio::time::sleep(Duration::from_millis(4_000)).await;
        let (heard, events) = agent.with(|a, _| (a.rtp.heard.samples(), a.rtp.heard.event_codes()));
        agent.with(UserAgent::hang_up);
        tokio::time::sleep(Duration::from_millis(500)).await;
        (heard, events, node)
    });
    assert!(sounds(&heard, 440.0), "the agent hears baresip");
    assert!(events.is_empty(), "{} events reached the agent", events.len());
    let log = caller.log();
    assert!(log.matches("send DTMF digit: ").count() == 6, "{log}");
    assert!(sounds(&caller.heard(), 600.0), "baresip hears the agent");
    log
}
