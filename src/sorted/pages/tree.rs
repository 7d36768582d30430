//! One version of the tree in a page file, and how its pages are reached.
//!
//! Of a mapped file it borrows its own pages while others are written; that nobody writes to those
//! is the one thing the compiler cannot see, and the reason why there is `unsafe` code here.
#![allow(unsafe_code)]

use super::{
    Counts, Extents, FarPages, FreeList, Mapping, PageFile, PageRef, PageRoot, kept::Kept,
};
use crate::{
    Result, Value,
    cache::Frame,
    codec::prefetch,
    error::Error,
    sorted::{
        Found, Lookup, RangeSet,
        block::{Block, Child, is_sealed, place},
        filter::LINE,
        run::Held,
        tree::{
            Asked, Root, Step, TOGETHER, Tree, TreeCursor, Way, descend, descend_together, find,
        },
    },
    value::Owner,
};
use std::sync::Arc;

/// Lines of a leaf asked for as soon as its place is known: its header and most of its heads.
const LEAF_LINES: usize = 12;
/// How much of a cached file a cursor reads ahead at first, and at most.
const WINDOW_MIN: usize = 32 << 10;
const WINDOW_MAX: usize = 256 << 10;
/// Leaves in a row before a cursor reads ahead.
const STREAK: u32 = 2;
/// A value up to this length is copied: a pin would keep a whole version of the tree, whose pages
/// could not be used again.
const COPIED_MAX: usize = 1 << 10;
/// The longest value that may push other things out of the cache.
const CACHED_VALUE_MAX: usize = 64 << 10;

static NONE: RangeSet = RangeSet::none();

/// One version of a tree. As long as it is there, none of its pages is written.
pub(crate) struct PageTree {
    file: Arc<PageFile>,
    mapping: Option<Arc<Mapping>>,
    described: PageRoot,
    root: Option<Root>,
    pages: u32,
    kept: Kept,
}

/// A value that lies in the mapping, and the version of the tree that keeps it there.
struct Pinned {
    tree: Arc<PageTree>,
    at: usize,
    len: usize,
}

impl Owner for Pinned {
    fn bytes(&self) -> &[u8] {
        self.tree.mapped(self.at, self.len)
    }
}

/// What a cursor has read ahead.
#[derive(Default)]
pub(crate) struct PagesAhead {
    /// Leaves that followed each other without a gap.
    streak: u32,
    /// Where the last leaf ended.
    end: u64,
    window: Option<(u64, Arc<Frame>)>,
    /// How long the last window was.
    len: usize,
}

impl PageTree {
    /// The version that `root` describes.
    pub(crate) fn new(file: Arc<PageFile>, root: PageRoot) -> Arc<Self> {
        Arc::new(Self {
            mapping: file.mapping.load_full(),
            root: root.root,
            pages: root.pages,
            described: root,
            file,
            kept: Kept::default(),
        })
    }

    pub(crate) fn file(&self) -> &Arc<PageFile> {
        &self.file
    }

    /// What the manifest says of it.
    pub(crate) fn described(&self) -> &PageRoot {
        &self.described
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.described.counts
    }

    pub(crate) fn cursor(self: &Arc<Self>) -> TreeCursor<Self> {
        TreeCursor::new(self.clone())
    }

    /// The pages that this version does not reach.
    pub(crate) fn free(&self) -> Result<Extents> {
        match &self.described.free {
            FreeList::Here(extents) => Ok(extents.clone()),
            FreeList::Apart(far) => {
                let bytes = self.read_far(far)?;
                Extents::decode_padded(&bytes, self.pages).ok_or_else(|| {
                    let at = self.file.offset(far.page);
                    self.file.corrupt(at, "the list of free pages does not decode")
                })
            }
        }
    }

    #[inline(always)]
    fn mapped(&self, at: usize, len: usize) -> &[u8] {
        match &self.mapping {
            Some(mapping) => self.bytes_in(mapping, at as u64, len),
            None => &[],
        }
    }

    /// Bytes of pages that this version reaches, as long as it is there.
    #[inline(always)]
    fn bytes_in<'a>(&'a self, mapping: &'a Mapping, at: u64, len: usize) -> &'a [u8] {
        // SAFETY: the one writer writes, and cuts off, only pages that no version reaches that can
        // be read (`PageFile::write`, `PageFile::cut`): a page of this version was dropped at the
        // earliest by the next one, and is taken up again only when this one is gone, here and in
        // other processes (`btree/space.rs`; `tests/model` reads old versions beside new ones).
        // The slice borrows this version.
        unsafe { mapping.map.get(at, len) }.unwrap_or_default()
    }

