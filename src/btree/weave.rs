//! Weaving a new version of a tree from entries and from parts of the old version, left to right.
//!
//! New entries fill leaves to the brim; where a part of the old tree follows, the last two leaves
//! are made even, and so are branches. Every level waits with its last full block until it is known
//! what follows.

use super::writer::PageWriter;
use crate::{
    Result,
    error::{Error, ErrorKind},
    sorted::{
        BlockBuilder, BranchBuilder, Child, EntryKind, FarPages, MAX_BLOCK, Root, common_prefix,
    },
};

/// A value lies apart if fewer than this many entries like it fit into a leaf.
const LEAST_A_LEAF: usize = 2;
/// What an entry takes beside key and value, at most.
const ENTRY_BYTES: usize = 16;

/// The branch blocks of one level in the making.
struct Level {
    filling: BranchBuilder,
    full: BranchBuilder,
}

impl Level {
    fn new() -> Self {
        Self { filling: BranchBuilder::new(0), full: BranchBuilder::new(0) }
    }

    fn is_empty(&self) -> bool {
        self.filling.len() + self.full.len() == 0
    }
}

/// Puts a tree together.
pub(super) struct Weaver<'a> {
    pub(super) out: PageWriter<'a>,
    page_bytes: usize,
    leaf: BlockBuilder,
    full: BlockBuilder,
    /// The lower bound of the leaf to be written next, if it does not follow one just written.
    low: Option<Vec<u8>>,
    /// The last key of the leaf written last.
    last_key: Vec<u8>,
    has_begun: bool,
    /// The lowest first.
    levels: Vec<Level>,
    pub(super) leaves_made: u64,
    pub(super) branches_made: u64,
    pub(super) far_pages_made: u64,
}

impl<'a> Weaver<'a> {
    pub(super) fn new(out: PageWriter<'a>) -> Self {
        Self {
            page_bytes: out.page_bytes(),
            out,
            leaf: BlockBuilder::default(),
            full: BlockBuilder::default(),
            low: None,
            last_key: Vec::new(),
            has_begun: false,
            levels: Vec::new(),
            leaves_made: 0,
            branches_made: 0,
            far_pages_made: 0,
        }
    }

    /// Whether entries wait to be written.
    pub(super) fn is_in_run(&self) -> bool {
        !self.leaf.is_empty()
    }

    /// Whether a subtree of `level` should not follow as it is, because what comes before it would
    /// be left in a nearly empty block.
    pub(super) fn is_starved(&self, level: u8) -> bool {
        let least = self.page_bytes / 4;
        let leaf = self.is_in_run() && self.full.is_empty() && self.leaf.size() < least;
        let below = self.levels.iter().take(level.into());
        let branch = |level: &Level| {
            level.full.len() == 0 && level.filling.len() > 0 && level.filling.size() < least
        };
        leaf || below.into_iter().any(branch)
    }

    /// Entries from here on are not below `low`, and all before are.
    pub(super) fn begin(&mut self, low: &[u8]) {
        if self.leaf.is_empty() {
            self.low = Some(low.to_vec());
        }
    }

    /// The longest block.
    fn most(&self) -> usize {
        MAX_BLOCK / self.page_bytes * self.page_bytes
    }

