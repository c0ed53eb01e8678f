//! What the in-band detector costs per 20 ms packet and line: sixteen lines together on each instruction set this machine
//! has, one line alone, and SpanDSP's receiver where the library is installed. On speech without a pause, on a quiet line,
//! on keys without a pause, and on conversations: half speech, half quiet, three keys in twenty seconds.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tonewall::dsp::level::rms;
use tonewall::dsp::noise::Noise;
use tonewall::dtmf::inband::{Detector, Place, Point, Together, Width};
use tonewall::testkit::spandsp::Spandsp;
use tonewall::testkit::speech::Talker;
use tonewall::testkit::tones::{Draw, Law, Plan, line};

/// Lines in one turn.
const LINES: usize = 16;
/// Samples in a packet.
const PACKET: usize = 160;
/// Samples of each line: 20 s.
const LENGTH: usize = 160_000;

fn speech(seed: u64) -> Vec<i16> {
    let mut said = Talker::new(seed, -14.0 - 1.5 * (seed % 8) as f32).say(LENGTH);
    Law::Mu.through(&mut said);
    said
}

fn quiet(seed: u64) -> Vec<i16> {
    let mut samples = vec![0; LENGTH];
    Noise::new(seed).fill(rms(-62.0), &mut samples);
    samples
}

fn keys(seed: u64) -> Vec<i16> {
    let mut samples = line(&Plan { presses: 140, ..Plan::default() }, seed).samples;
    samples.truncate(LENGTH);
    samples
}

fn conversation(seed: u64) -> Vec<i16> {
    let (mut samples, said, mut draw) = (quiet(seed), speech(seed), Draw::new(seed + 77));
    let mut at = draw.below(8_000);
    while at < LENGTH {
        let end = (at + 4_000 + draw.below(40_000)).min(LENGTH);
        samples[at..end].copy_from_slice(&said[at..end]);
        at = end + 4_000 + draw.below(40_000);
    }
    let keyed = line(&Plan { presses: 3, ..Plan::default() }, seed).samples;
    let at = draw.below(LENGTH - keyed.len());
    samples[at..at + keyed.len()].copy_from_slice(&keyed);
    samples
}

fn all(kind: fn(u64) -> Vec<i16>) -> Vec<Vec<i16>> {
    (0..LINES as u64).map(kind).collect()
}

/// Sixteen lines and where they are.
struct Lines<'a> {
    heard: &'a [Vec<i16>],
    detectors: Vec<Detector>,
    together: Together,
    at: usize,
}

impl<'a> Lines<'a> {
    fn new(heard: &'a [Vec<i16>], point: Point, width: Width) -> Self {
        let detectors = heard.iter().map(|_| Detector::with(point, width)).collect();
        Self { heard, detectors, together: Together::with(width), at: 0 }
    }

    fn span(&mut self) -> std::ops::Range<usize> {
        let shortest = self.heard.iter().map(Vec::len).min().unwrap_or(0);
        if self.at + PACKET > shortest {
            self.at = 0;
        }
        self.at += PACKET;
        self.at - PACKET..self.at
    }

    /// A packet of every line.
    fn together(&mut self) {
        let span = self.span();
        let mut places: [Option<Place>; LINES] = Default::default();
        for ((detector, heard), place) in self.detectors.iter().zip(self.heard).zip(&mut places) {
            *place = self.together.enter(detector, &heard[span.clone()]);
        }
        self.together.run();
        for ((detector, heard), place) in self.detectors.iter_mut().zip(self.heard).zip(places) {
            if let Some(place) = place {
                self.together.leave(place, detector, &heard[span.clone()], &mut |v| {
                    black_box(v);
                });
            }
        }
        self.together.clear();
    }

    /// The same, one by one.
    fn alone(&mut self) {
        let span = self.span();
        for (detector, heard) in self.detectors.iter_mut().zip(self.heard) {
            detector.feed(&heard[span.clone()], &mut |v| {
                black_box(v);
            });
        }
    }
}

fn detector(c: &mut Criterion) {
    let other = Spandsp::load();
    if let Err(why) = &other {
        eprintln!("no SpanDSP beside: {why}");
    }
    for (name, heard) in
        [("speech", all(speech)), ("quiet", all(quiet)), ("keys", all(keys)), ("conversation", all(conversation))]
    {
        // Time per iteration is that of sixteen packets; elements per second are packets.
        let mut group = c.benchmark_group(format!("16 packets of 20 ms, {name}"));
        group.throughput(Throughput::Elements(LINES as u64));
        for point in [Point::Armed, Point::Unarmed] {
            for width in Width::all() {
                let mut lines = Lines::new(&heard, point, width);
                group.bench_function(BenchmarkId::new(format!("{width:?}"), format!("{point:?}")), |b| {
                    b.iter(|| lines.together());
                });
            }
            let mut lines = Lines::new(&heard, point, Width::widest());
            group.bench_function(BenchmarkId::new("one by one", format!("{point:?}")), |b| b.iter(|| lines.alone()));
        }
        if let Ok(other) = &other {
            let mut receivers: Vec<_> = heard.iter().map(|_| other.receiver()).collect();
            let mut lines = Lines::new(&heard, Point::Unarmed, Width::Portable);
            group.bench_function(BenchmarkId::new("SpanDSP", ""), |b| {
                b.iter(|| {
                    let span = lines.span();
                    for (receiver, heard) in receivers.iter_mut().zip(&heard) {
                        black_box(receiver.feed(&heard[span.clone()]));
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, detector);
criterion_main!(benches);
