//! Counts of the work done for one table.

use crate::table::WorkStats;
use std::sync::atomic::{AtomicU64, Ordering};

/// [`WorkStats`] that many threads add to.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) flushes: Count,
    pub(super) merges: Count,
    pub(super) bytes_absorbed: Count,
    pub(super) pages_written: Count,
    pub(super) bytes_written: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Work {
    pub(super) fn stats(&self) -> WorkStats {
        WorkStats {
            flushes: self.flushes.get(),
            merges: self.merges.get(),
            bytes_absorbed: self.bytes_absorbed.get(),
            bytes_written: self.bytes_written.get(),
            ..WorkStats::default()
        }
    }
}
