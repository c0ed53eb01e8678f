//! Learning a peer's media address (threats R1, R2): only where the trunk opts in, only within its networks, only until it
//! is known; the signalled address goes before.

use std::net::SocketAddr;

use tonewall::base::ids::{Leg, SessionId};
use tonewall::config::{Codec, Network, SrtpSuite};
use tonewall::media::{Command, Guard, LegMedia, Worker};

use crate::relay::murmur;
use crate::sim::{Out, Plan, Sim, Wire, negotiated, our_address, peer_address};

const CM: SrtpSuite = SrtpSuite::AesCm128Sha1_80;

/// Behind the translator the peer's packets come from here.
const BEHIND: &str = "192.0.2.1:61000";
const ATTACKER: &str = "192.0.2.66:4000";

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn sim(latch: bool, srtp: Option<SrtpSuite>) -> Sim {
    let mut sim = Sim::new(Plan { srtp: [srtp, None], ..Plan::new(1, Guard::Open) });
    sim.roaming = true;
    sim.peers[0].set_toward(sim.now, None);
    sim.peers[1].speak(murmur(2, 2_000.0));
    sim.set_leg(Leg::Customer, LegMedia { latch, ..negotiated(Leg::Customer, Codec::Pcmu, true, 20) });
    sim
}

/// A packet of the true peer: on an encrypted leg with its key.
fn true_packet(sim: &mut Sim, n: u16) -> Vec<u8> {
    let bytes = packet(5, n, 0, 0x55);
    match &mut sim.wires[0] {
        Some(wire) => wire.seal(&bytes),
        None => bytes,
    }
}

