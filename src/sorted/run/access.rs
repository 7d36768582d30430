//! Reaching a run's blocks: in the mapping, or through the cache.

use super::{
    Lent, Run, RunFile,
    format::{LINES_A_PAGE, PACKED_HEADER, PACKED_MAX, PAGE, Packed},
};
use crate::{
    Result, Value,
    cache::Frame,
    codec::{decompress, prefetch},
    error::Error,
    sorted::{
        FarValue, FileId, Pointer, RangeSet,
        block::{Block, Child, MAX_BLOCK, is_sealed, place},
        filter::{LINE, line_may_contain, line_of},
        tree::{Root, Step, Tree},
    },
    value::Owner,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Lines of a leaf asked for as soon as its place is known: its header and most of its heads.
const LEAF_LINES: usize = 12;
/// How much of a cached file a cursor reads ahead at first, and at most.
const WINDOW_MIN: usize = 32 << 10;
const WINDOW_MAX: usize = 256 << 10;
/// Leaves in a row before a cursor reads ahead.
const STREAK: u32 = 2;
/// The longest value that may push other things out of the cache.
const CACHED_VALUE_MAX: usize = 64 << 10;

/// One bit for each unit of a file: whether what begins there has been checked.
///
/// Nothing is published through a bit (the bytes were there before), hence `Relaxed`: at worst a
/// block is checked twice.
pub(crate) struct Checked {
    bits: Box<[AtomicU64]>,
    shift: u32,
}

impl Checked {
    /// For `len` bytes of blocks of `block_bytes`, a power of two, and filter pages.
    pub(crate) fn new(len: u64, block_bytes: usize) -> Self {
        let shift = block_bytes.min(PAGE).trailing_zeros();
        let words = (len >> shift).div_ceil(64) as usize;
        let words = if len == 0 { 0 } else { words + 1 };
        Self { bits: (0..words).map(|_| AtomicU64::new(0)).collect(), shift }
    }

    #[inline(always)]
    pub(crate) fn get(&self, at: usize) -> bool {
        let unit = at >> self.shift;
        self.bits.get(unit / 64).is_some_and(|word| word.load(Relaxed) >> (unit % 64) & 1 == 1)
    }

    pub(crate) fn set(&self, at: usize) {
        let unit = at >> self.shift;
        if let Some(word) = self.bits.get(unit / 64) {
            word.fetch_or(1 << (unit % 64), Relaxed);
        }
    }

    /// Forgets `len` bytes at `at`, which are about to be shown to readers anew.
    pub(crate) fn clear(&self, at: usize, len: usize) {
        for unit in at >> self.shift..(at + len) >> self.shift {
            if let Some(word) = self.bits.get(unit / 64) {
                word.fetch_and(!(1 << (unit % 64)), Relaxed);
            }
        }
    }

    /// Takes over what `other`, of the beginning of the same bytes, remembers.
    pub(crate) fn copy_from(&self, other: &Self) {
        for (to, from) in self.bits.iter().zip(&other.bits) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }
}

/// Bytes of a run, and what keeps them where they are.
pub(crate) enum Held {
    /// They lie in the run's mapping.
    Mapped { at: usize, len: usize },
    /// They are a frame.
    Frame(Arc<Frame>),
    /// They lie in what a cursor read ahead.
    Ahead { window: Arc<Frame>, at: usize, len: usize },
    /// They lie in the mapping of another run's file. (Boxed, to keep the others short.)
    Lent(Box<Value>),
}

/// What a cursor has read ahead.
#[derive(Default)]
pub(crate) struct Ahead {
    /// Leaves that followed each other without a gap.
    streak: u32,
    /// Where the last leaf ended.
    end: u64,
    window: Option<(u64, Arc<Frame>)>,
    /// How long the last window was.
    len: usize,
}

impl Run {
    /// Where in the file the leaf is; `None` if that is not among the leaves.
    #[inline(always)]
    pub(super) fn leaf_place(&self, at: Child) -> Option<(u64, usize)> {
        let offset = u64::from(at.unit) * self.footer.leaf_unit() as u64;
        let end = offset.checked_add(u64::from(at.len))?;
        (end <= self.leaves_end()).then_some((offset, at.len as usize))
    }

    /// Where leaves and far values end. (A root that is a leaf is followed by no branches.)
    #[inline(always)]
    pub(super) fn leaves_end(&self) -> u64 {
        self.footer.branches_at
    }

    pub(super) fn no_leaf(&self, at: Child) -> Error {
        self.corrupt(at, "a branch block points outside the leaves")
    }

    /// Checks the block of `level` in `bytes`, which are those of the file at `offset`.
    pub(super) fn check<'a>(&self, bytes: &'a [u8], offset: u64, level: u8) -> Result<Block<'a>> {
        if !is_sealed(bytes, place(self.meta.file, offset)) {
            return Err(self.corrupt_at(offset, "a block's checksum does not match"));
        }
        Block::check(bytes, level).map_err(|flaw| self.corrupt_at(offset, flaw))
    }

    /// The block in the mapping at `at`, checked if it has not been.
    #[inline(always)]
    fn mapped_block<'a>(
        &self,
        map: &'a [u8],
        at: usize,
        len: usize,
        level: u8,
    ) -> Result<Block<'a>> {
        let bytes = map.get(at..at + len).unwrap_or_default();
        if self.checked.get(at) {
            let block = Block::trusted(bytes);
            if block.level() == level {
                return Ok(block);
            }
        }
        self.first_use(bytes, at, level)
    }

    #[cold]
    #[inline(never)]
    fn first_use<'a>(&self, bytes: &'a [u8], at: usize, level: u8) -> Result<Block<'a>> {
        let block = self.check(bytes, at as u64, level)?;
        self.checked.set(at);
        Ok(block)
    }

    /// The mapping, if leaves lie in it as they are.
    #[inline(always)]
    pub(super) fn plain_map(&self) -> Option<&[u8]> {
        self.map.as_deref().filter(|_| !self.footer.is_packed())
    }

    /// The leaf at `at`, from the mapping or the cache.
    #[inline(always)]
    pub(super) fn held_leaf(&self, at: Child) -> Result<Held> {
        let (offset, len) = self.leaf_place(at).ok_or_else(|| self.no_leaf(at))?;
        match &self.map {
            Some(map) if !self.footer.is_packed() => {
                let start = offset as usize;
                (0..LEAF_LINES).for_each(|line| prefetch(map, start + line * LINE));
                self.mapped_block(map, start, len, 0)?;
                Ok(Held::Mapped { at: start, len })
            }
            _ => self.cached_leaf(offset, len).map(Held::Frame),
        }
    }

    fn cached_leaf(&self, offset: u64, len: usize) -> Result<Arc<Frame>> {
        self.file.cache.get_or_load(self.meta.file, offset, || self.load_leaf(offset, len))
    }

    /// Reads and checks the leaf of `len` bytes in the file at `offset`.
    fn load_leaf(&self, offset: u64, len: usize) -> Result<Arc<Frame>> {
        match &self.map {
            Some(map) if self.footer.is_packed() => {
                let start = offset as usize;
                self.unpack_leaf(map.get(start..start + len).unwrap_or_default(), offset)
            }
            _ => self.read_leaf(offset, len),
        }
    }

    /// The same, from the file even if it is mapped.
    pub(super) fn read_leaf(&self, offset: u64, len: usize) -> Result<Arc<Frame>> {
        if len > PACKED_MAX {
            return Err(self.corrupt_at(offset, "a leaf is longer than a block can be"));
        }
        let bytes = self.read(offset, len)?;
        if self.footer.is_packed() {
            return self.unpack_leaf(&bytes, offset);
        }
        self.check(&bytes, offset, 0)?;
        Ok(Frame::new(bytes))
    }

    fn unpack_leaf(&self, stored: &[u8], offset: u64) -> Result<Arc<Frame>> {
        if !is_sealed(stored, place(self.meta.file, offset)) {
            return Err(self.corrupt_at(offset, "a block's checksum does not match"));
        }
        let packed = Packed::read(stored);
        let plain = packed.and_then(|p| decompress(p.compression, p.bytes, p.len));
        let plain = plain.ok_or_else(|| self.corrupt_at(offset, "a block cannot be unpacked"))?;
        Block::check(&plain, 0).map_err(|flaw| self.corrupt_at(offset, flaw))?;
        Ok(Frame::new(plain))
    }

    /// The leaf at `at` for a cursor that walks forward through a file that is not mapped: reads
    /// more and more at once while leaves follow each other, past the cache.
    fn leaf_ahead(&self, at: Child, ahead: &mut Ahead) -> Result<Held> {
        let (offset, len) = self.leaf_place(at).ok_or_else(|| self.no_leaf(at))?;
        let gap = offset.wrapping_sub(ahead.end);
        ahead.streak = if gap < self.footer.leaf_unit() as u64 { ahead.streak + 1 } else { 0 };
        ahead.end = offset + len as u64;
        if ahead.streak < STREAK {
            (ahead.window, ahead.len) = (None, WINDOW_MIN);
            return self.held_leaf(at);
        }
        if let Some(held) = self.leaf_in_window(offset, len, ahead)? {
            return Ok(held);
        }
        if let Some(frame) = self.file.cache.get(self.meta.file, offset) {
            return Ok(Held::Frame(frame));
        }
        let left = usize::try_from(self.leaves_end() - offset).unwrap_or(usize::MAX);
        let window = self.read(offset, ahead.len.max(len).min(left))?;
        ahead.window = Some((offset, Frame::new(window)));
        ahead.len = (ahead.len * 2).min(WINDOW_MAX);
        match self.leaf_in_window(offset, len, ahead)? {
            Some(held) => Ok(held),
            None => self.held_leaf(at),
        }
    }

    /// The leaf, if it lies in what has been read ahead.
    fn leaf_in_window(&self, offset: u64, len: usize, ahead: &Ahead) -> Result<Option<Held>> {
        let Some((start, window)) = &ahead.window else { return Ok(None) };
        let Some(at) = offset.checked_sub(*start).map(|at| at as usize) else { return Ok(None) };
        let Some(bytes) = window.bytes().get(at..).and_then(|rest| rest.get(..len)) else {
            return Ok(None);
        };
        if self.footer.is_packed() {
            return self.unpack_leaf(bytes, offset).map(|frame| Some(Held::Frame(frame)));
        }
        self.check(bytes, offset, 0)?;
        Ok(Some(Held::Ahead { window: window.clone(), at, len }))
    }

    /// The branch block in the file at `offset`, read once and kept.
    fn kept_branch(&self, offset: u64, len: usize, level: u8) -> Result<Block<'_>> {
        let unit = (offset - self.footer.branches_at) / self.footer.block_bytes as u64;
        let slot = usize::try_from(unit).ok().and_then(|unit| self.branches.get(unit));
        let slot = slot.ok_or_else(|| self.corrupt_at(offset, "a branch lies nowhere"))?;
        let frame = match slot.get() {
            Some(frame) => frame,
            None => {
                let bytes = self.read(offset, len)?;
                self.check(&bytes, offset, level)?;
                slot.get_or_init(|| Frame::new(bytes))
            }
        };
        let block = Block::trusted(frame.bytes());
        if block.level() != level {
            return Err(self.corrupt_at(offset, "a block is of two levels"));
        }
        Ok(block)
    }

    /// Whether the filter lets a key of this hash pass.
    #[inline(always)]
    pub(super) fn may_contain(&self, hash: u64) -> Result<bool> {
        let lines = self.footer.filter_lines as usize;
        if lines == 0 {
            return Ok(true);
        }
        let line = line_of(hash, lines);
        let page = self.footer.filter_at + (line / LINES_A_PAGE * PAGE) as u64;
        let within = (line % LINES_A_PAGE + 1) * LINE;
        let probes = self.footer.filter_probes;
        let Some(map) = &self.map else {
            let frame =
                self.file.cache.get_or_load(self.meta.file, page, || self.load_page(page))?;
            let line = frame.bytes().get(within..).unwrap_or_default();
            return Ok(line_may_contain(line, hash, probes));
        };
        let at = page as usize;
        if !self.checked.get(at) {
            self.first_use_of_page(map, at)?;
        }
        let line = map.get(at + within..at + within + LINE).unwrap_or_default();
        Ok(line_may_contain(line, hash, probes))
    }

    fn load_page(&self, at: u64) -> Result<Arc<Frame>> {
        let page = self.read(at, PAGE)?;
        self.check_page(&page, at)?;
        Ok(Frame::new(page))
    }

    #[cold]
    #[inline(never)]
    fn first_use_of_page(&self, map: &[u8], at: usize) -> Result<()> {
        self.check_page(map.get(at..at + PAGE).unwrap_or_default(), at as u64)?;
        self.checked.set(at);
        Ok(())
    }

    pub(super) fn check_page(&self, page: &[u8], at: u64) -> Result<()> {
        if is_sealed(page, place(self.meta.file, at)) {
            return Ok(());
        }
        Err(self.corrupt_at(at, "a filter page's checksum does not match"))
    }

    /// Loads the filter line of `hash` into the processor's cache, ahead of a look-up.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        let lines = self.footer.filter_lines as usize;
        if let (Some(map), true) = (&self.map, lines > 0) {
            let line = line_of(hash, lines);
            let page = self.footer.filter_at as usize + line / LINES_A_PAGE * PAGE;
            prefetch(map, page + (line % LINES_A_PAGE + 1) * LINE);
        }
    }

    /// Where the value lies to which an entry points.
    fn place_of(&self, pointer: &[u8]) -> Result<(&Arc<RunFile>, FarValue)> {
        let Pointer { far, lender } = Pointer::from_bytes(pointer)
            .ok_or_else(|| self.corrupt_at(0, "an entry says in no way where its value is"))?;
        Ok((self.lender(lender)?, far))
    }

    /// The file in which values lie: its own, or another one that it is attached to.
    pub(super) fn lender(&self, lender: Option<FileId>) -> Result<&Arc<RunFile>> {
        let Some(lender) = lender else { return Ok(&self.file) };
        let lenders = self.lenders.get().map_or(&[][..], |lenders| lenders);
        let at = lenders.binary_search_by_key(&lender, |file| file.id());
        at.ok().and_then(|at| lenders.get(at)).ok_or_else(|| self.no_lender(lender))
    }
}

