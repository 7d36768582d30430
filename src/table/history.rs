//! What was written since the oldest open transaction began, and is no longer in a memtable of its
//! table.
//!
//! A transaction is checked against the sequence numbers in memtables. Those that have become
//! files, which know no such numbers, are kept here for as long as a transaction is open that began
//! before their last entry; so are the ranges of bulk loads, which never had any. Both within a
//! budget: past it the oldest go, and transactions from before them can be told only to start
//! again.
//!
//! ```text
//!    begin                            end
//!      |--------- transaction ---------|
//!   --------+-----------------+------------> sequence
//!    memtable absorbed: kept  |  memtable of the table: looked at where it is
//! ```

use super::TableId;
use crate::{Error, ErrorKind, Result, memtable::Memtable, sorted::Span};
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// What an entry of the list takes beside its memtable.
const KEPT_OVERHEAD: usize = 256;

/// The open transactions of a database, and what is kept for them.
pub(crate) struct History {
    open: AtomicUsize,
    inner: Mutex<Inner>,
    /// Held while a bulk load becomes visible, and by a transaction from the look for such loads
    /// until it is visible itself: neither comes in the middle of the other.
    arrival: Mutex<()>,
    budget: usize,
}

#[derive(Default)]
struct Inner {
    /// Ticks whenever a transaction begins or something is kept.
    clock: u64,
    /// When the open transactions began, on that clock and by sequence number.
    open: BTreeMap<u64, u64>,
    kept: VecDeque<Kept>,
    bytes: usize,
    forgotten: HashMap<TableId, Forgotten>,
    /// When the last bulk load became visible.
    last_load: u64,
}

struct Kept {
    table: TableId,
    at: u64,
    bytes: usize,
    what: Written,
}

enum Written {
    Memtable(Arc<Memtable>),
    Load(Span),
}

/// The newest of what had to go.
#[derive(Clone, Copy, Default)]
struct Forgotten {
    seq: u64,
    load_at: u64,
}

/// An open transaction, until it is dropped.
pub(crate) struct Begun {
    history: Arc<History>,
    at: u64,
    seq: u64,
}

impl Begun {
    /// A number that no other transaction of the database has.
    pub(crate) fn number(&self) -> u64 {
        self.at
    }

    /// The sequence number up to which it sees.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.history.end(self.at);
    }
}

