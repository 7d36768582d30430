//! Operations of a batch, as the log holds them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonearm::fuzzing::batch(data));
