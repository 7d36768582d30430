//! What is stored: keys and values derived from a number, so that every value read can be checked
//! against its key, and the draws that choose which number comes next.
//!
//! Numbers `0..n` are stored. Keys look random in the order of numbers, so storing them in that
//! order is a random load, and no two are alike.

use serde::{Deserialize, Serialize};

/// Bytes of every key.
pub const KEY_BYTES: usize = 16;
/// A key.
pub type Key = [u8; KEY_BYTES];
/// Not above any key.
pub const FIRST: Key = [0; KEY_BYTES];

/// Numbers from here on are never stored.
pub const ABSENT: u64 = 1 << 38;

const DECIMAL_BITS: u32 = 39;

/// What keys look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Keys {
    /// 16 random bytes, like a hash or a random UUID.
    #[default]
    Hashed,
    /// `user` and 12 random digits, as YCSB has them: a common prefix, few values a byte.
    Decimal,
}

impl Keys {
    /// Number `i`'s key: in no order, and never that of another number.
    pub fn random(self, i: u64) -> Key {
        match self {
            Keys::Hashed => halves(mix(i), mix(!i)),
            Keys::Decimal => decimal(scatter(i)),
        }
    }

    /// Where the first `share` of all random keys ends.
    pub fn boundary(self, share: f64) -> Key {
        match self {
            Keys::Hashed => halves((share * u64::MAX as f64) as u64, 0),
            Keys::Decimal => decimal((share * (1u64 << DECIMAL_BITS) as f64) as u64),
        }
    }

    /// Number `i`'s key where keys ascend with numbers.
    pub fn ascending(self, i: u64) -> Key {
        match self {
            Keys::Hashed => halves(i, mix(i)),
            Keys::Decimal => decimal(i),
        }
    }
}

fn halves(high: u64, low: u64) -> Key {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&high.to_be_bytes());
    key[8..].copy_from_slice(&low.to_be_bytes());
    key
}

fn decimal(mut number: u64) -> Key {
    let mut key = *b"user000000000000";
    for digit in key[4..].iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    key
}

/// A bijection of 64 bits: the finalizer of splitmix64.
pub fn mix(i: u64) -> u64 {
    let mut z = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A bijection of 39 bits, the most that 12 digits hold: every step of it is one.
fn scatter(i: u64) -> u64 {
    const MASK: u64 = (1 << DECIMAL_BITS) - 1;
    let mut z = i.wrapping_add(0x2f_4a7c_1593) & MASK;
    z = (z ^ (z >> 19)).wrapping_mul(0xbf58_476d_1ce4_e5b9) & MASK;
    z = (z ^ (z >> 17)).wrapping_mul(0x94d0_49bb_1331_11eb) & MASK;
    z ^ (z >> 20)
}

/// The first eight bytes of every value of `key`.
pub fn tag(key: &Key) -> u64 {
    let [high, low] = [&key[..8], &key[8..]].map(|half| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(half);
        u64::from_le_bytes(bytes)
    });
    mix(high ^ low.rotate_left(32))
}

/// Makes values: a tag of the key, a generation (so that a value written over another differs),
/// random bytes up to half of it, and zeros.
#[derive(Debug)]
pub struct Values {
    bytes: usize,
    noise: Vec<u8>,
}

/// Bytes of the tag and the generation.
const HEAD: usize = 16;
const NOISE_STEPS: usize = 1024;

