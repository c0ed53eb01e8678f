//! What a trunk does for SIPp and kamailio, beside carrying calls: it asks for a password and gives one, registers, probes,
//! and is full.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::common::{Plan, Running, free_address};
use crate::kamailio::{Kamailio, Task, hand_on};
use crate::process::Sipp;
use crate::script::{AUDIO, Script, has, lacks};
use crate::signalling::{Part, answer, answered, calls, customer, flow, is_called, takes_a_call};
use crate::tables::Peer;

const SECRET: &str = "correct-horse-42";

/// The trunk of a peer that has to prove who it is, by a hash that it has.
pub fn challenged(peer: Peer) -> Plan {
    let hashes = if peer == Peer::Linphone { "\"SHA-256\"" } else { "\"MD5\"" };
    let challenge = format!(
        "\n[trunk.challenge]\nuser = \"customer\"\nrealm = \"tonewall\"\nsecret_file = \"peer.secret\"\n\
         algorithms = [{hashes}]\n"
    );
    let files = vec![("peer.secret", format!("{SECRET}\n"))];
    Plan { trunks: [challenge, String::new()], files, ..Plan::new() }
}

pub fn password_asked(peer: Peer) {
    let first = || Script::caller().invite("", AUDIO).may_get(&[100]).gets(401, &[]).ack_refusal();
    let with = |secret: &str| format!("[authentication username=customer password={secret}]");
    flow(peer, challenged(peer), answered(first().invite(&with(SECRET), AUDIO)), is_called());
    let refused = first().invite(&with("wrong"), AUDIO).may_get(&[100]).gets(403, &[]).ack_refusal();
    customer(peer, challenged(peer), refused, vec![]);
}

/// The trunk of a carrier that wants our password.
fn logs_in(more: &str) -> Plan {
    let login = format!(
        "\n[trunk.login]\nuser = \"tonewall\"\nrealm = \"carrier.example\"\nsecret_file = \"carrier.secret\"\n{more}"
    );
    Plan { trunks: [login, String::new()], files: vec![("carrier.secret", format!("{SECRET}\n"))], ..Plan::new() }
}

const WANTED: &str = "WWW-Authenticate: Digest realm=\"carrier.example\", nonce=\"47364c23432d2e131a5fb210812c\", \
                      qop=\"auth\", algorithm=MD5";

/// kamailio asks everybody for their password, and knows one.
fn asking(then: &str) -> String {
    format!(
        "    if (!pv_www_authenticate(\"carrier.example\", \"{SECRET}\", \"0\") || $au != \"tonewall\") {{ \
         www_challenge(\"carrier.example\", \"1\"); exit; }}\n    consume_credentials();\n{then}"
    )
}

pub fn password_given(peer: Peer) {
    let plan = logs_in("");
    let node = Running::start(&plan);
    let dir = node.dir.path().to_owned();
    let telephone = if peer == Peer::Kamailio { free_address() } else { plan.carrier };
    let route = asking(&hand_on("udp", telephone));
    let _kamailio = (peer == Peer::Kamailio).then(|| {
        let task = Task { modules: "loadmodule \"auth.so\"\n", route: &route, certificates: None };
        Kamailio::start(&[("udp", plan.carrier)], &task)
    });
    let called = match peer {
        Peer::Kamailio => takes_a_call(Script::called().takes("INVITE", &[lacks("", "Authorization:")])),
        _ => takes_a_call(
            Script::called()
                .takes("INVITE", &[lacks("", "Authorization:")])
                .answer_plain("401 Unauthorized", WANTED)
                .takes("ACK", &[])
                .takes_by_password("INVITE", "tonewall", SECRET),
        ),
    };
    let called = answer(&dir, vec![(telephone, called.into())], "udp");
    Part::from(calls()).start(&dir, "caller", plan.pbx, Some(node.pbx_side), &[]).succeeds();
    called.into_iter().for_each(Sipp::succeeds);
}

