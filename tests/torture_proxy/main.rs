//! Hostile and odd messages at a running node, by real sockets, from a trunk's own address: every message of RFC 4475
//! and many of our own (threats R7 to R9). Each has its one expected outcome; after each the node answers OPTIONS; and
//! a fake PBX on the other leg gets the well-formed calls only, built anew, with nothing of what was smuggled.

#![allow(clippy::disallowed_methods)] // Tests may wait, and open sockets.

#[path = "../common/mod.rs"]
mod common;
mod ours;
mod pbx;
#[path = "../common/torture.rs"]
mod torture;
mod trunk;

use common::{Plan, Running};
use pbx::Pbx;
use torture::MESSAGES;
use trunk::{Outcome, Stream, Trunk};

use Outcome::{Answered, Call, Closed, Ignored, Waits};

/// What must happen to each message of RFC 4475 that comes by UDP, in the order of the RFC.
const BY_UDP: [(&str, Outcome); 49] = [
    // It names a dialog by its To tag, and there is none.
    ("wsinv", Answered(481)),
    ("intmeth", Answered(501)),
    ("esc01", Call("sips%3Auser%40example.com")),
    ("escnull", Answered(405)),
    ("esc02", Answered(501)),
    ("lwsdisp", Answered(200)),
    ("longreq", Call("user")),
    ("dblreq", Answered(405)),
    ("semiuri", Answered(200)),
    ("transports", Answered(200)),
    ("mpart01", Answered(405)),
    ("unreason", Ignored),
    ("noreason", Ignored),
    ("badinv01", Answered(400)),
    ("clerr", Answered(400)),
    ("ncl", Answered(400)),
    ("scalar02", Answered(400)),
    ("scalarlg", Ignored),
    ("quotbal", Answered(400)),
    ("ltgtruri", Answered(400)),
    ("lwsruri", Answered(400)),
    ("lwsstart", Answered(400)),
    ("trws", Answered(400)),
    ("escruri", Answered(400)),
    ("baddate", Call("user")),
    ("regbadct", Answered(400)),
    ("badaspec", Answered(400)),
    ("baddn", Answered(400)),
    ("badvers", Answered(505)),
    ("mismatch01", Answered(400)),
    ("mismatch02", Answered(400)),
    ("bigcode", Ignored),
    ("badbranch", Answered(200)),
    ("insuf", Answered(400)),
    ("unkscm", Answered(416)),
    ("novelsc", Answered(416)),
    ("unksm2", Answered(405)),
    ("bext01", Answered(420)),
    ("invut", Answered(415)),
    ("regaut01", Answered(405)),
    ("multi01", Answered(400)),
    ("mcl01", Answered(400)),
    ("bcast", Ignored),
    ("zeromf", Answered(200)),
    ("cparam01", Answered(405)),
    ("cparam02", Answered(405)),
    ("regescrt", Answered(405)),
    // It accepts no body that we could answer with; its offer says that it does.
    ("sdp01", Call("user")),
    // Without Contact, as RFC 2543 allowed.
    ("inv2543", Answered(400)),
];

/// Where a stream changes the outcome: the head decides where a message ends, or that the stream ends.
const BY_TCP: [(&str, Outcome); 5] = [
    // The rest is the next message: an INVITE without Contact.
    ("dblreq", Answered(405)),
    // More body announced than sent.
    ("clerr", Waits),
    ("ncl", Closed(400)),
    ("mcl01", Closed(400)),
    // No Content-Length at all.
    ("inv2543", Closed(400)),
];

fn plan(transport: &'static str) -> Plan {
    Plan { transport, carrier_media: "192.0.2.0/24", guard: "always", ..Plan::new() }
}

struct Table(Vec<String>);

impl Table {
    #[allow(clippy::print_stdout)]
    fn row(&mut self, name: &str, expected: &Outcome, seen: &Outcome) {
        println!("{name:<44} {seen}");
        if seen != expected {
            self.0.push(format!("{name}: expected {expected}, saw {seen}"));
        }
    }

    fn verdict(self) {
        assert!(self.0.is_empty(), "{:#?}", self.0);
    }
}

#[test]
fn every_message_of_rfc_4475_by_udp_has_its_expected_outcome() {
    let plan = plan("udp");
    let pbx = Pbx::udp(plan.pbx);
    let node = Running::start(&plan);
    let mut trunk = Trunk::new(plan.carrier, node.carrier_side);
    let mut table = Table(Vec::new());
    for (message, (name, expected)) in MESSAGES.iter().zip(&BY_UDP) {
        assert_eq!(message.name, *name);
        let seen = trunk.outcome(message.bytes, expected);
        table.row(&format!("{} {name}", message.section), expected, &seen);
    }
    table.verdict();
    let called = BY_UDP.iter().filter_map(|(_, outcome)| outcome.called());
    pbx.got_only(called, node.pbx_side);
}

