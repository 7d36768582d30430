//! Options of a hash table, as the manifest holds them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonearm::fuzzing::hash_options(data));
