//! Keys and values to write: of every shape, from few enough keys that they meet again and again.

use crate::choices::Choices;
use std::{ops::Bound, sync::Arc};

/// Longest key.
pub(crate) const MAX_KEY: usize = 16 << 10;

/// Which keys and values a walk uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    /// Kinds of keys, from [`KeyKind`].
    pub(crate) keys: &'static [KeyKind],
    /// How many different keys of a kind there are, about.
    pub(crate) many: usize,
    /// The longest value.
    pub(crate) value_max: usize,
}

/// A pattern of keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyKind {
    /// No bytes.
    Empty,
    /// Up to four bytes, each of a few that are special.
    Short,
    /// Numbers, big-endian.
    Counter,
    /// The same 60 or 300 bytes first.
    Shared,
    /// As long as a key may be, or nearly.
    Longest,
}

/// All patterns, the common ones more often.
pub(crate) const ALL_KEYS: &[KeyKind] = {
    use KeyKind::{Counter, Empty, Longest, Shared, Short};
    &[
        Counter, Short, Shared, Counter, Short, Shared, Counter, Short, Counter, Short, Shared,
        Counter, Short, Shared, Counter, Short, Shared, Counter, Empty, Longest,
    ]
};

const SPECIAL: &[u8] = &[0x00, 0x01, b'a', b'b', 0x7f, 0x80, 0xfe, 0xff];

impl Content {
    /// A key.
    pub(crate) fn key(&self, choices: &mut Choices<'_>) -> Vec<u8> {
        let kind = *choices.of(self.keys);
        let number = |choices: &mut Choices<'_>| choices.below(self.many) as u32;
        match kind {
            KeyKind::Empty => Vec::new(),
            KeyKind::Short => (0..choices.below(5)).map(|_| *choices.of(SPECIAL)).collect(),
            KeyKind::Counter => number(choices).to_be_bytes().to_vec(),
            KeyKind::Shared => {
                let len = *choices.of(&[60, 300]);
                [&[b'p'; 300][..len], &number(choices).to_be_bytes()[2..]].concat()
            }
            KeyKind::Longest => {
                let mut key = vec![*choices.of(SPECIAL); MAX_KEY - choices.below(3)];
                if let Some(last) = key.last_mut() {
                    *last = *choices.of(SPECIAL);
                }
                key
            }
        }
    }

    /// A value that tells which write it is from.
    pub(crate) fn value(&self, choices: &mut Choices<'_>, write: u64) -> Arc<[u8]> {
        let len = match choices.below(64) {
            0 => 0,
            1..32 => choices.below(64),
            32..56 => choices.below(1000),
            56..63 => choices.below(6000),
            _ => 50_000 * (1 + choices.below(4)),
        };
        let mut bytes = write.to_le_bytes().repeat(len / 8 + 1);
        // Half of it does not compress.
        let mut noise = write;
        for byte in bytes.iter_mut().skip(8).step_by(2) {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (noise >> 56) as u8;
        }
        bytes.truncate(len.min(self.value_max));
        bytes.into()
    }

    /// A bound of any kind.
    pub(crate) fn bound(&self, choices: &mut Choices<'_>) -> Bound<Vec<u8>> {
        match choices.below(5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(self.key(choices)),
            _ => Bound::Excluded(self.key(choices)),
        }
    }

    /// The beginning of some key.
    pub(crate) fn prefix(&self, choices: &mut Choices<'_>) -> Vec<u8> {
        let mut key = self.key(choices);
        let most = key.len();
        key.truncate(if choices.one_in(4) { most } else { choices.below(most.min(4) + 1) });
        key
    }
}
