//! What can still be read of a damaged tree.
//!
//! The tree leads to the leaves. Where a branch block is lost, the leaves below it are found among
//! the pages that nothing else reaches: a checksum that fits the bytes, the place and the file is
//! proof that a leaf was once written there. Free pages hold leaves of earlier versions, so those
//! that are known to be free are passed over, and of the others the oldest are shown first.

use super::{
    Counts, Extent, Extents, FarPages, FreeList, PageFile, PageRef, PageRoot, PageTree,
    check_header, pages_name, read_header,
};
use crate::{
    Result,
    cache::BlockCache,
    error::Error,
    sorted::{
        FileId, Lost, RunAccess, Span,
        block::{Block, EntryKind, MAX_BLOCK, is_sealed, place},
        not_opened,
        tree::Tree,
    },
    vfs::{Access, Folder},
};
use bytes::Bytes;
use std::sync::Arc;

/// What is done with each entry found.
type Rescue<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

impl PageTree {
    /// Opens the version that `root` describes as far as that is possible, and says what is not.
    pub(crate) fn open_damaged(
        folder: &dyn Folder,
        id: FileId,
        page_bytes: usize,
        root: PageRoot,
    ) -> Result<(Arc<Self>, Vec<Lost>)> {
        let name = pages_name(id);
        let file = folder.open(&name, Access::Read).map_err(|e| not_opened(&name, e))?;
        let keys = Span { start: Bytes::new(), end: None };
        let header = check_header(&*file, &name, id, page_bytes).err();
        let access = RunAccess::Cached(Arc::new(BlockCache::new(0)));
        let file = PageFile::assemble(id, page_bytes, file, &access)?;
        let lost = header.into_iter().map(|error| Lost { error, keys: keys.clone() });
        Ok((PageTree::new(Arc::new(file), root), lost.collect()))
    }

    /// Of a file of which nothing is known: a tree that reaches nothing, so that all there ever
    /// was is looked for.
    pub(crate) fn open_stray(folder: &dyn Folder, id: FileId) -> Result<Arc<Self>> {
        let name = pages_name(id);
        let file = folder.open(&name, Access::Read).map_err(|e| not_opened(&name, e))?;
        let page_bytes = read_header(&*file, &name, id)?;
        let size = file.size().map_err(|e| Error::io("read the length of", &name, e))?;
        let pages = u32::try_from(size / page_bytes as u64).unwrap_or(u32::MAX);
        let access = RunAccess::Cached(Arc::new(BlockCache::new(0)));
        let file = PageFile::assemble(id, page_bytes, file, &access)?;
        let free = FreeList::Here(Extents::default());
        let (generation, counts) = (u64::MAX, Counts::default());
        let root = PageRoot { generation, pages, root: None, counts, free };
        Ok(PageTree::new(Arc::new(file), root))
    }

    /// Shows every entry that can be read, and returns what cannot.
    pub(crate) fn rescue(&self, rescue: &mut Rescue<'_>) -> Result<Vec<Lost>> {
        let everything = Span { start: Bytes::new(), end: None };
        let mut walk = Walk {
            tree: self,
            leaves: Vec::new(),
            reached: Vec::new(),
            lost: Vec::new(),
            has_gap: self.root().is_none() && self.described().generation == u64::MAX,
        };
        if let Some(root) = self.root() {
            walk.visit(PageRef::of(root.top), root.height, &everything);
        }
        if walk.has_gap {
            walk.scan(rescue)?;
        }
        for (at, keys) in std::mem::take(&mut walk.leaves) {
            match self.read_block(at, 0) {
                Ok(bytes) => walk.leaf(&Block::trusted(&bytes), rescue)?,
                Err(error) => walk.lost.push(Lost { error, keys }),
            }
        }
        Ok(walk.lost)
    }
}

/// A walk over what can be reached from the root.
struct Walk<'a> {
    tree: &'a PageTree,
    leaves: Vec<(PageRef, Span)>,
    reached: Vec<Extent>,
    lost: Vec<Lost>,
    /// Whether there may be leaves that no branch names any more.
    has_gap: bool,
}

