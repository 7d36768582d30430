//! One version of a table's runs, and how they are read.

use super::{
    LAST, LENDERS, LEVELS, LsmOptions,
    lenders::Lenders,
    shape::Shape,
    tier::{Tier, pile},
};
use crate::{
    Error, Result,
    sorted::{FileId, Found, LevelCursor, Lookup, Run, Span, run_name},
    table::{HomeFile, HomeStats, LevelStats, Settled, Source, Work},
};
use std::{collections::HashSet, sync::Arc};

/// One immutable version of the tree.
pub(super) struct Levels {
    /// What all versions share.
    tree: Arc<Tree>,
    /// Level 0, newest first.
    fresh: Vec<Arc<Run>>,
    /// Level 0 again, as tiers: for any key, an earlier tier is newer.
    piles: Vec<Tier>,
    /// Levels 1 to 6.
    deep: [Tier; LEVELS - 1],
    lenders: Arc<Lenders>,
    shape: Shape,
}

/// What all versions of a tree share.
pub(super) struct Tree {
    pub(super) options: LsmOptions,
    pub(super) work: Work,
}

impl Levels {
    /// A version without runs.
    pub(super) fn empty(tree: Arc<Tree>) -> Self {
        let deep = std::array::from_fn(|_| Tier::new(Vec::new()));
        Self::new(tree, Vec::new(), deep, Arc::default())
    }

    /// A version with these runs; those of level 0 newest first.
    fn new(
        tree: Arc<Tree>,
        fresh: Vec<Arc<Run>>,
        deep: [Tier; LEVELS - 1],
        lenders: Arc<Lenders>,
    ) -> Self {
        let piles = pile(&fresh);
        let mut levels = Self { tree, fresh, piles, deep, lenders, shape: Shape::default() };
        levels.shape = Shape::of(&levels.tree.options, &levels.bytes());
        levels
    }

    /// The version after this one: without the runs `removed`, with those `added`, oldest first.
    pub(super) fn edited(&self, removed: &[FileId], added: &[(u8, Arc<Run>)]) -> Self {
        let removed: HashSet<FileId> = removed.iter().copied().collect();
        let stays = |run: &&Arc<Run>| !removed.contains(&run.meta().file);
        let new_in =
            |level: u8| added.iter().rev().filter(move |(to, _)| *to == level).map(|(_, run)| run);
        let fresh = new_in(0).chain(self.fresh.iter().filter(stays)).cloned().collect();
        let deep = std::array::from_fn(|at| {
            let (level, old) = (at as u8 + 1, &self.deep[at]);
            if new_in(level).next().is_none() && old.runs().iter().all(|run| stays(&run)) {
                return old.clone();
            }
            Tier::new(new_in(level).chain(old.runs().iter().filter(stays)).cloned().collect())
        });
        Self::new(self.tree.clone(), fresh, deep, self.lenders.clone())
    }

    /// The same with the lenders that `choose` says.
    pub(super) fn with_lenders(self, choose: impl FnOnce(&Lenders) -> Vec<Arc<Run>>) -> Self {
        let deep = self.deep.iter().flat_map(|tier| tier.runs().iter());
        let lenders = Arc::new(Lenders::new(self.fresh.iter().chain(deep), choose));
        Self { lenders, ..self }
    }

    pub(super) fn lenders(&self) -> &Lenders {
        &self.lenders
    }

    pub(super) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The runs of level 0, newest first.
    pub(super) fn fresh(&self) -> &[Arc<Run>] {
        &self.fresh
    }

    /// Level `level`, which is one of 1 to 6.
    pub(super) fn level(&self, level: u8) -> &Tier {
        let at = usize::from(level.clamp(1, LAST)) - 1;
        &self.deep[at]
    }

    /// Everything, newest first.
    pub(super) fn tiers(&self) -> impl Iterator<Item = &Tier> {
        self.piles.iter().chain(&self.deep)
    }

    /// Everything, newest first, each tier with its level.
    pub(super) fn leveled_tiers(&self) -> impl Iterator<Item = (u8, &Tier)> {
        let piles = self.piles.iter().map(|pile| (0, pile));
        piles.chain((1..).zip(&self.deep))
    }

    /// The levels below `level`.
    pub(super) fn below(&self, level: u8) -> impl Iterator<Item = &Tier> {
        self.deep.iter().skip(level.into())
    }

    /// How many runs of level 0 lie on top of each other, at most.
    pub(super) fn depth(&self) -> usize {
        self.piles.len()
    }

    /// Bytes of each level.
    pub(super) fn bytes(&self) -> [u64; LEVELS] {
        std::array::from_fn(|level| match level {
            0 => self.fresh.iter().map(|run| run.meta().bytes).sum(),
            _ => self.deep[level - 1].bytes(),
        })
    }

    /// Bytes of merging left to do.
    pub(super) fn debt(&self) -> u64 {
        let due = self.depth() >= self.tree.options.merge_depth();
        self.shape.debt(&self.bytes(), due)
    }

