//! A hash run's description, as the manifest holds it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonearm::fuzzing::hash_run_meta(data));
