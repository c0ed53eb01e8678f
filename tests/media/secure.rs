//! Encrypted legs: the same call with SRTP on one leg or on both. Attackers who have no key send what they like; the
//! rollover counter, re-keying and the guard's promise hold.

use std::net::SocketAddr;

use tonewall::base::ids::Leg;
use tonewall::config::{Codec, MaskKind, SrtpSuite};
use tonewall::media::{Command, Guard, LegStats, Security};
use tonewall::rtp::rtcp;
use tonewall::testkit::attack::LeastSquares;
use tonewall::testkit::keys::{Form, typed};

use crate::leak::{Score, assert_even, attack, is_within, keyed, keyed_call, keys_of, speech};
use crate::relay::{assert_one_stream, murmur};
use crate::sim::{Plan, SESSION, Sim, Wire, negotiated, peer_address};

const CM: SrtpSuite = SrtpSuite::AesCm128Sha1_80;
const GCM: SrtpSuite = SrtpSuite::AesGcm128;

fn plan(seed: u64, guard: Guard, srtp: [Option<SrtpSuite>; 2]) -> Plan {
    Plan { srtp, ..Plan::new(seed, guard) }
}

fn talking(plan: Plan) -> Sim {
    let mut sim = Sim::new(plan);
    sim.peers[0].speak(murmur(1, 2_000.0));
    sim.peers[1].speak(murmur(2, 2_000.0));
    sim
}

/// Ends the call; its counters.
fn close(sim: &mut Sim) -> [LegStats; 2] {
    sim.order(Command::Close { session: SESSION });
    *sim.out.closed.last().expect("closed")
}

fn packet(ssrc: u32, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, 0];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend(payload);
    bytes
}

#[test]
fn one_leg_plain_and_the_other_secure_in_every_suite_and_order() {
    for suite in SrtpSuite::ALL {
        for srtp in [[Some(suite), None], [None, Some(suite)], [Some(suite), Some(GCM)]] {
            let mut sim = talking(plan(1, Guard::Open, srtp));
            sim.run(12_000);
            for leg in [Leg::Customer, Leg::Agent] {
                let sent = sim.peers[leg.index()].sent_payload_bytes();
                let heard = sim.heard[leg.other().index()].payload_bytes();
                assert!(sent.len() - heard.len() <= 160 && sent.starts_with(&heard), "{srtp:?} {leg:?}");
                assert_one_stream(&sim, leg.other());
                assert!(!sim.rtcp[leg.index()].is_empty(), "reports arrive and open");
                let report = rtcp::parse(&sim.rtcp[leg.index()][0]).expect("a report");
                assert!(report.sender.is_some());
            }
            let stats = close(&mut sim);
            assert!(
                stats.iter().all(|leg| leg.unauthentic + leg.replayed + leg.malformed + leg.lost == 0),
                "{stats:?}"
            );
        }
    }
}

#[test]
fn no_mask_or_form_leaks_through_encrypted_legs_and_each_key_is_collected_once() {
    let attacker = LeastSquares::new();
    let mut total = Score::default();
    let mut seed = 9_000;
    for srtp in [[Some(CM), None], [None, Some(GCM)], [Some(SrtpSuite::AesGcm256), Some(CM)]] {
        for mask in [MaskKind::Silence, MaskKind::ComfortNoise, MaskKind::Substitute] {
            for form in [Form::Tone, Form::Event, Form::ToneThenEvent { lead_ms: 40 }] {
                seed += 1;
                let mut sim = keyed_call(plan(seed, Guard::Masked(mask), srtp), form, 16, speech(seed, -26.0), 1.0);
                let sent = keyed(&sim);
                let (told, wanted) = (sim.collected(), keys_of(&sent));
                assert!(told.len() <= wanted.len() + 1 && is_within(&wanted, &told), "{seed}: {told} for {wanted}");
                assert!(sim.out.digits.iter().all(|(.., masked)| *masked));
                assert_even(&sim, mask == MaskKind::Substitute);
                total.add(attack(&sim, &sent, &attacker));
                assert_eq!(close(&mut sim)[0].unauthentic, 0);
            }
        }
    }
    assert_eq!(total.decoded, 0);
    let share = total.report("attacker on encrypted legs");
    assert!(share <= 0.13, "{total:?}");
}

