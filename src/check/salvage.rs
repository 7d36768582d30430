//! Copying what is readable of a damaged database into a new one.
//!
//! Everything is written again as a program would write it, oldest first: run by run from the
//! deepest level up, then the log. So what is newer hides what is older just as it did, but for
//! what is lost: where a newer entry or delete is lost, an older one may be seen again.

use super::{dump::shown, files_in, hash_files, meta_of, oldest_first, open_folder, tree_of};
use crate::{
    Batch, Btree, BtreeOptions, Db, Engine, Error, ErrorKind, Hash, HashOptions, Lsm, LsmOptions,
    Result, Table,
    btree::DELTA_LEVEL,
    db::read_log,
    hash::{HashRun, HashRunMeta, hash_run_name},
    log::Record,
    lsm::LENDERS,
    manifest::{FileRecord, Manifest, State, TableRecord},
    sorted::{Kind, Lost, PageTree, Run, RunMeta, Span, pages_name, run_name},
    table::{Durability, Op, TableId, read_ops},
    vfs::Folder,
};
use std::{collections::BTreeMap, fmt, path::Path};

/// How much is written at a time.
const BATCH_OPS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

/// What [`salvage`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Entries and deletes that were read and written again.
    pub entries: u64,
    /// Entries and deletes of runs that are known to be missing.
    pub missing: u64,
    /// Every place that could not be read.
    pub damage: Vec<Damage>,
}

/// A place that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file, in the folder that was read.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong there, and which keys of which table it concerns, if that is known.
    pub what: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, missing, damage } = self;
        let places = damage.len();
        write!(f, "{entries} entries read, {missing} missing, {places} damaged places")?;
        damage.iter().try_for_each(|damage| write!(f, "\n{damage}"))
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.what)
    }
}

