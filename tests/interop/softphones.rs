//! The telephones' cells: baresip or linphone calls through the node, baresip answers. What must be there is sound both
//! ways, and no key where keys are masked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::LazyLock;
use std::time::Duration;

use tonewall::testkit::keys::{Form, frequencies, typed};
use tonewall::testkit::leak::Attackers;

use crate::common::{Plan, Running, free_address, restrict};
use crate::linphone::{self, Linphone};
use crate::phone::{Baresip, Kind, port, sounds, tone};
use crate::pki::{Authority, Wish};
use crate::process::Sipp;
use crate::script::{AUDIO, Script};
use crate::signalling::{self, Part, challenged, probing, six, tls_side, until_targets};
use crate::tables::Peer;

const CALLER_HZ: f64 = 440.0;
const AGENT_HZ: f64 = 600.0;
const SECOND_HZ: f64 = 700.0;
const KEYS: &str = "424242";

/// A codec by its names.
#[derive(Clone, Copy, PartialEq)]
enum Codec {
    Pcmu,
    G722,
    Opus,
}

impl Codec {
    /// baresip's name, and the rate of its files in Hz.
    fn baresip(self) -> (&'static str, u32) {
        match self {
            Codec::Pcmu => ("pcmu", 8_000),
            Codec::G722 => ("G722", 16_000),
            Codec::Opus => ("opus", 48_000),
        }
    }

    /// linphone's name and clock.
    fn linphone(self) -> (&'static str, u32) {
        match self {
            Codec::Pcmu => ("PCMU", 8_000),
            Codec::G722 => ("G722", 8_000),
            Codec::Opus => ("opus", 48_000),
        }
    }

    fn ours(self) -> &'static str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::G722 => "G722",
            Codec::Opus => "opus",
        }
    }
}

/// Who takes calls at the PBX's first address.
#[derive(Clone, Copy, PartialEq)]
enum Agent {
    /// baresip, by itself.
    Answers,
    /// baresip, when told.
    Waits,
    /// baresip, with early media, and for good when told.
    Early,
    /// Nobody of ours: the cell brings its own.
    None,
}

