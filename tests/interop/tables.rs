//! The rows of the matrix, and SIPp's cells.

use std::time::Duration;

use crate::common::{Plan, Running, free_address};
use crate::kamailio::Kamailio;
use crate::pki::{Authority, Wish};
use crate::process::Sipp;
use crate::softphones::{baresip, linphone};

/// One cell.
#[derive(Clone, Copy)]
pub enum Cell {
    /// Panics when it does not work.
    Run(fn()),
    /// The peer does not have it: why.
    No(&'static str),
}

use Cell::{No, Run};

/// One feature.
pub struct Row {
    pub name: &'static str,
    pub cells: [Cell; 4],
}

const NOT_IN_PHONES: Cell = No("not a thing its user can do");
const OLD: Cell = No("version 1.0 does not have it");

pub const ROWS: &[Row] = &[
    Row {
        name: "call over UDP",
        cells: [
            Run(|| sipp(Plan::new(), "basic")),
            Run(|| behind("udp", "basic")),
            Run(baresip::udp),
            Run(linphone::udp),
        ],
    },
    Row {
        name: "call over TCP",
        cells: [
            Run(|| sipp(Plan { transport: "tcp", ..Plan::new() }, "basic")),
            Run(|| behind("tcp", "basic")),
            Run(baresip::tcp),
            Run(linphone::tcp),
        ],
    },
    Row {
        name: "call over TLS",
        cells: [
            No("Debian builds it without TLS"),
            Run(|| behind("tls", "basic")),
            Run(baresip::tls),
            Run(linphone::tls),
        ],
    },
    Row {
        name: "early media",
        cells: [
            Run(|| sipp(Plan::new(), "early_media")),
            Run(|| behind("udp", "early_media")),
            NOT_IN_PHONES,
            NOT_IN_PHONES,
        ],
    },
    Row {
        name: "offer in the 200 (late offer)",
        cells: [
            Run(|| sipp(Plan::new(), "late_offer")),
            Run(|| behind("udp", "late_offer")),
            NOT_IN_PHONES,
            NOT_IN_PHONES,
        ],
    },
    Row {
        name: "reliable provisionals (100rel)",
        cells: [
            Run(|| sipp(Plan::new(), "reliable")),
            Run(|| behind("udp", "reliable")),
            OLD,
            No("asks for it only as the called side of its own early media"),
        ],
    },
    Row {
        name: "session timer",
        cells: [
            Run(|| flow(&Plan::new(), None, "uac_timer", "uas_basic")),
            Run(|| through(&Plan::new(), "udp", "uac_timer", "uas_basic")),
            OLD,
            NOT_IN_PHONES,
        ],
    },
    Row {
        name: "CANCEL",
        cells: [
            Run(|| sipp(Plan::new(), "cancel")),
            Run(|| behind("udp", "cancel")),
            Run(baresip::cancel),
            Run(linphone::cancel),
        ],
    },
    Row {
        name: "busy",
        cells: [
            Run(|| sipp(Plan::new(), "busy")),
            Run(|| behind("udp", "busy")),
            Run(baresip::busy),
            Run(linphone::busy),
        ],
    },
    Row {
        name: "the agent hangs up",
        cells: [
            Run(|| flow(&Plan::new(), None, "uac_hung_up_on", "uas_hangs_up")),
            Run(|| through(&Plan::new(), "udp", "uac_hung_up_on", "uas_hangs_up")),
            Run(baresip::agent_hangs_up),
            Run(linphone::agent_hangs_up),
        ],
    },
    Row {
        name: "hold and resume",
        cells: [
            Run(|| sipp(Plan::new(), "hold")),
            Run(|| behind("udp", "hold")),
            Run(baresip::hold),
            Run(linphone::hold),
        ],
    },
    Row {
        name: "keys by INFO, unguarded",
        cells: [Run(|| sipp(Plan::new(), "info")), Run(|| behind("udp", "info")), NOT_IN_PHONES, NOT_IN_PHONES],
    },
    Row {
        name: "keys by INFO, masked",
        cells: [
            Run(|| flow(&guarded(), None, "uac_info", "uas_no_info")),
            Run(|| through(&guarded(), "udp", "uac_info", "uas_no_info")),
            NOT_IN_PHONES,
            NOT_IN_PHONES,
        ],
    },
    Row {
        name: "keys by events, masked",
        cells: [
            No("sends no media of its own here"),
            No("does not touch media"),
            Run(baresip::masked),
            Run(linphone::masked),
        ],
    },
    Row {
        name: "SRTP (SDES)",
        cells: [
            No("sends no media of its own here"),
            No("does not touch media"),
            Run(baresip::srtp),
            Run(linphone::srtp),
        ],
    },
    Row {
        name: "TLS and SRTP",
        cells: [
            No("Debian builds it without TLS"),
            No("does not touch media"),
            Run(baresip::tls_srtp),
            Run(linphone::tls_srtp),
        ],
    },
    Row {
        name: "G.722",
        cells: [
            No("sends no media of its own here"),
            No("does not touch media"),
            Run(baresip::g722),
            Run(linphone::g722),
        ],
    },
    Row {
        name: "Opus",
        cells: [
            No("sends no media of its own here"),
            No("does not touch media"),
            Run(baresip::opus),
            Run(linphone::opus),
        ],
    },
];

fn guarded() -> Plan {
    Plan { guard: "always", ..Plan::new() }
}

/// SIPp calls SIPp by the scenario of that name.
fn sipp(plan: Plan, name: &str) {
    flow(&plan, None, &format!("uac_{name}"), &format!("uas_{name}"));
}

/// The same with kamailio between the caller and the node, which it reaches by `transport`.
fn behind(transport: &'static str, name: &str) {
    through(&Plan::new(), transport, &format!("uac_{name}"), &format!("uas_{name}"));
}

/// What a trunk and listener need for TLS whose peer shows a certificate of this authority.
pub fn tls_side(plan: &mut Plan, side: usize, mutual: bool) -> Authority {
    let authority = Authority::new();
    let ours = authority.sign(Wish::of(&["tonewall.example", "localhost"]));
    plan.files.push(("ca.pem", authority.pem()));
    plan.files.push(("ours.pem", ours.chain));
    plan.files.push(("ours.key", ours.key));
    plan.listeners[side] = "certificate = \"ours.pem\"\nkey = \"ours.key\"\n".to_owned();
    plan.trunks[side]
        .push_str(&format!("tls_ca = \"ca.pem\"\ntls_names = [\"peer.example\"]\ntls_mutual = {mutual}\n"));
    authority
}

fn through(plan: &Plan, transport: &'static str, uac: &str, uas: &str) {
    let mut plan = Plan { transport, pbx_transport: Some("udp"), ..plan.clone() };
    let certificates = (transport == "tls").then(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = tls_side(&mut plan, 0, true);
        let peer = authority.sign(Wish::of(&["peer.example"]));
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).expect("written");
        std::fs::write(dir.path().join("kamailio.pem"), peer.chain).expect("written");
        std::fs::write(dir.path().join("kamailio.key"), peer.key).expect("written");
        dir
    });
    let caller = free_address();
    flow(&plan, Some((caller, certificates.as_ref().map(|dir| dir.path()))), uac, uas);
}