#[test]
fn every_message_of_rfc_4475_by_tcp_has_its_expected_outcome() {
    let plan = plan("tcp");
    let pbx = Pbx::tcp(plan.pbx);
    let node = Running::start(&plan);
    let mut table = Table(Vec::new());
    let mut called = Vec::new();
    for (message, (name, by_udp)) in MESSAGES.iter().zip(&BY_UDP) {
        let expected = BY_TCP.iter().find(|(n, _)| n == name).map_or(by_udp, |(_, outcome)| outcome);
        let mut stream = Stream::open(node.carrier_side);
        let seen = stream.outcome(message.bytes, expected);
        table.row(&format!("{} {name}", message.section), expected, &seen);
        if *name == "dblreq" {
            assert_eq!(stream.next_status(), Some(400), "the second message of dblreq is read too");
        }
        called.extend(expected.called());
        assert!(Stream::open(node.carrier_side).is_alive(), "no answer to OPTIONS after {name}");
    }
    table.verdict();
    pbx.got_only(called, node.pbx_side);
}

#[test]
fn nothing_smuggled_reaches_the_other_leg() {
    let plan = plan("udp");
    let pbx = Pbx::udp(plan.pbx);
    let node = Running::start(&plan);
    let mut trunk = Trunk::new(plan.carrier, node.carrier_side);
    let mut table = Table(Vec::new());
    let messages = ours::messages(plan.carrier, node.carrier_side);
    let on_streams = ours::on_a_stream(plan.carrier, node.carrier_side);
    assert!(messages.len() + on_streams.len() >= 150, "{} and {}", messages.len(), on_streams.len());
    for message in &messages {
        let seen = trunk.outcome(&message.bytes, &message.expected);
        table.row(&message.name, &message.expected, &seen);
    }
    table.verdict();
    pbx.got_only(messages.iter().filter_map(|message| message.expected.called()), node.pbx_side);
    for line in node.log().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    }
}

#[test]
fn every_message_of_rfc_5118_has_its_expected_outcome_and_injects_nothing() {
    let plan = plan("udp");
    let pbx = Pbx::udp(plan.pbx);
    let node = Running::start(&plan);
    let mut trunk = Trunk::new(plan.carrier, node.carrier_side);
    let mut table = Table(Vec::new());
    let messages = ours::of_ipv6(node.carrier_side);
    for message in &messages {
        let seen = trunk.outcome(&message.bytes, &message.expected);
        table.row(&message.name, &message.expected, &seen);
    }
    table.verdict();
    pbx.got_only(messages.iter().filter_map(|message| message.expected.called()), node.pbx_side);
}

/// Whoever forges a peer's address gets at most three times as much sent there; who has none, nothing at all.
#[test]
fn r27_no_answer_is_larger_than_three_times_what_asked_for_it_and_strangers_get_none() {
    let plan = plan("udp");
    let _pbx = Pbx::udp(plan.pbx);
    let node = Running::start(&plan);
    let stranger = std::net::UdpSocket::bind("127.0.0.99:0").expect("a stranger's port");
    stranger.set_nonblocking(true).expect("a setting");
    let mut trunk = Trunk::new(plan.carrier, node.carrier_side);
    let own = ours::messages(plan.carrier, node.carrier_side);
    let of_the_rfc =
        MESSAGES.iter().zip(&BY_UDP).map(|(message, (_, expected))| (message.bytes.to_vec(), expected.clone()));
    let all: Vec<_> = of_the_rfc.chain(own.into_iter().map(|own| (own.bytes, own.expected))).collect();
    for (bytes, _) in &all {
        stranger.send_to(bytes, node.carrier_side).expect("sent");
    }
    for (bytes, expected) in &all {
        // It fails on an answer that is too large.
        trunk.outcome(bytes, expected);
    }
    let mut buffer = [0; 2_048];
    assert!(stranger.recv_from(&mut buffer).is_err(), "a stranger is answered");
    let asked: usize = trunk.asked;
    common::say(&format!(
        "r27: {} messages, {asked} bytes; answered with {} bytes, repetitions and all",
        all.len(),
        trunk.answered
    ));
    assert!(trunk.answered <= 3 * asked, "{} bytes for {asked}", trunk.answered);
}

#[test]
fn a_stream_that_cannot_be_framed_is_answered_and_closed() {
    let plan = plan("tcp");
    let pbx = Pbx::tcp(plan.pbx);
    let node = Running::start(&plan);
    let mut table = Table(Vec::new());
    for message in ours::on_a_stream(plan.carrier, node.carrier_side) {
        let seen = Stream::open(node.carrier_side).outcome(&message.bytes, &message.expected);
        table.row(&message.name, &message.expected, &seen);
        assert!(Stream::open(node.carrier_side).is_alive(), "no answer to OPTIONS after {}", message.name);
    }
    table.verdict();
    pbx.got_only(std::iter::empty(), node.pbx_side);
}
