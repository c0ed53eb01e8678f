//! Unguarded, and what holds in every mode: bytes pass unaltered, each leg sees one stream, only the signalled address
//! is heard, RTCP is ours, recordings follow real time.

use std::time::Duration;

use tonewall::base::ids::Leg;
use tonewall::config::{Codec, MaskKind};
use tonewall::dsp::noise::Noise;
use tonewall::media::{Command, Guard, LegMedia, Tap};
use tonewall::rtp::rtcp;
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::rtp_peer::Sound;

use crate::sim::{EVENTS, Plan, SESSION, Sim, negotiated, peer_address, type_of};

/// Something like a voice: noise whose level moves.
pub fn murmur(seed: u64, rms: f32) -> Sound {
    let mut noise = Noise::new(seed);
    let mut at = 0u32;
    Box::new(std::iter::from_fn(move || {
        at = at.wrapping_add(1);
        let swell = (at as f32 * std::f32::consts::TAU / 24_000.0).sin().abs();
        Some((noise.gaussian() * rms * (0.1 + swell)) as i16)
    }))
}

fn talking(plan: Plan) -> Sim {
    let mut sim = Sim::new(plan);
    sim.peers[0].speak(murmur(1, 2_000.0));
    sim.peers[1].speak(murmur(2, 2_000.0));
    sim
}

/// Checks that a peer saw one stream: one SSRC, sequence by one, timestamps in step with time.
pub fn assert_one_stream(sim: &Sim, to: Leg) {
    let packets = sim.heard[to.index()].packets();
    assert!(packets.len() > 10);
    for pair in packets.windows(2) {
        assert_eq!(pair[1].ssrc, pair[0].ssrc);
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32;
        assert!(step >= 0, "timestamps go back by {step}");
    }
    let (first, last) = (&packets[0], &packets[packets.len() - 1]);
    let clock = if first.payload_type == crate::sim::type_of(Codec::Opus) { 48_000.0 } else { 8_000.0 };
    let media = f64::from(last.timestamp.wrapping_sub(first.timestamp)) / clock;
    let real = (last.at - first.at).as_secs_f64();
    assert!((media - real).abs() < 0.1, "{media} s of media in {real} s");
}

#[test]
fn unguarded_payload_is_byte_for_byte_what_was_sent() {
    for guard in [Guard::Open, Guard::Listen, Guard::Withhold] {
        let mut sim = talking(Plan::new(1, guard));
        sim.run(5_000);
        for leg in [Leg::Customer, Leg::Agent] {
            let sent = sim.peers[leg.index()].sent_payload_bytes();
            let heard = sim.heard[leg.other().index()].payload_bytes();
            // The last packet is still on the network.
            assert!(sent.len() - heard.len() <= 160 && sent.starts_with(&heard), "{guard:?} {leg:?}");
            assert_one_stream(&sim, leg.other());
        }
    }
}

#[test]
fn a_packet_goes_on_in_the_instant_it_comes() {
    let mut sim = talking(Plan::new(2, Guard::Listen));
    sim.run(1_000);
    let packets = sim.heard[1].packets();
    let since = packets[0].at - sim.began;
    assert_eq!(since, Duration::from_millis(1 + 1), "one tick to leave the peer, 1 ms of network");
}

#[test]
fn codecs_that_differ_are_converted_and_events_take_the_other_legs_type() {
    let mut plan = Plan::new(3, Guard::Open);
    plan.codec = [Codec::Pcmu, Codec::Pcma];
    let mut sim = talking(plan);
    let mut media = negotiated(Leg::Agent, Codec::Pcma, true, 20);
    media.tx.event.as_mut().unwrap().payload_type = 96;
    sim.set_leg(Leg::Agent, media);
    sim.heard[1].expect_events(96);
    sim.peers[0].press(500, typed("42", Form::Event, 100, 100));
    sim.run(3_000);
    assert!(sim.heard[1].packets().iter().all(|p| [8, 96].contains(&p.payload_type)));
    assert!(sim.heard[0].packets().iter().all(|p| p.payload_type == 0));
    assert_eq!(sim.heard[1].event_codes(), [4, 2]);
    let spoken = sim.peers[0].spoken();
    let heard = sim.heard[1].samples();
    let far = |(a, b): (&i16, &i16)| (i32::from(*a) - i32::from(*b)).abs() > 40 + i32::from(*a).abs() / 8;
    assert_eq!(spoken.iter().zip(&heard).take(4_000).filter(|p| far(*p)).count(), 0);
}

