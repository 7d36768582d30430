//! The home itself: opening, taking in what memtables held, and publishing versions.

use super::{
    BtreeOptions,
    claim::{Claimed, Claims},
    core::{Core, Made, Woven, list_of},
    delta::{self, DELTA_LEVEL, TREE_LEVEL, is_dense, merged},
    edit::Incoming,
    merging,
    shrink::next_step,
    spread::Spread,
    version::{Begun, InFlight, Pages, Version, WovenPages},
};
use crate::{
    Error, Result,
    memtable::MemtableCursor,
    sorted::{
        Cursor, FileId, Graveyard, Kind, Merge, PageFile, PageRoot, PageTree, RangeSet, Run,
        RunAccess,
    },
    table::{Change, Home, HomeFile, Input, Intake, Job, Settled, Shop, Source, Staged, Work},
    vfs::Folder,
};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::{
    any::Any,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

/// While old versions keep more than one in so many of the tree's pages, no more than as many are
/// written at once.
const CRAMPED: u64 = 4;

/// The home of a B+tree table.
pub(crate) struct BtreeHome(Arc<Core>);

impl BtreeHome {
    /// A home without entries.
    pub(crate) fn new(options: BtreeOptions) -> Self {
        Self::of(options, OnceLock::new(), None, Vec::new())
    }

    /// The home whose page file is numbered `file` and whose current version is `root`, with
    /// `deltas` beside, the newest first.
    pub(crate) fn open(
        options: BtreeOptions,
        folder: &Arc<dyn Folder>,
        file: FileId,
        root: &[u8],
        deltas: Vec<Arc<Run>>,
        access: &RunAccess,
    ) -> Result<Self> {
        let root = PageRoot::decode(root)
            .ok_or_else(|| Error::corrupt("manifest", 0, "a table's root does not decode"))?;
        let file = PageFile::open(&**folder, file, options.page_len(), root.pages, access)?;
        let pages = Arc::new(Pages { file: file.clone(), space: Mutex::new(None) });
        let tree = PageTree::new(file, root);
        Ok(Self::of(options, OnceLock::from(folder.clone()), Some((pages, tree)), deltas))
    }

    fn of(
        options: BtreeOptions,
        folder: OnceLock<Arc<dyn Folder>>,
        tree: Option<(Arc<Pages>, Arc<PageTree>)>,
        deltas: Vec<Arc<Run>>,
    ) -> Self {
        let work: Arc<Work> = Arc::default();
        let version = Version::new(tree, deltas, None, work.clone());
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
        let mut entries = input.merged();
        entries.seek_first()?;
        self.0.work.flushes.add(1);
        if !Cursor::valid(&entries)
            && (entries.range_deletes().is_empty() || self.0.current.load().is_empty())
        {
            return Ok(Made::Nothing.into());
        }
        match self.claim_for(&mut entries, shop)? {
            Some(claimed) => self.weave_in(&mut entries, claimed, shop),
            None => self.put_off(&mut entries, shop),
        }
    }

    fn ingest(&self, entries: &mut Intake<'_>, shop: &Shop) -> Result<Change> {
        let mut entries = Sorted::new(entries)?;
        if !entries.valid() {
            return Ok(Made::Nothing.into());
        }
        let mut base = self.0.base(shop)?;
        base.forget_tree();
        let woven = self.0.weave(&base, &mut entries, &RangeSet::none(), None, shop);
        match woven {
            Ok(woven) => Ok(base.change(woven, entries.intake.count())),
            Err(error) => {
                base.give_up(shop);
                Err(error)
            }
        }
    }

    fn join(&self, change: &mut Change, shop: &Shop) -> Result<()> {
        let Some(Made::Woven(loaded)) = change.detail.downcast_mut::<Made>() else { return Ok(()) };
        let claimed = self.0.claims.wait();
        let current = self.0.current.load_full();
        let same_file =
            current.tree().is_none_or(|tree| Arc::ptr_eq(tree.file(), loaded.tree.file()));
        // What was loaded may be the next version as it is, if there is nothing to give up.
        let is_next = current.is_empty() && current.generation() == loaded.since;
        if is_next && same_file && current.tree().is_none_or(|tree| list_of(tree).is_none()) {
            self.0.work.bytes_absorbed.add(loaded.absorbed);
            loaded.claimed = Some(claimed);
            return Ok(());
        }
        let base = self.0.base(shop)?;
        let mut entries = merged(Some(Source::Pages(loaded.tree.cursor())), &current.deltas)?;
        let deleted = entries.range_deletes().clone();
        let mut woven = self.0.weave(&base, &mut entries, &deleted, None, shop)?;
        drop(entries);
        self.0.work.bytes_absorbed.add(loaded.absorbed);
        woven.claimed = Some(claimed);
        woven.merged = current.deltas.clone();
        // What was loaded has been copied: its pages are free again.
        **loaded = woven;
        Ok(())
    }

    fn next_job(&self, idle: bool) -> Option<Box<dyn Job>> {
        merging::next_job(&self.0, idle).or_else(|| next_step(&self.0, idle))
    }

    fn stage(&self, change: Change) -> Staged {
        let current = self.0.current.load_full();
        let made = change.detail.downcast().map_or(Made::Nothing, |made| *made);
        match made {
            Made::Nothing => unchanged(current),
            Made::Woven(woven) => self.stage_woven(&current, *woven),
            Made::Delta(delta) => {
                let deltas = [&delta].into_iter().chain(&current.deltas).cloned().collect();
                let (tree, begun) = (current.tree.clone(), current.begun.clone());
                let next = Version::new(tree, deltas, begun, self.0.work.clone());
                Staged { added: vec![(DELTA_LEVEL, delta)], ..unchanged(next) }
            }
            Made::Folded { delta, folded, claimed } => {
                self.stage_folded(&current, &delta, &folded, claimed)
            }
        }
    }

    fn adopt(&self, staged: &Staged) {
        let Some(next) = version_of(staged) else { return };
        let in_flight = next.in_flight.lock().take();
        let Some(InFlight { woven, claimed }) = in_flight else {
            self.0.current.store(next);
            return;
        };
        if let Some(WovenPages { held, dead, generation }) = woven {
            if let Some((pages, _)) = &next.tree
                && let Some(space) = &*pages.space.lock()
            {
                space.drop_pages(generation, dead);
            }
            held.publish();
        }
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
        let most = self.0.options.most_deltas();
        let over = self.0.current.load().deltas.len().saturating_sub(most);
        if over == 0 { 0.0 } else { (over as f64 / most.max(1) as f64).min(1.0) }
    }
}

impl BtreeHome {
    /// The right to change the tree, if that is worth it for these entries. Goes over all of them.
    fn claim_for(
        &self,
        entries: &mut Merge<MemtableCursor>,
        shop: &Shop,
    ) -> Result<Option<Claimed>> {
        let core = &self.0;
        if core.options.most_deltas() == 0 || core.current.load().tree.is_none() {
            return Ok(Some(core.claims.wait()));
        }
        // Whoever changes the tree now may need long for it, or be waiting for this very work.
        let Some(claimed) = core.claims.try_claim() else { return Ok(None) };
        let current = core.current.load_full();
        let Some(tree) = current.tree().filter(|_| current.deltas.is_empty()) else {
            return Ok(None);
        };
        let spread = Spread::of(tree, entries)?;
        let goes_in = is_dense(spread, &core.options) && !self.is_cramped(tree, spread, shop)?;
        Ok(goes_in.then_some(claimed))
    }

    /// Whether old versions keep so much, and these changes would write so much, that both should
    /// not come together: as a delta the changes go in slice by slice, and what one slice replaces
    /// is written again by the next.
    fn is_cramped(&self, tree: &PageTree, spread: Spread, shop: &Shop) -> Result<bool> {
        let counts = tree.counts();
        let used = counts.leaves.saturating_add(counts.branches).saturating_add(counts.far_pages);
        let most = used / CRAMPED;
        let written = spread.leaves + spread.bytes / self.0.options.page_len() as u64;
        let would_help = written > most && merging::has_slices(tree);
        Ok(would_help && self.0.base(shop)?.kept() > most)
    }

    /// Merges entries into the tree, under which there are no deltas.
    fn weave_in(
        &self,
        entries: &mut Merge<MemtableCursor>,
        claimed: Claimed,
        shop: &Shop,
    ) -> Result<Change> {
        entries.seek_first()?;
        let deleted = entries.range_deletes().clone();
        let base = self.0.base(shop)?;
        match self.0.weave(&base, entries, &deleted, None, shop) {
            Ok(mut woven) => {
                self.0.work.bytes_absorbed.add(woven.absorbed);
                woven.claimed = Some(claimed);
                Ok(base.change(woven, 0))
            }
            Err(error) => {
                base.give_up(shop);
                Err(error)
            }
        }
    }

    /// Writes entries beside the tree.
    fn put_off(&self, entries: &mut Merge<MemtableCursor>, shop: &Shop) -> Result<Change> {
        entries.seek_first()?;
        let delta = delta::write(entries, self.0.options.delta(), shop)?;
        self.0.work.bytes_absorbed.add(delta.meta().raw_bytes);
        self.0.work.bytes_written.add(delta.meta().bytes);
        Ok(Made::Delta(delta).into())
    }

    fn stage_woven(&self, current: &Arc<Version>, woven: Woven) -> Staged {
        let Woven { pages, tree, held, dead, merged, begun, claimed, .. } = woven;
        let generation = tree.described().generation;
        let is_merged = |delta: &Arc<Run>| merged.iter().any(|merged| Arc::ptr_eq(merged, delta));
        let deltas = current.deltas.iter().filter(|delta| !is_merged(delta)).cloned().collect();
        let is_open = |begun: &Arc<Begun>| !begun.deltas.iter().any(is_merged);
        let begun = begun.or_else(|| current.begun.clone().filter(is_open));
        let next = Version::new(Some((pages, tree)), deltas, begun, self.0.work.clone());
        let woven = Some(WovenPages { held, dead, generation });
        *next.in_flight.lock() = Some(InFlight { woven, claimed });
        let file = current.file().map(|file| file.file());
        Staged {
            // Listed anew for its length.
            added: next.file().map(|file| (TREE_LEVEL, file)).into_iter().collect(),
            removed: file.into_iter().chain(merged.iter().map(|delta| delta.meta().file)).collect(),
            root: Some(next.root()),
            retired: merged.into_iter().map(|delta| delta as Arc<dyn HomeFile>).collect(),
            next,
        }
    }

    /// Puts `delta` where those were that it has in it: what came since is newer.
    fn stage_folded(
        &self,
        current: &Arc<Version>,
        delta: &Arc<Run>,
        folded: &[Arc<Run>],
        claimed: Option<Claimed>,
    ) -> Staged {
        let newest = folded.first();
        let is_newest = |delta: &Arc<Run>| newest.is_some_and(|newest| Arc::ptr_eq(newest, delta));
        let at = current.deltas.iter().position(is_newest).unwrap_or(0);
        let (newer, rest) = current.deltas.split_at(at);
        let older = rest.get(folded.len()..).unwrap_or_default();
        let deltas = newer.iter().chain([delta]).chain(older).cloned().collect();
        let next = Version::new(current.tree.clone(), deltas, None, self.0.work.clone());
        *next.in_flight.lock() = Some(InFlight { woven: None, claimed });
        // The manifest lists the oldest first, so those that are newer are listed anew.
        let added = [delta].into_iter().chain(newer.iter().rev()).cloned();
        Staged {
            added: added.map(|delta| (DELTA_LEVEL, delta as Arc<dyn HomeFile>)).collect(),
            removed: newer.iter().chain(folded).map(|delta| delta.meta().file).collect(),
            retired: folded.iter().map(|delta| delta.clone() as Arc<dyn HomeFile>).collect(),
            ..unchanged(next)
        }
    }
}

/// What is staged where nothing is said to the manifest.
fn unchanged(next: Arc<Version>) -> Staged {
    Staged { added: Vec::new(), removed: Vec::new(), root: None, next, retired: Vec::new() }
}

/// Entries that come sorted.
struct Sorted<'a, 'b> {
    intake: &'a mut Intake<'b>,
    is_valid: bool,
    /// Of the entry at hand; its key is the last that came.
    value: Vec<u8>,
}

impl<'a, 'b> Sorted<'a, 'b> {
    fn new(intake: &'a mut Intake<'b>) -> Result<Self> {
        let mut sorted = Self { intake, is_valid: true, value: Vec::new() };
        sorted.next()?;
        Ok(sorted)
    }
}

impl Incoming for Sorted<'_, '_> {
    fn valid(&self) -> bool {
        self.is_valid
    }

    fn key(&self) -> &[u8] {
        self.intake.last()
    }

    fn kind(&self) -> Kind {
        Kind::Put
    }

    fn entry(&mut self) -> Result<(&[u8], &[u8])> {
        Ok((self.intake.last(), &self.value))
    }

    fn next(&mut self) -> Result<()> {
        let next = self.intake.next()?;
        self.is_valid = next.is_some();
        if let Some((_, value)) = next {
            self.value.clear();
            self.value.extend_from_slice(value);
        }
        Ok(())
    }
}
