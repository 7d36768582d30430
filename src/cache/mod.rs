//! The block cache: verified blocks of files that are not mapped, bounded in bytes.
//!
//! The table and the policy (S3-FIFO's idea: one-hit wonders leave early, so a scan does not wash
//! the cache out) are `quick_cache`'s, which is sharded and lets one thread load what others wait
//! for. A hit still costs a hash, a shard's lock and a reference count, about as much as searching
//! a whole tree; so branch blocks do not come here, they stay with their run.

use crate::{Result, value::Owner};
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// What a frame costs beyond its bytes: its allocations and its place in the table.
const OVERHEAD: usize = 128;
/// The usual block, by which the table is sized.
const USUAL: usize = 8 << 10;

/// One verified block on the heap.
pub(crate) struct Frame(Box<[u8]>);

impl Frame {
    pub(crate) fn new(bytes: impl Into<Box<[u8]>>) -> Arc<Self> {
        Arc::new(Self(bytes.into()))
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Owner for Frame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.0.len())
    }
}

/// A file's number and an offset in it.
type Key = (u64, u64);

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Arc<Frame>> for Bytes {
    fn weight(&self, _key: &Key, frame: &Arc<Frame>) -> u64 {
        (frame.0.len() + OVERHEAD) as u64
    }
}

/// What a cache has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheStats {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Held now.
    pub(crate) bytes: u64,
}

/// Counters of one of several threads' worth of look-ups, on lines of their own.
#[derive(Default)]
#[repr(align(128))]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Frames by file and offset. Shared by all tables of a database.
pub(crate) struct BlockCache {
    frames: Option<Cache<Key, Arc<Frame>, Bytes>>,
    counters: [Counters; 16],
}

impl BlockCache {
    /// A cache of at most `bytes`; 0 keeps nothing.
    pub(crate) fn new(bytes: usize) -> Self {
        let options = OptionsBuilder::new()
            .weight_capacity(bytes as u64)
            .estimated_items_capacity((bytes / USUAL).max(1))
            .build();
        let frames = options.ok().filter(|_| bytes > 0).map(|options| {
            Cache::with_options(options, Bytes, Default::default(), Default::default())
        });
        Self { frames, counters: Default::default() }
    }

    fn counters(&self, offset: u64) -> Option<&Counters> {
        self.counters.get((offset >> 12) as usize % self.counters.len())
    }

    fn count_hit(&self, offset: u64) {
        self.counters(offset).inspect(|counters| {
            counters.hits.fetch_add(1, Relaxed);
        });
    }

    fn count_miss(&self, offset: u64) {
        self.counters(offset).inspect(|counters| {
            counters.misses.fetch_add(1, Relaxed);
        });
    }

    /// The frame of `file` at `offset`, if it is here. Its absence is not counted as a miss.
    pub(crate) fn get(&self, file: u64, offset: u64) -> Option<Arc<Frame>> {
        let frame = self.frames.as_ref()?.get(&(file, offset))?;
        self.count_hit(offset);
        Some(frame)
    }

    /// The frame of `file` at `offset`, loaded by one of the threads that want it now if it is
    /// not here. After an error the next one tries again.
    pub(crate) fn get_or_load(
        &self,
        file: u64,
        offset: u64,
        load: impl FnOnce() -> Result<Arc<Frame>>,
    ) -> Result<Arc<Frame>> {
        let Some(frames) = &self.frames else {
            self.count_miss(offset);
            return load();
        };
        if let Some(frame) = self.get(file, offset) {
            return Ok(frame);
        }
        let mut loaded = false;
        let frame = frames.get_or_insert_with(&(file, offset), || {
            loaded = true;
            load()
        })?;
        if loaded {
            self.count_miss(offset)
        } else {
            self.count_hit(offset)
        }
        Ok(frame)
    }

    /// Drops all frames of `file`. Looks at every frame: call it from background work, once the
    /// file is gone. Nothing goes wrong without it, as files' numbers are never used again.
    pub(crate) fn forget(&self, file: u64) {
        if let Some(frames) = &self.frames {
            frames.retain(|key, _| key.0 != file);
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let sum = |of: fn(&Counters) -> &AtomicU64| {
            self.counters.iter().map(|counters| of(counters).load(Relaxed)).sum()
        };
        CacheStats {
            hits: sum(|counters| &counters.hits),
            misses: sum(|counters| &counters.misses),
            bytes: self.frames.as_ref().map_or(0, Cache::weight),
        }
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, ErrorKind};

    fn frame(fill: u8) -> Result<Arc<Frame>> {
        Ok(Frame::new(vec![fill; 1000]))
    }

    fn fails() -> Result<Arc<Frame>> {
        Err(Error::new(ErrorKind::Misuse, "must not load"))
    }

    #[test]
    fn loads_once_and_forgets_by_file() {
        let cache = BlockCache::new(1 << 20);
        for file in 1..=2 {
            assert_eq!(cache.get_or_load(file, 8, || frame(3)).unwrap().bytes(), [3; 1000]);
            assert_eq!(cache.get_or_load(file, 8, fails).unwrap().bytes(), [3; 1000]);
        }
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses), (2, 2));
        assert_eq!(stats.bytes, 2 * (1000 + OVERHEAD) as u64);
        cache.forget(1);
        assert!(cache.get(1, 8).is_none() && cache.get(2, 8).is_some());
    }

    #[test]
    fn errors_are_not_kept() {
        let cache = BlockCache::new(1 << 20);
        assert!(cache.get_or_load(1, 0, fails).is_err());
        assert!(cache.get_or_load(1, 0, || frame(1)).is_ok());
    }

    #[test]
    fn stays_within_its_bytes() {
        for capacity in [0, 1, 5_000, 100_000] {
            let cache = BlockCache::new(capacity);
            for offset in 0..1000 {
                let read = cache.get_or_load(1, offset, || frame(offset as u8)).unwrap();
                assert_eq!(read.bytes()[0], offset as u8);
                assert!(cache.stats().bytes <= capacity as u64);
            }
            assert_eq!(cache.stats().bytes > 0, capacity >= 5_000);
        }
    }

    #[test]
    fn threads_wait_for_one_load() {
        let cache = BlockCache::new(1 << 20);
        let loads = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for offset in 0..200 {
                        let read = cache.get_or_load(1, offset, || {
                            loads.fetch_add(1, Relaxed);
                            frame(offset as u8)
                        });
                        assert_eq!(read.unwrap().bytes()[999], offset as u8);
                    }
                });
            }
        });
        assert_eq!(loads.load(Relaxed), 200);
    }
}
