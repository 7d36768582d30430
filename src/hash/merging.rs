//! Merging runs, stretch by stretch of the hashes.
//!
//! A merge takes some of the newest runs and makes one of them, which takes the place of the
//! oldest. It goes through the hashes in steps, one file of that oldest run after the other: each
//! step is published on its own and frees the file, so that never more space is needed than a
//! file and the newer runs take. The newer runs stay until the last step: what they hold of a
//! stretch that is done is then there twice, in them and merged below them, and says the same in
//! both places, so readers cannot tell. Nor can a crash hurt: the merge begins anew.
//!
//! New runs may come on top meanwhile, and be merged among themselves between two steps.

use super::{
    change::Edited,
    layer::{Layer, LayerCursor},
    output::{Output, bits_for, pour},
    run::{HashRun, Slice},
    runs::{Runs, Table},
};
use crate::{
    Result,
    sorted::{Cursor, Deletes, FileId, Merge},
    table::{Change, Job, Shop},
};
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A merge that was begun.
pub(super) struct Merging {
    table: Arc<Table>,
    /// The runs that vanish, newest first.
    newer: Vec<Arc<Layer>>,
    /// The age of the run that is replaced file by file. Not kept here, so that its files can go.
    oldest: u64,
    /// Whether there is nothing older, so that deletes have done their work.
    is_oldest: bool,
    /// How finely the outcome is cut.
    bits: u8,
    steps: Vec<Slice>,
    /// How many are done.
    done: Mutex<usize>,
    is_running: AtomicBool,
}

impl Merging {
    /// Merging `inputs`, newest first: at least two.
    pub(super) fn new(
        table: &Arc<Table>,
        mut inputs: Vec<Arc<Layer>>,
        is_oldest: bool,
    ) -> Option<Arc<Self>> {
        let bytes = inputs.iter().map(|layer| layer.raw_bytes()).sum();
        let entries = inputs.iter().map(|layer| layer.entries()).sum();
        let oldest = inputs.pop()?;
        Some(Arc::new(Self {
            table: table.clone(),
            newer: inputs,
            oldest: oldest.age(),
            is_oldest,
            bits: bits_for(table, bytes, entries),
            steps: steps(&oldest),
            done: Mutex::new(0),
            is_running: AtomicBool::new(false),
        }))
    }

    /// The age of its newest run: those newer are not part of it.
    pub(super) fn newest_age(&self) -> u64 {
        self.newer.first().map_or(self.oldest, |layer| layer.age())
    }

    /// The step to be taken next in the current version, unless somebody is at it.
    pub(super) fn next(self: &Arc<Self>, runs: &Runs) -> Option<Step> {
        let slice = *self.steps.get(*self.done.lock())?;
        let oldest = runs.layers().iter().find(|layer| layer.age() == self.oldest).cloned();
        let is_taken = self.is_running.swap(true, Ordering::AcqRel);
        (!is_taken).then(|| Step { merging: self.clone(), oldest, slice })
    }

    /// Notes that a step was published; says whether it was the last.
    pub(super) fn published(&self) -> bool {
        let mut done = self.done.lock();
        *done += 1;
        *done == self.steps.len()
    }

    fn is_last(&self) -> bool {
        *self.done.lock() + 1 == self.steps.len()
    }
}

/// The slices of all files of the oldest run, and what lies between them.
fn steps(oldest: &Layer) -> Vec<Slice> {
    let mut steps = Vec::new();
    let mut next = Some(0);
    while let Some(hash) = next {
        let slice = oldest.slice_at(hash);
        next = slice.last().checked_add(1);
        steps.push(slice);
    }
    steps
}

/// One step of a merge, being taken.
pub(super) struct Step {
    merging: Arc<Merging>,
    oldest: Option<Arc<Layer>>,
    slice: Slice,
}

impl Step {
    fn merge(&self, shop: &Shop) -> Result<Vec<Arc<HashRun>>> {
        let Merging { table, newer, is_oldest, .. } = &*self.merging;
        let inputs = newer.iter().chain(&self.oldest);
        let sources = inputs.map(|layer| LayerCursor::new(layer.clone())).collect();
        let deletes = if *is_oldest { Deletes::Hide } else { Deletes::Keep };
        let mut input = Merge::new(sources, deletes);
        input.seek(&self.slice.first().to_be_bytes())?;
        let bits = self.merging.bits.max(self.slice.bits);
        let mut output = Output::new(shop, table, self.merging.oldest, bits);
        let read = pour(&mut input, self.slice.last(), &mut output, true)?;
        table.work.bytes_read.add(read);
        output.finish()
    }

    /// The files that are not needed once this step is published.
    fn removed(&self) -> Vec<FileId> {
        let replaced = self.oldest.iter().flat_map(|layer| layer.files());
        let replaced = replaced.filter(|run| run.meta().slice == self.slice);
        let vanished = self.merging.newer.iter().flat_map(|layer| layer.files());
        let vanished = vanished.filter(|_| self.merging.is_last());
        replaced.chain(vanished).map(|run| run.meta().file).collect()
    }
}

impl Job for Step {
    fn run(&mut self, shop: &Shop) -> Result<Change> {
        let added = self.merge(shop)?;
        if self.merging.is_last() {
            self.merging.table.work.merges.add(1);
        }
        let (removed, age) = (self.removed(), Some(self.merging.oldest));
        Ok(Edited { added, removed, age, entries: 0, is_step: true }.into())
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.merging.is_running.store(false, Ordering::Release);
    }
}
