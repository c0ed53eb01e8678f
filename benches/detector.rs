//! What the in-band detector costs per 20 ms packet and line: gate closed (a quiet line), gate open (speech, noise) and
//! during digits, with SpanDSP's receiver beside it where the library is installed.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tonewall::dsp::level::rms;
use tonewall::dsp::noise::Noise;
use tonewall::dtmf::inband::{Detector, Point};
use tonewall::testkit::spandsp::Spandsp;
use tonewall::testkit::speech::Talker;
use tonewall::testkit::tones::{Plan, line};

fn lines() -> Vec<(&'static str, Vec<i16>)> {
    let mut quiet = vec![0i16; 80_000];
    Noise::new(1).fill(rms(-65.0), &mut quiet);
    let mut loud = vec![0i16; 80_000];
    Noise::new(2).fill(rms(-20.0), &mut loud);
    let digits = line(&Plan { presses: 60, ..Plan::default() }, 3).samples;
    vec![("quiet", quiet), ("speech", Talker::new(4, -18.0).say(80_000)), ("noise", loud), ("digits", digits)]
}

fn detector(c: &mut Criterion) {
    let mut group = c.benchmark_group("detector, 20 ms");
    group.throughput(Throughput::Elements(160));
    let other = Spandsp::load();
    if let Err(why) = &other {
        eprintln!("no SpanDSP beside: {why}");
    }
    for (name, samples) in lines() {
        let packets: Vec<&[i16]> = samples.chunks_exact(160).collect();
        for point in [Point::Armed, Point::Unarmed] {
            group.bench_function(BenchmarkId::new(format!("{point:?}"), name), |b| {
                let mut detector = Detector::new(point);
                let mut packets = packets.iter().cycle();
                b.iter(|| {
                    if let Some(packet) = packets.next() {
                        detector.feed(packet, &mut |v| {
                            black_box(v);
                        });
                    }
                });
            });
        }
        if let Ok(other) = &other {
            group.bench_function(BenchmarkId::new("SpanDSP", name), |b| {
                let mut receiver = other.receiver();
                let mut packets = packets.iter().cycle();
                b.iter(|| packets.next().map(|packet| black_box(receiver.feed(packet))));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, detector);
criterion_main!(benches);