impl History {
    pub(crate) fn new(budget: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            inner: Mutex::default(),
            arrival: Mutex::default(),
            budget,
        })
    }

    /// Whether a transaction is open: then writes are worth remembering.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.open.load(Relaxed) != 0
    }

    /// Transactions that are open, and bytes of memtables kept for them.
    pub(crate) fn figures(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.open.len(), inner.bytes)
    }

    /// A transaction begins that sees what is up to `seq`. The caller holds the views still.
    pub(crate) fn begin(self: &Arc<Self>, seq: impl FnOnce() -> u64) -> Begun {
        // First of all: what is written from here on is remembered.
        self.open.fetch_add(1, Relaxed);
        let seq = seq();
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let at = inner.clock;
        inner.open.insert(at, seq);
        Begun { history: self.clone(), at, seq }
    }

    fn end(&self, at: u64) {
        let mut inner = self.inner.lock();
        inner.open.remove(&at);
        let garbage = inner.release();
        drop(inner);
        self.open.fetch_sub(1, Relaxed);
        // Memtables are large: they go without the lock.
        drop(garbage);
    }

    /// `memtables` are about to become files of `table`. The caller holds the views still.
    pub(crate) fn absorbed<'a>(
        &self,
        table: TableId,
        memtables: impl Iterator<Item = &'a Arc<Memtable>>,
    ) {
        let mut inner = self.inner.lock();
        let Some(oldest) = inner.open.values().next().copied() else { return };
        let newer = |memtable: &&Arc<Memtable>| memtable.last_seq().is_some_and(|s| s > oldest);
        for memtable in memtables.filter(newer) {
            let bytes = memtable.bytes();
            inner.keep(table, bytes, Written::Memtable(memtable.clone()));
        }
        let garbage = inner.shrink(self.budget);
        drop(inner);
        drop(garbage);
    }

    /// A bulk load of keys of `span` is about to be seen. The caller holds the arrival and the
    /// views.
    pub(crate) fn loaded(&self, table: TableId, span: Span) {
        let mut inner = self.inner.lock();
        if !inner.open.is_empty() {
            inner.keep(table, 0, Written::Load(span));
            inner.last_load = inner.clock;
        }
        let garbage = inner.shrink(self.budget);
        drop(inner);
        drop(garbage);
    }

    /// Lets no bulk load become visible while it is held.
    pub(crate) fn hold_arrivals(&self) -> MutexGuard<'_, ()> {
        self.arrival.lock()
    }

    /// The memtables of `table` that became files since, and may hold something newer.
    ///
    /// # Errors
    /// `Conflict` if some had to go.
    pub(crate) fn memtables_since(
        &self,
        begun: &Begun,
        table: TableId,
    ) -> Result<Vec<Arc<Memtable>>> {
        let inner = self.inner.lock();
        if inner.forgotten.get(&table).is_some_and(|forgotten| forgotten.seq > begun.seq) {
            return Err(too_old());
        }
        let of_table = inner.kept.iter().filter(|kept| kept.table == table);
        let memtables = of_table.filter_map(|kept| match &kept.what {
            Written::Memtable(memtable) => Some(memtable.clone()),
            Written::Load(_) => None,
        });
        Ok(memtables.collect())
    }

    /// Whether a bulk load since then brought keys of a span that `meets`.
    ///
    /// # Errors
    /// `Conflict` if nobody knows any more.
    pub(crate) fn is_loaded_since(
        &self,
        begun: &Begun,
        table: TableId,
        meets: impl Fn(&Span) -> bool,
    ) -> Result<bool> {
        let inner = self.inner.lock();
        if inner.last_load <= begun.at {
            return Ok(false);
        }
        if inner.forgotten.get(&table).is_some_and(|forgotten| forgotten.load_at > begun.at) {
            return Err(too_old());
        }
        let since = inner.kept.iter().filter(|kept| kept.table == table && kept.at > begun.at);
        Ok(since.filter_map(Kept::load).any(meets))
    }
}

impl Kept {
    fn load(&self) -> Option<&Span> {
        match &self.what {
            Written::Load(span) => Some(span),
            Written::Memtable(_) => None,
        }
    }

    /// Whether nobody who began then, or later, has to be checked against it.
    fn is_before(&self, at: u64, seq: u64) -> bool {
        match &self.what {
            Written::Memtable(memtable) => memtable.last_seq().is_none_or(|last| last <= seq),
            Written::Load(_) => self.at < at,
        }
    }
}

impl Inner {
    fn keep(&mut self, table: TableId, bytes: usize, what: Written) {
        self.clock += 1;
        let bytes = bytes + KEPT_OVERHEAD;
        self.bytes += bytes;
        self.kept.push_back(Kept { table, at: self.clock, bytes, what });
    }

    /// Takes out what no open transaction needs.
    fn release(&mut self) -> Vec<Kept> {
        let Some((&at, &seq)) = self.open.first_key_value() else {
            self.forgotten.clear();
            self.bytes = 0;
            return self.kept.drain(..).collect();
        };
        if self.kept.iter().all(|kept| !kept.is_before(at, seq)) {
            return Vec::new();
        }
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.kept.drain(..).partition(|kept| kept.is_before(at, seq));
        self.kept = kept.into();
        self.bytes = self.kept.iter().map(|kept| kept.bytes).sum();
        gone
    }

    /// Takes out the oldest until the rest is within the budget.
    fn shrink(&mut self, budget: usize) -> Vec<Kept> {
        let mut gone = Vec::new();
        while self.bytes > budget
            && let Some(kept) = self.kept.pop_front()
        {
            self.bytes -= kept.bytes;
            let forgotten = self.forgotten.entry(kept.table).or_default();
            match &kept.what {
                Written::Memtable(memtable) => {
                    forgotten.seq = forgotten.seq.max(memtable.last_seq().unwrap_or(0));
                }
                Written::Load(_) => forgotten.load_at = forgotten.load_at.max(kept.at),
            }
            gone.push(kept);
        }
        gone
    }
}

