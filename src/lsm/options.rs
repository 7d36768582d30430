//! What a user may choose about one LSM table, and how the manifest keeps it.

use crate::{
    codec::{Compression, Reader, put_varint},
    sorted::RunOptions,
};
use bytes::Bytes;

const VERSION: u8 = 1;
/// What tables have of which nothing is written down.
const SEPARATE_VALUES: u32 = 16 << 10;

/// How an LSM table lies on disk and when its files are merged.
///
/// The defaults suit most tables; each says why it is what it is. Options are chosen when a table
/// is created and kept with it. Values out of range are brought into it.
///
/// ```
/// # use tonearm::{Compression, LsmOptions};
/// let cold = LsmOptions::default().compression(Compression::Lz4).block_bytes(32 << 10);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LsmOptions {
    block_bytes: u32,
    compression: Compression,
    hot_compression: Compression,
    filter_bits: u8,
    last_filter_bits: u8,
    expect_hits: bool,
    file_bytes: u64,
    base_bytes: u64,
    growth: u32,
    merge_at: u32,
    slow_at: u32,
    stop_at: u32,
    debt_bytes: u64,
    separate_values: u32,
}

impl Default for LsmOptions {
    fn default() -> Self {
        Self {
            block_bytes: 8 << 10,
            compression: Compression::None,
            hot_compression: Compression::None,
            filter_bits: 14,
            last_filter_bits: 10,
            expect_hits: false,
            file_bytes: 64 << 20,
            base_bytes: 256 << 20,
            growth: 10,
            merge_at: 8,
            slow_at: 20,
            stop_at: 36,
            debt_bytes: 16 << 30,
            separate_values: SEPARATE_VALUES,
        }
    }
}

impl LsmOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of a data block before compression, a power of two, 8 KiB by default: two pages hold
    /// enough entries that the index above them stays in the processor's cache, and few enough that
    /// a get touches little. Larger blocks compress better and suit scans.
    #[must_use]
    pub fn block_bytes(mut self, bytes: u32) -> Self {
        self.block_bytes = bytes;
        self.fitted()
    }

    /// How files of the last level are compressed: by default not at all, since blocks that are not
    /// compressed are read in place, without a cache. The last level holds nine tenths of a large
    /// table, so it alone decides the table's size.
    #[must_use]
    pub fn compression(mut self, how: Compression) -> Self {
        self.compression = how;
        self
    }

    /// How files above the last level are compressed: by default not at all, whatever
    /// [`compression`](Self::compression) is, since they are small, read by most look-ups, and
    /// rewritten soon.
    #[must_use]
    pub fn hot_compression(mut self, how: Compression) -> Self {
        self.hot_compression = how;
        self
    }

    /// Bits of filter a key for files above the last level, 14 by default; 0 for no filter. These
    /// files are few of the bytes but most of the places that an absent key is asked for in, so
    /// bits are cheap here and save most (Monkey, Dayan et al. 2017).
    #[must_use]
    pub fn filter_bits(mut self, bits: u8) -> Self {
        self.filter_bits = bits;
        self.fitted()
    }

    /// Bits of filter a key for files of the last level, 10 by default: one look-up in a hundred
    /// of an absent key reads a block in vain.
    #[must_use]
    pub fn last_filter_bits(mut self, bits: u8) -> Self {
        self.last_filter_bits = bits;
        self.fitted()
    }

    /// Whether nearly all keys looked up are there; off by default. If so, the last level is
    /// written without filters, which could only say yes: nine tenths of all filter memory saved.
    #[must_use]
    pub fn expect_hits(mut self, yes: bool) -> Self {
        self.expect_hits = yes;
        self
    }

    /// Bytes of one file, 64 MiB by default: large enough that a table of a terabyte has some
    /// sixteen thousand files, small enough that one merge of a file and the ten below it takes
    /// seconds.
    #[must_use]
    pub fn file_bytes(mut self, bytes: u64) -> Self {
        self.file_bytes = bytes;
        self.fitted()
    }

    /// The smallest target of a level, 256 MiB by default. A table gets another level when that
    /// level could be this large, so that merging flushed files into the uppermost level pays: one
    /// merge takes some eight memtables, which should not be little beside what they merge with.
    #[must_use]
    pub fn base_bytes(mut self, bytes: u64) -> Self {
        self.base_bytes = bytes;
        self.fitted()
    }

    /// How many times larger a level is than the one above it, 10 by default: the balance between
    /// rewriting (grows with it) and levels to look into (shrink with it) that LevelDB chose.
    #[must_use]
    pub fn growth(mut self, times: u32) -> Self {
        self.growth = times;
        self.fitted()
    }

    /// Flushed files on top of each other at which they are merged, 8 by default. Waiting for more
    /// writes less; a get asks the filter of each. While nothing is written they are merged anyway.
    #[must_use]
    pub fn merge_at(mut self, files: u32) -> Self {
        self.merge_at = files;
        self.fitted()
    }

    /// Flushed files on top of each other at which writers are slowed, 20 by default: well above
    /// the number that starts a merge, so that a burst of a gigabyte is taken at full speed.
    #[must_use]
    pub fn slow_at(mut self, files: u32) -> Self {
        self.slow_at = files;
        self.fitted()
    }

    /// Flushed files on top of each other at which writers wait, 36 by default: reads would become
    /// too slow with more.
    #[must_use]
    pub fn stop_at(mut self, files: u32) -> Self {
        self.stop_at = files;
        self.fitted()
    }

    /// Bytes of merging left to do at which writers wait, 16 GiB by default: a minute or two of
    /// work, and a bound on the space that versions not yet merged away take.
    #[must_use]
    pub fn debt_bytes(mut self, bytes: u64) -> Self {
        self.debt_bytes = bytes;
        self.fitted()
    }

    /// Bytes of a value, compressed, from which on merges leave it where it was first written,
    /// 16 KiB by default; `u32::MAX` for never. A value of several pages costs a read of its own
    /// anyway, and copying it again and again costs more than finding it. For that the file that
    /// has it is kept until less than half of it is needed: long values may take up to twice their
    /// space ([`TableStats::lenders`](crate::TableStats::lenders) says how much they do), and scans
    /// find them here and there. Values of at most a quarter of a block are always copied, and so
    /// are those in files of which such values are less than two thirds.
    #[must_use]
    pub fn separate_values(mut self, bytes: u32) -> Self {
        self.separate_values = bytes;
        self.fitted()
    }

    fn fitted(mut self) -> Self {
        self.block_bytes = self.block_bytes.clamp(256, 32 << 10).next_power_of_two();
        self.filter_bits = self.filter_bits.min(32);
        self.last_filter_bits = self.last_filter_bits.min(32);
        self.file_bytes = self.file_bytes.clamp(4 << 10, 16 << 30);
        self.base_bytes = self.base_bytes.clamp(4 << 10, 1 << 40);
        self.growth = self.growth.clamp(2, 1000);
        self.merge_at = self.merge_at.clamp(2, 1000);
        self.slow_at = self.slow_at.clamp(self.merge_at + 1, 2000);
        self.stop_at = self.stop_at.clamp(self.slow_at + 1, 4000);
        self.debt_bytes = self.debt_bytes.max(1 << 20);
        self.separate_values = self.separate_values.max(1);
        self
    }
}