/// Plays `uac` against `uas`; with a proxy, from that address through kamailio, which is the plan's carrier.
fn flow(plan: &Plan, proxy: Option<(std::net::SocketAddr, Option<&std::path::Path>)>, uac: &str, uas: &str) {
    let node = Running::start(plan);
    let dir = node.dir.path().to_owned();
    let by = |transport: &str| if transport == "tcp" { "t1" } else { "u1" };
    let pbx = plan.pbx_transport.unwrap_or(plan.transport);
    let answer = Sipp::start(&dir, uas, plan.pbx, None, &["-m", "1", "-t", by(pbx)]);
    std::thread::sleep(Duration::from_millis(300));
    let call = ["-m", "1", "-d", "400"];
    let Some((caller, certificates)) = proxy else {
        let call = [&call[..], &["-t", by(plan.transport)]].concat();
        Sipp::start(&dir, uac, plan.carrier, Some(node.carrier_side), &call).succeeds();
        answer.succeeds();
        return;
    };
    // Its face toward the node is the carrier's address; for UDP that is also where SIPp calls.
    let front = if plan.transport == "udp" { plan.carrier } else { free_address() };
    let kamailio = Kamailio::start(front, (plan.transport, plan.carrier), node.carrier_side, certificates);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Sipp::start(&dir, uac, caller, Some(front), &call).succeeds();
        answer.succeeds();
    }));
    if let Err(panic) = outcome {
        println!("kamailio's last words:\n{}", kamailio.log());
        std::panic::resume_unwind(panic);
    }
}
