//! The telephones' cells: baresip or linphone calls through the node, baresip answers. What must be there is sound both
//! ways, and no key where keys are masked.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use tonewall::testkit::leak::Attackers;

use crate::common::{Plan, Running, restrict};
use crate::linphone::Linphone;
use crate::phone::{Baresip, Kind, PATIENCE, port, sounds};
use crate::pki::{Authority, Wish};
use crate::tables::tls_side;

const CALLER_HZ: f64 = 440.0;
const AGENT_HZ: f64 = 600.0;

/// How a call is made.
struct Call {
    transport: &'static str,
    /// baresip's name and rate, linphone's name and clock, ours.
    codec: (&'static str, u32),
    linphone_codec: (&'static str, u32),
    ours: &'static str,
    guard: &'static str,
    srtp: bool,
    answers: bool,
}

impl Call {
    const PLAIN: Call = Call {
        transport: "udp",
        codec: ("pcmu", 8_000),
        linphone_codec: ("PCMU", 8_000),
        ours: "PCMU",
        guard: "signal",
        srtp: false,
        answers: true,
    };

    /// The node, its agent, and the authority that vouches for it where there is TLS.
    fn begin(&self, caller: u16) -> (Running, Baresip, Option<Authority>) {
        let kind = Kind { codec: self.codec, ..Kind::default() };
        let agent = Baresip::start_as(port(), AGENT_HZ, self.answers, &kind);
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut plan = Plan {
            transport: self.transport,
            pbx_transport: Some("udp"),
            carrier: local(caller),
            carrier_media: media(),
            pbx: local(agent.port),
            guard: self.guard,
            ..Plan::new()
        };
        let codecs = format!("codecs = [\"{}\"]\n", self.ours);
        // linphone names its machine's address and sends from another: its address must be learnt.
        plan.trunks = [format!("{codecs}latch = true\n"), codecs];
        if self.srtp {
            plan.trunks[0].push_str("srtp = \"required\"\n");
        }
        let authority = (self.transport == "tls").then(|| tls_side(&mut plan, 0, false));
        let node = Running::start(&plan);
        (node, agent, authority)
    }

    fn target(&self, node: &Running) -> String {
        let transport = if self.transport == "udp" { String::new() } else { format!(";transport={}", self.transport) };
        format!("sip:phone@{}{transport}", node.carrier_side)
    }
}

/// Where telephones may be: linphone names its machine's own address, wherever it is bound.
fn media() -> &'static str {
    static MEDIA: LazyLock<String> = LazyLock::new(|| {
        let own = || {
            let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
            // Sends nothing; asks which address would be used toward the documentation network.
            socket.connect("198.51.100.1:9").ok()?;
            socket.local_addr().ok().map(|at| at.ip())
        };
        own().map_or_else(|| "127.0.0.0/8".to_owned(), |ip| format!("127.0.0.0/8\", \"{ip}/32"))
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

/// What baresip writes files at, Hz.
fn rate(call: &Call) -> u32 {
    call.codec.1
}

pub mod baresip {
    use super::*;

    fn start(call: &Call) -> (Running, Baresip, Baresip) {
        let at = port();
        let (node, agent, authority) = call.begin(at);
        let dir = node.dir.path();
        let tls: Option<(PathBuf, PathBuf)> = authority.map(|authority| {
            let own = authority.sign(Wish::of(&["peer.example"]));
            let file = dir.join("caller.pem");
            std::fs::write(&file, format!("{}{}", own.chain, own.key)).expect("written");
            restrict(&file);
            (file, dir.join("ca.pem"))
        });
        let transport = match call.transport {
            "tcp" => ";transport=tcp",
            "tls" => ";transport=tls",
            _ => "",
        };
        let encryption = if call.srtp { "srtp-mand" } else { "" };
        let kind = Kind { codec: call.codec, encryption, transport, tls };
        let caller = Baresip::start_as(at, CALLER_HZ, false, &kind);
        caller.command("dial", &call.target(&node));
        (node, agent, caller)
    }

    /// A call of some seconds; keys are pressed when the node guards.
    fn talk(call: &Call) {
        let (node, agent, caller) = start(call);
        caller.said("Call established");
        wait(2_500);
        if call.guard == "always" {
            caller.key("424242");
            wait(1_000);
        }
        caller.command("hangup", "");
        agent.said("session closed");
        assert_eq!(agent.log().matches("received event").count(), 0, "keys reach the agent: {}", agent.log());
        let heard = agent.heard();
        assert_heard("the agent", &heard, CALLER_HZ, rate(call));
        if call.guard == "always" {
            assert!(Attackers::new().listen(&heard).nothing_decoded());
        }
        assert_heard("the caller", &caller.heard(), AGENT_HZ, rate(call));
        drop(node);
    }

    pub fn udp() {
        talk(&Call::PLAIN);
    }

    pub fn tcp() {
        talk(&Call { transport: "tcp", ..Call::PLAIN });
    }

    pub fn tls() {
        talk(&Call { transport: "tls", ..Call::PLAIN });
    }

    pub fn srtp() {
        talk(&Call { srtp: true, ..Call::PLAIN });
    }

    pub fn tls_srtp() {
        talk(&Call { transport: "tls", srtp: true, guard: "always", ..Call::PLAIN });
    }

    pub fn masked() {
        talk(&Call { guard: "always", ..Call::PLAIN });
    }

    pub fn g722() {
        talk(&Call { codec: ("G722", 16_000), ours: "G722", ..Call::PLAIN });
    }

    pub fn opus() {
        talk(&Call { codec: ("opus", 48_000), ours: "opus", ..Call::PLAIN });
    }

    pub fn cancel() {
        let (_node, agent, caller) = start(&Call { answers: false, ..Call::PLAIN });
        agent.said("Incoming call");
        caller.command("hangup", "");
        agent.said("session closed");
    }

    pub fn busy() {
        let (_node, agent, caller) = start(&Call { answers: false, ..Call::PLAIN });
        agent.said("Incoming call");
        agent.command("hangup", "");
        caller.said("session closed");
        assert!(!caller.log().contains("Call established"));
    }

    pub fn agent_hangs_up() {
        let (_node, agent, caller) = start(&Call::PLAIN);
        caller.said("Call established");
        wait(500);
        agent.command("hangup", "");
        caller.said("session closed");
    }

    pub fn hold() {
        let (_node, agent, caller) = start(&Call::PLAIN);
        caller.said("Call established");
        wait(500);
        caller.command("hold", "");
        wait(1_000);
        caller.command("resume", "");
        wait(2_500);
        caller.command("hangup", "");
        agent.said("session closed");
        assert_heard("the agent", &agent.heard(), CALLER_HZ, 8_000);
        assert_heard("the caller", &caller.heard(), AGENT_HZ, 8_000);
    }
}

pub mod linphone {
    use super::*;

    fn start(call: &Call) -> (Running, Baresip, Linphone) {
        // A TLS client's port is not known before, and TLS alone tells whose call it is.
        let placeholder = port();
        let (node, agent, authority) = call.begin(placeholder);
        let pem = authority.map(|authority| authority.pem());
        let encryption = if call.srtp { "srtp" } else { "none" };
        let mut caller = Linphone::start(call.linphone_codec, encryption, pem.as_deref(), CALLER_HZ);
        caller.say(&format!("call {}", call.target(&node)));
        (node, agent, caller)
    }

    fn connected(caller: &Linphone) {
        caller.said("connected.");
    }

    fn talk(call: &Call) {
        let (_node, agent, mut caller) = start(call);
        connected(&caller);
        wait(2_500);
        if call.guard == "always" {
            for key in "424242".chars() {
                caller.say(&key.to_string());
            }
            wait(1_000);
        }
        let heard_there = caller.heard();
        caller.say("terminate");
        agent.said("session closed");
        assert_eq!(agent.log().matches("received event").count(), 0, "keys reach the agent: {}", agent.log());
        let heard = agent.heard();
        assert_heard("the agent", &heard, CALLER_HZ, rate(call));
        if call.guard == "always" {
            assert!(Attackers::new().listen(&heard).nothing_decoded());
        }
        assert!(heard_there.iter().any(|sample| sample.unsigned_abs() > 500), "the caller hears nothing");
    }

    pub fn udp() {
        talk(&Call::PLAIN);
    }

    pub fn tcp() {
        talk(&Call { transport: "tcp", ..Call::PLAIN });
    }

    pub fn tls() {
        talk(&Call { transport: "tls", ..Call::PLAIN });
    }

    pub fn srtp() {
        talk(&Call { srtp: true, ..Call::PLAIN });
    }

    pub fn tls_srtp() {
        talk(&Call { transport: "tls", srtp: true, guard: "always", ..Call::PLAIN });
    }

    pub fn masked() {
        talk(&Call { guard: "always", ..Call::PLAIN });
    }

    pub fn g722() {
        talk(&Call { codec: ("G722", 16_000), linphone_codec: ("G722", 8_000), ours: "G722", ..Call::PLAIN });
    }

    pub fn opus() {
        talk(&Call { codec: ("opus", 48_000), linphone_codec: ("opus", 48_000), ours: "opus", ..Call::PLAIN });
    }

    pub fn cancel() {
        let (_node, agent, mut caller) = start(&Call { answers: false, ..Call::PLAIN });
        agent.said("Incoming call");
        caller.say("terminate");
        agent.said("session closed");
    }

    pub fn busy() {
        let (_node, agent, caller) = start(&Call { answers: false, ..Call::PLAIN });
        agent.said("Incoming call");
        agent.command("hangup", "");
        caller.said("error.");
    }

    pub fn agent_hangs_up() {
        let (_node, agent, caller) = start(&Call::PLAIN);
        connected(&caller);
        agent.command("hangup", "");
        caller.said("ended");
    }

    pub fn hold() {
        let (_node, agent, mut caller) = start(&Call::PLAIN);
        connected(&caller);
        caller.say("pause");
        wait(1_000);
        caller.say("resume 1");
        wait(PATIENCE.as_millis() as u64 / 8);
        caller.say("terminate");
        agent.said("session closed");
        assert_heard("the agent", &agent.heard(), CALLER_HZ, 8_000);
    }
}