impl Values {
    /// Values of `bytes` bytes, at least 16.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.max(HEAD);
        let words = (bytes / 2 + NOISE_STEPS).div_ceil(8) as u64;
        let noise = (0..words).flat_map(|i| mix(i ^ 0xda7a << 32).to_le_bytes()).collect();
        Self { bytes, noise }
    }

    /// Bytes of every value.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts the value of `key` in `out`, which keeps its allocation.
    pub fn fill(&self, key: &Key, generation: u64, out: &mut Vec<u8>) {
        let tag = tag(key);
        let random = (self.bytes / 2).saturating_sub(HEAD);
        let from = ((tag ^ generation) as usize) % NOISE_STEPS;
        out.clear();
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&generation.to_le_bytes());
        out.extend_from_slice(&self.noise[from..from + random]);
        out.resize(self.bytes, 0);
    }

    /// Whether `value` can be one of `key`'s: cheap, so that it can be asked of every value read.
    pub fn fits(&self, key: &Key, value: &[u8]) -> bool {
        value.len() == self.bytes && value.starts_with(&tag(key).to_le_bytes())
    }
}

/// The sum of a value's bytes taken as little-endian words: touches all of them and costs little.
pub fn word_sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let sum = words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    sum.wrapping_add(u64::from_le_bytes(last))
}

/// Keys and values of one batch, side by side; filled again and again.
#[derive(Debug, Default)]
pub struct Pairs {
    keys: Vec<Key>,
    values: Vec<u8>,
    value: Vec<u8>,
}

impl Pairs {
    /// Forgets all pairs.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
    }

    /// Adds a key with its value.
    pub fn push(&mut self, key: Key, values: &Values, generation: u64) {
        values.fill(&key, generation, &mut self.value);
        self.keys.push(key);
        self.values.extend_from_slice(&self.value);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// All values are of one length.
    fn value_len(&self) -> usize {
        self.values.len() / self.keys.len().max(1)
    }

    /// The pair that was added as number `index`.
    pub fn get(&self, index: usize) -> Option<(&Key, &[u8])> {
        let each = self.value_len();
        let value = self.values.get(index * each..(index + 1) * each)?;
        Some((self.keys.get(index)?, value))
    }

    /// All pairs, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &[u8])> {
        let each = self.value_len();
        self.keys.iter().zip(self.values.chunks_exact(each.max(1)))
    }
}

/// A fast random generator, seeded: the same sequence for every engine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`, all alike.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(end)) >> 64) as u64
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Ranks drawn with a zipfian distribution, 0 the most frequent: Gray et al., "Quickly generating
/// billion-record synthetic databases" (SIGMOD 1994), with YCSB's exponent of 0.99.
#[derive(Clone, Debug)]
pub struct Zipf {
    count: u64,
    zeta: f64,
    eta: f64,
    alpha: f64,
    second: f64,
}

const THETA: f64 = 0.99;

