#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tonewall::testkit::fuzz::engine(std::time::Instant::now(), bytes));
