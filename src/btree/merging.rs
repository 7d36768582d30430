//! Work on deltas: merging them into the tree, or several into one.
//!
//! A merge goes through the tree slice by slice, each published by itself:
//!
//! ```text
//!   deltas   [ b    f    k    r    w  ]     the same all the time; gone with the last slice
//!   tree     [aabb][ccff]|[gg][kk]|[rr][zz]
//!            merged      | next   | later
//! ```
//!
//! So it needs room for a slice and not for a second tree, even if somebody reads an old version
//! for long.

use super::{
    claim::Claimed,
    core::{Core, Made},
    delta::{BREATH_BYTES, Due, due, merged, write},
    edit::Incoming,
    version::Begun,
};
use crate::{
    Result,
    sorted::{Cursor, Kind, Merge, PageTree, Run, Span, Tree},
    table::{Change, Job, Shop, Source},
};
use bytes::Bytes;
use std::{ops::RangeInclusive, sync::Arc};

/// How many slices a merge has, if that leaves each with so many leaves at least.
const SLICES: RangeInclusive<u64> = 8..=16;
const LEAST_LEAVES: u64 = 32;
/// How many places to cut are looked at for each slice.
const BOUNDS: usize = 4;

/// The next piece of work on deltas, if one is worth doing.
pub(super) fn next_job(core: &Arc<Core>, idle: bool) -> Option<Box<dyn Job>> {
    task(core, idle)?;
    let claimed = Some(core.claims.try_claim()?);
    let (task, deltas) = task(core, idle)?;
    Some(Box::new(DeltaJob { core: core.clone(), claimed, deltas, task }))
}

/// What there is to do, and with which deltas, newest first.
fn task(core: &Core, idle: bool) -> Option<(Task, Vec<Arc<Run>>)> {
    let current = core.current.load_full();
    if let Some(begun) = &current.begun {
        return Some((Task::Merge(begun.upto.clone()), begun.deltas.clone()));
    }
    let deltas = &current.deltas;
    match due(deltas, current.tree()?, &core.options, idle)? {
        Due::Merge => Some((Task::Merge(Bytes::new()), deltas.clone())),
        Due::Fold(count) => Some((Task::Fold, deltas.iter().take(count).cloned().collect())),
    }
}

enum Task {
    /// They go into the tree, from this key on.
    Merge(Bytes),
    /// They become one.
    Fold,
}

/// Work on deltas.
struct DeltaJob {
    core: Arc<Core>,
    claimed: Option<Claimed>,
    /// Those it is about, newest first.
    deltas: Vec<Arc<Run>>,
    task: Task,
}

impl Job for DeltaJob {
    fn run(&mut self, shop: &Shop) -> Result<Change> {
        self.core.work.merges.add(1);
        match std::mem::replace(&mut self.task, Task::Fold) {
            Task::Merge(from) => self.merge(from, shop),
            Task::Fold => self.fold(shop),
        }
    }
}

impl DeltaJob {
    /// Merges a slice of their keys into the tree. Until all are, what is merged is there twice,
    /// and says the same in both places.
    fn merge(&mut self, from: Bytes, shop: &Shop) -> Result<Change> {
        let base = self.core.base(shop)?;
        let delta_bytes = self.deltas.iter().map(|delta| delta.meta().raw_bytes).sum();
        let within = Span { end: slice_end(&base.tree, &from, delta_bytes)?, start: from };
        let mut entries = merged(None, &self.deltas)?;
        entries.seek(&within.start)?;
        let deleted = entries.range_deletes().clip(&within);
        let mut entries = Slice { entries, within: &within, bytes: 0, read: 0, shop };
        let mut woven = self.core.weave(&base, &mut entries, &deleted, None, shop)?;
        self.core.work.bytes_read.add(entries.read);
        let deltas = std::mem::take(&mut self.deltas);
        match within.end {
            Some(upto) => woven.begun = Some(Arc::new(Begun { deltas, upto })),
            None => woven.merged = deltas,
        }
        woven.claimed = self.claimed.take();
        Ok(base.change(woven, 0))
    }