fn packet(ssrc: u32, sequence: u16, payload_type: u8, fill: u8) -> Vec<u8> {
    let mut bytes = vec![0x80, payload_type];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend((u32::from(sequence) * 160).to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend([fill; 160]);
    bytes
}

#[test]
fn a_peer_behind_a_translator_is_learnt_after_five_packets_where_the_trunk_says_so() {
    for latch in [false, true] {
        let mut sim = sim(latch, None);
        for n in 0..100 {
            let bytes = true_packet(&mut sim, n);
            sim.inject(Leg::Customer, at(BEHIND), &bytes);
            sim.run(20);
        }
        if latch {
            assert_eq!(sim.sent_to[0], [peer_address(Leg::Customer), at(BEHIND)]);
            assert_eq!(sim.heard[1].packets().len(), 96, "the fifth is the first to be heard");
        } else {
            assert_eq!(sim.sent_to[0], [peer_address(Leg::Customer)]);
            assert!(sim.heard[1].packets().is_empty());
        }
    }
}

#[test]
fn r1_with_learning_on_the_signalled_sender_wins_in_both_orders() {
    for attacker_first in [true, false] {
        let mut sim = sim(true, None);
        let mut n = 0;
        let attack = |sim: &mut Sim, n: u16| sim.inject(Leg::Customer, at(ATTACKER), &packet(66, n, 0, 0x66));
        // Four packets are no proof, and one of the legitimate sender ends it.
        for _ in 0..if attacker_first { 4 } else { 0 } {
            attack(&mut sim, n);
            n += 1;
        }
        for _ in 0..200 {
            let bytes = true_packet(&mut sim, n);
            sim.inject(Leg::Customer, peer_address(Leg::Customer), &bytes);
            for _ in 0..10 {
                attack(&mut sim, n);
            }
            n += 1;
            sim.run(20);
        }
        assert_eq!(sim.sent_to[0], [peer_address(Leg::Customer)], "bled = 0");
        assert_eq!(sim.heard[1].packets().len(), 200, "injected = 0");
        assert!(sim.heard[1].payload_bytes().iter().all(|byte| *byte == 0x55));
    }
}

#[test]
fn r1_what_an_attacker_has_learnt_the_signalled_sender_takes_back_for_good() {
    let mut sim = sim(true, None);
    for n in 0..50 {
        sim.inject(Leg::Customer, at(ATTACKER), &packet(66, n, 0, 0x66));
    }
    sim.run(100);
    assert_eq!(sim.sent_to[0].last(), Some(&at(ATTACKER)), "nothing else was heard: this is what opting in costs");
    for n in 0..100 {
        let bytes = true_packet(&mut sim, n);
        sim.inject(Leg::Customer, peer_address(Leg::Customer), &bytes);
        for _ in 0..10 {
            sim.inject(Leg::Customer, at(ATTACKER), &packet(66, 50 + n, 0, 0x66));
        }
        sim.run(20);
    }
    assert_eq!(sim.sent_to[0].last(), Some(&peer_address(Leg::Customer)));
    assert_eq!(sim.sent_to[0].len(), if sim.sent_to[0][0] == at(ATTACKER) { 2 } else { 3 });
}

#[test]
fn r1_on_an_encrypted_leg_who_has_no_key_is_never_learnt() {
    let mut sim = sim(true, Some(CM));
    let mut stranger = Wire::new(CM, 99, 98, 7);
    for n in 0..200 {
        sim.inject(Leg::Customer, at(ATTACKER), &packet(66, n, 0, 0x66));
        sim.inject(Leg::Customer, at(ATTACKER), &stranger.seal(&packet(66, n, 0, 0x66)));
        if n % 2 == 0 {
            let bytes = true_packet(&mut sim, n / 2);
            sim.inject(Leg::Customer, at(BEHIND), &bytes);
        }
        sim.run(10);
    }
    assert_eq!(sim.sent_to[0], [peer_address(Leg::Customer), at(BEHIND)], "bled = 0, and the true peer is learnt");
    assert!(sim.heard[1].payload_bytes().iter().all(|byte| *byte == 0x55), "injected = 0");
}

#[test]
fn r1_nothing_is_learnt_outside_the_networks_from_low_ports_or_from_what_nobody_agreed_on() {
    // The worker itself, with the trunk's media network around the peer.
    for (source, payload_type, learnt) in [
        ("192.0.2.1:61000", 0, true),
        ("192.0.2.7:1024", 0, true),
        ("192.0.2.1:53", 0, false),
        ("203.0.113.1:61000", 0, false),
        ("192.0.2.1:61000", 99, false),
    ] {
        let now = Sim::new(Plan::new(1, Guard::Open)).now;
        let (mut worker, mut out) = (Worker::new(), Out::default());
        let session = SessionId(1);
        let network = |text: &str| vec![Network { address: text.parse().expect("ip"), prefix: 24 }];
        let create = Command::Create {
            session,
            ports: [our_address(Leg::Customer).port(), our_address(Leg::Agent).port()],
            allowed: [network("192.0.2.0"), network("198.51.100.0")],
            toward_agent: Guard::Open,
            toward_customer: Guard::Open,
            inactivity_ms: 0,
            seed: 1,
        };
        worker.handle_command(now, create, &mut out);
        for leg in [Leg::Customer, Leg::Agent] {
            let media = LegMedia { latch: leg == Leg::Customer, ..negotiated(leg, Codec::Pcmu, true, 20) };
            worker.handle_command(now, Command::SetLeg { session, leg, media }, &mut out);
        }
        for n in 0..20 {
            let bytes = packet(5, n, payload_type, 1);
            worker.handle_rtp(now, session, Leg::Customer, at(source), &bytes, &mut out);
        }
        let bytes = packet(6, 1, 0, 2);
        worker.handle_rtp(now, session, Leg::Agent, peer_address(Leg::Agent), &bytes, &mut out);
        let to_customer = out.packets.iter().find(|(to, ..)| *to == Leg::Customer).expect("one packet");
        let want = if learnt { at(source) } else { peer_address(Leg::Customer) };
        assert_eq!(to_customer.1, want, "{source} {payload_type}");
        assert_eq!(out.packets.iter().any(|(to, ..)| *to == Leg::Agent), learnt, "{source} {payload_type}");
    }
}

#[test]
fn another_trunks_networks_count_at_once_and_what_was_learnt_in_the_former_ones_does_not() {
    let mut sim = sim(true, None);
    for n in 0..20 {
        let bytes = true_packet(&mut sim, n);
        sim.inject(Leg::Customer, at(BEHIND), &bytes);
        sim.run(20);
    }
    assert_eq!(sim.sent_to[0].last(), Some(&at(BEHIND)));
    let elsewhere = Network { address: "10.9.0.0".parse().expect("an address"), prefix: 16 };
    let order =
        |networks| Command::SetAllowed { session: tonewall::base::ids::SessionId(1), leg: Leg::Customer, networks };
    sim.order(order(vec![elsewhere]));
    let (heard, sent) = (sim.heard[1].packets().len(), sim.heard[0].packets().len());
    for n in 20..40 {
        let bytes = true_packet(&mut sim, n);
        sim.inject(Leg::Customer, at(BEHIND), &bytes);
        sim.run(20);
    }
    assert_eq!(
        (sim.heard[1].packets().len(), sim.heard[0].packets().len()),
        (heard, sent),
        "neither from there nor to there"
    );
    sim.set_leg(
        Leg::Customer,
        LegMedia { remote_rtp: Some(at("10.9.0.7:4000")), ..negotiated(Leg::Customer, Codec::Pcmu, true, 20) },
    );
    sim.run(200);
    assert_eq!(sim.sent_to[0].last(), Some(&at("10.9.0.7:4000")));
}
