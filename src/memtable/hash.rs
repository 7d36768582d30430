//! From a key's hash to its node: the way of every get, and of every put that looks for an older
//! version.
//!
//! Open addressing with linear probing over 8-byte slots `[tag 32 | node 32]`. The tag is the
//! upper half of the key's hash, and a key's first slot is its tag scaled to the table's length.
//! So entries lie nearly in the order of their tags, a larger table is filled from a smaller one
//! in one pass without looking at a single key, and the bits that the position does not use up
//! still tell keys apart before their bytes are compared: a miss usually costs one cache line.
//!
//! A full table is replaced by a larger one, published by one store; readers that still probe the
//! old one miss only entries newer than what they may see. Old tables are kept until the end; they
//! are a third of the newest at most.

use super::{
    arena::{Arena, Node, Slot},
    memory::{Slab, prefetch},
};
use std::sync::{
    OnceLock,
    atomic::{
        AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

const FIRST_LEN: usize = 64;

/// Each is at least twice the last: the 24th would have a slot for every byte of an arena.
const TABLES_MAX: usize = 28;

/// Tables at least this large are worth huge pages.
const HUGE_LEN: usize = (4 << 20) / size_of::<Slot>();

/// The readers' half.
pub(super) struct Hash {
    tables: [OnceLock<Slab<Slot>>; TABLES_MAX],
    current: AtomicUsize,
}

/// The writer's half.
#[derive(Default)]
pub(super) struct HashWriter {
    entries: usize,
}

/// Where a key is, or would be.
pub(super) enum Place {
    Taken(Node),
    Free(usize),
}

#[inline(always)]
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The slot a tag is first looked for in.
#[inline(always)]
fn home(tag: u32, len: usize) -> usize {
    ((u64::from(tag) * len as u64) >> 32) as usize
}

impl Hash {
    pub(super) fn new() -> Self {
        let hash =
            Self { tables: [const { OnceLock::new() }; TABLES_MAX], current: AtomicUsize::new(0) };
        let _ = hash.tables[0].set(Slab::new(FIRST_LEN));
        hash
    }

    #[inline(always)]
    fn table(&self) -> &[Slot] {
        self.tables[self.current.load(Acquire)].get().map_or(&[], |table| table)
    }

    pub(super) fn find(&self, arena: &Arena, key: &[u8], hash: u64) -> Option<Node> {
        match place(self.table(), arena, key, hash) {
            Place::Taken(node) => Some(node),
            Place::Free(_) => None,
        }
    }

    pub(super) fn prefetch(&self, hash: u64) {
        let table = self.table();
        if let Some(slot) = table.get(home(tag(hash), table.len())) {
            prefetch(std::ptr::from_ref(slot).cast());
        }
    }

    /// Bytes of all its tables.
    pub(super) fn bytes(&self) -> usize {
        let last = self.current.load(Acquire);
        let tables = self.tables[..=last].iter().filter_map(OnceLock::get);
        tables.map(|table| table.len() * size_of::<Slot>()).sum()
    }
}

/// Probes for `key`. The table always has a free slot.
#[inline(always)]
fn place(table: &[Slot], arena: &Arena, key: &[u8], hash: u64) -> Place {
    let tag = tag(hash);
    let mut at = home(tag, table.len());
    while let Some(slot) = table.get(at) {
        match slot.get() {
            None => return Place::Free(at),
            Some((other, node)) if other == tag && arena.key(node) == key => {
                return Place::Taken(node);
            }
            Some(_) => at = if at + 1 == table.len() { 0 } else { at + 1 },
        }
    }
    Place::Free(at)
}

impl HashWriter {
    /// Where `key` is, or would be put by [`Self::add`].
    #[inline]
    pub(super) fn place(&self, hash: &Hash, arena: &Arena, key: &[u8], hashed: u64) -> Place {
        place(hash.table(), arena, key, hashed)
    }

    /// Publishes `node` in the free slot that [`Self::place`] found, growing the table first if
    /// it is full.
    #[inline]
    pub(super) fn add(&mut self, hash: &Hash, arena: &Arena, node: Node, hashed: u64, free: usize) {
        let tag = tag(hashed);
        let table = hash.table();
        self.entries += 1;
        if self.entries * 8 <= table.len() * 5 {
            table[free].set(tag, node);
            return;
        }
        let table = self.grow(hash, arena);
        put(table, tag, node);
        hash.current.fetch_add(1, Release);
    }

    /// Fills the next table with what is in the current one.
    fn grow<'a>(&self, hash: &'a Hash, arena: &Arena) -> &'a [Slot] {
        let old = hash.table();
        let new = Slab::new(self.next_len(old.len(), arena));
        if new.len() >= HUGE_LEN {
            new.advise_huge();
        }
        new.populate();
        let new = hash.tables[hash.current.load(Relaxed) + 1].get_or_init(|| new);
        old.iter().filter_map(Slot::get).for_each(|(tag, node)| put(new, tag, node));
        new
    }

    /// Fourfold, but no more than the arena will need at the rate it is filled.
    fn next_len(&self, len: usize, arena: &Arena) -> usize {
        let used = arena.used().max(1) as usize;
        let entries = (self.entries as u128 * arena.len() as u128 / used as u128) as usize;
        let enough = entries.saturating_mul(2);
        enough.clamp(len * 2, len * 4).next_multiple_of(FIRST_LEN)
    }
}

