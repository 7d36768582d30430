//! Verifying a version of a tree: every page it reaches read from the file again.

use super::{Extent, Extents, FreeList, PageRef, PageTree};
use crate::{
    Result,
    error::Error,
    sorted::{
        block::{Block, EntryKind},
        tree::Tree,
    },
};

impl PageTree {
    /// Reads every page this version reaches from the file, whatever is mapped or cached, and
    /// checks checksums, births, the order of keys, the bounds in branches, the counts, and that
    /// every page is reached once or free.
    pub(crate) fn verify(&self) -> Result<()> {
        let file = self.file();
        super::check_header(&*file.file, file.name(), file.id, file.page_bytes)?;
        if file.read(0, file.page_bytes)? != super::encode_header(file.id, file.page_bytes) {
            return Err(file.corrupt(0, "the header's page holds something else"));
        }
        let mut walk =
            Walk { tree: self, last_key: None, reached: Vec::new(), counts: Default::default() };
        if let Some(root) = self.root() {
            walk.visit(PageRef::of(root.top), root.height, None, None)?;
        }
        if let FreeList::Apart(far) = &self.described().free {
            walk.reached.push(far.extent(file.page_bytes));
        }
        walk.finish()
    }
}

/// A walk over all blocks in order, and what it has counted.
struct Walk<'a> {
    tree: &'a PageTree,
    last_key: Option<Vec<u8>>,
    reached: Vec<Extent>,
    counts: super::Counts,
}

impl Walk<'_> {
    fn corrupt(&self, at: PageRef, what: &str) -> Error {
        let file = self.tree.file();
        file.corrupt(file.offset(at.page), what)
    }

    /// Checks the block at `at`, of `level`, and all below it. Its keys lie in `low..high`; in
    /// the leftmost block of a level there may be smaller ones, so `low` is none.
    fn visit(
        &mut self,
        at: PageRef,
        level: u8,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
    ) -> Result<()> {
        let bytes = self.tree.read_block(at, level)?;
        self.reached.push(at.extent());
        // Keeps a tree that reaches pages twice from being walked for ever.
        if self.reached.len() as u64 > u64::from(self.tree.described().pages) {
            return Err(self.corrupt(at, "more pages are reached than there are"));
        }
        let block = Block::trusted(&bytes);
        if level == 0 {
            return self.leaf(&block, at, low, high);
        }
        self.counts.branches += 1;
        let mut bounds = Vec::with_capacity(block.count());
        for i in 0..block.count() {
            let mut key = Vec::new();
            block.start_key(&mut key);
            block.read_into(i, &mut key);
            bounds.push(key);
        }
        for (i, bound) in bounds.iter().enumerate() {
            let is_inside = high.is_none_or(|high| bound.as_slice() < high);
            let is_above = i == 0 || low.is_none_or(|low| bound.as_slice() >= low);
            if !is_inside || !is_above {
                return Err(self.corrupt(at, "a bound in a branch block is outside its own"));
            }
            let low = if i == 0 { low } else { Some(bound.as_slice()) };
            let high = bounds.get(i + 1).map(Vec::as_slice).or(high);
            self.visit(PageRef::of(block.child(i, 0)), level - 1, low, high)?;
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        block: &Block<'_>,
        at: PageRef,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
    ) -> Result<()> {
        self.counts.leaves += 1;
        let mut key = Vec::new();
        block.start_key(&mut key);
        let mut has_far = false;
        for i in 0..block.count() {
            block.read_into(i, &mut key);
            let outside = low.is_some_and(|low| key.as_slice() < low)
                || high.is_some_and(|high| key.as_slice() >= high);
            if outside {
                return Err(self.corrupt(at, "a key lies outside the bounds of its leaf"));
            }
            let mut value_len = block.value(i).len();
            match block.kind(i) {
                EntryKind::Put => {}
                EntryKind::Delete => {
                    return Err(self.corrupt(at, "a tree has no deletes, but there is one"));
                }
                EntryKind::Far => {
                    has_far = true;
                    value_len = self.far(block.value(i))?;
                }
            }
            self.counts.entries += 1;
            self.counts.raw_bytes += (key.len() + value_len) as u64;
        }
        if has_far != at.far {
            return Err(self.corrupt(at, "a branch is wrong about values that lie apart"));
        }
        let mut first = Vec::new();
        block.start_key(&mut first);
        block.read_into(0, &mut first);
        if self.last_key.as_ref().is_some_and(|last| *last >= first) {
            return Err(self.corrupt(at, "leaves are not in the order of their keys"));
        }
        self.last_key = Some(key);
        Ok(())
    }

    /// Checks a value that lies apart; its length.
    fn far(&mut self, pointer: &[u8]) -> Result<usize> {
        let far = self.tree.far_pages(pointer)?;
        let extent = far.extent(self.tree.file().page_bytes);
        self.counts.far_pages += u64::from(extent.pages);
        self.reached.push(extent);
        self.tree.read_far(&far).map(|value| value.len())
    }

    /// Checks the counts, and that pages are reached once or free.
    fn finish(self) -> Result<()> {
        let (tree, file) = (self.tree, self.tree.file());
        let said = tree.described();
        let twice = |page: u32| file.corrupt(file.offset(page), "a page is used twice");
        let reached = Extents::join(self.reached).map_err(twice)?;
        let missing = reached.complement(1, said.pages);
        let free = tree.free()?;
        if missing != free {
            let differs = missing.as_slice().iter().zip(free.as_slice()).find(|(a, b)| a != b);
            let page = differs.map_or(0, |(a, b)| a.page.min(b.page));
            let what = "a page is neither used nor free, or both";
            return Err(file.corrupt(file.offset(page), what));
        }
        let mut counts = said.counts;
        if counts.estimated {
            (counts.entries, counts.raw_bytes) = (self.counts.entries, self.counts.raw_bytes);
        }
        counts.estimated = false;
        if counts != self.counts {
            return Err(file.corrupt(0, "the tree holds something else than the manifest says"));
        }
        Ok(())
    }
}
