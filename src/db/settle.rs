//! From memory to files: absorbing memtables, running jobs, and publishing what they made.
//!
//! What is on disk at every instant of a flush:
//!
//! ```text
//!   1  run written, synced               an orphan: the next open removes it
//!   2  folder synced                     its name survives, still an orphan
//!   3  log synced past the memtable      the files never lead the log (see `keep_log_ahead`)
//!   4  manifest edit synced              published: the run counts, the memtable's log does not
//!   5  view swapped                      readers see it
//!   6  log segments removed              nobody needs them
//! ```

use super::shared::{Shared, Writing};
use crate::{
    Error, Result,
    manifest::Edit,
    sorted::Span,
    table::{
        Change, Feed, HomeFile, Input, Intake, Job, Sealed, Shop, Staged, TableId, TableState,
    },
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

/// Memtables that a change makes superfluous.
#[derive(Default)]
struct Absorbed {
    sealed: Vec<Sealed>,
    /// Everything up to here is settled.
    upto: Option<u64>,
    /// Keys that come with the change and were in no memtable.
    loaded: Option<Span>,
}

/// What came of looking for a piece of work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It was done.
    Worked,
    /// There may be some, but another thread is at it, and there may be more once that is done.
    Taken,
    /// There was none.
    Nothing,
}

impl Turn {
    pub(super) fn worked(self) -> bool {
        self == Self::Worked
    }
}

impl From<bool> for Turn {
    fn from(worked: bool) -> Self {
        if worked { Self::Worked } else { Self::Nothing }
    }
}

impl Shared {
    /// Turns the table's full memtables into files; says whether there were any.
    pub(super) fn absorb(&self, table: &Arc<TableState>) -> Result<bool> {
        let _absorbing = table.absorbing.lock();
        self.absorb_sealed(table)
    }

    /// [`Shared::absorb`], unless somebody else is at it.
    pub(super) fn try_absorb(&self, table: &Arc<TableState>) -> Result<Turn> {
        match table.absorbing.try_lock() {
            Some(_absorbing) => self.absorb_sealed(table).map(Turn::from),
            None => Ok(Turn::Taken),
        }
    }

    /// The caller holds the table's `absorbing` lock.
    fn absorb_sealed(&self, table: &Arc<TableState>) -> Result<bool> {
        let writing = self.writing()?;
        let sealed = table.view().sealed.clone();
        let Some(newest) = sealed.first() else { return Ok(false) };
        let start = Instant::now();
        let input = Input::new(sealed.iter().map(|sealed| sealed.memtable.clone()).collect());
        let bytes = sealed.iter().map(|sealed| sealed.memtable.bytes() as u64).sum();
        let shop = self.shop(Arc::new(|| Ok(())));
        let change = table.home().absorb(&input, &shop)?;
        let (upto, sealed) = (Some(newest.upto), sealed.clone());
        let absorbed = Absorbed { upto, sealed, loaded: None };
        let change = self.secure(table, change, || self.keep_log_ahead(writing, table, newest))?;
        self.publish(table, change, &absorbed)?;
        self.pace.absorbed(bytes, start.elapsed());
        self.measure_backlog(&self.tables.read());
        Ok(true)
    }

    /// Makes the log durable as far as `newest` goes, which is about to be published as files:
    /// else a power cut could lose another table's half of a batch, or an older commit, and leave
    /// this one.
    ///
    /// If no other table has anything as old that is not in files, nothing so old can be lost, and
    /// the log is left alone: what one busy table writes is not written to the disk twice. (A hole
    /// in the log does no harm: replay ends there, and whatever was promised to survive made all
    /// before it durable.)
    fn keep_log_ahead(
        &self,
        writing: &Writing,
        table: &Arc<TableState>,
        newest: &Sealed,
    ) -> Result<()> {
        let is_newer = |other: &Arc<TableState>| {
            Arc::ptr_eq(other, table) || other.first_unsettled().is_none_or(|seq| seq > newest.upto)
        };
        if self.tables.read().values().all(is_newer) {
            return Ok(());
        }
        writing.log.sync_at_leisure(newest.log_end)
    }

    /// Runs a job of the table's home.
    pub(super) fn run_job(
        &self,
        table: &Arc<TableState>,
        job: &mut dyn Job,
        shop: &Shop,
    ) -> Result<()> {
        let change = job.run(shop)?;
        let change = self.secure(table, change, || Ok(()))?;
        self.publish(table, change, &Absorbed::default())
    }

    /// The next job of the table's home, run to its end.
    pub(super) fn work_on(&self, table: &Arc<TableState>, idle: bool, shop: &Shop) -> Result<Turn> {
        if table.is_dropped() {
            return Ok(Turn::Nothing);
        }
        if table.working.swap(true, Ordering::AcqRel) {
            return Ok(Turn::Taken);
        }
        let result = match table.home().next_job(idle) {
            Some(mut job) => self.run_job(table, &mut *job, shop).map(|()| Turn::Worked),
            None => Ok(Turn::Nothing),
        };
        table.working.store(false, Ordering::Release);
        result
    }

    /// Loads entries in bulk.
    ///
    /// They take their place in time at the moment the active memtable is sealed: what is in
    /// memtables by then is absorbed first, and lies below them; what is written later lies above.
    pub(super) fn ingest(
        self: &Arc<Self>,
        table: &Arc<TableState>,
        entries: &mut dyn Feed,
    ) -> Result<u64> {
        let writing = self.writing()?;
        self.keep_pace(0)?;
        let shop = Shop { room: self.room(), ..self.shop(self.breath()) };
        let mut intake = Intake::new(entries, table.engine().is_ordered());
        let change = table.home().ingest(&mut intake, &shop)?;
        let loaded = intake.span();
        let count = change.entries;
        let mut change = self.secure(table, change, || Ok(()))?;
        let _absorbing = table.absorbing.lock();
        // Other tables' commits until now are older than these entries, and must not be lost where
        // these survive.
        let sealed = self.seal_if_filled(writing, table).and_then(|()| self.sync());
        let absorbed = sealed.and_then(|()| self.absorb_sealed(table));
        if let Err(error) = absorbed.and_then(|_| table.home().join(&mut change, &shop)) {
            table.home().discard(change, &self.graveyard);
            return Err(error);
        }
        self.publish(table, change, &Absorbed { loaded, ..Absorbed::default() })?;
        Ok(count)
    }

