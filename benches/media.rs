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
use tonewall::dsp::halfband::{Join, Split};
use tonewall::dsp::{g711, g722, opus};
use tonewall::guard::Masked;
use tonewall::media::{
    AudioFormat, Command, Egress, Event, Guard, LegMedia, MaskedBlock, ReceiveFormats, SendFormats, Tap, Worker,
};
use tonewall::srtp::{MAX_GROWTH, Receiver, Sender};
use tonewall::testkit::coding::Coder;
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
    packets: Vec<Vec<u8>>,
    codec: Codec,
    turn: u64,
    /// Packets that come in one wake-up.
    wake: u64,
}

fn address(leg: Leg) -> SocketAddr {
    ["192.0.2.1:4000", "198.51.100.1:5000"][leg.index()].parse().expect("an address")
}

impl Bench {
    fn new(codec: Codec, guard: Guard, tap: bool, wake: u64) -> Self {
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
                let format = AudioFormat { payload_type: 100, codec };
                let media = LegMedia {
                    remote_rtp: Some(address(leg)),
                    remote_rtcp: None,
                    send: true,
                    receive: true,
                    rx: ReceiveFormats { audio: [format].into_iter().collect(), ..Default::default() },
                    tx: SendFormats { audio: [format].into_iter().collect(), ptime_ms: 20, ..Default::default() },
                    ..LegMedia::idle()
                };
                worker.handle_command(now, Command::SetLeg { session, leg, media }, &mut out);
            }
            if tap {
                worker.handle_command(now, Command::SetTap { session, tap: Tap::On }, &mut out);
            }
        }
        let said = Talker::new(1, -20.0).say(160 * 1_024);
        let mut coder = Coder::new(codec);
        let packets = said.chunks_exact(160).map(|frame| {
            let mut bytes = vec![0x80; 12];
            bytes[1] = 100;
            bytes.extend(coder.encode(frame));
            bytes
        });
        Self { worker, out, now, packets: packets.collect(), codec, turn: 0, wake }
    }

    /// One packet of the next session; after the last session, 20 ms pass.
    fn step(&mut self) {
        let (session, count) = (self.turn % SESSIONS, self.turn / SESSIONS);
        self.turn += 1;
        // Everybody says something else.
        let packet = &mut self.packets[((count + session * 37) % 1_024) as usize];
        packet[2..4].copy_from_slice(&(count as u16).to_be_bytes());
        let timestamp = (count as u32).wrapping_mul(160 * Coder::steps(self.codec));
        packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
        let (id, from) = (SessionId(session), Leg::Customer);
        self.worker.take_rtp(self.now, self.now, id, from, address(from), packet, &mut self.out);
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
        let mut bench = Bench::new(Codec::Pcmu, guard, tap, wake);
        group.bench_function(name, |b| b.iter(|| bench.step()));
        assert!(bench.out.packets > 0);
    }
    for codec in [Codec::G722, Codec::Opus] {
        for (name, guard) in [("listened to", Guard::Listen), ("guarded", Guard::Masked(MaskKind::ComfortNoise))] {
            let mut bench = Bench::new(codec, guard, false, 1);
            group.bench_function(format!("{name}, {}", codec.name()), |b| b.iter(|| bench.step()));
            assert!(bench.out.packets > 0);
        }
    }
    group.finish();
}

fn codecs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec, 20 ms");
    group.throughput(Throughput::Elements(1));
    let said = Talker::new(1, -20.0).say(160 * 500);
    let wide: Vec<i16> = said.iter().flat_map(|sample| [*sample, *sample]).collect();
    let frames: Vec<&[i16]> = wide.chunks_exact(320).collect();
    let (mut packet, mut heard, mut at) = ([0; 400], [0; opus::LONGEST], 0usize);
    let mut next = move |of: usize| {
        at += 1;
        at % of
    };
    let mut encoder = g722::Encoder::new();
    group.bench_function("G722 encode", |b| b.iter(|| encoder.encode(frames[next(500)], &mut packet)));
    let mut coder = Coder::new(Codec::G722);
    let packets: Vec<Vec<u8>> = frames.iter().map(|frame| coder.encode_wide(frame)).collect();
    let mut decoder = g722::Decoder::new();
    group.bench_function("G722 decode", |b| b.iter(|| decoder.decode(&packets[next(500)], &mut heard)));
    let mut encoder = opus::Encoder::new(opus::BITRATE);
    group.bench_function("opus encode", |b| b.iter(|| encoder.encode(frames[next(500)], &mut packet)));
    let mut coder = Coder::new(Codec::Opus);
    let packets: Vec<Vec<u8>> = frames.iter().map(|frame| coder.encode_wide(frame)).collect();
    let mut decoder = opus::Decoder::new();
    group.bench_function("opus decode", |b| b.iter(|| decoder.decode(&packets[next(500)], &mut heard)));
    group.bench_function("PCMU encode", |b| {
        b.iter(|| said[..160].iter().map(|s| u32::from(g711::ulaw_encode(black_box(*s)))).sum::<u32>());
    });
    let mut split = Split::new();
    group.bench_function("16 kHz apart", |b| {
        let frame = frames[next(500)].as_chunks::<2>().0;
        b.iter(|| frame.iter().map(|pair| i32::from(split.push(*pair).0)).sum::<i32>());
    });
    let mut join = Join::new();
    group.bench_function("16 kHz together", |b| {
        b.iter(|| said[..160].iter().map(|low| i32::from(join.push(*low, [0; 2])[0])).sum::<i32>());
    });
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

criterion_group!(benches, media, codecs, srtp);
criterion_main!(benches);