impl RunFile {
    /// The value that lies apart at `far`.
    fn held_value(&self, far: &FarValue) -> Result<Held> {
        if !self.holds_value(far) {
            return Err(self.corrupt_at(far.offset, "a value lies outside the file"));
        }
        let (at, len) = (far.offset as usize, far.stored as usize);
        if let Some(map) = &self.map {
            let stored = map.get(at..at + len).unwrap_or_default();
            if !far.is_packed() {
                self.check_value(far, stored)?;
                return Ok(Held::Mapped { at, len });
            }
            return self.unpack_value(far, stored).map(Held::Frame);
        }
        let load = || {
            let stored = self.read(far.offset, len)?;
            if far.is_packed() {
                return self.unpack_value(far, &stored);
            }
            self.check_value(far, &stored)?;
            Ok(Frame::new(stored))
        };
        if far.len as usize > CACHED_VALUE_MAX {
            return load().map(Held::Frame);
        }
        self.cache.get_or_load(self.id(), far.offset, load).map(Held::Frame)
    }
}

impl Tree for Run {
    type Held = Held;
    type Ahead = Ahead;

    #[inline(always)]
    fn root(&self) -> Option<Root> {
        self.footer.root
    }

    #[inline(always)]
    fn child_len(&self) -> u32 {
        self.footer.block_bytes as u32
    }

