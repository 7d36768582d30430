//! Merging sorted sources.

use super::{Cursor, Kind, RangeSet};
use crate::{Result, Value};

/// Whether a merge shows delete entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletes {
    /// For readers: a deleted key is not there.
    Hide,
    /// For compaction: a delete may still hide something in older files.
    Keep,
}

/// One cursor over several, newest first.
#[derive(Debug)]
pub(crate) struct Merge<C> {
    sources: Vec<C>,
    deletes: Deletes,
    range_deletes: RangeSet,
}

impl<C: Cursor> Merge<C> {
    /// `sources`, the newest first.
    pub(crate) fn new(sources: Vec<C>, deletes: Deletes) -> Self {
        Self { sources, deletes, range_deletes: RangeSet::default() }
    }
}

impl<C: Cursor> Cursor for Merge<C> {
    fn seek_first(&mut self) -> Result<()> {
        Ok(())
    }
    fn seek_last(&mut self) -> Result<()> {
        Ok(())
    }
    fn seek(&mut self, _key: &[u8]) -> Result<()> {
        Ok(())
    }
    fn seek_before(&mut self, _key: &[u8]) -> Result<()> {
        Ok(())
    }
    fn next(&mut self) -> Result<()> {
        Ok(())
    }
    fn prev(&mut self) -> Result<()> {
        Ok(())
    }
    fn valid(&self) -> bool {
        let _ = self.deletes;
        !self.sources.is_empty() && false
    }
    fn key(&self) -> &[u8] {
        &[]
    }
    fn kind(&self) -> Kind {
        Kind::Put
    }
    fn value(&mut self) -> Result<&[u8]> {
        Ok(&[])
    }
    fn pinned_value(&mut self) -> Result<Value> {
        Ok(Value::copied(&[]))
    }
    fn range_deletes(&self) -> &RangeSet {
        &self.range_deletes
    }
}
