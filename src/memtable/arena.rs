//! Where a memtable's records lie: one stretch of memory, filled from the front, never moved.
//!
//! ```text
//! node      0       4         6      8                 +pad to 8
//!           +-------+---------+------+-----------------+---------------+
//!           | newest| key len | zero | key             | first version |
//!           +-------+---------+------+-----------------+---------------+
//! version   0       4           8              16                +pad to 8
//!           +-------+-----------+--------------+----------------+
//!           | prev  | value len | seq<<1 | kind| value          |
//!           +-------+-----------+--------------+----------------+
//! ```
//!
//! A key has one node; overwriting it appends a version and points `newest` at it. `newest` is the
//! only word that ever changes after it was published. Offsets are 32 bits, from the start of the
//! arena; nothing lies at 0. The arena can be walked: at a record's start, a node's first word
//! points ahead of itself and a later version's points back.
//!
//! There are three kinds of references to records: [`Node`], [`Version`], and the atomic cells
//! that share them between threads. They can be made only from what an [`Appender`] returned, so
//! they always name a whole record *of the arena that made them*; each memtable keeps its own to
//! itself. A cell is stored with Release (or is published by a later Release store, as a tree
//! node's slots are by its permutation) after the record was written, and read with Acquire (or
//! after one), so whoever has a reference sees the record's bytes.
#![allow(unsafe_code)]

use super::{
    memory::{SMALL_PAGES, Zeroed, prefetch},
    pool::Lease,
};
use crate::sorted::Kind;
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

const ALIGN: usize = 8;
const NODE_HEAD: usize = 8;
const VERSION_HEAD: usize = 16;

/// Where the first record lies: anywhere but 0.
const FIRST: u32 = ALIGN as u32;

/// The most a record takes beyond its key and its value.
pub(super) const RECORD_OVERHEAD: usize = NODE_HEAD + VERSION_HEAD + 2 * (ALIGN - 1);

/// The least a key takes.
pub(super) const NODE_MIN: usize = NODE_HEAD + VERSION_HEAD;

/// The most an arena can hold, with room for offsets to be rounded up.
pub(super) const ARENA_MAX: usize = u32::MAX as usize - 4095;

/// What an arena needs beyond its records.
pub(super) const ARENA_OVERHEAD: usize = FIRST as usize;

/// A key's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node(NonZeroU32);

/// One version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(NonZeroU32);

/// A shared, possibly empty, reference to a node.
pub(super) struct NodeCell(AtomicU32);

impl NodeCell {
    #[inline(always)]
    pub(super) fn get(&self) -> Option<Node> {
        NonZeroU32::new(self.0.load(Relaxed)).map(Node)
    }

    /// Visible to others once a later Release store leads them here.
    #[inline(always)]
    pub(super) fn set(&self, node: Option<Node>) {
        self.0.store(node.map_or(0, |node| node.0.get()), Relaxed);
    }
}

/// A hash table's slot: empty, or a node and the 32 bits of its key's hash that tell it apart.
pub(super) struct Slot(AtomicU64);

// SAFETY: an atomic integer; 0 is an empty slot.
unsafe impl Zeroed for Slot {}

impl Slot {
    #[inline(always)]
    pub(super) fn get(&self) -> Option<(u32, Node)> {
        let word = self.0.load(Acquire);
        NonZeroU32::new(word as u32).map(|offset| ((word >> 32) as u32, Node(offset)))
    }

    /// Publishes the node.
    #[inline(always)]
    pub(super) fn set(&self, tag: u32, node: Node) {
        self.0.store(u64::from(tag) << 32 | u64::from(node.0.get()), Release);
    }
}

/// The readers' half.
pub(super) struct Arena {
    lease: Lease,
    /// Below this all records are whole.
    used: AtomicU32,
    /// The sequence number of the last of them.
    last_seq: AtomicU64,
}

/// The writer's half: exactly one for each arena.
pub(super) struct Appender {
    arena: Arc<Arena>,
    /// Where the next record goes; at or past `arena.used`.
    position: usize,
    huge: bool,
}

impl Arena {
    pub(super) fn len(&self) -> usize {
        self.lease.region().len()
    }

