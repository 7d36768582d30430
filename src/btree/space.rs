//! Which pages may be written.
//!
//! ```text
//!   free      nothing that can be read reaches them
//!   held      being written by work that is not published yet
//!   pending   the newest version does not reach them, but an older one may that is still read
//!   the rest  the newest version reaches them
//! ```
//!
//! A page is of use from the version that wrote it to the one before that which dropped it: its
//! life. It becomes free once no version of that time is read any more, so a reader who stays for
//! long holds up the pages of its own version, and none of those that came and went since.
//! Versions that are read in this process are known one by one; of readers in other processes only
//! that there are some, and then nothing becomes free.
//!
//! Space is given out in stretches as long as can be had: leaves that follow each other in the tree
//! shall do so in the file. Small holes come last, and before that the file grows, as long as no
//! more than a third of it would be free.

use crate::{
    Result,
    error::{Error, ErrorKind},
    sorted::{Extent, Extents, PageFile, PageTree},
    vfs::Folder,
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
};

/// Pages that the newest version has dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dead {
    pub(super) extent: Extent,
    /// The version that wrote them.
    pub(super) born: u64,
}

/// Pages that the version `died` was the first not to reach.
struct Pending {
    died: u64,
    dead: Vec<Dead>,
}

/// Births further back than this are not told exactly: such pages wait for all old versions.
const EXACT: u64 = 1 << 22;
/// How long a stretch is at best, in bytes: what Linux keeps in one piece of its cache.
const STRETCH_BYTES: usize = 2 << 20;
/// The file grows by a part of its length, but by no more than so many stretches.
const GROWTH: u32 = 32;
const GROWTH_MAX: u32 = 32;

/// The pages of one file.
pub(super) struct Space {
    inner: Mutex<Inner>,
    /// How long a stretch is at best, in pages.
    stretch: u32,
}

#[derive(Default)]
struct Inner {
    free: Free,
    /// How many pages are in use or free, and how many the file may have on disk.
    pages: u32,
    on_disk: u32,
    held: BTreeMap<u64, Vec<Extent>>,
    next_holder: u64,
    pending: Vec<Pending>,
    /// Every version that may still be read, oldest first.
    live: Vec<(u64, Weak<PageTree>)>,
}

/// Free extents by place and by length.
#[derive(Default)]
struct Free {
    by_page: BTreeMap<u32, u32>,
    by_len: BTreeSet<(u32, u32)>,
    pages: u64,
}

impl Free {
    fn remove(&mut self, page: u32) -> Option<Extent> {
        let pages = self.by_page.remove(&page)?;
        self.by_len.remove(&(pages, page));
        self.pages -= u64::from(pages);
        Some(Extent { page, pages })
    }

    /// Adds an extent, joined with what it touches.
    fn add(&mut self, mut extent: Extent) {
        if extent.pages == 0 {
            return;
        }
        let before = self.by_page.range(..extent.page).next_back();
        let before = before.map(|(&page, &pages)| Extent { page, pages });
        if let Some(before) = before.filter(|before| before.end() == extent.page) {
            self.remove(before.page);
            extent = Extent { page: before.page, pages: before.pages + extent.pages };
        }
        if let Some(after) = self.remove(extent.end()) {
            extent.pages += after.pages;
        }
        self.by_page.insert(extent.page, extent.pages);
        self.by_len.insert((extent.pages, extent.page));
        self.pages += u64::from(extent.pages);
    }

    /// Takes up to `want` pages from the front of the extent at `page`.
    fn cut(&mut self, page: u32, want: u32) -> Option<Extent> {
        let whole = self.remove(page)?;
        let pages = whole.pages.min(want);
        self.add(Extent { page: page + pages, pages: whole.pages - pages });
        Some(Extent { page, pages })
    }

    /// A stretch of `want` pages, the shortest that will do; else the longest there is, if it has
    /// `least`. None of its first `least` pages is at or beyond `limit`.
    fn find(&self, want: u32, least: u32, limit: u32) -> Option<(u32, u32)> {
        let is_below = |&&(_, page): &&(u32, u32)| page.saturating_add(least) <= limit;
        let ample = self.by_len.range((want, 0)..).find(is_below);
        let longest = || self.by_len.range((least, 0)..).rev().find(is_below);
        ample.or_else(longest).copied()
    }
}

