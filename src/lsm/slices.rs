//! Merging more than one job may: slice by slice.
//!
//! Runs of the upper level that overlap very much of the lower one are merged with it stretch by
//! stretch, each stretch published on its own, so that never more space is needed than one stretch
//! takes. The upper runs stay until the last: what they hold of a stretch that is done is then
//! there twice, above and merged below, and says the same in both places, so readers cannot tell.
//! Nor can a crash hurt: the runs are merged once more.
//!
//! For that the upper runs must only leave together, after the last stretch, and nobody else may
//! touch the stretches that are done (a range delete of the upper runs covers runs that hold
//! newer, merged entries). One claim over everything, kept from the first slice to the last, sees
//! to it.

use super::{
    change::Edited,
    claims::Claimed,
    merging::Merging,
    tier::{meets, span},
};
use crate::{
    sorted::{FileId, Span},
    table::Staged,
};
use parking_lot::Mutex;
use std::sync::Arc;

/// A merge cut into slices.
pub(super) struct Slices {
    whole: Merging,
    spans: Vec<Span>,
    progress: Mutex<Progress>,
    _claimed: Claimed,
}

#[derive(Default)]
struct Progress {
    /// Slices done.
    done: usize,
    /// Whether a job is at one.
    running: bool,
    /// The files it added and removed.
    outcome: Vec<FileId>,
}

impl Slices {
    /// Cuts a merge into slices of about `bytes` where runs of the lower level begin; `Err` gives
    /// the claim back if it is small enough as it is, or cannot be cut.
    pub(super) fn cut(merging: &Merging, bytes: u64, claimed: Claimed) -> Result<Self, Claimed> {
        let count = (merging.upper_bytes() + merging.lower_bytes()).div_ceil(bytes.max(1));
        let share = merging.lower_bytes() / count.max(1);
        let mut spans = vec![merging.hull.clone()];
        let mut filled = 0;
        for run in &merging.lower {
            let start = &span(run).start;
            if filled >= share.max(1)
                && let Some(last) = spans.last_mut()
            {
                let rest = Span { start: start.clone(), end: last.end.take() };
                last.end = Some(start.clone());
                spans.push(rest);
                filled = 0;
            }
            filled += run.meta().bytes;
        }
        if count < 2 || spans.len() < 2 {
            return Err(claimed);
        }
        let (whole, progress) = (merging.clone(), Mutex::default());
        Ok(Self { whole, spans, progress, _claimed: claimed })
    }

    /// The slice to be merged next, unless somebody is at it.
    pub(super) fn next(self: &Arc<Self>) -> Option<Slice> {
        let mut progress = self.progress.lock();
        if progress.running {
            return None;
        }
        let within = self.spans.get(progress.done)?.clone();
        let lower = self.whole.lower.iter().filter(|run| meets(span(run), &within)).cloned();
        let merging = Merging { lower: lower.collect(), ..self.whole.clone() };
        progress.running = true;
        let is_last = progress.done + 1 == self.spans.len();
        Some(Slice { slices: self.clone(), merging, within, is_last })
    }

    /// Notes that a change was published; says whether that was the last slice.
    pub(super) fn published(&self, staged: &Staged) -> bool {
        let mut progress = self.progress.lock();
        let added = staged.added.iter().map(|(_, run)| run.file());
        let is_ours = added
            .chain(staged.removed.iter().copied())
            .any(|file| progress.outcome.contains(&file));
        if is_ours {
            progress.outcome.clear();
            progress.done += 1;
        }
        progress.done == self.spans.len()
    }
}

/// One slice, being merged.
pub(super) struct Slice {
    slices: Arc<Slices>,
    merging: Merging,
    within: Span,
    is_last: bool,
}

impl Slice {
    /// The runs to be merged: all of the upper level, those of the lower one that lie in it.
    pub(super) fn merging(&self) -> &Merging {
        &self.merging
    }

    pub(super) fn within(&self) -> &Span {
        &self.within
    }

    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// Notes what the slice will publish. If that is nothing, it is done.
    pub(super) fn ran(&self, change: &Edited) {
        let mut progress = self.slices.progress.lock();
        let added = change.added.iter().map(|(_, run)| run.meta().file);
        progress.outcome = added.chain(change.removed.iter().copied()).collect();
        if change.is_empty() {
            progress.done += 1;
        }
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        let mut progress = self.slices.progress.lock();
        progress.running = false;
        progress.outcome.clear();
    }
}
