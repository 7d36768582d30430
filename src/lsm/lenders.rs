//! Runs that are kept for values in them that entries of other runs point to.
//!
//! A merge may leave long values where they are and write down only where that is. The run that has
//! them, if it is merged away, becomes a *lender*: nobody reads its entries any more. Each run says
//! in its meta how much of what lies in which file it needs, so what is still needed of a lender is
//! a sum over all runs of the levels. When that is nothing the lender goes. When it is less than
//! half, the lender is *poor*: merges copy out of it, and runs that point to it are written again
//! for that alone. So long values take at most about twice their space, and each is copied once for
//! every time that half of its neighbours went away.
//!
//! A run that has few long values for its size would be poor as soon as it lends: those are copied.

use crate::{
    codec::Compression,
    sorted::{FileId, Lent, Run, RunOptions},
    table::LenderStats,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The lenders of one version of the tree.
#[derive(Default)]
pub(super) struct Lenders {
    /// Attached to nothing, as nobody reads their entries.
    runs: Vec<Arc<Run>>,
    /// Stored bytes of values that runs of the levels point to, by the file they lie in.
    needed: HashMap<FileId, u64>,
}

impl Lenders {
    /// Those that `choose` says, beside the runs of all levels; it may ask what is needed.
    pub(super) fn new<'a>(
        of_levels: impl Iterator<Item = &'a Arc<Run>>,
        choose: impl FnOnce(&Self) -> Vec<Arc<Run>>,
    ) -> Self {
        let mut needed = HashMap::new();
        for (file, bytes) in of_levels.flat_map(|run| &run.meta().borrowed) {
            let sum = needed.entry(*file).or_default();
            *sum = total([*sum, *bytes].into_iter());
        }
        let lenders = Self { runs: Vec::new(), needed };
        Self { runs: choose(&lenders), ..lenders }
    }

    pub(super) fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// Whether an entry points to a value in `file`.
    pub(super) fn is_needed(&self, file: FileId) -> bool {
        self.needed.contains_key(&file)
    }

    fn needed_of(&self, run: &Run) -> u64 {
        self.needed.get(&run.meta().file).copied().unwrap_or(0)
    }

    /// Lenders of which less than half is needed, the poorest first.
    pub(super) fn poor(&self) -> Vec<FileId> {
        let share = |run: &Arc<Run>| self.needed_of(run) as f64 / run.meta().bytes.max(1) as f64;
        let poor = self.runs.iter().map(|run| (share(run), run.meta().file));
        let mut poor: Vec<_> = poor.filter(|(share, _)| (0.0..0.5).contains(share)).collect();
        poor.sort_by(|a, b| a.0.total_cmp(&b.0));
        poor.into_iter().map(|(_, file)| file).collect()
    }

    pub(super) fn stats(&self) -> LenderStats {
        let runs = || self.runs.iter();
        LenderStats {
            files: self.runs.len() as u64,
            bytes: runs().map(|run| run.meta().bytes).sum(),
            needed_bytes: total(runs().map(|run| self.needed_of(run))),
        }
    }
}

/// Which values a merge leaves where they are.
pub(super) struct Lending {
    /// Those stored in so many bytes ..
    from: u32,
    /// .. as the outcome would have them ..
    compression: Compression,
    /// .. in other files than these.
    drained: HashSet<FileId>,
}

impl Lending {
    /// What is right for a merge of `inputs` into runs with these options; it copies about `most`
    /// bytes out of poor lenders, or what is needed of one.
    pub(super) fn new(
        lenders: &Lenders,
        inputs: &[&Arc<Run>],
        options: RunOptions,
        most: u64,
    ) -> Self {
        let is_rich =
            |run: &Run| run.meta().lendable.saturating_mul(3) >= run.meta().bytes.saturating_mul(2);
        let drained = inputs.iter().filter(|run| !is_rich(run)).map(|run| run.meta().file);
        let mut drained: HashSet<FileId> = drained.collect();
        let mut copied = 0;
        for file in lenders.poor() {
            let bytes = total(inputs.iter().map(|run| run.meta().borrowed_from(file)));
            let sum = total([copied, bytes].into_iter());
            if bytes > 0 && (copied == 0 || sum <= most) {
                copied = sum;
                drained.insert(file);
            }
        }
        Self { from: options.lend_from, compression: options.compression, drained }
    }

    pub(super) fn suits(&self, value: &Lent) -> bool {
        value.far.stored >= self.from
            && value.lender.compression() == self.compression
            && !self.drained.contains(&value.lender.id())
    }

    /// How many bytes of these runs a merge reads.
    pub(super) fn bytes_read(&self, runs: &[Arc<Run>]) -> u64 {
        let unread = |run: &Run| {
            let lends = run.file().compression() == self.compression
                && !self.drained.contains(&run.meta().file);
            if lends { run.meta().lendable } else { 0 }
        };
        runs.iter().map(|run| run.meta().bytes.saturating_sub(unread(run))).sum()
    }
}

/// The sum of what metas say, which may be anything.
fn total(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}
