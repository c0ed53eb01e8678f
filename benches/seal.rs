//! What sealing costs: one second of stereo (32,000 bytes) through the writer into memory, and the same read back and
//! judged. Blocks marked as lost are used, because only the guard makes others; the cipher's work is the same.

#![allow(missing_docs)]

use std::hint::black_box;
use std::io;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::SeedableRng;
use tonewall::base::Random;
use tonewall::base::ids::{CallId, RecordingId};
use tonewall::base::time::WallMs;
use tonewall::record::keys::{Kek, KeyRing};
use tonewall::record::sealed::{Start, Storage, Writer, verify};

struct Memory(Vec<u8>);

impl Storage for Memory {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn kek() -> Kek {
    let text: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    Kek::parse("bench", &text).expect("a key")
}

fn writer() -> Writer<Memory> {
    let mut random = Random::seed_from_u64(1);
    let start = Start {
        recording: RecordingId::draw(&mut random),
        call: CallId::draw(&mut random),
        node: "bench".into(),
        from_trunk: "a".into(),
        to_trunk: "b".into(),
        started_at_ms: WallMs(0),
        rate: 8_000,
        channels: 2,
        caller: String::new(),
        called: String::new(),
        agent: String::new(),
        sip_call_ids: Vec::new(),
        labels: Default::default(),
        spill: None,
    };
    Writer::create(Memory(Vec::with_capacity(1 << 20)), &kek(), start, &mut random).expect("created")
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
    let bytes = made.into_storage().0;
    let ring = KeyRing::new(Some(kek()), Vec::new()).expect("a ring");
    group.bench_function("verify 20 s", |b| {
        b.iter(|| verify(black_box(&bytes[..]), Some(seal.as_bytes()), None, &ring, &mut |_| Ok(())).expect("read"));
    });
    group.finish();
}

criterion_group!(benches, seal);
criterion_main!(benches);
