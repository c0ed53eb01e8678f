#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tonewall::testkit::fuzz::rtp(std::time::Instant::now(), bytes));
