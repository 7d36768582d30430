//! Sorted blocks: structure, search, entries.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonearm::fuzzing::block(data));
