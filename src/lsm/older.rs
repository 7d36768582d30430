//! What may lie below the place where entries are written, and so still needs their deletes.

use super::tier::{Tier, hull, span};
use crate::sorted::{RangeSet, Span};

/// The tiers below some place, walked along with ascending keys.
pub(super) struct Older {
    tiers: Vec<(Tier, usize)>,
}

impl Older {
    /// What of `tiers` overlaps `within`.
    pub(super) fn new<'a>(tiers: impl Iterator<Item = &'a Tier>, within: &Span) -> Self {
        let from = |tier: &Tier| {
            let met = tier.range_overlapping(within);
            (!met.is_empty()).then(|| (tier.clone(), met.start))
        };
        Self { tiers: tiers.filter_map(from).collect() }
    }

    /// Whether there may be an older version of `key`. Keys must not descend between calls.
    pub(super) fn may_hold(&mut self, key: &[u8]) -> bool {
        self.tiers.iter_mut().any(|(tier, at)| {
            let rest = tier.runs().get(*at..).unwrap_or_default();
            *at += rest.iter().take_while(|run| !span(run).ends_after(key)).count();
            tier.runs().get(*at).is_some_and(|run| span(run).starts_by(key))
        })
    }

    /// Range deletes cut down to where they have something to delete.
    pub(super) fn clip(&self, deletes: &RangeSet) -> RangeSet {
        let needed = |deleted: &Span| {
            let ends = self.tiers.iter().flat_map(|(tier, _)| match tier.overlapping(deleted) {
                [] => [None, None],
                [one] => [Some(span(one)), None],
                [first, .., last] => [Some(span(first)), Some(span(last))],
            });
            deleted.clip(&hull(ends.flatten())?)
        };
        deletes.spans().iter().filter_map(needed).collect()
    }
}
