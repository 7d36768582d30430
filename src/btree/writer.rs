//! Writing pages: one stretch after the other, in large pieces.

use super::space::Held;
use crate::{
    Error, Result,
    sorted::{
        BlockBuilder, BranchBuilder, Child, Extent, FarPages, PageFile, PageRef, birth_of, place,
        seal, stamp,
    },
    vfs::Folder,
};
use std::sync::Arc;

/// How much is written at once.
const PIECE: usize = 2 << 20;
/// The first stretch is this long, each following one twice as long, up to the best length: a
/// small change to a small tree does not make its file large.
const FIRST_STRETCH: u32 = 8;

/// Puts blocks and values into pages.
pub(super) struct PageWriter<'a> {
    file: &'a Arc<PageFile>,
    folder: &'a dyn Folder,
    held: Held,
    birth: u32,
    /// Pages are taken from below this one, as long as there are any.
    limit: Option<u32>,
    want: u32,
    most: u32,
    /// What is left of the stretch taken last.
    rest: Extent,
    /// What comes next into the file, at this page.
    buffer: Vec<u8>,
    at: u32,
    branch: Vec<u8>,
    pages_written: u64,
}

impl<'a> PageWriter<'a> {
    pub(super) fn new(
        file: &'a Arc<PageFile>,
        folder: &'a dyn Folder,
        held: Held,
        generation: u64,
        most: u32,
    ) -> Self {
        Self {
            file,
            folder,
            held,
            birth: birth_of(generation),
            limit: None,
            want: FIRST_STRETCH,
            most,
            rest: Extent { page: 0, pages: 0 },
            buffer: Vec::new(),
            at: 0,
            branch: Vec::new(),
            pages_written: 0,
        }
    }

    /// What is wrong with a block of the file.
    pub(super) fn corrupt(&self, at: Child, what: &str) -> Error {
        self.file.corrupt(self.file.offset(at.unit), what)
    }

    /// Has pages below `limit` taken first.
    pub(super) fn stay_below(&mut self, limit: u32) {
        self.limit = Some(limit);
    }

    pub(super) fn page_bytes(&self) -> usize {
        self.file.page_bytes()
    }

    /// The next `pages` in a row.
    fn take(&mut self, pages: u32) -> Result<u32> {
        if self.rest.pages < pages {
            self.flush()?;
            self.held.give_back(self.rest);
            self.rest = Extent { page: 0, pages: 0 };
            self.rest = self.held.take(self.want, pages, self.limit, self.file, self.folder)?;
            self.want = (2 * self.want).min(self.most.max(1));
            self.at = self.rest.page;
        }
        let page = self.rest.page;
        self.rest = Extent { page: page + pages, pages: self.rest.pages - pages };
        self.pages_written += u64::from(pages);
        Ok(page)
    }

    fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.file.write(self.folder, self.at, &self.buffer)?;
            self.at += (self.buffer.len() / self.page_bytes()) as u32;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Seals the block at the end of the buffer, which has `pages` from `page` on.
    fn seal(&mut self, start: usize, page: u32, pages: u32, far: bool) -> Result<Child> {
        let block = self.buffer.get_mut(start..).unwrap_or_default();
        stamp(block, self.birth);
        seal(block, place(self.file.id(), u64::from(page) * self.file.page_bytes() as u64));
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(PageRef { page, pages, far, birth: self.birth }.child())
    }

    fn pages_of(&self, bytes: usize) -> u32 {
        bytes.div_ceil(self.page_bytes()) as u32
    }

    /// Writes a leaf and empties the builder.
    pub(super) fn leaf(&mut self, leaf: &mut BlockBuilder) -> Result<Child> {
        let (far, pages) = (leaf.has_far(), self.pages_of(leaf.size()));
        let page = self.take(pages)?;
        let start = self.buffer.len();
        let len = pages as usize * self.page_bytes();
        leaf.write(&mut self.buffer, |_| len);
        self.seal(start, page, pages, far)
    }

    /// Writes a branch block and empties the builder.
    pub(super) fn branch(&mut self, branch: &mut BranchBuilder, level: u8) -> Result<Child> {
        let page_bytes = self.page_bytes();
        let mut block = std::mem::take(&mut self.branch);
        block.clear();
        branch.write(&mut block, level, page_bytes, |len| len.next_multiple_of(page_bytes));
        let pages = self.pages_of(block.len());
        let page = self.take(pages)?;
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&block);
        self.branch = block;
        self.seal(start, page, pages, false)
    }

    /// Writes a value that lies apart.
    pub(super) fn far(&mut self, value: &[u8]) -> Result<FarPages> {
        let pages = self.pages_of(value.len());
        let page = self.take(pages)?;
        if value.len() >= PIECE {
            self.flush()?;
            self.file.write(self.folder, page, value)?;
            self.at = page + pages;
        } else {
            let end = self.buffer.len() + pages as usize * self.page_bytes();
            self.buffer.extend_from_slice(value);
            self.buffer.resize(end, 0);
            if self.buffer.len() >= PIECE {
                self.flush()?;
            }
        }
        Ok(FarPages::new(self.file.id(), page, self.page_bytes(), self.birth, value))
    }

    /// Writes what waits and gives back what is not needed.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.flush()?;
        self.held.give_back(self.rest);
        self.rest = Extent { page: 0, pages: 0 };
        Ok(())
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// Pages in a row that the caller writes to.
    pub(super) fn reserve(&mut self, pages: u32) -> Result<u32> {
        let page = self.take(pages)?;
        self.finish()?;
        Ok(page)
    }

    /// The pages written, and how many.
    pub(super) fn into_held(self) -> (Held, u64) {
        (self.held, self.pages_written)
    }
}
