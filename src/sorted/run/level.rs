//! A cursor over runs that follow each other, as one sequence.

use super::{Run, RunCursor};
use crate::{
    Result, Value,
    sorted::{Cursor, Kind, Lent, RangeSet},
};
use std::sync::Arc;

/// A cursor over disjoint runs in key order, each opened when reached.
pub(crate) struct LevelCursor {
    runs: Arc<[Arc<Run>]>,
    range_deletes: RangeSet,
    /// The run the cursor is in, while it is valid.
    at: usize,
    cursor: Option<RunCursor>,
}

impl LevelCursor {
    /// Over `runs`, whose spans are disjoint and ascend. Looks at every run for range deletes.
    pub(crate) fn new(runs: Arc<[Arc<Run>]>) -> Self {
        let spans = runs.iter().flat_map(|run| run.range_deletes().spans());
        let range_deletes = spans.cloned().collect();
        Self::with_range_deletes(runs, range_deletes)
    }

    /// The same for whoever has the union of the runs' range deletes at hand.
    pub(crate) fn with_range_deletes(runs: Arc<[Arc<Run>]>, range_deletes: RangeSet) -> Self {
        Self { runs, range_deletes, at: 0, cursor: None }
    }

    /// Opens run `at` and places its cursor by `seek`; not valid if there is no such run.
    fn enter(&mut self, at: usize, seek: impl FnOnce(&mut RunCursor) -> Result<()>) -> Result<()> {
        let same = self.cursor.take().filter(|_| self.at == at);
        let Some(run) = self.runs.get(at) else { return Ok(()) };
        let mut cursor = same.unwrap_or_else(|| run.cursor());
        seek(&mut cursor)?;
        self.at = at;
        self.cursor = Some(cursor);
        Ok(())
    }

    fn is_past_end(&self) -> bool {
        self.cursor.as_ref().is_some_and(|cursor| !cursor.valid())
    }

    /// On to the following runs until there is an entry.
    fn skip_forward(&mut self) -> Result<()> {
        while self.is_past_end() {
            self.enter(self.at + 1, RunCursor::seek_first)?;
        }
        Ok(())
    }

    /// Back to the runs before until there is an entry.
    fn skip_backward(&mut self) -> Result<()> {
        while self.is_past_end() {
            match self.at.checked_sub(1) {
                Some(before) => self.enter(before, RunCursor::seek_last)?,
                None => self.cursor = None,
            }
        }
        Ok(())
    }

    /// Does `step` with the cursor of the current run; after an error there is none.
    #[inline(always)]
    fn step(&mut self, step: impl FnOnce(&mut RunCursor) -> Result<()>) -> Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let result = step(cursor);
        if result.is_err() {
            self.cursor = None;
        }
        result
    }
}

impl Cursor for LevelCursor {
    fn seek_first(&mut self) -> Result<()> {
        self.enter(0, RunCursor::seek_first)?;
        self.skip_forward()
    }

    fn seek_last(&mut self) -> Result<()> {
        match self.runs.len().checked_sub(1) {
            Some(last) => self.enter(last, RunCursor::seek_last)?,
            None => self.cursor = None,
        }
        self.skip_backward()
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        let at = self.runs.partition_point(|run| !run.meta().span.ends_after(key));
        self.enter(at, |cursor| cursor.seek(key))?;
        self.skip_forward()
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        let after = self.runs.partition_point(|run| run.meta().span.start < key);
        match after.checked_sub(1) {
            Some(at) => self.enter(at, |cursor| cursor.seek_before(key))?,
            None => self.cursor = None,
        }
        self.skip_backward()
    }

    #[inline(always)]
    fn next(&mut self) -> Result<()> {
        self.step(RunCursor::next)?;
        if self.is_past_end() { self.skip_forward() } else { Ok(()) }
    }

    #[inline(always)]
    fn prev(&mut self) -> Result<()> {
        self.step(RunCursor::prev)?;
        if self.is_past_end() { self.skip_backward() } else { Ok(()) }
    }

    #[inline(always)]
    fn valid(&self) -> bool {
        self.cursor.as_ref().is_some_and(Cursor::valid)
    }

    #[inline(always)]
    fn key(&self) -> &[u8] {
        self.cursor.as_ref().map_or(&[], Cursor::key)
    }

    #[inline(always)]
    fn kind(&self) -> Kind {
        self.cursor.as_ref().map_or(Kind::Put, Cursor::kind)
    }

    #[inline(always)]
    fn fetch(&mut self) -> Result<()> {
        self.cursor.as_mut().map_or(Ok(()), Cursor::fetch)
    }

    #[inline(always)]
    fn fetched(&self) -> &[u8] {
        self.cursor.as_ref().map_or(&[], Cursor::fetched)
    }

    fn pinned_value(&mut self) -> Result<Value> {
        self.cursor.as_mut().map_or_else(|| Ok(Value::copied(&[])), Cursor::pinned_value)
    }

    fn lent(&self) -> Option<Lent> {
        self.cursor.as_ref()?.lent()
    }

    fn range_deletes(&self) -> &RangeSet {
        &self.range_deletes
    }
}
