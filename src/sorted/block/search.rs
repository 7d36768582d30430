//! Searching a block: prefix, heads, and only among equal heads the keys themselves.
//!
//! The heads are halved without branches down to 16, which are then counted (the compiler makes
//! that a few vector instructions).

use super::{Block, HEADER, head_of};
use crate::codec::{compare, load, prefetch};
use std::cmp::Ordering;

/// Up to how many heads are counted rather than halved.
const COUNTED: usize = 16;

/// How many leading bytes `a` and `b` share.
#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let chunks = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let mut same = 0;
    for (x, y) in chunks {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return same + (differ.trailing_zeros() / 8) as usize;
        }
        same += 8;
    }
    same + a.iter().zip(b).skip(same).take_while(|(x, y)| x == y).count()
}

/// The first `W` bytes of `key` as a number that orders as they do, zero-padded.
#[inline(always)]
pub(super) fn head_of_key<const W: usize>(key: &[u8]) -> u64 {
    if let Some(head) = key.first_chunk::<W>() {
        return head_of::<W>(head).swap_bytes() >> (64 - 8 * W);
    }
    let mut head = [0; W];
    head.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    head_of::<W>(&head).swap_bytes() >> (64 - 8 * W)
}

/// How many of `heads` are below `x`, by looking at all of them.
#[inline(always)]
fn count_below<const W: usize>(heads: &[[u8; W]], x: u64) -> usize {
    if W == 4 {
        let x = x as u32;
        heads.iter().map(|head| u32::from((head_of(head) as u32) < x)).sum::<u32>() as usize
    } else {
        heads.iter().map(|head| u64::from(head_of(head) < x)).sum::<u64>() as usize
    }
}

/// How many of `heads`, which ascend, are below `x`.
#[inline(always)]
fn lower_bound<const W: usize>(heads: &[[u8; W]], x: u64) -> usize {
    let (mut base, mut len) = (0, heads.len());
    while len > COUNTED {
        let half = len / 2;
        let below = heads.get(base + half - 1).is_some_and(|head| head_of(head) < x);
        base += half & 0usize.wrapping_sub(usize::from(below));
        len -= half;
    }
    base + count_below(heads.get(base..base + len).unwrap_or_default(), x)
}

impl Block<'_> {
    /// The index of the first entry whose key is not below `key`, and whether it is `key`.
    #[inline(always)]
    pub(crate) fn search(&self, key: &[u8]) -> (usize, bool) {
        if !self.begins(key) {
            return (if key < self.prefix() { 0 } else { self.count() }, false);
        }
        let suffix = key.get(self.prefix_len()..).unwrap_or_default();
        if self.shape.head_width == 4 {
            self.search_suffix::<4>(suffix)
        } else {
            self.search_suffix::<8>(suffix)
        }
    }

    /// Asks for the memory of the entry that a search for `key` will compare.
    #[inline(always)]
    pub(crate) fn prefetch_entry(&self, key: &[u8]) {
        if !self.begins(key) {
            return;
        }
        let suffix = key.get(self.prefix_len()..).unwrap_or_default();
        let i = if self.shape.head_width == 4 {
            lower_bound(self.heads::<4>(), head_of_key::<4>(suffix))
        } else {
            lower_bound(self.heads::<8>(), head_of_key::<8>(suffix))
        };
        let (start, _) = self.bounds(i);
        prefetch(self.bytes, start);
        prefetch(self.bytes, start + 64);
    }

    /// Whether `key` begins with the prefix of this block.
    #[inline(always)]
    fn begins(&self, key: &[u8]) -> bool {
        let len = self.prefix_len();
        if key.len() < 8 || len > key.len() {
            return key.starts_with(self.prefix());
        }
        // Both have 8 bytes here: a block is longer than its header and one more load.
        let differ = load(key, 0) ^ load(self.bytes, HEADER);
        if len < 8 {
            return differ & ((1 << (8 * len)) - 1) == 0;
        }
        let mut at = 8;
        while at + 8 <= len {
            if load(key, at) != load(self.bytes, HEADER + at) {
                return false;
            }
            at += 8;
        }
        differ == 0 && load(key, len - 8) == load(self.bytes, HEADER + len - 8)
    }

    #[inline(always)]
    fn search_suffix<const W: usize>(&self, suffix: &[u8]) -> (usize, bool) {
        let heads = self.heads::<W>();
        let x = head_of_key::<W>(suffix);
        let from = lower_bound(heads, x);
        if heads.get(from).is_none_or(|head| head_of(head) != x) {
            return (from, false);
        }
        let mut to = from + 1;
        if heads.get(to).is_some_and(|head| head_of(head) == x) {
            let rest = heads.get(from..).unwrap_or_default();
            to = match x.checked_add(1).filter(|next| W == 8 || *next <= u64::from(u32::MAX)) {
                Some(next) => from + lower_bound(rest, next),
                None => heads.len(),
            };
        }
        self.search_ties(from, to, suffix)
    }

    /// Among entries `from..to`, whose heads equal that of `suffix`.
    #[inline(always)]
    fn search_ties(&self, from: usize, to: usize, suffix: &[u8]) -> (usize, bool) {
        let (mut low, mut high) = (from, to);
        while low < high {
            let middle = (low + high) / 2;
            match self.compare_rest(middle, suffix) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return (middle, true),
                Ordering::Greater => high = middle,
            }
        }
        (low, false)
    }

    /// Orders the key of entry `i` and one of the same prefix and head.
    #[inline(always)]
    fn compare_rest(&self, i: usize, suffix: &[u8]) -> Ordering {
        let entry = self.entry(i);
        let rest = suffix.get(self.width()..).unwrap_or_default();
        compare(entry.rest, rest).then(entry.suffix_len.cmp(&suffix.len()))
    }

    /// Orders the keys of entries `i` and `i + 1`.
    pub(super) fn compare_neighbours(&self, i: usize) -> Ordering {
        self.head(i).cmp(&self.head(i + 1)).then_with(|| {
            let (a, b) = (self.entry(i), self.entry(i + 1));
            compare(a.rest, b.rest).then(a.suffix_len.cmp(&b.suffix_len))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn prefixes_are_as_long_as_they_are(
            shared in prop::collection::vec(0u8..3, 0..20),
            a in prop::collection::vec(0u8..3, 0..12),
            b in prop::collection::vec(0u8..3, 0..12),
        ) {
            let (a, b) = ([shared.clone(), a].concat(), [shared, b].concat());
            let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
            prop_assert_eq!(common_prefix(&a, &b), same);
        }

        #[test]
        fn lower_bound_counts(mut heads: Vec<u32>, x: u32) {
            heads.sort_unstable();
            let below = heads.iter().filter(|head| **head < x).count();
            let narrow: Vec<[u8; 4]> = heads.iter().map(|head| head.to_le_bytes()).collect();
            prop_assert_eq!(lower_bound(&narrow, u64::from(x)), below);
            let wide: Vec<[u8; 8]> =
                heads.iter().map(|head| (u64::from(*head) << 32).to_le_bytes()).collect();
            prop_assert_eq!(lower_bound(&wide, u64::from(x) << 32), below);
        }
    }
}
