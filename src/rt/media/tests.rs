//! The workers on real loopback sockets.

use std::sync::mpsc;

use super::*;
use crate::config::{Codec, MaskKind, Network};
use crate::media::{AudioFormat, Guard, LegMedia, ReceiveFormats, SendFormats, Tap};

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Binds a pair on a free even port.
fn any_pair() -> (UdpSocket, UdpSocket) {
    for _ in 0..200 {
        let probe = UdpSocket::bind((LOCAL, 0)).expect("a port");
        let port = probe.local_addr().expect("bound").port() & !1;
        drop(probe);
        if let Ok(pair) = bind_pair(LOCAL, port) {
            return pair;
        }
    }
    panic!("no pair of free ports");
}

struct Call {
    peers: [UdpSocket; 2],
    ours: [SocketAddr; 2],
    session: SessionId,
}

fn call(workers: &Workers, session: SessionId, guard: Guard) -> Call {
    let (a, b) = (any_pair(), any_pair());
    let ours = [a.0.local_addr().unwrap(), b.0.local_addr().unwrap()];
    let local = || vec![Network { address: LOCAL, prefix: 8 }];
    let create = Command::Create {
        session,
        ports: [ours[0].port(), ours[1].port()],
        allowed: [local(), local()],
        toward_agent: guard,
        toward_customer: Guard::Open,
        inactivity_ms: 0,
        seed: 7,
    };
    workers.create(create, Sockets { rtp: [a.0, b.0], rtcp: [a.1, b.1] }).expect("room");
    let peers = [UdpSocket::bind((LOCAL, 0)).unwrap(), UdpSocket::bind((LOCAL, 0)).unwrap()];
    for leg in [Leg::Customer, Leg::Agent] {
        let peer = &peers[leg.index()];
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let pcmu = AudioFormat { payload_type: 0, codec: Codec::Pcmu };
        let media = LegMedia {
            remote_rtp: Some(peer.local_addr().unwrap()),
            remote_rtcp: None,
            send: true,
            receive: true,
            rx: ReceiveFormats { audio: [pcmu].into_iter().collect(), ..Default::default() },
            tx: SendFormats { audio: [pcmu].into_iter().collect(), ptime_ms: 20, ..Default::default() },
            ..LegMedia::idle()
        };
        workers.order(Command::SetLeg { session, leg, media }).expect("taken");
    }
    Call { peers, ours, session }
}

fn packet(sequence: u16) -> [u8; 172] {
    let mut bytes = [0x33; 172];
    bytes[..2].copy_from_slice(&[0x80, 0]);
    bytes[2..4].copy_from_slice(&sequence.to_be_bytes());
    bytes[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    bytes
}

#[test]
fn packets_cross_real_sockets_unaltered_both_ways_and_the_end_is_reported() {
    let (events, reported) = mpsc::channel();
    let workers = Workers::start(
        2,
        move |event| {
            let _ = events.send(event);
        },
        |_, _| {},
    )
    .expect("workers");
    let calls: Vec<Call> = (0..6).map(|n| call(&workers, SessionId(n), Guard::Open)).collect();
    let mut buffer = [0; 300];
    for sequence in 1..20 {
        for call in &calls {
            for (from, to) in [(0, 1), (1, 0)] {
                call.peers[from].send_to(&packet(sequence), call.ours[from]).unwrap();
                let (length, source) = call.peers[to].recv_from(&mut buffer).expect("relayed");
                assert_eq!((length, source), (172, call.ours[to]));
                assert_eq!(buffer[12..172], packet(sequence)[12..]);
            }
        }
    }
    workers.order(Command::Close { session: calls[0].session }).expect("taken");
    let closed = reported.recv_timeout(Duration::from_secs(5)).expect("an event");
    assert!(matches!(closed, Event::Closed { session: SessionId(0), stats } if stats[0].received == 19));
    workers.shutdown();
    assert_eq!(reported.iter().filter(|e| matches!(e, Event::Closed { .. })).count(), 5);
}

#[test]
fn the_guard_masks_and_blocks_come_in_step_on_the_wall_clock() {
    let (blocks, given) = mpsc::channel();
    let workers = Workers::start(
        1,
        |_| {},
        move |_, block: MaskedBlock| {
            let _ = blocks.send((Instant::now(), block.get().paused));
        },
    )
    .expect("workers");
    let call = call(&workers, SessionId(1), Guard::Masked(MaskKind::Silence));
    let began = Instant::now();
    workers.order(Command::SetTap { session: call.session, tap: Tap::On }).expect("taken");
    let mut arrivals = Vec::new();
    call.peers[1].set_nonblocking(true).unwrap();
    let mut buffer = [0; 300];
    let mut sent = 0u32;
    while began.elapsed() < Duration::from_millis(1_500) {
        if began.elapsed() >= Duration::from_millis(20) * sent {
            // The sender stops for 200 ms: packets go on all the same.
            if !(30..40).contains(&sent) {
                call.peers[0].send_to(&packet(sent as u16), call.ours[0]).unwrap();
            }
            sent += 1;
        }
        while let Ok((length, _)) = call.peers[1].recv_from(&mut buffer) {
            assert_eq!(length, 172);
            arrivals.push(Instant::now());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    workers.shutdown();
    assert!((68..=76).contains(&arrivals.len()), "{} packets in 1.5 s", arrivals.len());
    let given: Vec<_> = given.iter().collect();
    assert!((14..=16).contains(&given.len()), "{} blocks", given.len());
    assert!(given.iter().all(|(_, paused)| !paused));
}

#[test]
fn the_tick_follows_the_load_both_ways() {
    let t0 = Instant::now();
    let mut load = Load::new(t0);
    let mut at = t0;
    let mut after = |load: &mut Load, packets: u64| {
        load.packets = packets;
        at += MEASURE;
        load.rest(at);
        load.tick.map(|tick| tick.as_millis())
    };
    assert_eq!(after(&mut load, 100), None);
    assert_eq!(after(&mut load, 500), Some(1));
    assert_eq!(after(&mut load, 350), Some(1), "it holds on a little under the limit");
    assert_eq!(after(&mut load, 2_500), Some(2));
    assert_eq!(after(&mut load, 100), None);
}
