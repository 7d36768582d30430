//! Options of B+tree tables.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonearm::fuzzing::btree_options(data));