    /// Where in the file a block lies; `None` if that is outside this version's pages.
    #[inline(always)]
    fn place_of(&self, at: PageRef) -> Option<(u64, usize)> {
        let inside = at.page > 0 && at.page.checked_add(at.pages)? <= self.pages;
        inside.then(|| (self.file.offset(at.page), at.pages as usize * self.file.page_bytes))
    }

    fn outside(&self, at: PageRef) -> Error {
        let what = "a branch block points outside the pages in use";
        self.file.corrupt(self.file.offset(at.page), what)
    }

    /// Checks the block of `level` in `bytes`, which lie in the file at `offset`.
    pub(super) fn check<'a>(
        &self,
        bytes: &'a [u8],
        offset: u64,
        at: PageRef,
        level: u8,
    ) -> Result<Block<'a>> {
        if !is_sealed(bytes, place(self.file.id, offset)) {
            return Err(self.file.corrupt(offset, "a block's checksum does not match"));
        }
        let block = Block::check(bytes, level).map_err(|flaw| self.file.corrupt(offset, flaw))?;
        if block.stamped() != at.birth {
            return Err(self
                .file
                .corrupt(offset, "a page is of another time than its parent says"));
        }
        Ok(block)
    }

    /// The block in the mapping at `at`, checked if it has not been, and where it lies.
    #[inline(always)]
    fn mapped_block<'a>(
        &'a self,
        mapping: &'a Mapping,
        at: PageRef,
        level: u8,
    ) -> Result<(Block<'a>, usize, usize)> {
        let (offset, len) = self.place_of(at).ok_or_else(|| self.outside(at))?;
        let bytes = self.bytes_in(mapping, offset, len);
        if mapping.checked.get(offset as usize) {
            let block = Block::trusted(bytes);
            if block.level() == level && block.stamped() == at.birth {
                return Ok((block, offset as usize, len));
            }
        }
        Ok((self.first_use(mapping, bytes, offset, at, level)?, offset as usize, len))
    }

    #[cold]
    #[inline(never)]
    fn first_use<'a>(
        &self,
        mapping: &Mapping,
        bytes: &'a [u8],
        offset: u64,
        at: PageRef,
        level: u8,
    ) -> Result<Block<'a>> {
        let block = self.check(bytes, offset, at, level)?;
        mapping.checked.set(offset as usize);
        Ok(block)
    }

    /// The block at `at` through the cache.
    fn cached(&self, at: PageRef, level: u8) -> Result<Arc<Frame>> {
        let frame = self
            .file
            .cache
            .get_or_load(self.file.id, key_of(at), || self.read_block(at, level).map(Frame::new))?;
        if Block::trusted(frame.bytes()).level() == level {
            return Ok(frame);
        }
        Err(self.file.corrupt(self.file.offset(at.page), "a block is of two levels"))
    }

    /// The block at `at`, of `level`, read from the file even if it is mapped, and checked.
    pub(crate) fn read_block(&self, at: PageRef, level: u8) -> Result<Vec<u8>> {
        let (offset, len) = self.place_of(at).ok_or_else(|| self.outside(at))?;
        let bytes = self.file.read(offset, len)?;
        self.check(&bytes, offset, at, level)?;
        Ok(bytes)
    }

    #[inline(always)]
    fn held_leaf(&self, at: PageRef) -> Result<Held> {
        let Some(mapping) = &self.mapping else { return self.cached(at, 0).map(Held::Frame) };
        self.prefetch_lines(at, LEAF_LINES);
        let (_, at, len) = self.mapped_block(mapping, at, 0)?;
        Ok(Held::Mapped { at, len })
    }

    #[inline(always)]
    fn prefetch_lines(&self, at: PageRef, lines: usize) {
        if let Some((offset, len)) = self.place_of(at) {
            let bytes = self.mapped(offset as usize, len);
            (0..lines).for_each(|line| prefetch(bytes, line * LINE));
        }
    }

    /// The leaf at `at` for a cursor that walks forward through a file that is not mapped: reads
    /// more and more at once while leaves follow each other, past the cache.
    fn leaf_ahead(&self, at: PageRef, ahead: &mut PagesAhead) -> Result<Held> {
        let (offset, len) = self.place_of(at).ok_or_else(|| self.outside(at))?;
        ahead.streak = if offset == ahead.end { ahead.streak + 1 } else { 0 };
        ahead.end = offset + len as u64;
        if ahead.streak < STREAK {
            (ahead.window, ahead.len) = (None, WINDOW_MIN);
            return self.held_leaf(at);
        }
        if let Some(held) = self.leaf_in_window(at, offset, len, ahead)? {
            return Ok(held);
        }
        if let Some(frame) = self.file.cache.get(self.file.id, key_of(at)) {
            return Ok(Held::Frame(frame));
        }
        let left = usize::try_from(self.file.offset(self.pages) - offset).unwrap_or(usize::MAX);
        let window = self.file.read(offset, ahead.len.max(len).min(left))?;
        ahead.window = Some((offset, Frame::new(window)));
        ahead.len = (ahead.len * 2).min(WINDOW_MAX);
        match self.leaf_in_window(at, offset, len, ahead)? {
            Some(held) => Ok(held),
            None => self.held_leaf(at),
        }
    }

    /// The leaf, if it lies in what has been read ahead.
    fn leaf_in_window(
        &self,
        page: PageRef,
        offset: u64,
        len: usize,
        ahead: &PagesAhead,
    ) -> Result<Option<Held>> {
        let Some((start, window)) = &ahead.window else { return Ok(None) };
        let Some(at) = offset.checked_sub(*start).map(|at| at as usize) else { return Ok(None) };
        let Some(bytes) = window.bytes().get(at..).and_then(|rest| rest.get(..len)) else {
            return Ok(None);
        };
        self.check(bytes, offset, page, 0)?;
        Ok(Some(Held::Ahead { window: window.clone(), at, len }))
    }

    /// The value at `far`, or its page and length if it is mapped.
    fn held_value(&self, far: &FarPages) -> Result<Held> {
        let (offset, len) = self.place_of_far(far)?;
        if let Some(mapping) = &self.mapping {
            if !mapping.checked.get(offset as usize) {
                self.check_far(far, self.bytes_in(mapping, offset, len))?;
                mapping.checked.set(offset as usize);
            }
            return Ok(Held::Mapped { at: offset as usize, len });
        }
        let load = || self.read_far(far).map(Frame::new);
        if len > CACHED_VALUE_MAX {
            return load().map(Held::Frame);
        }
        let key = u64::from(far.birth) << 32 | u64::from(far.page);
        self.file.cache.get_or_load(self.file.id, key, load).map(Held::Frame)
    }

    /// The bytes of the value at `far`, from the file.
    pub(crate) fn read_far(&self, far: &FarPages) -> Result<Vec<u8>> {
        let (offset, len) = self.place_of_far(far)?;
        let bytes = self.file.read(offset, len)?;
        self.check_far(far, &bytes)?;
        Ok(bytes)
    }

    fn place_of_far(&self, far: &FarPages) -> Result<(u64, usize)> {
        let (offset, len) = (self.file.offset(far.page), far.len as usize);
        if offset + len as u64 > self.file.offset(self.pages) {
            return Err(self.file.corrupt(offset, "a value lies outside the pages in use"));
        }
        Ok((offset, len))
    }

    fn check_far(&self, far: &FarPages, bytes: &[u8]) -> Result<()> {
        if far.is(bytes, self.file.id, self.file.page_bytes) {
            return Ok(());
        }
        let offset = self.file.offset(far.page);
        Err(self.file.corrupt(offset, "a value's checksum does not match"))
    }

    /// Where an entry says that its value is.
    pub(crate) fn far_pages(&self, pointer: &[u8]) -> Result<FarPages> {
        FarPages::from_bytes(pointer)
            .ok_or_else(|| self.file.corrupt(0, "an entry says in no way where its value is"))
    }
}

