//! How the telephones' cells make a call: what kind of call, who takes part, what must be heard, and what baresip and
//! linphone have in common.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::LazyLock;
use std::time::Duration;

use tonewall::testkit::keys::{Form, frequencies, typed};
use tonewall::testkit::leak::Attackers;

use crate::common::{Plan, Running, restrict};
use crate::linphone::{self, Linphone};
use crate::phone::{Baresip, Kind, port, sounds, tone};
use crate::pki::{Authority, Wish};
use crate::process::Sipp;
use crate::signalling::tls_side;
use crate::tables::Peer;
use crate::trunks;

pub const CALLER_HZ: f64 = 440.0;
pub const AGENT_HZ: f64 = 600.0;
pub const SECOND_HZ: f64 = 700.0;
pub const KEYS: &str = "424242";

/// A codec by its names.
#[derive(Clone, Copy, PartialEq)]
pub enum Codec {
    Pcmu,
    G722,
    Opus,
}

impl Codec {
    /// baresip's name, and the rate of its files in Hz.
    pub fn baresip(self) -> (&'static str, u32) {
        match self {
            Codec::Pcmu => ("pcmu", 8_000),
            Codec::G722 => ("G722", 16_000),
            Codec::Opus => ("opus", 48_000),
        }
    }

    /// linphone's name and clock.
    pub fn linphone(self) -> (&'static str, u32) {
        match self {
            Codec::Pcmu => ("PCMU", 8_000),
            Codec::G722 => ("G722", 8_000),
            Codec::Opus => ("opus", 48_000),
        }
    }

    pub fn ours(self) -> &'static str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::G722 => "G722",
            Codec::Opus => "opus",
        }
    }
}

/// Who takes calls at the PBX's first address.
#[derive(Clone, Copy, PartialEq)]
pub enum Agent {
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
pub struct Call {
    pub peer: Peer,
    pub transport: &'static str,
    /// The caller's and the agent's.
    pub codecs: [Codec; 2],
    /// `sdes` or `dtls`, or nothing, of caller and agent.
    pub srtp: [&'static str; 2],
    pub guard: &'static str,
    pub agent: Agent,
    /// What the agent is called by.
    pub number: &'static str,
    pub six: bool,
    /// What the caller says instead of a sine.
    pub says: Option<Vec<i16>>,
    /// More of baresip's account and its configuration, where it calls.
    pub baresip: [&'static str; 2],
    /// More of linphone's `[sip]` and `[rtp]` sections, and further sections.
    pub linphone: [&'static str; 3],
    /// Keys go by INFO.
    pub info: bool,
    /// SIPp has a call up before this one.
    pub occupied: bool,
    /// What is asked of the node beside.
    pub plan: Plan,
}

impl Call {
    pub fn by(peer: Peer) -> Call {
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
    pub fn agent(&self, user: &'static str, port: u16, hz: f64) -> Baresip {
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
    pub fn start(&self) -> Scene {
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
        let others = self.occupied.then(|| trunks::occupy(&node, plan.pbx));
        let mut caller = self.caller(at.port(), &node, authority);
        let transport = if self.transport == "udp" { String::new() } else { format!(";transport={}", self.transport) };
        caller.dial(&format!("sip:5551000@{}{transport}", node.carrier_side));
        Scene { node, agent, caller, codecs: self.codecs, masked: self.guard == "always", _others: others }
    }

    pub fn caller(&self, port: u16, node: &Running, authority: Option<Authority>) -> Box<dyn Telephone> {
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
    pub fn talk(&self) -> String {
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
pub fn identity() -> String {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut wish = rcgen::CertificateParams::default();
    // linphone looks for it by this name.
    wish.distinguished_name = rcgen::DistinguishedName::new();
    wish.distinguished_name.push(rcgen::DnType::CommonName, "linphone-dtls-default-identity");
    let certificate = wish.self_signed(&key).expect("a certificate");
    format!("{}{}", key.serialize_pem(), certificate.pem())
}

/// A call under way.
pub struct Scene {
    pub node: Running,
    pub agent: Option<Baresip>,
    pub caller: Box<dyn Telephone>,
    pub codecs: [Codec; 2],
    pub masked: bool,
    pub _others: Option<[Sipp; 2]>,
}

impl Scene {
    pub fn agent(&self) -> &Baresip {
        self.agent.as_ref().expect("an agent")
    }

    /// The caller hangs up; each must have heard the other, and the agent no key where they are masked.
    pub fn finish(self, keys_only: bool) -> String {
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
pub trait Telephone {
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
pub fn own_addresses() -> &'static [IpAddr] {
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
pub fn media() -> &'static str {
    static MEDIA: LazyLock<String> = LazyLock::new(|| {
        let network = |ip: &IpAddr| format!("\", \"{ip}/{}", if ip.is_ipv4() { 32 } else { 128 });
        "127.0.0.0/8\", \"::1/128".to_owned() + &own_addresses().iter().map(network).collect::<String>()
    });
    &MEDIA
}

pub fn wait(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

pub fn assert_heard(whose: &str, heard: &[i16], hz: f64, rate: u32) {
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
