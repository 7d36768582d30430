//! What a user may choose about one hash table, and how the manifest keeps it.

use crate::codec::{Compression, Reader, put_u64, put_varint};
use bytes::Bytes;
use std::{collections::hash_map::RandomState, hash::BuildHasher, ops::RangeInclusive};

const VERSION: u8 = 1;
const RUNS: RangeInclusive<u32> = 2..=16;
const FILE_BYTES: RangeInclusive<u64> = 4096..=64 << 30;

/// How a hash table lies on disk and when its files are merged.
///
/// The defaults suit most tables; each says why it is what it is. Options are chosen when a table
/// is created and kept with it. Values out of range are brought into it.
///
/// ```
/// # use tonearm::{Compression, HashOptions};
/// let pages = HashOptions::default().compression(Compression::Lz4);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashOptions {
    compression: Compression,
    seed: Option<u64>,
    runs: u32,
    file_bytes: u64,
}

impl Default for HashOptions {
    fn default() -> Self {
        Self { compression: Compression::None, seed: None, runs: 8, file_bytes: 256 << 20 }
    }
}

impl HashOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How values that do not fit into a record of 1 KiB are compressed: by default not at all,
    /// since they are then read in place. Shorter ones are never compressed: a look-up reads one
    /// page, and unpacking one would cost more than finding it.
    #[must_use]
    pub fn compression(mut self, how: Compression) -> Self {
        self.compression = how;
        self
    }

    /// How many runs the table may consist of before some are merged, 8 by default: a look-up asks
    /// all of them at once, which hides most of what each costs. With fewer, look-ups of several
    /// keys at once get faster, and each entry is rewritten more often.
    ///
    /// While a long merge goes on there may be more. With 4 more than this writers are slowed, and
    /// with twice as many they wait (with fewer than 6: with 6 more), so there are never many more.
    #[must_use]
    pub fn runs(mut self, runs: u32) -> Self {
        self.runs = runs;
        self.fitted()
    }

    /// About how many bytes of entries a file holds, 256 MiB by default: a merge needs as much
    /// space beside what it merges, and a larger run is cut into so many files, each for a slice
    /// of all hashes.
    #[must_use]
    pub fn file_bytes(mut self, bytes: u64) -> Self {
        self.file_bytes = bytes;
        self.fitted()
    }

    /// The seed of the hash; by default each table has a random one. With a seed of your own two
    /// tables of the same entries have the same files; but whoever chooses keys and knows the seed
    /// can choose them so that they fall together, which makes them slower to find.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    fn fitted(mut self) -> Self {
        self.runs = self.runs.clamp(*RUNS.start(), *RUNS.end());
        self.file_bytes = self.file_bytes.clamp(*FILE_BYTES.start(), *FILE_BYTES.end());
        self
    }

    /// With a seed, if they had none.
    pub(crate) fn seeded(mut self) -> Self {
        self.seed.get_or_insert_with(|| RandomState::new().hash_one(VERSION));
        self
    }

    pub(crate) fn seed_or_zero(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    pub(super) fn how_compressed(&self) -> Compression {
        self.compression
    }

    pub(super) fn runs_max(&self) -> usize {
        self.runs as usize
    }

    pub(super) fn file_limit(&self) -> u64 {
        self.file_bytes
    }

    /// What a number of runs means to writers: 0.6 where they are slowed, 1 where they wait.
    pub(super) fn pressure(&self, runs: usize) -> f64 {
        let slow = f64::from(self.runs) + 4.0;
        let stop = (f64::from(self.runs) * 2.0).max(slow + 2.0);
        let runs = runs as f64;
        match runs <= slow {
            true => 0.6 * runs / slow,
            false => (0.6 + 0.4 * (runs - slow) / (stop - slow)).min(1.0),
        }
    }

    /// As the manifest keeps them: `version u8`, `compression u8`, `seed u64`, then varints.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION, self.compression.id()];
        put_u64(&mut out, self.seed_or_zero());
        put_varint(&mut out, self.runs.into());
        put_varint(&mut out, self.file_bytes);
        out.into()
    }

    /// What [`HashOptions::encode`] wrote; `None` if `bytes` are anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return None;
        }
        let options = Self {
            compression: Compression::from_id(reader.u8()?)?,
            seed: Some(reader.u64()?),
            runs: reader.varint()?.try_into().ok()?,
            file_bytes: reader.varint()?,
        };
        (reader.is_empty() && options.clone().fitted() == options).then_some(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn are_written_as_ever() {
        let options = HashOptions::default().compression(Compression::Lz4).seed(0x0102);
        let hex: String = options.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "010102010000000000000880808080 01".replace(' ', ""));
        assert_eq!(HashOptions::decode(&options.encode()), Some(options.clone()));
        let bytes = options.encode();
        assert_eq!(HashOptions::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(HashOptions::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(HashOptions::decode(&[&[2], &bytes[1..]].concat()), None);
    }

    #[test]
    fn tables_get_seeds_of_their_own() {
        let [a, b] = [(); 2].map(|()| HashOptions::default().seeded());
        assert_ne!(a.seed_or_zero(), b.seed_or_zero());
        assert_eq!(HashOptions::default().seed(7).seeded().seed_or_zero(), 7);
    }

    #[test]
    fn writers_feel_pressure_where_they_should() {
        let options = HashOptions::default();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(options.pressure(0), 0.0);
        near(options.pressure(12), 0.6);
        near(options.pressure(14), 0.8);
        near(options.pressure(16), 1.0);
        near(options.pressure(99), 1.0);
        near(options.runs(2).pressure(8), 1.0);
    }

    proptest! {
        #[test]
        fn any_choice_is_fitted_and_kept(runs: u32, bytes: u64, seed: u64) {
            let options = HashOptions::new().runs(runs).file_bytes(bytes).seed(seed);
            prop_assert_eq!(HashOptions::decode(&options.encode()), Some(options));
        }

        #[test]
        fn garbage_is_refused_without_panic(bytes: Vec<u8>) {
            if let Some(options) = HashOptions::decode(&bytes) {
                prop_assert_eq!(&options.encode()[..], &bytes[..]);
            }
        }
    }
}
