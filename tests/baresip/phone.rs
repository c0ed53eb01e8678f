//! baresip as a process: headless, speaks a sine, writes what it hears into a WAV file, takes commands over TCP.

use std::f64::consts::TAU;
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{free_port, take_port};

pub const PATIENCE: Duration = Duration::from_secs(20);
/// Peak of the sines; well under that of keyed tones.
const LOUD: f64 = 2_000.0;
pub const MODULES: &str = "/usr/lib/baresip/modules";

/// What kind of telephone it is.
pub struct Kind {
    /// Codec and the rate baresip runs it at, Hz.
    pub codec: (&'static str, u32),
    /// `mediaenc` of its account; empty for none.
    pub encryption: &'static str,
    /// What its own address ends with, such as `;transport=tls`.
    pub transport: &'static str,
    /// Its certificate with key, and the authority it trusts.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// When told to answer: first with early media, and for good on [`Baresip::accept`].
    pub early: bool,
    /// The user it takes calls for.
    pub user: &'static str,
    /// Lives on `::1`.
    pub six: bool,
    /// What else is in its account, such as `;ptime=30`.
    pub account: &'static str,
    /// Further lines of its configuration.
    pub config: &'static str,
    /// Prints every SIP message.
    pub traces: bool,
    /// Speaks this, at 8 kHz, instead of a sine.
    pub says: Option<Vec<i16>>,
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            codec: ("pcmu", 8_000),
            encryption: "",
            transport: "",
            tls: None,
            early: false,
            user: "phone",
            six: false,
            account: "",
            config: "",
            traces: false,
            says: None,
        }
    }
}

/// A headless baresip that speaks a sine and writes what it hears into a WAV file.
pub struct Baresip {
    child: Child,
    dir: tempfile::TempDir,
    control: u16,
    pub port: u16,
}

impl Baresip {
    pub fn start(port: u16, says_hz: f64, answers: bool) -> Baresip {
        Self::start_as(port, says_hz, answers, &Kind::default())
    }

    /// With a media encryption of baresip's, of the module of that name.
    pub fn start_with(port: u16, says_hz: f64, answers: bool, encryption: &'static str) -> Baresip {
        Self::start_as(port, says_hz, answers, &Kind { encryption, ..Kind::default() })
    }

    /// A telephone of this kind.
    pub fn start_as(port: u16, says_hz: f64, answers: bool, kind: &Kind) -> Baresip {
        let dir = tempfile::tempdir().expect("a directory");
        let control = free_port();
        let at = dir.path();
        let (codec, rate) = kind.codec;
        let host = if kind.six { "[::1]" } else { "127.0.0.1" };
        let interface = host.trim_matches(['[', ']']);
        match &kind.says {
            Some(samples) => speech(&at.join("says.wav"), samples, rate),
            None => sine(&at.join("says.wav"), says_hz, rate),
        }
        std::fs::create_dir(at.join("heard")).expect("a directory");
        let encryption_module = match kind.encryption {
            "" => "",
            "dtls_srtp" => "module dtls_srtp.so\n",
            _ => "module srtp.so\n",
        };
        let mut config = format!(
            "sip_listen {host}:{port}\nnet_interface {interface}\naudio_source aufile,{says}\n\
             audio_player aubridge,nil\naudio_alert aubridge,nil\nausrc_srate {rate}\nauplay_srate {rate}\n\
             rtp_ports 32100-32700\nmodule_path {MODULES}\nmodule uuid.so\nmodule g711.so\nmodule g722.so\n\
             module sndfile.so\n{encryption_module}module aubridge.so\nmodule aufile.so\nmodule_tmp account.so\n\
             module_app menu.so\nmodule ctrl_tcp.so\nctrl_tcp_listen 127.0.0.1:{control}\nsnd_path {heard}\n",
            says = at.join("says.wav").display(),
            heard = at.join("heard").display()
        );
        if codec == "opus" {
            config.push_str("module opus.so\nopus_stereo no\nopus_sprop_stereo no\n");
        }
        if let Some((certificate, authority)) = &kind.tls {
            config.push_str(&format!(
                "sip_certificate {}\nsip_cafile {}\n",
                certificate.display(),
                authority.display()
            ));
        }
        config.push_str(kind.config);
        std::fs::write(at.join("config"), config).expect("the configuration");
        let answer = match (answers, kind.early) {
            (true, false) => "auto",
            (true, true) => "early",
            (false, _) => "manual",
        };
        let encryption = match kind.encryption {
            "" => String::new(),
            of => format!(";mediaenc={of}"),
        };
        let channels = if codec == "opus" { 2 } else { 1 };
        let clock = if codec == "opus" { 48_000 } else { rate };
        let account = format!(
            "<sip:{user}@{host}:{port}{transport}>;regint=0;answermode={answer};\
             audio_codecs={codec}/{clock}/{channels};dtmfmode=rtpevent{encryption}{more}\n",
            user = kind.user,
            transport = kind.transport,
            more = kind.account
        );
        std::fs::write(at.join("accounts"), account).expect("the account");
        std::fs::write(at.join("contacts"), "").expect("the contacts");
        let log = File::create(at.join("log")).expect("the log");
        let child = Command::new("baresip")
            .args(kind.traces.then_some("-s"))
            .args([if kind.six { "-6" } else { "-4" }, "-f"])
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
    pub fn said(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "baresip never says {text:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A command over its TCP control port (JSON in netstrings).
    pub fn command(&self, command: &str, params: &str) {
        let json = serde_json::json!({ "command": command, "params": params, "token": "t" }).to_string();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.control)).expect("its control port");
        stream.write_all(format!("{}:{json},", json.len()).as_bytes()).expect("a command");
        std::thread::sleep(Duration::from_millis(50));
    }

