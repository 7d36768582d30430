//! Reaching a hash run's pages: in the mapping, or through the cache.

use super::{
    HashRun,
    format::{Extent, PAGE, Spot, UNIT, UNITS_A_PAGE},
};
use crate::{
    Result, Value,
    cache::Frame,
    codec::{decompress, prefetch},
    error::Error,
    sorted::{FarValue, is_sealed, place},
    value::Owner,
};
use std::sync::Arc;

/// How much of a cached file a cursor reads ahead at first, and at most.
const WINDOW_MIN: usize = 32 << 10;
const WINDOW_MAX: usize = 256 << 10;
/// How much of a mapped file a cursor asks for at once.
const EXPECTED: u64 = 2 << 20;
/// Pages in a row before a cursor reads ahead.
const STREAK: u32 = 2;
/// The longest value that may push other things out of the cache.
const CACHED_VALUE_MAX: usize = 64 << 10;

/// Bytes of a run, and what keeps them where they are.
pub(crate) enum Held {
    /// They lie in the run's mapping.
    Mapped { at: usize, len: usize },
    /// They are a frame.
    Frame(Arc<Frame>),
    /// They lie in what a cursor read ahead.
    Ahead { window: Arc<Frame>, at: usize, len: usize },
}

/// A piece of the row of record pages: from its page `start` on.
#[derive(PartialEq)]
pub(super) struct Piece {
    start: u64,
    extent: Extent,
}

impl Piece {
    pub(super) fn all_of(extents: Vec<Extent>) -> Box<[Self]> {
        let mut start = 0;
        let piece = |extent: Extent| {
            let piece = Self { start, extent };
            start += u64::from(extent.pages);
            piece
        };
        extents.into_iter().map(piece).collect()
    }
}

/// What a cursor has read ahead.
#[derive(Default)]
pub(super) struct Ahead {
    /// Pages that followed each other.
    streak: u32,
    /// Where the last page ended.
    end: u64,
    window: Option<(u64, Arc<Frame>)>,
    /// How long the next window is, and up to where a mapping was asked for.
    len: usize,
    expected: u64,
}

impl HashRun {
    /// Where in the file the row's page lies, and where the piece of the row that it is in ends.
    #[inline(always)]
    pub(super) fn page_place(&self, page: u64) -> Option<(u64, u64)> {
        let before = self.pieces.partition_point(|piece| piece.start <= page).checked_sub(1)?;
        let piece = self.pieces.get(before)?;
        let (first, within) = (u64::from(piece.extent.first), page - piece.start);
        let pages = u64::from(piece.extent.pages);
        let (at, end) = ((first + within) * PAGE as u64, (first + pages) * PAGE as u64);
        (within < pages).then_some((at, end))
    }

    /// Where in the file the unit of the row lies: its page, and the place in it.
    #[inline(always)]
    pub(super) fn unit_place(&self, unit: u64) -> Result<(u64, usize)> {
        let page = unit / UNITS_A_PAGE;
        let within = (unit % UNITS_A_PAGE) as usize * UNIT;
        match self.page_place(page) {
            Some((at, _)) => Ok((at, within)),
            None => Err(self.corrupt_at(self.footer.index_at, "the index leads to no record")),
        }
    }

    /// The index page and the place in it of the line of a hash; there is one if there are
    /// records.
    #[inline(always)]
    pub(super) fn line_place(&self, spot: &Spot) -> (u64, usize) {
        let (page, within) = spot.offset();
        (self.footer.index_at + page, within)
    }

    /// The page in the file `at` there, checked.
    #[inline(always)]
    pub(super) fn page(&self, at: u64) -> Result<Held> {
        let Some(map) = &self.map else {
            let load = || self.load_page(at);
            return self.cache.get_or_load(self.meta.file, at, load).map(Held::Frame);
        };
        let at = at as usize;
        if !self.checked.get(at) {
            self.first_use(map, at)?;
        }
        Ok(Held::Mapped { at, len: PAGE })
    }

    #[cold]
    #[inline(never)]
    fn first_use(&self, map: &[u8], at: usize) -> Result<()> {
        self.check_page(map.get(at..at + PAGE).unwrap_or_default(), at as u64)?;
        self.checked.set(at);
        Ok(())
    }

    fn load_page(&self, at: u64) -> Result<Arc<Frame>> {
        let page = self.read(at, PAGE)?;
        self.check_page(&page, at)?;
        Ok(Frame::new(page))
    }

    pub(super) fn check_page(&self, page: &[u8], at: u64) -> Result<()> {
        if is_sealed(page, place(self.meta.file, at)) {
            return Ok(());
        }
        Err(self.corrupt_at(at, "a page's checksum does not match"))
    }

