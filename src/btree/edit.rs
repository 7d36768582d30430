//! Making the next version of a tree: the old one and sorted changes, merged as one stream.
//!
//! ```text
//!   old leaves   [aaa][bbb][ccc][ddd][eee][fff]
//!   changes         a  b  b       d
//!   next         [aaaa][bbbb][bb ... ][ddd]->eee ->fff
//!                 ^ one run, packed full      ^ parts of the old tree, as they are
//! ```
//!
//! Only leaves that change are read and written, and the branches above them. Adjacent ones are
//! one run: packed full, in one stretch of the file. Where most leaves change, one or two that do
//! not are taken along, because a run in one piece is worth more to later scans than the bytes.
//! What a range delete covers is dropped by its branches; the leaves are not read.
//!
//! The cost is that of the leaves that change, not of the entries: see `docs/design.md`.

use super::{space::Dead, weave::Weaver};
use crate::{
    Result,
    sorted::{
        Block, Counts, Cursor, EntryKind, Extent, FarPages, Kind, PageRef, PageTree, PagesAhead,
        RangeSet, Root, Step, Tree, generation_of,
    },
};
use std::sync::Arc;

/// Up to so many leaves between two that change are taken along.
const BRIDGE: usize = 2;
/// The share of the last leaves that changed, in 256ths; above half of it gaps are bridged.
const BUSY: u32 = 256;

/// New entries and deletes, one after the other.
pub(super) trait Incoming {
    fn valid(&self) -> bool;
    fn key(&self) -> &[u8];
    fn kind(&self) -> Kind;
    fn entry(&mut self) -> Result<(&[u8], &[u8])>;
    fn next(&mut self) -> Result<()>;
}

impl<C: Cursor> Incoming for C {
    #[inline]
    fn valid(&self) -> bool {
        Cursor::valid(self)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        Cursor::key(self)
    }

    #[inline]
    fn kind(&self) -> Kind {
        Cursor::kind(self)
    }

    #[inline]
    fn entry(&mut self) -> Result<(&[u8], &[u8])> {
        Cursor::entry(self)
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        Cursor::next(self)
    }
}

/// How often a block is looked at, at most, to see whether it is to be left: once a level.
const LOOKS: u64 = 33;
const MORE: &str = "more pages are reached than there are";

/// What changes.
pub(super) struct Changes<'a, C> {
    /// New entries and deletes, ahead of the walk.
    pub(super) entries: &'a mut C,
    /// What of the old tree is deleted; the entries above are newer.
    pub(super) deleted: &'a RangeSet,
    /// Pages from this one on are to be left.
    pub(super) leave: Option<u32>,
}

/// What came of it.
pub(super) struct Edited {
    pub(super) root: Option<Root>,
    pub(super) counts: Counts,
    pub(super) dead: Vec<Dead>,
    /// Bytes of keys and values that came in.
    pub(super) absorbed: u64,
}

/// One walk through the old tree.
pub(super) struct Edit<'a, 'w, C> {
    tree: &'a Arc<PageTree>,
    changes: Changes<'a, C>,
    weaver: &'a mut Weaver<'w>,
    dead: Vec<Dead>,
    counts: Counts,
    /// The average entry and how many a leaf has, for leaves that are dropped unread.
    average: (u64, u64),
    busy: u32,
    ahead: PagesAhead,
    key: Vec<u8>,
    absorbed: u64,
    /// Blocks and values dropped so far.
    visited: u64,
    /// Blocks looked at to see whether they are to be left.
    looked: u64,
}

/// How much of a subtree range deletes cover.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deletion {
    None,
    Partly,
    Wholly,
}

/// A part of the old tree: its keys lie in `low..high`. Its branch says `bound`. Of a first child
/// that may be shorter than what a branch further up says, and so below `low`: what lies between is
/// found further left.
struct Part<'k> {
    at: PageRef,
    level: u8,
    low: &'k [u8],
    bound: &'k [u8],
    high: Option<&'k [u8]>,
}