/// How a call is made.
#[derive(Clone)]
struct Call {
    peer: Peer,
    transport: &'static str,
    /// The caller's and the agent's.
    codecs: [Codec; 2],
    /// `sdes` or `dtls`, or nothing, of caller and agent.
    srtp: [&'static str; 2],
    guard: &'static str,
    agent: Agent,
    /// What the agent is called by.
    number: &'static str,
    six: bool,
    /// What the caller says instead of a sine.
    says: Option<Vec<i16>>,
    /// More of baresip's account and its configuration, where it calls.
    baresip: [&'static str; 2],
    /// More of linphone's `[sip]` and `[rtp]` sections, and further sections.
    linphone: [&'static str; 3],
    /// Keys go by INFO.
    info: bool,
    /// SIPp has a call up before this one.
    occupied: bool,
    /// What is asked of the node beside.
    plan: Plan,
}

impl Call {
    fn by(peer: Peer) -> Call {
        Call {
            peer,
            transport: "udp",
            codecs: [Codec::Pcmu; 2],
            srtp: ["", ""],
            guard: "signal",
            agent: Agent::Answers,
            number: "5551000",
            six: false,
            says: None,
            baresip: ["", ""],
            linphone: ["", "", ""],
            info: false,
            occupied: false,
            plan: Plan::new(),
        }
    }

    /// The agent as baresip.
    fn agent(&self, user: &'static str, port: u16, hz: f64) -> Baresip {
        let kind = Kind {
            user,
            codec: self.codecs[1].baresip(),
            encryption: if self.srtp[1].is_empty() { "" } else { "srtp-mand" },
            early: self.agent == Agent::Early,
            traces: true,
            ..Kind::default()
        };
        Baresip::start_as(port, hz, matches!(self.agent, Agent::Answers | Agent::Early), &kind)
    }

    /// The node and both telephones; the caller has dialled.
    fn start(&self) -> Scene {
        let own = if self.six { IpAddr::from(Ipv6Addr::LOCALHOST) } else { IpAddr::from(Ipv4Addr::LOCALHOST) };
        // linphone may keep its own port; a TLS client's is not known before, and TLS alone tells whose call it is.
        let at = SocketAddr::new(own, port());
        let mut plan = self.plan.clone();
        (plan.transport, plan.pbx_transport, plan.guard) = (self.transport, Some("udp"), self.guard);
        (plan.carrier, plan.carrier_media) = (at, media());
        let agent = (self.agent != Agent::None).then(|| {
            let port = port();
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            match plan.more_pbx.is_empty() {
                true => plan.pbx = at,
                false => plan.more_pbx.push(at),
            }
            self.agent(self.number, port, AGENT_HZ)
        });
        for side in 0..2 {
            let mut lines = format!("codecs = [\"{}\"]\n", self.codecs[side].ours());
            match self.srtp[side] {
                "" => {}
                "dtls" => lines.push_str("srtp = \"required\"\nsrtp_keying = \"dtls\"\n"),
                "gcm" => lines.push_str("srtp = \"required\"\nsrtp_suites = [\"AEAD_AES_256_GCM\"]\n"),
                _ => lines.push_str("srtp = \"required\"\n"),
            }
            // linphone names its machine's address and sends to us from another: its address must be learnt.
            if side == 0 && self.peer == Peer::Linphone {
                lines.push_str("latch = true\n");
            }
            // A handshake is taken from the signalled address only: our media is there too.
            let own = own_addresses().iter().find(|ip| ip.is_ipv4());
            if let (0, "dtls", Some(own)) = (side, self.srtp[side], own) {
                plan.listeners[side].push_str(&format!("media_address = \"{own}\"\n"));
            }
            plan.trunks[side].insert_str(0, &lines);
        }
        let authority = (self.transport == "tls").then(|| tls_side(&mut plan, 0, false));
        let node = Running::start(&plan);
        let others = self.occupied.then(|| signalling::occupy(&node, plan.pbx));
        let mut caller = self.caller(at.port(), &node, authority);
        let transport = if self.transport == "udp" { String::new() } else { format!(";transport={}", self.transport) };
        caller.dial(&format!("sip:5551000@{}{transport}", node.carrier_side));
        Scene { node, agent, caller, codecs: self.codecs, masked: self.guard == "always", _others: others }
    }

    fn caller(&self, port: u16, node: &Running, authority: Option<Authority>) -> Box<dyn Telephone> {
        if self.peer == Peer::Linphone {
            let kind = linphone::Kind {
                codec: self.codecs[0].linphone(),
                encryption: match self.srtp[0] {
                    "" => "none",
                    "dtls" => "dtls",
                    _ => "srtp",
                },
                authority: authority.map(|authority| authority.pem()),
                identity: (self.srtp[0] == "dtls").then(identity),
                info: self.info,
                six: self.six,
                sip: self.linphone[0],
                rtp: self.linphone[1],
                more: self.linphone[2],
                says: self.says.clone(),
            };
            return Box::new(Linphone::start(port, CALLER_HZ, &kind));
        }
        let dir = node.dir.path();
        let tls = authority.map(|authority| {
            let own = authority.sign(Wish::of(&["peer.example"]));
            let file = dir.join("caller.pem");
            std::fs::write(&file, format!("{}{}", own.chain, own.key)).expect("written");
            restrict(&file);
            (file, dir.join("ca.pem"))
        });
        let kind = Kind {
            codec: self.codecs[0].baresip(),
            encryption: if self.srtp[0].is_empty() { "" } else { "srtp-mand" },
            transport: match self.transport {
                "tcp" => ";transport=tcp",
                "tls" => ";transport=tls",
                _ => "",
            },
            tls,
            six: self.six,
            account: self.baresip[0],
            config: self.baresip[1],
            traces: true,
            says: self.says.clone(),
            ..Kind::default()
        };
        Box::new(Baresip::start_as(port, CALLER_HZ, false, &kind))
    }

    /// A call of some seconds; keys are pressed when the node guards and the caller does not say them. Gives what the
    /// agent has printed.
    fn talk(&self) -> String {
        let mut scene = self.start();
        scene.caller.established();
        wait(2_500);
        if scene.masked && self.says.is_none() {
            scene.caller.press(KEYS);
            wait(1_000);
        }
        scene.finish(self.says.is_some())
    }
}

/// A certificate of an elliptic curve and its key.
fn identity() -> String {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut wish = rcgen::CertificateParams::default();
    // linphone looks for it by this name.
    wish.distinguished_name = rcgen::DistinguishedName::new();
    wish.distinguished_name.push(rcgen::DnType::CommonName, "linphone-dtls-default-identity");
    let certificate = wish.self_signed(&key).expect("a certificate");
    format!("{}{}", key.serialize_pem(), certificate.pem())
}

/// A call under way.
struct Scene {
    node: Running,
    agent: Option<Baresip>,
    caller: Box<dyn Telephone>,
    codecs: [Codec; 2],
    masked: bool,
    _others: Option<[Sipp; 2]>,
}

impl Scene {
    fn agent(&self) -> &Baresip {
        self.agent.as_ref().expect("an agent")
    }

    /// The caller hangs up; each must have heard the other, and the agent no key where they are masked.
    fn finish(self, keys_only: bool) -> String {
        let Scene { node, agent, mut caller, codecs, masked, .. } = self;
        let agent = agent.expect("an agent");
        caller.hang_up();
        agent.said("session closed");
        let log = agent.log();
        assert_eq!(log.matches("received event").count(), 0, "keys reach the agent: {log}");
        let heard = agent.heard();
        if masked {
            assert!(Attackers::new().listen(&heard).nothing_decoded(), "keys are heard by the agent");
        }
        if !keys_only {
            assert_heard("the agent", &heard, CALLER_HZ, codecs[1].baresip().1);
        }
        caller.hears(AGENT_HZ, codecs[0].baresip().1);
        drop(node);
        log
    }
}

/// What a cell does with the telephone that calls.
trait Telephone {
    fn dial(&mut self, target: &str);
    fn established(&self);
    /// The call was not taken.
    fn refused(&self);
    /// The other side has ended the call.
    fn ended(&self);
    fn press(&mut self, keys: &str);
    fn hold(&mut self);
    fn resume(&mut self);
    fn hang_up(&mut self);
    /// Whether the last thing it has heard is a sine of `hz`, in a file of that rate.
    fn hears(self: Box<Self>, hz: f64, rate: u32);
    /// What it has written down, SIP messages among it.
    fn log(&self) -> String;
}

impl Telephone for Baresip {
    fn dial(&mut self, target: &str) {
        self.command("dial", target);
    }

    fn established(&self) {
        self.said("Call established");
    }

    fn refused(&self) {
        self.said("session closed");
        assert!(!Baresip::log(self).contains("Call established"));
    }

    fn ended(&self) {
        self.said("session closed");
    }

    fn press(&mut self, keys: &str) {
        self.key(keys);
    }

    fn hold(&mut self) {
        self.command("hold", "");
    }

    fn resume(&mut self) {
        self.command("resume", "");
    }

    fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    fn hears(self: Box<Self>, hz: f64, rate: u32) {
        assert_heard("the caller", &self.heard(), hz, rate);
    }

    fn log(&self) -> String {
        Baresip::log(self)
    }
}

impl Telephone for Linphone {
    fn dial(&mut self, target: &str) {
        self.say(&format!("call {target}"));
    }

    fn established(&self) {
        self.said("connected.");
    }

    fn refused(&self) {
        self.said("error.");
    }

    fn ended(&self) {
        self.said("ended");
    }

    fn press(&mut self, keys: &str) {
        for key in keys.chars() {
            self.say(&key.to_string());
        }
    }

    fn hold(&mut self) {
        self.say("pause");
    }

    fn resume(&mut self) {
        self.say("resume 1");
    }

    fn hang_up(&mut self) {
        self.say("terminate");
    }

    fn hears(self: Box<Self>, _: f64, _: u32) {
        // Its file writer drops and stretches samples on a busy machine: that there is sound must do.
        assert!(self.heard().iter().any(|sample| sample.unsigned_abs() > 500), "the caller hears nothing");
    }

    fn log(&self) -> String {
        Linphone::log(self)
    }
}

/// The addresses this machine would be seen at, one of each family: linphone names them, wherever it is bound.
fn own_addresses() -> &'static [IpAddr] {
    static OWN: LazyLock<Vec<IpAddr>> = LazyLock::new(|| {
        // Sends nothing; asks which address would be used toward the documentation networks.
        let own = |any: &str, far: &str| {
            let socket = UdpSocket::bind(any).ok()?;
            socket.connect(far).ok()?;
            socket.local_addr().ok().map(|at| at.ip())
        };
        [own("0.0.0.0:0", "198.51.100.1:9"), own("[::]:0", "[2001:db8::1]:9")].into_iter().flatten().collect()
    });
    &OWN
}

/// Where telephones may be.
fn media() -> &'static str {
    static MEDIA: LazyLock<String> = LazyLock::new(|| {
        let network = |ip: &IpAddr| format!("\", \"{ip}/{}", if ip.is_ipv4() { 32 } else { 128 });
        "127.0.0.0/8\", \"::1/128".to_owned() + &own_addresses().iter().map(network).collect::<String>()
    });
    &MEDIA
}

fn wait(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn assert_heard(whose: &str, heard: &[i16], hz: f64, rate: u32) {
    let loudest = heard.iter().map(|sample| sample.unsigned_abs()).max();
    assert!(
        sounds(heard, hz * 8_000.0 / f64::from(rate)),
        "{whose} hears nothing of the other side in {} samples, the loudest {loudest:?}",
        heard.len()
    );
}

/// A card's keys as tones, with silence around them, again and again; 8 kHz.
pub fn keyed_tones() -> Vec<i16> {
    let mut samples = Vec::new();
    while samples.len() < 60 * 8_000 {
        for press in typed("4242424242424242", Form::Tone, 100, 100) {
            let (row, column) = frequencies(&press.digit);
            samples.extend((0..800).map(|n| tone(row, n).saturating_add(tone(column, n))));
            samples.extend([0; 800]);
        }
        samples.extend([0; 4_000]);
    }
    samples
}

pub fn udp(peer: Peer) {
    Call::by(peer).talk();
}

pub fn tcp(peer: Peer) {
    Call { transport: "tcp", ..Call::by(peer) }.talk();
}

pub fn tls(peer: Peer) {
    Call { transport: "tls", ..Call::by(peer) }.talk();
}

pub fn ipv6(peer: Peer) {
    Call { six: true, plan: six(), ..Call::by(peer) }.talk();
}

pub fn srtp(peer: Peer) {
    Call { srtp: ["sdes", ""], ..Call::by(peer) }.talk();
}

/// Each leg has its own suite and keys.
pub fn srtp_both(peer: Peer) {
    let log = Call { srtp: ["sdes", "gcm"], guard: "always", ..Call::by(peer) }.talk();
    assert!(log.contains("SRTP is Enabled (cryptosuite=AEAD_AES_256_GCM)"), "{log}");
}

pub fn dtls(peer: Peer) {
    Call { srtp: ["dtls", ""], guard: "always", ..Call::by(peer) }.talk();
}

pub fn tls_srtp(peer: Peer) {
    Call { transport: "tls", srtp: ["sdes", ""], guard: "always", ..Call::by(peer) }.talk();
}

pub fn events_masked(peer: Peer) {
    Call { guard: "always", ..Call::by(peer) }.talk();
}

pub fn info_masked(peer: Peer) {
    let mut scene = Call { guard: "always", info: true, ..Call::by(peer) }.start();
    scene.caller.established();
    wait(2_000);
    scene.caller.press(KEYS);
    wait(500);
    assert!(scene.caller.log().contains("INFO sip:"), "{}", scene.caller.log());
    let log = scene.finish(false);
    assert!(!log.contains("INFO sip:"), "keys reach the agent: {log}");
}

pub fn info(peer: Peer) {
    let mut scene = Call { info: true, ..Call::by(peer) }.start();
    scene.caller.established();
    wait(2_000);
    scene.caller.press(KEYS);
    scene.agent().said("INFO sip:");
    wait(500);
    scene.finish(false);
}

pub fn tones_masked(peer: Peer) {
    Call { guard: "always", says: Some(keyed_tones()), ..Call::by(peer) }.talk();
}

pub fn g722(peer: Peer) {
    Call { codecs: [Codec::G722; 2], guard: "always", ..Call::by(peer) }.talk();
}

pub fn opus(peer: Peer) {
    Call { codecs: [Codec::Opus; 2], guard: "always", ..Call::by(peer) }.talk();
}

/// The customer's codec and the agent's differ: the sound is coded anew.
pub fn coded_anew(peer: Peer) {
    Call { codecs: [Codec::G722, Codec::Pcmu], guard: "always", ..Call::by(peer) }.talk();
    Call { codecs: [Codec::Opus, Codec::Pcmu], ..Call::by(peer) }.talk();
}

pub fn packets_of_30_ms(peer: Peer) {
    let linphone = ["", "upload_ptime=30\ndownload_ptime=30", ""];
    Call { guard: "always", baresip: [";ptime=30", ""], linphone, ..Call::by(peer) }.talk();
}

/// RTP and RTCP on one port, where the caller offers it.
pub fn one_port(peer: Peer) {
    let linphone = ["", "rtcp_mux=1", ""];
    Call { baresip: ["", "rtcp_mux yes\n"], linphone, ..Call::by(peer) }.talk();
}

pub fn early_media(peer: Peer) {
    let scene = Call { agent: Agent::Early, ..Call::by(peer) }.start();
    scene.agent().said("SIP/2.0 183 ");
    wait(1_500);
    let log = scene.caller.log();
    assert!(log.contains("SIP/2.0 183"), "no early media is announced: {log}");
    scene.agent().accept();
    scene.caller.established();
    wait(1_500);
    scene.finish(false);
}

/// A telephone of SIPp's is called.
fn to_sipp(call: &Call, called: Script) {
    let mut call = call.clone();
    (call.agent, call.plan.pbx) = (Agent::None, free_address());
    let dir = tempfile::tempdir().expect("a directory");
    let called = Part::from(called).start(dir.path(), "called", call.plan.pbx, None, &[]);
    wait(300);
    let mut scene = call.start();
    scene.caller.established();
    wait(500);
    scene.caller.hang_up();
    called.succeeds();
}

fn hung_up_on(script: Script) -> Script {
    script.takes("ACK", &[]).takes("BYE", &[]).agrees("")
}

/// Two of the PBX's telephones ring with media of their own; the second one answers.
pub fn forked(peer: Peer) {
    let called = Script::called()
        .takes("INVITE", &[])
        .answer_as("first[call_number]", "183 Session Progress", "", AUDIO)
        .pause(300)
        .answer_as("second[call_number]", "183 Session Progress", "", AUDIO)
        .pause(300)
        .answer_as("second[call_number]", "200 OK", "", AUDIO);
    to_sipp(&Call::by(peer), hung_up_on(called));
}

/// The caller says nothing of media in its INVITE; the agent offers.
pub fn late_offer(peer: Peer) {
    let linphone = ["sdp_200_ack=1", "", ""];
    let log = Call { linphone, ..Call::by(peer) }.talk();
    assert!(log.contains("INVITE sip:"), "{log}");
}

/// 100rel toward the caller, which asks for it.
pub fn reliable(peer: Peer) {
    let mut call = Call { agent: Agent::Early, linphone: ["100rel_support_level=2", "", ""], ..Call::by(peer) };
    call.plan.trunks[0].push_str("reliable = \"required\"\n");
    let scene = call.start();
    scene.agent().said("SIP/2.0 183 ");
    wait(1_500);
    let log = scene.caller.log();
    assert!(log.contains("PRACK sip:"), "no PRACK: {log}");
    scene.agent().accept();
    scene.caller.established();
    wait(1_500);
    scene.finish(false);
}

pub fn session_timer(peer: Peer) {
    let linphone = ["session_expires_enabled=1\nsession_expires_value=200\nsession_expires_min_value=90", "", ""];
    let scene = Call { linphone, ..Call::by(peer) }.start();
    scene.caller.established();
    let log = scene.caller.log();
    let agreed = |line: &str| line.to_ascii_lowercase().starts_with("session-expires: 200;refresher=");
    assert!(log.lines().any(agreed), "no session timer is agreed on: {log}");
    wait(1_500);
    scene.finish(false);
}

/// The PBX sends the call to another number, which is called through our routes.
pub fn redirected(peer: Peer, how: &'static str) {
    let (mut plan, second) = signalling::two_pbxs(how);
    plan.pbx = free_address();
    let dir = tempfile::tempdir().expect("a directory");
    let first = Part::from(signalling::redirects()).start(dir.path(), "first", plan.pbx, None, &[]);
    let call = Call { agent: Agent::None, plan, ..Call::by(peer) };
    let answering = Call { agent: Agent::Answers, ..call.clone() };
    let agent = answering.agent("5552000", second.port(), AGENT_HZ);
    wait(300);
    let mut scene = call.start();
    scene.agent = Some(agent);
    first.succeeds();
    scene.agent().said("Call established");
    wait(2_000);
    scene.finish(false);
}

pub fn redirect_followed(peer: Peer) {
    redirected(peer, "redirect = \"follow\"\n");
}

pub fn redirect_passed(peer: Peer) {
    redirected(peer, "redirect = \"pass\"\n");
}

/// The first target says 503, the second nothing, the third is the agent.
pub fn failover(peer: Peer) {
    let silent = free_address();
    let _nobody = UdpSocket::bind(silent).expect("a port");
    let mut plan = Plan { pbx: free_address(), more_pbx: vec![silent], ..Plan::new() };
    plan.trunks[1].push_str("failover_ms = 700\n");
    let dir = tempfile::tempdir().expect("a directory");
    let first: Sipp = Part::from(signalling::unavailable()).start(dir.path(), "first", plan.pbx, None, &[]);
    wait(300);
    Call { plan, ..Call::by(peer) }.talk();
    first.succeeds();
}

pub fn cancel(peer: Peer) {
    let mut scene = Call { agent: Agent::Waits, ..Call::by(peer) }.start();
    scene.agent().said("Incoming call");
    scene.caller.hang_up();
    scene.agent().said("session closed");
}

pub fn busy(peer: Peer) {
    let scene = Call { agent: Agent::Waits, ..Call::by(peer) }.start();
    scene.agent().said("Incoming call");
    scene.agent().command("hangup", "");
    scene.caller.refused();
}

pub fn agent_hangs_up(peer: Peer) {
    let scene = Call::by(peer).start();
    scene.caller.established();
    wait(500);
    scene.agent().command("hangup", "");
    scene.caller.ended();
}

pub fn hold(peer: Peer) {
    let mut scene = Call::by(peer).start();
    scene.caller.established();
    wait(500);
    scene.caller.hold();
    wait(1_000);
    scene.caller.resume();
    wait(2_500);
    scene.finish(false);
}

pub fn agent_holds(peer: Peer) {
    let scene = Call::by(peer).start();
    scene.caller.established();
    wait(500);
    scene.agent().command("hold", "");
    wait(1_000);
    scene.agent().command("resume", "");
    wait(2_500);
    scene.finish(false);
}

/// The agent sends the customer on to a second agent by REFER; the customer's keys stay masked.
pub fn refer(peer: Peer) {
    let (plan, second) = signalling::two_pbxs("refer = \"terminate\"\n");
    let call = Call { plan, guard: "always", ..Call::by(peer) };
    let other = call.agent("5552000", second.port(), SECOND_HZ);
    let mut scene = call.start();
    scene.caller.established();
    wait(1_000);
    scene.agent().command("transfer", "sip:5552000@pbx.example");
    scene.agent().said("terminated (duration");
    other.said("Call established");
    wait(3_000);
    scene.caller.press(KEYS);
    wait(1_000);
    scene.caller.hang_up();
    other.said("session closed");
    assert_eq!(other.log().matches("received event").count(), 0, "keys reach the second agent");
    let heard = other.heard();
    assert_heard("the second agent", &heard, CALLER_HZ, 8_000);
    assert!(Attackers::new().listen(&heard).nothing_decoded());
    scene.caller.hears(SECOND_HZ, 8_000);
}

pub fn numbers(peer: Peer) {
    let plan = Plan { route: signalling::TRANSLATED, ..Plan::new() };
    let log = Call { plan, number: "+441000", ..Call::by(peer) }.talk();
    assert!(log.contains("INVITE sip:+441000@") && log.contains("<sip:+1999@"), "{log}");
}

/// What the caller's telephone calls itself is copied into a header of the agent's INVITE; another is set.
pub fn headers(peer: Peer) {
    let mut call = Call::by(peer);
    call.plan.trunks[1].push_str(
        "[[trunk.header]]\ndo = \"copy\"\nname = \"X-Telephone\"\nfrom = \"User-Agent\"\nmatch = \"(?<name>[A-Za-z]+)\"\n\
         value = \"a ${name}\"\n[[trunk.header]]\ndo = \"set\"\nname = \"X-Box\"\nvalue = \"tonewall\"\n",
    );
    let log = call.talk();
    let name = if peer == Peer::Linphone { "X-Telephone: a Linphone" } else { "X-Telephone: a baresip" };
    let found = |line: &str| log.lines().any(|of| of.to_ascii_lowercase().starts_with(&line.to_ascii_lowercase()));
    assert!(found(name) && found("X-Box: tonewall"), "{log}");
}

pub fn password_asked(peer: Peer) {
    let linphone =
        ["", "", "[auth_info_0]\nusername=customer\nuserid=customer\npasswd=correct-horse-42\nrealm=tonewall\n"];
    let baresip = [";auth_user=customer;auth_pass=correct-horse-42", ""];
    Call { plan: challenged(peer), baresip, linphone, ..Call::by(peer) }.talk();
}

/// The telephone, as the carrier's only target, is asked whether it is there.
pub fn probes(peer: Peer) {
    let mut call = Call { agent: Agent::None, plan: probing(), ..Call::by(peer) };
    call.plan.pbx = free_address();
    let scene = call.start();
    until_targets(&scene.node, "carrier", 1);
    let Scene { node, caller, .. } = scene;
    drop(caller);
    until_targets(&node, "carrier", 0);
}

/// One call is up on a trunk that may have one: this one is refused.
pub fn full(peer: Peer) {
    let mut call = Call { agent: Agent::None, occupied: true, ..Call::by(peer) };
    call.plan.trunks[1].push_str("max_calls = 1\n");
    call.plan.pbx = free_address();
    call.start().caller.refused();
}

/// The agent keys the code that begins a masked stretch: keys come through before, and none after.
pub fn star_code(peer: Peer) {
    let mut call = Call::by(peer);
    call.plan.trunks[1].push_str("[trunk.star_codes]\nbegin = \"*71\"\nend = \"*72\"\n");
    let mut scene = call.start();
    scene.caller.established();
    wait(1_000);
    scene.caller.press("42");
    wait(1_000);
    let before = scene.agent().log().matches("received event").count();
    assert!(before >= 2, "keys pass before the code: {}", scene.agent().log());
    scene.agent().key("*71");
    wait(500);
    scene.caller.press(KEYS);
    wait(1_000);
    assert_eq!(scene.agent().log().matches("received event").count(), before, "keys reach the agent");
    scene.caller.hang_up();
    scene.agent().said("session closed");
}
