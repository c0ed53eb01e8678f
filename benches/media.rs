//! What a packet costs in the media worker, kernel left out: relayed, listened to, guarded, encrypted. One iteration is
//! one packet in and what it makes leave; of `srtp` one packet of 172 bytes sealed or opened.
#![allow(clippy::disallowed_methods)]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tonewall::base::ids::{Leg, SessionId};
use tonewall::base::key::MediaKey;
use tonewall::config::{Codec, MaskKind, Network, SrtpSuite};
use tonewall::guard::Masked;
use tonewall::media::{
    AudioFormat, Command, Egress, Event, Guard, LegMedia, MaskedBlock, ReceiveFormats, SendFormats, Tap, Worker,
};
use tonewall::srtp::{MAX_GROWTH, Receiver, Sender};
use tonewall::testkit::companding::ulaw_encode;
use tonewall::testkit::speech::Talker;

struct Nowhere {
    packets: u64,
}

impl Egress for Nowhere {
    fn rtp(&mut self, _: SessionId, _: Leg, _: SocketAddr, packet: Masked<&[u8]>) {
        black_box(packet.get());
        self.packets += 1;
    }
    fn rtcp(&mut self, _: SessionId, _: Leg, _: SocketAddr, _: Masked<&[u8]>) {}
    fn event(&mut self, _: Event) {}
    fn block(&mut self, _: SessionId, block: MaskedBlock) {
        black_box(&block);
    }
}

const SESSIONS: u64 = 100;

struct Bench {
    worker: Worker,
    out: Nowhere,
    now: Instant,
    packets: Vec<[u8; 172]>,
    turn: u64,
    /// Packets that come in one wake-up.
    wake: u64,
}

fn address(leg: Leg) -> SocketAddr {
    ["192.0.2.1:4000", "198.51.100.1:5000"][leg.index()].parse().expect("an address")
}

impl Bench {
    fn new(guard: Guard, tap: bool, wake: u64) -> Self {
        let now = Instant::now();
        let (mut worker, mut out) = (Worker::new(), Nowhere { packets: 0 });
        for session in (0..SESSIONS).map(SessionId) {
            let everywhere = || vec![Network { address: "0.0.0.0".parse().expect("an address"), prefix: 0 }];
            let create = Command::Create {
                session,
                ports: [20_000, 20_002],
                allowed: [everywhere(), everywhere()],
                toward_agent: guard,
                toward_customer: Guard::Open,
                inactivity_ms: 0,
                seed: session.0,
            };
            worker.handle_command(now, create, &mut out);
            for leg in [Leg::Customer, Leg::Agent] {
                let pcmu = AudioFormat { payload_type: 0, codec: Codec::Pcmu };
                let media = LegMedia {
                    remote_rtp: Some(address(leg)),
                    remote_rtcp: None,
                    send: true,
                    receive: true,
                    rx: ReceiveFormats { audio: [pcmu].into_iter().collect(), ..Default::default() },
                    tx: SendFormats { audio: [pcmu].into_iter().collect(), ptime_ms: 20, ..Default::default() },
                    ..LegMedia::idle()
                };
                worker.handle_command(now, Command::SetLeg { session, leg, media }, &mut out);
            }
            if tap {
                worker.handle_command(now, Command::SetTap { session, tap: Tap::On }, &mut out);
            }
        }
        let said = Talker::new(1, -20.0).say(160 * 1_024);
        let packets = said.chunks_exact(160).map(|frame| {
            let mut bytes = [0x80; 172];
            bytes[1] = 0;
            for (byte, sample) in bytes[12..].iter_mut().zip(frame) {
                *byte = ulaw_encode(*sample);
            }
            bytes
        });
        Self { worker, out, now, packets: packets.collect(), turn: 0, wake }
    }

    /// One packet of the next session; after the last session, 20 ms pass.
    fn step(&mut self) {
        let (session, count) = (self.turn % SESSIONS, self.turn / SESSIONS);
        self.turn += 1;
        // Everybody says something else.
        let packet = &mut self.packets[((count + session * 37) % 1_024) as usize];
        packet[2..4].copy_from_slice(&(count as u16).to_be_bytes());
        packet[4..8].copy_from_slice(&(count as u32).wrapping_mul(160).to_be_bytes());
        let (id, from) = (SessionId(session), Leg::Customer);
        self.worker.take_rtp(self.now, id, from, address(from), packet, &mut self.out);
        if (session + 1).is_multiple_of(self.wake) || session == SESSIONS - 1 {
            self.worker.hear(&mut self.out);
        }
        if session == SESSIONS - 1 {
            for _ in 0..20 {
                self.now += Duration::from_millis(1);
                self.worker.handle_timeout(self.now, &mut self.out);
            }
        }
    }
}

fn media(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("media packet");
    group.throughput(Throughput::Elements(1));
    let mask = Guard::Masked(MaskKind::ComfortNoise);
    for (name, guard, tap, wake) in [
        ("relayed", Guard::Open, false, 1),
        ("relayed and recorded", Guard::Open, true, 1),
        ("listened to, one a wake-up", Guard::Listen, false, 1),
        ("listened to, 16 a wake-up", Guard::Listen, false, 16),
        ("listened to, 50 a wake-up", Guard::Listen, false, 50),
        ("guarded, one a wake-up", mask, false, 1),
        ("guarded, 16 a wake-up", mask, false, 16),
        ("guarded, 50 a wake-up", mask, false, 50),
        ("guarded and recorded, 50 a wake-up", mask, true, 50),
    ] {
        let mut bench = Bench::new(guard, tap, wake);
        group.bench_function(name, |b| b.iter(|| bench.step()));
        assert!(bench.out.packets > 0);
    }
    group.finish();
}

fn srtp(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("srtp 172 bytes");
    group.throughput(Throughput::Elements(1));
    for suite in SrtpSuite::ALL {
        let key = MediaKey::new(&vec![7; suite.key_len() + suite.salt_len()]).expect("a key");
        let mut packet = [0x55; 172];
        packet[..2].copy_from_slice(&[0x80, 0]);
        let mut room = [0; 172 + MAX_GROWTH];
        let mut number = 0u16;
        let mut sender = Sender::new(suite, &key).expect("keys");
        group.bench_function(format!("seal {}", suite.name()), |b| {
            b.iter(|| {
                number = number.wrapping_add(1);
                packet[2..4].copy_from_slice(&number.to_be_bytes());
                black_box(sender.seal_rtp(&packet, &mut room).expect("sealed").len())
            });
        });
        // One cycle of sealed packets, opened in order again and again by a receiver that is new to each cycle.
        let mut sender = Sender::new(suite, &key).expect("keys");
        let sealed: Vec<Vec<u8>> = (0..8_192u16)
            .map(|number| {
                packet[2..4].copy_from_slice(&number.to_be_bytes());
                sender.seal_rtp(&packet, &mut room).expect("sealed").to_vec()
            })
            .collect();
        let (mut receiver, mut at) = (Receiver::new(suite, &key).expect("keys"), 0);
        group.bench_function(format!("open {}", suite.name()), |b| {
            b.iter(|| {
                if at == sealed.len() {
                    (receiver, at) = (Receiver::new(suite, &key).expect("keys"), 0);
                }
                let room = &mut room[..sealed[at].len()];
                room.copy_from_slice(&sealed[at]);
                at += 1;
                black_box(receiver.open_rtp(room).expect("opened"))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, media, srtp);
criterion_main!(benches);
