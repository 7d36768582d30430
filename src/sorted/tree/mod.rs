//! Trees of blocks: built bottom-up from sorted entries, searched, and walked leaf by leaf.
//!
//! Leaves are written as they fill, branch levels wait in memory (a thousandth of the leaves) and
//! are written behind them, level by level. Where blocks go is up to a [`Sink`], where they come
//! from to a [`Tree`], so the same code serves a run file, a page file and a bucket.
//!
//! A block's key in its parent is a lower bound of its keys and above all keys before it. The
//! leftmost path needs no bounds: whatever is below them goes there as well. The first key of any
//! other branch says no more than its parent does, and may say less, as each block cuts its keys to
//! what it needs.

mod cursor;
mod lookup;

pub(crate) use cursor::TreeCursor;
pub(crate) use lookup::{Asked, TOGETHER, Way, descend_together, find};

use crate::{
    Result, Value,
    error::{Error, ErrorKind},
    sorted::{
        Lent, RangeSet,
        block::{Block, BlockBuilder, BranchBuilder, Child, EntryKind, MAX_BLOCK, common_prefix},
    },
};
use std::sync::Arc;

/// No honest tree is higher: every branch has two children, and units are numbered by a `u32`.
pub(crate) const HEIGHT_MAX: u8 = 32;
/// Blocks longer than their tree's usual length are a multiple of this, or of that if shorter.
const OVERSIZE_UNIT: usize = 4096;

/// The topmost block and how many branch levels there are, itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) top: Child,
    pub(crate) height: u8,
}

/// The length a block of `len` bytes is padded to in a tree of blocks of `block_bytes`.
pub(crate) fn padded(len: usize, block_bytes: usize) -> usize {
    if len <= block_bytes { block_bytes } else { len.next_multiple_of(oversize_unit(block_bytes)) }
}

fn oversize_unit(block_bytes: usize) -> usize {
    block_bytes.min(OVERSIZE_UNIT)
}

/// Where a tree's blocks go. It gives each a place, and a checksum for that place.
pub(crate) trait Sink {
    /// Writes a leaf and empties the builder.
    fn leaf(&mut self, leaf: &mut BlockBuilder) -> Result<Child>;
    /// Writes a branch block, which is already padded.
    fn branch(&mut self, block: &mut [u8]) -> Result<Child>;
}

/// A finished branch block that waits for its place.
struct Waiting {
    first_key: Vec<u8>,
    enough: usize,
    block: Vec<u8>,
}

/// The branch blocks of one level.
struct Level {
    level: u8,
    block_bytes: usize,
    filling: BranchBuilder,
    waiting: Vec<Waiting>,
}

impl Level {
    fn new(level: u8, child_len: usize, block_bytes: usize) -> Self {
        let filling = BranchBuilder::new(child_len as u32);
        Self { level, block_bytes, filling, waiting: Vec::new() }
    }

    fn add(&mut self, key: &[u8], enough: usize, child: Child) -> Result<()> {
        if self.filling.try_add(key, enough, child, self.block_bytes) {
            return Ok(());
        }
        // Fewer than two children would not make the tree any narrower.
        if self.filling.len() >= 2 {
            self.close();
        }
        let most = MAX_BLOCK / oversize_unit(self.block_bytes) * oversize_unit(self.block_bytes);
        if self.filling.try_add(key, enough, child, most) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Limit, "two keys do not fit into one block"))
    }

    fn close(&mut self) {
        let (key, enough) = self.filling.first();
        let first_key = key.to_vec();
        let (limit, mut block) = (self.block_bytes, Vec::new());
        self.filling.write(&mut block, self.level, limit, |len| padded(len, limit));
        self.waiting.push(Waiting { first_key, enough, block });
    }
}

/// Builds a tree from strictly ascending entries.
pub(crate) struct TreeBuilder {
    block_bytes: usize,
    leaf: BlockBuilder,
    last_key: Vec<u8>,
    leaves: u64,
    lowest: Level,
}

impl TreeBuilder {
    /// Branch blocks, and leaves if `even`, are `block_bytes` long and lie in units of that. If
    /// leaves are not even, each one's length is told by its parent.
    pub(crate) fn new(block_bytes: usize, even: bool) -> Self {
        let leaf_len = if even { block_bytes } else { 0 };
        Self {
            block_bytes,
            leaf: BlockBuilder::default(),
            last_key: Vec::new(),
            leaves: 0,
            lowest: Level::new(1, leaf_len, block_bytes),
        }
    }

