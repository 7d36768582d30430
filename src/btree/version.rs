//! One version of the table: what readers pin.

use super::{
    claim::Claimed,
    delta::{DELTA_LEVEL, TREE_LEVEL},
    space::{Dead, Held, Space},
};
use crate::{
    Result,
    sorted::{FileId, Found, Graveyard, Lookup, PageFile, PageTree, Run, Span, Tree},
    table::{HomeFile, HomeStats, LenderStats, LevelStats, Settled, Source, TreeStats, Work},
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

/// A page file and its pages.
pub(super) struct Pages {
    pub(super) file: Arc<PageFile>,
    /// Found out by the first who writes.
    pub(super) space: Mutex<Option<Arc<Space>>>,
}

/// Work that waits to be published with the version that it made.
pub(super) struct InFlight {
    /// If the tree is another.
    pub(super) woven: Option<WovenPages>,
    /// No other work begins before this one is published or given up.
    pub(super) claimed: Option<Claimed>,
}

/// Pages that a new tree uses, and those that it does not.
pub(super) struct WovenPages {
    pub(super) held: Held,
    pub(super) dead: Vec<Dead>,
    pub(super) generation: u64,
}

/// A merge of deltas that is not done.
pub(super) struct Begun {
    /// Newest first.
    pub(super) deltas: Vec<Arc<Run>>,
    /// The tree has what they say of the keys below.
    pub(super) upto: Bytes,
}

/// One version of a B+tree table.
pub(super) struct Version {
    /// Missing in a table that never had an entry.
    pub(super) tree: Option<(Arc<Pages>, Arc<PageTree>)>,
    /// Newer than the tree, the newest first.
    pub(super) deltas: Vec<Arc<Run>>,
    /// Some of them are being merged. After a crash that begins anew.
    pub(super) begun: Option<Arc<Begun>>,
    pub(super) work: Arc<Work>,
    pub(super) in_flight: Mutex<Option<InFlight>>,
}

impl Version {
    pub(super) fn new(
        tree: Option<(Arc<Pages>, Arc<PageTree>)>,
        deltas: Vec<Arc<Run>>,
        begun: Option<Arc<Begun>>,
        work: Arc<Work>,
    ) -> Arc<Self> {
        Arc::new(Self { tree, deltas, begun, work, in_flight: Mutex::new(None) })
    }

    pub(super) fn empty(work: Arc<Work>) -> Arc<Self> {
        Self::new(None, Vec::new(), None, work)
    }

    /// Whether there is nothing at all in it.
    pub(super) fn is_empty(&self) -> bool {
        self.deltas.is_empty() && self.tree().is_none_or(|tree| tree.root().is_none())
    }

    pub(super) fn tree(&self) -> Option<&Arc<PageTree>> {
        self.tree.as_ref().map(|(_, tree)| tree)
    }

    pub(super) fn generation(&self) -> u64 {
        self.tree().map_or(0, |tree| tree.described().generation)
    }

    /// The file, as this version has it.
    pub(super) fn file(&self) -> Option<Arc<dyn HomeFile>> {
        self.tree().map(|tree| Arc::new(TreeFile(tree.clone())) as Arc<dyn HomeFile>)
    }

    /// What deltas know of many keys; the keys of which they know nothing are left in `open`.
    fn get_many_in_deltas(
        &self,
        keys: &[(&[u8], u64)],
        open: &mut Vec<usize>,
        answer: &mut dyn FnMut(usize, Lookup<Found<'_>>),
    ) -> Result<()> {
        for delta in &self.deltas {
            let asked: Vec<_> = open.iter().filter_map(|key| keys.get(*key).copied()).collect();
            let mut known = vec![false; asked.len()];
            delta.get_many(&asked, &mut |i, lookup| {
                if let (false, Some(key), Some(known)) =
                    (matches!(lookup, Lookup::Missing), open.get(i), known.get_mut(i))
                {
                    *known = true;
                    answer(*key, lookup);
                }
            })?;
            let mut known = known.into_iter();
            open.retain(|_| known.next() == Some(false));
        }
        Ok(())
    }
}

impl Drop for Version {
    /// A version that was staged and neither adopted nor withdrawn may be on disk all the same.
    fn drop(&mut self) {
        if let Some(in_flight) = self.in_flight.get_mut().take() {
            in_flight.woven.into_iter().for_each(|woven| woven.held.abandon());
        }
    }
}

impl Settled for Version {
    #[inline]
    fn get(&self, key: &[u8], hash: u64, found: &mut dyn FnMut(Found<'_>)) -> Result<Lookup<()>> {
        for delta in &self.deltas {
            match delta.get(key, hash, found)? {
                Lookup::Missing => {}
                known => return Ok(known),
            }
        }
        match &self.tree {
            Some((_, tree)) => tree.get(key, found),
            None => Ok(Lookup::Missing),
        }
    }

    fn get_many(
        &self,
        keys: &[(&[u8], u64)],
        answer: &mut dyn FnMut(usize, Lookup<Found<'_>>),
    ) -> Result<()> {
        if self.deltas.is_empty() {
            return self.tree().map_or(Ok(()), |tree| tree.get_many(keys, answer));
        }
        let mut open: Vec<usize> = (0..keys.len()).collect();
        self.get_many_in_deltas(keys, &mut open, answer)?;
        let asked: Vec<_> = open.iter().filter_map(|key| keys.get(*key).copied()).collect();
        let mut answer = |i: usize, lookup: Lookup<Found<'_>>| {
            if let Some(key) = open.get(i) {
                answer(*key, lookup);
            }
        };
        self.tree().map_or(Ok(()), |tree| tree.get_many(&asked, &mut answer))
    }

    fn sources(&self, span: &Span, out: &mut Vec<Source>) {
        let within = self.deltas.iter().filter(|delta| delta.meta().span.clip(span).is_some());
        out.extend(within.map(|delta| Source::Run(delta.cursor())));
        out.extend(self.tree().map(|tree| Source::Pages(tree.cursor())));
    }

    fn files(&self) -> Vec<(u8, Arc<dyn HomeFile>)> {
        let deltas = self.deltas.iter().map(|delta| (DELTA_LEVEL, delta.clone() as _));
        deltas.chain(self.file().map(|file| (TREE_LEVEL, file))).collect()
    }

    fn root(&self) -> Bytes {
        self.tree().map_or_else(Bytes::new, |tree| tree.described().encode().into())
    }

    fn stats(&self) -> HomeStats {
        let work = self.work.stats();
        let Some((pages, tree)) = &self.tree else {
            return HomeStats { work, ..HomeStats::default() };
        };
        let (said, counts) = (tree.described(), tree.counts());
        let page_bytes = pages.file.page_bytes() as u64;
        let file_bytes = u64::from(said.pages) * page_bytes;
        let used = counts.leaves + counts.branches + counts.far_pages;
        let mut stats = HomeStats {
            entries: counts.entries,
            deletes: 0,
            file_bytes,
            raw_bytes: counts.raw_bytes,
            levels: Vec::new(),
            lenders: LenderStats::default(),
            tree: Some(TreeStats {
                height: tree.root().map_or(0, |root| root.height + 1),
                leaves: counts.leaves,
                branches: counts.branches,
                page_bytes,
                free_bytes: u64::from(said.pages).saturating_sub(used + 1) * page_bytes,
                pages_written: self.work.pages_written.get(),
            }),
            work,
        };
        let mut deltas = LevelStats { level: DELTA_LEVEL, ..LevelStats::default() };
        for meta in self.deltas.iter().map(|delta| delta.meta()) {
            deltas.files += 1;
            deltas.bytes += meta.bytes;
            deltas.entries += meta.entries;
            deltas.deletes += meta.deletes;
            stats.raw_bytes += meta.raw_bytes;
        }
        stats.entries += deltas.entries;
        stats.deletes += deltas.deletes;
        stats.file_bytes += deltas.bytes;
        stats.levels.extend((deltas.files > 0).then_some(deltas));
        stats.levels.push(LevelStats {
            level: TREE_LEVEL,
            files: 1,
            bytes: file_bytes,
            entries: counts.entries,
            ..LevelStats::default()
        });
        stats
    }
}

/// A page file as one version has it: it goes on being written, but not where that version reads.
pub(super) struct TreeFile(pub(super) Arc<PageTree>);

impl HomeFile for TreeFile {
    fn file(&self) -> FileId {
        self.0.file().id()
    }

    fn name(&self) -> String {
        self.0.file().name().to_owned()
    }

    fn bytes(&self) -> u64 {
        u64::from(self.0.described().pages) * self.0.file().page_bytes() as u64
    }

    fn meta(&self) -> Bytes {
        Bytes::new()
    }

    fn is_frozen(&self) -> bool {
        false
    }

    fn verify(&self) -> Result<()> {
        self.0.verify()
    }

    fn retire(&self, to: &Arc<Graveyard>) {
        self.0.file().retire(to);
    }
}