/// What a stranger sends who can forge the source address but has no key: plain RTP with tones and events, another key's
/// SRTP under the peer's SSRC, noise of every length.
fn forgeries(sim: &mut Sim, n: u16) -> Vec<Vec<u8>> {
    let ssrc = sim.heard[1].packets().first().map_or(5, |packet| packet.ssrc);
    let plain = packet(ssrc, n.wrapping_mul(7), u32::from(n) * 160, &[0x33; 160]);
    let mut event = packet(9, n, u32::from(n) * 160, &[5, 10, 3, 32]);
    event[1] = 0x80 | 101;
    let mut stranger = Wire::new(CM, 99, 98, 77);
    let sealed = stranger.seal(&packet(5, 30_000 + n % 1_000, 1, &[0x44; 160]));
    let noise: Vec<u8> = (0..usize::from(n) % 200).map(|at| 0x80 ^ (at as u8).wrapping_mul(37)).collect();
    vec![plain, event, sealed, noise]
}

#[test]
fn r2_what_has_no_good_tag_is_neither_heard_nor_collected() {
    let mut sim = talking(plan(2, Guard::Masked(MaskKind::Silence), [Some(CM), None]));
    let from = peer_address(Leg::Customer);
    // Before the first true packet, and among them.
    for n in 0..500 {
        for forged in forgeries(&mut sim, n) {
            sim.inject(Leg::Customer, from, &forged);
        }
        sim.run(10);
    }
    assert_eq!(sim.collected(), "", "events under a foreign SSRC collect nothing");
    let true_packets = sim.peers[0].sent_payload_bytes().len() as u64 / 160;
    let stats = close(&mut sim)[0];
    assert!(stats.received.abs_diff(true_packets) <= 1, "{} of {true_packets}: {stats:?}", stats.received);
    assert!(stats.unauthentic + stats.malformed >= 1_990, "{stats:?}");
    assert_eq!(stats.lost, 0, "no foreign number moved the count");
}

#[test]
fn r2_replayed_packets_are_dropped() {
    let mut sim = Sim::new(plan(3, Guard::Open, [Some(GCM), None]));
    sim.peers[0].set_toward(sim.now, None);
    let mut wire = sim.wires[0].take().expect("a wire");
    for n in 0..100u16 {
        let sealed = wire.seal(&packet(5, n, u32::from(n) * 160, &[n as u8; 160]));
        for _ in 0..3 {
            sim.inject(Leg::Customer, peer_address(Leg::Customer), &sealed);
        }
    }
    sim.wires[0] = Some(wire);
    let stats = close(&mut sim)[0];
    assert_eq!((stats.received, stats.replayed, stats.unauthentic), (100, 200, 0));
    assert_eq!(sim.heard[1].packets().len(), 100);
}

#[test]
fn r1_r2_a_race_of_attacker_and_legitimate_sender_bleeds_and_injects_nothing_in_either_order() {
    let attacker: SocketAddr = "192.0.2.66:4000".parse().expect("an address");
    for srtp in [[None, None], [Some(CM), None]] {
        for attacker_first in [true, false] {
            let mut sim = Sim::new(plan(4, Guard::Open, srtp));
            sim.peers[1].speak(murmur(2, 2_000.0));
            let attack = |sim: &mut Sim, n: u16| {
                sim.inject(Leg::Customer, attacker, &packet(66, n, u32::from(n) * 160, &[0x66; 160]));
                sim.inject_rtcp(Leg::Customer, attacker, &[0x80, 201, 0, 1, 0, 0, 0, 66]);
            };
            if attacker_first {
                (0..50).for_each(|n| attack(&mut sim, n));
            }
            sim.peers[0].speak(murmur(1, 2_000.0));
            for n in 50..150 {
                sim.run(20);
                attack(&mut sim, n);
            }
            // `Sim::flush` has held every packet of ours against the signalled address: bled = 0.
            let heard = sim.heard[1].payload_bytes();
            assert!(sim.peers[0].sent_payload_bytes().starts_with(&heard) && heard.len() > 90 * 160, "injected = 0");
            assert_eq!(sim.heard[1].packets().iter().filter(|p| p.ssrc == 66).count(), 0);
            let stats = close(&mut sim)[0];
            assert!(stats.foreign >= 100, "{stats:?}");
            assert_eq!(stats.unauthentic, 0, "what comes from elsewhere costs no cipher: {stats:?}");
        }
    }
}

