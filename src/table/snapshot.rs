//! Reading the past: snapshots of the whole database, and tables as they were.

use super::{
    Entries, Hit, Inside, Order, Pending, Reads, Side, TableId, TableState, View, bounds,
    span_between, span_of_prefix,
};
use crate::{
    Error, ErrorKind, Result, Value,
    sorted::{Lookup, Span},
};
use std::{
    fmt,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

/// Every table of a database at one instant.
///
/// Taking one blocks nobody and copies nothing; it pins the files and memtables of that instant
/// until it is dropped, so one kept for long keeps deleted data on disk. Clones share the pin.
#[derive(Clone)]
pub struct Snapshot(Arc<Instant>);

struct Instant {
    host: u64,
    seq: u64,
    /// By number.
    views: Vec<(TableId, Arc<View>)>,
}

impl Snapshot {
    /// `views` are sorted by number.
    pub(crate) fn new(host: u64, seq: u64, views: Vec<(TableId, Arc<View>)>) -> Self {
        debug_assert!(views.is_sorted_by_key(|(id, _)| *id));
        Self(Arc::new(Instant { host, seq, views }))
    }

    /// The number of operations committed before it: a later snapshot's is never smaller.
    pub fn sequence(&self) -> u64 {
        self.0.seq
    }

    pub(crate) fn host_id(&self) -> u64 {
        self.0.host
    }

    /// What there was of all tables.
    pub(crate) fn views(&self) -> impl Iterator<Item = &Arc<View>> {
        self.0.views.iter().map(|(_, view)| view)
    }

    /// What there was of a table, if there was one of that number.
    pub(crate) fn view(&self, table: TableId) -> Option<&Arc<View>> {
        let at = self.0.views.binary_search_by_key(&table, |(id, _)| *id).ok()?;
        self.0.views.get(at).map(|(_, view)| view)
    }

    pub(crate) fn table(&self, id: TableId) -> TableAt {
        TableAt { view: Ok(self.view(id).cloned()), seq: self.0.seq, own: Own::default() }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("sequence", &self.0.seq).finish_non_exhaustive()
    }
}

/// A table as it was at one instant: see [`Table::at`](super::Table::at).
#[derive(Clone)]
pub struct TableAt {
    view: Result<Option<Arc<View>>>,
    seq: u64,
    own: Own,
}

/// What a transaction adds to what it reads; nothing outside of one.
#[derive(Clone, Default)]
pub(crate) struct Own {
    /// Its writes to the table, if it made any.
    pub(crate) pending: Option<Arc<Pending>>,
    /// Where it notes its reads.
    pub(crate) reads: Option<(Arc<Reads>, Arc<TableState>)>,
}

/// A table as one reader sees it: what a transaction wrote over what was committed.
pub(crate) struct Seen<'a> {
    pub(crate) view: Option<&'a Arc<View>>,
    pub(crate) seq: u64,
    pub(crate) pending: Option<&'a Pending>,
    pub(crate) reads: Option<(&'a Reads, &'a Arc<TableState>)>,
}

impl Seen<'_> {
    /// Calls `found` with the value of `key`, if it has one.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], found: &mut dyn FnMut(Hit<'_>)) -> Result<bool> {
        match self.pending.map_or(Lookup::Missing, |pending| pending.get(key)) {
            Lookup::Found(value) => {
                found(Hit::Recent(value));
                return Ok(true);
            }
            Lookup::Deleted => return Ok(false),
            Lookup::Missing => {}
        }
        if let Some((reads, table)) = self.reads {
            reads.note_key(table, key);
        }
        self.view.map_or(Ok(false), |view| view.get(key, self.seq, found))
    }

    /// The values of `keys`, in their order.
    pub(crate) fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        let Some(view) = self.view.filter(|_| self.pending.is_none() && self.reads.is_none())
        else {
            return self.get_many_over(keys);
        };
        view.get_many(keys, self.seq)
    }

    /// The same, of those that the transaction did not write itself.
    fn get_many_over(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        let mut values = vec![None; keys.len()];
        let mut open: Vec<(&mut Option<Value>, &[u8])> = Vec::with_capacity(keys.len());
        for (value, key) in values.iter_mut().zip(keys) {
            match self.pending.map_or(Lookup::Missing, |pending| pending.get(key)) {
                Lookup::Found(own) => *value = Some(own.clone()),
                Lookup::Deleted => {}
                Lookup::Missing => open.push((value, key)),
            }
        }
        let left: Vec<&[u8]> = open.iter().map(|(_, key)| *key).collect();
        if let Some((reads, table)) = self.reads {
            left.iter().for_each(|key| reads.note_key(table, key));
        }
        let found = self.view.map(|view| view.get_many(&left, self.seq)).transpose()?;
        for ((value, _), found) in open.into_iter().zip(found.into_iter().flatten()) {
            *value = found;
        }
        Ok(values)
    }
}

