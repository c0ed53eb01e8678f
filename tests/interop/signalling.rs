//! SIPp's cells, alone and behind kamailio: who plays which scenario against whom, over which node.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::common::{Plan, Running, free_address, free_port};
use crate::kamailio::{Kamailio, Task, hand_on};
use crate::phone::{Baresip, Kind, port};
use crate::pki::{Authority, Wish};
use crate::process::Sipp;
use crate::script::{AUDIO, Script, has, lacks};
use crate::tables::Peer;
use crate::telephone::keyed_tones;
use tonewall::testkit::companding::ulaw_encode;
use tonewall::testkit::leak::Attackers;

/// A scenario: a file of `tests/sipp`, or one written for the occasion.
pub enum Part {
    File(&'static str),
    Written(Script),
}

impl From<&'static str> for Part {
    fn from(name: &'static str) -> Part {
        Part::File(name)
    }
}

impl From<Script> for Part {
    fn from(script: Script) -> Part {
        Part::Written(script)
    }
}

impl Part {
    /// Starts it once, as `name` in `dir`.
    pub fn start(self, dir: &Path, name: &str, at: SocketAddr, target: Option<SocketAddr>, more: &[&str]) -> Sipp {
        let arguments = [&["-m", "1"], more].concat();
        match self {
            Part::File(file) => Sipp::start(dir, file, at, target, &arguments),
            Part::Written(script) => {
                std::fs::write(dir.join(format!("{name}.xml")), script.xml()).expect("the scenario");
                Sipp::start(dir, name, at, target, &arguments)
            }
        }
    }
}

/// A passing call, to be told apart by nothing.
pub fn calls() -> Script {
    answered(Script::caller().invite("", AUDIO))
}

/// The INVITE is answered, the call lasts a moment, and the caller ends it.
pub fn answered(script: Script) -> Script {
    script.may_get(&[100, 180, 183]).gets(200, &[has("", "m=audio [1-9][0-9]* RTP/AVP ")]).ack().pause(300).hang_up()
}

/// The call is taken and the caller hangs up.
pub fn takes_a_call(script: Script) -> Script {
    script.answer("180 Ringing", "", "").answer("200 OK", "", AUDIO).takes("ACK", &[]).takes("BYE", &[]).agrees("")
}

pub fn is_called() -> Script {
    takes_a_call(Script::called().takes("INVITE", &[lacks("", "X-Internal")]))
}

fn by(transport: &str) -> &'static str {
    if transport == "tcp" { "t1" } else { "u1" }
}

fn free_at(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, free_port())
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

/// The PBX's telephones, each at its address.
pub fn answer(dir: &Path, parts: Vec<(SocketAddr, Part)>, transport: &str) -> Vec<Sipp> {
    let start = |(nth, (at, part)): (usize, (SocketAddr, Part))| {
        part.start(dir, &format!("called{nth}"), at, None, &["-t", by(transport)])
    };
    let started = parts.into_iter().enumerate().map(start).collect();
    std::thread::sleep(Duration::from_millis(300));
    started
}