    /// The end of what has been published. Walk up to it.
    pub(super) fn used(&self) -> u32 {
        self.used.load(Acquire)
    }

    /// The sequence number of the last published record; 0 before the first. Whoever reads it
    /// and then [`Self::used`] has all records with smaller ones below the latter.
    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq.load(Acquire)
    }

    #[inline(always)]
    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.lease.region().len());
        // SAFETY: offsets come from references, which name records inside the region. A wrong one
        // trips the assertion above in every test.
        unsafe { self.lease.region().start().as_ptr().add(offset) }
    }

    /// The word that links versions: a node's `newest`, a version's `prev`.
    #[inline(always)]
    fn link(&self, offset: NonZeroU32) -> &AtomicU32 {
        // SAFETY: records start 8-aligned with a link, which is only ever accessed as an atomic
        // once the record can be reached (`Appender` writes it before); it lives as long as the
        // region. Plain access elsewhere would be a race that the stress test shows under
        // ThreadSanitizer.
        unsafe { AtomicU32::from_ptr(self.at(offset.get() as usize).cast()) }
    }

    #[inline(always)]
    pub(super) fn key(&self, node: Node) -> &[u8] {
        let start = self.at(node.0.get() as usize);
        // SAFETY: a node's length and key are written before a reference to it is shared and
        // never change; both lie inside the region, which outlives the borrow. Wrong bounds break
        // `records_read_back`.
        unsafe {
            let len = start.add(4).cast::<u16>().read();
            std::slice::from_raw_parts(start.add(NODE_HEAD), usize::from(len))
        }
    }

    /// The newest version of all, whatever a reader may see.
    #[inline(always)]
    pub(super) fn newest(&self, node: Node) -> Version {
        // A published node always has a version; `newest` is set before the node is shared.
        Version(NonZeroU32::new(self.link(node.0).load(Acquire)).unwrap_or(node.0))
    }

    /// The newest version at or below `seq`.
    #[inline(always)]
    pub(super) fn newest_at(&self, node: Node, seq: u64) -> Option<Version> {
        let mut version = self.newest(node);
        while self.seq(version) > seq {
            version = Version(NonZeroU32::new(self.link(version.0).load(Relaxed))?);
        }
        Some(version)
    }

    /// `seq << 1 | kind`.
    #[inline(always)]
    fn stamp(&self, version: Version) -> u64 {
        // SAFETY: as for `key`: written before it was shared, immutable since, 8-aligned.
        unsafe { self.at(version.0.get() as usize + 8).cast::<u64>().read() }
    }

    #[inline(always)]
    pub(super) fn seq(&self, version: Version) -> u64 {
        self.stamp(version) >> 1
    }

    #[inline(always)]
    pub(super) fn kind(&self, version: Version) -> Kind {
        if self.stamp(version) & 1 == 0 { Kind::Put } else { Kind::Delete }
    }

    #[inline(always)]
    pub(super) fn value(&self, version: Version) -> &[u8] {
        let start = self.at(version.0.get() as usize);
        // SAFETY: as for `key`.
        unsafe {
            let len = start.add(4).cast::<u32>().read();
            std::slice::from_raw_parts(start.add(VERSION_HEAD), len as usize)
        }
    }

    /// Asks for the start of a node's record: its key and, if that is short, its value.
    #[inline(always)]
    pub(super) fn prefetch(&self, node: Node) {
        let start = self.lease.region().start().as_ptr().cast_const();
        let at = node.0.get() as usize;
        prefetch(start.wrapping_add(at));
        prefetch(start.wrapping_add(at + 64));
        prefetch(start.wrapping_add(at + 128));
    }

    /// Asks for a node's key, or the first bytes of a long one.
    #[inline(always)]
    pub(super) fn prefetch_key(&self, node: Node) {
        let start = self.lease.region().start().as_ptr().cast_const();
        let at = node.0.get() as usize;
        prefetch(start.wrapping_add(at));
        prefetch(start.wrapping_add(at + NODE_HEAD + 31));
    }

    /// Where `bytes` lie, if inside the arena.
    pub(super) fn offset_of(&self, bytes: &[u8]) -> Option<usize> {
        let start = self.lease.region().start().as_ptr() as usize;
        let offset = (bytes.as_ptr() as usize).checked_sub(start)?;
        (offset.checked_add(bytes.len())? <= self.lease.region().len()).then_some(offset)
    }

    /// Visits the nodes between two ends of published records, in the order of arrival.
    pub(super) fn walk(&self, from: u32, to: u32, mut visit: impl FnMut(Node)) {
        let mut at = from.max(FIRST);
        while let Some(offset) = NonZeroU32::new(at).filter(|at| at.get() < to) {
            let ahead = self.link(offset).load(Acquire) > at;
            let first = if ahead {
                let node = Node(offset);
                visit(node);
                first_version(offset, self.key(node).len())
            } else {
                Version(offset)
            };
            at = record_end(first.0, self.value(first).len());
        }
    }
}