    /// Adds a key with its value, which may end up apart.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let near = (self.page_bytes - 64) / LEAST_A_LEAF;
        let is_short = value.len() <= self.page_bytes / 4;
        if is_short || key.len() + value.len() + ENTRY_BYTES <= near {
            return self.entry(key, EntryKind::Put, value);
        }
        let far = self.far(value)?;
        self.entry(key, EntryKind::Far, &far.to_bytes())
    }

    /// Writes a value apart.
    pub(super) fn far(&mut self, value: &[u8]) -> Result<FarPages> {
        let far = self.out.far(value)?;
        self.far_pages_made += u64::from(far.extent(self.page_bytes).pages);
        Ok(far)
    }

    /// Adds an entry as it is.
    #[inline]
    pub(super) fn entry(&mut self, key: &[u8], kind: EntryKind, value: &[u8]) -> Result<()> {
        if self.leaf.try_add(key, kind, value, self.page_bytes) {
            return Ok(());
        }
        self.close_leaf()?;
        if self.leaf.try_add(key, kind, value, self.most()) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Limit, "an entry does not fit into one block"))
    }

    /// The leaf is full.
    fn close_leaf(&mut self) -> Result<()> {
        if self.leaf.is_empty() {
            return Ok(());
        }
        if !self.full.is_empty() {
            let mut full = std::mem::take(&mut self.full);
            self.write_leaf(&mut full)?;
            self.full = full;
        }
        std::mem::swap(&mut self.full, &mut self.leaf);
        Ok(())
    }

    fn write_leaf(&mut self, leaf: &mut BlockBuilder) -> Result<()> {
        let first = leaf.first_key().to_vec();
        let enough = match self.low.take() {
            // What lies left of all needs no bound.
            Some(_) if !self.has_begun => 0,
            Some(low) => (common_prefix(&low, &first) + 1).min(low.len().max(1)),
            None => common_prefix(&self.last_key, &first) + 1,
        };
        self.has_begun = true;
        self.last_key.clear();
        self.last_key.extend_from_slice(leaf.last_key());
        let child = self.out.leaf(leaf)?;
        self.leaves_made += 1;
        self.add_child(0, &first, enough, child)
    }

    /// Writes the entries that wait; of the last two leaves none is left much emptier.
    fn end_run(&mut self) -> Result<()> {
        let mut full = std::mem::take(&mut self.full);
        let mut leaf = std::mem::take(&mut self.leaf);
        if !full.is_empty() && leaf.size() < self.page_bytes / 2 && full.size() <= self.page_bytes {
            (full, leaf) = self.evened(&full, &leaf)?;
        }
        for block in [&mut full, &mut leaf] {
            if !block.is_empty() {
                self.write_leaf(block)?;
            }
        }
        (self.full, self.leaf, self.low) = (full, leaf, None);
        Ok(())
    }

    fn evened(
        &self,
        full: &BlockBuilder,
        leaf: &BlockBuilder,
    ) -> Result<(BlockBuilder, BlockBuilder)> {
        let bytes = |(key, _, value): (&[u8], _, &[u8])| key.len() + value.len();
        let half = full.entries().chain(leaf.entries()).map(bytes).sum::<usize>() / 2;
        let (mut first, mut second, mut sum) =
            (BlockBuilder::default(), BlockBuilder::default(), 0);
        for (key, kind, value) in full.entries().chain(leaf.entries()) {
            sum += key.len() + value.len();
            let into_first = second.is_empty()
                && (first.is_empty() || sum <= half)
                && first.try_add(key, kind, value, self.page_bytes);
            if !into_first && !second.try_add(key, kind, value, self.most()) {
                return Err(Error::new(ErrorKind::Limit, "an entry does not fit into one block"));
            }
        }
        Ok((first, second))
    }

    /// Adds a part of the old tree: all its keys are at or above `key`, and all before are below.
    pub(super) fn subtree(&mut self, key: &[u8], at: Child, level: u8) -> Result<()> {
        let ends_run = self.is_in_run();
        self.end_run()?;
        if ends_run && key <= self.last_key.as_slice() {
            // Nobody would find what lies before it.
            return Err(self.out.corrupt(at, "a part of the tree is out of order"));
        }
        for below in 0..usize::from(level) {
            self.end_level(below)?;
        }
        self.has_begun = true;
        self.add_child(level.into(), key, key.len(), at)
    }

    /// Adds a child to the branches of `level`, whose children are of that level.
    fn add_child(&mut self, level: usize, key: &[u8], enough: usize, child: Child) -> Result<()> {
        while self.levels.len() <= level {
            self.levels.push(Level::new());
        }
        let (limit, most) = (self.page_bytes, self.most());
        let Some(at) = self.levels.get_mut(level) else { return Ok(()) };
        if at.filling.try_add(key, enough, child, limit) {
            return Ok(());
        }
        // Fewer than two children would not make the tree any narrower.
        if at.filling.len() >= 2 {
            std::mem::swap(&mut at.full, &mut at.filling);
            if at.filling.len() > 0 {
                let mut full = std::mem::replace(&mut at.filling, BranchBuilder::new(0));
                self.write_branch(level, &mut full)?;
            }
        }
        let Some(at) = self.levels.get_mut(level) else { return Ok(()) };
        if at.filling.try_add(key, enough, child, most) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Limit, "two keys do not fit into one block"))
    }

    fn write_branch(&mut self, level: usize, branch: &mut BranchBuilder) -> Result<()> {
        let (key, enough) = branch.first();
        let key = key.to_vec();
        let child = self.out.branch(branch, level as u8 + 1)?;
        self.branches_made += 1;
        self.add_child(level + 1, &key, enough, child)
    }

    /// Writes the children that wait; of the last two branches none is left much emptier.
    fn end_level(&mut self, level: usize) -> Result<()> {
        let Some(at) = self.levels.get_mut(level) else { return Ok(()) };
        let mut branches = std::mem::replace(at, Level::new());
        if branches.full.len() > 0
            && branches.filling.size() < self.page_bytes / 2
            && branches.full.size() <= self.page_bytes
        {
            branches = self.evened_branches(&branches)?;
        }
        for branch in [&mut branches.full, &mut branches.filling] {
            if branch.len() > 0 {
                self.write_branch(level, branch)?;
            }
        }
        Ok(())
    }

    fn evened_branches(&self, old: &Level) -> Result<Level> {
        let half = (old.full.len() + old.filling.len()) / 2;
        let mut even = Level::new();
        for (key, enough, child) in old.full.children().chain(old.filling.children()) {
            let into_full = even.filling.len() == 0
                && even.full.len() < half.max(1)
                && even.full.try_add(key, enough, child, self.page_bytes);
            if !into_full && !even.filling.try_add(key, enough, child, self.most()) {
                return Err(Error::new(ErrorKind::Limit, "two keys do not fit into one block"));
            }
        }
        Ok(even)
    }

    /// Writes what waits; `None` if there is nothing in the tree.
    pub(super) fn finish(&mut self) -> Result<Option<Root>> {
        self.end_run()?;
        let mut level = 0;
        while level < self.levels.len() {
            let is_top = self.levels.iter().skip(level + 1).all(Level::is_empty);
            let at = self.levels.get(level);
            let only = at.filter(|at| at.full.len() == 0).and_then(|at| at.filling.only_child());
            if let (true, Some(top)) = (is_top, only) {
                return Ok(Some(Root { top, height: level as u8 }));
            }
            self.end_level(level)?;
            level += 1;
        }
        Ok(None)
    }
}
