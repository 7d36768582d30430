//! Looking one key up in a hash run, or finding out where its record would be.

use super::{
    HashRun,
    access::Held,
    format::{ENTRIES_A_PAGE, Head, LINE, PAGE, PAGE_HEAD, Record, UNIT, UNITS_A_PAGE},
    index::{Line, directory_entry},
};
use crate::{
    Result, Value,
    codec::prefetch,
    sorted::{Found, Keeper, Lookup},
};
use std::{cmp::Ordering, sync::Arc};

/// What the index says of a key, before any record is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// It is not there.
    Absent,
    /// Its record may be there in the file: so far asked for.
    At(u64),
    /// It takes more than a look at the line.
    Unclear,
}

/// What lends the bytes of an answer.
struct Lender<'a> {
    run: &'a Arc<HashRun>,
    held: &'a Held,
}

impl Keeper for Lender<'_> {
    fn keep(&self, bytes: &[u8]) -> Value {
        self.run.pin(self.held, bytes)
    }
}

/// Who looks at the record of a key that was found, and what its page is held by.
type Answer<'a> = dyn FnMut(&Record<'_>, &Held) -> Result<()> + 'a;

impl HashRun {
    /// Looks `key` up, whose hash is `hash`. Calls `found` once if the answer is `Found`, and not
    /// otherwise.
    #[inline]
    pub(crate) fn get(
        self: &Arc<Self>,
        key: &[u8],
        hash: u64,
        found: &mut dyn FnMut(Found<'_>),
    ) -> Result<Lookup<()>> {
        let mut lookup = Lookup::Missing;
        if self.meta.entries > 0 {
            self.find(key, hash, &mut |record, held| {
                lookup = self.answer(record, held, found)?;
                Ok(())
            })?;
        }
        Ok(lookup)
    }

    /// Looks at the record at which a candidate is; `None` if it is another key's.
    #[inline]
    pub(crate) fn get_at(
        self: &Arc<Self>,
        place: u64,
        key: &[u8],
        found: &mut dyn FnMut(Found<'_>),
    ) -> Result<Option<Lookup<()>>> {
        let mut lookup = None;
        let within = place as usize % PAGE;
        self.look_in(place - within as u64, within, key, &mut |record, held| {
            lookup = Some(self.answer(record, held, found)?);
            Ok(())
        })?;
        Ok(lookup)
    }

    /// What the index, if it is mapped, says of a hash; asks for the record it leads to.
    #[inline]
    pub(crate) fn candidate(&self, hash: u64) -> Result<Candidate> {
        let Some(map) = &self.map else { return Ok(Candidate::Unclear) };
        if self.meta.entries == 0 {
            return Ok(Candidate::Absent);
        }
        let spot = self.spot(hash);
        let (at, within) = self.line_place(&spot);
        let held = self.page(at)?;
        let Some(line) = Line::read(self.bytes(&held), within) else {
            return Ok(Candidate::Unclear);
        };
        if line.has_directory() {
            return Ok(Candidate::Unclear);
        }
        let (below, equal) = line.find(spot.tag);
        if equal == 0 {
            let ends_here = below < line.tagged() || line.untagged() == 0;
            return Ok(if ends_here { Candidate::Absent } else { Candidate::Unclear });
        }
        let (page, within) = self.unit_place(line.unit(below))?;
        let place = page as usize + within;
        // A longer record is read on by the processor itself.
        let last = place + line.step(below).clamp(1, 2 * LINE + 1) - 1;
        [place, place + LINE, last].iter().for_each(|at| prefetch(map, *at));
        Ok(Candidate::At(place as u64))
    }

    #[inline(always)]
    fn answer(
        self: &Arc<Self>,
        record: &Record<'_>,
        held: &Held,
        found: &mut dyn FnMut(Found<'_>),
    ) -> Result<Lookup<()>> {
        if record.head.is(Head::DELETE) {
            return Ok(Lookup::Deleted);
        }
        if record.head.is(Head::VALUE_APART) {
            let apart = self.apart(record.value)?;
            found(Found::new(self.bytes(&apart), &Lender { run: self, held: &apart }));
        } else {
            found(Found::new(record.value, &Lender { run: self, held }));
        }
        Ok(Lookup::Found(()))
    }

    /// Finds the record of `key`; there are records.
    #[inline]
    fn find(&self, key: &[u8], hash: u64, answer: &mut Answer<'_>) -> Result<()> {
        let spot = self.spot(hash);
        let (at, within) = self.line_place(&spot);
        let held = self.page(at)?;
        let Some(line) = Line::read(self.bytes(&held), within) else { return Ok(()) };
        if line.has_directory() {
            return self.find_listed(line, key, hash, answer);
        }
        let (below, equal) = line.find(spot.tag);
        for i in below..below + equal {
            if self.look_at(line.unit(i), key, answer)? {
                return Ok(());
            }
        }
        if below + equal == line.tagged() && line.untagged() > 0 {
            return self.walk(line.unit(line.tagged()), line.untagged(), key, answer);
        }
        Ok(())
    }

    /// Whether the record at `unit` is the key's; then it is shown.
    #[inline(always)]
    fn look_at(&self, unit: u64, key: &[u8], answer: &mut Answer<'_>) -> Result<bool> {
        let (at, within) = self.unit_place(unit)?;
        self.look_in(at, within, key, answer)
    }

    /// The same, of the record in a page of the file.
    #[inline(always)]
    fn look_in(&self, at: u64, within: usize, key: &[u8], answer: &mut Answer<'_>) -> Result<bool> {
        let held = self.page(at)?;
        let Some(record) = Record::read(self.bytes(&held), within) else {
            return Err(self.corrupt_at(at, "the index leads to what is no record"));
        };
        if self.key_order(&record, key)? != Ordering::Equal {
            return Ok(false);
        }
        answer(&record, &held)?;
        Ok(true)
    }

    /// How a record's key compares with `key`.
    #[inline(always)]
    fn key_order(&self, record: &Record<'_>, key: &[u8]) -> Result<Ordering> {
        if !record.head.is(Head::KEY_APART) {
            let equal = record.key == key;
            return Ok(if equal { Ordering::Equal } else { record.key.cmp(key) });
        }
        let apart = self.apart(record.key)?;
        Ok(self.bytes(&apart).cmp(key))
    }

    /// Looks at `count` records from `unit` on.
    #[inline(never)]
    fn walk(&self, mut unit: u64, count: usize, key: &[u8], answer: &mut Answer<'_>) -> Result<()> {
        for _ in 0..count {
            if self.look_at(unit, key, answer)? {
                return Ok(());
            }
            unit = self.unit_after(unit)?;
        }
        Ok(())
    }

    /// The unit of the record after the one at `unit`; one that does not exist if that is the
    /// last.
    fn unit_after(&self, unit: u64) -> Result<u64> {
        let (at, within) = self.unit_place(unit)?;
        let held = self.page(at)?;
        let page = self.bytes(&held);
        let Some(record) = Record::read(page, within) else {
            return Err(self.corrupt_at(at, "the index leads to what is no record"));
        };
        let end = record.end(within);
        if Record::read(page, end).is_some() {
            return Ok(unit + (record.head.record_len() / UNIT) as u64);
        }
        Ok((unit / UNITS_A_PAGE + 1) * UNITS_A_PAGE + (PAGE_HEAD / UNIT) as u64)
    }

    /// Finds the key in the directory of an over-full line: by its hash, and among those with the
    /// same by itself, so that many keys of one hash cost few steps too.
    #[cold]
    fn find_listed(
        &self,
        line: Line<'_>,
        key: &[u8],
        hash: u64,
        answer: &mut Answer<'_>,
    ) -> Result<()> {
        let (mut low, mut high) = (0, line.listed());
        while low < high {
            let middle = low + (high - low) / 2;
            let (other, unit) = self.listed(line, middle)?;
            match other.cmp(&hash) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => match self.compare_at(unit, key)? {
                    Ordering::Less => low = middle + 1,
                    Ordering::Greater => high = middle,
                    Ordering::Equal => return self.look_at(unit, key, answer).map(|_| ()),
                },
            }
        }
        Ok(())
    }

    fn compare_at(&self, unit: u64, key: &[u8]) -> Result<Ordering> {
        let (at, within) = self.unit_place(unit)?;
        let held = self.page(at)?;
        match Record::read(self.bytes(&held), within) {
            Some(record) => self.key_order(&record, key),
            None => Err(self.corrupt_at(at, "the index leads to what is no record")),
        }
    }

    /// Entry `i` of a line's directory.
    fn listed(&self, line: Line<'_>, i: u64) -> Result<(u64, u64)> {
        let no_directory = |at| self.corrupt_at(at, "a line leads to no directory");
        let page = line.base().saturating_add(i / ENTRIES_A_PAGE);
        let at = page.saturating_mul(PAGE as u64);
        if at < self.footer.directories_at || at >= self.footer.extents_at {
            return Err(no_directory(self.footer.directories_at));
        }
        let held = self.page(at)?;
        directory_entry(self.bytes(&held), i % ENTRIES_A_PAGE).ok_or_else(|| no_directory(at))
    }

    /// A unit at or before which no record of this hash or a greater one lies but those that
    /// follow it; `None` if there is none.
    pub(super) fn start_of(&self, hash: u64) -> Result<Option<u64>> {
        let spot = self.spot(hash);
        let (at, within) = self.line_place(&spot);
        let held = self.page(at)?;
        let Some(line) = Line::read(self.bytes(&held), within) else { return Ok(None) };
        if !line.has_directory() {
            let base = line.base();
            return Ok((base != super::format::NOWHERE).then_some(base));
        }
        let (mut low, mut high) = (0, line.listed());
        let (mut first, mut last) = (None, None);
        while low < high {
            let middle = low + (high - low) / 2;
            let (other, unit) = self.listed(line, middle)?;
            if other < hash {
                (low, last) = (middle + 1, Some(unit));
            } else {
                (high, first) = (middle, Some(unit));
            }
        }
        // If all of the line come before, the walk begins at its last.
        Ok(first.or(last))
    }
}