#[test]
fn events_to_a_leg_without_them_leave_no_hole_in_the_sequence() {
    let mut plan = Plan::new(4, Guard::Open);
    plan.events = [true, false];
    let mut sim = talking(plan);
    sim.peers[0].press(300, typed("1234", Form::ToneAndEvent, 80, 80));
    sim.run(2_000);
    assert!(sim.heard[1].event_codes().is_empty());
    assert_one_stream(&sim, Leg::Agent);
    assert_eq!(sim.heard[1].lost(), 0);
}

#[test]
fn a_new_source_on_the_right_address_goes_on_in_the_same_stream_without_a_lost_packet() {
    let mut sim = talking(Plan::new(5, Guard::Open));
    sim.run(1_000);
    let before = sim.heard[1].packets().len();
    // The peer starts over: new SSRC, sequence and timestamps.
    let mut random = <tonewall::base::Random as rand::SeedableRng>::seed_from_u64(99);
    sim.peers[0] = tonewall::testkit::rtp_peer::RtpPeer::new(&mut random);
    sim.peers[0].speak(murmur(1, 2_000.0));
    sim.send_from(Leg::Customer, Codec::Pcmu, true);
    sim.run(1_000);
    assert_one_stream(&sim, Leg::Agent);
    assert!((sim.heard[1].packets().len() - before).abs_diff(50) <= 1);
}

#[test]
fn a_stray_source_changes_nothing_and_a_foreign_address_is_counted() {
    let mut sim = talking(Plan::new(6, Guard::Open));
    sim.run(500);
    let stray = [0x80u8, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 0x55];
    let heard = sim.heard[1].packets().len();
    sim.inject(Leg::Customer, peer_address(Leg::Customer), &stray);
    sim.inject(Leg::Customer, "192.0.2.66:4000".parse().unwrap(), &stray);
    sim.inject(Leg::Customer, "192.0.2.1:4002".parse().unwrap(), &stray);
    assert_eq!(sim.heard[1].packets().len(), heard);
    sim.run(500);
    assert_one_stream(&sim, Leg::Agent);
    sim.order(Command::Close { session: SESSION });
    assert_eq!(sim.out.closed.len(), 1);
    assert_eq!(sim.out.closed[0][0].foreign, 2);
    assert!(sim.worker.is_empty());
}

#[test]
fn nothing_is_heard_or_sent_before_an_address_is_signalled() {
    let mut sim = talking(Plan::new(7, Guard::Open));
    sim.set_leg(Leg::Customer, LegMedia::idle());
    sim.run(500);
    assert!(sim.heard[1].packets().is_empty() && sim.heard[0].packets().is_empty());
}

#[test]
fn unknown_types_are_dropped_and_counted() {
    let mut sim = talking(Plan::new(8, Guard::Open));
    sim.run(200);
    let heard = sim.heard[1].packets().len();
    for payload_type in [14u8, 18, 127] {
        let packet = [0x80, payload_type, 0, 1, 0, 0, 0, 0, 9, 9, 9, 9, 1, 2, 3];
        sim.inject(Leg::Customer, peer_address(Leg::Customer), &packet);
    }
    assert_eq!(sim.heard[1].packets().len(), heard);
    sim.order(Command::Close { session: SESSION });
    assert_eq!(sim.out.closed[0][0].malformed, 3);
}

