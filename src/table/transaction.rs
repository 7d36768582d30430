//! Transactions: reads of one snapshot and writes on top of it, committed as if nobody else were
//! there, or not at all.
//!
//! Optimistic: nothing is locked and nobody waits. What a transaction reads is noted ([`Reads`]),
//! what it writes is kept to itself ([`Pending`]); when it commits, its reads are checked against
//! what others wrote since it began. If nothing it saw was changed, it might as well have run in
//! that very instant, and so the order of commits is an order in which all transactions could have
//! run one after the other (Kung and Robinson: On optimistic methods for concurrency control, 1981;
//! backward validation, serial). A transaction that wrote nothing saw a snapshot, which is the
//! state between two commits, and needs no check.

use super::{
    Batch, Begun, Durability, Entries, Hit, Host, Op, OrderedTable, Pending, ReadSet, Reads, Side,
    Snapshot, Table, TableAt, TableState, bounds,
    pending::Undo,
    snapshot::{Own, Seen},
    span_between, span_of_prefix,
};
use crate::{Error, ErrorKind, Result, Value, sorted::Span};
use std::{
    fmt,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

/// What the commit of a transaction is checked for.
pub(crate) struct Checked<'a> {
    pub(crate) reads: &'a ReadSet,
    pub(crate) begun: &'a Begun,
}

/// Reads and writes of any tables of one database that happen as if at one instant, or not at all.
///
/// Reads see the database as it was when the transaction began ([`Db::transaction`]), and the
/// transaction's own writes. Others see those once [`commit`](Self::commit) returns `Ok`, all of
/// them, as with a [`Batch`]; a transaction that is dropped instead never happened.
///
/// Transactions are *serializable*: whatever ran at the same time, the result is as if all had run
/// one after the other, in the order of their commits. So a commit fails with
/// [`ErrorKind::Conflict`] if another commit has since written a key that this transaction looked
/// up (there or not), or any key of a range it iterated over, as far as it got. It is then to be
/// made again from the start, which [`Db::transact`] does by itself. Nothing is ever locked.
///
/// - Writing a key that somebody else wrote is no conflict if it was not read: the later commit
///   wins, as with batches. Range deletes and bulk loads ([`Table::ingest`]) are writes of their
///   whole range.
/// - What a transaction reads of its own writes cannot change, and is not checked.
/// - One that wrote nothing commits at no cost and never conflicts. For reading alone a
///   [`Snapshot`] is cheaper still.
/// - [`untracked`](Self::untracked) reads are not checked.
///
/// While a transaction is open, what others write is kept in memory to check it against: up to a
/// quarter of [`Builder::memory`](crate::Builder::memory). One that is open while more than that is
/// written gets a conflict whose message says so. It also keeps the files of its snapshot on
/// disk. Keep transactions short, and do not wait for a person while one is open.
///
/// ```
/// # fn main() -> tonearm::Result<()> {
/// use tonearm::{Db, Durability, ErrorKind, Table};
///
/// let db = Db::in_memory()?;
/// let seats = db.lsm("seats")?;
/// let holders = db.lsm("holders")?;
///
/// let mut ann = db.transaction();
/// let mut ben = db.transaction();
/// for (tx, name) in [(&mut ann, "Ann"), (&mut ben, "Ben")] {
///     if !tx.contains(&seats, b"1A")? {              // both see the seat free
///         tx.insert(&seats, b"1A", name)?;
///         tx.insert(&holders, name, b"1A")?;
///     }
/// }
/// ann.commit(Durability::Process)?;
/// let refused = ben.commit(Durability::Process).unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::Conflict);   // Ben has to look again
/// assert!(!holders.contains(b"Ben")?);
/// # Ok(()) }
/// ```
///
/// [`Db::transaction`]: crate::Db::transaction
/// [`Db::transact`]: crate::Db::transact
#[must_use = "a transaction that is dropped never happened"]
pub struct Transaction {
    host: Arc<dyn Host>,
    snapshot: Snapshot,
    begun: Begun,
    reads: Arc<Reads>,
    writes: Vec<(Arc<TableState>, Arc<Pending>)>,
    /// What takes back the writes since the first savepoint, each with the place of its table.
    undo: Vec<(usize, Undo)>,
    /// Number, and how long `undo` was then.
    savepoints: Vec<(u64, usize)>,
    savepoints_made: u64,
}

