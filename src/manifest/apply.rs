//! Doing edits to a state, all or none.
//!
//! The same rules hold for an edit that is about to be written and for one that was read back: a
//! program that breaks one is told so before anything is on disk, and a file that breaks one is
//! damaged.

use super::{
    Edit, FileId, TableId,
    state::{FileRecord, Files, Place, State, TableRecord, is_table_name},
};

/// Why an edit cannot be done: a sentence.
pub(super) type Refusal = String;

/// What [`State::undo`] needs to take edits back: the numbers, and every table that was touched
/// as it had been.
#[derive(Debug)]
pub(super) struct Undo {
    next_file: FileId,
    next_table: TableId,
    log_start: u64,
    log_end: u64,
    last_seq: u64,
    tables: Vec<(TableId, Option<TableRecord>)>,
}

impl State {
    /// Does all the edits; on a refusal none of them. Whoever does edits has the database open.
    pub(super) fn apply_all(&mut self, edits: &[Edit]) -> Result<Undo, Refusal> {
        let mut undo = Undo {
            next_file: self.next_file,
            next_table: self.next_table,
            log_start: self.log_start,
            log_end: self.log_end,
            last_seq: self.last_seq,
            tables: Vec::new(),
        };
        self.log_end = 0;
        for edit in edits {
            if let Some(id) = edit.table()
                && undo.tables.iter().all(|(touched, _)| *touched != id)
            {
                undo.tables.push((id, self.tables.get(&id).cloned()));
            }
            if let Err(refusal) = self.apply(edit) {
                self.undo(undo);
                return Err(refusal);
            }
        }
        Ok(undo)
    }

    /// Takes back what [`State::apply_all`] did.
    pub(super) fn undo(&mut self, undo: Undo) {
        self.next_file = undo.next_file;
        self.next_table = undo.next_table;
        self.log_start = undo.log_start;
        self.log_end = undo.log_end;
        self.last_seq = undo.last_seq;
        for (id, _) in &undo.tables {
            self.unlist(*id);
        }
        for table in undo.tables.into_iter().filter_map(|(_, was)| was) {
            for (age, file) in table.runs.aged() {
                self.files.insert(file.file, Place { table: table.id, age });
            }
            self.names.insert(table.name.clone(), table.id);
            self.tables.insert(table.id, table);
        }
    }

    /// Does one edit, or refuses and changes nothing.
    pub(super) fn apply(&mut self, edit: &Edit) -> Result<(), Refusal> {
        match edit {
            Edit::CreateTable { id, name, .. } => {
                self.check_new_table(*id, name)?;
                self.create_table(edit);
            }
            Edit::DropTable(id) => {
                self.table_mut(*id)?;
                self.unlist(*id);
            }
            Edit::RenameTable { id, name } => self.rename_table(*id, name)?,
            Edit::SetOptions { id, options } => self.table_mut(*id)?.options = options.clone(),
            Edit::SetRoot { table, root } => self.table_mut(*table)?.root = root.clone(),
            Edit::SetSettled { table, seq } => {
                raise("a table's settled mark", &mut self.table_mut(*table)?.settled, *seq)?;
            }
            Edit::AddFile { table, level, file, bytes, meta } => {
                let (file, level, bytes, meta) = (*file, *level, *bytes, meta.clone());
                self.add_file(*table, FileRecord { file, level, bytes, meta })?;
            }
            Edit::RemoveFile { table, file } => self.remove_file(*table, *file)?,
            Edit::SetLogStart(segment) => raise("the log's start", &mut self.log_start, *segment)?,
            Edit::SetNextFile(file) => raise("the next file id", &mut self.next_file, *file)?,
            Edit::SetLastSeq(seq) => raise("the last sequence number", &mut self.last_seq, *seq)?,
        }
        Ok(())
    }

    fn check_new_table(&self, id: TableId, name: &str) -> Result<(), Refusal> {
        if id < self.next_table || id == TableId::MAX {
            return Err(format!("table id {id} was used before"));
        }
        self.check_name(name)
    }

    fn check_name(&self, name: &str) -> Result<(), Refusal> {
        if !is_table_name(name) {
            return Err(format!("a table's name has 1 to 255 bytes, not {}", name.len()));
        }
        if self.names.contains_key(name) {
            return Err(format!("there already is a table named {name:?}"));
        }
        Ok(())
    }

    fn create_table(&mut self, edit: &Edit) {
        let Edit::CreateTable { id, name, engine, options } = edit else { return };
        let table = TableRecord {
            id: *id,
            name: name.clone(),
            engine: *engine,
            options: options.clone(),
            settled: 0,
            runs: Files::default(),
            root: bytes::Bytes::new(),
        };
        self.next_table = id + 1;
        self.names.insert(table.name.clone(), table.id);
        self.tables.insert(table.id, table);
    }

    fn rename_table(&mut self, id: TableId, name: &str) -> Result<(), Refusal> {
        if self.table_mut(id)?.name == name {
            return Ok(());
        }
        self.check_name(name)?;
        let old = std::mem::replace(&mut self.table_mut(id)?.name, name.to_owned());
        self.names.remove(&old);
        self.names.insert(name.to_owned(), id);
        Ok(())
    }

    fn add_file(&mut self, id: TableId, record: FileRecord) -> Result<(), Refusal> {
        let file = record.file;
        if self.files.contains_key(&file) {
            return Err(format!("file {file} is already part of a table"));
        }
        let next = file.checked_add(1).ok_or_else(|| format!("file id {file} is too large"))?;
        let age = self.table_mut(id)?.runs.push(record);
        self.files.insert(file, Place { table: id, age });
        self.next_file = self.next_file.max(next);
        Ok(())
    }

    fn remove_file(&mut self, id: TableId, file: FileId) -> Result<(), Refusal> {
        let place = self.files.get(&file).copied().filter(|place| place.table == id);
        let place = place.ok_or_else(|| format!("file {file} is not part of table {id}"))?;
        self.table_mut(id)?.runs.remove(place.age);
        self.files.remove(&file);
        Ok(())
    }

    fn table_mut(&mut self, id: TableId) -> Result<&mut TableRecord, Refusal> {
        self.tables.get_mut(&id).ok_or_else(|| format!("there is no table {id}"))
    }

    /// Takes a table out, if it is there.
    fn unlist(&mut self, id: TableId) {
        if let Some(table) = self.tables.remove(&id) {
            self.names.remove(&table.name);
            for run in table.runs.iter() {
                self.files.remove(&run.file);
            }
        }
    }
}

/// Numbers that only go up: one that goes back would number something twice, or bring back log
/// segments that are gone.
fn raise(what: &str, number: &mut u64, to: u64) -> Result<(), Refusal> {
    if to < *number {
        return Err(format!("{what} cannot go back from {number} to {to}"));
    }
    *number = to;
    Ok(())
}

impl Edit {
    /// The table it is about.
    fn table(&self) -> Option<TableId> {
        match self {
            Self::DropTable(id)
            | Self::CreateTable { id, .. }
            | Self::RenameTable { id, .. }
            | Self::SetOptions { id, .. } => Some(*id),
            Self::AddFile { table, .. }
            | Self::RemoveFile { table, .. }
            | Self::SetSettled { table, .. }
            | Self::SetRoot { table, .. } => Some(*table),
            Self::SetLogStart(_) | Self::SetNextFile(_) | Self::SetLastSeq(_) => None,
        }
    }
}
