//! The home itself: opening, taking in what memtables held, and publishing changes.

use super::{
    HashOptions,
    change::Edited,
    layer::{Layer, LayerCursor},
    load::load,
    merging::Merging,
    output::{Output, bits_for, pour},
    policy::pick,
    run::HashRun,
    runs::{Runs, Table},
};
use crate::{
    Result,
    memtable::Memtable,
    sorted::{Cursor, Deletes, FileId, Graveyard, Merge},
    table::{Change, Home, HomeFile, Input, Intake, Job, Settled, Shop, Source, Staged, Work},
};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// New entries are merged with the newest run, where there are too many, if it is at most so many
/// times as large.
const ABSORB_RATIO: u64 = 3;

/// The home of a hash table.
pub(crate) struct HashHome {
    current: ArcSwap<Runs>,
    /// Merges that were begun, each of newer runs than the one before: the last goes on first.
    merges: Mutex<Vec<Arc<Merging>>>,
    /// Whether the change that is being published is a step of the last of them.
    step_staged: AtomicBool,
    /// The age of the run that is being absorbed into; 0 if none is.
    absorbing: AtomicU64,
    /// Whether the change that is being published is what was absorbed into it.
    absorb_staged: AtomicBool,
    /// The size of the largest run of new entries since the table was opened.
    flushed: AtomicU64,
}

impl HashHome {
    /// A home of these files, each with the age that its meta says.
    pub(crate) fn open(options: HashOptions, files: Vec<Arc<HashRun>>) -> Result<Self> {
        let seed = options.seed_or_zero();
        let table = Arc::new(Table { options, seed, work: Work::default() });
        let mut runs = Runs::new(table);
        let mut files = files;
        files.sort_by_key(|run| run.meta().age);
        for of_one_age in files.chunk_by(|a, b| a.meta().age == b.meta().age) {
            let age = of_one_age.first().map_or(0, |run| run.meta().age);
            runs = runs.edited(&[], age, of_one_age)?;
        }
        Ok(Self {
            current: ArcSwap::from_pointee(runs),
            merges: Mutex::default(),
            step_staged: AtomicBool::new(false),
            absorbing: AtomicU64::new(0),
            absorb_staged: AtomicBool::new(false),
            flushed: AtomicU64::new(0),
        })
    }

    /// About the size of a run of new entries.
    fn flushed(&self, runs: &Runs) -> u64 {
        let smallest = runs.layers().iter().map(|layer| layer.bytes()).min().unwrap_or(0);
        self.flushed.load(Ordering::Relaxed).max(smallest)
    }

    /// New entries, as a change.
    fn settled(&self, runs: &Runs, added: Vec<Arc<HashRun>>, raw_bytes: u64) -> Change {
        runs.table().work.bytes_absorbed.add(raw_bytes);
        let bytes = added.iter().map(|run| run.meta().bytes).sum();
        self.flushed.fetch_max(bytes, Ordering::Relaxed);
        let entries = added.iter().map(|run| run.meta().entries).sum();
        Edited { added, entries, ..Edited::default() }.into()
    }

    /// The current runs, and the newest of them if there are more than there should be: `bytes` of
    /// new entries are then merged with it, since merges lag behind. No merge takes it until that
    /// is published.
    fn claim_newest(&self, bytes: u64) -> (Arc<Runs>, Option<Arc<Layer>>) {
        let merges = self.merges.lock();
        // Not before: a merge that is done by now may have replaced it.
        let runs = self.current.load_full();
        let taken = merges.last().map_or(0, |merging| merging.newest_age());
        let is_crowded = runs.layers().len() > runs.table().options.runs_max();
        let fits = |layer: &&Arc<Layer>| {
            is_crowded && layer.age() > taken && layer.bytes() <= ABSORB_RATIO * bytes
        };
        let newest = runs.layers().first().filter(fits).cloned();
        let age = newest.as_ref().map_or(0, |layer| layer.age());
        self.absorbing.store(age, Ordering::Release);
        (runs, newest)
    }

    /// Nothing is being absorbed into a run any more: merges may take it.
    fn give_back(&self) {
        self.absorbing.store(0, Ordering::Release);
    }

    /// New entries become a run of their own.
    fn flush(&self, runs: &Runs, input: &Input, shop: &Shop) -> Result<Change> {
        let (table, memtables) = (runs.table(), input.memtables());
        // Where there is nothing older, deletes have nothing to delete.
        let deletes = if runs.layers().is_empty() { Deletes::Hide } else { Deletes::Keep };
        let hashed = memtables.iter().map(|memtable| memtable.hashed(u64::MAX, table.seed));
        let mut merge = Merge::new(hashed.collect(), deletes);
        let (bytes, entries) = sizes(input);
        let output =
            Output::new(shop, table, runs.newest_age() + 1, bits_for(table, bytes, entries));
        let (added, read) = write(&mut merge, output)?;
        Ok(self.settled(runs, added, read))
    }
}

impl Home for HashHome {
    fn current(&self) -> Arc<dyn Settled> {
        self.current.load_full()
    }

    fn absorb(&self, input: &Input, shop: &Shop) -> Result<Change> {
        let (runs, newest) = self.claim_newest(sizes(input).0);
        runs.table().work.flushes.add(1);
        let change = match newest {
            Some(newest) => absorb_into(&newest, runs.table(), input, shop),
            None => self.flush(&runs, input, shop),
        };
        if change.is_err() {
            self.give_back();
        }
        change
    }

