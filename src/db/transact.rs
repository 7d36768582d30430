//! How a transaction is checked when it commits, and tried again when that fails.
//!
//! ```text
//!   lock -> what is newer than known?
//!             few operations:  look through them here -> append, insert, publish
//!             more:            unlock, look through them, lock again
//!             no longer there: unlock, look at the memtables, lock again
//! ```
//!
//! "Known" is the sequence number up to which the reads still hold: at first, that of the snapshot.
//! Each round outside of the lock takes it up to about now, so the next one is short. Bulk loads
//! have no numbers; [`History`](crate::table::History) lists them, and none arrives between the
//! look at that list and the moment the transaction is visible.

use super::{
    Db, Handle,
    shared::{Commit, Shared},
    tail::Newer,
};
use crate::{
    Error, ErrorKind, Result,
    sorted::Span,
    table::{Begun, Checked, Durability, Snapshot, TableReads, Transaction},
};
use parking_lot::MutexGuard;
use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// How often a commit looks at the memtables before it gives up: only if others write faster than
/// its reads can be looked up.
const ROUNDS_MAX: usize = 8;
/// The longest pause after the first conflict, and after any.
const PAUSE_FIRST: Duration = Duration::from_micros(20);
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// The commit lock, and the hold on bulk loads, of a transaction that may commit.
pub(super) type Cleared<'a> = (MutexGuard<'a, Commit>, Option<MutexGuard<'a, ()>>);

impl Shared {
    /// Whatever `lock` locks, once nothing that the transaction read was written since it began.
    pub(super) fn lock_checked<'a>(
        &'a self,
        checked: &Checked<'_>,
        lock: impl Fn() -> Result<MutexGuard<'a, Commit>>,
    ) -> Result<Cleared<'a>> {
        if !self.options.checks_transactions() {
            return Ok((lock()?, None));
        }
        let mut known = checked.begun.seq();
        let mut rounds = 0;
        loop {
            let mut commit = lock()?;
            match commit.tail.after(known) {
                Newer::Few => {
                    let arrivals = self.check_last(&mut commit, checked, known)?;
                    return Ok((commit, Some(arrivals)));
                }
                Newer::Chunks(chunks) => {
                    drop(commit);
                    for chunk in &chunks {
                        unchanged(chunk.changed(checked.reads, known))?;
                        known = known.max(chunk.next() - 1);
                    }
                }
                Newer::Unknown if rounds == ROUNDS_MAX => return Err(outrun()),
                Newer::Unknown => {
                    drop(commit);
                    known = self.check_memtables(checked)?;
                    rounds += 1;
                }
            }
        }
    }

    /// The last look, with the commit lock held.
    fn check_last(
        &self,
        commit: &mut Commit,
        checked: &Checked<'_>,
        known: u64,
    ) -> Result<MutexGuard<'_, ()>> {
        unchanged(commit.tail.changed(checked.reads, known))?;
        let arrivals = self.history.hold_arrivals();
        for reads in checked.reads.tables() {
            let table = reads.table();
            if commit.writers.get(table.id()).is_none() {
                table.check()?;
            }
            let meets = |span: &Span| reads.meets(&span.start, span.end.as_deref());
            if self.history.is_loaded_since(checked.begun, table.id(), meets)? {
                return Err(conflict(reads));
            }
        }
        Ok(arrivals)
    }

    /// Looks everything up that was read. Returns up to which number it still holds.
    fn check_memtables(&self, checked: &Checked<'_>) -> Result<u64> {
        // Read first: all up to it is in the memtables that are looked at afterwards.
        let known = self.visible.get();
        let since = checked.begun.seq();
        for reads in checked.reads.tables() {
            // In this order: what leaves the view is in the history before.
            let view = reads.table().view();
            let absorbed = self.history.memtables_since(checked.begun, reads.table().id())?;
            let sealed = view.sealed.iter().map(|sealed| &sealed.memtable);
            let mut memtables = std::iter::once(&view.active).chain(sealed).chain(&absorbed);
            if memtables.any(|memtable| reads.is_changed_in(memtable, since)) {
                return Err(conflict(reads));
            }
        }
        Ok(known)
    }
}

fn unchanged(changed: Option<&TableReads>) -> Result<()> {
    changed.map_or(Ok(()), |reads| Err(conflict(reads)))
}

