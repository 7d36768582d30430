//! Creating, opening, listing, renaming and dropping tables.
//!
//! These changes are edits of the manifest, durable at once. The log is synced before each, so that
//! a power cut never leaves a table created, renamed or dropped without the commits before it.

use super::{Handle, shared::Shared};
use crate::{
    Error, ErrorKind, Result,
    btree::{Btree, BtreeHome, BtreeOptions, DELTA_LEVEL, TREE_LEVEL},
    codec::Reader,
    hash::{Hash, HashHome, HashOptions, HashRun, HashRunMeta},
    lsm::{Lsm, LsmHome, LsmOptions},
    manifest::{Edit, FileRecord, TABLE_NAME_MAX, TableRecord},
    memtable::{Memory, Memtable},
    sorted::{Run, RunAccess, RunMeta},
    table::{Core, Engine, Home, TableState},
    vfs::Folder,
};
use bytes::Bytes;
use std::sync::Arc;

/// Opens the home of a table that the manifest lists.
pub(super) fn open_home(
    folder: &Arc<dyn Folder>,
    record: &TableRecord,
    access: &RunAccess,
) -> Result<(Engine, Arc<dyn Home>)> {
    let engine = Engine::from_id(record.engine).ok_or_else(|| {
        let message = format!(
            "table {:?} has an engine this version does not know: use a newer version",
            record.name
        );
        Error::new(ErrorKind::Version, message)
    })?;
    let home: Arc<dyn Home> = match engine {
        Engine::Lsm => open_lsm(&**folder, record, access)?,
        Engine::Btree => open_btree(folder, record, access)?,
        Engine::Hash => open_hash(&**folder, record, access)?,
    };
    Ok((engine, home))
}

fn open_lsm(folder: &dyn Folder, record: &TableRecord, access: &RunAccess) -> Result<Arc<LsmHome>> {
    let open = |file: &FileRecord| Ok((file.level, open_run(folder, file, access)?));
    let runs = record.runs.iter().map(open).collect::<Result<Vec<_>>>()?;
    let options = LsmOptions::decode(&record.options)
        .ok_or_else(|| Error::corrupt("manifest", 0, "table options do not decode"))?;
    LsmHome::open(options, runs).map(Arc::new)
}

fn open_btree(
    folder: &Arc<dyn Folder>,
    record: &TableRecord,
    access: &RunAccess,
) -> Result<Arc<BtreeHome>> {
    let options = BtreeOptions::decode(&record.options)
        .ok_or_else(|| Error::corrupt("manifest", 0, "table options do not decode"))?;
    let (trees, deltas): (Vec<_>, Vec<_>) =
        record.runs.iter().partition(|file| file.level == TREE_LEVEL);
    let home = match trees[..] {
        [] if record.root.is_empty() && deltas.is_empty() => BtreeHome::new(options),
        [file] if deltas.iter().all(|delta| delta.level == DELTA_LEVEL) => {
            // The manifest lists the oldest first.
            let open = |file: &&FileRecord| open_run(&**folder, file, access);
            let deltas = deltas.iter().rev().map(open).collect::<Result<Vec<_>>>()?;
            if deltas.iter().any(|delta| !delta.meta().borrowed.is_empty()) {
                let what = format!("table {:?} points to values in other files", record.name);
                return Err(Error::corrupt("manifest", 0, what));
            }
            BtreeHome::open(options, folder, file.file, &record.root, deltas, access)?
        }
        _ => {
            let what = format!("table {:?} has not one page file, or no root", record.name);
            return Err(Error::corrupt("manifest", 0, what));
        }
    };
    Ok(Arc::new(home))
}

fn open_run(folder: &dyn Folder, file: &FileRecord, access: &RunAccess) -> Result<Arc<Run>> {
    let mut reader = Reader::new(&file.meta);
    let meta = RunMeta::decode(&mut reader)
        .filter(|meta| reader.is_empty() && meta.file == file.file && meta.bytes == file.bytes)
        .ok_or_else(|| Error::corrupt("manifest", 0, "a file's description does not decode"))?;
    Run::open(folder, meta, access)
}

fn open_hash(
    folder: &dyn Folder,
    record: &TableRecord,
    access: &RunAccess,
) -> Result<Arc<HashHome>> {
    let options = HashOptions::decode(&record.options)
        .ok_or_else(|| Error::corrupt("manifest", 0, "table options do not decode"))?;
    let open = |file: &FileRecord| {
        let mut reader = Reader::new(&file.meta);
        let meta = HashRunMeta::decode(&mut reader)
            .filter(|meta| reader.is_empty() && meta.file == file.file && meta.bytes == file.bytes)
            .ok_or_else(|| Error::corrupt("manifest", 0, "a file's description does not decode"))?;
        HashRun::open(folder, meta, options.seed_or_zero(), access)
    };
    let files = record.runs.iter().map(open).collect::<Result<Vec<_>>>()?;
    HashHome::open(options, files).map(Arc::new)
}

impl Shared {
    /// The table named `name`.
    fn named(&self, name: &str) -> Option<Arc<TableState>> {
        self.tables.read().values().find(|table| &*table.name() == name).cloned()
    }