/// What the cache knows a block by.
fn key_of(at: PageRef) -> u64 {
    u64::from(at.birth) << 32 | u64::from(at.page)
}

impl PageTree {
    /// Looks `key` up. Calls `found` once if the answer is `Found`, and not otherwise.
    #[inline]
    pub(crate) fn get(
        self: &Arc<Self>,
        key: &[u8],
        found: &mut dyn FnMut(Found<'_>),
    ) -> Result<Lookup<()>> {
        let Some(root) = self.root else { return Ok(Lookup::Missing) };
        let at = descend(&**self, root, key)?;
        let mut answer = Lookup::Missing;
        find(self, key, at, &mut |lookup| match lookup {
            Lookup::Missing => {}
            Lookup::Deleted => answer = Lookup::Deleted,
            Lookup::Found(value) => {
                answer = Lookup::Found(());
                found(value);
            }
        })?;
        Ok(answer)
    }

    /// Looks up many keys and tells each one's answer with its index, in no order: where the tree
    /// is mapped they go down side by side.
    pub(crate) fn get_many(
        self: &Arc<Self>,
        keys: &[Asked<'_>],
        answer: &mut dyn FnMut(usize, Lookup<Found<'_>>),
    ) -> Result<()> {
        let Some(root) = self.root else { return Ok(()) };
        for (i, batch) in keys.chunks(TOGETHER).enumerate() {
            let mut ways = [Way::default(); TOGETHER];
            ways.iter_mut().enumerate().for_each(|(index, way)| way.index = index);
            let ways = ways.get_mut(..batch.len()).unwrap_or_default();
            descend_together(&**self, root, batch, ways)?;
            for (way, (key, _)) in ways.iter().zip(batch) {
                let index = i * TOGETHER + way.index;
                find(self, key, way.at, &mut |lookup| answer(index, lookup))?;
            }
        }
        Ok(())
    }
}

impl Tree for PageTree {
    type Held = Held;
    type Ahead = PagesAhead;
    const IN_ANY_ORDER: bool = true;

    #[inline(always)]
    fn root(&self) -> Option<Root> {
        self.root
    }

    /// Every child is told.
    fn child_len(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn branch(&self, at: Child, level: u8) -> Result<Block<'_>> {
        let at = PageRef::of(at);
        match &self.mapping {
            Some(mapping) => Ok(self.mapped_block(mapping, at, level)?.0),
            None => {
                let frame = self.kept.get(key_of(at), || self.cached(at, level))?;
                let block = Block::trusted(frame.bytes());
                if block.level() == level {
                    return Ok(block);
                }
                Err(self.file.corrupt(self.file.offset(at.page), "a block is of two levels"))
            }
        }
    }

    fn leaf(&self, at: Child, step: Step, ahead: &mut PagesAhead) -> Result<Held> {
        let at = PageRef::of(at);
        if self.mapping.is_none() && step == Step::Forward {
            return self.leaf_ahead(at, ahead);
        }
        let held = self.held_leaf(at)?;
        let end = self.place_of(at).map_or(0, |(offset, len)| offset + len as u64);
        *ahead = PagesAhead { end, len: WINDOW_MIN, ..PagesAhead::default() };
        Ok(held)
    }

    #[inline(always)]
    fn leaf_at(&self, at: Child) -> Result<Held> {
        self.held_leaf(PageRef::of(at))
    }

    #[inline(always)]
    fn bytes<'a>(&'a self, held: &'a Held) -> &'a [u8] {
        match held {
            Held::Mapped { at, len } => self.mapped(*at, *len),
            Held::Frame(frame) => frame.bytes(),
            Held::Ahead { window, at, len } => {
                window.bytes().get(*at..*at + *len).unwrap_or_default()
            }
            Held::Lent(value) => value.as_slice(),
        }
    }

    fn pin(self: &Arc<Self>, held: &Held, bytes: &[u8]) -> Value {
        match held {
            Held::Mapped { at, len } if bytes.len() > COPIED_MAX => {
                let pinned = Pinned { tree: self.clone(), at: *at, len: *len };
                Value::pinned(&Arc::new(pinned), bytes)
            }
            Held::Frame(frame) => Value::pinned(frame, bytes),
            Held::Lent(value) => Value::clone(value),
            Held::Mapped { .. } | Held::Ahead { .. } => Value::copied(bytes),
        }
    }

    fn far(&self, pointer: &[u8]) -> Result<Held> {
        self.held_value(&self.far_pages(pointer)?)
    }

    /// Their keys tell.
    fn may_follow(&self, _first: Child, _second: Child) -> bool {
        true
    }

    #[inline(always)]
    fn prefetch_block(&self, at: Child, level: u8) {
        self.prefetch_lines(PageRef::of(at), if level == 0 { LEAF_LINES } else { 1 });
    }

    #[inline(always)]
    fn peek(&self, at: Child) -> &[u8] {
        match self.place_of(PageRef::of(at)) {
            Some((offset, len)) => self.mapped(offset as usize, len),
            None => &[],
        }
    }

    #[inline(always)]
    fn prefetch(&self, held: &Held, at: usize) {
        if let Held::Mapped { at: start, .. } = held {
            // Beyond this leaf lies most often the next.
            prefetch(self.mapped(start.wrapping_add(at), 1), 0);
        }
    }

    fn range_deletes(&self) -> &RangeSet {
        &NONE
    }

    fn corrupt(&self, at: Child, what: &'static str) -> Error {
        self.file.corrupt(self.file.offset(at.unit), what)
    }
}
