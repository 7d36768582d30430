//! Entries in order, as of one sequence number.

use super::{
    Memtable, Store,
    arena::{Node, Version},
    deletes::Deletes,
    node::{LEAF_SLOTS, Perm},
    tree::Tree,
};
use crate::{
    Result, Value,
    sorted::{Cursor, Kind, RangeSet},
};
use std::sync::Arc;

/// How many records ahead are asked for.
const AHEAD: usize = 4;

/// A position among the newest versions at or below one sequence number.
pub(crate) struct MemtableCursor {
    memtable: Arc<Memtable>,
    seq: u64,
    /// All range deletes, by sequence number.
    deletes: Option<Arc<Deletes>>,
    /// Those this cursor sees, for older sources.
    range_deletes: RangeSet,
    /// Whether the tree has every key this cursor may see.
    filled: bool,
    place: Place,
    /// The entry, if valid.
    entry: Option<(Node, Version)>,
}

/// A place in the tree: between two records of a leaf.
///
/// It holds the leaf's records as they were when it got there; what comes into the leaf later is
/// too new for the cursor anyway.
struct Place {
    leaf: u32,
    /// The leaf that comes after this one in the direction of travel, as far as is known.
    beyond: u32,
    records: [Option<Node>; LEAF_SLOTS],
    count: usize,
    /// How many of them lie before the place.
    rank: usize,
}

impl MemtableCursor {
    pub(super) fn new(memtable: Arc<Memtable>, seq: u64) -> Self {
        let deletes = memtable.deletes.now();
        let range_deletes = deletes.as_ref().map(|deletes| deletes.at(seq)).unwrap_or_default();
        let place = Place { leaf: 0, beyond: 0, records: [None; LEAF_SLOTS], count: 0, rank: 0 };
        Self { memtable, seq, deletes, range_deletes, filled: false, place, entry: None }
    }

    /// The sequence number of the entry; 0 where there is none.
    pub(crate) fn seq(&self) -> u64 {
        let entry = self.memtable.store.get().zip(self.entry);
        entry.map_or(0, |(store, (_, version))| store.arena.seq(version))
    }

    /// The entry's value, empty where there is none.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        let entry = self.memtable.store.get().zip(self.entry);
        entry.map_or(&[], |(store, (_, version))| store.arena.value(version))
    }

    /// To the first visible record after the place that `start` finds.
    fn forward(&mut self, start: impl FnOnce(&mut Place, &Tree, &Store)) {
        self.entry = None;
        let Some(store) = self.memtable.store.get() else { return };
        let tree = if self.filled { store.tree() } else { store.tree_at(self.seq) };
        self.filled = true;
        start(&mut self.place, tree, store);
        while let Some(node) = self.place.following(tree, store) {
            if let Some(version) = visible(store, node, self.seq, self.deletes.as_deref()) {
                self.entry = Some((node, version));
                return;
            }
            self.place.rank += 1;
        }
    }

    /// To the last visible record before the place that `start` finds.
    fn back(&mut self, start: impl FnOnce(&mut Place, &Tree, &Store)) {
        self.entry = None;
        let Some(store) = self.memtable.store.get() else { return };
        let tree = if self.filled { store.tree() } else { store.tree_at(self.seq) };
        self.filled = true;
        start(&mut self.place, tree, store);
        while let Some(node) = self.place.preceding(tree, store) {
            if let Some(version) = visible(store, node, self.seq, self.deletes.as_deref()) {
                self.entry = Some((node, version));
                return;
            }
        }
    }
}

/// The version of a key that a reader at `seq` sees.
#[inline(always)]
fn visible(store: &Store, node: Node, seq: u64, deletes: Option<&Deletes>) -> Option<Version> {
    let version = store.arena.newest_at(node, seq)?;
    let Some(deletes) = deletes else { return Some(version) };
    let deleted = deletes.newest_over(store.arena.key(node), seq);
    deleted.is_none_or(|deleted| deleted <= store.arena.seq(version)).then_some(version)
}