#[test]
fn r3_ten_thousand_bad_tags_leave_the_call_alive() {
    for suite in [CM, GCM] {
        let mut sim = talking(plan(5, Guard::Masked(MaskKind::Silence), [Some(suite), Some(suite)]));
        sim.run(2_000);
        let mut stranger = Wire::new(suite, 99, 98, 77);
        let before = sim.heard[1].packets().len();
        for n in 0..10_000u32 {
            let sealed = stranger.seal(&packet(5 + n % 3, n as u16, n * 160, &[0x44; 160]));
            sim.inject(Leg::Customer, peer_address(Leg::Customer), &sealed);
            if n % 10 == 0 {
                sim.run(2);
            }
        }
        assert!(sim.heard[1].packets().len() - before >= 98, "sound went on through it");
        sim.peers[0].press(0, typed("42", Form::Tone, 100, 100));
        sim.run(2_000);
        assert_eq!(sim.collected(), "42");
        assert_eq!(sim.out.inactive, 0);
        let stats = close(&mut sim)[0];
        assert_eq!((stats.unauthentic, stats.lost), (10_000, 0), "{stats:?}");
    }
}

#[test]
fn r4_a_dtls_hello_on_the_rtp_port_does_nothing_before_or_after_the_set_up() {
    let mut hello = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 1];
    hello.resize(200, 0x11);
    for srtp in [[None, None], [Some(CM), None]] {
        let mut sim = Sim::new(plan(6, Guard::Open, srtp));
        let agreed = negotiated(Leg::Customer, Codec::Pcmu, true, 20);
        sim.order(Command::SetLeg { session: SESSION, leg: Leg::Customer, media: tonewall::media::LegMedia::idle() });
        for from in ["192.0.2.1:4000", "192.0.2.66:4000"] {
            sim.inject(Leg::Customer, from.parse().expect("an address"), &hello);
            sim.inject_rtcp(Leg::Customer, from.parse().expect("an address"), &hello);
        }
        sim.set_leg(Leg::Customer, agreed);
        for peer in &mut sim.peers {
            peer.speak(murmur(1, 2_000.0));
        }
        for _ in 0..100 {
            for from in ["192.0.2.1:4000", "192.0.2.66:4000"] {
                sim.inject(Leg::Customer, from.parse().expect("an address"), &hello);
                sim.inject_rtcp(Leg::Customer, from.parse().expect("an address"), &hello);
            }
            sim.run(20);
        }
        assert!(sim.heard[1].packets().len() >= 95);
        assert!(sim.peers[0].sent_payload_bytes().starts_with(&sim.heard[1].payload_bytes()));
    }
}

