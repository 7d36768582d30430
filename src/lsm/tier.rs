//! Disjoint runs in key order: one level, or the part of level 0 that does not overlap.
//!
//! A look-up finds the one run that may hold a key by searching 64-bit heads of the runs' first
//! keys, which lie side by side, before it touches any run.

use crate::{
    codec::compare,
    sorted::{RangeSet, Run, Span},
};
use std::{ops::Range, sync::Arc};

/// Disjoint runs in key order. Cloning counts two references.
#[derive(Clone)]
pub(super) struct Tier {
    runs: Arc<[Arc<Run>]>,
    index: Arc<Index>,
    range_deletes: RangeSet,
    bytes: u64,
}

/// Where the runs of a tier start: what their starts have in common, and the next eight bytes of
/// each as a number that sorts as they do.
struct Index {
    common: Vec<u8>,
    heads: Vec<u64>,
}

impl Tier {
    /// `runs` in any order; they must not overlap.
    pub(super) fn new(mut runs: Vec<Arc<Run>>) -> Self {
        runs.sort_by(|a, b| span(a).start.cmp(&span(b).start));
        let common = match (runs.first(), runs.last()) {
            (Some(first), Some(last)) => common_prefix(&span(first).start, &span(last).start),
            _ => Vec::new(),
        };
        let head_of = |run: &Arc<Run>| head(span(run).start.get(common.len()..));
        let heads = runs.iter().map(head_of).collect();
        let bytes = runs.iter().map(|run| run.meta().bytes).sum();
        let mut range_deletes = RangeSet::none();
        runs.iter().for_each(|run| range_deletes.add_all(run.range_deletes()));
        Self { runs: runs.into(), index: Arc::new(Index { common, heads }), range_deletes, bytes }
    }

    pub(super) fn runs(&self) -> &Arc<[Arc<Run>]> {
        &self.runs
    }

    /// What all its runs delete from what is older.
    pub(super) fn range_deletes(&self) -> &RangeSet {
        &self.range_deletes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The one run that may hold `key`.
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<&Arc<Run>> {
        self.runs.get(self.place(key)?)
    }

    /// Which run may hold `key`.
    #[inline]
    pub(super) fn place(&self, key: &[u8]) -> Option<usize> {
        let at = self.starting_upto(key).checked_sub(1)?;
        self.runs.get(at).is_some_and(|run| span(run).ends_after(key)).then_some(at)
    }

    /// How many runs start at or before `key`.
    #[inline]
    fn starting_upto(&self, key: &[u8]) -> usize {
        let Index { common, heads } = &*self.index;
        let (front, rest) = match key.split_at_checked(common.len()) {
            Some((front, rest)) => (front, Some(rest)),
            None => (key, None),
        };
        match compare(front, common) {
            std::cmp::Ordering::Less => return 0,
            std::cmp::Ordering::Greater => return self.runs.len(),
            std::cmp::Ordering::Equal => {}
        }
        let wanted = head(rest);
        let below = heads.partition_point(|&head| head < wanted);
        let ties = heads.get(below..).unwrap_or_default();
        let tied = self.runs.get(below..).unwrap_or_default();
        let tied = tied.get(..ties.partition_point(|&head| head == wanted)).unwrap_or_default();
        below + tied.partition_point(|run| span(run).starts_by(key))
    }

    /// The indices of the runs that overlap `with`.
    pub(super) fn range_overlapping(&self, with: &Span) -> Range<usize> {
        let first = self.runs.partition_point(|run| !span(run).ends_after(&with.start));
        let end = self.runs.partition_point(|run| with.ends_after(&span(run).start));
        first..end.max(first)
    }

    /// The runs that overlap `with`.
    pub(super) fn overlapping(&self, with: &Span) -> &[Arc<Run>] {
        self.runs.get(self.range_overlapping(with)).unwrap_or_default()
    }

    pub(super) fn overlaps(&self, with: &Span) -> bool {
        !self.range_overlapping(with).is_empty()
    }

    /// The first run that overlaps the one before it.
    pub(super) fn first_overlap(&self) -> Option<&Arc<Run>> {
        let disjoint = |pair: &[Arc<Run>]| match pair {
            [a, b] => span(a).end.as_ref().is_some_and(|end| *end <= span(b).start),
            _ => true,
        };
        let at = self.runs.windows(2).position(|pair| !disjoint(pair))?;
        self.runs.get(at + 1)
    }
}

/// The keys that a run has entries or range deletes for.
#[inline]
pub(super) fn span(run: &Arc<Run>) -> &Span {
    &run.meta().span
}

/// Whether two spans have a key in common, if neither is empty.
pub(super) fn meets(a: &Span, b: &Span) -> bool {
    a.ends_after(&b.start) && b.ends_after(&a.start)
}

/// The smallest span around all of `spans`.
pub(super) fn hull<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Option<Span> {
    spans.into_iter().cloned().reduce(|a, b| Span {
        start: a.start.min(b.start),
        end: a.end.zip(b.end).map(|(a, b)| a.max(b)),
    })
}

/// Sorts runs, newest first, into tiers, newest first: each run goes just above the highest tier
/// that it overlaps (the sublevels of Pebble), so that reads look into few places.
pub(super) fn pile(newest_first: &[Arc<Run>]) -> Vec<Tier> {
    let mut piles: Vec<Vec<Arc<Run>>> = Vec::new();
    for run in newest_first.iter().rev() {
        let start_of = |other: &Arc<Run>| span(other).start < span(run).start;
        let is_free = |pile: &Vec<Arc<Run>>| {
            let at = pile.partition_point(start_of);
            let before = at.checked_sub(1).and_then(|before| pile.get(before));
            [before, pile.get(at)].into_iter().flatten().all(|o| !meets(span(o), span(run)))
        };
        let level = piles.iter().rposition(|pile| !is_free(pile)).map_or(0, |below| below + 1);
        if level == piles.len() {
            piles.push(Vec::new());
        }
        if let Some(pile) = piles.get_mut(level) {
            pile.insert(pile.partition_point(start_of), run.clone());
        }
    }
    piles.into_iter().rev().map(Tier::new).collect()
}

fn common_prefix(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).take_while(|(a, b)| a == b).map(|(a, _)| *a).collect()
}

/// The first eight bytes as a number that sorts as they do; shorter keys sort first.
#[inline]
fn head(key: Option<&[u8]>) -> u64 {
    let key = key.unwrap_or_default();
    if let Some(head) = key.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut padded = [0; 8];
    padded.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(padded)
}
