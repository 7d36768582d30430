//! What a manifest says: the tables, the files of each, and the numbers to go on with.

use super::{FileId, SegmentId, TableId};
use crate::codec::{Reader, put_bytes, put_varint};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Longest name of a table, in bytes.
pub(crate) const TABLE_NAME_MAX: usize = 255;

/// One consistent state of a database. Only the files it lists are part of the database.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    /// Drawn at random when the database was created; every file's checksums can depend on it.
    pub(crate) db_id: u128,
    pub(crate) tables: BTreeMap<TableId, TableRecord>,
    /// Larger than the id of every file ever listed.
    pub(crate) next_file: FileId,
    /// Larger than the id of every table there ever was.
    pub(crate) next_table: TableId,
    /// The first log segment that may hold entries which are in no home yet.
    pub(crate) log_start: SegmentId,
    /// No operation with a sequence number up to this one may be numbered so again.
    pub(crate) last_seq: u64,
    /// Where each file is listed. Derived from `tables`.
    files: BTreeMap<FileId, Place>,
}

/// One table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TableRecord {
    pub(crate) id: TableId,
    /// UTF-8, 1 to 255 bytes, of no other table.
    pub(crate) name: String,
    pub(crate) engine: u8,
    /// The engine's own.
    pub(crate) options: Bytes,
    /// Every entry with a sequence number up to this one is in the home.
    pub(crate) settled: u64,
    /// In the order in which they were added.
    pub(crate) runs: Files,
    /// The engine's own; empty at first.
    pub(crate) root: Bytes,
}

/// A file that is part of a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FileRecord {
    pub(crate) file: FileId,
    pub(crate) level: u8,
    /// Its exact length.
    pub(crate) bytes: u64,
    /// The engine's own (a run's `RunMeta`).
    pub(crate) meta: Bytes,
}

/// The files of a table in the order in which they were added.
///
/// Ordered by a running number, so that removing one of very many costs no more than finding it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    by_age: BTreeMap<u64, FileRecord>,
}

/// Where a file is listed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    table: TableId,
    age: u64,
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.by_age.values().eq(other.by_age.values())
    }
}

impl Files {
    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &FileRecord> {
        self.by_age.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }
}

impl State {
    /// Of a new, empty database.
    pub(crate) fn new(db_id: u128) -> Self {
        Self {
            db_id,
            tables: BTreeMap::new(),
            next_file: 1,
            next_table: 1,
            log_start: 1,
            last_seq: 0,
            files: BTreeMap::new(),
        }
    }

    pub(crate) fn table(&self, id: TableId) -> Option<&TableRecord> {
        self.tables.get(&id)
    }

    pub(crate) fn table_named(&self, name: &str) -> Option<&TableRecord> {
        self.tables.values().find(|table| table.name == name)
    }

    /// Every file that is part of the database, ascending.
    pub(crate) fn live_files(&self) -> impl Iterator<Item = FileId> {
        self.files.keys().copied()
    }

    /// Whether the file is part of the database.
    pub(crate) fn is_live(&self, file: FileId) -> bool {
        self.files.contains_key(&file)
    }
}
