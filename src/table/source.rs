//! The kinds of sorted sources a table is read from, behind one type without virtual calls.

use super::PendingCursor;
use crate::{
    Result, Value,
    memtable::{HashedCursor, MemtableCursor},
    sorted::{Cursor, Kind, Lent, LevelCursor, PageCursor, RangeSet, RunCursor},
};

/// A cursor over one sorted source of a table.
pub(crate) enum Source {
    /// What a transaction wrote.
    Pending(PendingCursor),
    /// Recent writes.
    Memtable(MemtableCursor),
    /// Recent writes, by hash.
    Hashed(HashedCursor),
    /// One run.
    Run(RunCursor),
    /// Disjoint runs, one after the other.
    Level(LevelCursor),
    /// What only its engine knows.
    Other(Box<dyn Cursor>),
    /// A tree in a page file.
    Pages(PageCursor),
}

macro_rules! each {
    ($self:expr, $cursor:ident => $call:expr) => {
        match $self {
            Source::Pending($cursor) => $call,
            Source::Memtable($cursor) => $call,
            Source::Hashed($cursor) => $call,
            Source::Run($cursor) => $call,
            Source::Level($cursor) => $call,
            Source::Other($cursor) => $call,
            Source::Pages($cursor) => $call,
        }
    };
}

impl Cursor for Source {
    fn seek_first(&mut self) -> Result<()> {
        each!(self, cursor => cursor.seek_first())
    }
    fn seek_last(&mut self) -> Result<()> {
        each!(self, cursor => cursor.seek_last())
    }
    fn seek(&mut self, key: &[u8]) -> Result<()> {
        each!(self, cursor => cursor.seek(key))
    }
    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        each!(self, cursor => cursor.seek_before(key))
    }
    #[inline(always)]
    fn next(&mut self) -> Result<()> {
        each!(self, cursor => cursor.next())
    }
    #[inline]
    fn prev(&mut self) -> Result<()> {
        each!(self, cursor => cursor.prev())
    }
    #[inline(always)]
    fn valid(&self) -> bool {
        each!(self, cursor => cursor.valid())
    }
    #[inline(always)]
    fn key(&self) -> &[u8] {
        each!(self, cursor => cursor.key())
    }
    #[inline(always)]
    fn kind(&self) -> Kind {
        each!(self, cursor => cursor.kind())
    }
    #[inline(always)]
    fn fetch(&mut self) -> Result<()> {
        each!(self, cursor => cursor.fetch())
    }
    #[inline(always)]
    fn fetched(&self) -> &[u8] {
        each!(self, cursor => cursor.fetched())
    }
    #[inline]
    fn pinned_value(&mut self) -> Result<Value> {
        each!(self, cursor => cursor.pinned_value())
    }
    fn lent(&self) -> Option<Lent> {
        each!(self, cursor => cursor.lent())
    }
    fn range_deletes(&self) -> &RangeSet {
        each!(self, cursor => cursor.range_deletes())
    }
}
