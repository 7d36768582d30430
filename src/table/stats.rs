//! Figures a user can act on.

/// Sizes and shape of one table: see [`Table::stats`](super::Table::stats).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TableStats {
    /// Entries in memtables, all versions counted.
    pub memtable_entries: u64,
    /// Bytes of memory the memtables use.
    pub memtable_bytes: u64,
    /// Memtables that are full and wait to be written out.
    pub memtables_waiting: u64,
    /// Settled entries, deletes included.
    pub entries: u64,
    /// Settled deletes: keys that hide older entries and go away as they are merged down.
    pub deletes: u64,
    /// Bytes of settled files, lenders among them.
    pub file_bytes: u64,
    /// Bytes of keys and values in them, before prefixes are cut and blocks compressed.
    pub raw_bytes: u64,
    /// One row per level of the home, from the newest.
    pub levels: Vec<LevelStats>,
    /// Files of an LSM table that are kept for long values in them.
    pub lenders: LenderStats,
    /// The shape of the one tree of a B+tree table.
    pub tree: Option<TreeStats>,
    /// Work done since the database was opened.
    pub work: WorkStats,
}

impl TableStats {
    /// Bytes written to files for every byte of keys and values settled, since open: flushes and
    /// merges, without the log.
    pub fn write_amplification(&self) -> f64 {
        ratio(self.work.bytes_written, self.work.bytes_absorbed)
    }

    /// Bytes on disk for every byte of keys and values in settled entries.
    pub fn space_amplification(&self) -> f64 {
        ratio(self.file_bytes, self.raw_bytes)
    }

    /// How many places a look-up of an absent key may have to ask, filters apart.
    pub fn read_amplification(&self) -> u64 {
        let sorted = |level: &LevelStats| if level.level == 0 { level.files } else { 1 };
        self.memtables_waiting + 1 + self.levels.iter().map(sorted).sum::<u64>()
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// One level of a table's home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LevelStats {
    /// Its number; 0 holds whole flushed memtables, which may overlap.
    pub level: u8,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their entries, deletes included.
    pub entries: u64,
    /// Their deletes.
    pub deletes: u64,
    /// The size it is kept below, in bytes; 0 if it is counted in files.
    pub target_bytes: u64,
}

/// Files of an LSM table whose entries nobody reads any more, but to which entries of other files
/// point for their values: see [`LsmOptions::separate_values`](crate::LsmOptions::separate_values).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LenderStats {
    /// How many there are; no level counts them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of values in them that are still needed, compressed.
    pub needed_bytes: u64,
}

/// The tree of a B+tree table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeStats {
    /// How many blocks a look-up goes through.
    pub height: u8,
    /// Leaves.
    pub leaves: u64,
    /// Branch blocks.
    pub branches: u64,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Bytes of the file that the newest version does not use. Some may still be read by older
    /// snapshots and iterators.
    pub free_bytes: u64,
    /// Pages written since the database was opened.
    pub pages_written: u64,
}

/// What background work has done for a table since the database was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkStats {
    /// Memtables written out.
    pub flushes: u64,
    /// Merges of files.
    pub merges: u64,
    /// Files moved down a level without being rewritten.
    pub moves: u64,
    /// Files dropped whole because one range delete covered them.
    pub drops: u64,
    /// Bytes of keys and values that left memtables.
    pub bytes_absorbed: u64,
    /// Bytes read by merges.
    pub bytes_read: u64,
    /// Bytes written by flushes and merges.
    pub bytes_written: u64,
}

/// Sizes and shape of a home.
#[derive(Clone, Debug, Default)]
pub(crate) struct HomeStats {
    pub(crate) entries: u64,
    pub(crate) deletes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) levels: Vec<LevelStats>,
    pub(crate) lenders: LenderStats,
    pub(crate) tree: Option<TreeStats>,
    pub(crate) work: WorkStats,
}
