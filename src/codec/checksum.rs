//! Checksums: CRC-32 for log records (many short ones), XXH3 for blocks (few long ones).

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

/// The checksum of a block of a file, bound to its place: the same bytes read from another place
/// do not verify. `place` mixes the file's id and the offset.
#[inline]
pub(crate) fn checksum(bytes: &[u8], place: u64) -> u64 {
    #[cfg(fuzzing)]
    if blindness::is_on() {
        return 0;
    }
    xxh3_64_with_seed(bytes, place)
}

/// The one hash of a key that serves every filter, memtable and hash table. It is written into
/// filters, so it is part of the format.
#[inline]
pub(crate) fn key_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// With this seed there are only four hashes: for tests of keys that somebody chose well.
#[cfg(test)]
pub(crate) const WEAK_SEED: u64 = 0xbad;

/// The hash of a key in a hash table: with a seed that nobody who chooses keys knows, nobody can
/// choose keys that fall into the same place. The order of hash tables' files is made of it.
#[inline]
pub(crate) fn seeded_hash(key: &[u8], seed: u64) -> u64 {
    #[cfg(test)]
    if seed == WEAK_SEED {
        return xxh3_64(key) & (3 << 60);
    }
    xxh3_64_with_seed(key, seed)
}

/// A running CRC-32 (the IEEE polynomial).
#[derive(Clone, Debug)]
pub(crate) struct Crc(crc32fast::Hasher);

impl Crc {
    /// Starts from `seed`: a checksum of the same bytes under another seed differs.
    #[inline]
    pub(crate) fn new(seed: u32) -> Self {
        Self(crc32fast::Hasher::new_with_initial(seed))
    }

    #[inline]
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    #[inline]
    pub(crate) fn finish(self) -> u32 {
        #[cfg(fuzzing)]
        if blindness::is_on() {
            return 0;
        }
        self.0.finalize()
    }
}

/// A running XXH3, for what does not lie in memory as a whole.
#[derive(Default)]
pub(crate) struct Digest(Xxh3);

impl Digest {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0.digest()
    }
}

/// Lets a fuzzer past the checksums, to what only a hostile writer could put behind them.
#[cfg(fuzzing)]
pub(crate) mod blindness {
    use std::sync::atomic::{AtomicBool, Ordering};

    static ON: AtomicBool = AtomicBool::new(false);

    /// While it is on, every checksum is 0.
    pub(crate) fn set(on: bool) {
        ON.store(on, Ordering::Relaxed);
    }

    pub(super) fn is_on() -> bool {
        ON.load(Ordering::Relaxed)
    }
}
