//! Hash run files with bytes changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonearm::fuzzing::hash_run(data));
