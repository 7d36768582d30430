//! A cursor over a tree: one leaf at a time, the key rebuilt into a buffer at every step.

use super::{Path, Step, Tree};
use crate::{
    Result, Value,
    sorted::{
        Cursor, Kind, Lent, RangeSet,
        block::{Block, EntryKind, Shape},
        filter::LINE,
    },
};
use std::sync::Arc;

/// How far ahead of an entry memory is asked for. The heads lie between what a scan reads of two
/// blocks, which seems to lose the processor's own prefetching.
const AHEAD: usize = 2048;

/// How many cache lines will be read soon where a cursor is sent to, the one it has included: a
/// short walk from there is over before the processor has noticed that it is one.
const SHORT: usize = 8;

/// A [`Cursor`] over any [`Tree`].
pub(crate) struct TreeCursor<T: Tree> {
    tree: Arc<T>,
    path: Path,
    /// The leaf the cursor is in; without one it is not valid.
    leaf: Option<T::Held>,
    shape: Shape,
    index: usize,
    key: Vec<u8>,
    /// Where in the leaf the value lies.
    value: (usize, usize),
    /// The value, if it lies apart and was asked for.
    far: Option<T::Held>,
    ahead: T::Ahead,
}

impl<T: Tree> TreeCursor<T> {
    pub(crate) fn new(tree: Arc<T>) -> Self {
        Self {
            tree,
            path: Path::default(),
            leaf: None,
            shape: Shape::default(),
            index: 0,
            key: Vec::new(),
            value: (0, 0),
            far: None,
            ahead: T::Ahead::default(),
        }
    }

    /// Enters the leaf the path leads to.
    fn enter(&mut self, step: Step) -> Result<()> {
        self.leaf = None;
        let leaf = self.tree.leaf(self.path.leaf(), step, &mut self.ahead)?;
        let block = Block::trusted(self.tree.bytes(&leaf));
        self.shape = block.shape();
        block.start_key(&mut self.key);
        self.leaf = Some(leaf);
        Ok(())
    }

    #[inline(always)]
    fn count(&self) -> usize {
        Block::with_shape(&[], self.shape).count()
    }

    /// Enters the leaf the path leads to at its near end. If the cursor comes `from` a key next to
    /// it and nothing else tells that leaves are in order, they are compared: then every walk ends,
    /// whatever a damaged branch says.
    fn enter_from(&mut self, step: Step, from: Option<Vec<u8>>) -> Result<()> {
        self.enter(step)?;
        self.read(if step == Step::Backward { self.count().saturating_sub(1) } else { 0 });
        let Some(from) = from.filter(|_| self.leaf.is_some()) else { return Ok(()) };
        let goes_on = if step == Step::Backward { self.key < from } else { self.key > from };
        if goes_on {
            return Ok(());
        }
        self.leaf = None;
        Err(self.tree.corrupt(self.path.leaf(), "leaves are not in the order of their keys"))
    }

    /// The key that the next leaf is to be compared with.
    fn stepped(&self) -> Option<Vec<u8>> {
        T::IN_ANY_ORDER.then(|| self.key.clone())
    }

    /// Reads the entry at `index`; beyond the leaf's entries there is none, and no place.
    #[inline(always)]
    fn read(&mut self, index: usize) {
        self.far = None;
        let Some(leaf) = self.leaf.as_ref().filter(|_| index < self.count()) else {
            self.leaf = None;
            return;
        };
        let block = Block::with_shape(self.tree.bytes(leaf), self.shape);
        self.index = index;
        self.value = block.read_into(index, &mut self.key);
    }

    #[inline(always)]
    fn prefetch(&self, at: usize) {
        if let Some(leaf) = &self.leaf {
            self.tree.prefetch(leaf, at);
        }
    }