impl<'a, 'w, C: Incoming> Edit<'a, 'w, C> {
    /// Merges `changes` into `tree`.
    pub(super) fn run(
        tree: &'a Arc<PageTree>,
        changes: Changes<'a, C>,
        weaver: &'a mut Weaver<'w>,
    ) -> Result<Edited> {
        let counts = *tree.counts();
        let average = |sum: u64, of: u64| sum.checked_div(of).unwrap_or(0);
        let mut edit = Self {
            tree,
            changes,
            weaver,
            dead: Vec::new(),
            counts,
            average: (
                average(counts.entries, counts.leaves),
                average(counts.raw_bytes, counts.leaves),
            ),
            busy: 0,
            ahead: PagesAhead::default(),
            key: Vec::new(),
            absorbed: 0,
            visited: 0,
            looked: 0,
        };
        if let Some(root) = tree.root() {
            let (at, level) = (PageRef::of(root.top), root.height);
            edit.part(&Part { at, level, low: &[], bound: &[], high: None }, None)?;
        }
        edit.weaver.begin(&[]);
        edit.take_changes(None)?;
        let root = edit.weaver.finish()?;
        let Self { weaver, dead, mut counts, absorbed, .. } = edit;
        counts.leaves += weaver.leaves_made;
        counts.branches += weaver.branches_made;
        counts.far_pages += weaver.far_pages_made;
        if root.is_none() {
            // Of nothing the counts are known.
            counts = Counts::default();
        }
        Ok(Edited { root, counts, dead, absorbed })
    }

    /// Whether there are changes below `high`.
    #[inline]
    fn changes_before(&self, high: Option<&[u8]>) -> bool {
        let entries = &self.changes.entries;
        entries.valid() && high.is_none_or(|high| entries.key() < high)
    }

    /// How much of the keys `low..high` is deleted.
    fn deletion(&self, low: &[u8], high: Option<&[u8]>) -> Deletion {
        let spans = self.changes.deleted.spans();
        let at = spans.partition_point(|span| !span.ends_after(low));
        let Some(span) = spans.get(at) else { return Deletion::None };
        if high.is_some_and(|high| *span.start >= *high) {
            return Deletion::None;
        }
        let to_the_end = match (&span.end, high) {
            (None, _) => true,
            (Some(end), Some(high)) => high <= &end[..],
            (Some(_), None) => false,
        };
        if span.start <= low && to_the_end { Deletion::Wholly } else { Deletion::Partly }
    }