fn put(table: &[Slot], tag: u32, node: Node) {
    let mut at = home(tag, table.len());
    while table[at].get().is_some() {
        at = if at + 1 == table.len() { 0 } else { at + 1 };
    }
    table[at].set(tag, node);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::key_hash,
        memtable::{arena::Appender, pool::Lease},
        sorted::Kind,
    };

    /// Adds `keys` and looks each up after every step of growth, and some others too.
    fn grows(arena_len: usize, keys: u32) -> usize {
        let mut appender = Appender::new(Lease::fresh(arena_len, None));
        let arena = appender.arena().clone();
        let (hash, mut writer) = (Hash::new(), HashWriter::default());
        let mut tables = 1;
        for i in 0..keys {
            let key = i.to_be_bytes();
            let hashed = key_hash(&key);
            let Place::Free(free) = writer.place(&hash, &arena, &key, hashed) else {
                panic!("{i} was there before it was added")
            };
            let node = appender.add_node(&key, u64::from(i) + 1, Kind::Put, b"");
            writer.add(&hash, &arena, node, hashed, free);
            appender.publish(u64::from(i) + 1);
            let now = hash.current.load(Relaxed) + 1;
            if now > tables || i + 1 == keys {
                tables = now;
                for j in 0..=i {
                    let key = j.to_be_bytes();
                    let node = hash.find(&arena, &key, key_hash(&key)).unwrap();
                    assert_eq!(arena.key(node), key);
                }
                let other = (i + 1).to_be_bytes();
                assert!(hash.find(&arena, &other, key_hash(&other)).is_none());
            }
        }
        assert!(writer.entries * 8 <= hash.table().len() * 5);
        tables
    }

    #[test]
    fn grows_and_keeps_every_entry() {
        assert!(grows(4 << 20, 40_000) >= 5);
    }

    #[test]
    fn a_nearly_full_arena_still_grows() {
        assert!(grows(40_010 * 32, 40_000) >= 5);
    }

    #[test]
    fn equal_tags_are_told_apart() {
        let mut appender = Appender::new(Lease::fresh(1 << 16, None));
        let arena = appender.arena().clone();
        let (hash, mut writer) = (Hash::new(), HashWriter::default());
        for i in 0..200_u8 {
            let Place::Free(free) = writer.place(&hash, &arena, &[i], u64::MAX) else { panic!() };
            let node = appender.add_node(&[i], 1, Kind::Put, b"");
            writer.add(&hash, &arena, node, u64::MAX, free);
        }
        for i in 0..=255_u8 {
            let found = hash.find(&arena, &[i], u64::MAX);
            assert_eq!(found.map(|node| arena.key(node)), (i < 200).then_some(&[i][..]));
        }
    }
}