/// Where the first version of a node with a key of `key_len` bytes lies.
fn first_version(node: NonZeroU32, key_len: usize) -> Version {
    let head = (NODE_HEAD + key_len).next_multiple_of(ALIGN);
    Version(node.saturating_add(head as u32))
}

/// Where the record after a version with a value of `value_len` bytes lies.
fn record_end(version: NonZeroU32, value_len: usize) -> u32 {
    version.get() + (VERSION_HEAD + value_len).next_multiple_of(ALIGN) as u32
}

impl Appender {
    /// The writer of a new arena in memory of at least [`ARENA_OVERHEAD`] bytes, whatever they
    /// hold, and at most [`ARENA_MAX`].
    pub(super) fn new(lease: Lease) -> Self {
        debug_assert!((ARENA_OVERHEAD..=ARENA_MAX).contains(&lease.region().len()));
        let arena = Arena { lease, used: AtomicU32::new(FIRST), last_seq: AtomicU64::new(0) };
        Self { arena: Arc::new(arena), position: FIRST as usize, huge: false }
    }

    pub(super) fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Bytes that are left.
    pub(super) fn room(&self) -> usize {
        self.arena.len() - self.position
    }

    /// Adds a key with its first version. Nobody sees it before the node is put into a shared
    /// cell.
    pub(super) fn add_node(&mut self, key: &[u8], seq: u64, kind: Kind, value: &[u8]) -> Node {
        assert!(key.len() <= usize::from(u16::MAX), "the key is over the limit");
        let head = (NODE_HEAD + key.len()).next_multiple_of(ALIGN);
        let offset = self.take(head + VERSION_HEAD + value.len());
        let version = self.write_version(offset.saturating_add(head as u32), 0, seq, kind, value);
        let start = self.arena.at(offset.get() as usize);
        // SAFETY: `take` reserved head and key for this record alone, inside the region and
        // 8-aligned, and no reference to them exists yet. `records_read_back` reads all of it.
        unsafe {
            start.cast::<u32>().write(version.0.get());
            start.add(4).cast::<u16>().write(key.len() as u16);
            std::ptr::copy_nonoverlapping(key.as_ptr(), start.add(NODE_HEAD), key.len());
        }
        Node(offset)
    }

    /// Adds a version of a key and publishes it.
    pub(super) fn add_version(&mut self, node: Node, seq: u64, kind: Kind, value: &[u8]) {
        let offset = self.take(VERSION_HEAD + value.len());
        let prev = self.arena.newest(node);
        let version = self.write_version(offset, prev.0.get(), seq, kind, value);
        self.arena.link(node.0).store(version.0.get(), Release);
    }

    /// Lets walkers see all records so far, the last of them with `seq`.
    pub(super) fn publish(&mut self, seq: u64) {
        self.arena.used.store(self.position as u32, Release);
        self.arena.last_seq.store(seq, Release);
    }