    /// How many leaves there will be if nothing more is added.
    pub(crate) fn leaves(&self) -> u64 {
        self.leaves + u64::from(!self.leaf.is_empty())
    }

    /// The last key added; `None` if there is none.
    pub(crate) fn last_key(&self) -> Option<&[u8]> {
        if self.leaf.is_empty() {
            return (self.leaves > 0).then_some(&self.last_key);
        }
        Some(self.leaf.last_key())
    }

    pub(crate) fn add(
        &mut self,
        key: &[u8],
        kind: EntryKind,
        value: &[u8],
        sink: &mut impl Sink,
    ) -> Result<()> {
        if self.leaf.try_add(key, kind, value, self.block_bytes) {
            return Ok(());
        }
        if !self.leaf.is_empty() {
            self.close_leaf(sink)?;
        }
        let most = MAX_BLOCK / oversize_unit(self.block_bytes) * oversize_unit(self.block_bytes);
        if self.leaf.try_add(key, kind, value, most) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Limit, "an entry does not fit into one block"))
    }

    fn close_leaf(&mut self, sink: &mut impl Sink) -> Result<()> {
        let first_key = self.leaf.first_key().to_vec();
        let enough =
            if self.leaves == 0 { 0 } else { common_prefix(&self.last_key, &first_key) + 1 };
        self.last_key.clear();
        self.last_key.extend_from_slice(self.leaf.last_key());
        let child = sink.leaf(&mut self.leaf)?;
        self.leaves += 1;
        self.lowest.add(&first_key, enough, child)
    }

    /// Writes what waits; `None` if nothing was added.
    pub(crate) fn finish(mut self, sink: &mut impl Sink) -> Result<Option<Root>> {
        if !self.leaf.is_empty() {
            self.close_leaf(sink)?;
        }
        if self.leaves <= 1 {
            return Ok(self.lowest.filling.only_child().map(|top| Root { top, height: 0 }));
        }
        let mut level = self.lowest;
        loop {
            level.close();
            let height = level.level;
            let mut above = Level::new(height + 1, self.block_bytes, self.block_bytes);
            for mut waiting in std::mem::take(&mut level.waiting) {
                let child = sink.branch(&mut waiting.block)?;
                above.add(&waiting.first_key, waiting.enough, child)?;
            }
            if let (Some(top), true) = (above.filling.only_child(), above.waiting.is_empty()) {
                return Ok(Some(Root { top, height }));
            }
            level = above;
        }
    }
}

/// A tree that can be searched.
pub(crate) trait Tree: Send + Sync + 'static {
    /// Bytes of a leaf, or of a value that lies apart, and what keeps them where they are.
    type Held: Send;
    /// What a cursor keeps from leaf to leaf to read ahead.
    type Ahead: Default + Send;

    fn root(&self) -> Option<Root>;
    /// The length of children whose parent does not tell it.
    fn child_len(&self) -> u32;
    /// The branch block at `at`, which must be of `level`; checked.
    fn branch(&self, at: Child, level: u8) -> Result<Block<'_>>;
    /// The leaf at `at`, checked.
    fn leaf(&self, at: Child, step: Step, ahead: &mut Self::Ahead) -> Result<Self::Held>;
    /// The leaf at `at`, checked, for one look-up.
    fn leaf_at(&self, at: Child) -> Result<Self::Held>;
    fn bytes<'a>(&'a self, held: &'a Self::Held) -> &'a [u8];
    /// `bytes`, which lie in what is held, for longer than that.
    fn pin(self: &Arc<Self>, held: &Self::Held, bytes: &[u8]) -> Value;
    /// The value that lies where `pointer` says; checked.
    fn far(&self, pointer: &[u8]) -> Result<Self::Held>;
    /// The value that lies where `pointer` says, for another tree to point to, if that may be.
    fn lent(&self, _pointer: &[u8]) -> Option<Lent> {
        None
    }
    /// Whether the leaf at `second` may come after that at `first`. A tree that answers by their
    /// places makes every walk end, whatever a damaged branch says.
    fn may_follow(&self, first: Child, second: Child) -> bool;
    /// Whether nothing but their keys says in which order leaves come: cursors then look.
    const IN_ANY_ORDER: bool = false;
    /// Asks for the header and the first heads of the block of `level` at `at`, if it is mapped.
    fn prefetch_block(&self, at: Child, level: u8);
    /// The leaf at `at` if it is mapped, perhaps not checked yet; else nothing.
    fn peek(&self, at: Child) -> &[u8];
    /// Loads the byte `at` of what is held into the processor's cache.
    fn prefetch(&self, held: &Self::Held, at: usize);
    /// The ranges of keys it deletes from whatever is older.
    fn range_deletes(&self) -> &RangeSet;
    /// What to say when the block at `at` is not what it should be.
    fn corrupt(&self, at: Child, what: &'static str) -> Error;
}

