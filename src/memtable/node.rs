//! The nodes of the tree: leaves that only grow, and the one word that says in which order.
//!
//! A node's slots are filled from the first on and never move. A permutation word, as in Masstree
//! (Mao, Kohler, Morris: Cache craftiness for fast multicore key-value storage, 2012), lists them
//! in key order; storing it publishes a new slot. So an insert into a node is two slot stores and
//! one word, and a reader that has loaded the word has a consistent node for as long as it likes.
//!
//! ```text
//! leaf, 2 lines    perm 8 | next 4 | prev 4 | low 4 | skip 4 | 13 heads  | 13 records
//! inner, 3 lines   perm 8 | skip 4          | 14 heads | 14 children | 14 separators
//! perm             count: bits 0..4, the slot of rank r: bits 4r+4..4r+8
//! ```
//!
//! A *head* is the first 4 bytes of a key after the prefix that all keys of the node's range share,
//! as a big-endian number: most searches are decided by comparing 13 of them, whatever order
//! their slots are in, without a look at any key. The prefix is that of the range's two ends, and
//! is fixed when the node is made.
#![allow(unsafe_code)]

use super::{
    arena::{Node, NodeCell},
    memory::Zeroed,
};
use std::{
    cmp::Ordering,
    ops::Range,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

pub(super) const LEAF_SLOTS: usize = 13;
pub(super) const INNER_SLOTS: usize = 14;

/// Which slots of a node are in use, in key order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Perm(u64);

impl Perm {
    /// The slots `0..count` in this order.
    pub(super) fn ordered(count: usize) -> Self {
        const ALL: u64 = 0xEDCB_A987_6543_2100;
        let mask = (1 << (4 * count + 4)) - 1;
        Self((ALL & mask) | count as u64)
    }

    #[inline(always)]
    pub(super) fn count(self) -> usize {
        (self.0 & 15) as usize
    }

    /// The slot of the entry with `rank` smaller ones.
    #[inline(always)]
    pub(super) fn slot(self, rank: usize) -> usize {
        (self.0 >> (4 * rank + 4) & 15) as usize
    }

    /// With the first unused slot put at `rank`.
    #[inline(always)]
    pub(super) fn with(self, rank: usize) -> Self {
        let count = self.0 & 15;
        let at = 4 * rank as u32 + 4;
        let below = self.0 & ((1 << at) - 1);
        let above = (self.0 >> at) << (at + 4);
        Self((below | above | count << at) + 1)
    }

    /// Whether the entries came in ascending order.
    pub(super) fn is_ordered(self) -> bool {
        self == Self::ordered(self.count())
    }
}

/// A permutation shared with readers.
pub(super) struct PermCell(AtomicU64);

impl PermCell {
    #[inline(always)]
    pub(super) fn get(&self) -> Perm {
        Perm(self.0.load(Acquire))
    }

    /// Publishes the slots it lists.
    #[inline(always)]
    pub(super) fn set(&self, perm: Perm) {
        self.0.store(perm.0, Release);
    }
}

/// A leaf's or an inner node's number; 0 is none.
pub(super) struct IdCell(AtomicU32);

impl IdCell {
    #[inline(always)]
    pub(super) fn get(&self) -> u32 {
        self.0.load(Acquire)
    }

    /// Publishes the node of that number.
    #[inline(always)]
    pub(super) fn set(&self, id: u32) {
        self.0.store(id, Release);
    }
}

/// Up to 13 keys of a range, and the ranges beside it.
#[repr(C, align(64))]
pub(super) struct Leaf {
    pub(super) perm: PermCell,
    pub(super) next: IdCell,
    pub(super) prev: IdCell,
    /// The start of its range: no key is less. Empty for the first leaf.
    pub(super) low: NodeCell,
    skip: AtomicU32,
    heads: [AtomicU32; LEAF_SLOTS],
    records: [NodeCell; LEAF_SLOTS],
}

/// Up to 14 children, each with the least key of its range; none on the left edge of the tree.
#[repr(C, align(64))]
pub(super) struct Inner {
    pub(super) perm: PermCell,
    skip: AtomicU32,
    heads: [AtomicU32; INNER_SLOTS],
    pub(super) children: [IdCell; INNER_SLOTS],
    pub(super) separators: [NodeCell; INNER_SLOTS],
}

const _: () = assert!(size_of::<Leaf>() == 128 && size_of::<Inner>() == 192);

// SAFETY: atomics only; zeroes are an empty leaf.
unsafe impl Zeroed for Leaf {}
// SAFETY: atomics only; zeroes are an inner node without children.
unsafe impl Zeroed for Inner {}

/// The 4 bytes of `key` after the first `skip`, zeroes past its end. Keys that share those first
/// bytes are ordered as their heads are, but for ties.
#[inline(always)]
pub(super) fn head(key: &[u8], skip: usize) -> u32 {
    let rest = key.get(skip..).unwrap_or_default();
    match rest.first_chunk::<4>() {
        Some(head) => u32::from_be_bytes(*head),
        None => {
            rest.iter().enumerate().fold(0, |head, (i, b)| head | u32::from(*b) << (24 - 8 * i))
        }
    }
}

/// How `key` compares to the heads in use: how many are less, and how many tie.
#[inline(always)]
fn compare_heads(heads: &[AtomicU32], count: usize, wanted: u32) -> (usize, usize) {
    let (mut less, mut equal) = (0, 0);
    for head in heads.iter().take(count) {
        let head = head.load(Relaxed);
        less += usize::from(head < wanted);
        equal += usize::from(head == wanted);
    }
    (less, equal)
}

impl Leaf {
    pub(super) fn skip(&self) -> usize {
        self.skip.load(Relaxed) as usize
    }

    pub(super) fn set_skip(&self, skip: usize) {
        self.skip.store(skip as u32, Relaxed);
    }

    #[inline(always)]
    pub(super) fn record(&self, slot: usize) -> Option<Node> {
        self.records[slot].get()
    }

    /// Fills a slot that no permutation lists yet.
    #[inline(always)]
    pub(super) fn fill(&self, slot: usize, key: &[u8], node: Node) {
        self.heads[slot].store(head(key, self.skip()), Relaxed);
        self.records[slot].set(Some(node));
    }

    /// The ranks whose heads tie with that of `key`: it can only be there, or belong there.
    #[inline(always)]
    pub(super) fn ties(&self, perm: Perm, key: &[u8]) -> Range<usize> {
        let (less, ties) = compare_heads(&self.heads, perm.count(), head(key, self.skip()));
        less..less + ties
    }

    /// The rank of `key`, or the rank it would have, among those that tie.
    #[inline(always)]
    pub(super) fn rank<'a>(
        &self,
        perm: Perm,
        ties: Range<usize>,
        key: &[u8],
        key_of: impl Fn(Node) -> &'a [u8],
    ) -> Result<usize, usize> {
        let (mut low, mut high) = (ties.start, ties.end);
        while low < high {
            let middle = low.midpoint(high);
            let other = self.record(perm.slot(middle)).map_or(&[][..], &key_of);
            match other.cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }
}

impl Inner {
    pub(super) fn set_skip(&self, skip: usize) {
        self.skip.store(skip as u32, Relaxed);
    }

    /// Fills a slot that no permutation lists yet. There is no separator for the first child on
    /// the left edge of the tree.
    pub(super) fn fill(&self, slot: usize, separator: Option<(&[u8], Node)>, child: u32) {
        let skip = self.skip.load(Relaxed) as usize;
        self.heads[slot].store(separator.map_or(0, |(key, _)| head(key, skip)), Relaxed);
        self.separators[slot].set(separator.map(|(_, node)| node));
        self.children[slot].set(child);
    }

    /// The rank of the child whose range holds `key`.
    #[inline(always)]
    pub(super) fn rank<'a>(
        &self,
        perm: Perm,
        key: &[u8],
        key_of: impl Fn(Node) -> &'a [u8],
    ) -> usize {
        let wanted = head(key, self.skip.load(Relaxed) as usize);
        let (mut low, ties) = compare_heads(&self.heads, perm.count(), wanted);
        let mut high = low + ties;
        while low < high {
            let middle = low.midpoint(high);
            match self.separators[perm.slot(middle)].get() {
                Some(node) if key_of(node) > key => high = middle,
                _ => low = middle + 1,
            }
        }
        low.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_insert_at_any_rank() {
        for full in [LEAF_SLOTS, INNER_SLOTS] {
            for seed in 0..200_usize {
                let mut perm = Perm::ordered(0);
                let mut model = Vec::new();
                for slot in 0..full {
                    let rank = (seed * 31 + slot * slot * 7) % (slot + 1);
                    perm = perm.with(rank);
                    model.insert(rank, slot);
                    assert_eq!(perm.count(), model.len());
                    let slots: Vec<_> = (0..perm.count()).map(|rank| perm.slot(rank)).collect();
                    assert_eq!(slots, model);
                    assert_eq!(perm.is_ordered(), model.is_sorted());
                }
            }
        }
    }

    #[test]
    fn heads_order_as_keys_do() {
        let mut keys: Vec<&[u8]> = vec![b"", b"\0", b"\0\0\0\0\0", b"a", b"a\0", b"abcd", b"abcde"];
        keys.extend([&b"abd"[..], b"b", b"\xff", b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\xff"]);
        assert!(keys.is_sorted());
        assert!(keys.iter().map(|key| head(key, 0)).is_sorted());
        assert_eq!(head(b"abcdef", 4), u32::from_be_bytes(*b"ef\0\0"));
        assert_eq!(head(b"ab", 4), 0);
    }
}