impl Zipf {
    /// Ranks below `count`.
    pub fn new(count: u64) -> Self {
        let count = count.max(2);
        let zeta: f64 = (1..=count).map(|rank| (rank as f64).powf(-THETA)).sum();
        let second = 1.0 + 0.5f64.powf(THETA);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - second / zeta);
        Self { count, zeta, eta, alpha: 1.0 / (1.0 - THETA), second }
    }

    /// The next rank.
    pub fn rank(&self, random: &mut Random) -> u64 {
        let unit = random.unit();
        let share = unit * self.zeta;
        if share < 1.0 {
            return 0;
        }
        if share < self.second {
            return 1;
        }
        let rank = self.count as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count - 1)
    }

    /// The next number: hot ones are spread over all, as in YCSB.
    pub fn scattered(&self, random: &mut Random) -> u64 {
        ((u128::from(mix(self.rank(random) ^ 0x5ca7)) * u128::from(self.count)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_are_all_different() {
        for shape in [Keys::Hashed, Keys::Decimal] {
            let stored = (0..100_000).map(|i| shape.random(i));
            let absent = (0..100_000).map(|i| shape.random(ABSENT + i));
            assert_eq!(stored.chain(absent).collect::<HashSet<_>>().len(), 200_000);
        }
    }

    #[test]
    fn ascending_keys_ascend() {
        for shape in [Keys::Hashed, Keys::Decimal] {
            assert!((0..10_000).map(|i| shape.ascending(i)).is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn a_share_of_the_keys_is_before_its_boundary() {
        for shape in [Keys::Hashed, Keys::Decimal] {
            let before = (0..10_000).filter(|&i| shape.random(i) < shape.boundary(0.9)).count();
            assert!((8_900..9_100).contains(&before), "{before}");
        }
    }

    #[test]
    fn decimal_keys_read_as_such() {
        assert_eq!(&Keys::Decimal.ascending(1234), b"user000000001234");
        assert_eq!(Keys::Decimal.random(7)[..4], *b"user");
        assert!(Keys::Decimal.random(7)[4..].iter().all(u8::is_ascii_digit));
    }

    #[test]
    fn scatter_is_a_bijection_at_both_ends() {
        let ends = (0..50_000).chain((1 << DECIMAL_BITS) - 50_000..1 << DECIMAL_BITS);
        assert_eq!(ends.map(scatter).collect::<HashSet<_>>().len(), 100_000);
    }

    #[test]
    fn values_fit_their_keys_only() {
        for bytes in [16, 100, 65_536] {
            let values = Values::new(bytes);
            let (mine, other) = (Keys::Hashed.random(1), Keys::Hashed.random(2));
            let (mut first, mut second) = (Vec::new(), Vec::new());
            values.fill(&mine, 0, &mut first);
            values.fill(&mine, 1, &mut second);
            assert!(values.fits(&mine, &first) && values.fits(&mine, &second));
            assert_ne!(first, second);
            assert!(!values.fits(&other, &first));
            assert!(!values.fits(&mine, &first[..bytes - 1]));
        }
    }

    #[test]
    fn half_of_a_value_is_zeros() {
        let mut value = Vec::new();
        Values::new(100).fill(&Keys::Hashed.random(3), 0, &mut value);
        assert!(value[50..].iter().all(|&byte| byte == 0));
        assert!(value[16..50].iter().filter(|&&byte| byte == 0).count() < 5);
    }

    #[test]
    fn word_sums_see_every_byte() {
        let mut bytes: Vec<u8> = (1..=100).collect();
        let before = word_sum(&bytes);
        for i in 0..bytes.len() {
            bytes[i] ^= 0x40;
            assert_ne!(word_sum(&bytes), before);
            bytes[i] ^= 0x40;
        }
        assert_eq!(word_sum(&[1, 0, 0, 0, 0, 0, 0, 0, 2]), 3);
    }

    #[test]
    fn pairs_keep_what_was_pushed() {
        let values = Values::new(100);
        let mut pairs = Pairs::default();
        for round in 0..2 {
            pairs.clear();
            (0..10).for_each(|i| pairs.push(Keys::Hashed.random(i + round), &values, round));
            assert_eq!(pairs.iter().count(), 10);
            assert!(pairs.iter().all(|(key, value)| values.fits(key, value)));
        }
    }

    #[test]
    fn uniform_draws_cover_the_range() {
        let mut random = Random::new(1);
        let mut seen = [0u32; 10];
        (0..10_000).for_each(|_| seen[random.below(10) as usize] += 1);
        assert!(seen.iter().all(|&times| (800..1200).contains(&times)), "{seen:?}");
    }

    #[test]
    fn zipf_draws_as_often_as_it_should() {
        let (count, draws) = (1000u64, 200_000u64);
        let zipf = Zipf::new(count);
        let mut random = Random::new(1);
        let mut seen = vec![0u64; count as usize];
        (0..draws).for_each(|_| seen[zipf.rank(&mut random) as usize] += 1);
        let zeta: f64 = (1..=count).map(|rank| (rank as f64).powf(-THETA)).sum();
        for rank in [0u64, 1, 9] {
            let expected = draws as f64 / ((rank + 1) as f64).powf(THETA) / zeta;
            let got = seen[rank as usize] as f64;
            assert!((got / expected - 1.0).abs() < 0.15, "rank {rank}: {got} for {expected}");
        }
        assert!((0..1000).all(|_| zipf.scattered(&mut random) < count));
    }
}