#[test]
fn any_datagram_is_survived_in_every_mode() {
    for guard in [Guard::Open, Guard::Listen, Guard::Withhold, Guard::Masked(MaskKind::Tone)] {
        let mut sim = talking(Plan::new(9, guard));
        let mut media = negotiated(Leg::Customer, Codec::Pcmu, true, 20);
        media.rx.red = Some(121);
        sim.set_leg(Leg::Customer, media);
        sim.run(100);
        for turn in 0..4_000u64 {
            let length = sim.draw(0..60) as usize;
            let mut bytes: Vec<u8> = (0..length).map(|_| sim.draw(0..256) as u8).collect();
            if turn % 2 == 0 && length > 1 {
                bytes[0] = 0x80;
                bytes[1] = [0, 8, EVENTS, 121][(turn / 2 % 4) as usize];
            }
            sim.inject(Leg::Customer, peer_address(Leg::Customer), &bytes);
            sim.inject_rtcp(Leg::Customer, "192.0.2.1:4001".parse().unwrap(), &bytes);
            if turn % 100 == 0 {
                sim.run(5);
            }
        }
        sim.run(3_000);
        assert!(sim.worker.has(SESSION), "{guard:?}");
    }
}

#[test]
fn rtcp_is_ours_and_none_of_theirs_is_passed() {
    let mut sim = talking(Plan::new(10, Guard::Masked(MaskKind::Silence)));
    let mut marked = rtcp::build(7, b"SECRETNAMESECRETNAME1234", None, None, true).to_vec();
    marked.extend([0x80, 204, 0, 2, 0, 0, 0, 7, b'X', b'Y', b'Z', b'!']);
    for _ in 0..20 {
        sim.run(1_000);
        sim.inject_rtcp(Leg::Customer, "192.0.2.1:4001".parse().unwrap(), &marked);
    }
    for leg in [0, 1] {
        let reports = &sim.rtcp[leg];
        assert!((3..=7).contains(&reports.len()), "{} reports in 20 s", reports.len());
        for report in reports {
            assert!(rtcp::parse(report).expect("a compound").sender.is_some());
            assert!(!report.windows(6).any(|w| w == b"SECRET"));
        }
    }
}

#[test]
fn silence_of_both_legs_is_reported_once() {
    let mut sim = talking(Plan::new(11, Guard::Open));
    sim.run(1_000);
    for peer in &mut sim.peers {
        peer.set_toward(sim.now, None);
    }
    sim.run(4_500);
    assert_eq!(sim.out.inactive, 0);
    sim.run(10_000);
    assert_eq!(sim.out.inactive, 1);
}

#[test]
fn hold_and_resume_keep_the_stream_whole() {
    for guard in [Guard::Open, Guard::Masked(MaskKind::ComfortNoise)] {
        let mut sim = talking(Plan::new(12, guard));
        sim.run(1_000);
        let mut held = negotiated(Leg::Agent, Codec::Pcmu, true, 20);
        held.send = false;
        sim.set_leg(Leg::Agent, held);
        let before = sim.heard[1].packets().len();
        sim.run(2_000);
        assert_eq!(sim.heard[1].packets().len(), before);
        sim.set_leg(Leg::Agent, negotiated(Leg::Agent, Codec::Pcma, true, 20));
        sim.run(1_000);
        assert_one_stream(&sim, Leg::Agent);
        assert_eq!(sim.heard[1].packets().last().map(|p| p.payload_type), Some(type_of(Codec::Pcma)));
    }
}

#[test]
fn a_recording_is_as_long_as_real_time_and_holds_what_both_legs_were_sent() {
    let mut sim = talking(Plan::new(13, Guard::Open));
    sim.run(500);
    sim.set_tap(Tap::On);
    let began = sim.now;
    sim.run(3_000);
    let given: usize = sim.out.blocks.len();
    let real = (sim.now - began).as_millis() as usize;
    assert_eq!(given, (real - 400) / 100, "steady cadence, 400 ms behind");
    sim.set_tap(Tap::Paused);
    sim.run(1_000);
    sim.set_tap(Tap::On);
    sim.run(1_000);
    // Hold: nothing flows, the recording goes on.
    for leg in [Leg::Customer, Leg::Agent] {
        sim.set_leg(leg, LegMedia::idle());
    }
    sim.run(1_000);
    sim.set_tap(Tap::Off);
    let blocks = &sim.out.blocks;
    assert_eq!(blocks.len(), 60);
    let paused: Vec<usize> = (0..60).filter(|n| blocks[*n].0).collect();
    assert_eq!(paused, (30..=40).collect::<Vec<_>>());
    assert!(paused.iter().all(|n| blocks[*n].1.iter().all(|s| *s == 0)));
    let left: Vec<i16> = blocks[..30].iter().flat_map(|b| b.1.iter().step_by(2).copied()).collect();
    let heard = sim.heard[1].samples();
    let place = heard.windows(400).position(|w| w == &left[800..1_200]).expect("the agent's ear in the left channel");
    assert_eq!(&heard[place..place + 20_000], &left[800..20_800]);
    let right: Vec<i16> = blocks[..30].iter().flat_map(|b| b.1.iter().skip(1).step_by(2).copied()).collect();
    let heard = sim.heard[0].samples();
    let place = heard.windows(400).position(|w| w == &right[800..1_200]).expect("the customer's ear on the right");
    assert_eq!(&heard[place..place + 20_000], &right[800..20_800]);
    assert!(blocks[55..].iter().all(|b| b.1.iter().all(|s| *s == 0)));
}