    /// Page `page` of the row for a cursor that walks forward: asks for more and more at once
    /// while pages follow each other, and reads a file that is not mapped past the cache.
    pub(super) fn page_ahead(&self, page: u64, ahead: &mut Ahead) -> Result<(u64, Held)> {
        let (at, end) = self.page_place(page).ok_or_else(|| self.no_page())?;
        ahead.streak = if at == ahead.end { ahead.streak + 1 } else { 0 };
        ahead.end = at + PAGE as u64;
        if ahead.streak < STREAK {
            (ahead.window, ahead.len, ahead.expected) = (None, WINDOW_MIN, 0);
            return Ok((at, self.page(at)?));
        }
        if let Some(map) = &self.map {
            if at >= ahead.expected {
                let len = EXPECTED.min(end - at);
                map.expect(at as usize, len as usize);
                ahead.expected = at + len;
            }
            return Ok((at, self.page(at)?));
        }
        if let Some(held) = self.page_in_window(at, ahead)? {
            return Ok((at, held));
        }
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let window = self.read(at, ahead.len.max(PAGE).min(left))?;
        ahead.window = Some((at, Frame::new(window)));
        ahead.len = (ahead.len * 2).min(WINDOW_MAX);
        match self.page_in_window(at, ahead)? {
            Some(held) => Ok((at, held)),
            None => Ok((at, self.page(at)?)),
        }
    }

    pub(super) fn no_page(&self) -> Error {
        self.corrupt_at(self.footer.extents_at, "there is no such page of records")
    }

    /// The page, if it lies in what has been read ahead.
    fn page_in_window(&self, offset: u64, ahead: &Ahead) -> Result<Option<Held>> {
        let Some((start, window)) = &ahead.window else { return Ok(None) };
        let Some(at) = offset.checked_sub(*start).map(|at| at as usize) else { return Ok(None) };
        let Some(bytes) = window.bytes().get(at..).and_then(|rest| rest.get(..PAGE)) else {
            return Ok(None);
        };
        self.check_page(bytes, offset)?;
        Ok(Some(Held::Ahead { window: window.clone(), at, len: PAGE }))
    }

    /// Asks for the index line of a hash, ahead of a look-up.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some(map) = &self.map {
            let (page, within) = self.line_place(&self.spot(hash));
            prefetch(map, page as usize + within);
        }
    }

    #[inline(always)]
    pub(super) fn spot(&self, hash: u64) -> Spot {
        Spot::of(hash, self.footer.slice, u64::from(self.footer.index_pages))
    }

    /// What lies apart where `pointer` says.
    pub(super) fn apart(&self, pointer: &[u8]) -> Result<Held> {
        let far = FarValue::from_bytes(pointer)
            .ok_or_else(|| self.corrupt_at(0, "a record says in no way where its value is"))?;
        if !self.holds(&far) {
            return Err(self.corrupt_at(far.offset, "a value lies outside the file"));
        }
        let (at, len) = (far.offset as usize, far.stored as usize);
        if let Some(map) = &self.map {
            let stored = map.get(at..at + len).unwrap_or_default();
            if !far.is_packed() {
                self.check_apart(&far, stored)?;
                return Ok(Held::Mapped { at, len });
            }
            return self.unpack(&far, stored).map(Held::Frame);
        }
        let load = || {
            let stored = self.read(far.offset, len)?;
            if far.is_packed() {
                return self.unpack(&far, &stored);
            }
            self.check_apart(&far, &stored)?;
            Ok(Frame::new(stored))
        };
        if far.len as usize > CACHED_VALUE_MAX {
            return load().map(Held::Frame);
        }
        self.cache.get_or_load(self.meta.file, far.offset | APART, load).map(Held::Frame)
    }

    /// Whether it can be where it says: before the index.
    pub(super) fn holds(&self, far: &FarValue) -> bool {
        let end = far.offset.checked_add(u64::from(far.stored));
        end.is_some_and(|end| end <= self.footer.index_at)
    }

    pub(super) fn check_apart(&self, far: &FarValue, stored: &[u8]) -> Result<()> {
        if far.is(stored, self.meta.file) {
            return Ok(());
        }
        Err(self.corrupt_at(far.offset, "a value's checksum does not match"))
    }

    pub(super) fn unpack(&self, far: &FarValue, stored: &[u8]) -> Result<Arc<Frame>> {
        self.check_apart(far, stored)?;
        decompress(self.footer.compression, stored, far.len as usize)
            .map(Frame::new)
            .ok_or_else(|| self.corrupt_at(far.offset, "a value cannot be unpacked"))
    }

    #[inline(always)]
    pub(super) fn bytes<'a>(&'a self, held: &'a Held) -> &'a [u8] {
        match held {
            Held::Mapped { at, len } => {
                let map = self.map.as_deref().unwrap_or_default();
                map.get(*at..*at + *len).unwrap_or_default()
            }
            Held::Frame(frame) => frame.bytes(),
            Held::Ahead { window, at, len } => {
                window.bytes().get(*at..*at + *len).unwrap_or_default()
            }
        }
    }

    /// `bytes`, which lie in what is held, for longer.
    pub(super) fn pin(self: &Arc<Self>, held: &Held, bytes: &[u8]) -> Value {
        match held {
            Held::Mapped { .. } => Value::pinned(self, bytes),
            Held::Frame(frame) => Value::pinned(frame, bytes),
            // A pin would keep all of the window.
            Held::Ahead { .. } => Value::copied(bytes),
        }
    }
}

/// Tells what lies apart from pages in the cache, where a file may only seem to have both at one
/// place.
const APART: u64 = 1 << 63;

impl Owner for HashRun {
    /// The whole mapping.
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}
