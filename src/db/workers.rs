//! Background threads, and the same work done by hand.
//!
//! The first thread writes out memtables, prepares log segments and unlinks files; the others run
//! the homes' jobs (merges). With one thread it does both, and lets flushes go first whenever a job
//! takes a breath. With none, [`Shared::maintain`] and writers that find no room do the work.
//! Beside them one thread syncs the log now and then, and one has its next pages ready.

use super::{settle::Turn, shared::Shared};
use crate::{
    Error, ErrorKind, Result,
    table::{Shop, TableState},
};
use std::{
    sync::{Arc, Weak},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// When little was written for so long, there is time for work that only makes reads cheaper.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// And this is no longer little.
const IDLE_BYTES: u64 = 1 << 20;
/// How long a worker with nothing to do sleeps at most.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// A time in which nothing was asked for and little was written.
struct Lull {
    since: Instant,
    /// What had been written by then, in bytes.
    written: u64,
}

impl Lull {
    /// Whether it has lasted for long. A writer in no hurry asks for nothing until it has filled a
    /// memtable, so what was `written` tells more.
    fn lasts(&mut self, now: Instant, written: u64) -> bool {
        if written.saturating_sub(self.written) >= IDLE_BYTES {
            *self = Self { since: now, written };
        }
        now.saturating_duration_since(self.since) >= IDLE_AFTER
    }
}

/// The background threads of a database. Dropping it stops them.
#[derive(Debug, Default)]
pub(super) struct Workers(Vec<JoinHandle<()>>);

impl Workers {
    pub(super) fn start(shared: &Arc<Shared>) -> Self {
        if shared.writing.is_none() {
            return Self::default();
        }
        let mut workers = Vec::new();
        for number in 0..shared.options.threads {
            let shared = shared.clone();
            workers.push(spawn("tonearm-work", move || work(&shared, number)));
        }
        if let Some(interval) = shared.options.sync_interval
            && shared.options.threads > 0
        {
            let shared = shared.clone();
            workers.push(spawn("tonearm-sync", move || sync_now_and_then(&shared, interval)));
        }
        if shared.options.threads > 0 {
            let shared = shared.clone();
            workers.push(spawn("tonearm-log", move || ready_log(&shared)));
        }
        Self(workers.into_iter().flatten().collect())
    }

    /// Waits until all have noticed that the database is closing.
    pub(super) fn join(&mut self) {
        for worker in self.0.drain(..) {
            // A worker that panicked has nothing more to say.
            let _ = worker.join();
        }
    }
}

/// A thread, or none if the system has no more: the work is then done by writers that need it.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).ok()
}

/// What a worker does until the database closes.
fn work(shared: &Arc<Shared>, number: usize) {
    let (flushes, merges) = match shared.options.threads {
        1 => (true, true),
        _ => (number == 0, number != 0),
    };
    let mut lull = Lull { since: Instant::now(), written: shared.written() };
    while !shared.is_closing() {
        let seen = shared.signals.asked();
        let idle = lull.lasts(Instant::now(), shared.written());
        let result = shared.turn(flushes, merges, idle);
        match result {
            Ok(true) => shared.signals.succeeded(),
            Ok(false) => {
                if idle {
                    shared.pool.clear();
                }
                if shared.signals.wait_for_work(seen, SLEEP_MAX) {
                    lull.since = Instant::now();
                }
            }
            Err(_) if shared.is_closing() => return,
            Err(error) => {
                let wait = shared.signals.failed(error);
                std::thread::sleep(wait);
            }
        }
    }
}

/// Keeps ahead of a writer that does not wait for syncs.
fn ready_log(shared: &Arc<Shared>) {
    while !shared.is_closing() {
        if shared.signals.wait_for_pages(SLEEP_MAX)
            && let Some(writing) = &shared.writing
        {
            writing.log.ready_pages();
        }
    }
}

fn sync_now_and_then(shared: &Arc<Shared>, interval: Duration) {
    while !shared.is_closing() {
        let due = Instant::now() + interval;
        while !shared.is_closing() && Instant::now() < due {
            std::thread::sleep((due - Instant::now()).min(Duration::from_millis(50)));
        }
        // A failure poisons the log, and the next writer hears of it.
        if shared.sync().is_err() {
            return;
        }
    }
}

impl Shared {
    /// One piece of background work; says whether there was any.
    fn turn(self: &Arc<Self>, flushes: bool, merges: bool, idle: bool) -> Result<bool> {
        if flushes {
            self.pool.prepare(self.options.memtable_capacity());
        }
        if flushes && (self.prepare_log()? | self.absorb_one()?.worked() | self.bury()) {
            return Ok(true);
        }
        if flushes && (self.sort_deletes() || (idle && self.seal_deletes()?)) {
            return Ok(true);
        }
        if !merges {
            return Ok(false);
        }
        let worked = self.merge_one(idle, &self.shop(self.breath()))?.worked();
        if worked {
            // What the merge replaced may be ready to be unlinked.
            self.signals.ask();
        }
        Ok(worked)
    }

    /// Bytes of all that was written so far.
    fn written(&self) -> u64 {
        self.writing.as_ref().map_or(0, |writing| writing.log.stats().appended_bytes)
    }

    /// Has the next log segment ready before it is needed.
    fn prepare_log(&self) -> Result<bool> {
        let writing = self.writing()?;
        if writing.log.poisoned().is_some() || !writing.log.needs_spare() {
            return Ok(false);
        }
        writing.log.prepare_spare()?;
        Ok(true)
    }