#[test]
fn r5_crafted_rtcp_is_never_forwarded_encrypted_or_not() {
    for srtp in [[None, None], [Some(CM), Some(GCM)]] {
        let mut sim = talking(plan(7, Guard::Open, srtp));
        let marks: [&[u8]; 6] = [
            // APP, XR, SDES with a telling note, BYE with a reason, feedback, and a report that runs past its end.
            &[0x80, 204, 0, 4, 0, 0, 0, 5, b'L', b'E', b'A', b'K', 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x80, 207, 0, 4, 0, 0, 0, 5, b'L', b'E', b'A', b'K', 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x81, 202, 0, 3, 0, 0, 0, 5, 7, 4, b'L', b'E', b'A', b'K', 0, 0],
            &[0x81, 203, 0, 3, 0, 0, 0, 5, 4, b'L', b'E', b'A', b'K', 0, 0, 0],
            &[0x81, 206, 0, 3, 0, 0, 0, 5, 0, 0, 0, 6, b'L', b'E', b'A', b'K'],
            &[0x9f, 200, 0xff, 0xff, 0, 0, 0, 5, b'L', b'E', b'A', b'K'],
        ];
        let rtcp_of = |leg: Leg| SocketAddr::new(peer_address(leg).ip(), peer_address(leg).port() + 1);
        for turn in 0..2_000usize {
            let mut bytes = vec![0x80, 201, 0, 1, 0, 0, 0, 5];
            if turn % 2 == 1 {
                bytes.clear();
            }
            bytes.extend(marks[turn % marks.len()]);
            bytes.truncate(bytes.len() - turn % 5);
            if let Some(wire) = &mut sim.wires[0] {
                let mut room = [0; 200];
                if let Some(sealed) = wire.tx.seal_rtcp(&bytes, &mut room) {
                    bytes = sealed.to_vec();
                }
            }
            sim.inject_rtcp(Leg::Customer, rtcp_of(Leg::Customer), &bytes);
            sim.run(6);
        }
        for leg in [Leg::Customer, Leg::Agent] {
            let reports = &sim.rtcp[leg.index()];
            assert!((1..=6).contains(&reports.len()), "{} reports in 12 s: ours alone", reports.len());
            for report in reports {
                assert!(rtcp::parse(report).is_ok());
                assert!(!report.windows(4).any(|w| w == b"LEAK"), "{leg:?}");
                assert!(report[1] == 200 || report[1] == 201);
            }
        }
        assert!(sim.heard[1].packets().len() > 590, "media went on");
    }
}

#[test]
fn r6_the_sequence_wraps_twice_on_encrypted_legs_from_65_500_on() {
    for suite in [CM, GCM] {
        let mut sim = Sim::new(plan(8, Guard::Open, [Some(suite), Some(suite)]));
        sim.peers.iter_mut().for_each(|peer| peer.set_toward(sim.now, None));
        let mut wire = sim.wires[0].take().expect("a wire");
        let from = peer_address(Leg::Customer);
        let count = 66_000u32;
        for n in 0..count {
            let bytes = wire.seal(&packet(5, 65_500u16.wrapping_add(n as u16), n * 160, &[n as u8; 160]));
            sim.inject(Leg::Customer, from, &bytes);
        }
        // Ours toward the agent has wrapped as well, wherever it began; `Sim::flush` opened every packet of it.
        assert_eq!(sim.heard[1].packets().len(), count as usize);
        assert!(sim.wires[1].as_ref().expect("a wire").rx.rollover(sim.heard[1].packets()[0].ssrc) >= Some(1));
        // The sender restarts under another SSRC in between, and again, with the numbers of before.
        for ssrc in [6, 7] {
            for n in 0..200u32 {
                let bytes = wire.seal(&packet(ssrc, 65_500u16.wrapping_add(n as u16), n * 160, &[n as u8; 160]));
                sim.inject(Leg::Customer, from, &bytes);
            }
        }
        let heard = sim.heard[1].packets().len();
        assert!(heard >= count as usize + 398, "{heard}");
        let stats = close(&mut sim)[0];
        assert_eq!((stats.unauthentic, stats.replayed), (0, 0), "{stats:?}");
    }
}

