//! Two ends of ours, and what a third one can do to them. `tests/dtls_opinion.rs` has OpenSSL at the other end.
#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use super::*;
use crate::srtp::{Receiver, Sender};

fn identity() -> Arc<Identity> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
    Arc::new(Identity::new(certificate.der().to_vec(), key.serialize_der()))
}

type Keys = (SrtpSuite, MediaKey, MediaKey);

struct Pair {
    now: Instant,
    ends: [Handshake; 2],
    keys: [Vec<Keys>; 2],
}

impl Pair {
    /// An active and a passive end; the active one expects `expected`.
    fn new(expected: impl FnOnce(Fingerprint) -> Fingerprint) -> Self {
        let now = Instant::now();
        let (a, b) = (identity(), identity());
        let active = Handshake::new(now, a.clone(), Role::Active, expected(b.fingerprint()));
        let passive = Handshake::new(now, b, Role::Passive, a.fingerprint());
        Self { now, ends: [active, passive], keys: [Vec::new(), Vec::new()] }
    }

    /// Runs for `ms`; `lose` says which datagram (its end, its number) is lost.
    fn run(&mut self, ms: u64, mut lose: impl FnMut(usize, usize) -> bool) {
        let mut count = 0;
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            for at in 0..2 {
                self.ends[at].handle_timeout(self.now);
                let mut room = [0; 2_048];
                while let Some(step) = self.ends[at].poll(self.now, &mut room) {
                    match step {
                        Step::Transmit(length) => {
                            assert!(Handshake::is_dtls(&room[..length]));
                            count += 1;
                            if !lose(at, count) {
                                self.ends[1 - at].handle_packet(self.now, &room[..length]);
                            }
                        }
                        Step::Keys(suite, theirs, ours) => self.keys[at].push((suite, theirs, ours)),
                    }
                }
            }
        }
    }

    fn assert_keyed(&self) {
        let [a, b] = &self.keys;
        assert_eq!((a.len(), b.len()), (1, 1), "{:?}", self.ends);
        assert!(a[0].0 == b[0].0 && a[0].1 == b[0].2 && a[0].2 == b[0].1 && a[0].1 != a[0].2);
        let mut room = [0; 64];
        let mut sender = Sender::new(a[0].0, &a[0].2).expect("keys");
        let mut receiver = Receiver::new(b[0].0, &b[0].1).expect("keys");
        let packet = [0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9];
        let mut sealed = sender.seal_rtp(&packet, &mut room).expect("sealed").to_vec();
        assert_eq!(receiver.open_rtp(&mut sealed), Ok(packet.len()));
    }
}

#[test]
fn both_ends_get_the_same_keys() {
    let mut pair = Pair::new(|fingerprint| fingerprint);
    pair.run(200, |_, _| false);
    pair.assert_keyed();
    assert_eq!(pair.keys[0][0].0, SrtpSuite::AesGcm256);
}

#[test]
fn lost_datagrams_are_sent_again() {
    for third in 0..3 {
        let mut pair = Pair::new(|fingerprint| fingerprint);
        pair.run(20_000, |_, number| number % 3 == third && number < 14);
        pair.assert_keyed();
    }
}

#[test]
fn r4_another_certificate_than_the_signalled_one_gives_no_key() {
    let mut pair = Pair::new(|_| [7; 32]);
    pair.run(5_000, |_, _| false);
    assert!(pair.keys[0].is_empty(), "the end that was deceived has no key");
}

#[test]
fn r4_forged_hellos_and_noise_before_and_after_kill_nothing() {
    let mut pair = Pair::new(|fingerprint| fingerprint);
    let noise = |n: usize| -> Vec<u8> {
        let mut bytes =
            vec![[20u8, 21, 22, 23, 25, 63][n % 6], 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, n as u8, 0, (n % 90) as u8];
        bytes.resize(13 + n % 100, n as u8);
        bytes
    };
    for n in 0..300 {
        for end in &mut pair.ends {
            end.handle_packet(pair.now, &noise(n));
        }
    }
    pair.run(20_000, |_, _| false);
    pair.assert_keyed();
    for n in 0..300 {
        for end in &mut pair.ends {
            end.handle_packet(pair.now, &noise(n));
        }
    }
    pair.run(1_000, |_, _| false);
    pair.assert_keyed();
}

#[test]
fn altered_datagrams_break_nothing_for_good() {
    use rand::{RngExt, SeedableRng};
    let mut whole = 0;
    for seed in 0..40 {
        let mut random = crate::base::Random::seed_from_u64(seed);
        let mut pair = Pair::new(|fingerprint| fingerprint);
        // For two seconds every other datagram arrives altered, cut, twice, or not at all.
        for ms in 0..60_000 {
            pair.now += Duration::from_millis(1);
            for at in 0..2 {
                pair.ends[at].handle_timeout(pair.now);
                let mut room = [0; 2_048];
                while let Some(step) = pair.ends[at].poll(pair.now, &mut room) {
                    match step {
                        Step::Transmit(length) => {
                            let mut datagram = room[..length].to_vec();
                            if ms < 2_000 && random.random() {
                                match random.random_range(0..4) {
                                    0 => datagram[random.random_range(0..length)] ^= 1 << random.random_range(0..8),
                                    1 => datagram.truncate(random.random_range(0..length)),
                                    2 => pair.ends[1 - at].handle_packet(pair.now, &datagram),
                                    _ => continue,
                                }
                            }
                            pair.ends[1 - at].handle_packet(pair.now, &datagram);
                        }
                        Step::Keys(suite, theirs, ours) => pair.keys[at].push((suite, theirs, ours)),
                    }
                }
            }
            let agree = |a: &Keys, b: &Keys| a.1 == b.2 && a.2 == b.1;
            if pair.keys[0].last().zip(pair.keys[1].last()).is_some_and(|(a, b)| agree(a, b)) {
                break;
            }
        }
        // A bit turned in a certificate looks like somebody else's, which is final.
        if pair.ends.iter().all(|end| !matches!(end.state, State::Failed)) {
            let newest = |at: usize| pair.keys[at].last().expect("keys").clone();
            let (a, b) = (newest(0), newest(1));
            assert!(a.1 == b.2 && a.2 == b.1, "seed {seed}: {:?}", pair.ends);
            whole += 1;
        }
    }
    assert!(whole >= 30, "{whole} of 40");
}

#[test]
fn r4_a_handshake_that_never_gets_on_begins_anew_and_then_rests() {
    let now = Instant::now();
    let mut alone = Handshake::new(now, identity(), Role::Active, [1; 32]);
    let mut room = [0; 2_048];
    let mut sent = 0;
    for second in 0..3_600 {
        let now = now + Duration::from_secs(second);
        alone.handle_timeout(now);
        while let Some(step) = alone.poll(now, &mut room) {
            assert!(matches!(step, Step::Transmit(_)));
            sent += 1;
        }
    }
    assert!((5..200).contains(&sent), "{sent} hellos in an hour");
    assert_eq!(alone.poll_timeout(), None);
    assert_eq!(format!("{alone:?}"), "Handshake { role: Active, state: \"failed\", .. }");
}