    fn write_version(
        &mut self,
        offset: NonZeroU32,
        prev: u32,
        seq: u64,
        kind: Kind,
        value: &[u8],
    ) -> Version {
        let start = self.arena.at(offset.get() as usize);
        // SAFETY: the callers took these bytes for this version alone; see `add_node`.
        unsafe {
            start.cast::<u32>().write(prev);
            start.add(4).cast::<u32>().write(value.len() as u32);
            start.add(8).cast::<u64>().write(seq << 1 | kind as u64);
            std::ptr::copy_nonoverlapping(value.as_ptr(), start.add(VERSION_HEAD), value.len());
        }
        Version(offset)
    }

    /// Takes `len` bytes that nobody else will ever write.
    fn take(&mut self, len: usize) -> NonZeroU32 {
        let start = self.position;
        let end = start.saturating_add(len).saturating_add(ALIGN - 1) & !(ALIGN - 1);
        assert!(end <= self.arena.len(), "the memtable was written to past its room");
        self.position = end;
        if end > SMALL_PAGES && !self.huge {
            self.huge = true;
            self.arena.lease.region().advise_huge(SMALL_PAGES);
        }
        // `FIRST` is not 0, so no position is.
        NonZeroU32::new(start as u32).unwrap_or(NonZeroU32::MIN)
    }
}

/// Bytes of an arena, kept alive.
pub(super) struct Pin {
    arena: Arc<Arena>,
    start: usize,
    len: usize,
}

impl Arena {
    /// Keeps `bytes` alive, if they lie inside the arena.
    pub(super) fn pin(self: &Arc<Self>, bytes: &[u8]) -> Option<Pin> {
        let start = self.offset_of(bytes)?;
        Some(Pin { arena: self.clone(), start, len: bytes.len() })
    }
}

impl crate::value::Owner for Pin {
    fn bytes(&self) -> &[u8] {
        // SAFETY: a slice with these very bounds was borrowed when the pin was made, and slices
        // of an arena are made of keys and values only (`key`, `value`), which never change while
        // the arena lives; the pin keeps it alive. See `pinned_values_outlive_the_memtable`.
        unsafe { std::slice::from_raw_parts(self.arena.at(self.start), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back() {
        let mut appender = Appender::new(Lease::fresh(1 << 20, None));
        let arena = appender.arena().clone();
        let mut nodes = Vec::new();
        for i in 0..40_u8 {
            let (key, value) = (vec![i; usize::from(i)], vec![!i; usize::from(i) * 7 % 23]);
            let node = appender.add_node(&key, 1, Kind::Put, &value);
            appender.add_version(node, 3, Kind::Delete, b"");
            appender.publish(3);
            nodes.push((node, key, value));
        }
        let mut walked = Vec::new();
        arena.walk(0, arena.used(), |node| walked.push(node));
        assert!(walked.iter().eq(nodes.iter().map(|(node, ..)| node)));
        for (node, key, value) in nodes {
            assert_eq!(arena.key(node), key);
            assert_eq!(arena.newest_at(node, 0), None);
            let old = arena.newest_at(node, 2).unwrap();
            assert_eq!(
                (arena.seq(old), arena.kind(old), arena.value(old)),
                (1, Kind::Put, &*value)
            );
            let new = arena.newest_at(node, 3).unwrap();
            assert_eq!((arena.seq(new), arena.kind(new)), (3, Kind::Delete));
            assert_eq!(arena.newest(node), new);
            let slot = Slot(AtomicU64::new(0));
            slot.set(u32::MAX, node);
            assert_eq!(slot.get(), Some((u32::MAX, node)));
        }
    }

    #[test]
    fn walks_may_stop_and_go_on_at_any_published_end() {
        let mut appender = Appender::new(Lease::fresh(1 << 16, None));
        let arena = appender.arena().clone();
        let (mut from, mut walked) = (0, Vec::new());
        for seq in 1..=100_u64 {
            let node = appender.add_node(&seq.to_le_bytes(), seq, Kind::Put, b"value");
            appender.publish(seq);
            if seq % 7 == 0 {
                appender.add_version(node, seq, Kind::Put, b"");
                appender.publish(seq);
            }
            let used = arena.used();
            arena.walk(from, used, |node| walked.push(arena.key(node).to_vec()));
            from = used;
        }
        assert!(walked.into_iter().eq((1..=100_u64).map(|seq| seq.to_le_bytes().to_vec())));
    }
}