    /// Answers the call that rings.
    #[allow(dead_code)] // Not every test has a phone that waits.
    pub fn accept(&self) {
        self.command("accept", "");
    }

    /// Presses and releases keys.
    pub fn key(&self, keys: &str) {
        for key in keys.chars() {
            self.command("sndcode", &key.to_string());
            std::thread::sleep(Duration::from_millis(100));
            self.command("sndcode", "\u{4}");
            std::thread::sleep(Duration::from_millis(80));
        }
    }

    /// What it heard, once it has ended.
    pub fn heard(mut self) -> Vec<i16> {
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

pub fn sine(path: &Path, hz: f64, rate: u32) {
    let spec =
        hound::WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(path, spec).expect("a WAV file");
    for n in 0..rate as usize * 60 {
        // As if at 8 kHz: the same sine at another rate.
        writer.write_sample(tone(hz * 8_000.0 / f64::from(rate), n)).expect("a sample");
    }
    writer.finalize().expect("a WAV file");
}

/// Samples of 8 kHz at another rate (a multiple), held between: good enough to be understood.
pub fn speech(path: &Path, samples: &[i16], rate: u32) {
    let spec =
        hound::WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(path, spec).expect("a WAV file");
    for sample in samples {
        for _ in 0..rate / 8_000 {
            writer.write_sample(*sample).expect("a sample");
        }
    }
    writer.finalize().expect("a WAV file");
}

pub fn tone(hz: f64, n: usize) -> i16 {
    (LOUD * (TAU * hz * n as f64 / 8_000.0).sin()) as i16
}

/// Whether `hz` makes up most of the second half of `heard`.
pub fn sounds(heard: &[i16], hz: f64) -> bool {
    let part = &heard[heard.len() / 2..];
    let (mut tone, mut all) = (0.0, 0.0);
    // By tenths of a second: a jitter buffer that gains or drops a few samples breaks the phase, not the tone.
    for window in part.chunks(800) {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in window.iter().enumerate() {
            let (x, w) = (f64::from(*sample), TAU * hz * n as f64 / 8_000.0);
            re += x * w.cos();
            im += x * w.sin();
            all += x * x;
        }
        tone += (re * re + im * im) * 2.0 / window.len() as f64;
    }
    // Masked stretches take their share.
    tone > 0.2 * all && all > 0.0
}

/// baresip takes the port after its own as well, for TLS.
pub fn port() -> u16 {
    loop {
        let port = free_port();
        if take_port(port + 1) && std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).is_ok() {
            return port;
        }
    }
}