fn too_old() -> Error {
    let message = "the transaction was open for so long that what others wrote meanwhile is no \
                   longer in memory, so it cannot be checked: retry it, keep it shorter, or give \
                   the database more memory";
    Error::new(ErrorKind::Conflict, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::key_hash, memtable::Memory, sorted::Kind};

    /// A memtable with one entry of that number.
    fn memtable(seq: u64) -> Arc<Memtable> {
        let (memtable, mut writer) = Memtable::new(4096, Memory::Own);
        writer.insert(b"key", key_hash(b"key"), seq, Kind::Put, b"");
        memtable
    }

    fn seqs(history: &History, begun: &Begun, table: TableId) -> Option<Vec<u64>> {
        let memtables = history.memtables_since(begun, table).ok()?;
        Some(memtables.iter().filter_map(|memtable| memtable.last_seq()).collect())
    }

    #[test]
    fn keeps_what_the_oldest_transaction_needs() {
        let history = History::new(1 << 20);
        history.absorbed(1, [&memtable(5)].into_iter());
        assert_eq!(history.figures(), (0, 0), "nobody needs it");
        let old = history.begin(|| 10);
        history.absorbed(1, [&memtable(10), &memtable(11)].into_iter());
        let young = history.begin(|| 20);
        history.absorbed(1, [&memtable(21)].into_iter());
        history.absorbed(2, [&memtable(22)].into_iter());
        assert_eq!(seqs(&history, &old, 1), Some(vec![11, 21]));
        assert_eq!(seqs(&history, &young, 2), Some(vec![22]));
        drop(old);
        assert_eq!(seqs(&history, &young, 1), Some(vec![21]));
        drop(young);
        assert_eq!(history.figures(), (0, 0));
    }

    #[test]
    fn past_its_budget_the_old_are_told() {
        let history = History::new(3 * (memtable(1).bytes() + KEPT_OVERHEAD));
        let old = history.begin(|| 10);
        for seq in 11..=13 {
            history.absorbed(1, [&memtable(seq)].into_iter());
        }
        let young = history.begin(|| 13);
        assert_eq!(seqs(&history, &old, 1), Some(vec![11, 12, 13]));
        history.absorbed(2, [&memtable(14)].into_iter());
        let refused = history.memtables_since(&old, 1).err().map(|error| error.kind());
        assert_eq!(refused, Some(ErrorKind::Conflict));
        assert_eq!(seqs(&history, &old, 2), Some(vec![14]), "of another table");
        assert_eq!(seqs(&history, &young, 1), Some(vec![12, 13]));
        drop((old, young));
        let next = history.begin(|| 14);
        assert_eq!(seqs(&history, &next, 1), Some(vec![]));
    }

    #[test]
    fn loads_count_by_when_they_came() {
        let history = History::new(2 * KEPT_OVERHEAD);
        let span = || Span::new(vec![b'a'], Some(vec![b'c']));
        let load = |table| history.loaded(table, span());
        let is_loaded = |begun: &Begun, table| {
            history.is_loaded_since(begun, table, |found| *found == span()).ok()
        };
        load(1);
        let old = history.begin(|| 10);
        assert_eq!(is_loaded(&old, 1), Some(false));
        load(1);
        let young = history.begin(|| 10);
        assert_eq!((is_loaded(&old, 1), is_loaded(&young, 1)), (Some(true), Some(false)));
        assert_eq!(is_loaded(&old, 2), Some(false));
        load(2);
        load(2);
        assert_eq!((is_loaded(&old, 1), is_loaded(&young, 1)), (None, Some(false)));
        assert_eq!((is_loaded(&old, 2), is_loaded(&young, 2)), (Some(true), Some(true)));
        drop((old, young));
        assert_eq!(history.figures(), (0, 0));
    }
}