/// Copies what is readable of the database in the directory `from` into a new one in `to`, table
/// by table, and says what is not. Without a manifest it is not known which table a run belongs to:
/// then each becomes a table of its own, named as the file, and the log is left out. The table of a
/// file that was kept only for long values in it also has what was overwritten or deleted since.
///
/// # Errors
/// `Misuse` if there are tables in `to`; `NotFound` if there is no database in `from`; errors of
/// writing to `to`. Damage is no error.
pub fn salvage(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Report> {
    let from = open_folder(from.as_ref())?;
    let to = Db::open(to)?;
    let report = salvage_in(&from, &to)?;
    to.close()?;
    Ok(report)
}

/// [`salvage`] from any folder into any new database.
///
/// # Errors
/// As [`salvage`].
pub fn salvage_in(from: &dyn Folder, to: &Db) -> Result<Report> {
    if !to.tables().is_empty() {
        let message = "what is salvaged goes into a new database: this one has tables";
        return Err(Error::new(ErrorKind::Misuse, message));
    }
    let (batch, report) = (to.batch(), Report::default());
    let mut salvage = Salvage { from, to, batch, waiting: (0, 0), report };
    let damage = match Manifest::remains(from) {
        Ok((state, damage)) => {
            let tables = salvage.tables(&state)?;
            salvage.log(&state, &tables)?;
            damage.map(|damage| (damage, Some(state)))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(error),
        Err(error) => Some((error, None)),
    };
    if let Some((error, state)) = damage {
        salvage.note(&error, "");
        salvage.strays(state.as_ref())?;
    }
    salvage.commit()?;
    to.flush()?;
    Ok(salvage.report)
}

/// The new tables by the old ones' numbers, each with what is settled in files.
type Tables = BTreeMap<TableId, (Box<dyn Table>, u64)>;

struct Salvage<'a> {
    from: &'a dyn Folder,
    to: &'a Db,
    /// What is to be written next, and how many operations and bytes that are.
    batch: Batch,
    waiting: (usize, usize),
    report: Report,
}

impl Salvage<'_> {
    /// Salvages the files of all tables; the tables, each with what is settled in them.
    fn tables(&mut self, state: &State) -> Result<Tables> {
        let mut tables = BTreeMap::new();
        for record in state.tables.values() {
            let table: Box<dyn Table> = match Engine::from_id(record.engine) {
                Some(Engine::Hash) => Box::new(self.hash_table(record)?),
                Some(Engine::Btree) => Box::new(self.tree_table(record)?),
                _ => Box::new(self.lsm_table(record)?),
            };
            tables.insert(record.id, (table, record.settled));
        }
        Ok(tables)
    }

    fn lsm_table(&mut self, record: &TableRecord) -> Result<Lsm> {
        let options = LsmOptions::decode(&record.options).unwrap_or_default();
        let table = self.to.lsm_with(&record.name, &options)?;
        // Lenders are read for what other files' entries point to, and not for their own.
        for file in oldest_first(record).into_iter().filter(|file| file.level != LENDERS) {
            self.file(record, file, &table, options.block_len())?;
        }
        Ok(table)
    }

    fn hash_table(&mut self, record: &TableRecord) -> Result<Hash> {
        let options = HashOptions::decode(&record.options).unwrap_or_default();
        let table = self.to.hash_with(&record.name, &options)?;
        for meta in hash_files(record) {
            match meta {
                Ok(meta) => self.hash_run(&record.name, meta, &table)?,
                Err(error) => self.note(&error, &format!("; of table {:?}", record.name)),
            }
        }
        Ok(table)
    }

    fn tree_table(&mut self, record: &TableRecord) -> Result<Btree> {
        let options = BtreeOptions::decode(&record.options).unwrap_or_default();
        let table = self.to.btree_with(&record.name, &options)?;
        for file in oldest_first(record) {
            if file.level == DELTA_LEVEL {
                self.file(record, file, &table, options.page_len())?;
                continue;
            }
            match tree_of(self.from, record, file) {
                Ok((tree, lost)) => self.tree(&record.name, &tree, lost, &table)?,
                Err(error) => self.note(&error, &format!("; of table {:?}", record.name)),
            }
        }
        Ok(table)
    }

    /// Salvages one tree.
    fn tree(
        &mut self,
        name: &str,
        tree: &PageTree,
        mut lost: Vec<Lost>,
        table: &Btree,
    ) -> Result<()> {
        let (entries, mut found) = (tree.counts().entries, 0);
        lost.extend(tree.rescue(&mut |key, value| {
            found += 1;
            self.add(table, Op::Put { key, value })
        })?);
        self.report.entries += found;
        self.report.missing += entries.saturating_sub(found);
        lost.iter().for_each(|lost| self.note_lost(name, lost));
        Ok(())
    }

    /// Salvages one run of a hash table.
    fn hash_run(&mut self, name: &str, meta: HashRunMeta, table: &Hash) -> Result<()> {
        let entries = meta.entries;
        let (run, mut lost) = match HashRun::open_damaged(self.from, meta) {
            Ok(opened) => opened,
            Err(error) => {
                self.report.missing += entries;
                self.note(&error, &format!("; of table {name:?}"));
                return Ok(());
            }
        };
        let mut found = 0;
        lost.extend(run.rescue(&mut |key, kind, value| {
            found += 1;
            let put = Op::Put { key, value };
            self.add(table, if kind == Kind::Put { put } else { Op::Delete { key } })
        })?);
        self.report.entries += found;
        self.report.missing += entries.saturating_sub(found);
        lost.iter().for_each(|error| self.note(error, &format!("; of table {name:?}")));
        Ok(())
    }

    fn file(
        &mut self,
        record: &TableRecord,
        file: &FileRecord,
        table: &dyn Table,
        block_bytes: usize,
    ) -> Result<()> {
        match meta_of(file) {
            Ok(meta) => self.run(&record.name, meta, table, Some(block_bytes)),
            Err(error) => {
                self.note(&error, &format!("; of table {:?}", record.name));
                Ok(())
            }
        }
    }

    /// Salvages one run.
    fn run(
        &mut self,
        name: &str,
        meta: RunMeta,
        table: &dyn Table,
        block_bytes: Option<usize>,
    ) -> Result<()> {
        let (entries, keys) = (meta.entries, meta.span.clone());
        let (run, mut lost) = match Run::open_damaged(self.from, meta, block_bytes) {
            Ok(opened) => opened,
            Err(error) => {
                self.report.missing += entries;
                self.note_lost(name, &Lost { error, keys });
                return Ok(());
            }
        };
        for span in run.range_deletes().spans() {
            self.add(table, range_delete(span))?;
        }
        let mut found = 0;
        let rescued = run.rescue(&mut |key, kind, value| {
            found += 1;
            let put = Op::Put { key, value };
            self.add(table, if kind == Kind::Put { put } else { Op::Delete { key } })
        })?;
        lost.extend(rescued);
        self.report.entries += found;
        self.report.missing += entries.saturating_sub(found);
        lost.iter().for_each(|lost| self.note_lost(name, lost));
        Ok(())
    }

    /// Salvages runs that are part of no table, as far as is known.
    fn strays(&mut self, state: Option<&State>) -> Result<()> {
        let is_known = |file: &u64| state.is_some_and(|state| state.is_live(*file));
        for file in files_in(self.from, ".pages")?.into_iter().filter(|file| !is_known(file)) {
            let name = pages_name(file);
            match PageTree::open_stray(self.from, file) {
                Ok(tree) => {
                    let table = self.to.btree(&name)?;
                    self.tree(&name, &tree, Vec::new(), &table)?;
                }
                Err(error) => self.note(&error, ""),
            }
        }
        for file in files_in(self.from, ".hash")?.into_iter().filter(|file| !is_known(file)) {
            let name = hash_run_name(file);
            match HashRun::meta_of(self.from, file) {
                Ok(meta) => {
                    let table = self.to.hash(&name)?;
                    self.hash_run(&name, meta, &table)?;
                }
                Err(error) => self.note(&error, ""),
            }
        }
        for file in files_in(self.from, ".run")?.into_iter().filter(|file| !is_known(file)) {
            let name = run_name(file);
            match Run::meta_of(self.from, file) {
                Ok(meta) => {
                    let table = self.to.lsm(&name)?;
                    self.run(&name, meta, &table, None)?;
                }
                Err(error) => self.note(&error, ""),
            }
        }
        Ok(())
    }

    /// Writes again what the log has up to its first damage.
    fn log(&mut self, state: &State, tables: &Tables) -> Result<()> {
        let mut failed = None;
        let read = read_log(self.from, state, &mut |record| {
            let written = self.record(&record, tables);
            written.inspect_err(|error| failed = (!error.is_corrupt()).then(|| error.clone()))
        });
        match (read, failed) {
            (_, Some(failed)) => Err(failed),
            (Err(error), None) => {
                self.note(&error, "; what the log had from there on is lost");
                Ok(())
            }
            (Ok(_), None) => Ok(()),
        }
    }

    fn record(&mut self, record: &Record<'_>, tables: &Tables) -> Result<()> {
        // A batch is there whole or not at all.
        if read_ops(record.payload).any(|op| op.is_none()) {
            return Err(record.corrupt("an operation does not decode"));
        }
        for ((table, op), seq) in read_ops(record.payload).flatten().zip(record.first_seq..) {
            if let Some((table, settled)) = tables.get(&table)
                && *settled < seq
            {
                if matches!(op, Op::DeleteRange { .. }) && !table.engine().is_ordered() {
                    return Err(record.corrupt("a range delete of a table that has no order"));
                }
                self.report.entries += 1;
                self.add(&**table, op)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, table: &dyn Table, op: Op<'_>) -> Result<()> {
        self.batch.try_add(table.core().state(), op)?;
        self.waiting = (self.waiting.0 + 1, self.waiting.1 + op.bytes());
        if self.waiting.0 >= BATCH_OPS || self.waiting.1 >= BATCH_BYTES {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.waiting = (0, 0);
        std::mem::replace(&mut self.batch, self.to.batch()).commit(Durability::Process)
    }

    fn note_lost(&mut self, table: &str, lost: &Lost) {
        self.note(&lost.error, &format!("; table {table:?}, keys {}", shown(&lost.keys)));
    }

    fn note(&mut self, error: &Error, more: &str) {
        let (file, offset) = (error.file().unwrap_or_default(), error.offset().unwrap_or(0));
        let what = format!("{}{more}", error.what());
        self.report.damage.push(Damage { file: file.to_owned(), offset, what });
    }
}

fn range_delete(span: &Span) -> Op<'_> {
    Op::DeleteRange { start: &span.start, end: span.end.as_deref() }
}
