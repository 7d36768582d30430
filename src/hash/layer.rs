//! One run of a table: a file, or several for a slice of all hashes each.

use super::run::{HashRun, HashRunCursor, Slice};
use crate::{
    Error, Result, Value,
    sorted::{Cursor, Kind, RangeSet},
    table::HASH_BYTES,
};
use std::sync::Arc;

static NO_RANGES: RangeSet = RangeSet::none();

/// Files that hold slices of one age, which do not overlap.
pub(super) struct Layer {
    age: u64,
    /// By their slices.
    files: Vec<Arc<HashRun>>,
    /// How many first bits of a hash say which slot it belongs to.
    bits: u8,
    /// The file for each value of those bits.
    slots: Box<[Option<Arc<HashRun>>]>,
}

impl Layer {
    /// `files` in any order; `Err` names one that overlaps another.
    pub(super) fn new(age: u64, mut files: Vec<Arc<HashRun>>) -> Result<Self> {
        files.sort_by_key(|run| run.meta().slice.first());
        for pair in files.windows(2) {
            if let [a, b] = pair
                && a.meta().slice.last() >= b.meta().slice.first()
            {
                return Err(Error::corrupt(b.name(), 0, "two files hold the same slice"));
            }
        }
        let bits = files.iter().map(|run| run.meta().slice.bits).max().unwrap_or(0);
        let mut slots = vec![None; 1 << bits];
        for run in &files {
            let slice = run.meta().slice;
            let (first, last) = (slot(slice.first(), bits), slot(slice.last(), bits));
            slots.get_mut(first..=last).unwrap_or_default().fill(Some(run.clone()));
        }
        Ok(Self { age, files, bits, slots: slots.into() })
    }

    pub(super) fn age(&self) -> u64 {
        self.age
    }

    pub(super) fn files(&self) -> &[Arc<HashRun>] {
        &self.files
    }

    /// The file that may hold a hash.
    #[inline(always)]
    pub(super) fn file(&self, hash: u64) -> Option<&Arc<HashRun>> {
        self.slots.get(slot(hash, self.bits))?.as_ref()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|run| run.meta().bytes).sum()
    }

    /// Of keys and values: by them it is decided how finely a run is cut, since what a file takes
    /// beyond would have each merge of small files cut more finely than the one before.
    pub(super) fn raw_bytes(&self) -> u64 {
        self.files.iter().map(|run| run.meta().raw_bytes).sum()
    }

    pub(super) fn entries(&self) -> u64 {
        self.files.iter().map(|run| run.meta().entries).sum()
    }

    /// The slice of the file that has `hash`; where there is none, the largest slice that begins
    /// there and meets no file.
    pub(super) fn slice_at(&self, hash: u64) -> Slice {
        if let Some(run) = self.file(hash) {
            return run.meta().slice;
        }
        let begins = |bits| Slice { bits, number: slot(hash, bits) as u32 };
        let next = self.files.partition_point(|run| run.meta().slice.last() < hash);
        let next = self.files.get(next).map(|run| run.meta().slice.first());
        let is_free =
            |slice: &Slice| slice.first() == hash && next.is_none_or(|next| slice.last() < next);
        (0..self.bits).map(begins).find(is_free).unwrap_or_else(|| begins(self.bits))
    }
}

#[inline(always)]
fn slot(hash: u64, bits: u8) -> usize {
    (hash >> 1 >> (63 - (bits & 63))) as usize
}

/// A cursor over one run: its files one after the other.
pub(super) struct LayerCursor {
    layer: Arc<Layer>,
    /// Which file it is in.
    at: usize,
    cursor: Option<HashRunCursor>,
}

impl LayerCursor {
    pub(super) fn new(layer: Arc<Layer>) -> Self {
        Self { layer, at: 0, cursor: None }
    }

    /// Into file `at`, by `seek`; and if there is nothing, on to the next that has something.
    fn enter(
        &mut self,
        at: usize,
        forward: bool,
        mut seek: impl FnMut(&mut HashRunCursor) -> Result<()>,
    ) -> Result<()> {
        let mut next = Some(at);
        let mut is_first = true;
        while let Some((at, file)) = next.and_then(|at| Some((at, self.layer.files.get(at)?))) {
            let mut cursor = match self.cursor.take() {
                Some(cursor) if self.at == at => cursor,
                _ => file.cursor(),
            };
            match (is_first, forward) {
                (true, _) => seek(&mut cursor)?,
                (false, true) => cursor.seek_first()?,
                (false, false) => cursor.seek_last()?,
            }
            self.at = at;
            let found = cursor.valid();
            self.cursor = Some(cursor);
            if found {
                return Ok(());
            }
            is_first = false;
            next = if forward { Some(at + 1) } else { at.checked_sub(1) };
        }
        Ok(())
    }

    /// Which file a key that begins with its hash would be in, or come before.
    fn file_for(&self, key: &[u8]) -> usize {
        let mut hash = [0; HASH_BYTES];
        hash.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        let hash = u64::from_be_bytes(hash);
        self.layer.files.partition_point(|run| run.meta().slice.last() < hash)
    }

    fn end(&mut self) -> Result<()> {
        self.cursor = None;
        Ok(())
    }
}

impl Cursor for LayerCursor {
    fn seek_first(&mut self) -> Result<()> {
        self.end()?;
        self.enter(0, true, HashRunCursor::seek_first)
    }

    fn seek_last(&mut self) -> Result<()> {
        self.end()?;
        match self.layer.files.len().checked_sub(1) {
            Some(last) => self.enter(last, false, HashRunCursor::seek_last),
            None => Ok(()),
        }
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        let at = self.file_for(key);
        if at == self.layer.files.len() {
            return self.end();
        }
        self.enter(at, true, |cursor| cursor.seek(key))
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        let at = self.file_for(key);
        if at == self.layer.files.len() {
            return self.seek_last();
        }
        self.enter(at, false, |cursor| cursor.seek_before(key))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        cursor.next()?;
        if cursor.valid() {
            return Ok(());
        }
        self.enter(self.at + 1, true, HashRunCursor::seek_first)
    }

    fn prev(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        cursor.prev()?;
        if cursor.valid() {
            return Ok(());
        }
        match self.at.checked_sub(1) {
            Some(before) => self.enter(before, false, HashRunCursor::seek_last),
            None => self.end(),
        }
    }

    #[inline]
    fn valid(&self) -> bool {
        self.cursor.as_ref().is_some_and(HashRunCursor::valid)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.cursor.as_ref().map_or(&[], HashRunCursor::key)
    }

    #[inline]
    fn kind(&self) -> Kind {
        self.cursor.as_ref().map_or(Kind::Delete, HashRunCursor::kind)
    }

    #[inline]
    fn fetch(&mut self) -> Result<()> {
        self.cursor.as_mut().map_or(Ok(()), HashRunCursor::fetch)
    }

    #[inline]
    fn fetched(&self) -> &[u8] {
        self.cursor.as_ref().map_or(&[], HashRunCursor::fetched)
    }

    fn pinned_value(&mut self) -> Result<Value> {
        self.cursor.as_mut().map_or_else(|| Ok(Value::copied(&[])), HashRunCursor::pinned_value)
    }

    fn range_deletes(&self) -> &RangeSet {
        &NO_RANGES
    }
}
