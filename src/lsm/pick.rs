//! Choosing the most useful work.
//!
//! In this order:
//!
//! 1. runs that need no reading to go away: covered by a newer range delete, or nothing but deletes
//!    of nothing;
//! 2. the level, level 0 among them, that is most above its limit;
//! 3. runs that delete much of what lies below them: it takes space, and scans walk over it;
//! 4. runs that point to values in files of which little else is needed;
//! 5. when nothing is written: level 0; runs that delete a little; deletes that have nothing left
//!    to delete.
//!
//! A level gives the run that overlaps least of the next level for its size, which moves most
//! bytes down for each byte rewritten. All of it converges: every job takes bytes out of a level
//! for good, or removes deletes, or values from poor lenders.

use super::{
    LAST,
    claims::{Claim, Taken},
    levels::Levels,
    merging::{GRANDPARENTS_MAX, Merging},
    tier::{meets, pile, span},
};
use crate::sorted::{FileId, Run, Span};
use std::{cmp::Reverse, collections::HashSet, sync::Arc};

/// Most files of one level in a job.
const FILES_MAX: usize = 25;
/// Idle time is not used to merge level 0 into more than this many times its size.
const IDLE_RATIO: u64 = 25;
/// How many entries may be rewritten for each that goes away: while there is other work, and at
/// leisure.
const PRICE: u64 = 4;
const IDLE_PRICE: u64 = 25;
/// So many entries in vain hold a reader up for more than half a millisecond. To be rid of them is
/// worth rewriting the file or two around them, whatever their size.
const VAIN_MAX: u64 = 16 << 10;
/// A run's range deletes beyond these are not looked at to see what it would free.
const SPANS_MAX: usize = 64;

/// What to do.
pub(super) enum Pick {
    Merge(Merging),
    /// To another level as it is.
    Move(FileId, u8),
    /// Away with them.
    Drop(Vec<FileId>),
}

/// Chooses from one version of the tree what is not taken.
pub(super) struct Picker<'a> {
    pub(super) levels: &'a Levels,
    pub(super) taken: &'a Taken,
}

type Choice = (Vec<Claim>, Pick);