    #[cold]
    #[inline(never)]
    fn next_leaf(&mut self, from: Option<Vec<u8>>) -> Result<()> {
        self.leaf = None;
        if self.path.next(&*self.tree)? { self.enter_from(Step::Forward, from) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn prev_leaf(&mut self, from: Option<Vec<u8>>) -> Result<()> {
        self.leaf = None;
        if self.path.prev(&*self.tree)? { self.enter_from(Step::Backward, from) } else { Ok(()) }
    }

    /// Goes to the leaf for `key` and searches it; `None` in an empty tree.
    fn search(&mut self, key: &[u8]) -> Result<Option<usize>> {
        self.leaf = None;
        let Some(root) = self.tree.root() else { return Ok(None) };
        self.path.seek(&*self.tree, root, key)?;
        self.enter(Step::Jump)?;
        let block = self.leaf.as_ref().map(|leaf| Block::trusted(self.tree.bytes(leaf)));
        Ok(block.map(|block| block.search(key).0))
    }

    #[inline(always)]
    fn entry_kind(&self) -> EntryKind {
        let bytes = self.leaf.as_ref().map_or(&[][..], |leaf| self.tree.bytes(leaf));
        Block::with_shape(bytes, self.shape).kind(self.index)
    }

    /// The bytes of the entry behind its key.
    #[inline(always)]
    fn near(&self) -> &[u8] {
        let bytes = self.leaf.as_ref().map_or(&[][..], |leaf| self.tree.bytes(leaf));
        bytes.get(self.value.0..self.value.1).unwrap_or_default()
    }

    /// Whether the value lies apart.
    #[inline(always)]
    fn is_far(&self) -> bool {
        self.shape.has_kinds() && self.entry_kind() == EntryKind::Far
    }

    #[cold]
    #[inline(never)]
    fn fetch_far(&mut self) -> Result<()> {
        if self.far.is_none() {
            let far = self.tree.far(self.near());
            self.far = Some(far.inspect_err(|_| self.leaf = None)?);
        }
        Ok(())
    }
}

impl<T: Tree> Cursor for TreeCursor<T> {
    fn seek_first(&mut self) -> Result<()> {
        self.leaf = None;
        let Some(root) = self.tree.root() else { return Ok(()) };
        self.path.first(&*self.tree, root)?;
        self.enter(Step::Jump)?;
        self.read(0);
        Ok(())
    }

    fn seek_last(&mut self) -> Result<()> {
        self.leaf = None;
        let Some(root) = self.tree.root() else { return Ok(()) };
        self.path.last(&*self.tree, root)?;
        self.enter(Step::Jump)?;
        self.read(self.count().saturating_sub(1));
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        match self.search(key)? {
            Some(index) if index < self.count() => {
                self.read(index);
                (1..SHORT).for_each(|line| self.prefetch(self.value.0 + line * LINE));
            }
            Some(_) => self.next_leaf(None)?,
            None => {}
        }
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        match self.search(key)? {
            Some(0) => self.prev_leaf(None)?,
            Some(index) => self.read(index - 1),
            None => {}
        }
        Ok(())
    }

    #[inline(always)]
    fn next(&mut self) -> Result<()> {
        let index = self.index + 1;
        if index >= self.count() {
            return self.next_leaf(self.stepped());
        }
        self.read(index);
        self.prefetch(self.value.1 + AHEAD);
        Ok(())
    }

    #[inline(always)]
    fn prev(&mut self) -> Result<()> {
        let Some(index) = self.index.checked_sub(1) else {
            return self.prev_leaf(self.stepped());
        };
        self.read(index);
        self.prefetch(self.value.0.wrapping_sub(AHEAD));
        Ok(())
    }

    #[inline(always)]
    fn valid(&self) -> bool {
        self.leaf.is_some()
    }

    #[inline(always)]
    fn key(&self) -> &[u8] {
        &self.key
    }

    #[inline(always)]
    fn kind(&self) -> Kind {
        if self.shape.has_kinds() && self.entry_kind() == EntryKind::Delete {
            return Kind::Delete;
        }
        Kind::Put
    }

    #[inline(always)]
    fn fetch(&mut self) -> Result<()> {
        if self.is_far() { self.fetch_far() } else { Ok(()) }
    }

    #[inline(always)]
    fn fetched(&self) -> &[u8] {
        match &self.far {
            None => self.near(),
            Some(far) => self.tree.bytes(far),
        }
    }

    fn pinned_value(&mut self) -> Result<Value> {
        self.fetch()?;
        let (held, bytes) = (self.far.as_ref().or(self.leaf.as_ref()), self.fetched());
        Ok(held.map_or(Value::copied(&[]), |held| self.tree.pin(held, bytes)))
    }

    fn lent(&self) -> Option<Lent> {
        if self.is_far() { self.tree.lent(self.near()) } else { None }
    }

    fn range_deletes(&self) -> &RangeSet {
        self.tree.range_deletes()
    }
}
