//! What sealing costs: one second of stereo (32,000 bytes) through the writer into memory, and the same read back and
//! judged. Blocks marked as lost are used, because only the guard makes others; the cipher's work is the same.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::SeedableRng;
use tonewall::base::Random;
use tonewall::base::ids::{CallId, RecordingId};
use tonewall::base::time::WallMs;
use tonewall::record::keys::{Kek, KeyRing};
use tonewall::record::sealed::{Start, Writer, verify};

fn kek() -> Kek {
    let text: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    Kek::parse("bench", &text).expect("a key")
}

fn writer() -> Writer<Vec<u8>> {
    let mut random = Random::seed_from_u64(1);
    let (recording, call) = (RecordingId::draw(&mut random), CallId::draw(&mut random));
    let start = Start::new(recording, call, "bench", ["a", "b"], WallMs(0));
    Writer::create(Vec::with_capacity(1 << 20), &kek(), start, &mut random).expect("created")
}

fn seal(c: &mut Criterion) {
    const SECONDS: u64 = 20;
    let mut group = c.benchmark_group("seal");
    group.throughput(Throughput::Bytes(SECONDS * 32_000));
    group.bench_function("write 20 s", |b| {
        b.iter_batched(
            writer,
            |mut writer| {
                for _ in 0..SECONDS * 10 {
                    writer.lost().expect("written");
                }
                writer
            },
            BatchSize::LargeInput,
        );
    });
    let mut made = writer();
    for _ in 0..SECONDS * 10 {
        made.lost().expect("written");
    }
    let (_, seal) = made.close(WallMs(0)).expect("closed");
    let bytes = made.into_storage();
    let ring = KeyRing::new(Some(kek()), Vec::new()).expect("a ring");
    group.bench_function("verify 20 s", |b| {
        b.iter(|| verify(black_box(&bytes[..]), Some(seal.as_bytes()), None, &ring, &mut |_| Ok(())).expect("read"));
    });
    group.finish();
}

criterion_group!(benches, seal);
criterion_main!(benches);