/// The customer plays `caller`, behind kamailio if that is the peer; the PBX `called`, each at its address.
pub fn customer(peer: Peer, mut plan: Plan, caller: impl Into<Part>, called: Vec<(SocketAddr, Part)>) {
    let secured = tempfile::tempdir().expect("a directory");
    if plan.transport == "tls" {
        let authority = tls_side(&mut plan, 0, true);
        let kamailio = authority.sign(Wish::of(&["peer.example"]));
        std::fs::write(secured.path().join("ca.pem"), authority.pem()).expect("written");
        std::fs::write(secured.path().join("kamailio.pem"), kamailio.chain).expect("written");
        std::fs::write(secured.path().join("kamailio.key"), kamailio.key).expect("written");
    }
    if peer == Peer::Kamailio {
        plan.pbx_transport.get_or_insert("udp");
    }
    let node = Running::start(&plan);
    let dir = node.dir.path().to_owned();
    let called = answer(&dir, called, plan.pbx_transport.unwrap_or(plan.transport));
    // What an answer to a challenge is for.
    let front = if peer == Peer::Sipp { node.carrier_side } else { plan.carrier };
    let uri = format!("5551000@{front}");
    let call = ["-d", "400", "-auth_uri", &uri];
    if peer == Peer::Sipp {
        let call = [&call[..], &["-t", by(plan.transport)]].concat();
        caller.into().start(&dir, "caller", plan.carrier, Some(node.carrier_side), &call).succeeds();
        return called.into_iter().for_each(Sipp::succeeds);
    }
    // Its face toward the node is the carrier's address; for UDP that is also where SIPp calls.
    let ip = plan.carrier.ip();
    let front = if plan.transport == "udp" { plan.carrier } else { free_at(ip) };
    let mut listens = vec![("udp", front)];
    if front != plan.carrier {
        listens.push((plan.transport, plan.carrier));
    }
    let certificates = (plan.transport == "tls").then_some(secured.path());
    let route = hand_on(plan.transport, node.carrier_side);
    let _kamailio = Kamailio::start(&listens, &Task { route: &route, certificates, ..Task::default() });
    caller.into().start(&dir, "caller", free_at(ip), Some(front), &call).succeeds();
    called.into_iter().for_each(Sipp::succeeds);
}

/// The same against one telephone, where the plan's PBX is.
pub fn flow(peer: Peer, plan: Plan, caller: impl Into<Part>, called: impl Into<Part>) {
    let at = plan.pbx;
    customer(peer, plan, caller, vec![(at, called.into())]);
}

