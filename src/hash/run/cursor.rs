//! Walking through a hash run in the order of hashes.
//!
//! As a [`Cursor`] its keys are eight bytes of hash, the most significant first, and the key
//! behind them: the order of such keys is the file's.

use super::{
    HashRun,
    access::{Ahead, Held},
    format::{Head, Record, UNIT, UNITS_A_PAGE, parse_page},
};
use crate::{
    Result, Value,
    sorted::{Cursor, Kind, RangeSet},
    table::HASH_BYTES,
};
use std::sync::Arc;

static NO_RANGES: RangeSet = RangeSet::none();

/// A cursor over one hash run.
pub(crate) struct HashRunCursor {
    run: Arc<HashRun>,
    /// The page of the row where it is, its records, and which of them it is at.
    page: u64,
    held: Option<Held>,
    offsets: Vec<u16>,
    index: usize,
    is_valid: bool,
    /// The hash, then the key.
    key: Vec<u8>,
    /// The value, if it lies apart and was asked for.
    apart: Option<Held>,
    ahead: Ahead,
}

impl HashRunCursor {
    pub(super) fn new(run: Arc<HashRun>) -> Self {
        Self {
            run,
            page: 0,
            held: None,
            offsets: Vec::new(),
            index: 0,
            is_valid: false,
            key: Vec::new(),
            apart: None,
            ahead: Ahead::default(),
        }
    }

    /// To page `page`, of which the caller chooses the record; it exists.
    fn enter(&mut self, page: u64, forward: bool) -> Result<()> {
        let run = &self.run;
        let (at, held) = if forward {
            run.page_ahead(page, &mut self.ahead)?
        } else {
            let (at, _) = run.page_place(page).ok_or_else(|| run.no_page())?;
            (at, run.page(at)?)
        };
        if parse_page(run.bytes(&held), &mut self.offsets).is_none() {
            return Err(run.corrupt_at(at, "a page does not consist of records"));
        }
        (self.page, self.held) = (page, Some(held));
        Ok(())
    }

    fn record(&self) -> Option<Record<'_>> {
        let page = self.run.bytes(self.held.as_ref()?);
        Record::read(page, usize::from(*self.offsets.get(self.index)?))
    }

    /// Reads the key of the record it is at.
    #[inline]
    fn settle(&mut self) -> Result<()> {
        let Self { run, held, offsets, index, key, .. } = self;
        let page = held.as_ref().map_or(&[][..], |held| run.bytes(held));
        let at = offsets.get(*index).map_or(usize::MAX, |at| usize::from(*at));
        let Some(record) = Record::read(page, at) else { return Ok(()) };
        key.clear();
        if record.head.is(Head::KEY_APART) {
            let apart = run.apart(record.key)?;
            let bytes = run.bytes(&apart);
            key.extend_from_slice(&run.hash(bytes).to_be_bytes());
            key.extend_from_slice(bytes);
        } else {
            key.extend_from_slice(&run.hash(record.key).to_be_bytes());
            key.extend_from_slice(record.key);
        }
        self.apart = None;
        self.is_valid = true;
        Ok(())
    }

    fn go_first(&mut self) -> Result<()> {
        self.is_valid = false;
        self.ahead = Ahead::default();
        if self.run.footer.record_pages == 0 {
            return Ok(());
        }
        self.enter(0, true)?;
        self.index = 0;
        self.settle()
    }

    fn go_last(&mut self) -> Result<()> {
        self.is_valid = false;
        let Some(page) = self.run.footer.record_pages.checked_sub(1) else { return Ok(()) };
        self.enter(page, false)?;
        self.index = self.offsets.len().saturating_sub(1);
        self.settle()
    }

    /// To the record at `unit`.
    fn go_to(&mut self, unit: u64) -> Result<()> {
        self.is_valid = false;
        self.enter(unit / UNITS_A_PAGE, false)?;
        let at = (unit % UNITS_A_PAGE) as usize * UNIT;
        let index = self.offsets.binary_search(&(at as u16)).map_err(|_| {
            let at = self.run.footer.index_at;
            self.run.corrupt_at(at, "the index leads to what is no record")
        });
        self.index = index?;
        self.settle()
    }

    fn step(&mut self) -> Result<()> {
        self.is_valid = false;
        if self.index + 1 < self.offsets.len() {
            self.index += 1;
            return self.settle();
        }
        if self.page + 1 >= self.run.footer.record_pages {
            return Ok(());
        }
        self.enter(self.page + 1, true)?;
        self.index = 0;
        self.settle()
    }

    fn step_back(&mut self) -> Result<()> {
        self.is_valid = false;
        if let Some(index) = self.index.checked_sub(1) {
            self.index = index;
            return self.settle();
        }
        let Some(page) = self.page.checked_sub(1) else { return Ok(()) };
        self.enter(page, false)?;
        self.index = self.offsets.len().saturating_sub(1);
        self.settle()
    }

    fn seek_to(&mut self, target: &[u8]) -> Result<()> {
        let mut hash = [0; HASH_BYTES];
        hash.iter_mut().zip(target).for_each(|(to, from)| *to = *from);
        let hash = u64::from_be_bytes(hash);
        let slice = self.run.meta.slice;
        if hash <= slice.first() || self.run.meta.entries == 0 {
            self.go_first()?;
        } else if hash > slice.last() {
            self.is_valid = false;
        } else {
            match self.run.start_of(hash)? {
                Some(unit) => self.go_to(unit)?,
                None => self.is_valid = false,
            }
        }
        while self.is_valid && self.key.as_slice() < target {
            self.step()?;
        }
        Ok(())
    }
}

impl Cursor for HashRunCursor {
    fn seek_first(&mut self) -> Result<()> {
        self.go_first()
    }

    fn seek_last(&mut self) -> Result<()> {
        self.go_last()
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.seek_to(key).inspect_err(|_| self.is_valid = false)
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.seek(key)?;
        if self.is_valid { self.step_back() } else { self.go_last() }
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.step()
    }

    fn prev(&mut self) -> Result<()> {
        self.step_back()
    }

    #[inline]
    fn valid(&self) -> bool {
        self.is_valid
    }

    #[inline]
    fn key(&self) -> &[u8] {
        &self.key
    }

    #[inline]
    fn kind(&self) -> Kind {
        match self.record() {
            Some(record) if !record.head.is(Head::DELETE) => Kind::Put,
            _ => Kind::Delete,
        }
    }

    fn fetch(&mut self) -> Result<()> {
        let Some(record) = self.record() else { return Ok(()) };
        if record.head.is(Head::VALUE_APART) && self.apart.is_none() {
            self.apart = Some(self.run.apart(record.value)?);
        }
        Ok(())
    }

    #[inline]
    fn fetched(&self) -> &[u8] {
        match &self.apart {
            Some(apart) => self.run.bytes(apart),
            None => self.record().map_or(&[], |record| record.value),
        }
    }

    fn pinned_value(&mut self) -> Result<Value> {
        self.fetch()?;
        let held = self.apart.as_ref().or(self.held.as_ref());
        let bytes = self.fetched();
        Ok(held.map_or_else(|| Value::copied(bytes), |held| self.run.pin(held, bytes)))
    }

    fn range_deletes(&self) -> &RangeSet {
        &NO_RANGES
    }
}
