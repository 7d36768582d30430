//! Options of a table, as the manifest holds them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonearm::fuzzing::lsm_options(data));