/// A point in a transaction to which it can go back: see [`Transaction::savepoint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Savepoint {
    host: u64,
    transaction: u64,
    number: u64,
}

impl Transaction {
    pub(crate) fn new(host: Arc<dyn Host>) -> Self {
        let (snapshot, begun) = host.begin();
        Self {
            host,
            snapshot,
            begun,
            reads: Arc::default(),
            writes: Vec::new(),
            undo: Vec::new(),
            savepoints: Vec::new(),
            savepoints_made: 0,
        }
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// As [`Table::get`]; `Misuse` for a table of another database.
    pub fn get<T: Table + ?Sized>(
        &self,
        table: &T,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Value>> {
        let mut value = None;
        self.read(table, key.as_ref(), &mut |found| value = Some(found.to_value()))?;
        Ok(value)
    }

    /// What `found` makes of the value of `key`, borrowed from where it lies.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn get_with<T: Table + ?Sized, R>(
        &self,
        table: &T,
        key: impl AsRef<[u8]>,
        found: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let mut found = Some(found);
        let mut result = None;
        self.read(table, key.as_ref(), &mut |value| {
            if let Some(found) = found.take() {
                result = Some(found(value.bytes()));
            }
        })?;
        Ok(result)
    }

    /// The values of `keys`, in their order.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn get_many<T: Table + ?Sized>(
        &self,
        table: &T,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<Value>>> {
        self.seen(self.state(table)?).get_many(keys)
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn contains<T: Table + ?Sized>(&self, table: &T, key: impl AsRef<[u8]>) -> Result<bool> {
        self.read(table, key.as_ref(), &mut |_| ())
    }

    /// All entries. Where the engine keeps no key order, a single step counts as reading all.
    ///
    /// This iterator, like those of ranges, sees the writes made before it, and none made later.
    /// It borrows nothing: a loop over it may write.
    pub fn iter<T: Table + ?Sized>(&self, table: &T) -> Entries {
        self.tracked(table).iter()
    }

    /// Entries in a range of keys; `.rev()` reads it backwards.
    ///
    /// What counts as read is what was walked over, with the gaps in it: up to the last entry the
    /// iterator yielded, or all the range once it yielded `None`.
    pub fn range<T: OrderedTable + ?Sized, K: AsRef<[u8]>>(
        &self,
        table: &T,
        range: impl RangeBounds<K>,
    ) -> Entries {
        let (start, end) = bounds(&range);
        self.range_between(table, start, end)
    }

    /// Entries between two bounds.
    pub fn range_between<T: OrderedTable + ?Sized>(
        &self,
        table: &T,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
    ) -> Entries {
        self.tracked(table).range_between(start, end)
    }

    /// Entries whose keys start with `prefix`.
    pub fn prefix<T: OrderedTable + ?Sized>(&self, table: &T, prefix: impl AsRef<[u8]>) -> Entries {
        self.tracked(table).prefix(prefix.as_ref())
    }

    /// The entry with the smallest key. Counts as having read the keys up to it.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn first<T: OrderedTable + ?Sized>(&self, table: &T) -> Result<Option<(Value, Value)>> {
        self.tracked(table).first()
    }

    /// The entry with the greatest key. Counts as having read the keys from it on.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn last<T: OrderedTable + ?Sized>(&self, table: &T) -> Result<Option<(Value, Value)>> {
        self.tracked(table).last()
    }

