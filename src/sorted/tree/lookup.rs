//! Looking keys up: what a leaf knows of one key, and many keys on their way down side by side.

use super::{Root, Tree};
use crate::{
    Result, Value,
    sorted::{
        Found, Keeper, Lookup,
        block::{Block, Child, EntryKind},
    },
};
use std::sync::Arc;

/// How many look-ups of a batch go on at once: enough to hide memory behind memory, few enough
/// that what was asked for is still there when its turn comes.
pub(crate) const TOGETHER: usize = 16;

/// A key that is asked for, and its hash.
pub(crate) type Asked<'a> = (&'a [u8], u64);

/// Where a key of a batch is on its way down.
#[derive(Clone, Copy, Default)]
pub(crate) struct Way {
    /// Which of the keys.
    pub(crate) index: usize,
    pub(crate) at: Child,
}

/// What a value found in a tree lies in.
struct InTree<'a, T: Tree> {
    tree: &'a Arc<T>,
    held: &'a T::Held,
}

impl<T: Tree> Keeper for InTree<'_, T> {
    fn keep(&self, bytes: &[u8]) -> Value {
        self.tree.pin(self.held, bytes)
    }
}

/// Looks for `key` in the leaf at `at`.
#[inline(always)]
pub(crate) fn find<T: Tree>(
    tree: &Arc<T>,
    key: &[u8],
    at: Child,
    answer: &mut impl FnMut(Lookup<Found<'_>>),
) -> Result<()> {
    let held = tree.leaf_at(at)?;
    let block = Block::trusted(tree.bytes(&held));
    let (index, exact) = block.search(key);
    if !exact {
        answer(Lookup::Missing);
        return Ok(());
    }
    match block.kind(index) {
        EntryKind::Put => {
            let keeper = InTree { tree, held: &held };
            answer(Lookup::Found(Found::new(block.value(index), &keeper)));
        }
        EntryKind::Delete => answer(Lookup::Deleted),
        EntryKind::Far => {
            let far = tree.far(block.value(index))?;
            let keeper = InTree { tree, held: &far };
            answer(Lookup::Found(Found::new(tree.bytes(&far), &keeper)));
        }
    }
    Ok(())
}

/// Takes every key to its leaf, and asks for the leaf's entry: each step asks for the memory of
/// the next, and while it comes the other keys take theirs.
pub(crate) fn descend_together<T: Tree>(
    tree: &T,
    root: Root,
    keys: &[Asked<'_>],
    ways: &mut [Way],
) -> Result<()> {
    let key = |way: &Way| keys.get(way.index).map_or(&[][..], |(key, _)| key);
    ways.iter_mut().for_each(|way| way.at = root.top);
    for level in (1..=root.height).rev() {
        for way in ways.iter_mut() {
            let block = tree.branch(way.at, level)?;
            way.at = block.child(block.child_index(key(way)), tree.child_len());
            tree.prefetch_block(way.at, level - 1);
        }
    }
    for way in ways {
        let leaf = tree.peek(way.at);
        if !leaf.is_empty() {
            Block::trusted(leaf).prefetch_entry(key(way));
        }
    }
    Ok(())
}
