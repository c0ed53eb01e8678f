//! A leg whose keys come by a handshake on its RTP port (threats R4): silent until then, by the signalled address only,
//! and guarded as any other.

use std::net::SocketAddr;
use std::sync::Arc;

use tonewall::base::ids::Leg;
use tonewall::config::{Codec, MaskKind, SrtpSuite};
use tonewall::media::{Command, DtlsPeer, Guard, LegMedia, Security, SrtpKeys};
use tonewall::srtp::{Handshake, Identity, Receiver, Role, Sender, Step};
use tonewall::testkit::keys::{Form, typed};

use crate::relay::murmur;
use crate::sim::{Plan, SESSION, Sim, Wire, negotiated, peer_address};

fn identity() -> Arc<Identity> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
    Arc::new(Identity::new(certificate.der().to_vec(), key.serialize_der()))
}

/// A call whose customer's leg agrees on keys by DTLS.
struct Call {
    sim: Sim,
    ours: Arc<Identity>,
    theirs: Arc<Identity>,
    peer: Handshake,
    /// How many handshakes gave the peer keys.
    keyed: usize,
}

impl Call {
    fn new(role: Role, expected: Option<[u8; 32]>) -> Self {
        let mut sim = Sim::new(Plan::new(1, Guard::Masked(MaskKind::Silence)));
        let (ours, theirs) = (identity(), identity());
        let other = if role == Role::Active { Role::Passive } else { Role::Active };
        let peer = Handshake::new(sim.now, theirs.clone(), other, ours.fingerprint());
        // What the peer would send in the clear is left to `run`.
        sim.order(Command::SetLeg { session: SESSION, leg: Leg::Customer, media: LegMedia::idle() });
        sim.peers[0].set_toward(sim.now, None);
        sim.peers[1].speak(murmur(2, 2_000.0));
        let mut call = Self { sim, ours, theirs, peer, keyed: 0 };
        call.agree(role, expected);
        call
    }

    fn agree(&mut self, role: Role, expected: Option<[u8; 32]>) {
        let fingerprint = expected.unwrap_or_else(|| self.theirs.fingerprint());
        let dtls = DtlsPeer { identity: self.ours.clone(), role, fingerprint, peering: 9 };
        let media = LegMedia {
            security: Security::Dtls(Box::new(dtls)),
            rtcp_mux: true,
            remote_rtcp: Some(peer_address(Leg::Customer)),
            ..negotiated(Leg::Customer, Codec::Pcmu, true, 20)
        };
        self.sim.order(Command::SetLeg { session: SESSION, leg: Leg::Customer, media });
    }

    /// Runs with the peer's end of the handshake; when it has keys, it speaks and hears by them.
    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.sim.run(1);
            let mut room = [0; 2_048];
            for datagram in std::mem::take(&mut self.sim.handshakes[0]) {
                self.peer.handle_packet(self.sim.now, &datagram);
            }
            self.peer.handle_timeout(self.sim.now);
            while let Some(step) = self.peer.poll(self.sim.now, &mut room) {
                match step {
                    Step::Transmit(length) => {
                        let bytes = room[..length].to_vec();
                        self.sim.inject(Leg::Customer, peer_address(Leg::Customer), &bytes);
                    }
                    Step::Keys(suite, theirs, ours) => {
                        self.keyed += 1;
                        let tx = Sender::new(suite, &ours).expect("keys");
                        let rx = Receiver::new(suite, &theirs).expect("keys");
                        let keys = SrtpKeys { suite, rx: ours, tx: theirs, peering: 9 };
                        self.sim.wires[0] = Some(Wire { keys, tx, rx });
                    }
                }
            }
        }
    }

    fn speak(&mut self) {
        self.sim.send_from(Leg::Customer, Codec::Pcmu, true);
        self.sim.peers[0].speak(murmur(1, 2_000.0));
    }
}

#[test]
fn keys_come_by_handshake_in_either_role_and_the_guard_holds() {
    for role in [Role::Active, Role::Passive] {
        let mut call = Call::new(role, None);
        call.run(300);
        assert_eq!(call.keyed, 1, "{role:?}");
        assert_eq!(call.sim.wires[0].as_ref().map(|wire| wire.keys.suite), Some(SrtpSuite::AesGcm256));
        let silent = call.sim.heard[0].packets().first().map(|packet| packet.at - call.sim.began);
        call.speak();
        call.run(2_000);
        call.sim.peers[0].press(0, typed("4242", Form::Tone, 100, 100));
        call.sim.peers[0].press(0, typed("17", Form::Event, 100, 100));
        call.run(4_000);
        assert_eq!(call.sim.collected(), "424217");
        assert!(call.sim.heard[0].packets().len() > 290 && silent.is_some());
        assert!(call.sim.heard[1].packets().len() > 290);
        assert!(!call.sim.muxed[0].is_empty() || call.sim.now - call.sim.began < std::time::Duration::from_secs(8));
        // The same agreed once more, as a re-INVITE does: nothing begins anew.
        call.agree(role, None);
        let heard = call.sim.heard[0].packets().len();
        call.run(1_000);
        assert_eq!(call.keyed, 1);
        assert!(call.sim.heard[0].packets().len() >= heard + 49);
    }
}

#[test]
fn r4_nothing_is_sent_or_taken_before_the_keys_or_with_anothers_certificate() {
    let mut call = Call::new(Role::Active, Some([7; 32]));
    for n in 0..100u16 {
        let mut plain = vec![0x80, 0];
        plain.extend(n.to_be_bytes());
        plain.extend([0; 8]);
        plain.extend([0x33; 160]);
        call.sim.inject(Leg::Customer, peer_address(Leg::Customer), &plain);
        call.run(20);
    }
    assert!(call.sim.heard[0].packets().is_empty() && call.sim.muxed[0].is_empty() && call.sim.rtcp[0].is_empty());
    assert!(call.sim.heard[1].payload_bytes().iter().all(|byte| *byte != 0x33));
}

#[test]
fn r4_hellos_from_elsewhere_and_broken_ones_do_not_stop_the_true_one() {
    for role in [Role::Active, Role::Passive] {
        let mut call = Call::new(role, None);
        let elsewhere: SocketAddr = "192.0.2.66:4000".parse().expect("an address");
        let mut stranger = Handshake::new(call.sim.now, identity(), Role::Active, [0; 32]);
        let mut room = [0; 2_048];
        let mut hello = Vec::new();
        while let Some(Step::Transmit(length)) = stranger.poll(call.sim.now, &mut room) {
            hello = room[..length].to_vec();
        }
        assert!(Handshake::is_dtls(&hello));
        let attack = |sim: &mut Sim| {
            sim.inject(Leg::Customer, elsewhere, &hello);
            for cut in [1, 13, 14, 25, hello.len() - 1] {
                sim.inject(Leg::Customer, peer_address(Leg::Customer), &hello[..cut]);
            }
        };
        for _ in 0..50 {
            attack(&mut call.sim);
        }
        call.run(25_000);
        assert_eq!(call.keyed, 1, "{role:?}");
        for _ in 0..50 {
            attack(&mut call.sim);
            // Whole, and from the right address: forged.
            call.sim.inject(Leg::Customer, peer_address(Leg::Customer), &hello);
        }
        call.speak();
        let before = call.sim.heard[1].packets().len();
        call.run(2_000);
        assert!(call.sim.heard[1].packets().len() - before >= 95, "{role:?}");
        assert_eq!(call.sim.out.closed.len(), 0);
    }
}