/// Pages that a piece of work writes to. Dropped, they are free again.
pub(super) struct Held {
    space: Arc<Space>,
    id: u64,
}

impl Space {
    /// Of a file of `pages`, of which the version `now` does not reach `unreached`. With readers
    /// in other processes, nobody knows what of it they look at.
    pub(super) fn new(
        page_bytes: usize,
        pages: u32,
        unreached: &Extents,
        now: u64,
        is_shared: bool,
    ) -> Arc<Self> {
        let mut inner = Inner { pages, on_disk: pages, ..Inner::default() };
        let dead = unreached.as_slice().iter().map(|&extent| Dead { extent, born: 0 });
        inner.pending.push(Pending { died: now, dead: dead.collect() });
        let stretch = (STRETCH_BYTES / page_bytes) as u32;
        let space = Self { inner: Mutex::new(inner), stretch };
        space.reclaim(is_shared);
        Arc::new(space)
    }

    /// Notes that `tree`, the version `generation`, may be read as long as it is there.
    pub(super) fn watch(&self, generation: u64, tree: &Arc<PageTree>) {
        self.inner.lock().live.push((generation, Arc::downgrade(tree)));
    }

    /// Finds out which pages have become free; none while readers in other processes may be
    /// looking at them.
    pub(super) fn reclaim(&self, is_shared: bool) {
        let mut inner = self.inner.lock();
        let Inner { free, pending, live, .. } = &mut *inner;
        live.retain(|(_, tree)| tree.strong_count() > 0);
        if is_shared {
            return;
        }
        for group in pending.iter_mut() {
            let before = live.iter().map(|(generation, _)| *generation);
            let Some(read) = before.filter(|generation| *generation < group.died).max() else {
                group.dead.drain(..).for_each(|dead| free.add(dead.extent));
                continue;
            };
            let is_exact = group.died - read < EXACT;
            group.dead.retain(|dead| {
                let stays = dead.born <= read || !is_exact;
                if !stays {
                    free.add(dead.extent);
                }
                stays
            });
        }
        pending.retain(|group| !group.dead.is_empty());
    }

    /// Starts a piece of work.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        let mut inner = self.inner.lock();
        inner.next_holder += 1;
        let id = inner.next_holder;
        inner.held.insert(id, Vec::new());
        Held { space: self.clone(), id }
    }

    /// Pages that the version `died` is the first not to reach.
    pub(super) fn drop_pages(&self, died: u64, dead: Vec<Dead>) {
        self.inner.lock().pending.push(Pending { died, dead });
    }

    /// Whether there are pages that may become free as readers go.
    pub(super) fn has_pending(&self) -> bool {
        !self.inner.lock().pending.is_empty()
    }

    /// How many pages are kept for old versions that are read in this process. Of pages that are
    /// kept for readers elsewhere nobody knows more than that they are not free.
    pub(super) fn kept(&self) -> u64 {
        let inner = self.inner.lock();
        let dead = inner.pending.iter().flat_map(|group| &group.dead);
        dead.map(|dead| u64::from(dead.extent.pages)).sum()
    }

    /// How many pages the file has, and how many of them are free.
    pub(super) fn sizes(&self) -> (u32, u64) {
        let inner = self.inner.lock();
        (inner.pages, inner.free.pages)
    }

    pub(super) fn stretch(&self) -> u32 {
        self.stretch
    }

    /// Takes free pages off the end of the file; says how many.
    pub(super) fn shorten(&self) -> u32 {
        let mut inner = self.inner.lock();
        let last = inner.free.by_page.iter().next_back().map(|(&page, &pages)| page + pages);
        if last != Some(inner.pages) {
            return 0;
        }
        let page = inner.free.by_page.keys().next_back().copied();
        let Some(tail) = page.and_then(|page| inner.free.remove(page)) else { return 0 };
        inner.pages = tail.page;
        tail.pages
    }

    /// How many free pages there are at the end of the file.
    pub(super) fn tail(&self) -> u32 {
        let inner = self.inner.lock();
        let last = inner.free.by_page.iter().next_back().map(|(&page, &pages)| (page, pages));
        last.filter(|(page, pages)| page + pages == inner.pages).map_or(0, |(_, pages)| pages)
    }

    /// How many of the pages below `limit` are free.
    pub(super) fn free_below(&self, limit: u32) -> u64 {
        let inner = self.inner.lock();
        let below = inner.free.by_page.range(..limit);
        below.map(|(&page, &pages)| u64::from(pages.min(limit - page))).sum()
    }

    /// How many of the pages from `limit` on the newest version reaches, or work in hand writes.
    pub(super) fn in_use_from(&self, limit: u32) -> u64 {
        let inner = self.inner.lock();
        let beyond =
            |extent: Extent| u64::from(extent.end() - extent.end().min(extent.page.max(limit)));
        let free = inner.free.by_page.iter().map(|(&page, &pages)| Extent { page, pages });
        let pending = inner.pending.iter().flat_map(|group| &group.dead).map(|dead| dead.extent);
        let unused: u64 = free.chain(pending).map(beyond).sum();
        u64::from(inner.pages.saturating_sub(limit)).saturating_sub(unused)
    }

    /// The length to which the file can be cut, if it is longer and no version that is read is.
    pub(super) fn cut_at(&self) -> Option<u32> {
        let inner = self.inner.lock();
        if inner.on_disk <= inner.pages {
            return None;
        }
        let mut live = inner.live.iter().filter_map(|(_, tree)| tree.upgrade());
        let fits = live.all(|tree| tree.described().pages <= inner.pages);
        fits.then_some(inner.pages)
    }

    /// Whether any version may still be read.
    pub(super) fn is_read(&self) -> bool {
        self.inner.lock().live.iter().any(|(_, tree)| tree.strong_count() > 0)
    }

    /// The file was cut to `pages`.
    pub(super) fn was_cut(&self, pages: u32) {
        self.inner.lock().on_disk = pages;
    }
}

