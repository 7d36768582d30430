//! What every piece of work on a table has in common: it begins with the current version and its
//! pages, writes the next, and describes it.

use super::{
    BtreeOptions,
    claim::{Claimed, Claims},
    edit::{Changes, Edit, Incoming},
    space::{Dead, Held, Space},
    version::{Begun, Pages, TreeFile, Version},
    weave::Weaver,
    writer::PageWriter,
};
use crate::{
    Error, ErrorKind, Result,
    sorted::{
        Counts, Extents, FREE_HERE_MAX, FarPages, FreeList, PageFile, PageRoot, PageTree, RangeSet,
        Root, Run, birth_of, generation_of,
    },
    table::{Change, HomeFile, Shop, Work},
    vfs::Folder,
};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// Taking pages for the list of free pages makes that longer, by less than this.
const LIST_SLACK: usize = 64;

/// The table, as its home and the home's jobs share it.
pub(super) struct Core {
    pub(super) options: BtreeOptions,
    pub(super) current: ArcSwap<Version>,
    pub(super) claims: Arc<Claims>,
    pub(super) work: Arc<Work>,
    /// Where the file is; known once somebody wrote.
    pub(super) folder: OnceLock<Arc<dyn Folder>>,
    /// The version in which making the file smaller came to nothing.
    pub(super) gave_up: AtomicU64,
    /// The last number given to a version, published or not.
    pub(super) generation: AtomicU64,
}

impl Drop for Core {
    /// Snapshots, iterators and long values outlive their database. Whoever opens it next must not
    /// write where they read: they become readers like those in other processes.
    fn drop(&mut self) {
        let current = self.current.swap(Version::empty(self.work.clone()));
        let Some((pages, tree)) = current.tree.clone() else { return };
        let tree = Arc::downgrade(&tree);
        drop(current);
        let is_read = |space: &Arc<Space>| space.is_read();
        let known = pages.space.lock().as_ref().map(is_read);
        if known.unwrap_or(tree.strong_count() > 0)
            && let Some(folder) = self.folder.get()
            // Nobody can be told of a failure here, so it is tried again.
            && let Ok(Some(lock)) = folder.share().or_else(|_| folder.share())
        {
            pages.file.keep(lock);
        }
    }
}

/// A new version that is not published yet.
pub(super) struct Woven {
    pub(super) pages: Arc<Pages>,
    pub(super) tree: Arc<PageTree>,
    pub(super) held: Held,
    pub(super) dead: Vec<Dead>,
    /// The version it was begun with.
    pub(super) since: u64,
    /// Deltas that it has taken in.
    pub(super) merged: Vec<Arc<Run>>,
    /// Deltas of which it has taken in a part.
    pub(super) begun: Option<Arc<Begun>>,
    /// Bytes of keys and values that came in.
    pub(super) absorbed: u64,
    /// Missing in what an ingest made on the side.
    pub(super) claimed: Option<Claimed>,
}

/// What a piece of work made.
pub(super) enum Made {
    Nothing,
    /// The next version of the tree.
    Woven(Box<Woven>),
    /// A new delta.
    Delta(Arc<Run>),
    /// A delta in place of several.
    Folded {
        delta: Arc<Run>,
        folded: Vec<Arc<Run>>,
        claimed: Option<Claimed>,
    },
}

impl From<Made> for Change {
    fn from(made: Made) -> Self {
        let fresh: Vec<Arc<dyn HomeFile>> = match &made {
            Made::Nothing | Made::Woven(_) => Vec::new(),
            Made::Delta(delta) | Made::Folded { delta, .. } => vec![delta.clone()],
        };
        Change { fresh, entries: 0, detail: Box::new(made) }
    }
}

/// The pages to work on, and the tree to begin with.
pub(super) struct Base {
    pub(super) pages: Arc<Pages>,
    pub(super) space: Arc<Space>,
    pub(super) tree: Arc<PageTree>,
    /// The version before, and where its list of free pages lies.
    since: u64,
    list: Option<Dead>,
    is_fresh: bool,
    is_load: bool,
    /// Whether there may be readers in other processes, so that no page becomes free.
    is_shared: bool,
}

impl Core {
    /// The current version, or an empty tree in a new file.
    pub(super) fn base(&self, shop: &Shop) -> Result<Base> {
        self.folder.get_or_init(|| shop.folder.clone());
        if let Some((pages, tree)) = &self.current.load().tree {
            // Nothing is dropped between the look for readers and the use of what it says.
            let mut known = pages.space.lock();
            let failed = |e| Error::io("look for readers of the folder", "", e);
            let is_shared = shop.folder.is_shared().map_err(failed)?;
            let space = match &*known {
                Some(space) => {
                    space.reclaim(is_shared);
                    space.clone()
                }
                None => {
                    let said = tree.described();
                    let page_bytes = pages.file.page_bytes();
                    let (now, free) = (said.generation, tree.free()?);
                    let space = Space::new(page_bytes, said.pages, &free, now, is_shared);
                    space.watch(now, tree);
                    known.insert(space).clone()
                }
            };
            drop(known);
            let said = tree.described();
            let (since, list) = (said.generation, list_of(tree));
            let (pages, tree) = (pages.clone(), tree.clone());
            let (is_fresh, is_load) = (false, false);
            return Ok(Base { pages, space, tree, since, list, is_fresh, is_load, is_shared });
        }
        let page_bytes = self.options.page_len();
        let file = PageFile::create(&*shop.folder, shop.files.take(), page_bytes, &shop.access)?;
        let space = Space::new(page_bytes, 1, &Extents::default(), 0, false);
        let free = FreeList::Here(Extents::default());
        let counts = Counts::default();
        let root = PageRoot { generation: 0, pages: 1, root: None, counts, free };
        let tree = PageTree::new(file.clone(), root);
        let pages = Arc::new(Pages { file, space: Mutex::new(Some(space.clone())) });
        let (is_fresh, is_load, is_shared) = (true, false, false);
        Ok(Base { pages, space, tree, since: 0, list: None, is_fresh, is_load, is_shared })
    }

