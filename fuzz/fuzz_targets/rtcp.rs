#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tonewall::testkit::fuzz::rtcp_compound(std::time::Instant::now(), bytes));
