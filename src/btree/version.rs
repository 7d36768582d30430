//! One version of the table: what readers pin.

use super::{
    claim::Claimed,
    space::{Dead, Held, Space},
};
use crate::{
    Result,
    sorted::{FileId, Found, Graveyard, Lookup, PageFile, PageTree, Span, Tree},
    table::{HomeFile, HomeStats, LevelStats, Settled, Source, TreeStats, Work},
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
    pub(super) held: Held,
    pub(super) dead: Vec<Dead>,
    pub(super) generation: u64,
    /// No other work begins before this one is published or given up.
    pub(super) claimed: Option<Claimed>,
}

/// One version of a B+tree table.
pub(super) struct Version {
    /// Missing in a table that never had an entry.
    pub(super) tree: Option<(Arc<Pages>, Arc<PageTree>)>,
    pub(super) work: Arc<Work>,
    pub(super) in_flight: Mutex<Option<InFlight>>,
}

impl Version {
    pub(super) fn new(tree: Option<(Arc<Pages>, Arc<PageTree>)>, work: Arc<Work>) -> Arc<Self> {
        Arc::new(Self { tree, work, in_flight: Mutex::new(None) })
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
}

impl Drop for Version {
    /// A version that was staged and neither adopted nor withdrawn may be on disk all the same.
    fn drop(&mut self) {
        if let Some(in_flight) = self.in_flight.get_mut().take() {
            in_flight.held.abandon();
        }
    }
}

impl Settled for Version {
    #[inline]
    fn get(&self, key: &[u8], _hash: u64, found: &mut dyn FnMut(Found<'_>)) -> Result<Lookup<()>> {
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
        self.tree().map_or(Ok(()), |tree| tree.get_many(keys, answer))
    }

    fn sources(&self, _span: &Span, out: &mut Vec<Source>) {
        out.extend(self.tree().map(|tree| Source::Pages(tree.cursor())));
    }

    fn files(&self) -> Vec<(u8, Arc<dyn HomeFile>)> {
        self.file().map(|file| (0, file)).into_iter().collect()
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
        let level = LevelStats {
            files: 1,
            bytes: file_bytes,
            entries: counts.entries,
            ..Default::default()
        };
        HomeStats {
            entries: counts.entries,
            deletes: 0,
            file_bytes,
            raw_bytes: counts.raw_bytes,
            levels: vec![level],
            tree: Some(TreeStats {
                height: tree.root().map_or(0, |root| root.height + 1),
                leaves: counts.leaves,
                branches: counts.branches,
                page_bytes,
                free_bytes: u64::from(said.pages).saturating_sub(used + 1) * page_bytes,
                pages_written: self.work.pages_written.get(),
            }),
            work,
        }
    }
}

/// A page file as one version has it: it goes on being written, but not where that version reads.
struct TreeFile(Arc<PageTree>);

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
