//! Streams that are no RTP (fax): they pass as they come, from the signalled address only, and never under a mask.

use tonewall::base::ids::Leg;
use tonewall::config::MaskKind;
use tonewall::media::{Command, Guard, LegMedia, Tap, Worker};

use crate::sim::{Out, Plan, SESSION, Sim, peer_address};

/// A call of two fax machines, after some talk.
fn faxing(back: Guard) -> (Sim, Out) {
    let mut sim = Sim::new(Plan { back, ..Plan::new(5, Guard::Listen) });
    sim.run(500);
    for leg in [Leg::Customer, Leg::Agent] {
        sim.peers[leg.index()].set_toward(sim.now, None);
        let media = LegMedia {
            remote_rtp: Some(peer_address(leg)),
            send: true,
            receive: true,
            opaque: true,
            ..LegMedia::idle()
        };
        sim.order(Command::SetLeg { session: SESSION, leg, media });
    }
    (sim, Out::default())
}

/// What of a datagram of `leg` reaches the other side.
fn reaches(worker: &mut Worker, out: &mut Out, now: std::time::Instant, leg: Leg, bytes: &[u8]) -> bool {
    worker.handle_rtp(now, SESSION, leg, peer_address(leg), bytes, out);
    let sent: Vec<_> = out.packets.drain(..).collect();
    assert!(sent.iter().all(|(to, at, whole)| *to == leg.other() && *at == peer_address(*to) && whole == bytes));
    sent.len() == 1
}

/// Bytes that begin as RTP, RTCP, DTLS and neither do.
const DATAGRAMS: [[u8; 40]; 4] = [[0x80; 40], [0xc8; 40], [22; 40], [0; 40]];

#[test]
fn fax_passes_as_it_comes_both_ways_and_from_nobody_else() {
    let (mut sim, mut out) = faxing(Guard::Open);
    for datagram in DATAGRAMS {
        for leg in [Leg::Customer, Leg::Agent] {
            assert!(reaches(&mut sim.worker, &mut out, sim.now, leg, &datagram));
            let stranger = "192.0.2.66:4000".parse().expect("an address");
            sim.worker.handle_rtp(sim.now, SESSION, leg, stranger, &datagram, &mut out);
            assert!(out.packets.is_empty(), "from a stranger");
        }
    }
}

#[test]
fn no_datagram_of_fax_passes_while_the_mask_is_in_force_and_it_goes_on_afterwards() {
    for back in [Guard::Open, Guard::Withhold, Guard::Masked(MaskKind::Silence)] {
        let (mut sim, mut out) = faxing(back);
        sim.set_tap(Tap::On);
        assert!(reaches(&mut sim.worker, &mut out, sim.now, Leg::Customer, &DATAGRAMS[0]));
        sim.set_guard(Guard::Masked(MaskKind::Tone));
        for _ in 0..100 {
            for (datagram, leg) in DATAGRAMS.iter().zip([Leg::Customer, Leg::Agent].into_iter().cycle()) {
                assert!(!reaches(&mut sim.worker, &mut out, sim.now, leg, datagram));
            }
            sim.run(20);
        }
        sim.set_guard(Guard::Listen);
        let mut waited = 0;
        while !reaches(&mut sim.worker, &mut out, sim.now, Leg::Customer, &DATAGRAMS[3]) {
            sim.run(20);
            waited += 20;
            assert!(waited < 3_000, "fax must go on when the mask is gone");
        }
        assert!(reaches(&mut sim.worker, &mut out, sim.now, Leg::Agent, &DATAGRAMS[3]));
    }
}

#[test]
fn fax_never_crosses_into_a_leg_of_audio() {
    let (mut sim, mut out) = faxing(Guard::Open);
    let media = crate::sim::negotiated(Leg::Agent, tonewall::config::Codec::Pcmu, true, 20);
    sim.order(Command::SetLeg { session: SESSION, leg: Leg::Agent, media });
    assert!(!reaches(&mut sim.worker, &mut out, sim.now, Leg::Customer, &DATAGRAMS[0]));
}