    /// Takes a part over as it is, or changed, or not at all. It is the child of that number of
    /// the block `parent`, if any.
    fn part(&mut self, part: &Part<'_>, parent: Option<(&Block<'_>, usize)>) -> Result<()> {
        let hit = self.changes_before(part.high);
        let deletion = self.deletion(part.low, part.high);
        if deletion == Deletion::Wholly && (!hit || part.level == 0) {
            self.weaver.begin(part.low);
            self.drop_part(part.at, part.level)?;
            return self.take_changes(part.high);
        }
        let changes = hit || deletion != Deletion::None || self.is_to_leave(part.at, part.level)?;
        if part.level == 0 {
            self.busy -= self.busy / 8;
            self.busy += if changes { BUSY / 8 } else { 0 };
        }
        let is_taken =
            changes || self.weaver.is_starved(part.level) || self.is_bridge(part, parent);
        match (is_taken, part.level) {
            (false, level) => self.weaver.subtree(part.bound.max(part.low), part.at.child(), level),
            (true, 0) => self.leaf(part),
            (true, _) => self.branch(part),
        }
    }

    /// Whether a leaf that does not change is taken along between some that do.
    fn is_bridge(&self, part: &Part<'_>, parent: Option<(&Block<'_>, usize)>) -> bool {
        let entries = &self.changes.entries;
        let Some((parent, i)) = parent.filter(|_| part.level == 0 && entries.valid()) else {
            return false;
        };
        self.weaver.is_in_run()
            && self.busy > BUSY / 2
            && parent.child_index(entries.key()).saturating_sub(i) <= BRIDGE
    }

    /// Walks over the children of a branch block.
    fn branch(&mut self, part: &Part<'_>) -> Result<()> {
        self.bury(part.at.extent(), part.at.birth)?;
        self.counts.branches = self.counts.branches.saturating_sub(1);
        let tree = self.tree;
        let block = tree.branch(part.at.child(), part.level)?;
        let (mut bound, mut after) = (Vec::new(), Vec::new());
        block.start_key(&mut bound);
        block.read_into(0, &mut bound);
        for i in 0..block.count() {
            let is_last = i + 1 == block.count();
            if !is_last {
                block.start_key(&mut after);
                block.read_into(i + 1, &mut after);
            }
            let child = Part {
                at: PageRef::of(block.child(i, 0)),
                level: part.level - 1,
                low: if i == 0 { part.low } else { &bound },
                bound: &bound,
                high: if is_last { part.high } else { Some(&after) },
            };
            self.part(&child, Some((&block, i)))?;
            std::mem::swap(&mut bound, &mut after);
        }
        Ok(())
    }

    /// Merges the changes that are for a leaf into it.
    fn leaf(&mut self, part: &Part<'_>) -> Result<()> {
        self.weaver.begin(part.low);
        self.bury(part.at.extent(), part.at.birth)?;
        self.counts.leaves = self.counts.leaves.saturating_sub(1);
        let tree = self.tree;
        let held = tree.leaf(part.at.child(), Step::Forward, &mut self.ahead)?;
        let bytes = tree.bytes(&held);
        let block = Block::trusted(bytes);
        block.start_key(&mut self.key);
        let mut next = 0;
        while self.changes_before(part.high) {
            let key = self.changes.entries.key();
            let (index, is_old) = block.search(key);
            let key_len = key.len();
            self.copy(&block, bytes, next, index)?;
            next = next.max(index);
            if is_old && next == index {
                self.forget(key_len, block.kind(index), block.value(index))?;
                next += 1;
            }
            self.take_change()?;
        }
        self.copy(&block, bytes, next, block.count())
    }

    /// Copies entries of an old leaf, but for those that are deleted.
    fn copy(&mut self, block: &Block<'_>, bytes: &[u8], from: usize, to: usize) -> Result<()> {
        let mut key = std::mem::take(&mut self.key);
        for i in from..to {
            let (start, end) = block.read_into(i, &mut key);
            let (kind, value) = (block.kind(i), bytes.get(start..end).unwrap_or_default());
            if !self.changes.deleted.is_empty() && self.changes.deleted.covering(&key).is_some() {
                self.forget(key.len(), kind, value)?;
            } else if kind == EntryKind::Far {
                let pointer = self.moved(value)?;
                self.weaver.entry(&key, kind, &pointer)?;
            } else {
                self.weaver.entry(&key, kind, value)?;
            }
        }
        self.key = key;
        Ok(())
    }

    /// Where a value that lies apart will be: where it is, unless those pages are to be left.
    fn moved(&mut self, pointer: &[u8]) -> Result<Vec<u8>> {
        let far = self.tree.far_pages(pointer)?;
        if !self.is_beyond(far.extent(self.weaver.out.page_bytes())) {
            return Ok(pointer.to_vec());
        }
        let value = self.tree.read_far(&far)?;
        self.bury_far(&far)?;
        Ok(self.weaver.far(&value)?.to_bytes().to_vec())
    }

    /// Takes over all changes below `high`.
    fn take_changes(&mut self, high: Option<&[u8]>) -> Result<()> {
        while self.changes_before(high) {
            self.take_change()?;
        }
        Ok(())
    }

    #[inline]
    fn take_change(&mut self) -> Result<()> {
        let entries = &mut *self.changes.entries;
        if entries.kind() == Kind::Put {
            let (key, value) = entries.entry()?;
            self.counts.entries += 1;
            self.counts.raw_bytes += (key.len() + value.len()) as u64;
            self.absorbed += (key.len() + value.len()) as u64;
            self.weaver.put(key, value)?;
        } else {
            self.absorbed += entries.key().len() as u64;
        }
        entries.next()
    }

    /// An old entry goes.
    fn forget(&mut self, key_len: usize, kind: EntryKind, value: &[u8]) -> Result<()> {
        let mut len = key_len + value.len();
        if kind == EntryKind::Far {
            let far = self.tree.far_pages(value)?;
            len = key_len + far.len as usize;
            self.bury_far(&far)?;
        }
        self.counts.entries = self.counts.entries.saturating_sub(1);
        self.counts.raw_bytes = self.counts.raw_bytes.saturating_sub(len as u64);
        Ok(())
    }

    /// A part of the old tree goes. Of leaves only those are read whose values lie apart.
    fn drop_part(&mut self, at: PageRef, level: u8) -> Result<()> {
        self.bury(at.extent(), at.birth)?;
        let tree = self.tree;
        if level > 0 {
            self.counts.branches = self.counts.branches.saturating_sub(1);
            let block = tree.branch(at.child(), level)?;
            return (0..block.count())
                .try_for_each(|i| self.drop_part(PageRef::of(block.child(i, 0)), level - 1));
        }
        self.counts.leaves = self.counts.leaves.saturating_sub(1);
        if !at.far {
            let (entries, bytes) = self.average;
            self.counts.entries = self.counts.entries.saturating_sub(entries);
            self.counts.raw_bytes = self.counts.raw_bytes.saturating_sub(bytes);
            self.counts.estimated = true;
            return Ok(());
        }
        let held = tree.leaf_at(at.child())?;
        let block = Block::trusted(tree.bytes(&held));
        let mut key = Vec::new();
        block.start_key(&mut key);
        (0..block.count()).try_for_each(|i| {
            block.read_into(i, &mut key);
            self.forget(key.len(), block.kind(i), block.value(i))
        })
    }

    fn is_beyond(&self, extent: Extent) -> bool {
        self.changes.leave.is_some_and(|limit| extent.end() > limit)
    }

    /// Whether anything of a part lies in the pages to be left.
    fn is_to_leave(&mut self, at: PageRef, level: u8) -> Result<bool> {
        if self.changes.leave.is_none() {
            return Ok(false);
        }
        if self.is_beyond(at.extent()) {
            return Ok(true);
        }
        self.looked += 1;
        if self.looked > LOOKS * u64::from(self.tree.described().pages) {
            return Err(self.tree.corrupt(at.child(), MORE));
        }
        if level > 0 {
            let tree = self.tree;
            let block = tree.branch(at.child(), level)?;
            for i in 0..block.count() {
                if self.is_to_leave(PageRef::of(block.child(i, 0)), level - 1)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        if !at.far {
            return Ok(false);
        }
        let held = self.tree.leaf_at(at.child())?;
        let block = Block::trusted(self.tree.bytes(&held));
        for i in (0..block.count()).filter(|i| block.kind(*i) == EntryKind::Far) {
            let far = self.tree.far_pages(block.value(i))?;
            if self.is_beyond(far.extent(self.weaver.out.page_bytes())) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next version does not reach these pages.
    fn bury(&mut self, extent: Extent, birth: u32) -> Result<()> {
        let described = self.tree.described();
        // Keeps a tree that reaches pages twice from being walked for ever.
        self.visited += 1;
        if self.visited > u64::from(described.pages) {
            let at = PageRef { page: extent.page, pages: 1, far: false, birth };
            return Err(self.tree.corrupt(at.child(), MORE));
        }
        let born = generation_of(birth, described.generation);
        match self.dead.last_mut() {
            Some(last) if last.born == born && last.extent.end() == extent.page => {
                last.extent.pages += extent.pages;
            }
            _ => self.dead.push(Dead { extent, born }),
        }
        Ok(())
    }

    fn bury_far(&mut self, far: &FarPages) -> Result<()> {
        let extent = far.extent(self.weaver.out.page_bytes());
        self.counts.far_pages = self.counts.far_pages.saturating_sub(extent.pages.into());
        self.bury(extent, far.birth)
    }
}