impl Picker<'_> {
    pub(super) fn pick(&self, idle: bool) -> Option<Choice> {
        self.drops()
            .or_else(|| self.most_urgent())
            .or_else(|| self.wasteful(false))
            .or_else(|| self.poor())
            .or_else(|| if idle { self.at_leisure() } else { None })
    }

    /// Runs that readers cannot see anything of.
    fn drops(&self) -> Option<Choice> {
        let mut files = HashSet::new();
        let mut claims = Vec::new();
        let tiers: Vec<_> = self.levels.leveled_tiers().collect();
        for (at, (level, tier)) in tiers.iter().enumerate() {
            let below = tiers.get(at + 1..).unwrap_or_default();
            let suspects =
                tier.runs().iter().filter(|run| run.meta().entries <= run.meta().deletes);
            let futile = suspects.filter(|run| !below.iter().any(|(_, t)| t.overlaps(span(run))));
            let futile = futile.map(|run| (*level, run));
            let deleting = tier.runs().iter().filter(|run| run.meta().range_deletes > 0);
            let covered = deleting.flat_map(|run| {
                run.range_deletes().spans().iter().flat_map(|deleted| {
                    below.iter().flat_map(move |(level, tier)| {
                        let runs = tier.overlapping(deleted).iter();
                        runs.filter(|run| covers(deleted, span(run))).map(move |run| (*level, run))
                    })
                })
            });
            for (level, run) in futile.chain(covered) {
                let claim = Claim::new(level, level, span(run).clone());
                if self.taken.is_free(&claim) && files.insert(run.meta().file) {
                    claims.push(claim);
                }
            }
        }
        (!files.is_empty()).then(|| (claims, Pick::Drop(files.into_iter().collect())))
    }

    /// What the level most above its limit has to give.
    fn most_urgent(&self) -> Option<Choice> {
        let bytes = self.levels.bytes();
        let shape = self.levels.shape();
        let depth = self.levels.depth() as f64 / self.levels.tree().options.merge_depth() as f64;
        let mut scores: Vec<(f64, u8)> = (1..LAST)
            .map(|level| (shape.score(level, bytes[usize::from(level)]), level))
            .chain([(depth, 0)])
            .filter(|(score, _)| *score >= 1.0)
            .collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        scores.iter().find_map(|&(_, level)| match level {
            0 => self.level0(self.levels.tree().options.merge_depth(), 0),
            level => self.least_overlap(level),
        })
    }

    /// Merges runs of level 0 that lie on top of each other, `depth` at least, or that are worth it
    /// since what they overlap is at most `ratio` times as large.
    fn level0(&self, depth: usize, ratio: u64) -> Option<Choice> {
        let mut groups = groups(self.levels.fresh());
        groups.sort_by_cached_key(|group| Reverse(pile(group).len()));
        groups.into_iter().find_map(|group| {
            let is_deep = pile(&group).len() >= depth;
            let oldest = group.len().saturating_sub(FILES_MAX);
            let upper = group.get(oldest..)?.to_vec();
            let merging = Merging::new(self.levels, 0, upper, self.levels.shape().base)?;
            let is_worth_it = merging.lower_bytes() <= ratio.saturating_mul(merging.upper_bytes());
            if is_deep || is_worth_it { self.claimed(merging) } else { None }
        })
    }

    /// The run of `level` that overlaps least of the next level for its size.
    fn least_overlap(&self, level: u8) -> Option<Choice> {
        let below = self.levels.level(level + 1);
        let cost = |run: &&Arc<Run>| {
            let overlapped: u64 = below.overlapping(span(run)).iter().map(|r| r.meta().bytes).sum();
            overlapped.saturating_mul(1000) / run.meta().bytes.max(1)
        };
        let mut runs: Vec<_> = self.levels.level(level).runs().iter().collect();
        runs.sort_by_cached_key(cost);
        runs.into_iter().find_map(|run| self.claimed(self.down(level, run)?))
    }

    /// Runs that delete much of what lies below them, for what it costs.
    fn wasteful(&self, idle: bool) -> Option<Choice> {
        let of_level = |level| {
            let runs = self.levels.level(level).runs().iter().filter(|run| deletes_much(run));
            runs.filter_map(move |run| self.down(level, run))
        };
        let mut all = self.wasteful_groups().chain((1..LAST).flat_map(of_level));
        all.find_map(|merging| {
            let pays = self.pays(&merging, idle);
            if pays { self.claimed(merging) } else { None }
        })
    }

    /// Groups of level 0 with such runs, each with other groups that it costs nothing to take
    /// along.
    fn wasteful_groups(&self) -> impl Iterator<Item = Merging> {
        let all = groups(self.levels.fresh());
        let wasteful = all.clone().into_iter().filter(|group| group.iter().any(deletes_much));
        wasteful.filter_map(move |group| {
            let base = self.levels.shape().base;
            let oldest = group.len().saturating_sub(FILES_MAX);
            let mut merging = Merging::new(self.levels, 0, group.get(oldest..)?.to_vec(), base)?;
            let lies_within = |group: &&Vec<Arc<Run>>| {
                let is_new = |run| !merging.upper.iter().any(|upper| Arc::ptr_eq(upper, run));
                group.iter().all(|run| is_new(run) && covers(&merging.hull, span(run)))
            };
            let others: Vec<_> = all.iter().filter(lies_within).cloned().collect();
            for group in others {
                if merging.upper.len() + group.len() <= FILES_MAX {
                    merging.upper.extend(group);
                }
            }
            Some(merging)
        })
    }

    /// Whether what a merge frees, now or further down, is worth what it rewrites.
    fn pays(&self, merging: &Merging, idle: bool) -> bool {
        let upper = || merging.upper.iter().map(|run| run.meta());
        let covered = merging.upper.iter().map(|run| self.covered(run, merging.top));
        let freed = upper().map(|meta| meta.stretched).sum::<u64>() + covered.sum::<u64>();
        let kept = upper().map(|meta| meta.entries - meta.stretched).sum::<u64>();
        let rewritten = kept + merging.lower.iter().map(|run| run.meta().entries).sum::<u64>();
        let price = if idle { IDLE_PRICE } else { PRICE };
        let is_far = idle && freed >= VAIN_MAX && merging.lower.len() <= 2;
        freed > 0 && (is_far || freed.saturating_mul(price) >= rewritten)
    }

    /// How many entries below `level` the range deletes of `run` hide, roughly.
    fn covered(&self, run: &Arc<Run>, level: u8) -> u64 {
        let deleted = run.range_deletes().spans().iter().take(SPANS_MAX);
        let hidden = deleted.flat_map(|deleted| {
            let below = self.levels.below(level).flat_map(|tier| tier.overlapping(deleted));
            // What is damaged is found out by whoever reads it.
            below.map(|run| run.entries_in(deleted).unwrap_or(0))
        });
        hidden.sum()
    }

    /// The run that needs most of a poor lender: written again, with what it needs of that.
    fn poor(&self) -> Option<Choice> {
        let leveled = || self.levels.leveled_tiers().filter(|(level, _)| *level > 0);
        self.levels.lenders().poor().into_iter().find_map(|lender| {
            let needs = |run: &Arc<Run>| run.meta().borrowed_from(lender);
            let all =
                leveled().flat_map(|(level, tier)| tier.runs().iter().map(move |r| (level, r)));
            let mut runs: Vec<_> = all.filter(|(_, run)| needs(run) > 0).collect();
            runs.sort_by_cached_key(|(_, run)| Reverse(needs(run)));
            runs.into_iter().find_map(|(level, run)| {
                self.claimed(Merging::new(self.levels, level, vec![run.clone()], level)?)
            })
        })
    }

    /// What makes later reads cheaper.
    fn at_leisure(&self) -> Option<Choice> {
        let half = self.levels.tree().options.merge_depth().div_ceil(2);
        self.level0(half.max(2), IDLE_RATIO)
            .or_else(|| self.wasteful(true))
            .or_else(|| self.stale())
    }

    /// Runs with deletes that have nothing left to delete: written again without them.
    fn stale(&self) -> Option<Choice> {
        (1..=LAST).find_map(|level| {
            let is_stale = |run: &&Arc<Run>| is_stale(run) && !self.lies_above(level, span(run));
            self.levels.level(level).runs().iter().filter(is_stale).find_map(|run| {
                self.claimed(Merging::new(self.levels, level, vec![run.clone()], level)?)
            })
        })
    }

    /// Takes `run` down from `level`, with others that this costs nothing for.
    fn down(&self, level: u8, run: &Arc<Run>) -> Option<Merging> {
        let mut merging = Merging::new(self.levels, level, vec![run.clone()], level + 1)?;
        if !merging.lower.is_empty() {
            let near = self.levels.level(level).overlapping(&merging.hull).iter();
            let others =
                near.filter(|other| !Arc::ptr_eq(other, run) && covers(&merging.hull, span(other)));
            merging.upper.extend(others.take(FILES_MAX - 1).cloned());
        }
        Some(merging)
    }

    /// The merge with its claim, or a move if nothing has to be merged; nothing if it is taken.
    fn claimed(&self, merging: Merging) -> Option<Choice> {
        let claim = Claim::new(merging.top, merging.bottom, merging.hull.clone());
        if !self.taken.is_free(&claim) {
            return None;
        }
        let pick = match &*merging.upper {
            [run] if self.can_move(&merging, run) => Pick::Move(run.meta().file, merging.bottom),
            _ => Pick::Merge(merging),
        };
        Some((vec![claim], pick))
    }

    /// Whether `run` can go down as it is.
    fn can_move(&self, merging: &Merging, run: &Arc<Run>) -> bool {
        let (from, to) = (merging.top, merging.bottom);
        let options = &self.levels.tree().options;
        let compressed = |level| options.run(level == LAST).compression;
        let grandparents = self.levels.below(to).next();
        let below: u64 = grandparents
            .map_or(0, |tier| tier.overlapping(span(run)).iter().map(|run| run.meta().bytes).sum());
        from < to
            && merging.lower.is_empty()
            && compressed(from) == compressed(to)
            && below <= GRANDPARENTS_MAX * options.file_limit()
            && (!is_stale(run) || self.lies_above(to, span(run)))
    }

    /// Whether anything below `level` overlaps `span`.
    fn lies_above(&self, level: u8, span: &Span) -> bool {
        self.levels.below(level).any(|tier| tier.overlaps(span))
    }
}