impl LsmOptions {
    /// How a run is written for the last level, or for one above it.
    pub(super) fn run(&self, last: bool) -> RunOptions {
        let (compression, filter_bits) = match (last, self.expect_hits) {
            (false, _) => (self.hot_compression, self.filter_bits),
            (true, false) => (self.compression, self.last_filter_bits),
            (true, true) => (self.compression, 0),
        };
        let (block_bytes, lend_from) = (self.block_bytes as usize, self.separate_values);
        RunOptions { block_bytes, compression, filter_bits, lend_from, merged_soon: !last }
    }

    /// How long blocks are, before compression.
    pub(crate) fn block_len(&self) -> usize {
        self.block_bytes as usize
    }

    pub(super) fn file_limit(&self) -> u64 {
        self.file_bytes
    }

    pub(super) fn base_limit(&self) -> u64 {
        self.base_bytes
    }

    pub(super) fn times(&self) -> u64 {
        self.growth.into()
    }

    pub(super) fn merge_depth(&self) -> usize {
        self.merge_at as usize
    }

    /// What `depth` flushed files on top of each other and `debt` bytes of work ahead mean to
    /// writers: 0.6 where they are slowed, 1 where they wait.
    pub(super) fn pressure(&self, depth: usize, debt: u64) -> f64 {
        let (slow, stop) = (f64::from(self.slow_at), f64::from(self.stop_at));
        let depth = depth as f64;
        let files = match depth <= slow {
            true => 0.6 * depth / slow,
            false => 0.6 + 0.4 * (depth - slow) / (stop - slow),
        };
        files.max(debt as f64 / self.debt_bytes as f64).min(1.0)
    }

