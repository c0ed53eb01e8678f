//! What the in-band detector costs per 20 ms packet and line: lines heard together on each instruction set this machine
//! has, lines one by one, and SpanDSP's receiver where the library is installed. On speech without a pause, on a quiet
//! line, on keys without a pause, and on conversations: half speech, half quiet, a key in eight seconds. Counted is the
//! thread's own processor time, so that what else the machine does matters little.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tonewall::dsp::level::rms;
use tonewall::dsp::noise::Noise;
use tonewall::dtmf::inband::{Detector, Place, Point, Together, Width};
use tonewall::testkit::spandsp::Spandsp;
use tonewall::testkit::speech::Talker;
use tonewall::testkit::tones::{Draw, Law, Plan, line};

/// Processor time of this thread.
struct OwnTime;

impl OwnTime {
    fn now() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

impl Measurement for OwnTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        Self::now()
    }

    fn end(&self, start: Duration) -> Duration {
        Self::now().saturating_sub(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Lines in one turn.
const LINES: usize = 64;
/// Samples in a packet.
const PACKET: usize = 160;
/// Voices that the lines share, each at a place of its own: what is heard lies as near as a packet that has just come.
const VOICES: usize = 16;
/// Samples of each voice: 4 s.
const LENGTH: usize = 32_000;

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
    let mut samples = line(&Plan { presses: 28, ..Plan::default() }, seed).samples;
    samples.resize(LENGTH, 0);
    samples
}

fn conversation(seed: u64) -> Vec<i16> {
    let (mut samples, said, mut draw) = (quiet(seed), speech(seed), Draw::new(seed + 77));
    let mut at = draw.below(12_000);
    while at < LENGTH {
        let end = (at + 4_000 + draw.below(12_000)).min(LENGTH);
        samples[at..end].copy_from_slice(&said[at..end]);
        at = end + 4_000 + draw.below(12_000);
    }
    if seed.is_multiple_of(2) {
        let keyed = line(&Plan { presses: 1, ..Plan::default() }, seed).samples;
        let at = draw.below(LENGTH - keyed.len());
        samples[at..at + keyed.len()].copy_from_slice(&keyed);
    }
    samples
}

fn all(kind: fn(u64) -> Vec<i16>) -> Vec<Vec<i16>> {
    (0..VOICES as u64).map(kind).collect()
}

/// Lines and where they are.
struct Lines<'a> {
    voices: &'a [Vec<i16>],
    detectors: Vec<Detector>,
    together: Together,
    at: usize,
}

impl<'a> Lines<'a> {
    fn new(voices: &'a [Vec<i16>], point: Point, width: Width) -> Self {
        let detectors = (0..LINES).map(|_| Detector::with(point, width)).collect();
        Self { voices, detectors, together: Together::with(width), at: 0 }
    }

    /// The next packet of a line.
    fn packet(&self, line: usize) -> &'a [i16] {
        let at = (self.at + line / VOICES * (LENGTH / 4)) % LENGTH;
        &self.voices[line % VOICES][at..at + PACKET]
    }

    fn go_on(&mut self) {
        self.at = (self.at + PACKET) % LENGTH;
    }

    /// A packet of every line.
    fn together(&mut self) {
        let mut places = [const { None::<Place> }; LINES];
        for (line, place) in places.iter_mut().enumerate() {
            let packet = self.packet(line);
            *place = self.together.enter(&self.detectors[line], packet);
        }
        self.together.run();
        for (line, place) in places.into_iter().enumerate() {
            let packet = self.packet(line);
            if let Some(place) = place {
                self.together.leave(place, &mut self.detectors[line], packet, &mut |v| {
                    black_box(v);
                });
            }
        }
        self.together.clear();
        self.go_on();
    }

    /// The same, one by one.
    fn alone(&mut self) {
        for line in 0..LINES {
            let packet = self.packet(line);
            self.detectors[line].feed(packet, &mut |v| {
                black_box(v);
            });
        }
        self.go_on();
    }
}

fn detector(c: &mut Criterion<OwnTime>) {
    let other = Spandsp::load();
    if let Err(why) = &other {
        eprintln!("no SpanDSP beside: {why}");
    }
    for (name, voices) in
        [("speech", all(speech)), ("quiet", all(quiet)), ("keys", all(keys)), ("conversation", all(conversation))]
    {
        // An iteration is a packet of each line; elements per second are packets.
        let mut group = c.benchmark_group(format!("{LINES} packets of 20 ms, {name}"));
        group.throughput(Throughput::Elements(LINES as u64));
        for point in [Point::Armed, Point::Unarmed] {
            for width in Width::all() {
                let mut lines = Lines::new(&voices, point, width);
                group.bench_function(BenchmarkId::new(format!("{width:?}"), format!("{point:?}")), |b| {
                    b.iter(|| lines.together());
                });
            }
            let mut lines = Lines::new(&voices, point, Width::widest());
            group.bench_function(BenchmarkId::new("one by one", format!("{point:?}")), |b| b.iter(|| lines.alone()));
        }
        if let Ok(other) = &other {
            let mut receivers: Vec<_> = (0..LINES).map(|_| other.receiver()).collect();
            let mut lines = Lines::new(&voices, Point::Unarmed, Width::Portable);
            group.bench_function(BenchmarkId::new("SpanDSP", ""), |b| {
                b.iter(|| {
                    for (line, receiver) in receivers.iter_mut().enumerate() {
                        black_box(receiver.feed(lines.packet(line)));
                    }
                    lines.go_on();
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(OwnTime);
    targets = detector
}
criterion_main!(benches);