    /// Writes everything in the table's memtables into files.
    pub(super) fn flush(&self, table: &Arc<TableState>) -> Result<()> {
        let writing = self.writing()?;
        let _absorbing = table.absorbing.lock();
        self.seal_if_filled(writing, table)?;
        self.absorb_sealed(table).map(|_| ())
    }

    pub(super) fn seal_if_filled(&self, writing: &Writing, table: &Arc<TableState>) -> Result<()> {
        let mut commit = writing.commit.lock();
        if let Some(error) = writing.log.poisoned() {
            return Err(error);
        }
        if !table.view().active.is_empty() && !table.is_dropped() {
            self.seal(&mut commit, table, 0);
        }
        Ok(())
    }

    /// Makes a change's files durable, names included, and whatever `more` does; discards them if
    /// that fails.
    fn secure(
        &self,
        table: &TableState,
        change: Change,
        more: impl FnOnce() -> Result<()>,
    ) -> Result<Change> {
        let named = if change.fresh.is_empty() {
            Ok(())
        } else {
            self.folder.sync().map_err(|e| Error::io("sync the folder", "", e))
        };
        match named.and_then(|()| more()) {
            Ok(()) => Ok(change),
            Err(error) => {
                table.home().discard(change, &self.graveyard);
                Err(error)
            }
        }
    }

    /// Publishes a change in one manifest edit, then shows it to readers.
    fn publish(&self, table: &Arc<TableState>, change: Change, absorbed: &Absorbed) -> Result<()> {
        let writing = self.writing()?;
        let mut manifest = writing.manifest.lock();
        if table.is_dropped() {
            table.home().discard(change, &self.graveyard);
            return Ok(());
        }
        let fresh = change.fresh.clone();
        let staged = table.home().stage(change);
        let log_start = self.log_start(writing, table, absorbed);
        let mut edits = edits(table, &staged);
        edits.push(Edit::SetNextFile(self.files.next()));
        edits.push(Edit::SetLogStart(log_start.max(manifest.state().log_start)));
        if let Some(seq) = absorbed.upto {
            edits.push(Edit::SetSettled { table: table.id(), seq });
        }
        if let Err(error) = manifest.commit(&edits) {
            // An edit that may have reached the disk may name these files: the next open knows.
            if !manifest.in_doubt() {
                table.home().withdraw(staged);
                fresh.iter().for_each(|file| file.retire(&self.graveyard));
            }
            return Err(error);
        }
        table.home().adopt(&staged);
        table.settle(staged.next, &absorbed.sealed, absorbed.loaded.clone(), &self.history);
        staged.retired.iter().for_each(|file| file.retire(&self.graveyard));
        drop(manifest);
        self.measure_pressure();
        // A segment that cannot be unlinked now is skipped, and unlinked, by the next open.
        let _ = writing.log.remove_below(log_start);
        Ok(())
    }

    /// The first log segment still needed once `absorbed` is published.
    fn log_start(&self, writing: &Writing, of: &Arc<TableState>, absorbed: &Absorbed) -> u64 {
        // Read before the tables are looked at: what is committed meanwhile is newer.
        let committed = self.visible.get();
        let first = |table: &Arc<TableState>| {
            if !Arc::ptr_eq(table, of) {
                return table.first_unsettled();
            }
            let view = table.view();
            let left = view.sealed.len().saturating_sub(absorbed.sealed.len());
            let kept = view.sealed.iter().take(left).rev().map(|sealed| &sealed.memtable);
            kept.chain([&view.active]).find_map(|memtable| memtable.first_seq())
        };
        let needed = self.tables.read().values().filter_map(first).min();
        writing.log.first_needed(needed.unwrap_or(committed + 1).min(committed + 1))
    }

    /// Tells writers how far background work lags behind.
    pub(super) fn measure_pressure(&self) {
        let pressure = |table: &Arc<TableState>| table.home().pressure();
        let worst = self.tables.read().values().map(pressure).fold(0.0, f64::max);
        self.pace.set_pressure(worst);
    }

    /// Unlinks files that nobody reads any more.
    pub(super) fn bury(&self) -> bool {
        let dead = self.graveyard.take();
        for dead in &dead {
            self.cache.forget(dead.file);
            // What cannot be unlinked now is an orphan that the next open removes.
            let _ = self.folder.remove(&dead.name);
        }
        !dead.is_empty()
    }
}

/// What the manifest has to say of a staged change.
fn edits(table: &TableState, staged: &Staged) -> Vec<Edit> {
    let table = table.id();
    let removed = staged.removed.iter().map(|&file| Edit::RemoveFile { table, file });
    let added = staged.added.iter().map(|(level, file)| add_file(table, *level, &**file));
    let root = staged.root.iter().map(|root| Edit::SetRoot { table, root: root.clone() });
    removed.chain(added).chain(root).collect()
}

/// The edit that lists a home's file.
pub(super) fn add_file(table: TableId, level: u8, file: &dyn HomeFile) -> Edit {
    let meta = file.meta();
    Edit::AddFile { table, level, file: file.file(), bytes: file.bytes(), meta }
}