/// Whether `outer` holds all of `inner`.
fn covers(outer: &Span, inner: &Span) -> bool {
    let reaches = match (&outer.end, &inner.end) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => outer >= inner,
    };
    reaches && outer.start <= inner.start
}

/// Whether a run deletes enough to be asked what that frees.
fn deletes_much(run: &Arc<Run>) -> bool {
    run.meta().stretched > 0 || run.meta().range_deletes > 0
}

/// Whether a run has enough deletes to be written again just to be rid of them.
fn is_stale(run: &Arc<Run>) -> bool {
    let meta = run.meta();
    meta.range_deletes > 0 || meta.deletes * 8 > meta.entries
}

/// Parts `runs`, newest first, into groups that do not overlap, each newest first: a group can be
/// merged down without the others.
fn groups(runs: &[Arc<Run>]) -> Vec<Vec<Arc<Run>>> {
    let mut in_order: Vec<usize> = (0..runs.len()).collect();
    in_order.sort_by_key(|&at| runs.get(at).map(|run| &span(run).start));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut reach: Option<Span> = None;
    for at in in_order {
        let Some(run) = runs.get(at) else { continue };
        match (&mut reach, groups.last_mut()) {
            (Some(reach), Some(group)) if meets(reach, span(run)) => {
                group.push(at);
                reach.end = reach.end.take().zip(span(run).end.clone()).map(|(a, b)| a.max(b));
            }
            _ => {
                groups.push(vec![at]);
                reach = Some(span(run).clone());
            }
        }
    }
    let newest_first = |mut group: Vec<usize>| {
        group.sort_unstable();
        group.into_iter().filter_map(|at| runs.get(at).cloned()).collect()
    };
    groups.into_iter().map(newest_first).collect()
}