impl TableAt {
    pub(crate) fn new(view: Arc<View>, seq: u64) -> Self {
        Self { view: Ok(Some(view)), seq, own: Own::default() }
    }

    /// A table that answers every read with `error`.
    pub(crate) fn failed(error: Error) -> Self {
        Self { view: Err(error), seq: 0, own: Own::default() }
    }

    /// The same table inside a transaction.
    pub(crate) fn with(self, own: Own) -> Self {
        Self { own, ..self }
    }

    fn seen(&self) -> Result<Seen<'_>> {
        let view = self.view.as_ref().map_err(Error::clone)?.as_ref();
        let reads = self.own.reads.as_ref().map(|(reads, table)| (&**reads, table));
        Ok(Seen { view, seq: self.seq, pending: self.own.pending.as_deref(), reads })
    }

    /// The value `key` had.
    ///
    /// # Errors
    /// As [`Table::get`](super::Table::get).
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        let mut value = None;
        self.seen()?.get(key, &mut |found| value = Some(found.to_value()))?;
        Ok(value)
    }

    /// What `found` makes of the value that `key` had, borrowed from where it lies.
    ///
    /// # Errors
    /// As [`Table::get`](super::Table::get).
    pub fn get_with<R>(&self, key: &[u8], found: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let mut found = Some(found);
        let mut result = None;
        self.seen()?.get(key, &mut |value| {
            if let Some(found) = found.take() {
                result = Some(found(value.bytes()));
            }
        })?;
        Ok(result)
    }

    /// The values of `keys`, in their order: several times as fast as one by one where the files
    /// are mapped.
    ///
    /// # Errors
    /// As [`Table::get`](super::Table::get).
    pub fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        self.seen()?.get_many(keys)
    }

    /// Whether `key` had a value.
    ///
    /// # Errors
    /// As [`Table::get`](super::Table::get).
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        self.get_with(key, |_| ()).map(|found| found.is_some())
    }

    /// All entries.
    pub fn iter(&self) -> Entries {
        self.all(everything())
    }

    /// Entries between two bounds.
    pub fn range_between(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Entries {
        self.entries(span_between(start, end))
    }

    /// Entries in a range of keys; `.rev()` reads it backwards.
    pub fn range<K: AsRef<[u8]>, R: RangeBounds<K>>(&self, range: R) -> Entries {
        let (start, end) = bounds(&range);
        self.range_between(start, end)
    }

    /// Entries whose keys start with `prefix`.
    pub fn prefix(&self, prefix: &[u8]) -> Entries {
        self.entries(span_of_prefix(prefix))
    }

    /// The entry with the smallest key.
    ///
    /// # Errors
    /// As [`Table::get`](super::Table::get).
    pub fn first(&self) -> Result<Option<(Value, Value)>> {
        self.entries(everything()).next().transpose()
    }

    /// The entry with the greatest key.
    ///
    /// # Errors
    /// As [`Table::get`](super::Table::get).
    pub fn last(&self) -> Result<Option<(Value, Value)>> {
        self.entries(everything()).next_back().transpose()
    }

    /// The entry next to `key` on the given side.
    ///
    /// # Errors
    /// As [`Table::get`](super::Table::get).
    pub fn nearest(&self, key: &[u8], side: Side) -> Result<Option<(Value, Value)>> {
        use Bound::{Excluded, Included, Unbounded};
        match side {
            Side::Before => self.range_between(Unbounded, Excluded(key)).next_back(),
            Side::AtOrBefore => self.range_between(Unbounded, Included(key)).next_back(),
            Side::AtOrAfter => self.range_between(Included(key), Unbounded).next(),
            Side::After => self.range_between(Excluded(key), Unbounded).next(),
        }
        .transpose()
    }

    /// Entries of a stretch of keys, if they are in the order of keys.
    fn entries(&self, span: Span) -> Entries {
        if let Ok(Some(view)) = &self.view
            && view.settled.order() != Order::Keys
        {
            let message = "a hash table has no order of keys: iterate over all of it, or keep \
                           what is to be read in order in an ordered table";
            return Entries::failed(Error::new(ErrorKind::Misuse, message));
        }
        self.all(span)
    }

    fn all(&self, span: Span) -> Entries {
        let view = match &self.view {
            Ok(view) => view.clone(),
            Err(error) => return Entries::failed(error.clone()),
        };
        let Own { pending, reads } = &self.own;
        if pending.is_none() && reads.is_none() {
            return Entries::new(view, self.seq, span);
        }
        let walk = reads.as_ref().map(|(reads, table)| reads.walk(table, &span));
        let inside = Inside { pending: pending.clone(), walk };
        Entries::inside(view, self.seq, span, inside)
    }
}

fn everything() -> Span {
    span_between(Bound::Unbounded, Bound::Unbounded)
}

impl fmt::Debug for TableAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableAt").field("sequence", &self.seq).finish_non_exhaustive()
    }
}