/// How a cursor came to a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Jump,
    Forward,
    Backward,
}

/// The leaf whose keys may include `key`.
#[inline]
pub(crate) fn descend<T: Tree>(tree: &T, root: Root, key: &[u8]) -> Result<Child> {
    let mut at = root.top;
    for level in (1..=root.height).rev() {
        let block = tree.branch(at, level)?;
        at = block.child(block.child_index(key), tree.child_len());
    }
    Ok(at)
}

/// A way from the root to a leaf, from which the neighbours are found without descending again.
#[derive(Debug, Default)]
pub(crate) struct Path {
    /// The branch blocks, topmost first, and which child was taken.
    steps: Vec<(Child, usize)>,
    leaf: Child,
}

impl Path {
    /// The leaf it leads to.
    pub(crate) fn leaf(&self) -> Child {
        self.leaf
    }

    /// Goes down from `at`, of `level`, taking the child that `choose` says in each block.
    fn down<T: Tree>(
        &mut self,
        tree: &T,
        mut at: Child,
        level: u8,
        choose: impl Fn(&Block<'_>) -> usize,
    ) -> Result<()> {
        for level in (1..=level).rev() {
            let block = tree.branch(at, level)?;
            let index = choose(&block);
            self.steps.push((at, index));
            at = block.child(index, tree.child_len());
        }
        self.leaf = at;
        Ok(())
    }

    /// To the leaf whose keys may include `key`.
    pub(crate) fn seek<T: Tree>(&mut self, tree: &T, root: Root, key: &[u8]) -> Result<()> {
        self.steps.clear();
        self.down(tree, root.top, root.height, |block| block.child_index(key))
    }

    pub(crate) fn first<T: Tree>(&mut self, tree: &T, root: Root) -> Result<()> {
        self.steps.clear();
        self.down(tree, root.top, root.height, |_| 0)
    }

    pub(crate) fn last<T: Tree>(&mut self, tree: &T, root: Root) -> Result<()> {
        self.steps.clear();
        self.down(tree, root.top, root.height, |block| block.count().saturating_sub(1))
    }

    /// To the next leaf; `false`, and nowhere, if there is none.
    pub(crate) fn next<T: Tree>(&mut self, tree: &T) -> Result<bool> {
        let before = self.leaf;
        let moved = self.turn(tree, |block, index| Some(index + 1).filter(|i| *i < block.count()));
        if moved? {
            self.down_to_leaf(tree, |_| 0)?;
            return self.went(tree, before, self.leaf);
        }
        Ok(false)
    }

    /// To the leaf before; `false`, and nowhere, if there is none.
    pub(crate) fn prev<T: Tree>(&mut self, tree: &T) -> Result<bool> {
        let before = self.leaf;
        if self.turn(tree, |_, index| index.checked_sub(1))? {
            self.down_to_leaf(tree, |block| block.count().saturating_sub(1))?;
            return self.went(tree, self.leaf, before);
        }
        Ok(false)
    }

    /// Goes up to the lowest block that has another child to go to, and takes that.
    fn turn<T: Tree>(
        &mut self,
        tree: &T,
        other: impl Fn(&Block<'_>, usize) -> Option<usize>,
    ) -> Result<bool> {
        let height = self.height(tree);
        while let Some((at, index)) = self.steps.pop() {
            let level = height - self.steps.len() as u8;
            let block = tree.branch(at, level)?;
            if let Some(index) = other(&block, index) {
                self.steps.push((at, index));
                self.leaf = block.child(index, tree.child_len());
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// From the child just turned to, which may be a branch, down to a leaf.
    fn down_to_leaf<T: Tree>(
        &mut self,
        tree: &T,
        choose: impl Fn(&Block<'_>) -> usize,
    ) -> Result<()> {
        let level = self.height(tree) - self.steps.len() as u8;
        self.down(tree, self.leaf, level, choose)
    }

    fn height<T: Tree>(&self, tree: &T) -> u8 {
        tree.root().map_or(0, |root| root.height)
    }

    fn went<T: Tree>(&self, tree: &T, first: Child, second: Child) -> Result<bool> {
        if tree.may_follow(first, second) {
            return Ok(true);
        }
        Err(tree.corrupt(self.leaf, "a branch block names its children out of order"))
    }
}
