//! Merging runs into a level below them.

use super::{
    LAST,
    lenders::Lending,
    levels::Levels,
    older::Older,
    output::{Plan, pour},
    tier::{Tier, hull, pile, span},
};
use crate::{
    Result,
    sorted::{Deletes, FileId, LevelCursor, Merge, Run, Span},
    table::{Shop, Source},
};
use std::sync::Arc;

/// How much of the level after the next one may lie below one run, in files: more, and merging the
/// run further down would be a large job.
pub(super) const GRANDPARENTS_MAX: u64 = 10;

/// Most bytes of a job, in files: a job over it is done in slices.
pub(super) const JOB_FILES: u64 = 25;

/// Runs to be merged into one level.
#[derive(Clone)]
pub(super) struct Merging {
    pub(super) top: u8,
    /// Of level `top`; those of level 0 newest first.
    pub(super) upper: Vec<Arc<Run>>,
    /// The level of the outcome.
    pub(super) bottom: u8,
    /// All runs of level `bottom` that overlap the hull of `upper`.
    pub(super) lower: Vec<Arc<Run>>,
    /// The span around all of them.
    pub(super) hull: Span,
}

impl Merging {
    /// Merging `upper` with what it overlaps in level `bottom`.
    pub(super) fn new(levels: &Levels, top: u8, upper: Vec<Arc<Run>>, bottom: u8) -> Option<Self> {
        let inner = hull(upper.iter().map(span))?;
        let lower = match top < bottom {
            true => levels.level(bottom).overlapping(&inner).to_vec(),
            false => Vec::new(),
        };
        let hull = hull(lower.iter().map(span).chain([&inner]))?;
        Some(Self { top, upper, bottom, lower, hull })
    }

    pub(super) fn lower_bytes(&self) -> u64 {
        bytes(&self.lower)
    }

    pub(super) fn upper_bytes(&self) -> u64 {
        bytes(&self.upper)
    }

    pub(super) fn files(&self) -> Vec<FileId> {
        self.upper.iter().chain(&self.lower).map(|run| run.meta().file).collect()
    }

    /// Which values it leaves where they are.
    pub(super) fn lending(&self, levels: &Levels) -> Lending {
        let options = &levels.tree().options;
        let inputs: Vec<_> = self.upper.iter().chain(&self.lower).collect();
        let (outcome, most) = (options.run(self.bottom == LAST), JOB_FILES * options.file_limit());
        Lending::new(levels.lenders(), &inputs, outcome, most)
    }
}

fn bytes(runs: &[Arc<Run>]) -> u64 {
    runs.iter().map(|run| run.meta().bytes).sum()
}

/// Writes what the runs hold `within` a span as runs of the lower level.
pub(super) fn merge(
    levels: &Levels,
    merging: &Merging,
    within: &Span,
    lending: &Lending,
    shop: &Shop,
) -> Result<Vec<(u8, Arc<Run>)>> {
    let tree = levels.tree();
    let upper = if merging.top == 0 {
        pile(&merging.upper)
    } else {
        vec![Tier::new(merging.upper.clone())]
    };
    let tiers = upper.into_iter().chain([Tier::new(merging.lower.clone())]);
    let cursors = tiers.filter(|tier| !tier.is_empty()).map(|tier| match &**tier.runs() {
        [run] => Source::Run(run.cursor()),
        _ => Source::Level(LevelCursor::new(tier.runs().clone())),
    });
    let mut input = Merge::new(cursors.collect(), Deletes::Keep);
    let options = tree.options.run(merging.bottom == LAST);
    let plan = Plan {
        shop,
        within: within.clone(),
        options: &|_| options,
        file_bytes: tree.options.file_limit(),
        grandparents: levels.below(merging.bottom).next().cloned(),
        grandparent_bytes: GRANDPARENTS_MAX * tree.options.file_limit(),
        lending: Some(lending),
    };
    let older = Older::new(levels.below(merging.bottom), within);
    let poured = pour(&mut input, older, plan, true)?;
    tree.work.merges.add(1);
    tree.work.bytes_written.add(bytes(&poured.runs));
    Ok(poured.runs.into_iter().map(|run| (merging.bottom, run)).collect())
}