impl Walk<'_> {
    /// Finds the leaves below the block at `at`, whose keys lie in `keys`.
    fn visit(&mut self, at: PageRef, level: u8, keys: &Span) {
        self.reached.push(at.extent());
        if level == 0 {
            self.leaves.push((at, keys.clone()));
            return;
        }
        let bytes = match self.tree.read_block(at, level) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.has_gap = true;
                self.lost.push(Lost { error, keys: keys.clone() });
                return;
            }
        };
        let block = Block::trusted(&bytes);
        let mut key = Vec::new();
        block.start_key(&mut key);
        let bounds = (0..block.count()).map(|i| {
            block.read_into(i, &mut key);
            Bytes::copy_from_slice(&key)
        });
        let bounds: Vec<Bytes> = bounds.collect();
        for i in 0..block.count() {
            // Branches whose checksums were made to fit may lead to the same pages for ever.
            if self.reached.len() as u64 > u64::from(self.tree.described().pages) {
                return;
            }
            let start = bounds.get(i).filter(|_| i > 0).unwrap_or(&keys.start).clone();
            let end = bounds.get(i + 1).or(keys.end.as_ref()).cloned();
            self.visit(PageRef::of(block.child(i, 0)), level - 1, &Span { start, end });
        }
    }

    fn leaf(&mut self, leaf: &Block<'_>, rescue: &mut Rescue<'_>) -> Result<()> {
        let mut key = Vec::new();
        leaf.start_key(&mut key);
        for i in 0..leaf.count() {
            leaf.read_into(i, &mut key);
            match leaf.kind(i) {
                EntryKind::Put => rescue(&key, leaf.value(i))?,
                EntryKind::Delete => {}
                EntryKind::Far => match self.far(leaf.value(i)) {
                    Ok(value) => rescue(&key, &value)?,
                    Err(error) => {
                        let after = [key.as_slice(), &[0]].concat();
                        let keys = Span::new(key.clone(), Some(after));
                        self.lost.push(Lost { error, keys });
                    }
                },
            }
        }
        Ok(())
    }

    fn far(&self, pointer: &[u8]) -> Result<Vec<u8>> {
        let far: FarPages = self.tree.far_pages(pointer)?;
        self.tree.read_far(&far)
    }

    /// Shows the leaves in pages that are neither reached nor free, the oldest first.
    fn scan(&mut self, rescue: &mut Rescue<'_>) -> Result<()> {
        let mut passed = self.reached.clone();
        passed.extend(self.tree.free().unwrap_or_default().as_slice());
        passed.sort_unstable();
        let mut found = Vec::new();
        let file = self.tree.file();
        let size = file.file.size().map_err(|e| file.failed("read the length of", e))?;
        let end = (size / file.page_bytes as u64).min(self.tree.described().pages.into()) as u32;
        let mut page = 1;
        let mut known = passed.into_iter().peekable();
        while page < end {
            while known.peek().is_some_and(|extent| extent.end() <= page) {
                known.next();
            }
            if known.peek().is_some_and(|extent| extent.page <= page) {
                page += 1;
                continue;
            }
            match self.leaf_at(page, end - page) {
                Some((birth, bytes)) => {
                    page += (bytes.len() / self.tree.file().page_bytes()) as u32;
                    found.push((birth, bytes));
                }
                None => page += 1,
            }
        }
        found.sort_by_key(|(birth, _)| *birth);
        found.iter().try_for_each(|(_, bytes)| self.leaf(&Block::trusted(bytes), rescue))
    }

    /// The leaf that begins at `page`, if one does, and its birth. Its length is tried.
    fn leaf_at(&self, page: u32, left: u32) -> Option<(u32, Vec<u8>)> {
        let file = self.tree.file();
        let at = file.offset(page);
        let most = MAX_BLOCK.min(left as usize * file.page_bytes);
        let bytes = file.read(at, most).ok()?;
        let lens = (1..).map(|pages| pages * file.page_bytes).take_while(|len| *len <= most);
        for len in lens {
            let leaf = bytes.get(..len)?;
            if is_sealed(leaf, place(file.id, at))
                && let Ok(block) = Block::check(leaf, 0)
            {
                return Some((block.stamped(), leaf.to_vec()));
            }
        }
        None
    }
}
