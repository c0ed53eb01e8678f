//! A sender and a receiver with one key between them.

use super::*;
use crate::srtp::{MAX_GROWTH, Sender};

fn key(suite: SrtpSuite, fill: u8) -> MediaKey {
    MediaKey::new(&vec![fill; suite.key_len() + suite.salt_len()]).expect("a key")
}

const CM: SrtpSuite = SrtpSuite::AesCm128Sha1_80;

fn packet(ssrc: u32, sequence: u16, fill: u8) -> Vec<u8> {
    let mut bytes = vec![0x80, 0];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0, 0, 0, 9]);
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend([fill; 160]);
    bytes
}

fn seal(sender: &mut Sender, packet: &[u8]) -> Option<Vec<u8>> {
    let mut room = [0; 172 + MAX_GROWTH];
    sender.seal_rtp(packet, &mut room).map(<[u8]>::to_vec)
}

fn open(receiver: &mut Receiver, sealed: &[u8]) -> Result<Vec<u8>, Rejected> {
    let mut room = sealed.to_vec();
    receiver.open_rtp(&mut room).map(|length| room[..length].to_vec())
}

#[test]
fn r6_every_suite_lives_through_more_than_a_whole_cycle_from_65_500_on() {
    for suite in SrtpSuite::ALL {
        let (mut sender, mut receiver) =
            (Sender::new(suite, &key(suite, 3)).expect("keys"), Receiver::new(suite, &key(suite, 3)).expect("keys"));
        let count = if suite == CM || suite == SrtpSuite::AesGcm128 { 140_000u32 } else { 66_000 };
        for n in 0..count {
            let plain = packet(5, 65_500u16.wrapping_add(n as u16), n as u8);
            let sealed = seal(&mut sender, &plain).expect("sealed");
            assert_ne!(sealed[12..172], plain[12..]);
            // Loss does not matter, nor does a stretch of it.
            if n % 7 != 0 && !(20_000..22_000).contains(&n) {
                assert_eq!(open(&mut receiver, &sealed).expect("opened"), plain, "{suite:?} packet {n}");
            }
        }
        let cycles = (65_500 + count - 1) >> 16;
        assert_eq!((sender.rollover(), receiver.rollover(5)), (cycles, Some(cycles)));
    }
}

#[test]
fn r6_a_new_ssrc_begins_its_own_count_and_the_old_one_may_come_back() {
    let (mut old, mut new) = (Sender::new(CM, &key(CM, 3)).expect("keys"), Sender::new(CM, &key(CM, 3)).expect("keys"));
    let mut receiver = Receiver::new(CM, &key(CM, 3)).expect("keys");
    for n in 0..200u16 {
        open(&mut receiver, &seal(&mut old, &packet(1, 65_500u16.wrapping_add(n), 1)).expect("sealed"))
            .expect("opened");
    }
    for n in 0..10 {
        open(&mut receiver, &seal(&mut new, &packet(2, 100 + n, 1)).expect("sealed")).expect("opened");
    }
    assert_eq!((receiver.rollover(1), receiver.rollover(2)), (Some(1), Some(0)));
    let sealed = seal(&mut old, &packet(1, 65_500u16.wrapping_add(200), 1)).expect("sealed");
    open(&mut receiver, &sealed).expect("opened");
}

#[test]
fn r6_a_stream_that_has_wrapped_before_we_heard_it_is_understood() {
    let (mut sender, mut receiver) =
        (Sender::new(CM, &key(CM, 3)).expect("keys"), Receiver::new(CM, &key(CM, 3)).expect("keys"));
    for n in 0..300u16 {
        let sealed = seal(&mut sender, &packet(1, 65_400u16.wrapping_add(n), 1)).expect("sealed");
        if n >= 200 {
            open(&mut receiver, &sealed).expect("opened");
        }
    }
    assert_eq!(receiver.rollover(1), Some(1));
}

#[test]
fn what_came_before_and_what_is_older_than_the_window_is_dropped() {
    let (mut sender, mut receiver) =
        (Sender::new(CM, &key(CM, 3)).expect("keys"), Receiver::new(CM, &key(CM, 3)).expect("keys"));
    let sealed: Vec<_> = (0..400).map(|n| seal(&mut sender, &packet(1, n, 1)).expect("sealed")).collect();
    open(&mut receiver, &sealed[10]).expect("opened");
    open(&mut receiver, &sealed[9]).expect("late, but fresh");
    assert_eq!(open(&mut receiver, &sealed[10]), Err(Rejected::Replayed));
    assert_eq!(open(&mut receiver, &sealed[9]), Err(Rejected::Replayed));
    open(&mut receiver, &sealed[138]).expect("opened");
    assert_eq!(open(&mut receiver, &sealed[10]), Err(Rejected::Replayed));
    open(&mut receiver, &sealed[11]).expect("127 behind is in the window");
    open(&mut receiver, &sealed[139]).expect("opened");
    assert_eq!(open(&mut receiver, &sealed[11]), Err(Rejected::Replayed));
}

#[test]
fn r2_packets_with_bad_tags_move_neither_counter_nor_sources() {
    let (mut sender, mut receiver) =
        (Sender::new(CM, &key(CM, 3)).expect("keys"), Receiver::new(CM, &key(CM, 3)).expect("keys"));
    let mut stranger = Sender::new(CM, &key(CM, 4)).expect("keys");
    for n in 0..100 {
        // A stranger sends sequence numbers far ahead under the true SSRC, and under many others.
        let forged = seal(&mut stranger, &packet(1, 40_000 + n, 1)).expect("sealed");
        assert_eq!(open(&mut receiver, &forged), Err(Rejected::Unauthentic));
        let forged = seal(&mut stranger, &packet(100 + u32::from(n), n, 1)).expect("sealed");
        assert_eq!(open(&mut receiver, &forged), Err(Rejected::Unauthentic));
        open(&mut receiver, &seal(&mut sender, &packet(1, n, 1)).expect("sealed")).expect("opened");
    }
    assert_eq!(receiver.rollover(1), Some(0));
    assert_eq!(receiver.rollover(100), None);
}