impl Place {
    #[inline]
    fn enter(&mut self, tree: &Tree, leaf: u32) -> Perm {
        let id = leaf;
        let leaf = tree.leaf(id);
        let perm = leaf.perm.get();
        self.leaf = id;
        self.count = perm.count();
        for (rank, record) in self.records.iter_mut().enumerate().take(self.count) {
            *record = leaf.record(perm.slot(rank));
        }
        perm
    }

    /// To before the first record whose key is `>= key`; those beside it are asked for.
    fn seek(&mut self, tree: &Tree, store: &Store, key: &[u8], back: bool) {
        let id = tree.leaf_for(key);
        let perm = self.enter(tree, id);
        let leaf = tree.leaf(id);
        self.rank = tree.rank(leaf, perm, key).unwrap_or_else(|rank| rank);
        let (from, to) = match back {
            false => (self.rank, (self.rank + AHEAD).min(self.count)),
            true => (self.rank.saturating_sub(AHEAD), self.rank),
        };
        let beside = self.records.get(from..to).unwrap_or_default();
        beside.iter().flatten().for_each(|node| store.arena.prefetch(*node));
        self.beyond = if back { leaf.prev.get() } else { leaf.next.get() };
        tree.prefetch_leaf(self.beyond);
    }

    /// The record after the place, here or in the leaves that follow.
    #[inline]
    fn following(&mut self, tree: &Tree, store: &Store) -> Option<Node> {
        while self.rank >= self.count {
            let next = tree.leaf(self.leaf).next.get();
            if next == 0 {
                return None;
            }
            self.enter(tree, next);
            self.beyond = tree.leaf(next).next.get();
            tree.prefetch_leaf(self.beyond);
            self.rank = 0;
        }
        let ahead = self.rank + AHEAD;
        let record = match ahead.checked_sub(self.count) {
            None => self.records[ahead],
            Some(rank) => tree.record_from_first(self.beyond, rank),
        };
        record.into_iter().for_each(|node| store.arena.prefetch(node));
        self.records[self.rank]
    }

    /// The record before the place, here or in the leaves that precede; the place moves before
    /// it.
    #[inline]
    fn preceding(&mut self, tree: &Tree, store: &Store) -> Option<Node> {
        while self.rank == 0 {
            let prev = tree.leaf(self.leaf).prev.get();
            if prev == 0 {
                return None;
            }
            self.enter(tree, prev);
            self.beyond = tree.leaf(prev).prev.get();
            tree.prefetch_leaf(self.beyond);
            self.rank = self.count;
        }
        self.rank -= 1;
        let record = match self.rank.checked_sub(AHEAD) {
            Some(ahead) => self.records[ahead],
            None => tree.record_from_last(self.beyond, AHEAD - self.rank - 1),
        };
        record.into_iter().for_each(|node| store.arena.prefetch(node));
        self.records[self.rank]
    }
}

impl Cursor for MemtableCursor {
    fn seek_first(&mut self) -> Result<()> {
        self.forward(|place, tree, _| {
            place.enter(tree, tree.first_leaf());
            place.rank = 0;
        });
        Ok(())
    }

    fn seek_last(&mut self) -> Result<()> {
        self.back(|place, tree, _| {
            place.enter(tree, tree.last_leaf());
            place.rank = place.count;
        });
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.forward(|place, tree, store| place.seek(tree, store, key, false));
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.back(|place, tree, store| place.seek(tree, store, key, true));
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.forward(|place, _, _| place.rank += 1);
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        self.back(|_, _, _| {});
        Ok(())
    }

    #[inline]
    fn valid(&self) -> bool {
        self.entry.is_some()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        let entry = self.memtable.store.get().zip(self.entry);
        entry.map_or(&[], |(store, (node, _))| store.arena.key(node))
    }

    #[inline]
    fn kind(&self) -> Kind {
        let entry = self.memtable.store.get().zip(self.entry);
        entry.map_or(Kind::Delete, |(store, (_, version))| store.arena.kind(version))
    }

    #[inline]
    fn value(&mut self) -> Result<&[u8]> {
        Ok(self.bytes())
    }

    fn pinned_value(&mut self) -> Result<Value> {
        Ok(self.memtable.value(self.bytes()))
    }

    fn range_deletes(&self) -> &RangeSet {
        &self.range_deletes
    }
}