fn both(peer: Peer, name: [&'static str; 2]) {
    flow(peer, Plan::new(), name[0], name[1]);
}

pub fn udp(peer: Peer) {
    both(peer, ["uac_basic", "uas_basic"]);
}

pub fn tcp(peer: Peer) {
    flow(peer, Plan { transport: "tcp", ..Plan::new() }, "uac_basic", "uas_basic");
}

pub fn tls(peer: Peer) {
    flow(peer, Plan { transport: "tls", ..Plan::new() }, "uac_basic", "uas_basic");
}

/// A plan whose carrier is on IPv6 and whose PBX is not.
pub fn six() -> Plan {
    let ip = IpAddr::from(Ipv6Addr::LOCALHOST);
    let listeners = ["media_address = \"::1\"\n".to_owned(), String::new()];
    Plan { carrier: free_at(ip), sides: Some([free_at(ip), free_address()]), listeners, ..Plan::new() }
}

pub fn ipv6(peer: Peer) {
    flow(peer, six(), calls(), is_called());
}

pub fn early_media(peer: Peer) {
    both(peer, ["uac_early_media", "uas_early_media"]);
}

/// Two phones ring with media of their own, the second one answers.
pub fn forked(peer: Peer) {
    let caller = Script::caller()
        .invite("", AUDIO)
        .may_get(&[100])
        .gets(183, &[has("", "m=audio [1-9]")])
        .gets(183, &[has("", "m=audio [1-9]")]);
    let caller = caller.gets(200, &[]).ack().pause(200).hang_up();
    let called = Script::called()
        .takes("INVITE", &[])
        .answer_as("first[call_number]", "183 Session Progress", "", AUDIO)
        .pause(100)
        .answer_as("second[call_number]", "183 Session Progress", "", AUDIO)
        .pause(200)
        .answer_as("second[call_number]", "200 OK", "", AUDIO);
    flow(peer, Plan::new(), caller, called.takes("ACK", &[]).takes("BYE", &[]).agrees(""));
}

/// The agent calls out; kamailio, the carrier, tries two places at once: one rings and is let go, one answers.
pub fn forked_by_the_carrier(_: Peer) {
    let (rings, answers) = (free_address(), free_address());
    let plan = Plan::new();
    let route = format!(
        "    record_route();\n    $ru = \"sip:5551000@{rings}\";\n    append_branch(\"sip:5551000@{answers}\");\n    \
         if (!t_relay()) {{ sl_reply_error(); }}\n    exit;\n"
    );
    let _kamailio = Kamailio::start(
        &[("udp", plan.carrier)],
        &Task { modules: "loadmodule \"corex.so\"\n", route: &route, certificates: None },
    );
    let node = Running::start(&plan);
    let let_go = Script::called()
        .takes("INVITE", &[])
        .answer("183 Session Progress", "", AUDIO)
        .takes("CANCEL", &[])
        .answer("200 OK", "", "")
        .answer_invite("487 Request Terminated", "", "")
        .takes("ACK", &[]);
    let takes = Script::called().takes("INVITE", &[]).pause(400).answer("200 OK", "", AUDIO);
    let takes = takes.takes("ACK", &[]).takes("BYE", &[]).agrees("");
    let dir = node.dir.path().to_owned();
    let called = answer(&dir, vec![(rings, let_go.into()), (answers, takes.into())], "udp");
    Part::from(calls()).start(&dir, "caller", plan.pbx, Some(node.pbx_side), &[]).succeeds();
    called.into_iter().for_each(Sipp::succeeds);
}

pub fn late_offer(peer: Peer) {
    both(peer, ["uac_late_offer", "uas_late_offer"]);
}

pub fn reliable(peer: Peer) {
    both(peer, ["uac_reliable", "uas_reliable"]);
}

pub fn reliable_on_one_leg(peer: Peer) {
    both(peer, ["uac_early_media", "uas_reliable"]);
    both(peer, ["uac_reliable", "uas_early_media"]);
}

/// UPDATE with an offer before the answer and after it, and one of the agent's.
pub fn update(peer: Peer) {
    let held = AUDIO.replace("a=ptime:20", "a=ptime:20\na=sendonly");
    let caller = Script::caller()
        .invite("Supported: 100rel\nAllow: INVITE, ACK, BYE, CANCEL, PRACK, UPDATE", AUDIO)
        .may_get(&[100])
        .gets_reliably(183)
        .request("PRACK", "RAck:[$rseq] 1 INVITE", "")
        .gets(200, &[])
        .request("UPDATE", "", &held)
        .gets(200, &[has("", "a=(recvonly|inactive)")])
        .gets(200, &[lacks("", "m=audio")])
        .ack()
        .request("UPDATE", "", AUDIO)
        .gets(200, &[has("", "m=audio [1-9]")])
        .takes("UPDATE", &[has("", "m=audio [1-9]")])
        .agrees(AUDIO)
        .hang_up();
    let called = Script::called()
        .takes("INVITE", &[has("Supported:", "100rel"), has("Allow:", "UPDATE")])
        .answer(
            "183 Session Progress",
            "Require: 100rel\nRSeq: 17\nAllow: INVITE, ACK, BYE, CANCEL, PRACK, UPDATE",
            AUDIO,
        )
        .takes("PRACK", &[has("RAck:", "17 [0-9]+ INVITE")])
        .agrees("")
        .takes("UPDATE", &[has("", "a=sendonly")])
        .agrees(&AUDIO.replace("a=ptime:20", "a=ptime:20\na=recvonly"))
        .answer_invite("200 OK", "Allow: INVITE, ACK, BYE, CANCEL, PRACK, UPDATE", "")
        .takes("ACK", &[])
        .takes("UPDATE", &[has("", "m=audio [1-9]")])
        .agrees(AUDIO)
        .pause(100)
        .request("UPDATE", "", AUDIO)
        .gets(200, &[])
        .takes("BYE", &[])
        .agrees("");
    flow(peer, Plan::new(), caller, called);
}

pub fn session_timer(peer: Peer) {
    both(peer, ["uac_timer", "uas_basic"]);
}

/// A plan with a second PBX, for numbers that begin with 5552, and its address.
pub fn two_pbxs(pbx: &str) -> (Plan, SocketAddr) {
    let second = free_address();
    (Plan { trunks: [String::new(), pbx.to_owned()], second_pbx: Some(second), ..Plan::new() }, second)
}

/// A telephone that sends whoever calls to 5552000.
pub fn redirects() -> Script {
    Script::called()
        .takes("INVITE", &[])
        .answer_plain("302 Moved Temporarily", "Contact: <sip:5552000@elsewhere.example>")
        .takes("ACK", &[])
}

pub fn redirect_followed(peer: Peer) {
    let (plan, second) = two_pbxs("redirect = \"follow\"\n");
    let called = vec![(plan.pbx, redirects().into()), (second, is_called().into())];
    customer(peer, plan, calls(), called);
}

/// The caller is told and calls the number at our address, not at the one the PBX named.
pub fn redirect_passed(peer: Peer) {
    let (plan, second) = two_pbxs("redirect = \"pass\"\n");
    let called = vec![(plan.pbx, redirects().into()), (second, is_called().into())];
    let caller = Script::caller()
        .invite("", AUDIO)
        .may_get(&[100])
        .gets(302, &[has("Contact:", "sip:5552000@"), lacks("", "elsewhere.example")])
        .ack_refusal();
    let caller = answered(caller.invite_to("sip:5552000@[remote_ip]:[remote_port]", "", AUDIO));
    customer(peer, plan, caller, called);
}

/// A telephone that has no time.
pub fn unavailable() -> Script {
    Script::called().takes("INVITE", &[]).answer("503 Service Unavailable", "", "").takes("ACK", &[])
}

/// The first target says 503, the second says nothing, the third answers.
pub fn failover(peer: Peer) {
    let (silent, third) = (free_address(), free_address());
    let trunks = [String::new(), "failover_ms = 700\n".to_owned()];
    let plan = Plan { more_pbx: vec![silent, third], trunks, ..Plan::new() };
    let _nobody = std::net::UdpSocket::bind(silent).expect("a port");
    let called = vec![(plan.pbx, unavailable().into()), (third, is_called().into())];
    customer(peer, plan, calls(), called);
}

pub fn cancel(peer: Peer) {
    both(peer, ["uac_cancel", "uas_cancel"]);
}

pub fn busy(peer: Peer) {
    both(peer, ["uac_busy", "uas_busy"]);
}

pub fn agent_hangs_up(peer: Peer) {
    both(peer, ["uac_hung_up_on", "uas_hangs_up"]);
}

pub fn hold(peer: Peer) {
    both(peer, ["uac_hold", "uas_hold"]);
}

/// The agent holds the customer and comes back.
pub fn agent_holds(peer: Peer) {
    let held = AUDIO.replace("a=ptime:20", "a=ptime:20\na=sendonly");
    let caller = Script::caller().invite("", AUDIO).may_get(&[100, 180, 183]).gets(200, &[]).ack();
    let caller = caller
        .takes("INVITE", &[has("", "a=sendonly")])
        .agrees(&AUDIO.replace("a=ptime:20", "a=ptime:20\na=recvonly"))
        .takes("ACK", &[])
        .takes("INVITE", &[lacks("", "a=(sendonly|inactive)")])
        .agrees(AUDIO)
        .takes("ACK", &[])
        .hang_up();
    let called = Script::called()
        .takes("INVITE", &[])
        .answer("200 OK", "", AUDIO)
        .takes("ACK", &[])
        .pause(100)
        .request("INVITE", "", &held)
        .may_get(&[100])
        .gets(200, &[has("", "a=(recvonly|inactive)")])
        .ack()
        .pause(200)
        .request("INVITE", "", AUDIO)
        .may_get(&[100])
        .gets(200, &[])
        .ack()
        .takes("BYE", &[])
        .agrees("");
    flow(peer, Plan::new(), caller, called);
}

/// The agent sends the customer on by REFER.
pub fn refer(peer: Peer) {
    let (plan, second) = two_pbxs("refer = \"terminate\"\n");
    let called = vec![(plan.pbx, "uas_refer".into()), (second, "uas_hangs_up".into())];
    customer(peer, plan, "uac_transferred", called);
}

/// The agent has spoken to a second one and joins the two: the new INVITE names their dialog.
pub fn attended(peer: Peer) {
    let (plan, second) = two_pbxs("refer = \"terminate\"\nreplaces = true\n");
    let first = Script::called()
        .takes("INVITE", &[])
        .answer("200 OK", "", AUDIO)
        .takes("ACK", &[])
        .pause(100)
        .request(
            "REFER",
            "Refer-To: <sip:5552000@[local_ip]?Replaces=their-call%40pbx%3Bto-tag%3Dt%3Bfrom-tag%3Df>",
            "",
        )
        .gets(202, &[])
        .takes("NOTIFY", &[has("", "SIP/2.0 100")])
        .agrees("")
        .takes("NOTIFY", &[has("", "SIP/2.0 200")])
        .agrees("")
        .takes("BYE", &[])
        .agrees("");
    let other = Script::called()
        .takes("INVITE", &[has("Replaces:", "their-call@pbx;(to-tag=t;from-tag=f|from-tag=f;to-tag=t)")])
        .answer("200 OK", "", AUDIO)
        .takes("ACK", &[])
        .pause(400)
        .request("BYE", "", "")
        .gets(200, &[]);
    let called = vec![(plan.pbx, first.into()), (second, other.into())];
    customer(peer, plan, "uac_transferred", called);
}

/// A number of another country for one of ours, and an identity of our making.
pub const TRANSLATED: &str = "match = \"555(?<rest>[0-9]+)\"\nnumber = \"+44${rest}\"\ncaller_match = \"(?<all>.*)\"\n\
                              caller_number = \"+1999\"\n";

pub fn numbers(peer: Peer) {
    let checks = [has("", "^INVITE sip:[+]441000@"), has("From:", "sip:[+]1999@"), lacks("", "15550100")];
    let called = takes_a_call(Script::called().takes("INVITE", &checks));
    flow(peer, Plan { route: TRANSLATED, ..Plan::new() }, calls(), called);
}

/// A `tel:` URI comes, and one goes out.
pub fn tel(peer: Peer) {
    let trunks = [String::new(), "tel_uris = true\n".to_owned()];
    let caller = answered(Script::caller().invite_to("tel:+1-555-(10)00", "", AUDIO));
    let called = takes_a_call(Script::called().takes("INVITE", &[has("", "^INVITE tel:[+]15551000 ")]));
    flow(peer, Plan { trunks, ..Plan::new() }, caller, called);
}

/// Pass-lists both ways, and each kind of rule.
pub fn headers(peer: Peer) {
    let carrier = "pass_headers = [\"User-to-User\", \"P-Asserted-Identity\", \"X-Wish\"]\n";
    let pbx = "pass_headers = [\"X-Desk\"]\n\
               [[trunk.header]]\ndo = \"set\"\nname = \"X-Box\"\nvalue = \"tonewall\"\n\
               [[trunk.header]]\ndo = \"copy\"\nname = \"X-Site\"\nfrom = \"X-Where\"\n\
               match = \"site=(?<site>[a-z]+)\"\nvalue = \"at-${site}\"\n\
               [[trunk.header]]\ndo = \"rewrite\"\nname = \"User-to-User\"\nmatch = \"^30\"\nvalue = \"40\"\n\
               [[trunk.header]]\ndo = \"remove\"\nname = \"X-Wish\"\n";
    let more = "X-Internal: no\nX-Wish: none\nX-Where: site=berlin;desk=7\nUser-to-User: 3031;encoding=hex\n\
                P-Asserted-Identity: <sip:+15550100@inside.example>";
    let caller = Script::caller().invite(more, AUDIO).may_get(&[100, 180, 183]);
    let caller = caller.gets(200, &[has("X-Desk:", "12"), lacks("", "X-Hidden")]).ack().pause(200).hang_up();
    let checks = [
        has("X-Box:", "tonewall"),
        has("X-Site:", "at-berlin"),
        has("User-to-User:", "4031;encoding=hex"),
        has("P-Asserted-Identity:", "[+]15550100@"),
        lacks("", "inside.example"),
        lacks("", "X-Internal"),
        lacks("", "X-Wish"),
        lacks("", "X-Where"),
    ];
    let called = Script::called().takes("INVITE", &checks).answer("200 OK", "X-Desk: 12\nX-Hidden: yes", AUDIO);
    let plan = Plan { trunks: [carrier.to_owned(), pbx.to_owned()], ..Plan::new() };
    flow(peer, plan, caller, called.takes("ACK", &[]).takes("BYE", &[]).agrees(""));
}

/// A fax beside the voice is declined; the voice goes on.
pub fn fax(peer: Peer) {
    let offer = format!("{AUDIO}m=image 4242 udptl t38\na=T38FaxVersion:0\n");
    let caller = Script::caller().invite("", &offer).may_get(&[100, 180, 183]);
    let caller = caller.gets(200, &[has("", "m=audio [1-9]"), has("", "m=image 0 ")]).ack().pause(200).hang_up();
    flow(peer, Plan::new(), caller, takes_a_call(Script::called().takes("INVITE", &[lacks("", "m=image [1-9]")])));
}

/// Comfort noise is agreed on where both sides have it.
pub fn comfort_noise(peer: Peer) {
    let noise = AUDIO.replace("AVP 8 0 101", "AVP 8 0 13 101").replace("a=ptime", "a=rtpmap:13 CN/8000\na=ptime");
    let caller = Script::caller().invite("", &noise).may_get(&[100, 180, 183]);
    let caller = caller.gets(200, &[has("", "m=audio [0-9]+ RTP/AVP .*13")]).ack().pause(200).hang_up();
    let called = Script::called().takes("INVITE", &[has("", "m=audio [0-9]+ RTP/AVP .*13")]);
    let called = called.answer("200 OK", "", &noise).takes("ACK", &[]).takes("BYE", &[]).agrees("");
    flow(peer, Plan::new(), caller, called);
}

/// A MESSAGE within a call crosses where the trunk lets its type.
pub fn message(peer: Peer) {
    let trunks = ["pass_message = [\"text/plain\"]\n".to_owned(), String::new()];
    let caller = Script::caller().invite("", AUDIO).may_get(&[100, 180, 183]).gets(200, &[]).ack().pause(100);
    let caller = caller.request("MESSAGE", "", "come to the desk\n").gets(200, &[]).hang_up();
    let called = Script::called()
        .takes("INVITE", &[])
        .answer("200 OK", "", AUDIO)
        .takes("ACK", &[])
        .takes("MESSAGE", &[has("", "come to the desk"), has("Content-Type:", "text/plain")])
        .agrees("")
        .takes("BYE", &[])
        .agrees("");
    flow(peer, Plan { trunks, ..Plan::new() }, caller, called);
}

pub fn info(peer: Peer) {
    both(peer, ["uac_info", "uas_info"]);
}

pub fn info_masked(peer: Peer) {
    flow(peer, Plan { guard: "always", ..Plan::new() }, "uac_info", "uas_no_info");
}

/// SIPp plays keys as tones (a file of µ-law) to baresip, the agent.
pub fn tones_masked(_: Peer) {
    let agent = Baresip::start_as(port(), 600.0, true, &Kind { user: "5551000", ..Kind::default() });
    let pbx = SocketAddr::from(([127, 0, 0, 1], agent.port));
    let plan = Plan { pbx, guard: "always", ..Plan::new() };
    let node = Running::start(&plan);
    let coded: Vec<u8> = keyed_tones().into_iter().take(8_000 * 8).map(ulaw_encode).collect();
    std::fs::write(node.dir.path().join("keys.ulaw"), coded).expect("written");
    let only = AUDIO.replace("AVP 8 0 101", "AVP 0 101");
    let caller = Script::caller().invite("", &only).may_get(&[100, 180, 183]).gets(200, &[]).ack();
    let caller = caller.exec("rtp_stream=\"keys.ulaw,1,0\"").pause(5_000).hang_up();
    Part::from(caller).start(node.dir.path(), "caller", plan.carrier, Some(node.carrier_side), &[]).succeeds();
    agent.said("session closed");
    let heard = agent.heard();
    let found = Attackers::new().listen(&heard);
    assert!(heard.len() > 8_000 && found.nothing_decoded(), "{} samples, {found:?}", heard.len());
    drop(node);
}
