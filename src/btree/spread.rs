//! How changes lie over a tree: how many of its leaves they would have written anew.
//!
//! Only branches are read.

use super::edit::Incoming;
use crate::{
    Result,
    sorted::{Kind, PageRef, PageTree, Tree},
};

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spread {
    /// Leaves with a change.
    pub(super) leaves: u64,
    /// Bytes of the changes' keys and values.
    pub(super) bytes: u64,
}

impl Spread {
    /// Walks over all `changes`.
    pub(super) fn of<C: Incoming>(tree: &PageTree, changes: &mut C) -> Result<Self> {
        let mut walk = Walk { tree, changes, spread: Self::default() };
        while walk.changes.valid() {
            match tree.root() {
                Some(root) => walk.part(PageRef::of(root.top), root.height, None)?,
                None => walk.step()?,
            }
        }
        Ok(walk.spread)
    }
}

struct Walk<'a, C> {
    tree: &'a PageTree,
    changes: &'a mut C,
    spread: Spread,
}

impl<C: Incoming> Walk<'_, C> {
    fn is_before(&self, high: Option<&[u8]>) -> bool {
        self.changes.valid() && high.is_none_or(|high| self.changes.key() < high)
    }

    /// Counts the leaves with changes in a part of the tree. There is one, and it is passed
    /// whatever a damaged branch says, so every walk ends.
    fn part(&mut self, at: PageRef, level: u8, high: Option<&[u8]>) -> Result<()> {
        if level == 0 {
            self.spread.leaves += 1;
            self.step()?;
            while self.is_before(high) {
                self.step()?;
            }
            return Ok(());
        }
        let tree = self.tree;
        let block = tree.branch(at.child(), level)?;
        let mut after = Vec::new();
        loop {
            let i = block.child_index(self.changes.key());
            let is_last = i + 1 >= block.count();
            if !is_last {
                block.start_key(&mut after);
                block.read_into(i + 1, &mut after);
            }
            let end = if is_last { high } else { Some(&after[..]) };
            self.part(PageRef::of(block.child(i, 0)), level - 1, end)?;
            if !self.is_before(high) {
                return Ok(());
            }
        }
    }

    fn step(&mut self) -> Result<()> {
        let bytes = match self.changes.kind() {
            Kind::Put => self.changes.entry().map(|(key, value)| key.len() + value.len())?,
            Kind::Delete => self.changes.key().len(),
        };
        self.spread.bytes += bytes as u64;
        self.changes.next()
    }
}
