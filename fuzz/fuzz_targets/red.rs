#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tonewall::testkit::fuzz::redundancy(std::time::Instant::now(), bytes));
