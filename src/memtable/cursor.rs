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
    sorted::{Cursor, Kind, RangeSet, Span},
};
use std::sync::Arc;

/// How many records ahead are asked for at once, when a scan begins, and how many in the end. A
/// leaf has at least as many, but for the last ones of their kind.
const AHEAD_FIRST: usize = 4;
const AHEAD_MAX: usize = 8;

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
    records: [Option<Node>; LEAF_SLOTS],
    count: usize,
    /// How many of them lie before the place.
    rank: usize,
    /// The way of the last step.
    way: Way,
    /// The next leaf that way, as far as was known on arrival: good for asking ahead only.
    beyond: u32,
    /// How many records that way have been asked for.
    asked: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    Back,
}

impl MemtableCursor {
    pub(super) fn new(memtable: Arc<Memtable>, seq: u64) -> Self {
        let deletes = memtable.deletes.now();
        let range_deletes = deletes.as_ref().map(|deletes| deletes.at(seq)).unwrap_or_default();

        Self {
            memtable,
            seq,
            deletes,
            range_deletes,
            filled: false,
            place: Place::nowhere(),
            entry: None,
        }
    }

    /// The sequence number of the entry; 0 where there is none.
    #[cfg(test)]
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

    /// Whether an entry of `span` is newer than `after`.
    pub(super) fn is_newer_in(&mut self, span: &Span, after: u64) -> bool {
        self.forward(|place, tree, store| place.seek(tree, store, &span.start, Way::Forward));
        while let Some((node, version)) = self.entry {
            let Some(store) = self.memtable.store.get() else { return false };
            if !span.ends_after(store.arena.key(node)) {
                return false;
            }
            if store.arena.seq(version) > after {
                return true;
            }
            self.forward(|place, _, _| place.rank += 1);
        }
        false
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
    fn nowhere() -> Self {
        Self {
            leaf: 0,
            records: [None; LEAF_SLOTS],
            count: 0,
            rank: 0,
            way: Way::Forward,
            beyond: 0,
            asked: 0,
        }
    }

    /// Into a leaf; the caller sets the rank.
    #[inline]
    fn enter(&mut self, tree: &Tree, id: u32, way: Way) -> Perm {
        let leaf = tree.leaf(id);
        let perm = leaf.perm.get();
        self.leaf = id;
        self.count = perm.count();
        for (rank, record) in self.records.iter_mut().enumerate().take(self.count) {
            *record = leaf.record(perm.slot(rank));
        }
        self.face(tree, way);
        perm
    }

    fn face(&mut self, tree: &Tree, way: Way) {
        let leaf = tree.leaf(self.leaf);
        self.way = way;
        self.beyond = match way {
            Way::Forward => leaf.next.get(),
            Way::Back => leaf.prev.get(),
        };
        tree.prefetch_leaf(self.beyond);
    }

    fn seek_first(&mut self, tree: &Tree) {
        self.enter(tree, tree.first_leaf(), Way::Forward);
        self.rank = 0;
        self.asked = 0;
    }

    fn seek_last(&mut self, tree: &Tree) {
        self.enter(tree, tree.last_leaf(), Way::Back);
        self.rank = self.count;
        self.asked = 0;
    }

    /// To before the first record whose key is `>= key`.
    fn seek(&mut self, tree: &Tree, store: &Store, key: &[u8], way: Way) {
        let id = tree.leaf_for(key);
        let perm = self.enter(tree, id, way);
        let leaf = tree.leaf(id);
        let ties = leaf.ties(perm, key);
        // Ask for what will be read before the look at a key that decides where to begin.
        self.rank = ties.start;
        self.asked = 0;
        (0..AHEAD_FIRST).for_each(|_| self.ask(tree, store));
        self.rank = tree.rank_among(leaf, perm, ties, key).unwrap_or_else(|rank| rank);
    }

    /// Asks for one record more.
    #[inline(always)]
    fn ask(&mut self, tree: &Tree, store: &Store) {
        let record = match self.way {
            Way::Forward => match (self.rank + self.asked).checked_sub(self.count) {
                None => self.records[self.rank + self.asked],
                Some(rank) => tree.record_from_first(self.beyond, rank),
            },
            Way::Back => match self.rank.checked_sub(self.asked + 1) {
                Some(rank) => self.records[rank],
                None => tree.record_from_last(self.beyond, self.asked - self.rank),
            },
        };
        record.into_iter().for_each(|node| store.arena.prefetch(node));
        self.asked += 1;
    }

    /// Asks for two records more with each step, until enough are on their way.
    #[inline(always)]
    fn ask_ahead(&mut self, tree: &Tree, store: &Store, way: Way) {
        if self.way != way {
            self.face(tree, way);
            self.asked = 0;
        }
        for _ in 0..2 {
            if self.asked <= AHEAD_MAX {
                self.ask(tree, store);
            }
        }
        self.asked -= 1;
    }

    /// The record after the place, here or in the leaves that follow.
    #[inline]
    fn following(&mut self, tree: &Tree, store: &Store) -> Option<Node> {
        while self.rank >= self.count {
            let next = tree.leaf(self.leaf).next.get();
            if next == 0 {
                return None;
            }
            self.enter(tree, next, Way::Forward);
            self.rank = 0;
        }
        self.ask_ahead(tree, store, Way::Forward);
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
            self.enter(tree, prev, Way::Back);
            self.rank = self.count;
        }
        self.ask_ahead(tree, store, Way::Back);
        self.rank -= 1;
        self.records[self.rank]
    }
}

impl Cursor for MemtableCursor {
    fn seek_first(&mut self) -> Result<()> {
        self.forward(|place, tree, _| place.seek_first(tree));
        Ok(())
    }

    fn seek_last(&mut self) -> Result<()> {
        self.back(|place, tree, _| place.seek_last(tree));
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.forward(|place, tree, store| place.seek(tree, store, key, Way::Forward));
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.back(|place, tree, store| place.seek(tree, store, key, Way::Back));
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
    fn fetched(&self) -> &[u8] {
        self.bytes()
    }

    fn pinned_value(&mut self) -> Result<Value> {
        Ok(self.memtable.value(self.bytes()))
    }

    fn range_deletes(&self) -> &RangeSet {
        &self.range_deletes
    }
}