    /// Puts memtables of mostly deletes in order, which whoever reads next would have to do. They
    /// are what is left of a stretch of keys, and readers look there first.
    fn sort_deletes(&self) -> bool {
        let tables = self.table_list();
        let views = tables.iter().map(|table| table.view());
        views.filter(|view| view.active.is_mostly_deletes()).any(|view| view.active.sort())
    }

    /// Has memtables with many deletes written out, full or not: merged with what they delete,
    /// they are gone, and so is what readers walk over in vain. Says whether there were any.
    fn seal_deletes(&self) -> Result<bool> {
        let writing = self.writing()?;
        let tables = self.table_list();
        let is_due = |table: &&Arc<TableState>| {
            let view = table.view();
            view.active.has_many_deletes() && view.sealed.is_empty() && !table.is_dropped()
        };
        let mut due = tables.iter().filter(is_due);
        Ok(due.try_fold(0, |sealed, table| {
            self.seal_if_filled(writing, table).map(|()| sealed + 1)
        })? > 0)
    }

    /// Absorbs the oldest full memtables.
    fn absorb_one(&self) -> Result<Turn> {
        let oldest = |table: &Arc<TableState>| {
            table.view().sealed.last().and_then(|sealed| sealed.memtable.first_seq())
        };
        let mut waiting: Vec<_> = self
            .table_list()
            .into_iter()
            .filter_map(|table| Some((oldest(&table)?, table)))
            .collect();
        waiting.sort_by_key(|(seq, _)| *seq);
        first_worked(waiting.iter().map(|(_, table)| self.try_absorb(table)))
    }

    /// Runs the most urgent job of any table.
    fn merge_one(&self, idle: bool, shop: &Shop) -> Result<Turn> {
        let mut tables = self.table_list();
        tables.sort_by(|a, b| b.home().pressure().total_cmp(&a.home().pressure()));
        first_worked(tables.iter().map(|table| self.work_on(table, idle, shop)))
    }

    /// What a job does when it takes a breath: stops if the database closes; with one thread only,
    /// lets flushes go first.
    pub(super) fn breath(self: &Arc<Self>) -> Arc<dyn Fn() -> Result<()> + Send + Sync> {
        let shared: Weak<Shared> = Arc::downgrade(self);
        Arc::new(move || {
            let Some(shared) = shared.upgrade() else { return Err(closing()) };
            if shared.is_closing() {
                return Err(closing());
            }
            if shared.options.threads == 1
                && (shared.prepare_log()? | shared.absorb_one()?.worked())
            {
                shared.signals.succeeded();
            }
            Ok(())
        })
    }

    /// A writer without background threads met too much pressure: works until it is gone.
    pub(super) fn work_off_pressure(&self) -> Result<()> {
        let shop = self.shop(Arc::new(|| Ok(())));
        while self.pace.pressure() >= 1.0
            && (self.absorb_one()?.worked() | self.merge_one(false, &shop)?.worked())
        {}
        self.measure_pressure();
        self.bury();
        Ok(())
    }

    /// Does all background work there is, with a report after each piece.
    pub(super) fn maintain(self: &Arc<Self>, report: &mut dyn FnMut(Progress)) -> Result<()> {
        self.writing()?;
        let shop = self.shop(self.breath());
        let mut progress = Progress::default();
        loop {
            self.seal_deletes()?;
            let flush = self.absorb_one()?;
            let merge = if flush.worked() { Turn::Nothing } else { self.merge_one(true, &shop)? };
            if !flush.worked() && !merge.worked() && !self.prepare_log()? {
                if flush != Turn::Taken && merge != Turn::Taken {
                    break;
                }
                // What a worker makes now may be work for us.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            progress.flushes += u64::from(flush.worked());
            progress.merges += u64::from(merge.worked());
            self.bury();
            self.signals.succeeded();
            report(progress);
        }
        self.bury();
        self.pool.clear();
        Ok(())
    }
}

/// Takes turns until one has done some work; if none has, says whether one was taken.
fn first_worked(turns: impl Iterator<Item = Result<Turn>>) -> Result<Turn> {
    let mut outcome = Turn::Nothing;
    for turn in turns {
        match turn? {
            Turn::Worked => return Ok(Turn::Worked),
            Turn::Taken => outcome = Turn::Taken,
            Turn::Nothing => {}
        }
    }
    Ok(outcome)
}

fn closing() -> Error {
    Error::new(ErrorKind::Busy, "the database is closing")
}

/// How far a long piece of work has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Memtables written out so far.
    pub flushes: u64,
    /// Merges and moves of files done so far.
    pub merges: u64,
    /// Files handled so far, of [`Progress::files_total`] (verification, backup).
    pub files: u64,
    /// Files in all; 0 where that is not known beforehand.
    pub files_total: u64,
    /// Bytes handled so far.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_writer_is_no_lull_and_a_trickle_is() {
        let start = Instant::now();
        let after = |halves: u32| start + halves * SLEEP_MAX;
        let lasts = |bytes: u64| {
            let mut lull = Lull { since: start, written: 0 };
            (1..20).map(|i| lull.lasts(after(i), u64::from(i) * bytes)).collect::<Vec<_>>()
        };
        assert!(lasts(IDLE_BYTES).iter().all(|lasts| !lasts));
        assert!(lasts(IDLE_BYTES / 2 + 1).iter().all(|lasts| !lasts));
        assert_eq!(lasts(0)[..3], [false, true, true]);
        assert!(lasts(IDLE_BYTES / 20)[1..].iter().all(|lasts| *lasts));
    }
}