    /// The deepest level where a run of `span`, newer than all there is, may lie; `is_blocked` says
    /// where it may not for other reasons.
    pub(super) fn deepest_fit(&self, span: &Span, is_blocked: impl Fn(u8) -> bool) -> u8 {
        if self.piles.iter().any(|pile| pile.overlaps(span)) {
            return 0;
        }
        let fits = |&level: &u8| !self.level(level).overlaps(span) && !is_blocked(level);
        (self.shape.base..=LAST).take_while(fits).last().unwrap_or(0)
    }

    /// What must hold of any version: levels from 1 on do not overlap. That nothing newer lies
    /// below anything older cannot be seen from the runs; tests see it from what is read.
    pub(super) fn check(&self) -> Result<()> {
        for tier in self.tiers() {
            if let Some(run) = tier.first_overlap() {
                let what = "the run overlaps another one of its level";
                return Err(Error::corrupt(&run_name(run.meta().file), 0, what));
            }
        }
        Ok(())
    }
}

impl Levels {
    /// Every run with its level, newest first.
    pub(super) fn runs(&self) -> Vec<(u8, Arc<Run>)> {
        let fresh = self.fresh.iter().map(|run| (0, run.clone()));
        let deep = (1..=LAST)
            .flat_map(|level| self.level(level).runs().iter().map(move |run| (level, run.clone())));
        fresh.chain(deep).collect()
    }
}

impl Settled for Levels {
    #[inline]
    fn get(&self, key: &[u8], hash: u64, found: &mut dyn FnMut(Found<'_>)) -> Result<Lookup<()>> {
        for tier in self.tiers() {
            let Some(run) = tier.find(key) else { continue };
            match run.get(key, hash, found)? {
                Lookup::Missing => {}
                known => return Ok(known),
            }
        }
        Ok(Lookup::Missing)
    }

    fn get_many(
        &self,
        keys: &[(&[u8], u64)],
        answer: &mut dyn FnMut(usize, Lookup<Found<'_>>),
    ) -> Result<()> {
        let mut open: Vec<usize> = (0..keys.len()).collect();
        let mut known = vec![false; keys.len()];
        for tier in self.tiers() {
            let place = |&key: &usize| Some((tier.place(keys.get(key)?.0)?, key));
            let mut placed: Vec<(usize, usize)> = open.iter().filter_map(place).collect();
            placed.sort_unstable_by_key(|(run, _)| *run);
            for group in placed.chunk_by(|a, b| a.0 == b.0) {
                let Some(run) = group.first().and_then(|(run, _)| tier.runs().get(*run)) else {
                    continue;
                };
                let asked: Vec<_> =
                    group.iter().filter_map(|(_, key)| keys.get(*key).copied()).collect();
                run.get_many(&asked, &mut |i, lookup| {
                    let Some((_, key)) = group.get(i) else { return };
                    if !matches!(lookup, Lookup::Missing) {
                        known[*key] = true;
                        answer(*key, lookup);
                    }
                })?;
            }
            open.retain(|key| !known[*key]);
            if open.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn sources(&self, within: &Span, out: &mut Vec<Source>) {
        for tier in self.tiers() {
            let runs = match tier.overlapping(within) {
                [] => continue,
                [run] => {
                    out.push(Source::Run(run.cursor()));
                    continue;
                }
                all if all.len() == tier.runs().len() => tier.runs().clone(),
                some => some.into(),
            };
            let range_deletes = tier.range_deletes().clone();
            out.push(Source::Level(LevelCursor::with_range_deletes(runs, range_deletes)));
        }
    }

    fn files(&self) -> Vec<(u8, Arc<dyn HomeFile>)> {
        let lenders = self.lenders.runs().iter().map(|run| (LENDERS, run.clone()));
        let runs = self.runs().into_iter().chain(lenders);
        runs.map(|(level, run)| (level, run as Arc<dyn HomeFile>)).collect()
    }

    fn stats(&self) -> HomeStats {
        let mut stats = HomeStats { work: self.tree.work.stats(), ..HomeStats::default() };
        for level in 0..=LAST {
            let runs = if level == 0 { &self.fresh } else { &self.level(level).runs()[..] };
            let mut row = LevelStats { level, ..LevelStats::default() };
            for meta in runs.iter().map(|run| run.meta()) {
                row.files += 1;
                row.bytes += meta.bytes;
                row.entries += meta.entries;
                row.deletes += meta.deletes;
                stats.raw_bytes += meta.raw_bytes;
            }
            row.target_bytes = self.shape.target(level);
            stats.entries += row.entries;
            stats.deletes += row.deletes;
            stats.file_bytes += row.bytes;
            if row.files > 0 || row.target_bytes > 0 {
                stats.levels.push(row);
            }
        }
        stats.lenders = self.lenders.stats();
        stats.file_bytes += stats.lenders.bytes;
        stats
    }
}
