#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tonewall::testkit::fuzz::telephone_event(std::time::Instant::now(), bytes));
