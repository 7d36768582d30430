//! Unpacking of compressed blocks.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonearm::fuzzing::compressed(data));