/// How many of the `want` pages at the front of `free` are taken, at least `least`: a long stretch
/// ends where a large page of the system's cache does, if another one follows, so that the next
/// one fills whole ones, which are mapped and read as such.
fn fitted(free: Extent, want: u32, least: u32, stretch: u32) -> u32 {
    let until_end = stretch - free.page % stretch;
    let beyond = least.saturating_sub(until_end).checked_next_multiple_of(stretch);
    let fitted = beyond.and_then(|beyond| until_end.checked_add(beyond));
    let leaves_one = |fitted: &u32| fitted.saturating_add(stretch) <= free.pages;
    if want < stretch { want } else { fitted.filter(leaves_one).unwrap_or(want) }
}

impl Held {
    /// Some pages in a row: `want` if that many can be had, at least `least`, below `limit` if
    /// there are any. The file grows if need be.
    pub(super) fn take(
        &self,
        want: u32,
        least: u32,
        limit: Option<u32>,
        file: &PageFile,
        folder: &dyn Folder,
    ) -> Result<Extent> {
        let want = want.max(least);
        let mut guard = self.space.inner.lock();
        let inner = &mut *guard;
        let below = limit.and_then(|limit| inner.free.find(want, least, limit));
        let found = below.or_else(|| {
            let found = inner.free.find(want, least, u32::MAX)?;
            // Holes shorter than asked for only once there is much in them.
            let is_spare = inner.free.pages * 3 > u64::from(inner.pages);
            (found.0 >= want || is_spare).then_some(found)
        });
        let page = match found {
            Some((_, page)) => page,
            // While the file is to become smaller it grows by no more than it has to.
            None if limit.is_some() => self.grow(inner, least, file, folder)?,
            None => self.grow(inner, self.ahead(inner.pages, want), file, folder)?,
        };
        let full = || Error::new(ErrorKind::Limit, "a table has more pages than can be numbered");
        let pages = inner.free.by_page.get(&page).copied().unwrap_or(0);
        let want = fitted(Extent { page, pages }, want, least, self.space.stretch);
        let extent = inner.free.cut(page, want).ok_or_else(full)?;
        inner.held.entry(self.id).or_default().push(extent);
        Ok(extent)
    }

    /// By how much a file of `pages` grows when `want` are needed.
    fn ahead(&self, pages: u32, want: u32) -> u32 {
        let stretch = self.space.stretch;
        if pages < stretch {
            return want;
        }
        let more = (pages / GROWTH).min(GROWTH_MAX * stretch).max(want);
        let end = pages.checked_add(more).and_then(|end| end.checked_next_multiple_of(stretch));
        end.map_or(more, |end| end - pages)
    }

