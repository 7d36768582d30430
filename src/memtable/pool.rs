//! Memory of full memtables, kept for the next ones.
//!
//! The first touch of a page is dear: the system clears it, and on a virtual machine may first have
//! to get it from its host. Measured, that was a quarter of what a put costs while a table is
//! filled. So the arenas of memtables that were absorbed are handed on.
//!
//! What is handed on is bounded: a table that was busy once keeps such an arena for its active
//! memtable, however little it is written to from then on.

use super::memory::Region;
use parking_lot::Mutex;
use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// How many regions a pool has, those it lent included: what is written, what waits, and what is
/// flushed.
const REGIONS_MAX: usize = 3;

/// The memory that memtables of one database hand on.
#[derive(Default)]
pub(crate) struct Pool {
    regions: Mutex<Regions>,
    /// Somebody will need memory soon.
    is_wanted: AtomicBool,
}

#[derive(Default)]
struct Regions {
    free: Vec<Region>,
    lent: usize,
}

/// An arena's memory, which returns to where it came from.
pub(super) struct Lease {
    region: Region,
    pool: Option<Arc<Pool>>,
    was_lent: bool,
}

impl Pool {
    /// Lets go of the memory that nobody uses.
    pub(crate) fn clear(&self) {
        let free = mem::take(&mut self.regions.lock().free);
        drop(free);
    }

    /// Bytes of memory that nobody uses.
    pub(crate) fn bytes(&self) -> usize {
        self.regions.lock().free.iter().map(Region::len).sum()
    }

    /// Asks for [`Pool::prepare`]; says whether there is any need.
    pub(crate) fn want(&self) -> bool {
        let regions = self.regions.lock();
        let is_short = regions.free.is_empty() && regions.lent < REGIONS_MAX;
        self.is_wanted.store(is_short, Relaxed);
        is_short
    }

    /// Has memory at hand for a memtable of `len` bytes, if asked to; so the writer need not wait
    /// for the system to clear it.
    pub(crate) fn prepare(&self, len: usize) {
        if self.is_wanted.swap(false, Relaxed) {
            let region = Region::zeroed(len);
            region.advise_huge(0);
            region.populate();
            self.give(region, false);
        }
    }

    /// Lends a region, if it has one; what the caller gets elsewhere instead counts as lent too.
    fn take(&self, len: usize) -> Option<Region> {
        let mut regions = self.regions.lock();
        regions.lent += 1;
        let at = regions.free.iter().position(|region| region.len() == len)?;
        Some(regions.free.swap_remove(at))
    }

    /// Takes a region back, or one that is new to the pool.
    fn give(&self, region: Region, was_lent: bool) {
        let mut regions = self.regions.lock();
        regions.lent -= usize::from(was_lent);
        if regions.free.len() + regions.lent < REGIONS_MAX {
            regions.free.push(region);
            return;
        }
        // Unmapping takes long.
        drop(regions);
        drop(region);
    }
}

impl Lease {
    /// `len` bytes that hold anything, for a memtable that is likely to be filled; zeroes from the
    /// system if the pool has none.
    pub(super) fn used(len: usize, pool: &Arc<Pool>) -> Self {
        let region = pool.take(len).unwrap_or_else(|| Region::zeroed(len));
        Self { region, pool: Some(pool.clone()), was_lent: true }
    }

    /// `len` bytes of which only those that are written to will take memory.
    pub(super) fn fresh(len: usize, pool: Option<Arc<Pool>>) -> Self {
        Self { region: Region::zeroed(len), pool, was_lent: false }
    }

    #[inline(always)]
    pub(super) fn region(&self) -> &Region {
        &self.region
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give(mem::replace(&mut self.region, Region::none()), self.was_lent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 1 << 20;

    #[test]
    fn memory_is_handed_on_and_bounded() {
        let pool = Arc::new(Pool::default());
        let counts = || {
            let regions = pool.regions.lock();
            (regions.lent, regions.free.len())
        };
        let starts: Vec<_> = {
            let leases: Vec<_> = (0..5).map(|_| Lease::used(LEN, &pool)).collect();
            assert_eq!(counts(), (5, 0));
            leases.iter().map(|lease| lease.region().start()).collect()
        };
        assert_eq!(counts(), (0, REGIONS_MAX));
        let again: Vec<_> = (0..REGIONS_MAX).map(|_| Lease::used(LEN, &pool)).collect();
        assert!(again.iter().all(|lease| starts.contains(&lease.region().start())));
        assert_eq!(counts(), (REGIONS_MAX, 0));
        drop(Lease::fresh(LEN, Some(pool.clone())));
        assert_eq!(counts(), (REGIONS_MAX, 0), "more than the bound");
        assert!(!pool.want(), "more than the bound");
        drop(again);
        let other = Lease::used(LEN / 2, &pool);
        assert_eq!(counts(), (1, REGIONS_MAX), "of another length");
        drop(other);
        pool.clear();
        pool.prepare(LEN);
        assert_eq!(counts(), (0, 0), "nobody asked");
        assert!(pool.want());
        pool.prepare(LEN);
        assert_eq!(counts(), (0, 1));
        assert!(!pool.want());
    }
}
