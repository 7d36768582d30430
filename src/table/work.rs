//! Counts of the work done for one table.

use super::stats::WorkStats;
use std::sync::atomic::{AtomicU64, Ordering};

/// [`WorkStats`] that many threads add to.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) flushes: Count,
    pub(crate) merges: Count,
    pub(crate) moves: Count,
    pub(crate) drops: Count,
    pub(crate) bytes_absorbed: Count,
    pub(crate) bytes_read: Count,
    pub(crate) bytes_written: Count,
    pub(crate) pages_written: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Work {
    pub(crate) fn stats(&self) -> WorkStats {
        WorkStats {
            flushes: self.flushes.get(),
            merges: self.merges.get(),
            moves: self.moves.get(),
            drops: self.drops.get(),
            bytes_absorbed: self.bytes_absorbed.get(),
            bytes_read: self.bytes_read.get(),
            bytes_written: self.bytes_written.get(),
        }
    }
}