    fn existing(&self, name: &str) -> Result<Arc<TableState>> {
        self.named(name).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no table named {name:?}"))
        })
    }

    /// Opens a table of `engine`, or creates it with `options`.
    fn open_or_create(
        &self,
        name: &str,
        engine: Engine,
        options: impl FnOnce() -> (Bytes, Result<Arc<dyn Home>>),
    ) -> Result<Arc<TableState>> {
        let _catalogue = self.catalogue.lock();
        if let Some(table) = self.named(name) {
            return as_engine(table, engine);
        }
        let writing = self.writing()?;
        check_name(name)?;
        let (options, home) = options();
        let home = home?;
        self.sync()?;
        let id = {
            let mut manifest = writing.manifest.lock();
            let id = manifest.state().next_table;
            let (name, engine) = (name.to_owned(), engine.id());
            manifest.commit(&[Edit::CreateTable { id, name, engine, options }])?;
            id
        };
        let memory = Memory::New(self.pool.clone());
        let (active, writer) = Memtable::new(self.options.memtable_capacity(), memory);
        let (views, visible) = (self.views.clone(), self.visible.clone());
        let table = TableState::new(id, engine, name, home, active, views, visible);
        let table = Arc::new(table);
        writing.commit.lock().writers.set(id, writer);
        self.tables.write().insert(id, table.clone());
        Ok(table)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let _catalogue = self.catalogue.lock();
        let writing = self.writing()?;
        let table = self.existing(from)?;
        if from == to {
            return Ok(());
        }
        check_name(to)?;
        if self.named(to).is_some() {
            return Err(Error::new(ErrorKind::Misuse, format!("a table named {to:?} exists")));
        }
        self.sync()?;
        let edit = Edit::RenameTable { id: table.id(), name: to.to_owned() };
        writing.manifest.lock().commit(&[edit])?;
        table.set_name(to);
        Ok(())
    }

    fn drop_table(&self, name: &str) -> Result<()> {
        let _catalogue = self.catalogue.lock();
        let writing = self.writing()?;
        let table = self.existing(name)?;
        self.sync()?;
        {
            // With the lock held nothing is published for the table in between.
            let mut manifest = writing.manifest.lock();
            manifest.commit(&[Edit::DropTable(table.id())])?;
            table.set_dropped();
        }
        writing.commit.lock().writers.remove(table.id());
        self.tables.write().remove(&table.id());
        for (_, file) in table.home().current().files() {
            file.retire(&self.graveyard);
        }
        self.measure_pressure();
        self.signals.ask();
        Ok(())
    }
}

fn as_engine(table: Arc<TableState>, engine: Engine) -> Result<Arc<TableState>> {
    if table.engine() == engine {
        return Ok(table);
    }
    let message = format!(
        "table {:?} is of engine {}, not {engine}: open it as what it is, or copy it",
        table.name(),
        table.engine()
    );
    Err(Error::new(ErrorKind::Misuse, message))
}

fn check_name(name: &str) -> Result<()> {
    if (1..=TABLE_NAME_MAX).contains(&name.len()) {
        return Ok(());
    }
    let message = format!("a table's name has 1 to {TABLE_NAME_MAX} bytes, not {}", name.len());
    Err(Error::new(ErrorKind::Limit, message))
}

impl Handle {
    pub(super) fn lsm(self: &Arc<Self>, name: &str, options: &LsmOptions) -> Result<Lsm> {
        let table = self.shared.open_or_create(name, Engine::Lsm, || {
            let home = LsmHome::open(options.clone(), Vec::new());
            (options.encode(), home.map(|home| Arc::new(home) as Arc<dyn Home>))
        })?;
        Ok(Lsm::new(Core::new(table, self.clone())))
    }

    pub(super) fn btree(self: &Arc<Self>, name: &str, options: &BtreeOptions) -> Result<Btree> {
        let table = self.shared.open_or_create(name, Engine::Btree, || {
            let home: Arc<dyn Home> = Arc::new(BtreeHome::new(options.clone()));
            (options.encode(), Ok(home))
        })?;
        Ok(Btree::new(Core::new(table, self.clone())))
    }

    pub(super) fn hash(self: &Arc<Self>, name: &str, options: &HashOptions) -> Result<Hash> {
        let table = self.shared.open_or_create(name, Engine::Hash, || {
            let options = options.clone().seeded();
            let encoded = options.encode();
            let home = HashHome::open(options, Vec::new());
            (encoded, home.map(|home| Arc::new(home) as Arc<dyn Home>))
        })?;
        Ok(Hash::new(Core::new(table, self.clone())))
    }

    pub(super) fn tables(&self) -> Vec<(Arc<str>, Engine)> {
        let tables = self.shared.table_list();
        let mut list: Vec<_> = tables.iter().map(|t| (t.name(), t.engine())).collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }

    pub(super) fn rename_table(&self, from: &str, to: &str) -> Result<()> {
        self.shared.rename(from, to)
    }

    pub(super) fn drop_table(&self, name: &str) -> Result<()> {
        self.shared.drop_table(name)
    }

    pub(super) fn table(&self, name: &str) -> Result<Arc<TableState>> {
        self.shared.existing(name)
    }
}