    pub(super) fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Writes the next version: the tree of `base` with `entries` merged in and `deleted` taken
    /// out, and with nothing left in the pages from `leave` on.
    pub(super) fn weave<C: Incoming>(
        &self,
        base: &Base,
        entries: &mut C,
        deleted: &RangeSet,
        leave: Option<u32>,
        shop: &Shop,
    ) -> Result<Woven> {
        let generation = self.next_generation();
        let (folder, file) = (&*shop.folder, &base.pages.file);
        let held = base.space.hold();
        let mut out = PageWriter::new(file, folder, held, generation, base.stretch());
        leave.inspect(|limit| out.stay_below(*limit));
        let mut weaver = Weaver::new(out);
        let changes = Changes { entries, deleted, leave };
        let edited = Edit::run(&base.tree, changes, &mut weaver)?;
        let (root, counts, mut dead) = (edited.root, edited.counts, edited.dead);
        dead.extend(base.list);
        let finished = Finished { generation, root, counts, dead };
        let woven = self.describe(base, weaver, finished, shop)?;
        Ok(Woven { absorbed: edited.absorbed, ..woven })
    }

    /// Finds out what is free, makes everything durable, and describes the version.
    fn describe(
        &self,
        base: &Base,
        weaver: Weaver<'_>,
        finished: Finished,
        shop: &Shop,
    ) -> Result<Woven> {
        let mut out = weaver.out;
        out.finish()?;
        let file = &base.pages.file;
        let unreached = |out: &PageWriter<'_>| {
            let both = |page| file.corrupt(file.offset(page), "a page is both used and free");
            out.held().unreached(&finished.dead).map_err(both)
        };
        let (mut pages, free) = unreached(&out)?;
        let list = free.encode();
        let free = if list.len() <= FREE_HERE_MAX {
            FreeList::Here(free)
        } else {
            let room = (list.len() + LIST_SLACK).div_ceil(file.page_bytes());
            let page = out.reserve(room as u32)?;
            let (now, free) = unreached(&out)?;
            pages = now;
            let mut list = free.encode();
            let bytes = room * file.page_bytes();
            if list.len() > bytes {
                return Err(Error::new(ErrorKind::Limit, "the list of free pages grew too fast"));
            }
            list.resize(bytes, 0);
            file.write(&*shop.folder, page, &list)?;
            let birth = birth_of(finished.generation);
            FreeList::Apart(FarPages::new(file.id(), page, file.page_bytes(), birth, &list))
        };
        file.sync(&*shop.folder)?;
        let (held, written) = out.into_held();
        self.work.pages_written.add(written);
        self.work.bytes_written.add(written * file.page_bytes() as u64);
        let Finished { generation, root, counts, dead } = finished;
        let tree = PageTree::new(file.clone(), PageRoot { generation, pages, root, counts, free });
        base.space.watch(generation, &tree);
        let (pages, since) = (base.pages.clone(), base.since);
        Ok(Woven {
            pages,
            tree,
            held,
            dead,
            since,
            merged: Vec::new(),
            begun: None,
            absorbed: 0,
            claimed: None,
        })
    }
}

/// Where the list of free pages of `tree` lies, if it lies in pages.
pub(super) fn list_of(tree: &PageTree) -> Option<Dead> {
    let said = tree.described();
    let FreeList::Apart(far) = &said.free else { return None };
    let born = generation_of(far.birth, said.generation);
    Some(Dead { extent: far.extent(tree.file().page_bytes()), born })
}

/// A tree that is written but not described.
struct Finished {
    generation: u64,
    root: Option<Root>,
    counts: Counts,
    dead: Vec<Dead>,
}

impl Base {
    /// What was made of it, as a change.
    pub(super) fn change(&self, woven: Woven, entries: u64) -> Change {
        let file = Arc::new(TreeFile(woven.tree.clone()));
        let fresh: Vec<Arc<dyn HomeFile>> = if self.is_fresh { vec![file] } else { Vec::new() };
        Change { fresh, entries, detail: Box::new(Made::Woven(Box::new(woven))) }
    }

    /// How long stretches of pages are at most, in pages. A load has shorter ones than would fill
    /// large pages of the system's cache: those can be so dear to find that it took four times as
    /// long.
    fn stretch(&self) -> u32 {
        let best = self.space.stretch();
        if self.is_load { best - 1 } else { best }
    }

    /// How many pages are kept only because old versions are read here: none where readers
    /// elsewhere keep them all.
    pub(super) fn kept(&self) -> u64 {
        if self.is_shared { 0 } else { self.space.kept() }
    }

    /// Begins with an empty tree instead, for a load, in the same file: beside other work, which
    /// may publish versions meanwhile. So nothing of the present one is given up, nor its list of
    /// free pages.
    pub(super) fn forget_tree(&mut self) {
        (self.list, self.is_load) = (None, true);
        let free = FreeList::Here(Extents::default());
        let counts = Counts::default();
        let root = PageRoot { root: None, counts, free, ..self.tree.described().clone() };
        self.tree = PageTree::new(self.pages.file.clone(), root);
    }

    /// Gives up a file that was made for nothing.
    pub(super) fn give_up(self, shop: &Shop) {
        if self.is_fresh {
            // What cannot be removed is an orphan that the next open removes.
            let _ = shop.folder.remove(self.pages.file.name());
        }
    }
}