    #[inline(always)]
    fn branch(&self, at: Child, level: u8) -> Result<Block<'_>> {
        let offset = u64::from(at.unit) * self.footer.block_bytes as u64;
        let len = at.len as usize;
        let end = offset + u64::from(at.len);
        if offset < self.footer.branches_at || end > self.footer.branches_end || len > MAX_BLOCK {
            return Err(self.corrupt_at(offset, "a branch block points outside the branches"));
        }
        match &self.map {
            Some(map) => self.mapped_block(map, offset as usize, len, level),
            None => self.kept_branch(offset, len, level),
        }
    }

    fn leaf(&self, at: Child, step: Step, ahead: &mut Ahead) -> Result<Held> {
        if self.map.is_none() && step == Step::Forward {
            return self.leaf_ahead(at, ahead);
        }
        let held = self.held_leaf(at)?;
        let end = self.leaf_place(at).map_or(0, |(offset, len)| offset + len as u64);
        *ahead = Ahead { end, len: WINDOW_MIN, ..Ahead::default() };
        Ok(held)
    }

    #[inline(always)]
    fn leaf_at(&self, at: Child) -> Result<Held> {
        self.held_leaf(at)
    }

    #[inline(always)]
    fn bytes<'a>(&'a self, held: &'a Held) -> &'a [u8] {
        match held {
            Held::Mapped { at, len } => {
                let map = self.map.as_deref().unwrap_or_default();
                map.get(*at..*at + *len).unwrap_or_default()
            }
            Held::Frame(frame) => frame.bytes(),
            Held::Ahead { window, at, len } => {
                window.bytes().get(*at..*at + *len).unwrap_or_default()
            }
            Held::Lent(value) => value.as_slice(),
        }
    }

    fn pin(self: &Arc<Self>, held: &Held, bytes: &[u8]) -> Value {
        match held {
            Held::Mapped { .. } => Value::pinned(&self.file, bytes),
            Held::Frame(frame) => Value::pinned(frame, bytes),
            Held::Lent(value) => Value::clone(value),
            // A pin would keep all of the window.
            Held::Ahead { .. } => Value::copied(bytes),
        }
    }

    fn far(&self, pointer: &[u8]) -> Result<Held> {
        let (file, far) = self.place_of(pointer)?;
        match file.held_value(&far)? {
            Held::Mapped { at, len } if !Arc::ptr_eq(file, &self.file) => {
                let bytes = file.bytes().get(at..at + len).unwrap_or_default();
                Ok(Held::Lent(Box::new(Value::pinned(file, bytes))))
            }
            held => Ok(held),
        }
    }

    fn lent(&self, pointer: &[u8]) -> Option<Lent> {
        // What is damaged is found out by whoever reads it.
        let (lender, far) = self.place_of(pointer).ok()?;
        lender.holds_value(&far).then(|| Lent { lender: lender.clone(), far })
    }

    /// Leaves lie in the file as their keys ascend.
    fn may_follow(&self, first: Child, second: Child) -> bool {
        first.unit < second.unit
    }

    #[inline(always)]
    fn prefetch_block(&self, at: Child, level: u8) {
        let Some(map) = self.plain_map() else { return };
        let lines = if level == 0 { LEAF_LINES } else { 1 };
        let start = at.unit as usize * self.footer.block_bytes;
        (0..lines).for_each(|line| prefetch(map, start + line * LINE));
    }

    #[inline(always)]
    fn peek(&self, at: Child) -> &[u8] {
        match (self.plain_map(), self.leaf_place(at)) {
            (Some(map), Some((offset, len))) => {
                let start = offset as usize;
                map.get(start..start + len).unwrap_or_default()
            }
            _ => &[],
        }
    }

    #[inline(always)]
    fn prefetch(&self, held: &Held, at: usize) {
        if let (Held::Mapped { at: start, .. }, Some(map)) = (held, &self.map) {
            prefetch(map, start.wrapping_add(at));
        }
    }

    fn range_deletes(&self) -> &RangeSet {
        &self.range_deletes
    }

    fn corrupt(&self, at: Child, what: &'static str) -> Error {
        self.corrupt_at(u64::from(at.unit) * self.footer.leaf_unit() as u64, what)
    }
}

const _: () = assert!(PACKED_HEADER < LINE);