    /// Makes them one.
    fn fold(&mut self, shop: &Shop) -> Result<Change> {
        self.core.work.bytes_read.add(self.deltas.iter().map(|delta| delta.meta().bytes).sum());
        let mut entries = merged(None, &self.deltas)?;
        let delta = write(&mut entries, self.core.options.delta(), shop)?;
        self.core.work.bytes_written.add(delta.meta().bytes);
        let (folded, claimed) = (std::mem::take(&mut self.deltas), self.claimed.take());
        Ok(Made::Folded { delta, folded, claimed }.into())
    }
}

/// Whether the tree is large enough to be merged into slice by slice.
pub(super) fn has_slices(tree: &PageTree) -> bool {
    tree.counts().leaves >= 2 * LEAST_LEAVES
}

/// Where a slice that begins with `from` ends: about as much of the tree is written for it as the
/// deltas have bytes, so that no more room is needed beside them, and an eighth of it at most (if
/// that is as many leaves as a slice is for).
fn slice_end(tree: &PageTree, from: &[u8], delta_bytes: u64) -> Result<Option<Bytes>> {
    let (leaves, page_bytes) = (tree.counts().leaves, tree.file().page_bytes() as u64);
    let slices = (leaves.saturating_mul(page_bytes) / delta_bytes.max(1))
        .clamp(*SLICES.start(), *SLICES.end());
    let slices = slices.min(leaves / LEAST_LEAVES) as usize;
    if !has_slices(tree) {
        return Ok(None);
    }
    let bounds = bounds(tree, slices * BOUNDS)?;
    let next = bounds.partition_point(|bound| &bound[..] <= from);
    let end = bounds.get(next + bounds.len() / slices);
    Ok(end.filter(|end| &end[..] > from).map(|end| Bytes::copy_from_slice(end)))
}

/// Keys that cut the tree into `count` parts or more of about one size, or into as many as there
/// are above its leaves.
fn bounds(tree: &PageTree, count: usize) -> Result<Vec<Vec<u8>>> {
    let Some(root) = tree.root() else { return Ok(Vec::new()) };
    let mut children = vec![(Vec::new(), root.top)];
    for level in (1..=root.height).rev() {
        let mut below = Vec::new();
        for (_, at) in &children {
            let block = tree.branch(*at, level)?;
            for i in 0..block.count() {
                let mut key = Vec::new();
                block.start_key(&mut key);
                block.read_into(i, &mut key);
                below.push((key, block.child(i, 0)));
            }
        }
        children = below;
        if children.len() >= count {
            break;
        }
    }
    Ok(children.into_iter().map(|(key, _)| key).collect())
}

/// Entries of a slice, between which more urgent work may go first.
struct Slice<'a> {
    entries: Merge<Source>,
    within: &'a Span,
    /// Since the last pause, and in all.
    bytes: u64,
    read: u64,
    shop: &'a Shop,
}

impl Incoming for Slice<'_> {
    fn valid(&self) -> bool {
        Cursor::valid(&self.entries) && self.within.ends_after(Cursor::key(&self.entries))
    }

    fn key(&self) -> &[u8] {
        Cursor::key(&self.entries)
    }

    fn kind(&self) -> Kind {
        Cursor::kind(&self.entries)
    }

    fn entry(&mut self) -> Result<(&[u8], &[u8])> {
        let (key, value) = Cursor::entry(&mut self.entries)?;
        let len = (key.len() + value.len()) as u64;
        (self.bytes, self.read) = (self.bytes + len, self.read + len);
        Ok((key, value))
    }

    fn next(&mut self) -> Result<()> {
        if self.bytes >= BREATH_BYTES {
            self.bytes = 0;
            self.shop.breathe()?;
        }
        Cursor::next(&mut self.entries)
    }
}