fn conflict(reads: &TableReads) -> Error {
    let message = format!(
        "what the transaction read of table {:?} was written by another commit since it began: \
         retry it",
        reads.table().name()
    );
    Error::new(ErrorKind::Conflict, message)
}

fn outrun() -> Error {
    let message = "others write faster than the transaction's reads can be checked: retry it, and \
                   let it read less";
    Error::new(ErrorKind::Conflict, message)
}

impl Handle {
    /// A snapshot to read from, registered as an open transaction.
    pub(super) fn begin(&self) -> (Snapshot, Begun) {
        let shared = &self.shared;
        let mut begun = None;
        let snapshot = self.snapshot_with(|| {
            let new = shared.history.begin(|| shared.visible.get());
            begun.insert(new).seq()
        });
        let begun = begun.unwrap_or_else(|| shared.history.begin(|| snapshot.sequence()));
        (snapshot, begun)
    }
}

/// How [`Db::transact_with`] commits, and how often it tries.
///
/// ```
/// # fn main() -> tonearm::Result<()> {
/// use tonearm::{Db, Durability, TransactOptions};
///
/// let db = Db::in_memory()?;
/// let counts = db.lsm("counts")?;
/// let options = TransactOptions::new().durability(Durability::PowerLoss).retries(1000);
/// db.transact_with(&options, |tx| tx.insert(&counts, b"plays", b"1"))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TransactOptions {
    retries: u32,
    durability: Option<Durability>,
}

impl Default for TransactOptions {
    fn default() -> Self {
        Self { retries: 100, durability: None }
    }
}

impl TransactOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many more times a transaction is tried after a conflict.
    ///
    /// Default: 100, with pauses that grow to some milliseconds: about half a second in all. Who
    /// gets none in that time had better take turns.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// What the commit survives.
    ///
    /// Default: the database's [`durability`](super::Builder::durability).
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}

impl Db {
    /// Begins a transaction: reads of the database as it is now, and writes that are committed
    /// together if nobody changed what was read. See [`Transaction`].
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.handle.clone())
    }

    /// Runs `body` in a transaction and commits it, with the database's default durability; after a
    /// conflict, again, up to 100 times. `body` must not do anything that should not happen twice.
    ///
    /// ```
    /// # fn main() -> tonearm::Result<()> {
    /// use tonearm::{Db, Table};
    ///
    /// let db = Db::in_memory()?;
    /// let counts = db.lsm("counts")?;
    /// std::thread::scope(|scope| {
    ///     for _ in 0..4 {
    ///         scope.spawn(|| {
    ///             db.transact(|tx| {
    ///                 let old = tx.get_with(&counts, b"plays", |bytes| bytes[0])?.unwrap_or(0);
    ///                 tx.insert(&counts, b"plays", [old + 1])
    ///             })
    ///         });
    ///     }
    /// });
    /// assert_eq!(counts.get(b"plays")?.unwrap(), [4]);      // no count is lost
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The first error of `body`, whatever its kind: nothing is written then. Else as
    /// [`Transaction::commit`]; `Conflict` if the last try had one too.
    pub fn transact<R>(&self, body: impl FnMut(&mut Transaction) -> Result<R>) -> Result<R> {
        self.transact_with(&TransactOptions::default(), body)
    }

    /// [`Db::transact`] with options.
    ///
    /// # Errors
    /// As [`Db::transact`].
    pub fn transact_with<R>(
        &self,
        options: &TransactOptions,
        mut body: impl FnMut(&mut Transaction) -> Result<R>,
    ) -> Result<R> {
        for retry in 0.. {
            let mut transaction = self.transaction();
            let result = body(&mut transaction)?;
            match transaction.finish(options.durability) {
                Ok(_) => return Ok(result),
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
                Err(error) if retry >= options.retries => return Err(error),
                Err(_) => pause(retry),
            }
        }
        Err(Error::new(ErrorKind::Conflict, "the transaction was not tried"))
    }
}

/// Lets others finish: for a random time, so that those who met do not meet again, and longer each
/// time.
fn pause(retry: u32) {
    let longest = PAUSE_FIRST.saturating_mul(1 << retry.min(20)).min(PAUSE_MAX);
    let random = RandomState::new().hash_one(retry) % (longest.as_nanos() as u64 + 1);
    if retry == 0 {
        std::thread::yield_now();
    } else {
        std::thread::sleep(Duration::from_nanos(random));
    }
}
