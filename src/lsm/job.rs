//! Work in the background: merging runs, moving them, dropping them.

use super::{
    change::Edited,
    claims::Claimed,
    levels::Levels,
    merging::{Merging, merge},
    slices::Slice,
};
use crate::{
    Result,
    sorted::FileId,
    table::{Change, Job, Shop},
};
use std::sync::Arc;

/// Merges runs into the level below them.
pub(super) struct MergeJob {
    pub(super) levels: Arc<Levels>,
    pub(super) merging: Merging,
    pub(super) _claimed: Claimed,
}

impl Job for MergeJob {
    fn run(&mut self, shop: &Shop) -> Result<Change> {
        let merging = &self.merging;
        let lending = merging.lending(&self.levels);
        let added = merge(&self.levels, merging, &merging.hull, &lending, shop)?;
        let read = lending.bytes_read(&merging.upper) + lending.bytes_read(&merging.lower);
        self.levels.tree().work.bytes_read.add(read);
        Ok(Edited { added, removed: merging.files(), moved: Vec::new() }.into())
    }
}

/// Merges a stretch of the keys of runs that are too large to be merged in one go.
pub(super) struct SliceJob {
    pub(super) levels: Arc<Levels>,
    pub(super) slice: Slice,
}

impl Job for SliceJob {
    fn run(&mut self, shop: &Shop) -> Result<Change> {
        let merging = self.slice.merging();
        let lending = merging.lending(&self.levels);
        let added = merge(&self.levels, merging, self.slice.within(), &lending, shop)?;
        let mut removed: Vec<_> = merging.lower.iter().map(|run| run.meta().file).collect();
        let mut read = lending.bytes_read(&merging.lower);
        if self.slice.is_last() {
            removed.extend(merging.upper.iter().map(|run| run.meta().file));
            read += lending.bytes_read(&merging.upper);
        }
        self.levels.tree().work.bytes_read.add(read);
        let edited = Edited { added, removed, moved: Vec::new() };
        self.slice.ran(&edited);
        Ok(edited.into())
    }
}

/// Takes runs to another level, or out of the tree, without touching their bytes.
pub(super) struct EditJob {
    pub(super) levels: Arc<Levels>,
    pub(super) moved: Vec<(FileId, u8)>,
    pub(super) removed: Vec<FileId>,
    pub(super) _claimed: Claimed,
}

impl Job for EditJob {
    fn run(&mut self, _shop: &Shop) -> Result<Change> {
        let work = &self.levels.tree().work;
        work.moves.add(self.moved.len() as u64);
        work.drops.add(self.removed.len() as u64);
        let (moved, removed) = (self.moved.clone(), self.removed.clone());
        Ok(Edited { added: Vec::new(), removed, moved }.into())
    }
}
