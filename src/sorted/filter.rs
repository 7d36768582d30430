//! Filters that say for most absent keys that they are absent: blocked Bloom filters.
//!
//! A key's bits all lie in one line of 512 (Putze, Sanders and Singler, "Cache-, hash- and
//! space-efficient Bloom filters"), so asking costs one cache line, and a filter on disk is asked
//! by reading one page of it. The hash is the one of the whole look-up: its high bits choose the
//! line, 9 bits from the low end choose each bit. At 10 bits a key about 1.2 % of absent keys pass.
//!
//! ```text
//! Format: filter line
//!
//! 64 bytes, 512 bits; bit b is bit b % 8 of byte b / 8
//! line of a hash    hash * lines / 2^64
//! bits of a hash    h & 511, then h >>= 9, and so on; for the seventh, fourteenth .. (probe p from
//!                   0) h starts anew as ((hash ^ p) * 0x9e3779b97f4a7c15) rotated left by 32
//! ```

/// How long a line is: one cache line.
pub(crate) const LINE: usize = 64;
/// Bits that choose one of a line's 512.
const BITS: u32 = 9;
/// Probes that one hash can serve before it is stirred again.
const PROBES_A_HASH: u32 = 7;
/// More bits a key than this buy nothing.
const PROBES_MAX: u8 = 16;

/// How many bits of a line to set for a key at `bits` a key.
fn probes_for(bits: u8) -> u8 {
    // ln 2 * bits is best for a filter without lines; crowded lines want slightly fewer.
    (u16::from(bits) * 6 / 10).clamp(1, u16::from(PROBES_MAX)) as u8
}

/// The line of a key with this hash, of `lines`.
#[inline]
pub(crate) fn line_of(hash: u64, lines: usize) -> usize {
    ((u128::from(hash) * lines as u128) >> 64) as usize
}

/// The bits of a key within its line.
#[inline]
fn bits_of(hash: u64, probes: u8) -> impl Iterator<Item = usize> {
    let mut bits = hash;
    (0..u32::from(probes)).map(move |probe| {
        if probe % PROBES_A_HASH == PROBES_A_HASH - 1 {
            bits = (hash ^ u64::from(probe)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
        }
        let bit = bits as usize & ((1 << BITS) - 1);
        bits >>= BITS;
        bit
    })
}

/// Whether a key with this hash may be among those of its `line`. True if there is no line.
#[inline]
pub(crate) fn line_may_contain(line: &[u8], hash: u64, probes: u8) -> bool {
    let Some(line) = line.first_chunk::<LINE>() else { return true };
    let words = line.as_chunks::<8>().0;
    bits_of(hash, probes).all(|bit| {
        words.get(bit / 64).is_none_or(|word| u64::from_le_bytes(*word) >> (bit % 64) & 1 == 1)
    })
}

/// Collects hashes; how many there are decides how large the filter is.
#[derive(Debug, Default)]
pub(crate) struct FilterBuilder {
    hashes: Vec<u64>,
    bits: u8,
}

/// The lines of a filter and how to ask them.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) lines: Vec<[u8; LINE]>,
    pub(crate) probes: u8,
}

impl FilterBuilder {
    /// For `bits` of filter a key.
    pub(crate) fn new(bits: u8) -> Self {
        Self { hashes: Vec::new(), bits }
    }

    pub(crate) fn add(&mut self, hash: u64) {
        self.hashes.push(hash);
    }

    pub(crate) fn finish(self) -> Filter {
        let bits = self.hashes.len() * usize::from(self.bits);
        let mut lines = vec![[0; LINE]; bits.div_ceil(8 * LINE).max(1)];
        let (count, probes) = (lines.len(), probes_for(self.bits));
        for hash in self.hashes {
            let Some(line) = lines.get_mut(line_of(hash, count)) else { continue };
            for bit in bits_of(hash, probes) {
                if let Some(byte) = line.get_mut(bit / 8) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        Filter { lines, probes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::key_hash;

    fn admits(filter: &Filter, key: u64) -> bool {
        let hash = key_hash(&key.to_le_bytes());
        line_may_contain(&filter.lines[line_of(hash, filter.lines.len())], hash, filter.probes)
    }

    fn filter(keys: u64, bits: u8) -> Filter {
        let mut builder = FilterBuilder::new(bits);
        (0..keys).for_each(|key| builder.add(key_hash(&key.to_le_bytes())));
        builder.finish()
    }

    #[test]
    fn passes_few_absent_keys_and_all_present_ones() {
        for (bits, probes, least, most) in
            [(5, 3, 0.08, 0.12), (10, 6, 0.010, 0.014), (14, 8, 0.001, 0.004), (20, 12, 0.0, 0.001)]
        {
            let keys = 200_000;
            let filter = filter(keys, bits);
            assert_eq!(filter.probes, probes);
            assert_eq!(filter.lines.len(), (keys as usize * usize::from(bits)).div_ceil(512));
            assert!((0..keys).all(|key| admits(&filter, key)));
            let passed = (keys..3 * keys).filter(|key| admits(&filter, *key)).count();
            let rate = passed as f64 / (2 * keys) as f64;
            assert!((least..most).contains(&rate), "{bits} bits a key: {rate}");
        }
    }

    #[test]
    fn the_smallest_filters_work() {
        assert!(!admits(&filter(0, 10), 1));
        let one = filter(1, 1);
        assert_eq!((one.lines.len(), one.probes), (1, 1));
        assert!(admits(&one, 0));
        assert!(line_may_contain(&[], 7, 6));
        assert_eq!(probes_for(255), PROBES_MAX);
    }
}
