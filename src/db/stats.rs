//! Figures of the whole database.

use super::shared::Shared;
use crate::{
    Error,
    table::{TableState, TableStats},
};
use std::{sync::Arc, time::Duration};

/// What a database uses and what it waits for: see [`Db::stats`](super::Db::stats).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DbStats {
    /// Operations committed since the database was created.
    pub sequence: u64,
    /// Bytes of memory that all memtables use.
    pub memtable_bytes: u64,
    /// Transactions that are open.
    pub transactions: u64,
    /// Bytes of memtables that are kept to check them against.
    pub transaction_bytes: u64,
    /// Bytes on disk that the log occupies, space reserved ahead included.
    pub log_bytes: u64,
    /// Bytes appended to the log since open.
    pub log_appended: u64,
    /// Records (commits) appended to the log since open.
    pub log_records: u64,
    /// Syncs of the log since open.
    pub log_syncs: u64,
    /// Durable commits that another commit's sync had covered, since open.
    pub log_rides: u64,
    /// Bytes of settled files.
    pub file_bytes: u64,
    /// Bytes of blocks in the cache.
    pub cache_bytes: u64,
    /// Look-ups that found their block in the cache, since open.
    pub cache_hits: u64,
    /// Look-ups that did not.
    pub cache_misses: u64,
    /// How far background work lags behind: from 0.6 writes are slowed, at 1 they wait.
    pub pressure: f64,
    /// Writes that were slowed down since open, and for how long in all.
    pub delays: (u64, Duration),
    /// Times a write waited because memtables were full and not yet written out, and for how long
    /// in all. More memory or a faster disk helps.
    pub flush_stalls: (u64, Duration),
    /// Times a write waited because too many files were waiting to be merged, and for how long in
    /// all. More threads or a faster disk helps.
    pub merge_stalls: (u64, Duration),
    /// Why background work last failed, if it has not succeeded since.
    pub background_error: Option<Error>,
}

impl Shared {
    pub(super) fn stats(&self) -> DbStats {
        let tables = self.table_list();
        let sum = |of: fn(&TableStats) -> u64| {
            tables.iter().map(|table| of(&self.table_stats(table))).sum::<u64>()
        };
        let log = self.writing.as_ref().map(|writing| (writing.log.bytes(), writing.log.stats()));
        let (log_bytes, log) = log.unwrap_or_default();
        let cache = self.cache.stats();
        let (transactions, transaction_bytes) = self.history.figures();
        DbStats {
            sequence: self.visible.get(),
            memtable_bytes: sum(|stats| stats.memtable_bytes),
            transactions: transactions as u64,
            transaction_bytes: transaction_bytes as u64,
            log_bytes,
            log_appended: log.appended_bytes,
            log_records: log.records,
            log_syncs: log.syncs,
            log_rides: log.rides,
            file_bytes: sum(|stats| stats.file_bytes),
            cache_bytes: cache.bytes,
            cache_hits: cache.hits,
            cache_misses: cache.misses,
            pressure: self.pace.pressure(),
            delays: self.pace.delays(),
            flush_stalls: self.pace.flush_waits(),
            merge_stalls: self.pace.merge_waits(),
            background_error: self.signals.last_error(),
        }
    }

    pub(super) fn table_stats(&self, table: &Arc<TableState>) -> TableStats {
        let view = table.view();
        let home = view.settled.stats();
        let sealed = view.sealed.iter().map(|sealed| &sealed.memtable);
        let memtables: Vec<_> = std::iter::once(&view.active).chain(sealed).collect();
        TableStats {
            memtable_entries: memtables.iter().map(|memtable| memtable.entries() as u64).sum(),
            memtable_bytes: memtables.iter().map(|memtable| memtable.bytes() as u64).sum(),
            memtables_waiting: view.sealed.len() as u64,
            entries: home.entries,
            deletes: home.deletes,
            file_bytes: home.file_bytes,
            raw_bytes: home.raw_bytes,
            levels: home.levels,
            lenders: home.lenders,
            tree: home.tree,
            work: home.work,
        }
    }
}
