//! `Table` and `OrderedTable`: what every engine's handle can do.

use super::{
    Batch, Begun, Checked, Entries, Feed, Given, Op, Snapshot, TableAt, TableState, TableStats,
    span_between, span_of_prefix,
};
use crate::{Error, ErrorKind, Result, Value};
use bytes::Bytes;
use std::{
    fmt,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

/// What a commit survives once it returned `Ok`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// A killed or crashed process. Costs no system call where the log is mapped. A power cut may
    /// lose the newest commits, but never a part of one, and never one before a surviving one.
    #[default]
    Process,
    /// A power cut too: one sync of the log, shared by all threads that wait for one.
    PowerLoss,
}

/// How a table lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Engine {
    /// Log-structured merge tree: for data written often (events, counters, queues).
    Lsm,
    /// B+tree: for data read often, by key and in order (catalogues, indexes).
    Btree,
    /// Hash table: for data looked up by whole keys (cards, profiles, sessions).
    Hash,
}

impl Engine {
    /// The number that says so in the manifest.
    pub(crate) fn id(self) -> u8 {
        match self {
            Engine::Lsm => 1,
            Engine::Btree => 2,
            Engine::Hash => 3,
        }
    }

    /// Whether its tables are in key order.
    pub(crate) fn is_ordered(self) -> bool {
        match self {
            Engine::Lsm | Engine::Btree => true,
            Engine::Hash => false,
        }
    }

    pub(crate) fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Engine::Lsm),
            2 => Some(Engine::Btree),
            3 => Some(Engine::Hash),
            _ => None,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Engine::Lsm => f.write_str("lsm"),
            Engine::Btree => f.write_str("btree"),
            Engine::Hash => f.write_str("hash"),
        }
    }
}

/// What a table needs of its database.
pub(crate) trait Host: Send + Sync {
    fn owns(&self, table: &Arc<TableState>) -> bool;
    fn write_one(
        &self,
        table: &Arc<TableState>,
        op: Op<'_>,
        durability: Option<Durability>,
    ) -> Result<()>;
    fn write_batch(&self, batch: &Batch, durability: Option<Durability>) -> Result<()>;
    fn begin(&self) -> (Snapshot, Begun);
    fn write_transaction(
        &self,
        batch: &Batch,
        checked: &Checked<'_>,
        durability: Option<Durability>,
    ) -> Result<u64>;
    fn ingest(&self, table: &Arc<TableState>, entries: &mut dyn Feed) -> Result<u64>;
    fn flush(&self, table: &Arc<TableState>) -> Result<()>;
    fn stats(&self, table: &Arc<TableState>) -> TableStats;
    fn verify(&self, table: &Arc<TableState>) -> Result<()>;
    fn snapshot_id(&self) -> u64;
}

/// A table together with its database: what every handle wraps.
#[derive(Clone)]
pub struct Core {
    state: Arc<TableState>,
    host: Arc<dyn Host>,
}

impl Core {
    pub(crate) fn new(state: Arc<TableState>, host: Arc<dyn Host>) -> Self {
        Self { state, host }
    }

    pub(crate) fn state(&self) -> &Arc<TableState> {
        &self.state
    }

    fn check(&self) -> Result<()> {
        self.state.check()
    }

    fn now(&self) -> TableAt {
        match self.check() {
            Ok(()) => {
                let (view, seq) = self.state.now();
                TableAt::new(view, seq)
            }
            Err(error) => TableAt::failed(error),
        }
    }

    fn write(&self, op: Op<'_>, durability: Option<Durability>) -> Result<()> {
        self.host.write_one(&self.state, op, durability)
    }

    pub(crate) fn get_with<R>(
        &self,
        key: &[u8],
        found: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let mut found = Some(found);
        let mut result = None;
        self.read(key, &mut |value| {
            if let Some(found) = found.take() {
                result = Some(found(value.bytes()));
            }
        })?;
        Ok(result)
    }

    /// The present view, of a table that is there. What is in it up to a number that is read later
    /// is the table at one moment: commits come into one memtable after the other.
    #[inline]
    fn view_now(&self) -> Result<arc_swap::Guard<Arc<super::View>>> {
        let view = self.state.view();
        if self.state.is_dropped() {
            self.check()?;
        }
        Ok(view)
    }