    fn ingest(&self, entries: &mut Intake<'_>, shop: &Shop) -> Result<Change> {
        let runs = self.current.load_full();
        let added = load(entries, shop, runs.table(), runs.newest_age() + 1)?;
        Ok(self.settled(&runs, added, entries.bytes()))
    }

    fn next_job(&self, idle: bool) -> Option<Box<dyn Job>> {
        let mut merges = self.merges.lock();
        let runs = self.current.load_full();
        let taken = merges.last().map_or(0, |merging| merging.newest_age());
        let absorbing = self.absorbing.load(Ordering::Acquire);
        let free = runs.layers().iter().take_while(|layer| layer.age() > taken);
        let free = free.filter(|layer| layer.age() != absorbing);
        let free: Vec<_> = free.cloned().collect();
        let sizes: Vec<u64> = free.iter().map(|layer| layer.bytes()).collect();
        let runs_max = runs.table().options.runs_max();
        // What comes while a long merge goes on is kept to few runs too.
        let runs_max = if merges.is_empty() { runs_max } else { runs_max / 2 };
        let idle = idle && merges.is_empty();
        if let Some(count) = pick(&sizes, runs_max, self.flushed(&runs), idle) {
            let inputs = free.into_iter().take(count).collect();
            let is_oldest = merges.is_empty() && count == sizes.len();
            merges.extend(Merging::new(runs.table(), inputs, is_oldest));
        }
        Some(Box::new(merges.last()?.next(&runs)?))
    }

    fn stage(&self, change: Change) -> Staged {
        let current = self.current.load_full();
        let edited = Edited::of(change);
        let age = edited.age.unwrap_or(current.newest_age() + 1);
        let (is_step, is_absorbed) = (edited.is_step, edited.is_absorbed());
        let find = |file: &FileId| Some(Arc::new(current.find(*file)?) as Arc<dyn HomeFile>);
        let retired = edited.removed.iter().filter_map(find).collect();
        let (removed, added) = (edited.removed, edited.added);
        // What does not fit was checked when it was written: slices of one run do not overlap.
        let next = current.edited(&removed, age, &added);
        debug_assert!(next.is_ok());
        let next = next.map_or(current.clone(), Arc::new);
        let added = added.iter().filter_map(|run| find_in(&next, run));
        let added = added.map(|file| (0, file)).collect();
        self.step_staged.store(is_step, Ordering::Release);
        self.absorb_staged.store(is_absorbed, Ordering::Release);
        Staged { added, removed, root: None, next, retired }
    }

    fn adopt(&self, staged: &Staged) {
        let next: Arc<dyn Any + Send + Sync> = staged.next.clone();
        if let Ok(runs) = next.downcast::<Runs>() {
            self.current.store(runs);
        }
        if self.absorb_staged.swap(false, Ordering::AcqRel) {
            self.give_back();
        }
        let mut merges = self.merges.lock();
        if self.step_staged.swap(false, Ordering::AcqRel)
            && merges.last().is_some_and(|merging| merging.published())
        {
            merges.pop();
        }
    }

    fn discard(&self, change: Change, graveyard: &Arc<Graveyard>) {
        change.fresh.iter().for_each(|file| file.retire(graveyard));
        if Edited::of(change).is_absorbed() {
            self.give_back();
        }
    }

    fn withdraw(&self, _staged: Staged) {
        self.step_staged.store(false, Ordering::Release);
        if self.absorb_staged.swap(false, Ordering::AcqRel) {
            self.give_back();
        }
    }

    fn pressure(&self) -> f64 {
        let runs = self.current.load();
        runs.table().options.pressure(runs.layers().len())
    }
}

/// New entries and those of the newest run become one run, in its place.
fn absorb_into(
    newest: &Arc<Layer>,
    table: &Arc<Table>,
    input: &Input,
    shop: &Shop,
) -> Result<Change> {
    let hashed = |memtable: &Arc<Memtable>| memtable.hashed(u64::MAX, table.seed);
    let memtables = input.memtables().iter().map(|memtable| Source::Hashed(hashed(memtable)));
    let older = Source::Other(Box::new(LayerCursor::new(newest.clone())));
    let mut merge = Merge::new(memtables.chain([older]).collect(), Deletes::Keep);
    let (raw, (bytes, entries)) = (newest.raw_bytes(), sizes(input));
    let bits = bits_for(table, bytes + raw, entries + newest.entries());
    let (added, read) = write(&mut merge, Output::new(shop, table, newest.age(), bits))?;
    table.work.bytes_absorbed.add(read.saturating_sub(raw));
    table.work.bytes_read.add(raw);
    let removed = newest.files().iter().map(|run| run.meta().file).collect();
    Ok(Edited { added, removed, age: Some(newest.age()), ..Edited::default() }.into())
}

/// How many bytes the memtables have, and how many entries.
fn sizes(input: &Input) -> (u64, u64) {
    let memtables = input.memtables();
    let bytes = memtables.iter().map(|memtable| memtable.bytes() as u64).sum();
    let entries = memtables.iter().map(|memtable| memtable.entries() as u64).sum();
    (bytes, entries)
}

/// Writes all of the input; says how many bytes of keys and values that was.
fn write<C: Cursor>(
    input: &mut Merge<C>,
    mut output: Output<'_>,
) -> Result<(Vec<Arc<HashRun>>, u64)> {
    input.seek_first()?;
    let read = pour(input, u64::MAX, &mut output, false)?;
    Ok((output.finish()?, read))
}

/// The run as a file of this version.
fn find_in(runs: &Runs, run: &Arc<HashRun>) -> Option<Arc<dyn HomeFile>> {
    Some(Arc::new(runs.find(run.meta().file)?) as Arc<dyn HomeFile>)
}
