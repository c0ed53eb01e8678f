//! What nobody here wrote reads what we seal, and we read what it seals: libre's SRTP (under baresip), every suite, RTP
//! and RTCP, over the wrap of the sequence number.

#![allow(unsafe_code)] // The counting allocator.

use std::io::Write;

use rand::{Rng, RngExt, SeedableRng};
use tonewall::base::Random;
use tonewall::base::key::MediaKey;
use tonewall::config::SrtpSuite;
use tonewall::srtp::{MAX_GROWTH, Receiver, Sender};
use tonewall::testkit::libre::{Libre, Task};

fn libre(test: &str) -> Option<Libre> {
    match Libre::load() {
        Ok(libre) => Some(libre),
        Err(why) => {
            let mut out = std::io::stderr().lock();
            let _ = writeln!(out, "SKIPPED {test}: {why} (Debian: apt-get install baresip-core)");
            None
        }
    }
}

fn key(random: &mut Random, suite: SrtpSuite) -> MediaKey {
    MediaKey::drawn(suite.key_len() + suite.salt_len(), |bytes| random.fill_bytes(bytes))
}

/// A packet with contributing sources and an extension now and then.
fn packet(random: &mut Random, sequence: u16) -> Vec<u8> {
    let (sources, extended) = (random.random_range(0..3u8), random.random_range(0..4) == 0);
    let mut bytes = vec![0x80 | sources | if extended { 0x10 } else { 0 }, random.random_range(0..128)];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(random.random::<u32>().to_be_bytes());
    bytes.extend(0x1234_5678u32.to_be_bytes());
    bytes.resize(bytes.len() + 4 * usize::from(sources), 7);
    if extended {
        bytes.extend([0xbe, 0xde, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    let length = if random.random_range(0..5) == 0 { random.random_range(1..1_300) } else { 160 };
    let start = bytes.len();
    bytes.resize(start + length, 0);
    random.fill_bytes(&mut bytes[start..]);
    bytes
}

#[test]
fn libre_opens_what_we_seal_and_we_open_what_libre_seals() {
    let Some(libre) = libre("srtp_by_libre") else { return };
    for suite in SrtpSuite::ALL {
        let mut random = Random::seed_from_u64(suite as u64);
        let (ours, theirs) = (key(&mut random, suite), key(&mut random, suite));
        let mut sender = Sender::new(suite, &ours).expect("keys");
        let mut receiver = Receiver::new(suite, &theirs).expect("keys");
        let mut opener = libre.endpoint(suite, &ours).expect("libre takes the key");
        let mut sealer = libre.endpoint(suite, &theirs).expect("libre takes the key");
        let mut room = [0; 1_500 + MAX_GROWTH];
        for n in 0..70_000u32 {
            // From 65,500 on; packets between are lost, but for stretches around both wraps.
            let near_wrap = n % 65_536 < 300;
            if !near_wrap && n % 211 != 0 {
                continue;
            }
            let plain = packet(&mut random, 65_500u16.wrapping_add(n as u16));
            let sealed = sender.seal_rtp(&plain, &mut room).expect("sealed").to_vec();
            assert_eq!(opener.run(Task::OpenRtp, &sealed).as_deref(), Ok(&plain[..]), "{suite:?} packet {n}");
            let mut sealed = sealer.run(Task::SealRtp, &plain).expect("sealed by libre");
            assert_ne!(sealed[..plain.len()], plain);
            let length = receiver.open_rtp(&mut sealed).unwrap_or_else(|why| panic!("{suite:?} packet {n}: {why}"));
            assert_eq!(sealed[..length], plain);
        }
        assert_eq!((sender.rollover(), receiver.rollover(0x1234_5678)), (2, Some(2)), "{suite:?}");
    }
}

#[test]
fn libre_and_we_make_the_same_bytes_under_one_key() {
    let Some(libre) = libre("srtp_same_bytes") else { return };
    for suite in SrtpSuite::ALL {
        let mut random = Random::seed_from_u64(90 + suite as u64);
        let key = key(&mut random, suite);
        let mut sender = Sender::new(suite, &key).expect("keys");
        let mut sealer = libre.endpoint(suite, &key).expect("libre takes the key");
        let mut room = [0; 1_500 + MAX_GROWTH];
        for n in 0..500u16 {
            let plain = packet(&mut random, 65_400u16.wrapping_add(n));
            let theirs = sealer.run(Task::SealRtp, &plain).expect("sealed by libre");
            assert_eq!(sender.seal_rtp(&plain, &mut room).expect("sealed"), theirs, "{suite:?} packet {n}");
        }
    }
}

#[test]
fn reports_pass_both_ways_too() {
    let Some(libre) = libre("srtcp_by_libre") else { return };
    for suite in SrtpSuite::ALL {
        let mut random = Random::seed_from_u64(50 + suite as u64);
        let (ours, theirs) = (key(&mut random, suite), key(&mut random, suite));
        let mut sender = Sender::new(suite, &ours).expect("keys");
        let mut receiver = Receiver::new(suite, &theirs).expect("keys");
        let mut opener = libre.endpoint(suite, &ours).expect("libre takes the key");
        let mut sealer = libre.endpoint(suite, &theirs).expect("libre takes the key");
        let mut room = [0; 200];
        for n in 0..100u8 {
            let mut plain = vec![0x80, 200, 0, 6, 1, 2, 3, 4];
            plain.resize(28, n);
            let sealed = sender.seal_rtcp(&plain, &mut room).expect("sealed").to_vec();
            if matches!(suite, SrtpSuite::AesCm128Sha1_32 | SrtpSuite::AesCm256Sha1_32) {
                // libre puts the short tag on RTCP too. RFC 4568 section 6.2.2 wants 80 bits there, as libsrtp has it.
                let theirs = sealer.run(Task::SealRtcp, &plain).expect("sealed by libre");
                assert_eq!((theirs.len(), sealed.len()), (plain.len() + 4 + 4, plain.len() + 4 + 10), "{suite:?}");
                continue;
            }
            assert_eq!(opener.run(Task::OpenRtcp, &sealed).as_deref(), Ok(&plain[..]), "{suite:?} report {n}");
            let mut sealed = sealer.run(Task::SealRtcp, &plain).expect("sealed by libre");
            let length = receiver.open_rtcp(&mut sealed).unwrap_or_else(|why| panic!("{suite:?} report {n}: {why}"));
            assert_eq!(sealed[..length], plain);
        }
    }
}

/// Counts what the calling thread allocates.
struct Counting;

thread_local! {
    static ALLOCATED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator; counting touches a plain thread-local cell only.
unsafe impl std::alloc::GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { std::alloc::System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { std::alloc::System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn no_packet_is_sealed_opened_or_rejected_with_an_allocation() {
    for suite in SrtpSuite::ALL {
        let mut random = Random::seed_from_u64(suite as u64);
        let (ours, other) = (key(&mut random, suite), key(&mut random, suite));
        let mut sender = Sender::new(suite, &ours).expect("keys");
        let mut receiver = Receiver::new(suite, &ours).expect("keys");
        let mut stranger = Receiver::new(suite, &other).expect("keys");
        let (mut room, mut report) = ([0; 200], [0; 100]);
        let mut plain = [0x80; 172];
        plain[1] = 0;
        let before = ALLOCATED.with(std::cell::Cell::get);
        for n in 0..500u16 {
            plain[2..4].copy_from_slice(&n.to_be_bytes());
            let length = sender.seal_rtp(&plain, &mut room).expect("sealed").len();
            assert!(stranger.open_rtp(&mut room[..length]).is_err());
            assert_eq!(receiver.open_rtp(&mut room[..length]), Ok(172));
            let length = sender.seal_rtcp(&plain[..28], &mut report).expect("sealed").len();
            assert_eq!(receiver.open_rtcp(&mut report[..length]), Ok(28));
        }
        assert_eq!(ALLOCATED.with(std::cell::Cell::get) - before, 0, "{suite:?}");
    }
    let grown = ALLOCATED.with(std::cell::Cell::get);
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATED.with(std::cell::Cell::get), grown + 1, "the counter counts");
}
