//! Steps, and the player that takes them on a database and on the model at once.

use super::{
    look,
    model::{Change, Model, Name, State, Write},
};
use std::{collections::BTreeMap, ops::Bound, sync::Arc};
use tonearm::{
    Batch, BtreeOptions, Builder, Db, Durability, Engine, Error, ErrorKind, HashOptions,
    LsmOptions, OrderedTable, ReadPath, Result, Snapshot, Table, Transaction, vfs::sim::SimDisk,
};

/// One call of a program that uses a database.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Change(Change, Durability),
    Flush(Name),
    FlushAll,
    Maintain,
    Sync,
    /// Closes and opens again.
    Reopen,
    /// Copies everything to another disk.
    Backup,
    /// Takes a snapshot, which pins files, and gives it back.
    Hold,
    Release,
}

/// How a scenario's database is opened, and what its disk is like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// Whether the log is mapped.
    pub(crate) mapped: bool,
    /// Whether a rename is two changes of names.
    pub(crate) loose: bool,
    /// Whether files are read through the cache.
    pub(crate) cached: bool,
    /// 4096, or more.
    pub(crate) segment_bytes: u64,
}

impl Manner {
    /// An empty disk of this manner.
    pub(crate) fn disk(self, seed: u64) -> SimDisk {
        let disk = SimDisk::new(seed);
        disk.set_mappable(self.mapped);
        disk.set_loose_renames(self.loose);
        disk
    }

    /// Everything as small as it goes, so that few steps fill memtables, segments and levels.
    pub(crate) fn builder(self) -> Builder {
        Db::builder()
            .threads(0)
            .memory(64 << 10)
            .memtable_bytes(4 << 10)
            .segment_bytes(self.segment_bytes)
            .log_bytes(24 << 10)
            .sync_interval(None)
            .mapped_log(self.mapped)
            .read_path(if self.cached { ReadPath::Cached } else { ReadPath::Mapped })
    }

    pub(crate) fn open(self, disk: &SimDisk) -> Result<Db> {
        self.builder().open_in(Arc::new(disk.clone()))
    }
}

/// Tables with tiny blocks, files and levels.
pub(crate) fn table_options() -> LsmOptions {
    let sizes = LsmOptions::default().block_bytes(256).file_bytes(4 << 10).base_bytes(4 << 10);
    sizes.growth(2).merge_at(2).slow_at(4).stop_at(6)
}

/// The same for tables that leave values where they were written.
pub(crate) fn lending_options() -> LsmOptions {
    table_options().filter_bits(0).last_filter_bits(0).separate_values(100)
}

/// The same for hash tables; the seed is fixed, so that the same steps are the same writes.
pub(crate) fn hash_options() -> HashOptions {
    HashOptions::default().runs(2).file_bytes(4 << 10).seed(7)
}

/// The same for B+trees.
pub(crate) fn btree_options() -> BtreeOptions {
    BtreeOptions::default().page_bytes(256).spare_percent(20).deltas(2).rewrite_ratio(1)
}

/// The table of that name, which is in key order.
pub(crate) fn ordered(db: &Db, name: &str) -> Result<Arc<dyn OrderedTable>> {
    Ok(match db.table(name)?.engine() {
        Engine::Btree => Arc::new(db.btree(name)?),
        _ => Arc::new(db.lsm(name)?),
    })
}

/// Creates a table: a hash table if its name begins with `h`, a B+tree if it begins with `t`, and
/// one that leaves values where they were written if it begins with `l`.
pub(crate) fn create_table(db: &Db, name: &str) -> Result<Arc<dyn Table>> {
    Ok(match name.as_bytes() {
        [b'h', ..] => Arc::new(db.hash_with(name, &hash_options())?),
        [b'l', ..] => Arc::new(db.lsm_with(name, &lending_options())?),
        [b't', ..] => Arc::new(db.btree_with(name, &btree_options())?),
        _ => Arc::new(db.lsm_with(name, &table_options())?),
    })
}

/// A database and its model.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) disk: SimDisk,
    pub(crate) manner: Manner,
    pub(crate) model: Model,
    db: Option<Db>,
    tables: BTreeMap<Name, Arc<dyn Table>>,
    held: Option<Snapshot>,
    /// Whether the database has said that it takes no more writes.
    poisoned: bool,
}

impl Player {
    /// No database yet: the first step opens it.
    pub(crate) fn new(disk: SimDisk, manner: Manner) -> Self {
        let (model, tables) = (Model::new(), BTreeMap::new());
        Self { disk, manner, model, db: None, tables, held: None, poisoned: false }
    }

    /// With a database that was opened in another way; the manner says how it is opened again.
    pub(crate) fn with(db: Db, disk: SimDisk, manner: Manner) -> Self {
        Self { db: Some(db), ..Self::new(disk, manner) }
    }

    /// The database, opened if it is not.
    pub(crate) fn db(&mut self) -> Result<&Db> {
        let db = match self.db.take() {
            Some(db) => db,
            None => self.manner.open(&self.disk)?,
        };
        Ok(self.db.insert(db))
    }

    /// Takes all steps, none of which may fail, and closes the database.
    pub(crate) fn play(&mut self, steps: &[Step]) {
        for (number, step) in steps.iter().enumerate() {
            self.step(step).unwrap_or_else(|e| panic!("step {number}, {step:?}: {e}"));
        }
        self.close().unwrap();
    }

    /// Takes one step; the model learns what came of it, and the disk's history what was promised.
    pub(crate) fn step(&mut self, step: &Step) -> Result<()> {
        self.db()?;
        let result = match step {
            Step::Change(change, durability) => self.change(change, *durability),
            other => self.work(other),
        };
        self.disk.mark(self.model.mark());
        result
    }

