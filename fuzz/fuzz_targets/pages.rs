//! Page files with bytes changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonearm::fuzzing::pages(data));