    #[inline]
    fn read(&self, key: &[u8], found: &mut dyn FnMut(super::Hit<'_>)) -> Result<bool> {
        let view = self.state.view();
        let seq = self.state.visible();
        if self.state.is_dropped() {
            self.check()?;
        }
        view.get(key, seq, found)
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

/// Seals [`Table`]: only this crate's engines implement it.
pub trait Sealed {
    /// The table behind the handle.
    fn core(&self) -> &Core;
}

/// A table of any engine.
///
/// Handles are cheap to clone and to send between threads; all methods take `&self`. A handle keeps
/// its database open. The trait is object safe: code written against `&dyn Table` works with every
/// engine.
///
/// Every write is its own atomic batch with the database's default durability; use [`Batch`] to
/// commit several writes at once or to choose the [`Durability`].
///
/// ```
/// # fn main() -> tonearm::Result<()> {
/// use tonearm::{Db, Table};
///
/// fn count_up(table: &dyn Table, key: &[u8]) -> tonearm::Result<u64> {
///     let old = table.get_with(key, |value| u64::from_le_bytes(value.try_into().unwrap()))?;
///     let new = old.unwrap_or(0) + 1;
///     table.insert(key, &new.to_le_bytes())?;
///     Ok(new)
/// }
///
/// let db = Db::in_memory()?;
/// let plays = db.lsm("plays")?;
/// assert_eq!(count_up(&plays, b"song 1")?, 1);
/// assert_eq!(count_up(&plays, b"song 1")?, 2);
/// # Ok(()) }
/// ```
pub trait Table: Sealed + fmt::Debug + Send + Sync {
    /// Its name, which [`rename_table`](crate::Db::rename_table) may change.
    fn name(&self) -> Arc<str> {
        self.core().state.name()
    }

    /// How it lies on disk.
    fn engine(&self) -> Engine {
        self.core().state.engine()
    }

    /// The value of `key`.
    ///
    /// A value over 38 bytes is not copied out of settled files: see [`Value`].
    ///
    /// # Errors
    /// `Corrupt` or `Io` if a file cannot be read; `NotFound` if the table was dropped.
    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        let mut value = None;
        self.core().read(key, &mut |found| value = Some(found.to_value()))?;
        Ok(value)
    }

    /// Calls `found` with the value of `key`, borrowed from where it lies: no copy, no reference
    /// count. Says whether there was one. Every table, and `dyn Table`, also has a `get_with` for
    /// closures that return something.
    ///
    /// # Errors
    /// As [`Table::get`].
    fn read(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.core().read(key, &mut |value| found(value.bytes()))
    }

    /// The values of `keys`, in their order, all as of one moment: several times as fast as one by
    /// one where the files are mapped.
    ///
    /// # Errors
    /// As [`Table::get`].
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        self.core().view_now()?.get_many(keys, self.core().state.visible())
    }

    /// Calls `found` with the index and the value of each of `keys` that has one, in no order, all
    /// as of one moment: what [`Table::read`] is to [`Table::get`].
    ///
    /// # Errors
    /// As [`Table::get`].
    fn read_many(&self, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let view = self.core().view_now()?;
        let seq = self.core().state.visible();
        view.read_many(keys, seq, &mut |index, value| found(index, value.bytes()))
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    /// As [`Table::get`].
    fn contains(&self, key: &[u8]) -> Result<bool> {
        self.core().read(key, &mut |_| ())
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// As [`Batch::commit`].
    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.core().write(Op::Put { key, value }, None)
    }

    /// Sets `key` to `value` with a durability of its own.
    ///
    /// # Errors
    /// As [`Batch::commit`].
    fn insert_with(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        self.core().write(Op::Put { key, value }, Some(durability))
    }

    /// Removes `key`, whether or not it is there.
    ///
    /// # Errors
    /// As [`Batch::commit`].
    fn remove(&self, key: &[u8]) -> Result<()> {
        self.core().write(Op::Delete { key }, None)
    }

    /// All entries, as of now. In key order where the engine keeps one.
    fn iter(&self) -> Entries {
        self.core().now().iter()
    }

    /// The table as it was when the snapshot was taken. A table that was created later is empty.
    fn at(&self, snapshot: &Snapshot) -> TableAt {
        if snapshot.host_id() != self.core().host.snapshot_id() {
            let message = "the snapshot is of another database";
            return TableAt::failed(Error::new(ErrorKind::Misuse, message));
        }
        snapshot.table(self.core().state.id())
    }

    /// Adds entries that come sorted by key, without the log: the fastest way to load much data.
    /// All of them become visible and durable together, when it returns; returns how many. Writes
    /// to the same keys while it runs win over it. A hash table takes entries in any order; of
    /// those with the same key the last one counts.
    ///
    /// # Errors
    /// `Misuse` if keys do not strictly ascend, `Limit`, `Full`, `Io`; nothing was added then.
    fn ingest(&self, entries: &mut dyn Iterator<Item = Result<(Bytes, Bytes)>>) -> Result<u64> {
        self.ingest_from(&mut Given::new(entries))
    }

    /// [`Table::ingest`] of entries that are only lent, such as another table's: see [`Feed`].
    ///
    /// # Errors
    /// As [`Table::ingest`].
    fn ingest_from(&self, entries: &mut dyn Feed) -> Result<u64> {
        self.core().check()?;
        self.core().host.ingest(&self.core().state, entries)
    }

    /// Writes what is in memory into the table's files and waits until it is durable.
    ///
    /// Never needed for durability, which is the log's: it makes opening after a crash faster.
    ///
    /// # Errors
    /// `Full`, `Io`, `Poisoned`; nothing is lost.
    fn flush(&self) -> Result<()> {
        self.core().check()?;
        self.core().host.flush(&self.core().state)
    }

    /// Sizes, shape, and work done.
    fn stats(&self) -> TableStats {
        self.core().host.stats(&self.core().state)
    }

    /// Reads every byte of the table's files and checks it: checksums, order, counts.
    ///
    /// # Errors
    /// `Corrupt` names the first damaged place.
    fn verify(&self) -> Result<()> {
        self.core().check()?;
        self.core().host.verify(&self.core().state)
    }
}

/// A table whose entries are in key order: the order of bytes. [`key`](crate::key) encodes numbers,
/// strings and tuples so that their bytes sort as they do.
pub trait OrderedTable: Table {
    /// Entries between two bounds, as of now.
    fn range_between(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Entries {
        self.core().now().range_between(start, end)
    }

    /// Entries whose keys start with `prefix`, as of now.
    fn prefix(&self, prefix: &[u8]) -> Entries {
        self.core().now().prefix(prefix)
    }

    /// The entry with the smallest key.
    ///
    /// # Errors
    /// As [`Table::get`].
    fn first(&self) -> Result<Option<(Value, Value)>> {
        self.core().now().first()
    }

    /// The entry with the greatest key.
    ///
    /// # Errors
    /// As [`Table::get`].
    fn last(&self) -> Result<Option<(Value, Value)>> {
        self.core().now().last()
    }

    /// The entry next to `key` on the given side.
    ///
    /// # Errors
    /// As [`Table::get`].
    fn nearest(&self, key: &[u8], side: Side) -> Result<Option<(Value, Value)>> {
        self.core().now().nearest(key, side)
    }

    /// Removes all keys in the range: one small write, however many they are.
    ///
    /// # Errors
    /// As [`Batch::commit`].
    fn delete_between(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Result<()> {
        let span = span_between(start, end);
        if span.is_empty() {
            return self.core().check();
        }
        self.core().write(Op::DeleteRange { start: &span.start, end: span.end.as_deref() }, None)
    }

    /// Removes all keys that start with `prefix`.
    ///
    /// # Errors
    /// As [`Batch::commit`].
    fn delete_prefix(&self, prefix: &[u8]) -> Result<()> {
        let span = span_of_prefix(prefix);
        self.core().write(Op::DeleteRange { start: &span.start, end: span.end.as_deref() }, None)
    }
}

/// The calls with type parameters, which no object can have through its trait: written once, for
/// every handle and for tables behind `dyn`. As methods of the types themselves they look the same
/// everywhere; as methods of the trait too they would be ambiguous on an object.
macro_rules! closures {
    ($table:ty) => {
        impl $table {
            /// What `found` makes of the value of `key`, which it borrows from where it lies: no
            /// copy, no reference count.
            ///
            /// # Errors
            /// As [`Table::get`](crate::Table::get).
            pub fn get_with<R>(
                &self,
                key: &[u8],
                found: impl FnOnce(&[u8]) -> R,
            ) -> crate::Result<Option<R>> {
                $crate::table::SealedTable::core(self).get_with(key, found)
            }
        }
    };
}

/// The same, of tables in key order.
macro_rules! ordered_closures {
    ($table:ty) => {
        $crate::table::closures!($table);

        impl $table {
            /// Entries in a range of keys, as of now; `.rev()` reads it backwards.
            pub fn range<K: AsRef<[u8]>, R: std::ops::RangeBounds<K>>(
                &self,
                range: R,
            ) -> crate::Entries {
                let (start, end) = $crate::table::bounds(&range);
                crate::OrderedTable::range_between(self, start, end)
            }

            /// Removes all keys in the range: one small write, however many they are.
            ///
            /// # Errors
            /// As [`Batch::commit`](crate::Batch::commit).
            pub fn delete_range<K: AsRef<[u8]>, R: std::ops::RangeBounds<K>>(
                &self,
                range: R,
            ) -> crate::Result<()> {
                let (start, end) = $crate::table::bounds(&range);
                crate::OrderedTable::delete_between(self, start, end)
            }
        }
    };
}

pub(crate) use {closures, ordered_closures};

closures!(dyn Table + '_);
ordered_closures!(dyn OrderedTable + '_);

/// A range's bounds as bytes.
pub(crate) fn bounds<'a, K: AsRef<[u8]> + 'a>(
    range: &'a impl RangeBounds<K>,
) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (range.start_bound().map(AsRef::as_ref), range.end_bound().map(AsRef::as_ref))
}

/// Which neighbour of a key [`OrderedTable::nearest`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The greatest key below it.
    Before,
    /// The key itself, or else the greatest below it.
    AtOrBefore,
    /// The key itself, or else the smallest above it.
    AtOrAfter,
    /// The smallest key above it.
    After,
}
