//! Memory that never moves, is zeroed at first, and is paid for only where it is touched.
//!
//! A [`Region`] reserves address space for the most that may be needed; the system commits pages
//! as they are first written. So nothing is ever copied to grow, addresses stay good for the
//! region's whole life, and a memtable that holds one record costs one page.
//!
//! This file and `arena` are the only ones here that touch raw memory.
#![allow(unsafe_code)]

use memmap2::{MmapOptions, MmapRaw};
use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

/// Every region starts at a cache line.
const LINE: usize = 64;

/// Below this a region lies on the heap: a mapping costs system calls and whole pages.
const MAPPED_MIN: usize = 64 << 10;

/// What of a mapping stays in small pages, so that a memtable with little in it stays small.
pub(super) const SMALL_PAGES: usize = 4 << 20;

/// A fixed stretch of memory.
pub(super) struct Region {
    start: NonNull<u8>,
    len: usize,
    backing: Backing,
}

enum Backing {
    Mapping(MmapRaw),
    Heap(Layout),
    Nothing,
}

// SAFETY: the region owns its memory as a `Box<[UnsafeCell<u8>]>` would and hands out nothing but
// an address; those who make references of it (`Slab` here, `Arena`) answer for sharing them. The
// test that breaks if they do not is `readers_see_every_published_entry` under
// ThreadSanitizer.
unsafe impl Send for Region {}
// SAFETY: as for `Send`.
unsafe impl Sync for Region {}

impl Region {
    /// `len` zeroed bytes: mapped, or from the heap where small or where mapping fails.
    pub(super) fn zeroed(len: usize) -> Self {
        if len < MAPPED_MIN {
            return Self::on_heap(len);
        }
        Self::mapped(len).unwrap_or_else(|| Self::on_heap(len))
    }

    fn mapped(len: usize) -> Option<Self> {
        let mapping = MmapOptions::new().len(len).no_reserve_swap().map_anon().ok()?;
        let mapping = MmapRaw::from(mapping);
        let start = NonNull::new(mapping.as_mut_ptr())?;
        #[cfg(target_os = "linux")]
        {
            // Advice; where it is refused all is well, only larger.
            let _ = mapping.advise_range(memmap2::Advice::NoHugePage, 0, len.min(SMALL_PAGES));
        }
        Some(Self { start, len, backing: Backing::Mapping(mapping) })
    }

    fn on_heap(len: usize) -> Self {
        let Ok(layout) = Layout::from_size_align(len.max(LINE), LINE) else {
            // More than there are addresses.
            handle_alloc_error(Layout::new::<u8>())
        };
        // SAFETY: the layout's size is not zero; `heap_regions_are_zeroed` reads and writes all of
        // it.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else {
            handle_alloc_error(layout)
        };
        Self { start, len, backing: Backing::Heap(layout) }
    }

    /// No memory at all.
    pub(super) fn none() -> Self {
        Self { start: NonNull::dangling(), len: 0, backing: Backing::Nothing }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Has all of it in memory, so that no access waits for the system to clear a page (or, if it
    /// reads first, to map the one page of zeros and then to take it away from all processors).
    /// What it holds stays as it is.
    pub(super) fn populate(&self) {
        #[cfg(target_os = "linux")]
        if let Backing::Mapping(mapping) = &self.backing {
            let _ = mapping.advise(memmap2::Advice::PopulateWrite);
        }
    }

    /// Asks for huge pages from `from` on: far fewer faults and misses of the address cache.
    pub(super) fn advise_huge(&self, from: usize) {
        #[cfg(target_os = "linux")]
        if let Backing::Mapping(mapping) = &self.backing
            && let Some(rest) = self.len.checked_sub(from).filter(|rest| *rest > 0)
        {
            let _ = mapping.advise_range(memmap2::Advice::HugePage, from, rest);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = from;
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Backing::Heap(layout) = self.backing {
            // SAFETY: `start` came from `alloc_zeroed` with this layout in `on_heap`, and
            // whatever borrowed from the region is gone by now.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

/// What a [`Slab`] may hold.
///
/// # Safety
///
/// Zero bytes are a valid value, every field is an atomic (so that all may be shared from the
/// start), the alignment is at most a cache line, and there is nothing to drop.
pub(super) unsafe trait Zeroed: Send + Sync {}

// SAFETY: an atomic integer.
unsafe impl Zeroed for AtomicU64 {}

/// A fixed array of atomics, all zero at first.
pub(super) struct Slab<T> {
    region: Region,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Zeroed> Slab<T> {
    pub(super) fn new(len: usize) -> Self {
        const { assert!(align_of::<T>() <= LINE && !std::mem::needs_drop::<T>()) }
        let region = Region::zeroed(len.saturating_mul(size_of::<T>()));
        Self { region, len, of: PhantomData }
    }

    /// Asks for huge pages.
    pub(super) fn advise_huge(&self) {
        self.region.advise_huge(0);
    }

    /// Has all of it in memory: for what will be used all over, and now.
    pub(super) fn populate(&self) {
        self.region.populate();
    }
}

impl<T: Zeroed> Deref for Slab<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the region is `len` zeroed values long, aligned for them, lives as long as the
        // borrow, and `T: Zeroed` makes zeroes valid values that may be shared. A wrong length
        // or alignment breaks `slabs_are_whole_and_zero`.
        unsafe { std::slice::from_raw_parts(self.region.start.as_ptr().cast::<T>(), self.len) }
    }
}

/// Asks for the cache line at `at` to be loaded. Any address will do.
#[inline(always)]
pub(super) fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address has no effect but on caches, and SSE is part of every
    // x86_64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn slabs_are_whole_and_zero() {
        for len in [0, 1, 7, 8 << 10, (SMALL_PAGES / 8) + 1] {
            let slab = Slab::<AtomicU64>::new(len);
            slab.advise_huge();
            slab.populate();
            assert_eq!(slab.len(), len);
            assert_eq!(slab.as_ptr() as usize % LINE, 0);
            assert!(slab.iter().all(|word| word.load(Relaxed) == 0));
            slab.iter().enumerate().for_each(|(i, word)| word.store(i as u64, Relaxed));
            assert!(slab.iter().enumerate().all(|(i, word)| word.load(Relaxed) == i as u64));
        }
    }

    #[test]
    fn heap_regions_are_zeroed() {
        for region in [Region::on_heap(1 << 20), Region::on_heap(3), Region::on_heap(0)] {
            let slab = Slab::<AtomicU64> { len: region.len() / 8, region, of: PhantomData };
            assert!(slab.iter().all(|word| word.swap(1, Relaxed) == 0));
        }
    }
}
