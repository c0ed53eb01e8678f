//! linphonec (Debian: linphone-cli) as a caller: takes commands on its standard input, speaks a WAV file and records
//! what it hears into another.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::free_port;
use crate::phone::{PATIENCE, sine, speech};

/// A linphonec that ends with its handle.
pub struct Linphone {
    child: Child,
    input: ChildStdin,
    dir: tempfile::TempDir,
}

/// What kind of telephone it is.
#[derive(Default)]
pub struct Kind {
    /// Name and clock.
    pub codec: (&'static str, u32),
    /// `none`, `srtp` or `dtls`.
    pub encryption: &'static str,
    /// Who vouches for servers (PEM).
    pub authority: Option<String>,
    /// The certificate of its DTLS and its key (PEM); one of its own making, RSA, when `None`.
    pub identity: Option<String>,
    /// Sends keys by INFO, not as events.
    pub info: bool,
    /// Lives on `::1`.
    pub six: bool,
    /// Further lines of its `[sip]` and `[rtp]` sections, and further sections.
    pub sip: &'static str,
    pub rtp: &'static str,
    pub more: &'static str,
    /// Speaks this, at 8 kHz, instead of a sine.
    pub says: Option<Vec<i16>>,
}

impl Linphone {
    /// A telephone of this kind, that speaks a sine unless it has words.
    pub fn start(port: u16, says_hz: f64, kind: &Kind) -> Linphone {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path();
        let (host, own) = if kind.six { ("[::1]", "::1") } else { ("127.0.0.1", "127.0.0.1") };
        let tls = free_port();
        std::fs::create_dir_all(at.join(".local/share/linphone")).expect("a directory");
        if let Some(pem) = &kind.authority {
            std::fs::write(at.join("ca.pem"), pem).expect("the authority");
        }
        if let Some(pem) = &kind.identity {
            let own = at.join(".linphone-usr-crt");
            std::fs::create_dir_all(&own).expect("a directory");
            std::fs::write(own.join("linphone-dtls-default-identity.pem"), pem).expect("the identity");
        }
        match &kind.says {
            Some(samples) => speech(&at.join("says.wav"), samples, 8_000),
            None => sine(&at.join("says.wav"), says_hz, 8_000),
        }
        let (name, clock) = kind.codec;
        let encryption = kind.encryption;
        let mandatory = u8::from(encryption != "none");
        let rc = format!(
            "[sip]\nipv6_migration_done=1\nuse_ipv6={six}\nauto_net_state_mon=0\nsip_port={port}\nsip_tcp_port={port}\nsip_tls_port={tls}\n\
             bind_address={own}\nguess_hostname=0\ncontact=\"Customer\" <sip:customer@{host}:{port}>\n\
             media_encryption={encryption}\nmedia_encryption_mandatory={mandatory}\nroot_ca={ca}\nverify_server_cn=0\n\
             use_info={info}\nuse_rfc2833={events}\n{sip}\n[net]\nfirewall_policy=0\n\n[rtp]\naudio_rtp_port={rtp}\n{rtp_lines}\n\
             {more}\n[audio_codec_0]\nmime={name}\nrate={clock}\nchannels={channels}\nenabled=1\n",
            six = u8::from(kind.six),
            info = u8::from(kind.info),
            events = u8::from(!kind.info),
            sip = kind.sip,
            rtp_lines = kind.rtp,
            more = kind.more,
            ca = at.join("ca.pem").display(),
            rtp = free_port() & !1,
            channels = if clock == 48_000 { 2 } else { 1 },
        );
        std::fs::write(at.join("rc"), rc).expect("the configuration");
        let log = std::fs::File::create(at.join("out")).expect("the log");
        let mut child = Command::new("linphonec")
            .args(["-d", "5", "-l"])
            .arg(at.join("log"))
            .arg("-c")
            .arg(at.join("rc"))
            .env("HOME", at)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("linphonec starts");
        let input = child.stdin.take().expect("its input");
        let mut linphone = Linphone { child, input, dir };
        linphone.said("linphonec>");
        linphone.say("soundcard use files");
        linphone.say(&format!("record {}", linphone.dir.path().join("heard.wav").display()));
        linphone.say(&format!("play {}", linphone.dir.path().join("says.wav").display()));
        linphone
    }

    /// A command.
    pub fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("linphonec listens");
        self.input.flush().expect("linphonec listens");
        std::thread::sleep(Duration::from_millis(400));
    }

    /// Everything it has printed.
    pub fn out(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("out")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until it has printed `text`.
    pub fn said(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.out().contains(text) {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let errors: Vec<&str> = log
                .lines()
                .filter(|line| {
                    line.starts_with("SIP/2.0 ")
                        || line.starts_with("Warning:")
                        || line.starts_with("m=")
                        || line.starts_with("c=")
                        || line.starts_with("a=")
                })
                .take(30)
                .collect();
            assert!(Instant::now() < until, "linphonec never says {text:?}: {} {errors:?}", self.out());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it has written down, SIP messages among it.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What it has heard so far.
    pub fn heard(&self) -> Vec<i16> {
        let path: PathBuf = self.dir.path().join("heard.wav");
        let bytes = std::fs::read(path).unwrap_or_default();
        // The header is only right once the call is over; the samples are there.
        bytes.get(44..).unwrap_or_default().chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect()
    }
}

impl Drop for Linphone {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let telling = |line: &&str| {
                line.to_ascii_lowercase().contains("dtls")
                    || line.contains("ertificate")
                    || line.starts_with("a=")
                    || line.starts_with("SIP/2.0 ")
            };
            eprintln!("linphone's words:\n{}", log.lines().filter(telling).collect::<Vec<_>>().join("\n"));
        }
        let _ = writeln!(self.input, "quit");
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