    /// Makes the file longer by `ahead` pages; where the free pages at its end begin.
    fn grow(
        &self,
        inner: &mut Inner,
        ahead: u32,
        file: &PageFile,
        folder: &dyn Folder,
    ) -> Result<u32> {
        let full = || Error::new(ErrorKind::Limit, "a table has more pages than can be numbered");
        let pages = inner.pages.checked_add(ahead).ok_or_else(full)?;
        file.grow(folder, pages)?;
        let fresh = Extent { page: inner.pages, pages: ahead };
        inner.pages = pages;
        inner.on_disk = inner.on_disk.max(pages);
        inner.free.add(fresh);
        let last = inner.free.by_page.keys().next_back().copied();
        Ok(last.unwrap_or(fresh.page))
    }

    /// Where the last of what it holds ends.
    pub(super) fn end(&self) -> u32 {
        let inner = self.space.inner.lock();
        let held = inner.held.get(&self.id).into_iter().flatten();
        held.map(|extent| extent.end()).max().unwrap_or(0)
    }

    /// Gives back the end of the extent taken last.
    pub(super) fn give_back(&self, rest: Extent) {
        let mut inner = self.space.inner.lock();
        let inner = &mut *inner;
        let Some(held) = inner.held.get_mut(&self.id) else { return };
        if let Some(last) = held.last_mut().filter(|last| last.end() == rest.end()) {
            last.pages -= rest.pages;
            inner.free.add(rest);
        }
        held.pop_if(|last| last.pages == 0);
    }

    /// How many pages the file has, and all but the first that the version in the making does not
    /// reach: it reaches what this work holds, and what the version before reached but for `dead`.
    pub(super) fn unreached(&self, dead: &[Dead]) -> Result<(u32, Extents), u32> {
        let inner = self.space.inner.lock();
        let free = inner.free.by_page.iter().map(|(&page, &pages)| Extent { page, pages });
        let others = inner.held.iter().filter(|(id, _)| **id != self.id);
        let others = others.flat_map(|(_, extents)| extents.iter().copied());
        let pending = inner.pending.iter().flat_map(|group| &group.dead).chain(dead);
        let all = free.chain(others).chain(pending.map(|dead| dead.extent));
        Ok((inner.pages, Extents::join(all.collect())?))
    }

    /// What it holds is reached by a published version now.
    pub(super) fn publish(self) {
        self.space.inner.lock().held.remove(&self.id);
    }

    /// What it holds may be reached by a version that may have been published: it is never
    /// written again before the file is opened anew.
    pub(super) fn abandon(self) {
        std::mem::forget(self);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.space.inner.lock();
        if let Some(extents) = inner.held.remove(&self.id) {
            extents.into_iter().for_each(|extent| inner.free.add(extent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn long_stretches_end_where_large_pages_do(
            page in 1u32..100,
            pages in prop_oneof![0u32..100, Just(u32::MAX - 100)],
            want in 1u32..40,
            least in 1u32..40,
            stretch in prop_oneof![Just(1u32), Just(8), Just(16)],
        ) {
            let want = want.max(least);
            let fitted = fitted(Extent { page, pages }, want, least, stretch);
            prop_assert!(fitted >= least);
            if fitted != want {
                prop_assert!(want >= stretch && (page + fitted).is_multiple_of(stretch));
                prop_assert!(fitted + stretch <= pages);
            }
            let ample = pages >= want.max(least) + 2 * stretch;
            prop_assert!(want < stretch || !ample || (page + fitted).is_multiple_of(stretch));
        }
    }

    /// However long values lie between the leaves, stretches fill whole large pages in the end.
    #[test]
    fn stretches_come_back_to_where_large_pages_begin() {
        let (stretch, mut free) = (256, Extent { page: 300, pages: 1 << 20 });
        for least in [1, 300, 256, 700, 2, 255] {
            let taken = fitted(free, stretch.max(least), least, stretch);
            free = Extent { page: free.page + taken, pages: free.pages - taken };
            assert_eq!(free.page % stretch, 0, "after {least}");
        }
    }
}
