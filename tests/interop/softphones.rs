//! The telephones' cells: baresip or linphone calls through the node, baresip answers. What must be there is sound both
//! ways, and no key where keys are masked.

use std::net::UdpSocket;

use tonewall::testkit::leak::Attackers;

use crate::common::{Plan, free_address};
use crate::process::Sipp;
use crate::script::{AUDIO, Script};
use crate::signalling::{self, Part, six};
use crate::tables::Peer;
use crate::telephone::*;
use crate::trunks::{challenged, probing, until_targets};

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