#[test]
fn no_index_is_sealed_twice_even_when_asked_to() {
    let mut sender = Sender::new(CM, &key(CM, 3)).expect("keys");
    assert!(seal(&mut sender, &packet(1, 500, 1)).is_some());
    assert_eq!(seal(&mut sender, &packet(1, 500, 2)), None, "another payload under the same number");
    assert!(seal(&mut sender, &packet(1, 499, 1)).is_some(), "a late packet is another number");
    assert_eq!(seal(&mut sender, &packet(1, 499, 2)), None);
    assert!(seal(&mut sender, &packet(1, 700, 1)).is_some());
    assert_eq!(seal(&mut sender, &packet(1, 500, 1)), None, "too old to tell");
    sender.rekey(CM, &key(CM, 4)).expect("keys");
    sender.rekey(CM, &key(CM, 3)).expect("keys");
    assert_eq!(seal(&mut sender, &packet(1, 700, 2)), None, "the old key again is still used up");
}

#[test]
fn a_rekey_loses_no_packet_on_its_way_and_the_former_key_ends() {
    for (count_kept, suite) in [(true, CM), (false, CM), (true, SrtpSuite::AesGcm256)] {
        let mut old = Sender::new(suite, &key(suite, 3)).expect("keys");
        let mut receiver = Receiver::new(suite, &key(suite, 3)).expect("keys");
        let mut sequence = 65_000u16;
        for _ in 0..1_000 {
            sequence = sequence.wrapping_add(1);
            open(&mut receiver, &seal(&mut old, &packet(1, sequence, 1)).expect("sealed")).expect("opened");
        }
        assert_eq!(receiver.rollover(1), Some(1));
        receiver.rekey(suite, &key(suite, 9)).expect("keys");
        // The peer has not changed over yet.
        let mut late = Vec::new();
        for n in 0..20 {
            sequence = sequence.wrapping_add(1);
            let sealed = seal(&mut old, &packet(1, sequence, 1)).expect("sealed");
            if n % 4 == 3 { late.push(sealed) } else { drop(open(&mut receiver, &sealed).expect("opened")) }
        }
        // A peer keeps its rollover counter over a re-key, as it should, or begins anew, as some do.
        let mut new = if count_kept { old } else { Sender::new(suite, &key(suite, 9)).expect("keys") };
        new.rekey(suite, &key(suite, 9)).expect("keys");
        for n in 0..200 {
            sequence = sequence.wrapping_add(1);
            let sealed = seal(&mut new, &packet(1, sequence, 1)).expect("sealed");
            open(&mut receiver, &sealed).unwrap_or_else(|why| panic!("packet {n}: {why}"));
            if n == 3 {
                for sealed in &late {
                    open(&mut receiver, sealed).expect("on its way under the former key");
                }
            }
        }
        assert_eq!(receiver.rollover(1), Some(u32::from(count_kept)));
        assert_eq!(open(&mut receiver, &late[0]), Err(Rejected::Unauthentic), "the former key has ended");
    }
}

#[test]
fn a_key_that_comes_back_takes_nothing_twice() {
    let mut sender = Sender::new(CM, &key(CM, 3)).expect("keys");
    let mut receiver = Receiver::new(CM, &key(CM, 3)).expect("keys");
    let sealed = seal(&mut sender, &packet(1, 7, 1)).expect("sealed");
    open(&mut receiver, &sealed).expect("opened");
    receiver.rekey(CM, &key(CM, 9)).expect("keys");
    assert_eq!(open(&mut receiver, &sealed), Err(Rejected::Replayed), "under the former key");
    receiver.rekey(CM, &key(CM, 3)).expect("keys");
    assert_eq!(open(&mut receiver, &sealed), Err(Rejected::Replayed), "under the key of now again");
}

#[test]
fn reports_are_sealed_opened_and_taken_once() {
    for suite in SrtpSuite::ALL {
        let mut sender = Sender::new(suite, &key(suite, 3)).expect("keys");
        let mut receiver = Receiver::new(suite, &key(suite, 3)).expect("keys");
        let plain = [0x80, 201, 0, 1, 0, 0, 0, 7, 0x81, 202, 0, 1, 1, 2, 3, 4];
        let mut room = [0; 64];
        for turn in 0..5 {
            let sealed = sender.seal_rtcp(&plain, &mut room).expect("sealed").to_vec();
            assert_ne!(sealed[8..16], plain[8..]);
            assert_eq!(sealed[..8], plain[..8]);
            let mut opened = sealed.clone();
            assert_eq!(receiver.open_rtcp(&mut opened), Ok(16), "{suite:?} {turn}");
            assert_eq!(opened[..16], plain);
            let mut again = sealed;
            assert_eq!(receiver.open_rtcp(&mut again), Err(Rejected::Replayed));
        }
    }
}

#[test]
fn nothing_prints_a_key() {
    let sender = Sender::new(CM, &key(CM, 0x61)).expect("keys");
    let receiver = Receiver::new(CM, &key(CM, 0x61)).expect("keys");
    let printed = format!("{sender:?} {receiver:?}");
    assert_eq!(printed, "Sender { suite: AesCm128Sha1_80, .. } Receiver { suite: AesCm128Sha1_80, .. }");
}