/// We register; kamailio then finds us by what we have registered, and a customer's call arrives.
pub fn registers(peer: Peer) {
    let plan = logs_in("[trunk.register]\naddress = \"sip:4711@carrier.example\"\n");
    if peer == Peer::Sipp {
        let dir = tempfile::tempdir().expect("a directory");
        let registrar = Script::called()
            .takes("REGISTER", &[has("To:", "sip:4711@carrier.example")])
            .answer_plain("401 Unauthorized", WANTED)
            .takes_by_password("REGISTER", "tonewall", SECRET)
            .answer_plain("200 OK", "[last_Contact:]\nExpires: 600");
        let registrar = answer(dir.path(), vec![(plan.carrier, registrar.into())], "udp");
        let _node = Running::start(&plan);
        return registrar.into_iter().for_each(Sipp::succeeds);
    }
    let route = format!(
        "    if (is_method(\"REGISTER\")) {{\n{}    }}\n    record_route();\n    \
         if (!lookup(\"location\")) {{ sl_send_reply(\"404\", \"Not Here\"); exit; }}\n    \
         if (!t_relay()) {{ sl_reply_error(); }}\n    exit;\n",
        asking("    save(\"location\"); exit;\n")
    );
    let modules = "loadmodule \"auth.so\"\nloadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\n";
    let _kamailio = Kamailio::start(&[("udp", plan.carrier)], &Task { modules, route: &route, certificates: None });
    let node = Running::start(&plan);
    let dir = node.dir.path().to_owned();
    let called = answer(&dir, vec![(plan.pbx, is_called().into())], "udp");
    std::thread::sleep(Duration::from_millis(500));
    let caller = answered(Script::caller().invite_to("sip:4711@[remote_ip]:[remote_port]", "", AUDIO));
    Part::from(caller).start(&dir, "caller", free_address(), Some(plan.carrier), &[]).succeeds();
    called.into_iter().for_each(Sipp::succeeds);
}

/// Asked by OPTIONS, up while it answers; SIPp is a telephone of the PBX, kamailio the carrier.
pub fn probes(peer: Peer) {
    let mut plan = probing();
    plan.trunks.swap(0, usize::from(peer == Peer::Sipp));
    if peer == Peer::Sipp {
        let node = Running::start(&plan);
        let dir = node.dir.path().to_owned();
        // Each OPTIONS is a call to SIPp.
        let asked = Script::called().takes("OPTIONS", &[]).answer_plain("200 OK", "");
        let sipp = Part::from(asked).start(&dir, "asked", plan.pbx, None, &["-m", "100"]);
        until_targets(&node, "pbx", 1);
        drop(sipp);
        return until_targets(&node, "pbx", 0);
    }
    let kamailio = Kamailio::start(&[("udp", plan.carrier)], &Task::default());
    let node = Running::start(&plan);
    until_targets(&node, "carrier", 1);
    drop(kamailio);
    until_targets(&node, "carrier", 0);
}

/// A plan whose carrier is asked every second whether it is there.
pub fn probing() -> Plan {
    let probe = "probe_s = 1\nprobe_lost = 1\nprobe_good = 1\n".to_owned();
    Plan { control: true, trunks: [probe, String::new()], ..Plan::new() }
}

/// Waits until that many targets of a trunk are up, by the metrics.
pub fn until_targets(node: &Running, trunk: &str, up: u32) {
    let line = format!("tonewall_trunk_targets_up{{trunk=\"{trunk}\"}} {up}\n");
    let until = Instant::now() + Duration::from_secs(15);
    let mut last = String::new();
    while Instant::now() < until {
        last = node.metrics();
        if last.contains(&line) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let all: Vec<&str> = last.lines().filter(|line| line.contains("targets_up")).collect();
    panic!("never {line:?}: {all:?}");
}

/// A call of some seconds, up: the telephone at `pbx` and the customer.
pub fn occupy(node: &Running, pbx: SocketAddr) -> [Sipp; 2] {
    let dir = node.dir.path();
    let called = Part::from(is_called()).start(dir, "occupied", pbx, None, &[]);
    std::thread::sleep(Duration::from_millis(300));
    let long = Script::caller().invite("", AUDIO).may_get(&[100, 180, 183]).gets(200, &[]).ack().pause(4_000);
    let first = Part::from(long.hang_up()).start(dir, "occupies", free_address(), Some(node.carrier_side), &[]);
    std::thread::sleep(Duration::from_millis(700));
    [first, called]
}

/// One call is up on a trunk that may have one: the next caller is told to come again.
pub fn full(peer: Peer) {
    let plan = Plan { trunks: [String::new(), "max_calls = 1\n".to_owned()], ..Plan::new() };
    let node = Running::start(&plan);
    let others = occupy(&node, plan.pbx);
    let refused = Script::caller().invite("", AUDIO).may_get(&[100]);
    // A proxy makes 500 of a 503 (RFC 3261 section 16.7), so that nobody shuns it.
    let refused = match peer {
        Peer::Kamailio => refused.gets(500, &[]),
        _ => refused.gets(503, &[has("Retry-After:", "[0-9]+")]),
    };
    let refused = Part::from(refused.ack_refusal());
    let dir = node.dir.path();
    if peer == Peer::Kamailio {
        let route = hand_on("udp", node.carrier_side);
        let _kamailio = Kamailio::start(&[("udp", plan.carrier)], &Task { route: &route, ..Task::default() });
        refused.start(dir, "second", free_address(), Some(plan.carrier), &[]).succeeds();
    } else {
        refused.start(dir, "second", plan.carrier, Some(node.carrier_side), &[]).succeeds();
    }
    others.into_iter().for_each(Sipp::succeeds);
}