#[test]
fn a_rekey_in_mid_call_loses_and_breaks_nothing() {
    for next in [CM, GCM] {
        let mut sim = talking(plan(9, Guard::Open, [Some(CM), None]));
        sim.run(3_000);
        let old = sim.wires[0].take().expect("a wire");
        let new = Wire::new(next, 31, if next == CM { 20 } else { 32 }, 0);
        let media =
            tonewall::media::LegMedia { security: new.security(), ..negotiated(Leg::Customer, Codec::Pcmu, true, 20) };
        // We change at once; the peer's last packets under the old key come after.
        sim.order(Command::SetLeg { session: SESSION, leg: Leg::Customer, media });
        let Wire { tx, mut rx, .. } = old;
        rx.rekey(next, &new.keys.tx).expect("keys");
        sim.wires[0] = Some(Wire { tx, rx, keys: new.keys.clone() });
        sim.run(300);
        let wire = sim.wires[0].as_mut().expect("a wire");
        wire.tx.rekey(next, &new.keys.rx).expect("keys");
        sim.run(5_000);
        for leg in [Leg::Customer, Leg::Agent] {
            let sent = sim.peers[leg.index()].sent_payload_bytes();
            let heard = sim.heard[leg.other().index()].payload_bytes();
            assert!(sent.len() - heard.len() <= 160 && sent.starts_with(&heard), "{next:?} {leg:?}");
        }
        let stats = close(&mut sim)[0];
        assert_eq!((stats.unauthentic, stats.lost), (0, 0), "{stats:?}");
    }
}

#[test]
fn a_leg_that_must_be_encrypted_sends_and_takes_nothing_in_the_clear() {
    let mut sim = talking(plan(10, Guard::Open, [None, None]));
    sim.run(1_000);
    // Keys that cannot be used: fail closed.
    let wire = Wire::new(CM, 1, 2, 5);
    let mut keys = wire.keys.clone();
    keys.suite = SrtpSuite::AesGcm256;
    let media = tonewall::media::LegMedia {
        security: Security::Srtp(Box::new(keys)),
        ..negotiated(Leg::Customer, Codec::Pcmu, true, 20)
    };
    sim.set_leg(Leg::Customer, media);
    let (before, reports) = ([0, 1].map(|at: usize| sim.heard[at].packets().len()), sim.rtcp[0].len());
    sim.run(11_000);
    assert_eq!([0, 1].map(|at: usize| sim.heard[at].packets().len()), before, "neither way");
    assert_eq!(sim.rtcp[0].len(), reports);
}

#[test]
fn rtcp_shares_the_port_where_it_was_agreed() {
    for srtp in [[None, None], [Some(CM), None]] {
        let mut sim = talking(plan(11, Guard::Open, srtp));
        let mut media = negotiated(Leg::Customer, Codec::Pcmu, true, 20);
        media.rtcp_mux = true;
        media.remote_rtcp = media.remote_rtp;
        sim.set_leg(Leg::Customer, media);
        let mut report = vec![0x80, 200, 0, 6];
        report.extend([0, 0, 0, 5]);
        report.extend([7; 20]);
        if let Some(wire) = &mut sim.wires[0] {
            let mut room = [0; 100];
            report = wire.tx.seal_rtcp(&report, &mut room).expect("sealed").to_vec();
        }
        sim.run(100);
        let malformed = |sim: &mut Sim| close(sim)[0];
        sim.inject(Leg::Customer, peer_address(Leg::Customer), &report);
        sim.run(10_000);
        assert!(sim.rtcp[0].is_empty(), "nothing comes from the RTCP port");
        assert!(!sim.muxed[0].is_empty(), "reports come from the RTP port");
        assert!(sim.muxed[0].iter().all(|report| rtcp::parse(report).is_ok()));
        assert!(!sim.rtcp[1].is_empty(), "the other leg keeps its own port");
        let sent = sim.peers[0].sent_payload_bytes();
        assert!(sent.starts_with(&sim.heard[1].payload_bytes()));
        let stats = malformed(&mut sim);
        assert_eq!((stats.malformed, stats.unauthentic, stats.lost), (0, 0, 0), "{stats:?}");
    }
}
