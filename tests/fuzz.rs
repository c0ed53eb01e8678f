//! The bodies of the fuzz targets as plain tests: over the saved corpus (`fuzz/corpus/<target>`), the torture messages
//! and descriptions other tests use, and thousands of seeded changes of them. `TONEWALL_FUZZ=n` tries n changes per
//! target instead; `docs/testing.md` says how the same bodies run under libFuzzer.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // Tests may read files and the clock.

use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use tonewall::base::Random;
use tonewall::testkit::fuzz::{TARGETS, changed};

/// Changes per target when nothing else is asked for; the engine's body costs a hundred times the others'.
const CHANGES: usize = 20_000;
const ENGINE_CHANGES: usize = 1_000;

fn files(dir: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default();
    paths.sort();
    paths.iter().filter(|path| path.is_file()).filter_map(|path| std::fs::read(path).ok()).collect()
}

/// What a target starts from.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = files(&root.join("fuzz/corpus").join(target));
    match target {
        "sip" | "stream" | "engine" => seeds.extend(files(&root.join("tests/torture"))),
        "sdp" => seeds.extend(files(&root.join("tests/sdp"))),
        _ => {}
    }
    assert!(!seeds.is_empty(), "no corpus for {target}");
    seeds
}

fn run(target: &str) {
    let body = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of that name").1;
    let seeds = seeds(target);
    let now = std::time::Instant::now();
    seeds.iter().for_each(|seed| body(now, seed));
    let usual = if target == "engine" { ENGINE_CHANGES } else { CHANGES };
    let changes = std::env::var("TONEWALL_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let mut random = Random::seed_from_u64(0x746f_6e65);
    for n in 0..changes {
        let seed = &seeds[random.random_range(0..seeds.len())];
        let other = &seeds[random.random_range(0..seeds.len())];
        let bytes = changed(seed, other, &mut random);
        if std::panic::catch_unwind(|| body(now, &bytes)).is_err() {
            panic!("{target}: change {n} of seed 0x746f6e65 is a finding; its bytes: {}", hex::encode(&bytes));
        }
    }
    println!("{target}: {} saved inputs and {changes} changes of them, nothing found", seeds.len());
}

/// Whatever one parser takes may come where another one listens (threats R14).
#[test]
fn r14_what_is_meant_for_one_parser_brings_no_other_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all: Vec<Vec<u8>> = TARGETS.iter().flat_map(|(name, _)| seeds(name)).collect();
    all.extend(files(&root.join("tests/sipp")));
    let now = std::time::Instant::now();
    for (name, body) in TARGETS {
        for bytes in &all {
            // Whole, and cut where a datagram or a segment might end.
            for end in [bytes.len(), bytes.len() / 2, 1.min(bytes.len()), 0] {
                let cut = &bytes[..end];
                let outcome = std::panic::catch_unwind(|| body(now, cut));
                assert!(outcome.is_ok(), "{name} falls over {}", hex::encode(cut));
            }
        }
    }
    println!("{} inputs at each of {} targets", all.len(), TARGETS.len());
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_target_is_run_here_and_has_its_fuzz_target() {
            let here = [$(stringify!($name)),*];
            for (name, _) in TARGETS {
                assert!(here.contains(&name), "{name} is not run");
                let file = format!("{}/fuzz/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
                assert!(Path::new(&file).is_file(), "{file} is missing");
            }
        }
    };
}

targets!(sip stream sdp rtp rtcp srtp event red info multipart engine);
