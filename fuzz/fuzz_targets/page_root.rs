//! What the manifest says of a tree of pages.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonearm::fuzzing::page_root(data));
