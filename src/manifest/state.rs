//! What a manifest says: the tables, the files of each, and the numbers to go on with.
//!
//! A state is written as varints, and bytes behind their length. The same state is always
//! written as the same bytes.
//!
//! ```text
//! Format: state
//!
//! db_id u128 | next_file | next_table | log_start | log_end | last_seq | tables
//! tables times: id | name | engine u8 | options | settled | root | runs
//!               runs times, oldest first: level u8 | file | bytes | meta
//! ```

use super::{
    FileId, SegmentId, TableId,
    edit::{owned, text},
};
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
    /// The first log segment that may hold entries which are in no home yet; 0: there is no log.
    pub(crate) log_start: SegmentId,
    /// The position behind the log's closing mark, while the database is closed; 0 while it is
    /// open, and after a crash.
    pub(crate) log_end: u64,
    /// Sequence numbers up to this one are taken.
    pub(crate) last_seq: u64,
    /// Where each file is listed, and which table has each name: both derived from `tables`, so
    /// that checking an edit costs a look-up, not a walk over everything.
    pub(super) files: BTreeMap<FileId, Place>,
    pub(super) names: BTreeMap<String, TableId>,
}

/// One table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TableRecord {
    pub(crate) id: TableId,
    /// 1 to 255 bytes, of no other table.
    pub(crate) name: String,
    pub(crate) engine: u8,
    /// The engine's own.
    pub(crate) options: Bytes,
    /// Every entry with a sequence number up to this one is in the home.
    pub(crate) settled: u64,
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) table: TableId,
    pub(super) age: u64,
}

impl PartialEq for Place {
    /// The running numbers start anew whenever a state is read, and say nothing by themselves.
    fn eq(&self, other: &Self) -> bool {
        self.table == other.table
    }
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.by_age.values().eq(other.by_age.values())
    }
}

impl Files {
    /// Those added first come first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &FileRecord> {
        self.by_age.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }

    /// With the number under which [`Files::remove`] finds each.
    pub(super) fn aged(&self) -> impl Iterator<Item = (u64, &FileRecord)> {
        self.by_age.iter().map(|(age, file)| (*age, file))
    }

    /// Adds a file behind all others; returns its number.
    pub(super) fn push(&mut self, file: FileRecord) -> u64 {
        let age = self.by_age.last_key_value().map_or(0, |(age, _)| age + 1);
        self.by_age.insert(age, file);
        age
    }

    pub(super) fn remove(&mut self, age: u64) {
        self.by_age.remove(&age);
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
            log_start: 0,
            log_end: 0,
            last_seq: 0,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn table(&self, id: TableId) -> Option<&TableRecord> {
        self.tables.get(&id)
    }

    #[cfg(test)]
    pub(crate) fn table_named(&self, name: &str) -> Option<&TableRecord> {
        self.names.get(name).and_then(|id| self.tables.get(id))
    }

    /// Every file that is part of the database, ascending.
    #[cfg(test)]
    pub(crate) fn live_files(&self) -> impl Iterator<Item = FileId> {
        self.files.keys().copied()
    }

    /// Whether the file is part of the database.
    pub(crate) fn is_live(&self, file: FileId) -> bool {
        self.files.contains_key(&file)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.db_id.to_le_bytes());
        put_varint(out, self.next_file);
        put_varint(out, self.next_table.into());
        put_varint(out, self.log_start);
        put_varint(out, self.log_end);
        put_varint(out, self.last_seq);
        put_varint(out, self.tables.len() as u64);
        self.tables.values().for_each(|table| table.encode(out));
    }

    /// The reverse of [`State::encode`], refusing what that never writes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut state = Self::new(u128::from_le_bytes(reader.take(16)?.try_into().ok()?));
        state.next_file = reader.varint()?;
        state.next_table = reader.varint()?.try_into().ok()?;
        state.log_start = reader.varint()?;
        state.log_end = reader.varint()?;
        state.last_seq = reader.varint()?;
        let tables = reader.varint()?;
        let mut above = None;
        for _ in 0..tables {
            let table = TableRecord::decode(&mut reader)?;
            let in_order = Some(table.id) > above && table.id < state.next_table;
            above = Some(table.id);
            if !in_order || !state.list(table) {
                return None;
            }
        }
        reader.is_empty().then_some(state)
    }

    /// Adds a table that was read; `false` if its name or a file of it is taken.
    fn list(&mut self, table: TableRecord) -> bool {
        for (age, file) in table.runs.aged() {
            let place = Place { table: table.id, age };
            if file.file >= self.next_file || self.files.insert(file.file, place).is_some() {
                return false;
            }
        }
        let is_new = self.names.insert(table.name.clone(), table.id).is_none();
        self.tables.insert(table.id, table);
        is_new
    }
}

impl TableRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id.into());
        put_bytes(out, self.name.as_bytes());
        out.push(self.engine);
        put_bytes(out, &self.options);
        put_varint(out, self.settled);
        put_bytes(out, &self.root);
        put_varint(out, self.runs.len() as u64);
        for run in self.runs.iter() {
            out.push(run.level);
            put_varint(out, run.file);
            put_varint(out, run.bytes);
            put_bytes(out, &run.meta);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut table = Self {
            id: reader.varint()?.try_into().ok()?,
            name: text(reader).filter(|name| is_table_name(name))?,
            engine: reader.u8()?,
            options: owned(reader)?,
            settled: reader.varint()?,
            root: owned(reader)?,
            runs: Files::default(),
        };
        // The count is not trusted with an allocation: a lie runs out of bytes.
        for _ in 0..reader.varint()? {
            table.runs.push(FileRecord {
                level: reader.u8()?,
                file: reader.varint()?,
                bytes: reader.varint()?,
                meta: owned(reader)?,
            });
        }
        Some(table)
    }
}

/// Whether a table may be called so.
pub(crate) fn is_table_name(name: &str) -> bool {
    (1..=TABLE_NAME_MAX).contains(&name.len())
}
