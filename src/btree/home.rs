//! The home itself: opening, taking in what memtables held, and publishing versions.

use super::{
    BtreeOptions,
    claim::Claims,
    core::{Core, Woven, nothing},
    edit::Incoming,
    job::next_job,
    version::{InFlight, Pages, Version},
};
use crate::{
    Error, ErrorKind, Result,
    sorted::{Cursor, FileId, Graveyard, Kind, PageFile, PageRoot, PageTree, RangeSet, RunAccess},
    table::{Change, Home, Input, Job, Op, Settled, Shop, Staged, Work},
    vfs::Folder,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    any::Any,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

/// The home of a B+tree table.
pub(crate) struct BtreeHome(Arc<Core>);

impl BtreeHome {
    /// A home without entries.
    pub(crate) fn new(options: BtreeOptions) -> Self {
        Self::of(options, OnceLock::new(), None)
    }

    /// The home whose file is numbered `file` and whose current version is `root`.
    pub(crate) fn open(
        options: BtreeOptions,
        folder: &Arc<dyn Folder>,
        file: FileId,
        root: &[u8],
        access: &RunAccess,
    ) -> Result<Self> {
        let root = PageRoot::decode(root)
            .ok_or_else(|| Error::corrupt("manifest", 0, "a table's root does not decode"))?;
        let file = PageFile::open(&**folder, file, options.page_len(), root.pages, access)?;
        let pages = Arc::new(Pages { file: file.clone(), space: Mutex::new(None) });
        let tree = PageTree::new(file, root);
        Ok(Self::of(options, OnceLock::from(folder.clone()), Some((pages, tree))))
    }

    fn of(
        options: BtreeOptions,
        folder: OnceLock<Arc<dyn Folder>>,
        tree: Option<(Arc<Pages>, Arc<PageTree>)>,
    ) -> Self {
        let work: Arc<Work> = Arc::default();
        let version = Version::new(tree, work.clone());
        Self(Arc::new(Core {
            options,
            gave_up: AtomicU64::new(u64::MAX),
            generation: AtomicU64::new(version.generation()),
            current: ArcSwap::from(version),
            claims: Arc::<Claims>::default(),
            folder,
            work,
        }))
    }
}

fn version_of(staged: &Staged) -> Option<Arc<Version>> {
    let next: Arc<dyn Any + Send + Sync> = staged.next.clone();
    next.downcast().ok()
}

impl Home for BtreeHome {
    fn current(&self) -> Arc<dyn Settled> {
        self.0.current.load_full()
    }

    fn absorb(&self, input: &Input, shop: &Shop) -> Result<Change> {
        let claimed = self.0.claims.wait();
        let mut entries = input.merged();
        entries.seek_first()?;
        let deleted = entries.range_deletes().clone();
        self.0.work.flushes.add(1);
        let is_empty =
            self.0.current.load().tree().is_none_or(|tree| tree.described().root.is_none());
        if !Cursor::valid(&entries) && (deleted.is_empty() || is_empty) {
            return Ok(nothing());
        }
        let base = self.0.base(shop)?;
        match self.0.weave(&base, &mut entries, &deleted, None, shop) {
            Ok(mut woven) => {
                woven.claimed = Some(claimed);
                Ok(base.change(woven, 0))
            }
            Err(error) => {
                base.give_up(shop);
                Err(error)
            }
        }
    }

    fn ingest(
        &self,
        entries: &mut dyn Iterator<Item = Result<(Bytes, Bytes)>>,
        shop: &Shop,
    ) -> Result<Change> {
        let mut entries = Sorted::new(entries);
        entries.step()?;
        if !entries.valid() {
            return Ok(nothing());
        }
        let mut base = self.0.base(shop)?;
        base.forget_tree();
        let woven = self.0.weave(&base, &mut entries, &RangeSet::none(), None, shop);
        match woven {
            Ok(woven) => Ok(base.change(woven, entries.count)),
            Err(error) => {
                base.give_up(shop);
                Err(error)
            }
        }
    }

    fn join(&self, change: &mut Change, shop: &Shop) -> Result<()> {
        let Some(detail) = change.detail.downcast_mut::<Option<Woven>>() else { return Ok(()) };
        let Some(loaded) = detail.as_mut() else { return Ok(()) };
        let claimed = self.0.claims.wait();
        let current = self.0.current.load_full();
        let is_empty = current.tree().is_none_or(|tree| tree.described().root.is_none());
        let same_file =
            current.tree().is_none_or(|tree| Arc::ptr_eq(tree.file(), loaded.tree.file()));
        if is_empty && same_file && current.generation() == loaded.since {
            loaded.claimed = Some(claimed);
            return Ok(());
        }
        let base = self.0.base(shop)?;
        let mut entries = loaded.tree.cursor();
        entries.seek_first()?;
        let mut woven = self.0.weave(&base, &mut entries, &RangeSet::none(), None, shop)?;
        drop(entries);
        woven.claimed = Some(claimed);
        // What was loaded has been copied: its pages are free again.
        *detail = Some(woven);
        Ok(())
    }

    fn next_job(&self, idle: bool) -> Option<Box<dyn Job>> {
        next_job(&self.0, idle)
    }

    fn stage(&self, change: Change) -> Staged {
        let current = self.0.current.load_full();
        let woven = change.detail.downcast::<Option<Woven>>().ok().and_then(|woven| *woven);
        let Some(woven) = woven else {
            return Staged {
                added: Vec::new(),
                removed: Vec::new(),
                root: None,
                next: current,
                retired: Vec::new(),
            };
        };
        let Woven { pages, tree, held, dead, claimed, .. } = woven;
        let generation = tree.described().generation;
        let next = Version::new(Some((pages, tree)), self.0.work.clone());
        *next.in_flight.lock() = Some(InFlight { held, dead, generation, claimed });
        let file = |version: &Version| version.file().map(|file| file.file());
        Staged {
            // Listed anew for its length.
            added: next.file().map(|file| (0, file)).into_iter().collect(),
            removed: file(&current).into_iter().collect(),
            root: Some(next.root()),
            next,
            retired: Vec::new(),
        }
    }

    fn adopt(&self, staged: &Staged) {
        let Some(next) = version_of(staged) else { return };
        let Some(in_flight) = next.in_flight.lock().take() else { return };
        let InFlight { held, dead, generation, claimed } = in_flight;
        if let Some((pages, _)) = &next.tree
            && let Some(space) = &*pages.space.lock()
        {
            space.drop_pages(generation, dead);
        }
        held.publish();
        self.0.current.store(next);
        drop(claimed);
    }

    fn discard(&self, change: Change, graveyard: &Arc<Graveyard>) {
        change.fresh.iter().for_each(|file| file.retire(graveyard));
    }

    fn withdraw(&self, staged: Staged) {
        if let Some(next) = version_of(&staged) {
            // What it holds is free again.
            drop(next.in_flight.lock().take());
        }
    }

    fn pressure(&self) -> f64 {
        0.0
    }
}

/// Entries that come sorted.
struct Sorted<'a> {
    entries: &'a mut dyn Iterator<Item = Result<(Bytes, Bytes)>>,
    at: Option<(Bytes, Bytes)>,
    count: u64,
}

impl<'a> Sorted<'a> {
    fn new(entries: &'a mut dyn Iterator<Item = Result<(Bytes, Bytes)>>) -> Self {
        Self { entries, at: None, count: 0 }
    }

    fn step(&mut self) -> Result<()> {
        let last = self.at.take();
        let Some((key, value)) = self.entries.next().transpose()? else { return Ok(()) };
        if last.is_some_and(|(last, _)| last >= key) {
            let message =
                "entries to ingest must come with strictly ascending keys: sort them first";
            return Err(Error::new(ErrorKind::Misuse, message));
        }
        Op::Put { key: &key, value: &value }.check()?;
        self.count += 1;
        self.at = Some((key, value));
        Ok(())
    }
}

impl Incoming for Sorted<'_> {
    fn valid(&self) -> bool {
        self.at.is_some()
    }

    fn key(&self) -> &[u8] {
        self.at.as_ref().map_or(&[], |(key, _)| key)
    }

    fn kind(&self) -> Kind {
        Kind::Put
    }

    fn entry(&mut self) -> Result<(&[u8], &[u8])> {
        Ok(self.at.as_ref().map_or((&[], &[]), |(key, value)| (key, value)))
    }

    fn next(&mut self) -> Result<()> {
        self.step()
    }
}