    /// As the manifest keeps them: `version u8`, three bytes of choices, then varints; the last one
    /// only if it is not the default.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION, self.compression.id(), self.hot_compression.id()];
        out.push(u8::from(self.expect_hits));
        for number in self.numbers() {
            put_varint(&mut out, number);
        }
        if self.separate_values != SEPARATE_VALUES {
            put_varint(&mut out, self.separate_values.into());
        }
        out.into()
    }

    fn numbers(&self) -> [u64; 10] {
        [
            self.block_bytes.into(),
            self.filter_bits.into(),
            self.last_filter_bits.into(),
            self.file_bytes,
            self.base_bytes,
            self.growth.into(),
            self.merge_at.into(),
            self.slow_at.into(),
            self.stop_at.into(),
            self.debt_bytes,
        ]
    }

    /// What [`LsmOptions::encode`] wrote; `None` if `bytes` are anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return None;
        }
        let options = Self {
            compression: Compression::from_id(reader.u8()?)?,
            hot_compression: Compression::from_id(reader.u8()?)?,
            expect_hits: match reader.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            block_bytes: reader.varint()?.try_into().ok()?,
            filter_bits: reader.varint()?.try_into().ok()?,
            last_filter_bits: reader.varint()?.try_into().ok()?,
            file_bytes: reader.varint()?,
            base_bytes: reader.varint()?,
            growth: reader.varint()?.try_into().ok()?,
            merge_at: reader.varint()?.try_into().ok()?,
            slow_at: reader.varint()?.try_into().ok()?,
            stop_at: reader.varint()?.try_into().ok()?,
            debt_bytes: reader.varint()?,
            separate_values: match reader.is_empty() {
                true => SEPARATE_VALUES,
                false => chosen(reader.varint()?)?,
            },
        };
        (reader.is_empty() && options.clone().fitted() == options).then_some(options)
    }
}

/// A choice that is written down because it is not the default.
fn chosen(bytes: u64) -> Option<u32> {
    bytes.try_into().ok().filter(|bytes| *bytes != SEPARATE_VALUES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn round_trips() {
        let options = LsmOptions::new()
            .block_bytes(32 << 10)
            .compression(Compression::Zstd)
            .hot_compression(Compression::Lz4)
            .filter_bits(0)
            .last_filter_bits(12)
            .expect_hits(true)
            .file_bytes(1 << 20)
            .base_bytes(10 << 20)
            .growth(4)
            .merge_at(3)
            .slow_at(9)
            .stop_at(12)
            .debt_bytes(1 << 33)
            .separate_values(u32::MAX);
        for options in [options, LsmOptions::default()] {
            let bytes = options.encode();
            assert_eq!(LsmOptions::decode(&bytes), Some(options));
            assert_eq!(LsmOptions::decode(&bytes[..bytes.len() - 1]), None);
            assert_eq!(LsmOptions::decode(&[&bytes[..], &[0]].concat()), None);
            assert_eq!(LsmOptions::decode(&[&[2], &bytes[1..]].concat()), None);
        }
    }

    #[test]
    fn are_written_as_ever() {
        let options = LsmOptions::default().compression(Compression::Zstd).expect_hits(true);
        let hex: String = options.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "0102000180400e0a8080802080808080010a0814248080808040");
        let separate = options.clone().separate_values(100).encode();
        assert_eq!(separate, [&options.encode()[..], &[100]].concat());
        let default = [&options.encode()[..], &[0x80, 0x80, 0x01]].concat();
        assert_eq!(LsmOptions::decode(&default), None, "written down without need");
    }

    #[test]
    fn writers_feel_pressure_where_they_should() {
        let options = LsmOptions::default();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(options.pressure(0, 0), 0.0);
        near(options.pressure(20, 0), 0.6);
        near(options.pressure(28, 0), 0.8);
        near(options.pressure(99, 0), 1.0);
        near(options.pressure(0, 8 << 30), 0.5);
        assert!(options.pressure(8, 0) < 0.3);
    }

    proptest! {
        #[test]
        fn any_choice_is_fitted_and_kept(a: u32, b: u32, c: u32, d: u64, bits: u8) {
            let options = LsmOptions::new().merge_at(a).stop_at(b).slow_at(c).file_bytes(d)
                .block_bytes(c).base_bytes(d).growth(a).filter_bits(bits).debt_bytes(d)
                .separate_values(b);
            prop_assert!(options.merge_at < options.slow_at && options.slow_at < options.stop_at);
            prop_assert_eq!(LsmOptions::decode(&options.encode()), Some(options));
        }

        #[test]
        fn garbage_is_refused_without_panic(bytes: Vec<u8>) {
            if let Some(options) = LsmOptions::decode(&bytes) {
                prop_assert_eq!(&options.encode()[..], &bytes[..]);
            }
        }
    }
}