#[test]
fn a_digit_of_ours_reaches_the_leg_as_event_or_tone_in_step() {
    for (guard, events) in [(Guard::Open, true), (Guard::Open, false), (Guard::Masked(MaskKind::Silence), true)] {
        let mut plan = Plan::new(14, guard);
        plan.events = [true, events];
        let mut sim = talking(plan);
        sim.run(500);
        let digit = tonewall::base::secret::Digit::from_char('7').unwrap();
        sim.order(Command::SendDigit { session: SESSION, to: Leg::Agent, digit, duration_ms: 100 });
        sim.run(1_000);
        assert_one_stream(&sim, Leg::Agent);
        assert_eq!(sim.heard[1].event_codes(), if events { vec![7] } else { vec![] });
        let gaps = sim.heard[1].packets().windows(2).map(|w| w[1].at - w[0].at).max().unwrap();
        assert!(gaps <= Duration::from_millis(41), "{gaps:?}");
    }
}

#[test]
fn a_withholding_path_gives_silence_for_events_and_reports_them() {
    let mut sim = talking(Plan::new(15, Guard::Withhold));
    sim.peers[0].press(300, typed("*71", Form::Event, 100, 80));
    sim.run(3_000);
    assert_eq!(sim.collected(), "*71");
    assert!(sim.heard[1].event_codes().is_empty());
    assert!(sim.heard[1].packets().iter().all(|p| p.payload_type == 0));
    assert_one_stream(&sim, Leg::Agent);
}

#[test]
fn a_session_that_panics_is_closed_and_silent_and_the_others_go_on() {
    use tonewall::guard::Masked;
    use tonewall::media::{Egress, Event, MaskedBlock};
    struct Faulty {
        closed: u32,
    }
    impl Egress for Faulty {
        fn rtp(&mut self, _: tonewall::base::ids::SessionId, _: Leg, _: std::net::SocketAddr, _: Masked<&[u8]>) {
            panic!("a fault inside the session's work");
        }
        fn rtcp(&mut self, _: tonewall::base::ids::SessionId, _: Leg, _: std::net::SocketAddr, _: Masked<&[u8]>) {}
        fn event(&mut self, event: Event) {
            self.closed += u32::from(matches!(event, Event::Closed { .. }));
        }
        fn block(&mut self, _: tonewall::base::ids::SessionId, _: MaskedBlock) {}
    }
    let mut sim = talking(Plan::new(16, Guard::Open));
    sim.run(100);
    let mut packet = vec![0x80u8, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4];
    packet.extend([0x55; 160]);
    let mut faulty = Faulty { closed: 0 };
    // Two in a row of a new source are taken; the second makes the egress fail.
    sim.worker.handle_rtp(sim.now, SESSION, Leg::Customer, peer_address(Leg::Customer), &packet, &mut faulty);
    packet[3] = 2;
    sim.worker.handle_rtp(sim.now, SESSION, Leg::Customer, peer_address(Leg::Customer), &packet, &mut faulty);
    assert_eq!(faulty.closed, 1);
    assert!(sim.worker.is_empty());
    let before = sim.heard[1].packets().len();
    sim.run(200);
    assert_eq!(sim.heard[1].packets().len(), before);
}