    fn change(&mut self, change: &Change, durability: Durability) -> Result<()> {
        self.model.issue(change);
        let result = self.execute(change, durability);
        let committed = matches!(change, Change::Batch(_) | Change::Transaction(_));
        match &result {
            // What writes nothing syncs nothing.
            Ok(()) if committed && (durability == Durability::Process || change.is_nothing()) => {
                self.model.acknowledge();
            }
            Ok(()) => self.model.make_durable(),
            Err(e) if committed && is_refusal(e) => self.model.refuse(),
            Err(e) if self.poisoned && e.kind() == ErrorKind::Poisoned => self.model.refuse(),
            Err(e) => {
                self.poisoned |= e.kind() == ErrorKind::Poisoned;
                self.model.doubt();
            }
        }
        result
    }

    fn execute(&mut self, change: &Change, durability: Durability) -> Result<()> {
        let db = self.db()?.clone();
        match change {
            Change::Create(name) => {
                let table = create_table(&db, name)?;
                self.tables.insert(name, table);
                Ok(())
            }
            Change::Drop(name) => {
                db.drop_table(name)?;
                self.tables.remove(name);
                Ok(())
            }
            Change::Rename(from, to) => {
                db.rename_table(from, to)?;
                if let Some(table) = self.tables.remove(from) {
                    self.tables.insert(to, table);
                }
                Ok(())
            }
            Change::Batch(writes) => self.commit(&db, writes, durability),
            Change::Transaction(writes) => self.transact(&db, writes, durability),
            Change::Ingest(name, entries) => {
                let entry = |(key, value): &(Vec<u8>, Vec<u8>)| {
                    Ok((key.clone().into(), value.clone().into()))
                };
                self.table(name)?.ingest(&mut entries.iter().map(entry)).map(|_| ())
            }
        }
    }

    /// Single writes go the way of single writes, where there is one.
    fn commit(&mut self, db: &Db, writes: &[Write], durability: Durability) -> Result<()> {
        match writes {
            [Write::Put(name, key, value)] => {
                return self.table(name)?.insert_with(key, value, durability);
            }
            [Write::Delete(name, key)] if durability == Durability::Process => {
                return self.table(name)?.remove(key);
            }
            _ => {}
        }
        let mut batch: Batch = db.batch();
        for write in writes {
            let table = self.table(write.table())?;
            match write {
                Write::Put(_, key, value) => batch.insert(&*table, key, value),
                Write::Delete(_, key) => batch.remove(&*table, key),
                Write::DeleteRange(name, from, to) => {
                    batch.delete_range(&*ordered(db, name)?, from, to.as_deref())
                }
            };
        }
        batch.commit(durability)
    }

    /// Looks at what it writes, and does it once in vain.
    fn transact(&mut self, db: &Db, writes: &[Write], durability: Durability) -> Result<()> {
        let mut tx = db.transaction();
        let start = tx.savepoint();
        writes.iter().rev().try_for_each(|write| self.write_in(&mut tx, write))?;
        tx.rollback_to(&start)?;
        writes.iter().try_for_each(|write| self.write_in(&mut tx, write))?;
        tx.commit(durability)
    }

    fn write_in(&mut self, tx: &mut Transaction, write: &Write) -> Result<()> {
        let table = self.table(write.table())?;
        match write {
            Write::Put(_, key, value) => {
                tx.get(&*table, key)?;
                tx.insert(&*table, key, value)
            }
            Write::Delete(_, key) => tx.remove(&*table, key),
            Write::DeleteRange(name, from, to) => {
                let table = ordered(self.db()?, name)?;
                let to = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let from = Bound::Included(&from[..]);
                tx.range_between(&*table, from, to).try_for_each(|entry| entry.map(drop))?;
                tx.delete_between(&*table, from, to)
            }
        }
    }

    /// A handle of the table; one that could not be opened is tried again.
    fn table(&mut self, name: Name) -> Result<Arc<dyn Table>> {
        if let Some(table) = self.tables.get(name) {
            return Ok(table.clone());
        }
        let table: Arc<dyn Table> = self.db()?.table(name)?.into();
        self.tables.insert(name, table.clone());
        Ok(table)
    }

    fn work(&mut self, step: &Step) -> Result<()> {
        let db = self.db()?.clone();
        match step {
            Step::Flush(name) => return self.table(name)?.flush(),
            Step::FlushAll => db.flush()?,
            Step::Sync => db.sync()?,
            Step::Reopen => {
                drop(db);
                self.close()?;
                self.db()?;
                return Ok(());
            }
            Step::Maintain => return db.maintain(),
            Step::Backup => {
                let target = SimDisk::new(0);
                return db.backup_in(&(Arc::new(target) as Arc<_>));
            }
            Step::Hold => {
                self.held = Some(db.snapshot());
                return Ok(());
            }
            Step::Release => {
                self.held = None;
                return Ok(());
            }
            Step::Change(..) => return Ok(()),
        }
        self.model.make_durable();
        Ok(())
    }

    /// What the handles in use show, without opening anything: nothing if no database is open.
    pub(crate) fn visible(&self) -> Option<Result<State>> {
        self.db.as_ref().map(look::read)
    }

    /// Gives back all handles and closes the database.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.tables.clear();
        self.held = None;
        self.poisoned = false;
        let Some(db) = self.db.take() else { return Ok(()) };
        db.close()?;
        self.model.make_durable();
        self.disk.mark(self.model.mark());
        Ok(())
    }
}

/// Whether a commit that failed with this error certainly did not happen.
fn is_refusal(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Io | ErrorKind::Poisoned)
}