    /// The entry next to `key` on the given side. Counts as having read the keys between the two.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn nearest<T: OrderedTable + ?Sized>(
        &self,
        table: &T,
        key: impl AsRef<[u8]>,
        side: Side,
    ) -> Result<Option<(Value, Value)>> {
        self.tracked(table).nearest(key.as_ref(), side)
    }

    /// The table as this transaction sees it now, for reads that are *not* checked when it commits:
    /// for values that cannot change, statistics, hints. A write that follows from such a read may
    /// be out of date by then.
    pub fn untracked<T: Table + ?Sized>(&self, table: &T) -> TableAt {
        self.at(table, None)
    }

    /// Sets `key` to `value` in `table`.
    ///
    /// # Errors
    /// `Limit` for a key or value over its limit, `Misuse` for a table of another database,
    /// `NotFound` for a dropped one. The transaction can go on.
    pub fn insert<T: Table + ?Sized>(
        &mut self,
        table: &T,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        Op::Put { key, value }.check()?;
        self.write(table, |pending| pending.write(key, Some(value)))
    }

    /// Removes `key` from `table`, whether or not it is there.
    ///
    /// # Errors
    /// As [`Transaction::insert`].
    pub fn remove<T: Table + ?Sized>(&mut self, table: &T, key: impl AsRef<[u8]>) -> Result<()> {
        let key = key.as_ref();
        Op::Delete { key }.check()?;
        self.write(table, |pending| pending.write(key, None))
    }

    /// Removes all keys of `table` in the range: one small write, however many they are. They are
    /// not read: others may write them meanwhile, and are overwritten.
    ///
    /// # Errors
    /// As [`Transaction::insert`].
    pub fn delete_range<T: OrderedTable + ?Sized, K: AsRef<[u8]>>(
        &mut self,
        table: &T,
        range: impl RangeBounds<K>,
    ) -> Result<()> {
        let (start, end) = bounds(&range);
        self.delete_between(table, start, end)
    }

    /// Removes all keys of `table` between two bounds.
    ///
    /// # Errors
    /// As [`Transaction::insert`].
    pub fn delete_between<T: OrderedTable + ?Sized>(
        &mut self,
        table: &T,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
    ) -> Result<()> {
        self.delete_span(table, span_between(start, end))
    }

    /// Removes all keys of `table` that start with `prefix`.
    ///
    /// # Errors
    /// As [`Transaction::insert`].
    pub fn delete_prefix<T: OrderedTable + ?Sized>(
        &mut self,
        table: &T,
        prefix: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.delete_span(table, span_of_prefix(prefix.as_ref()))
    }

    /// Marks this point, to come back to it with [`Transaction::rollback_to`].
    ///
    /// ```
    /// # fn main() -> tonearm::Result<()> {
    /// # let db = tonearm::Db::in_memory()?;
    /// # let queue = db.lsm("queue")?;
    /// let mut tx = db.transaction();
    /// tx.insert(&queue, b"1", b"So What")?;
    /// let before = tx.savepoint();
    /// tx.insert(&queue, b"2", b"Naima")?;
    /// tx.delete_prefix(&queue, b"")?;
    /// tx.rollback_to(&before)?;
    /// assert_eq!(tx.get(&queue, b"1")?.unwrap(), b"So What");
    /// assert!(!tx.contains(&queue, b"2")?);
    /// # Ok(()) }
    /// ```
    pub fn savepoint(&mut self) -> Savepoint {
        self.savepoints_made += 1;
        self.savepoints.push((self.savepoints_made, self.undo.len()));
        self.named(self.savepoints_made)
    }

    /// Takes back all writes since `savepoint`, which can be used again; later savepoints cannot.
    /// Reads since then still count: what is written next may follow from them. Costs as much as
    /// the writes it takes back.
    ///
    /// # Errors
    /// `Misuse` for a savepoint of another transaction, or one that was itself taken back.
    pub fn rollback_to(&mut self, savepoint: &Savepoint) -> Result<()> {
        let at = self.savepoints.iter().position(|(number, _)| *number == savepoint.number);
        let Some(at) = at.filter(|_| self.named(savepoint.number) == *savepoint) else {
            let message = "the savepoint is of another transaction, or was taken back";
            return Err(Error::new(ErrorKind::Misuse, message));
        };
        self.savepoints.truncate(at + 1);
        let len = self.savepoints.last().map_or(0, |(_, len)| *len);
        for (table, undo) in self.undo.drain(len..).rev() {
            if let Some((_, pending)) = self.writes.get_mut(table) {
                Arc::make_mut(pending).undo(undo);
            }
        }
        Ok(())
    }

    /// The number of operations committed before it began.
    pub fn sequence(&self) -> u64 {
        self.begun.seq()
    }

    /// Commits all of it, or nothing. See [`Durability`] for what `Ok` means. If it wrote nothing,
    /// nothing happens, and nothing is synced.
    ///
    /// # Errors
    /// `Conflict` if something it read was written by others since it began, or if it was open for
    /// so long that nobody can tell; `NotFound` if a table it read or wrote was dropped; else as
    /// [`Batch::commit`].
    pub fn commit(self, durability: Durability) -> Result<()> {
        self.finish(Some(durability)).map(drop)
    }

    /// Commits with the database's default durability.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub fn commit_default(self) -> Result<()> {
        self.finish(None).map(drop)
    }

    /// Commits, and says after which operation this was: for tests that look at the order of
    /// commits.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn commit_numbered(self) -> Result<u64> {
        self.finish(None)
    }

    /// Commits, and says what the number of its last operation is, or that of its snapshot if it
    /// has none.
    pub(crate) fn finish(self, durability: Option<Durability>) -> Result<u64> {
        if self.writes.iter().all(|(_, pending)| pending.is_empty()) {
            return Ok(self.begun.seq());
        }
        let batch = self.to_batch()?;
        let reads = self.reads.finish();
        let checked = Checked { reads: &reads, begun: &self.begun };
        self.host.write_transaction(&batch, &checked, durability)
    }

    /// The net effect of its writes.
    fn to_batch(&self) -> Result<Batch> {
        let mut batch = Batch::new(self.host.clone());
        for (table, pending) in &self.writes {
            for Span { start, end } in pending.deleted().spans() {
                batch.try_add(table, Op::DeleteRange { start, end: end.as_deref() })?;
            }
            for (key, value) in pending.writes() {
                let op = match value {
                    Some(value) => Op::Put { key, value },
                    None => Op::Delete { key },
                };
                batch.try_add(table, op)?;
            }
        }
        Ok(batch)
    }

    /// The state of a table that can be used in here.
    fn state<'t, T: Table + ?Sized>(&self, table: &'t T) -> Result<&'t Arc<TableState>> {
        let state = table.core().state();
        if !self.host.owns(state) {
            let message = "a transaction is for tables of the database it was begun by";
            return Err(Error::new(ErrorKind::Misuse, message));
        }
        state.check()?;
        Ok(state)
    }

    fn pending(&self, table: &Arc<TableState>) -> Option<&Arc<Pending>> {
        let written = self.writes.iter().find(|(written, _)| Arc::ptr_eq(written, table));
        written.map(|(_, pending)| pending)
    }

    fn seen<'a>(&'a self, table: &'a Arc<TableState>) -> Seen<'a> {
        Seen {
            view: self.snapshot.view(table.id()),
            seq: self.begun.seq(),
            pending: self.pending(table).map(|pending| &**pending),
            reads: Some((&self.reads, table)),
        }
    }

    fn read<T: Table + ?Sized>(
        &self,
        table: &T,
        key: &[u8],
        found: &mut dyn FnMut(Hit<'_>),
    ) -> Result<bool> {
        self.seen(self.state(table)?).get(key, found)
    }

    fn tracked<T: Table + ?Sized>(&self, table: &T) -> TableAt {
        self.at(table, Some(&self.reads))
    }

    fn at<T: Table + ?Sized>(&self, table: &T, reads: Option<&Arc<Reads>>) -> TableAt {
        let state = match self.state(table) {
            Ok(state) => state,
            Err(error) => return TableAt::failed(error),
        };
        let own = Own {
            pending: self.pending(state).cloned(),
            reads: reads.map(|reads| (reads.clone(), state.clone())),
        };
        self.snapshot.table(state.id()).with(own)
    }

    fn delete_span<T: Table + ?Sized>(&mut self, table: &T, span: Span) -> Result<()> {
        if span.is_empty() {
            return self.state(table).map(|_| ());
        }
        Op::DeleteRange { start: &span.start, end: span.end.as_deref() }.check()?;
        self.write(table, |pending| pending.delete_range(span))
    }

    fn write<T: Table + ?Sized>(
        &mut self,
        table: &T,
        write: impl FnOnce(&mut Pending) -> Undo,
    ) -> Result<()> {
        let state = self.state(table)?;
        let at = self.writes.iter().position(|(written, _)| Arc::ptr_eq(written, state));
        let at = at.unwrap_or_else(|| {
            self.writes.push((state.clone(), Arc::default()));
            self.writes.len() - 1
        });
        if let Some((_, pending)) = self.writes.get_mut(at) {
            let undo = write(Arc::make_mut(pending));
            if !self.savepoints.is_empty() {
                self.undo.push((at, undo));
            }
        }
        Ok(())
    }

    fn named(&self, number: u64) -> Savepoint {
        Savepoint { host: self.host.snapshot_id(), transaction: self.begun.number(), number }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables: Vec<_> = self.writes.iter().map(|(table, _)| table.name()).collect();
        f.debug_struct("Transaction")
            .field("sequence", &self.sequence())
            .field("written", &tables)
            .finish_non_exhaustive()
    }
}
