//! Entries in the order of their keys' hashes, for tables that lie on disk so.
//!
//! The keys that a cursor shows are eight bytes of hash, the most significant first, and the key
//! behind them. They are collected and sorted when the cursor is first placed: for a flush, which
//! is what this is for, that is cheaper than the tree would be.

use super::{
    Memtable, Store,
    arena::{Node, Version},
};
use crate::{
    Result, Value,
    codec::seeded_hash,
    sorted::{Cursor, Kind, RangeSet},
};
use std::sync::Arc;

/// How many records ahead are asked for.
const AHEAD: usize = 8;

static NO_RANGES: RangeSet = RangeSet::none();

/// A position among the newest versions at or below one sequence number, by hash.
pub(crate) struct HashedCursor {
    memtable: Arc<Memtable>,
    seq: u64,
    seed: u64,
    /// All that the cursor may see, by (hash, key), once it was placed.
    entries: Option<Vec<(u64, Node)>>,
    /// Where it is; behind all entries if it is nowhere.
    at: usize,
    /// The hash and the key of the entry it is at.
    key: Vec<u8>,
    version: Option<Version>,
}

impl HashedCursor {
    pub(super) fn new(memtable: Arc<Memtable>, seq: u64, seed: u64) -> Self {
        Self { memtable, seq, seed, entries: None, at: 0, key: Vec::new(), version: None }
    }

    /// Collects and sorts the entries.
    fn sort(&mut self) {
        if self.entries.is_some() {
            return;
        }
        let mut entries = Vec::new();
        if let Some(Store { arena, .. }) = self.memtable.store.get() {
            arena.walk(0, arena.used(), |node| {
                if arena.newest_at(node, self.seq).is_some() {
                    entries.push((seeded_hash(arena.key(node), self.seed), node));
                }
            });
            entries.sort_unstable_by_key(|(hash, _)| *hash);
            for run in entries.chunk_by_mut(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
                run.sort_unstable_by(|(_, a), (_, b)| arena.key(*a).cmp(arena.key(*b)));
            }
        }
        self.entries = Some(entries);
    }

    fn len(&self) -> usize {
        self.entries.as_ref().map_or(0, Vec::len)
    }

    /// To entry `at`, if there is one.
    #[inline]
    fn settle(&mut self, at: usize) {
        let Self { memtable, entries, key, version, .. } = self;
        self.at = at;
        *version = None;
        let Some(Store { arena, .. }) = memtable.store.get() else { return };
        let entries = entries.as_deref().unwrap_or_default();
        let Some(&(hash, node)) = entries.get(at) else { return };
        if let Some((_, ahead)) = entries.get(at + AHEAD) {
            arena.prefetch(*ahead);
        }
        key.clear();
        key.extend_from_slice(&hash.to_be_bytes());
        key.extend_from_slice(arena.key(node));
        *version = arena.newest_at(node, self.seq);
    }

    /// How many entries come before `target`.
    fn rank(&self, target: &[u8]) -> usize {
        let Some(Store { arena, .. }) = self.memtable.store.get() else { return 0 };
        let entries = self.entries.as_deref().unwrap_or_default();
        let (head, rest) = target.split_at(target.len().min(size_of::<u64>()));
        let mut hash = [0; size_of::<u64>()];
        hash.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
        let target = (u64::from_be_bytes(hash), rest);
        entries.partition_point(|(hash, node)| (*hash, arena.key(*node)) < target)
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        let entry = self.memtable.store.get().zip(self.version);
        entry.map_or(&[], |(store, version)| store.arena.value(version))
    }
}

impl Cursor for HashedCursor {
    fn seek_first(&mut self) -> Result<()> {
        self.sort();
        self.settle(0);
        Ok(())
    }

    fn seek_last(&mut self) -> Result<()> {
        self.sort();
        self.settle(self.len().wrapping_sub(1));
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.sort();
        self.settle(self.rank(key));
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.sort();
        self.settle(self.rank(key).wrapping_sub(1));
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.settle(self.at + 1);
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.settle(self.at.wrapping_sub(1));
        Ok(())
    }

    #[inline]
    fn valid(&self) -> bool {
        self.version.is_some()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        &self.key
    }

    #[inline]
    fn kind(&self) -> Kind {
        let entry = self.memtable.store.get().zip(self.version);
        entry.map_or(Kind::Delete, |(store, version)| store.arena.kind(version))
    }

    #[inline]
    fn fetched(&self) -> &[u8] {
        self.bytes()
    }

    fn pinned_value(&mut self) -> Result<Value> {
        Ok(self.memtable.value(self.bytes()))
    }

    fn range_deletes(&self) -> &RangeSet {
        &NO_RANGES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::key_hash, memtable::Memory};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entry(cursor: &mut HashedCursor) -> (Vec<u8>, Option<Vec<u8>>) {
        assert_eq!(cursor.pinned_value().unwrap(), cursor.bytes());
        let put = cursor.kind() == Kind::Put;
        let (key, value) = cursor.entry().unwrap();
        (key.to_vec(), put.then(|| value.to_vec()))
    }

    proptest! {
        #[test]
        fn walks_as_a_map_by_hash(
            writes in prop::collection::vec((any::<u8>(), prop::option::of(any::<u8>())), 0..300),
            seq in 0u64..400,
            seed in prop_oneof![any::<u64>(), Just(crate::codec::WEAK_SEED)],
            target: Vec<u8>,
        ) {
            let (memtable, mut writer) = Memtable::new(1 << 20, Memory::Own);
            let mut model = BTreeMap::new();
            for (i, (key, value)) in (1..).zip(&writes) {
                let key = [*key; 3];
                let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
                let value: Vec<u8> = value.iter().copied().collect();
                writer.insert(&key, key_hash(&key), i, kind, &value);
                if i <= seq {
                    let hashed = [&seeded_hash(&key, seed).to_be_bytes()[..], &key].concat();
                    model.insert(hashed, (kind == Kind::Put).then_some(value));
                }
            }
            let mut cursor = memtable.hashed(seq, seed);
            cursor.seek_first().unwrap();
            for (key, value) in &model {
                prop_assert!(cursor.valid());
                prop_assert_eq!(entry(&mut cursor), (key.clone(), value.clone()));
                cursor.next().unwrap();
            }
            prop_assert!(!cursor.valid());
            cursor.seek_last().unwrap();
            for (key, value) in model.iter().rev() {
                prop_assert_eq!(entry(&mut cursor), (key.clone(), value.clone()));
                cursor.prev().unwrap();
            }
            prop_assert!(!cursor.valid());
            for target in model.keys().chain([&target]) {
                cursor.seek(target).unwrap();
                let after = model.range(target.clone()..).next();
                prop_assert_eq!(cursor.valid().then(|| cursor.key()), after.map(|e| &e.0[..]));
                cursor.seek_before(target).unwrap();
                let before = model.range(..target.clone()).next_back();
                prop_assert_eq!(cursor.valid().then(|| cursor.key()), before.map(|e| &e.0[..]));
            }
        }
    }
}
